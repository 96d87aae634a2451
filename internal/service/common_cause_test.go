package service_test

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/alerting"
	"github.com/lamplighter/lamplighter/internal/causewatch"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/push"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/wire/wiretest"
)

var egressApps = flag.Int("egress.apps", 60, "how many apps TestEgressCut has")

// several is how many apps the other tests have.
const several = 60

// egress is two workers that post, and a third that looks after incidents and posts nothing, with simulated time. Each app has a host
// of its own, is posted to once a minute, and its incidents are looked after twice a minute.
type egress struct {
	*testing.T

	apps    int
	now     time.Time
	cut     error
	shared  *registry.Store
	workers []*poster
	holder  *poster
	// states and letters are what the incidents' store keeps; sick are the apps that answer nothing whatever the egress does.
	states  map[partner.ClientID]incident.State
	letters []incident.Mail
	sick    map[int]bool
}

// poster is one process.
type poster struct {
	e       *egress
	pusher  *push.Pusher
	causes  *causewatch.Watch
	tracker *alerting.Tracker
}

func newEgress(t *testing.T, apps int) *egress {
	t.Helper()
	e := &egress{
		T: t, apps: apps, now: time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC), states: map[partner.ClientID]incident.State{}, sick: map[int]bool{},
		shared: registry.New(redistest.Mini(t), registry.Options{Keys: keys.New("test"), Keyring: ring(t)}),
	}
	e.workers, e.holder = []*poster{e.process("worker1"), e.process("worker2")}, e.process("holder")
	return e
}

// ring is a keyring with which nothing is ever sealed.
func ring(t *testing.T) *secret.Keyring {
	t.Helper()
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	if err != nil {
		t.Fatal(err)
	}
	return secret.NewKeyring(k)
}

func (e *egress) process(name string) *poster {
	log := slog.New(slog.DiscardHandler)
	p := &poster{e: e}
	p.causes = causewatch.New(causewatch.Options{Store: e, Process: name, Within: 2 * time.Minute, Log: log, Now: e.time})
	p.pusher = push.New(push.Options{
		Wire: wiretest.Over{RoundTripper: p}, Check: url.Parse, Tokens: e, Timeout: 10 * time.Second, Version: "1", Reach: p.causes,
	})
	p.tracker = alerting.New(alerting.Options{
		Apps: e, Store: e, Queue: e, Mailboxes: e, Environment: partner.Online, Settings: incident.DefaultSettings(), CommonCause: p.causes.CommonCause, Log: log, Now: e.time,
	})
	return p
}

func (e *egress) time() time.Time { return e.now }

// ShareReach is Redis with the simulated clock.
func (e *egress) ShareReach(ctx context.Context, process, report string) (registry.Reach, error) {
	r, err := e.shared.ShareReach(ctx, process, report)
	r.Now = e.now
	return r, err
}

func (e *egress) PutCommonCause(ctx context.Context, was, next string) (bool, error) {
	return e.shared.PutCommonCause(ctx, was, next)
}

