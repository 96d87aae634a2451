package registry_test

import (
	"errors"
	"fmt"
	"strconv"
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
	"github.com/lamplighter/lamplighter/internal/registry/registrytest"
)

// oneMail opens an incident and returns the id of its mail.
func oneMail(t *testing.T, s *registry.IncidentStore) string {
	t.Helper()
	step := must[incident.Decision](t)(registrytest.Decide(t.Context(), s, incidentApp, partner.StateChange, deciding(blocked, began, toKim)))
	return step.Mails[0].ID()
}

func claimMail(t *testing.T, s *registry.IncidentStore, id string, lease time.Duration) claimedMail {
	t.Helper()
	c, m, err := s.ClaimMail(t.Context(), incidentApp, id, lease)
	noErr(t, "claim", err)
	return claimedMail{c, m}
}

type claimedMail struct {
	registry.MailClaim
	registry.QueuedMail
}

func dueMails(t *testing.T, s *registry.IncidentStore) []string {
	t.Helper()
	return decodeOutboxPage(t, s, incidentApp).Due
}

// decodeOutboxPage looks into a small outbox.
func decodeOutboxPage(t *testing.T, s *registry.IncidentStore, app partner.ClientID) registry.OutboxPage {
	t.Helper()
	pages, errs := s.ReadOutboxPages(t.Context(), []registry.OutboxPlace{{App: app}})
	noErr(t, "look into the outbox", errs[0])
	if pages[0].Next != "" {
		t.Errorf("a small outbox is looked at in one go, not to %s", pages[0].Next)
	}
	return pages[0]
}

func TestClaimedMailIsSentOnce(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		ctx := t.Context()
		id := oneMail(t, s)
		if diff := cmp.Diff([]string{id}, dueMails(t, s)); diff != "" {
			t.Fatalf("due (-want +got):\n%s", diff)
		}
		c := claimMail(t, s, id, time.Minute)
		if c.Result != registry.ClaimTaken || c.Attempts != 1 || c.Mail.To != toKim || c.Unreadable != nil {
			t.Fatalf("claim %+v", c)
		}
		if got := dueMails(t, s); len(got) != 0 {
			t.Errorf("due while claimed: %v", got)
		}
		other := claimMail(t, s, id, time.Minute)
		if other.Result != registry.ClaimHeld || !other.Until.Equal(c.Until) || other.Mail.To != "" {
			t.Errorf("a second claim is %+v", other)
		}
		for range 2 { // the repeat is as good
			if got := must[registry.SettlementResult](t)(s.MarkMailSent(ctx, incidentApp, id, c.Token)); got != registry.SettleDone {
				t.Errorf("settled: %v", got)
			}
		}
		if got := claimMail(t, s, id, time.Minute); got.Result != registry.ClaimSettled {
			t.Errorf("a late task finds %+v", got)
		}
		if left := must[[]registry.OutboxEntry](t)(s.ListOutbox(ctx, incidentApp)); len(left) != 0 {
			t.Errorf("the outbox still holds %+v", left)
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
				c, _, err := s.ClaimMail(t.Context(), incidentApp, id, time.Minute)
				if err != nil {
					t.Error(err)
				}
				if c.Result == registry.ClaimTaken {
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
		var second claimedMail
		redistest.Eventually(t, 5*time.Second, "the lease ends", func() bool {
			second = claimMail(t, s, id, time.Minute)
			return second.Result == registry.ClaimTaken
		})
		if second.Attempts != 2 || second.Token == first.Token {
			t.Errorf("second claim %+v after %+v", second, first)
		}
		// What the first says later about trying again is no longer its business.
		if got := must[registry.SettlementResult](t)(s.DeferMail(ctx, incidentApp, id, first.Token, time.Hour)); got != registry.SettleLost {
			t.Errorf("the first deferred it: %v", got)
		}
		if got := must[registry.SettlementResult](t)(s.MarkMailFailed(ctx, incidentApp, id, first.Token)); got != registry.SettleLost {
			t.Errorf("the first failed it: %v", got)
		}
		// But that it was sent is a fact.
		if got := must[registry.SettlementResult](t)(s.MarkMailSent(ctx, incidentApp, id, first.Token)); got != registry.SettleDone {
			t.Errorf("the first sent it: %v", got)
		}
		if got := must[registry.SettlementResult](t)(s.DeferMail(ctx, incidentApp, id, second.Token, 0)); got != registry.SettleLost {
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
		if got := must[registry.SettlementResult](t)(s.DeferMail(ctx, incidentApp, id, c.Token, time.Hour)); got != registry.SettleDone {
			t.Fatalf("deferred: %v", got)
		}
		early := claimMail(t, s, id, time.Minute)
		if early.Result != registry.ClaimEarly || time.Until(early.Until) < 50*time.Minute {
			t.Errorf("claimed early: %+v", early)
		}
		if got := dueMails(t, s); len(got) != 0 {
			t.Errorf("due before its time: %v", got)
		}
		// The repeat of the call moves it a little, here back to now.
		if got := must[registry.SettlementResult](t)(s.DeferMail(ctx, incidentApp, id, c.Token, 0)); got != registry.SettleDone {
			t.Fatalf("deferred again: %v", got)
		}
		if got := claimMail(t, s, id, time.Minute); got.Result != registry.ClaimTaken || got.Attempts != 2 || got.Mail.To != toKim {
			t.Errorf("claimed after the wait: %+v", got)
		}
	})
}

func TestFailedMailIsSettled(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		ctx := t.Context()
		id := oneMail(t, s)
		c := claimMail(t, s, id, time.Minute)
		for range 2 {
			if got := must[registry.SettlementResult](t)(s.MarkMailFailed(ctx, incidentApp, id, c.Token)); got != registry.SettleDone {
				t.Fatalf("failed: %v", got)
			}
		}
		if got := claimMail(t, s, id, time.Minute); got.Result != registry.ClaimSettled {
			t.Errorf("claimed after it failed: %+v", got)
		}
		if left := must[[]registry.OutboxEntry](t)(s.ListOutbox(ctx, incidentApp)); len(left) != 0 {
			t.Errorf("the outbox still holds %+v", left)
		}
	})
}

