package intake_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

const app partner.ClientID = "app1"

// ledger is the real registry and mailbox with one app, app1, approved by tenant a.
type ledger struct {
	*testing.T

	reg *registry.Store
	box *mailbox.Store
	dir *registry.Directory
}

func ledgers(t *testing.T, f func(l *ledger)) {
	t.Helper()
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		k, err := secret.ParseKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
		if err != nil {
			t.Fatal(err)
		}
		l := &ledger{T: t, reg: registry.New(rdb, registry.Options{Keyring: secret.NewKeyring(k)}), box: mailbox.New(rdb, keys.New(""), mailbox.Settings{})}
		l.dir = registry.NewDirectory(l.reg)
		l.put(app, func(*partner.App) {})
		l.approve(app)
		f(l)
	})
}

func (l *ledger) check(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *ledger) put(id partner.ClientID, change func(a *partner.App)) {
	l.Helper()
	a := partner.New(id)
	a.Endpoints[partner.StateChange].URL, a.Endpoints[partner.StateChange].Enabled, a.EverHadURL = "https://partner.example/", true, true
	change(&a)
	_, _, err := l.reg.PutApp(l.Context(), a, registry.AnyRevision, nil, registry.Actor{}, "app.put")
	l.check(err)
}

// life is that of an app in the settings.
func (l *ledger) life(id partner.ClientID) mailbox.Life {
	l.Helper()
	rec, err := l.reg.App(l.Context(), id)
	l.check(err)
	return mailbox.Life{App: id, Birth: rec.Birth}
}

// approve approves tenant a without telling anything.
func (l *ledger) approve(id partner.ClientID) {
	l.Helper()
	l.check(l.reg.AddApprover(l.Context(), []tenant.ID{"a"}, id))
	_, err := l.box.Approve(l.Context(), l.life(id), 0, []mailbox.Admission{{Tenant: "a", Top: l.record().Top}})
	l.check(err)
	l.deposit(id)
}

func (l *ledger) record() tenant.Record {
	l.Helper()
	v, err := l.reg.Tenant(l.Context(), "a")
	l.check(err)
	v.Record.Tenant = "a"
	return v.Record
}

func (l *ledger) deposit(id partner.ClientID) {
	l.Helper()
	_, err := l.box.Deposit(l.Context(), l.life(id), "n"+time.Now().String(), []tenant.Record{l.record()})
	l.check(err)
}

// accept takes a change in and, if told so, carries it to the app's mailbox.
func (l *ledger) accept(c tenant.ChangeType, fanned bool) string {
	l.Helper()
	r := registry.ChangeRequest{Tenant: "a", Type: c}
	if c == tenant.Move {
		r.PublicEndpoint = "x.example"
	}
	res, err := l.reg.Accept(l.Context(), []registry.ChangeRequest{r})
	l.check(err)
	l.check(res[0].Err)
	if fanned {
		l.deposit(app)
		l.check(l.reg.CompleteFanouts(l.Context(), []registry.CompletedFanout{{Tenant: "a", Top: res[0].Accepted.Sequence}}))
	}
	return res[0].Accepted.ID
}

// drain makes one attempt each at what waits and settles it with a verdict.
func (l *ledger) drain(v mailbox.SettleResult, c mailbox.Closing) {
	l.Helper()
	const token = "drainer"
	_, err := l.box.Begin(l.Context(), l.life(app), token, 0)
	l.check(err)
	x, err := l.box.Exchange(l.Context(), l.life(app), token, 10, nil)
	l.check(err)
	var settled []mailbox.Settlement
	for _, cl := range x.Claims {
		settled = append(settled, mailbox.Settlement{Claim: cl, Result: v, Delay: time.Minute, Step: true, Reason: delivery.ReasonRefused})
	}
	_, err = l.box.Exchange(l.Context(), l.life(app), token, 0, settled)
	l.check(err)
	c.Force = true
	_, err = l.box.Finish(l.Context(), l.life(app), token, c)
	l.check(err)
}

func (l *ledger) knowledge(id string) intake.DeliveryStatus {
	l.Helper()
	k, err := intake.NewStatusReader(l.reg, l.box, l.dir, partner.Online).DeliveryStatus(l.Context(), id)
	l.check(err)
	if k.Change.ID != id {
		l.Errorf("answered about %s", k.Change.ID)
	}
	return k
}