// RoundTrip is the way out of a process.
func (p *poster) RoundTrip(r *http.Request) (*http.Response, error) {
	var n int
	_, _ = fmt.Sscanf(r.URL.Host, "h%d.", &n)
	if _, unknown := errors.AsType[*net.DNSError](p.e.cut); !unknown {
		p.causes.NoteAddress(r.URL.Host, netip.AddrFrom4([4]byte{81, byte(n % 200), byte(n >> 8), byte(n)}))
	}
	switch {
	case p.e.cut != nil:
		return nil, p.e.cut
	case p.e.sick[n]:
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

func (e *egress) MakeToken(string, string, string, time.Time) (string, error) { return "token", nil }

func (e *egress) Refresh(context.Context) error { return nil }

func (e *egress) Lookup(id partner.ClientID) (*registry.Entry, bool, error) {
	app := partner.New(id)
	app.ErrorEmails = []string{string(id) + "@example.com"}
	app.Endpoints[partner.StateChange].Enabled, app.Endpoints[partner.StateChange].URL = true, "https://"+string(id)+".example/"
	return &registry.Entry{Rec: registry.AppRecord{App: app}}, true, nil
}

func (e *egress) ReadIncident(_ context.Context, app partner.ClientID, k partner.EndpointKind) (registry.StoredIncident, error) {
	if k != partner.StateChange {
		return registry.StoredIncident{}, nil
	}
	return registry.StoredIncident{State: e.states[app]}, nil
}

func (e *egress) CommitIfUnchanged(
	_ context.Context, app partner.ClientID, k partner.EndpointKind, _ registry.StoredIncident, d incident.Decision,
) (bool, error) {
	if k == partner.StateChange {
		e.states[app] = d.State
		e.letters = append(e.letters, d.Mails...)
	}
	return true, nil
}

func (e *egress) ReadReportedIncident(context.Context, partner.ClientID, partner.EndpointKind) (registry.StoredIncident, error) {
	return registry.StoredIncident{Reports: &registry.Reports{}}, nil
}

func (e *egress) ReportedEndpoints(context.Context, partner.ClientID) ([]partner.EndpointKind, error) {
	return nil, nil
}

func (e *egress) Incidents(_ context.Context, app partner.ClientID) (map[partner.EndpointKind]incident.State, error) {
	return map[partner.EndpointKind]incident.State{partner.StateChange: e.states[app]}, nil
}

func (e *egress) MailsSuppressed(_ context.Context, subs []registry.Subscription) ([]bool, error) {
	return make([]bool, len(subs)), nil
}

func (e *egress) EnqueueForwardMail(context.Context, partner.ClientID, string, int64) error {
	return nil
}

func (e *egress) View(context.Context, partner.ClientID) (mailbox.View, error) {
	return mailbox.View{CooldownUntil: e.now.Add(time.Minute)}, nil
}

func (e *egress) ReadPairs(_ context.Context, _ partner.ClientID, ts []tenant.ID) ([]mailbox.PairState, error) {
	return make([]mailbox.PairState, len(ts)), nil
}

// post makes one post as a drain does, and tells people what a drain tells them.
func (p *poster) post(n int) {
	p.e.Helper()
	id := partner.ClientID(fmt.Sprintf("h%d", n))
	m := delivery.Message{ClientID: id, WebhookID: "w", Change: tenant.Change{Tenant: "T1", Type: tenant.Suspend}}
	r := p.pusher.Post(p.e.Context(), push.Target{ClientID: id, URL: fmt.Sprintf("https://h%d.n%d.example/hook", n, n%50), TokenAlgorithm: partner.RS256}, m)
	event, ok := incident.EventFromResult(r, "T1")
	if s := p.e.states[id]; !ok || r.Outcome == delivery.Delivered && s.FailingSince.IsZero() {
		return
	}
	if err := p.tracker.Observe(p.e.Context(), id, partner.StateChange, event); err != nil {
		p.e.Fatal(err)
	}
}

// pass lets time pass in steps of five seconds. each, which may be nil, is called in each of them.
func (e *egress) pass(spell time.Duration, each func()) {
	e.Helper()
	for end := e.now.Add(spell); e.now.Before(end); e.now = e.now.Add(5 * time.Second) {
		slot := int(e.now.Unix()/5) % 12
		for n := slot; n < e.apps; n += 12 {
			e.workers[n%len(e.workers)].post(n)
		}
		for _, p := range append(slices.Clone(e.workers), e.holder) {
			if err := p.causes.ShareAndDecide(e.Context()); err != nil {
				e.Fatal(err)
			}
		}
		for n := slot % 6; n < e.apps; n += 6 {
			id := partner.ClientID(fmt.Sprintf("h%d", n))
			s, ok := e.states[id]
			if !ok {
				continue
			}
			if _, err := e.holder.tracker.TickApp(e.Context(), id, registry.OpenIncidents{Incidents: map[partner.EndpointKind]incident.State{partner.StateChange: s}}); err != nil {
				e.Fatal(err)
			}
		}
		if each != nil {
			each()
		}
	}
}

// count is how many letters of a kind were written, and how many of them say that many fail at once.
func (e *egress) count(k incident.Kind) (all, together int) {
	for i := range e.letters {
		if m := &e.letters[i]; m.Kind == k {
			all++
			if !m.CommonSince.IsZero() {
				together++
			}
		}
	}
	return all, together
}

// cuts are the ways in which nothing gets out.
func cuts() map[string]error {
	return map[string]error{
		"refused": &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		"timeout": &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded},
		"unknown": &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}},
	}
}