// What is settled is forgotten in time, a few at each call, and the whole key with the last of them.
func TestSettledMailsAreForgotten(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient) {
		ctx, key := t.Context(), incidentKeys.App(incidentApp, keys.AppSettled)
		for i := range 50 {
			rdb.ZAdd(ctx, key, redis.Z{Score: float64(1 + i), Member: fmt.Sprintf("old%d", i)})
		}
		id := oneMail(t, s)
		c := claimMail(t, s, id, time.Minute)
		must[registry.SettlementResult](t)(s.MarkMailSent(ctx, incidentApp, id, c.Token))
		if n := rdb.ZCard(ctx, key).Val(); n != 31 {
			t.Errorf("%d are remembered, want the new one and 30 of 50 old ones", n)
		}
		if ttl := rdb.PTTL(ctx, key).Val(); ttl < 23*time.Hour || ttl > 24*time.Hour {
			t.Errorf("all is forgotten in %v", ttl)
		}
		rdb.Del(ctx, key)
		if got := claimMail(t, s, id, time.Minute); got.Result != registry.ClaimMissing {
			t.Errorf("claimed a forgotten mail: %+v", got)
		}
		if got := must[registry.SettlementResult](t)(s.MarkMailSent(ctx, incidentApp, id, c.Token)); got != registry.SettleMissing {
			t.Errorf("settled a forgotten mail: %v", got)
		}
	})
}