// stands fails the test unless app1 stands so to a change.
func (l *ledger) stands(id string, want intake.DeliveryState) intake.AppDelivery {
	l.Helper()
	k := l.knowledge(id)
	if len(k.Apps) != 1 || k.Apps[0].ClientID != app || k.Apps[0].State != want || k.InStep != (want == intake.Settled) {
		l.Errorf("%+v, want %s", k, want)
		return intake.AppDelivery{}
	}
	return k.Apps[0]
}

func TestWaitingThenSettled(t *testing.T) {
	ledgers(t, func(l *ledger) {
		id := l.accept(tenant.Suspend, false)
		l.stands(id, intake.Waiting) // the fan-out is pending
		l.deposit(app)
		l.stands(id, intake.Waiting)
		l.drain(mailbox.Failed, mailbox.Closing{})
		o := l.stands(id, intake.Waiting)
		if d := time.Until(o.NextAttemptAt); o.Attempts != 1 || o.Reason != "refused" || d < 50*time.Second || d > 70*time.Second {
			l.Errorf("%+v", o)
		}
		l.drain(mailbox.OK, mailbox.Closing{}) // not due: nothing is claimed
		l.stands(id, intake.Waiting)
	})
}

func TestSettled(t *testing.T) {
	ledgers(t, func(l *ledger) {
		first := l.accept(tenant.Suspend, true)
		l.drain(mailbox.OK, mailbox.Closing{})
		l.stands(first, intake.Settled)
		second := l.accept(tenant.Resume, true)
		move := l.accept(tenant.Move, true)
		l.replaced(first, second) // nobody knows whether it was told before it was replaced
		l.replaced(second, "")
		l.replaced(move, "")
		l.drain(mailbox.OK, mailbox.Closing{})
		l.replaced(first, "") // what replaced it was told, and the move still waits
		l.drain(mailbox.OK, mailbox.Closing{})
		for _, id := range []string{first, second, move} {
			l.stands(id, intake.Settled)
		}
	})
}

// replaced fails the test unless app1 waits for a change and will be told another in its place, "" for
// none.
func (l *ledger) replaced(id, by string) {
	l.Helper()
	if o := l.stands(id, intake.Waiting); o.ReplacedBy != by {
		l.Errorf("%s is replaced by %q, want %q", id, o.ReplacedBy, by)
	}
}

// Newer truth settles what it replaced once it was told, and not before.
func TestSettledByNewerTruth(t *testing.T) {
	ledgers(t, func(l *ledger) {
		first := l.accept(tenant.Suspend, true)
		move := l.accept(tenant.Move, true)
		second := l.accept(tenant.Resume, false)
		l.replaced(first, "") // it waits itself, until the pending fan-out replaces it
		l.deposit(app)
		l.replaced(first, second)
		l.replaced(move, "")
		l.replaced(second, "")
		l.drain(mailbox.Failed, mailbox.Closing{}) // of the move, which is older
		last := l.accept(tenant.Delete, false)
		for _, deposited := range []bool{false, true} {
			if deposited {
				l.deposit(app)
			}
			l.replaced(last, "")
			for _, id := range []string{first, move, second} {
				if deposited {
					l.replaced(id, last)
				}
			}
		}
		l.drain(mailbox.Failed, mailbox.Closing{})
		if o := l.stands(move, intake.Waiting); o.Attempts != 1 || o.Reason != "refused" || o.NextAttemptAt.IsZero() {
			l.Errorf("what replaced it was tried: %+v", o)
		}
		lost := l.accept(tenant.Move, false)
		late := l.accept(tenant.Move, false)
		l.replaced(lost, late) // it never comes into the mailbox
		l.deposit(app)         // due at once
		l.drain(mailbox.OK, mailbox.Closing{})
		l.replaced(late, "")
		l.replaced(move, late)
		l.drain(mailbox.OK, mailbox.Closing{})
		for _, id := range []string{first, move, second, last, late} {
			l.stands(id, intake.Settled)
		}
		emptied := l.accept(tenant.Move, true)
		l.accept(tenant.Delete, true)
		l.replaced(emptied, l.accept(tenant.Resume, true)) // which replaced the Delete
	})
}

