package registry_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// oneMail opens an incident and returns the id of its mail.
func oneMail(t *testing.T, s *registry.IncidentStore) string {
	t.Helper()
	step := must[registry.IncidentStep](t)(s.Transition(t.Context(), incidentApp, partner.StateChange, deciding(blocked, began, toKim)))
	return step.Letters[0].ID()
}

func claimMail(t *testing.T, s *registry.IncidentStore, id string, lease time.Duration) registry.MailClaim {
	t.Helper()
	return must[registry.MailClaim](t)(s.ClaimMail(t.Context(), incidentApp, id, lease))
}

func dueMails(t *testing.T, s *registry.IncidentStore) []string {
	t.Helper()
	return must[[]string](t)(s.OutboxDue(t.Context(), incidentApp, 10))
}

func mailEntry(t *testing.T, s *registry.IncidentStore, id string) registry.OutboxEntry {
	t.Helper()
	for _, e := range must[[]registry.OutboxEntry](t)(s.Outbox(t.Context(), incidentApp)) {
		if e.ID == id {
			return e
		}
	}
	t.Fatalf("no entry %s", id)
	return registry.OutboxEntry{}
}

func TestClaimedMailIsSentOnce(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		ctx := t.Context()
		id := oneMail(t, s)
		if diff := cmp.Diff([]string{id}, dueMails(t, s)); diff != "" {
			t.Fatalf("due (-want +got):\n%s", diff)
		}
		c := claimMail(t, s, id, time.Minute)
		if c.Outcome != registry.ClaimTaken || c.Attempts != 1 || c.Letter.To != toKim || c.Unreadable != nil {
			t.Fatalf("claim %+v", c)
		}
		if got := dueMails(t, s); len(got) != 0 {
			t.Errorf("due while claimed: %v", got)
		}
		other := claimMail(t, s, id, time.Minute)
		if other.Outcome != registry.ClaimHeld || !other.Until.Equal(c.Until) || other.Letter.To != "" {
			t.Errorf("a second claim is %+v", other)
		}
		for range 2 { // the repeat is as good
			if got := must[registry.SettleOutcome](t)(s.MailSent(ctx, incidentApp, id, c.Token)); got != registry.SettleDone {
				t.Errorf("settled: %v", got)
			}
		}
		if got := claimMail(t, s, id, time.Minute); got.Outcome != registry.ClaimSettled {
			t.Errorf("a late task finds %+v", got)
		}
		if e := mailEntry(t, s, id); e.State != registry.MailSentState || e.Letter != nil {
			t.Errorf("remembered as %+v, want the id alone", e)
		}
		if got := dueMails(t, s); len(got) != 0 {
			t.Errorf("due after it was sent: %v", got)
		}
	})
}

func TestClaimIsExclusive(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		id := oneMail(t, s)
		var taken atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				c, err := s.ClaimMail(t.Context(), incidentApp, id, time.Minute)
				if err != nil {
					t.Error(err)
				}
				if c.Outcome == registry.ClaimTaken {
					taken.Add(1)
				}
			})
		}
		wg.Wait()
		if taken.Load() != 1 {
			t.Errorf("%d senders hold one mail", taken.Load())
		}
	})
}

func TestExpiredClaimPassesOn(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		ctx := t.Context()
		id := oneMail(t, s)
		first := claimMail(t, s, id, time.Millisecond)
		var second registry.MailClaim
		redistest.Eventually(t, 5*time.Second, "the lease ends", func() bool {
			second = claimMail(t, s, id, time.Minute)
			return second.Outcome == registry.ClaimTaken
		})
		if second.Attempts != 2 || second.Token == first.Token {
			t.Errorf("second claim %+v after %+v", second, first)
		}
		// What the first says later about trying again is no longer its business.
		if got := must[registry.SettleOutcome](t)(s.MailDeferred(ctx, incidentApp, id, first.Token, time.Hour)); got != registry.SettleLost {
			t.Errorf("the first deferred it: %v", got)
		}
		if got := must[registry.SettleOutcome](t)(s.MailFailed(ctx, incidentApp, id, first.Token, registry.MailFailure{})); got != registry.SettleLost {
			t.Errorf("the first failed it: %v", got)
		}
		// But that it was sent is a fact.
		if got := must[registry.SettleOutcome](t)(s.MailSent(ctx, incidentApp, id, first.Token)); got != registry.SettleDone {
			t.Errorf("the first sent it: %v", got)
		}
		if got := must[registry.SettleOutcome](t)(s.MailDeferred(ctx, incidentApp, id, second.Token, 0)); got != registry.SettleLost {
			t.Errorf("the second revived a sent mail: %v", got)
		}
		if got := dueMails(t, s); len(got) != 0 {
			t.Errorf("due: %v", got)
		}
	})
}

func TestDeferredMailWaits(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		ctx := t.Context()
		id := oneMail(t, s)
		c := claimMail(t, s, id, time.Minute)
		if got := must[registry.SettleOutcome](t)(s.MailDeferred(ctx, incidentApp, id, c.Token, time.Hour)); got != registry.SettleDone {
			t.Fatalf("deferred: %v", got)
		}
		early := claimMail(t, s, id, time.Minute)
		if early.Outcome != registry.ClaimEarly || time.Until(early.Until) < 50*time.Minute {
			t.Errorf("claimed early: %+v", early)
		}
		if got := dueMails(t, s); len(got) != 0 {
			t.Errorf("due before its time: %v", got)
		}
		// The repeat of the call moves it a little, here back to now.
		if got := must[registry.SettleOutcome](t)(s.MailDeferred(ctx, incidentApp, id, c.Token, 0)); got != registry.SettleDone {
			t.Fatalf("deferred again: %v", got)
		}
		if got := claimMail(t, s, id, time.Minute); got.Outcome != registry.ClaimTaken || got.Attempts != 2 || got.Letter.To != toKim {
			t.Errorf("claimed after the wait: %+v", got)
		}
	})
}