// Versions before leave settled mails in the outbox: whoever looks moves them away, and they stay settled.
func TestSettledMailsOfOlderVersionsAreMoved(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient) {
		ctx, key := t.Context(), incidentKeys.App(incidentApp, keys.AppOutbox)
		id := oneMail(t, s)
		later := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
		rdb.HSet(ctx, key, "sent", "1;s;"+later+";0;token;1;;", "failed", "1;f;"+later+`;0;token;1;;{"v":1}`, "old", "1;s;1;0;token;1;;")
		for _, settled := range []string{"sent", "failed"} {
			if got := claimMail(t, s, settled, time.Minute); got.Result != registry.ClaimSettled {
				t.Errorf("before it was moved %s is %+v", settled, got)
			}
		}
		p := decodeOutboxPage(t, s, incidentApp)
		if diff := cmp.Diff([]string{id}, p.Due); diff != "" || p.Waiting != 1 || time.Since(p.Oldest) > time.Minute {
			t.Errorf("page %+v (-want +got):\n%s", p, diff)
		}
		if left := rdb.HKeys(ctx, key).Val(); len(left) != 1 || left[0] != id {
			t.Errorf("the outbox holds %v", left)
		}
		for _, settled := range []string{"sent", "failed"} {
			if got := claimMail(t, s, settled, time.Minute); got.Result != registry.ClaimSettled {
				t.Errorf("after it was moved %s is %+v", settled, got)
			}
		}
		if ttl := rdb.PTTL(ctx, incidentKeys.App(incidentApp, keys.AppSettled)).Val(); ttl < 50*time.Minute || ttl > time.Hour {
			t.Errorf("they are forgotten in %v", ttl)
		}
		rdb.HSet(ctx, key, "late", "1;s;"+later+";0;token;1;;")
		if got := must[registry.SettlementResult](t)(s.DeferMail(ctx, incidentApp, "late", "token", 0)); got != registry.SettleLost {
			t.Errorf("deferred although sent: %v", got)
		}
		if got := must[registry.SettlementResult](t)(s.MarkMailSent(ctx, incidentApp, "late", "other")); got != registry.SettleDone {
			t.Errorf("that it was sent is a fact: %v", got)
		}
		if rdb.HExists(ctx, key, "late").Val() {
			t.Error("a settled mail stays in the outbox")
		}
	})
}

// A step that is written twice, its mail sent between, writes no second mail.
func TestASettledMailIsNotWrittenAgain(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		id := oneMail(t, s)
		c := claimMail(t, s, id, time.Minute)
		must[registry.SettlementResult](t)(s.MarkMailSent(t.Context(), incidentApp, id, c.Token))
		must[incident.Decision](t)(registrytest.Decide(t.Context(), s, incidentApp, partner.StateChange, func(st incident.State) incident.Decision {
			return incident.Decision{State: st, Mails: []incident.Mail{c.Mail}}
		}))
		if p := decodeOutboxPage(t, s, incidentApp); p.Waiting != 0 {
			t.Errorf("it waits again: %+v", p)
		}
	})
}

func TestLaterMailLetsTheEarlierLeaveFirst(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		ctx := t.Context()
		first := oneMail(t, s)
		c := claimMail(t, s, first, time.Minute)
		must[registry.SettlementResult](t)(s.DeferMail(ctx, incidentApp, first, c.Token, time.Hour))
		must[incident.Decision](t)(registrytest.Decide(ctx, s, incidentApp, partner.StateChange, deciding(incident.Success{}, began, toKim)))
		step := must[incident.Decision](t)(registrytest.Decide(ctx, s, incidentApp, partner.StateChange, deciding(incident.Tick{}, began.Add(time.Hour), toKim)))
		second := step.Mails[0].ID()
		if got := dueMails(t, s); len(got) != 0 {
			t.Errorf("due: %v, but the opening has not left", got)
		}
		if got := claimMail(t, s, second, time.Minute); got.Result != registry.ClaimEarly || time.Until(got.Until) < 50*time.Minute {
			t.Errorf("the recovery was claimed before the opening left: %+v", got)
		}
		must[registry.SettlementResult](t)(s.MarkMailSent(ctx, incidentApp, first, c.Token))
		if diff := cmp.Diff([]string{second}, dueMails(t, s)); diff != "" {
			t.Errorf("due (-want +got):\n%s", diff)
		}
		if got := claimMail(t, s, second, time.Minute); got.Result != registry.ClaimTaken {
			t.Errorf("the recovery cannot be claimed: %+v", got)
		}
	})
}

