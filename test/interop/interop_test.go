// Package interop_test proves that what is pushed can be verified by others: with the npm libraries
// that partners use, and by the receivers that the documentation shows in four languages. Each runs
// as a process of its own; the posts are made by the service's own Pusher.
package interop_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/signing"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// The npm libraries verify every change type under both algorithms, with keys that they found
// through the discovery document, refuse what is forged, and follow a rotation.
func TestNPMLibraries(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, newKeyring(t))
	r := start(t, []string{tool(t, "node"), npmReceiver(t)}, "DISCOVERY_URL="+p.discoveryURL())
	t.Run("Refuse", func(t *testing.T) { checkRefusals(t, p, r, partner.AllTokenAlgorithms()) })
	for i, alg := range partner.AllTokenAlgorithms() {
		for _, ct := range tenant.AllChangeTypes() {
			t.Run("Verify/"+string(alg)+"/"+ct.String(), func(t *testing.T) {
				m := change(ct, firstSequence+int64(10*i)+int64(ct))
				m.Superseded = int64(ct)
				wantDelivered(t, p.post(t, r.url, attempt{message: m, alg: alg}))
				want := line{
					Event: "verified", WebhookID: m.WebhookID, Tenant: string(customer), ChangeType: int(ct),
					VersionName: m.Change.VersionName, FileVersion: m.Change.FileVersion, PublicEndpoint: m.Change.PublicEndpoint,
					Sequence: m.Sequence, Superseded: m.Superseded, Algorithm: string(alg), KeyID: p.keys.current[i].ID(),
					ThumbprintMatches: true, Lifetime: 6 * 60,
				}
				if diff := cmp.Diff(want, r.await(t, "verified", m.WebhookID)); diff != "" {
					t.Errorf("what was verified (-want +got):\n%s", diff)
				}
			})
		}
	}
	t.Run("FollowRotation", func(t *testing.T) { checkRotation(t, p, r, "verified", partner.ES256) })
}

// firstSequence is as the registry gives them out: the clock in milliseconds. Rotations are tested
// after the changes, so their sequences are above.
const (
	firstSequence    = int64(1795449600000)
	rotationSequence = firstSequence + 1000
)

func npmReceiver(t *testing.T) string {
	t.Helper()
	nodeModules(t)
	return "receiver.mjs"
}

// checkRotation posts with the old keys, then with new ones that the receiver has not seen, then
// with the old and the new webhook secret at once.
func checkRotation(t *testing.T, p *platform, r *receiver, event string, alg partner.TokenAlgorithm) {
	t.Helper()
	for i, secrets := range [][]string{{exampleSecret}, {exampleSecret}, {oldSecret, exampleSecret}, {exampleSecret, oldSecret}} {
		if i == 1 {
			p.rotate(t)
		}
		m := change(tenant.Suspend, rotationSequence+int64(i))
		wantDelivered(t, p.post(t, r.url, attempt{message: m, alg: alg, secrets: secrets}))
		r.await(t, event, m.WebhookID)
	}
}

func wantDelivered(t *testing.T, got delivery.Result) {
	t.Helper()
	if got.Outcome != delivery.Delivered {
		t.Fatalf("post: %s, status %d: %s %s", got.Outcome, got.Status, got.Detail, got.Excerpt)
	}
}

// The documentation names the algorithms as the app's setting does.
func TestAlgorithmsAgree(t *testing.T) {
	t.Parallel()
	want := []partner.TokenAlgorithm{signing.RS256, signing.ES256}
	if diff := cmp.Diff(want, partner.AllTokenAlgorithms()); diff != "" {
		t.Errorf("token algorithms (-signing +partner):\n%s", diff)
	}
}