func TestFailedMailIsRecorded(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		ctx := t.Context()
		id := oneMail(t, s)
		c := claimMail(t, s, id, time.Minute)
		f := registry.MailFailure{To: toKim, Kind: incident.KindOpened, At: began, Code: 550, Error: "no such user; sorry"}
		for range 2 {
			if got := must[registry.SettleOutcome](t)(s.MailFailed(ctx, incidentApp, id, c.Token, f)); got != registry.SettleDone {
				t.Fatalf("failed: %v", got)
			}
		}
		f.Format = 1
		if diff := cmp.Diff(&f, mailEntry(t, s, id).Failure); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
		if got := claimMail(t, s, id, time.Minute); got.Outcome != registry.ClaimSettled {
			t.Errorf("claimed after it failed: %+v", got)
		}
	})
}

func TestSettledMailsAreForgotten(t *testing.T) {
	eachIncidents(t, func(t *testing.T, _ *registry.IncidentStore, rdb redis.UniversalClient) {
		s := registry.NewIncidentStore(rdb, incidentKeys, time.Millisecond)
		id := oneMail(t, s)
		c := claimMail(t, s, id, time.Minute)
		must[registry.SettleOutcome](t)(s.MailFailed(t.Context(), incidentApp, id, c.Token, registry.MailFailure{}))
		redistest.Eventually(t, 5*time.Second, "the outbox is empty", func() bool {
			dueMails(t, s)
			return len(must[[]registry.OutboxEntry](t)(s.Outbox(t.Context(), incidentApp))) == 0
		})
		if got := claimMail(t, s, id, time.Minute); got.Outcome != registry.ClaimMissing {
			t.Errorf("claimed a forgotten mail: %+v", got)
		}
		if got := must[registry.SettleOutcome](t)(s.MailSent(t.Context(), incidentApp, id, c.Token)); got != registry.SettleMissing {
			t.Errorf("settled a forgotten mail: %v", got)
		}
	})
}

func TestLaterMailLetsTheEarlierLeaveFirst(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		ctx := t.Context()
		first := oneMail(t, s)
		c := claimMail(t, s, first, time.Minute)
		must[registry.SettleOutcome](t)(s.MailDeferred(ctx, incidentApp, first, c.Token, time.Hour))
		must[registry.IncidentStep](t)(s.Transition(ctx, incidentApp, partner.StateChange, deciding(incident.Success{}, began, toKim)))
		step := must[registry.IncidentStep](t)(s.Transition(ctx, incidentApp, partner.StateChange, deciding(incident.Tick{}, began.Add(time.Hour), toKim)))
		second := step.Letters[0].ID()
		if got := dueMails(t, s); len(got) != 0 {
			t.Errorf("due: %v, but the opening has not left", got)
		}
		if got := claimMail(t, s, second, time.Minute); got.Outcome != registry.ClaimEarly || time.Until(got.Until) < 50*time.Minute {
			t.Errorf("the recovery was claimed before the opening left: %+v", got)
		}
		must[registry.SettleOutcome](t)(s.MailSent(ctx, incidentApp, first, c.Token))
		if diff := cmp.Diff([]string{second}, dueMails(t, s)); diff != "" {
			t.Errorf("due (-want +got):\n%s", diff)
		}
		if got := claimMail(t, s, second, time.Minute); got.Outcome != registry.ClaimTaken {
			t.Errorf("the recovery cannot be claimed: %+v", got)
		}
	})
}

func TestDueMailsAreBoundedAndOldestFirst(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		must[registry.IncidentStep](t)(s.Transition(t.Context(), incidentApp, partner.StateChange, deciding(blocked, began, toKim, toLee, "ada@example.com")))
		if got := must[[]string](t)(s.OutboxDue(t.Context(), incidentApp, 2)); len(got) != 2 {
			t.Errorf("%d listed, want 2", len(got))
		}
		if got := must[[]string](t)(s.OutboxDue(t.Context(), "app2", 2)); len(got) != 0 {
			t.Errorf("another app's: %v", got)
		}
	})
}

func TestUnreadableMail(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient) {
		ctx := t.Context()
		key := incidentKeys.App(incidentApp, keys.AppOutbox)
		rdb.HSet(ctx, key, "other", "2;w;0;0;;0;;{}", "letter", `1;w;0;0;;0;;{"v":9}`)
		if _, err := s.ClaimMail(ctx, incidentApp, "other", time.Minute); !errors.Is(err, registry.ErrUnreadable) {
			t.Errorf("claim: %v, want ErrUnreadable", err)
		}
		if _, err := s.MailSent(ctx, incidentApp, "other", "x"); !errors.Is(err, registry.ErrUnreadable) {
			t.Errorf("settle: %v, want ErrUnreadable", err)
		}
		if got := rdb.HGet(ctx, key, "other").Val(); got != "2;w;0;0;;0;;{}" {
			t.Errorf("overwritten by %s", got)
		}
		if diff := cmp.Diff([]string{"letter"}, dueMails(t, s)); diff != "" {
			t.Errorf("due (-want +got):\n%s", diff)
		}
		c := claimMail(t, s, "letter", time.Minute)
		if c.Outcome != registry.ClaimTaken || !errors.Is(c.Unreadable, incident.ErrUnreadable) {
			t.Errorf("claim of an unreadable letter: %+v", c)
		}
		if _, err := s.Outbox(ctx, incidentApp); !errors.Is(err, registry.ErrUnreadable) {
			t.Errorf("outbox: %v, want ErrUnreadable", err)
		}
	})
}