// However much an outbox holds, each look is bounded, and one after the other sees all.
func TestLooksIntoAnOutboxAreBounded(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient) {
		const mails = 1000
		key := incidentKeys.App(incidentApp, keys.AppOutbox)
		for i := range mails {
			rdb.HSet(t.Context(), key, fmt.Sprintf("mail%d", i), fmt.Sprintf(`1;w;%d;0;;0;;{"v":1,"padding":"%0100d"}`, 1+i, i))
		}
		seen, looks := map[string]bool{}, 0
		place, waiting := registry.OutboxPlace{App: incidentApp}, 0
		for {
			pages, errs := s.ReadOutboxPages(t.Context(), []registry.OutboxPlace{place, {App: "app2"}})
			noErr(t, "look", errors.Join(errs...))
			if other := pages[1]; other.Waiting != 0 || other.Next != "" || !other.Oldest.IsZero() {
				t.Errorf("another app's: %+v", other)
			}
			for _, id := range pages[0].Due {
				seen[id] = true
			}
			waiting += pages[0].Waiting
			looks++
			if place.Cursor = pages[0].Next; place.Cursor == "" {
				break
			}
		}
		if len(seen) != mails || waiting < mails {
			t.Errorf("%d of %d mails seen in %d looks, %d waiting", len(seen), mails, looks, waiting)
		}
		if _, mini := rdb.Info(t.Context(), "server").Result(); mini == nil && looks < 5 {
			t.Errorf("only %d looks", looks)
		}
		all, errs := s.HasOutboxMails(t.Context(), []partner.ClientID{"app2", incidentApp})
		if noErr(t, "outboxes", errors.Join(errs...)); all[0] || !all[1] {
			t.Errorf("outboxes %v", all)
		}
	})
}

func TestDueMailsOldestFirst(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient) {
		rdb.HSet(t.Context(), incidentKeys.App(incidentApp, keys.AppOutbox), "b", "1;w;2;0;;0;;x", "c", "1;w;1;0;;0;;x", "a", "1;w;2;0;;0;;x")
		p := decodeOutboxPage(t, s, incidentApp)
		if diff := cmp.Diff([]string{"c", "a", "b"}, p.Due); diff != "" || p.Oldest.UnixMilli() != 1 {
			t.Errorf("oldest %v; due (-want +got):\n%s", p.Oldest, diff)
		}
	})
}

func TestUnreadableMail(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient) {
		ctx := t.Context()
		key := incidentKeys.App(incidentApp, keys.AppOutbox)
		rdb.HSet(ctx, key, "other", "2;w;0;0;;0;;{}", "letter", `1;w;0;0;;0;;{"v":9}`)
		if _, _, err := s.ClaimMail(ctx, incidentApp, "other", time.Minute); !errors.Is(err, registry.ErrUnreadable) {
			t.Errorf("claim: %v, want ErrUnreadable", err)
		}
		if _, err := s.MarkMailSent(ctx, incidentApp, "other", "x"); !errors.Is(err, registry.ErrUnreadable) {
			t.Errorf("settle: %v, want ErrUnreadable", err)
		}
		if got := rdb.HGet(ctx, key, "other").Val(); got != "2;w;0;0;;0;;{}" {
			t.Errorf("overwritten by %s", got)
		}
		if diff := cmp.Diff([]string{"letter"}, dueMails(t, s)); diff != "" {
			t.Errorf("due (-want +got):\n%s", diff)
		}
		c := claimMail(t, s, "letter", time.Minute)
		if c.Result != registry.ClaimTaken || !errors.Is(c.Unreadable, incident.ErrUnreadable) {
			t.Errorf("claim of an unreadable letter: %+v", c)
		}
		if _, err := s.ListOutbox(ctx, incidentApp); !errors.Is(err, registry.ErrUnreadable) {
			t.Errorf("outbox: %v, want ErrUnreadable", err)
		}
	})
}