// A status that was set since its newest change is told on request in the place of that change.
func TestRetoldAsItWasSetSince(t *testing.T) {
	ledgers(t, func(l *ledger) {
		id := l.accept(tenant.Suspend, true)
		l.drain(mailbox.OK, mailbox.Closing{})
		_, err := l.reg.PutStatus(l.Context(), registry.StatusRequest{Tenant: "a", State: tenant.Running}, registry.Actor{})
		l.check(err)
		l.stands(id, intake.Settled) // nobody is told of it
		_, err = l.box.RequestResync(l.Context(), l.life(app), []mailbox.Admission{{Tenant: "a"}})
		l.check(err)
		l.deposit(app)
		l.replaced(id, tenant.FormatStatusID("a", l.record().Top))
		w := l.because("a", intake.Due, `a is Running; its newest change is "suspend"`, `"resume" (told again) waits`)
		if len(w.Waiting) != 1 || w.Waiting[0].ChangeID != tenant.FormatStatusID("a", l.record().Top) || w.Newest.ID != id {
			l.Errorf("%+v", w)
		}
		l.drain(mailbox.OK, mailbox.Closing{})
		l.stands(id, intake.Settled)
	})
}

func TestGatedWaitsForTheGate(t *testing.T) {
	ledgers(t, func(l *ledger) {
		id := l.accept(tenant.Suspend, true)
		l.drain(mailbox.Failed, mailbox.Closing{Cooldown: time.Hour})
		if d := time.Until(l.stands(id, intake.Waiting).NextAttemptAt); d < 59*time.Minute {
			l.Errorf("tried again in %v", d)
		}
	})
}

func TestInFlightHasNoNextAttempt(t *testing.T) {
	ledgers(t, func(l *ledger) {
		id := l.accept(tenant.Suspend, true)
		_, err := l.box.Begin(l.Context(), l.life(app), "x", 0)
		l.check(err)
		_, err = l.box.Exchange(l.Context(), l.life(app), "x", 1, nil)
		l.check(err)
		if o := l.stands(id, intake.Waiting); !o.NextAttemptAt.IsZero() {
			l.Errorf("%+v", o)
		}
	})
}

// An app that does not deliver is off for what waits, and settled for what it knows.
func TestOff(t *testing.T) {
	for name, change := range map[string]func(a *partner.App){
		"SwitchedOff": func(a *partner.App) { a.Endpoints[partner.StateChange].Enabled = false },
		"Paused":      func(a *partner.App) { a.Paused = true },
		"NoURLHere": func(a *partner.App) {
			a.Endpoints[partner.StateChange].URL = ""
			a.Endpoints[partner.StateChange].URLs = map[partner.Environment]string{partner.Stage: "https://partner.example/"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ledgers(t, func(l *ledger) {
				told := l.accept(tenant.Suspend, true)
				l.drain(mailbox.OK, mailbox.Closing{})
				id := l.accept(tenant.Move, true)
				l.stands(told, intake.Waiting) // a newer one waits
				l.put(app, change)
				l.stands(told, intake.Off)
				if o := l.stands(id, intake.Off); !o.NextAttemptAt.IsZero() {
					l.Errorf("nothing is planned: %+v", o)
				}
			})
		})
	}
}

// The mailbox was switched off, which the settings that were read do not show yet.
func TestOffInTheMailbox(t *testing.T) {
	ledgers(t, func(l *ledger) {
		id := l.accept(tenant.Suspend, true)
		_, err := l.box.ApplySwitch(l.Context(), "n", mailbox.Switch{Life: l.life(app), Revision: 99})
		l.check(err)
		l.stands(id, intake.Off)
	})
}

func TestNeverHadURL(t *testing.T) {
	ledgers(t, func(l *ledger) {
		l.put(app, func(a *partner.App) {
			a.Endpoints[partner.StateChange].URL, a.EverHadURL = "", false
		})
		id := l.accept(tenant.Suspend, false)
		l.check(l.reg.CompleteFanouts(l.Context(), []registry.CompletedFanout{{Tenant: "a", Top: l.record().Top}}))
		// nothing can wait for it, so that everyone who can know does
		if k := l.knowledge(id); !k.InStep || len(k.Apps) != 1 || k.Apps[0].State != intake.Off {
			l.Errorf("%+v", k)
		}
		// the first URL came, the telling that follows it has not
		l.put(app, func(*partner.App) {})
		l.stands(id, intake.Waiting)
	})
}

// A status told again waits as itself: the app may never have heard it.
func TestRetold(t *testing.T) {
	ledgers(t, func(l *ledger) {
		old := l.accept(tenant.Suspend, true)
		id := l.accept(tenant.Resume, true)
		move := l.accept(tenant.Move, true) // the retelling bears the move's sequence
		l.drain(mailbox.OK, mailbox.Closing{})
		l.drain(mailbox.OK, mailbox.Closing{})
		l.stands(id, intake.Settled)
		_, err := l.box.RequestResync(l.Context(), l.life(app), []mailbox.Admission{{Tenant: "a"}})
		l.check(err)
		for _, id := range []string{id, move, old} {
			l.replaced(id, "") // half done
		}
		l.deposit(app)
		l.replaced(id, "")
		l.replaced(move, "")
		l.replaced(old, id)
		l.drain(mailbox.OK, mailbox.Closing{})
		for _, id := range []string{id, move, old} {
			l.stands(id, intake.Settled)
		}
	})
}