// TestEgressCut: while nothing gets out nobody is told anything for 30 minutes, whatever becomes of the workers meanwhile; mended before that,
// nobody ever is, but for those who are down in truth.
func TestEgressCut(t *testing.T) {
	t.Parallel()
	for name, cut := range cuts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEgress(t, *egressApps)
			e.pass(2*time.Minute, nil)
			e.cut = cut
			began, lasted := e.now, time.Duration(0)
			e.pass(29*time.Minute, func() {
				if e.now.Sub(began) == 10*time.Minute {
					e.workers[0] = e.process("worker1 again")
				}
				if e.now.Sub(began) == 20*time.Minute {
					e.workers, e.holder = []*poster{e.process("worker3")}, e.process("holder2")
				}
				if !e.holder.causes.CommonCause().IsOngoing() {
					lasted = e.now.Sub(began)
				}
			})
			if len(e.letters) != 0 || lasted > 40*time.Second {
				t.Errorf("%d letters; the common cause was known after %v", len(e.letters), lasted)
			}
			failing := len(e.states)
			e.cut, e.sick[7] = nil, true
			mended := e.now
			e.pass(15*time.Minute, nil)
			if all, together := e.count(incident.KindOpened); failing != *egressApps || len(e.letters) != 1 || all != 1 || together != 0 ||
				e.letters[0].ClientID != "h7" || e.letters[0].At.Sub(mended) < 5*time.Minute || e.letters[0].At.Sub(mended) > 6*time.Minute {
				t.Errorf("%d failed; then %d letters, %d of openings, %d that say that many fail: %+v", failing, len(e.letters), all, together, e.letters[:min(len(e.letters), 1)])
			}
		})
	}
}

// TestEgressCutForLong: after 30 minutes the letters go, all of them say that many endpoints failed at the same moment, and who was told
// is told of the recovery.
func TestEgressCutForLong(t *testing.T) {
	t.Parallel()
	for name, cut := range cuts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEgress(t, several)
			e.pass(2*time.Minute, nil)
			e.cut = cut
			e.pass(30*time.Minute, nil)
			early := len(e.letters)
			e.pass(2*time.Minute, nil)
			all, together := e.count(incident.KindOpened)
			if early != 0 || len(e.letters) != several || all != several || together != several {
				t.Errorf("%d letters within 30 minutes; then %d, %d of openings, %d that say so", early, len(e.letters), all, together)
			}
			e.cut = nil
			e.pass(5*time.Minute, nil)
			if all, _ := e.count(incident.KindRecovered); all != several || len(e.letters) != 2*several {
				t.Errorf("%d letters, %d of recoveries", len(e.letters), all)
			}
		})
	}
}

// TestEgressFlaps: one post gets through every six minutes. Nobody is told for 30 minutes, then all are.
func TestEgressFlaps(t *testing.T) {
	t.Parallel()
	e := newEgress(t, several)
	e.pass(2*time.Minute, nil)
	began := e.now
	e.pass(30*time.Minute, func() {
		e.cut = cuts()["timeout"]
		if spell := e.now.Sub(began); spell > 0 && spell%(6*time.Minute) == 0 {
			e.cut = nil
			e.workers[0].post(0)
			e.cut = cuts()["timeout"]
		}
	})
	if len(e.letters) != 0 {
		t.Errorf("%d letters", len(e.letters))
	}
	e.pass(7*time.Minute, nil)
	if all, together := e.count(incident.KindOpened); all != several || together != several {
		t.Errorf("after 37 minutes %d letters, %d that say that many fail", all, together)
	}
}

// TestNoCommonCause: where few fail, or others answer, people are told as ever.
func TestNoCommonCause(t *testing.T) {
	t.Parallel()
	for name, sick := range map[string]int{"one of many": 1, "four of many": 4, "all but one": several - 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEgress(t, several)
			e.pass(2*time.Minute, nil)
			for n := range sick {
				e.sick[n] = true
			}
			e.pass(8*time.Minute, func() { e.workers[0].post(several - 1) })
			if all, together := e.count(incident.KindOpened); all != sick || together != 0 {
				t.Errorf("%d letters, %d that say that many fail", all, together)
			}
		})
	}
}