// Who approved later hears the change by its approval.
func TestApprovedLater(t *testing.T) {
	ledgers(t, func(l *ledger) {
		id := l.accept(tenant.Suspend, true)
		l.drain(mailbox.OK, mailbox.Closing{})
		l.put("app2", func(*partner.App) {})
		l.approve("app2")
		k := l.knowledge(id)
		want := []intake.AppDelivery{{ClientID: app, State: intake.Settled}, {ClientID: "app2", State: intake.Waiting}}
		k.Apps[1].NextAttemptAt = time.Time{}
		if d := cmp.Diff(want, k.Apps); d != "" || k.InStep {
			l.Error(k.InStep, d)
		}
	})
}

// Leftovers in the index are nobody: an app that is gone, an approval that was taken back.
func TestLeftoversInTheIndex(t *testing.T) {
	ledgers(t, func(l *ledger) {
		l.check(l.reg.AddApprover(l.Context(), []tenant.ID{"a"}, "gone"))
		l.put("back", func(*partner.App) {})
		l.check(l.reg.AddApprover(l.Context(), []tenant.ID{"a"}, "back"))
		id := l.accept(tenant.Suspend, true)
		l.stands(id, intake.Waiting)
	})
}

func TestNobodyApproved(t *testing.T) {
	ledgers(t, func(l *ledger) {
		l.check(l.reg.RemoveApprover(l.Context(), []tenant.ID{"a"}, app))
		if k := l.knowledge(l.accept(tenant.Suspend, true)); len(k.Apps) != 0 || !k.InStep {
			l.Errorf("%+v", k)
		}
	})
}

func TestUnknownChange(t *testing.T) {
	ledgers(t, func(l *ledger) {
		_, err := intake.NewStatusReader(l.reg, l.box, l.dir, partner.Online).DeliveryStatus(l.Context(), "chg_a_1")
		if !errors.Is(err, registry.ErrNotFound) {
			l.Errorf("error %v", err)
		}
	})
}

// broken fails one call of those that an answer needs.
type broken struct {
	*ledger

	at string
}

func (b broken) fail(name string) error {
	if b.at == name {
		return errFake
	}
	return nil
}

func (b broken) Change(ctx context.Context, id string) (tenant.Change, error) {
	c, err := b.reg.Change(ctx, id)
	return c, errors.Join(err, b.fail("change"))
}

func (b broken) Tenant(ctx context.Context, id tenant.ID) (registry.TenantView, error) {
	v, err := b.reg.Tenant(ctx, id)
	return v, errors.Join(err, b.fail("tenant"))
}

func (b broken) Approvers(ctx context.Context, id tenant.ID) ([]partner.ClientID, error) {
	l, err := b.reg.Approvers(ctx, id)
	return l, errors.Join(err, b.fail("approvers"))
}

func (b broken) ReadPairsOfTenant(ctx context.Context, t tenant.ID, apps []partner.ClientID) ([]mailbox.PairState, error) {
	s, err := b.box.ReadPairsOfTenant(ctx, t, apps)
	return s, errors.Join(err, b.fail("inspect"))
}

func (b broken) Views(ctx context.Context, apps []partner.ClientID) ([]mailbox.View, []error) {
	v, errs := b.box.Views(ctx, apps)
	errs[0] = errors.Join(errs[0], b.fail("views"))
	return v, errs
}

func (b broken) Refresh(ctx context.Context) error {
	return errors.Join(b.dir.Refresh(ctx), b.fail("refresh"))
}

func (b broken) Lookup(id partner.ClientID) (*registry.Entry, bool, error) { return b.dir.Lookup(id) }

// No half answers: what cannot be read is an error, not "everyone knows".
func TestKnowledgeFails(t *testing.T) {
	ledgers(t, func(l *ledger) {
		id := l.accept(tenant.Suspend, true)
		for _, at := range []string{"change", "tenant", "approvers", "inspect", "views", "refresh"} {
			b := broken{l, at}
			if k, err := intake.NewStatusReader(b, b, b, partner.Online).DeliveryStatus(l.Context(), id); !errors.Is(err, errFake) || k.InStep {
				l.Errorf("%s: %+v, %v", at, k, err)
			}
		}
	})
}
