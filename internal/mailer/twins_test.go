package mailer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// twin fails the nth call of the stores, before it applies or after.
type twin struct {
	mailer.Outbox

	trays   mailer.MailQueues
	silence mailer.SuppressionChecker
	n       int
	after   bool
	calls   int
	// failed names the call that failed.
	failed string
}

var errTwin = errors.New("store failed")

func fault[T any](w *twin, name string, call func() (T, error)) (T, error) {
	w.calls++
	var zero T
	if w.calls != w.n {
		return call()
	}
	w.failed = name
	if w.after {
		if _, err := call(); err != nil {
			return zero, err
		}
	}
	return zero, errTwin
}

func (w *twin) ClaimMail(ctx context.Context, a partner.ClientID, id string, d time.Duration) (registry.MailClaim, registry.QueuedMail, error) {
	var m registry.QueuedMail
	c, err := fault(w, "claim", func() (c registry.MailClaim, err error) {
		c, m, err = w.Outbox.ClaimMail(ctx, a, id, d)
		return c, err
	})
	return c, m, err
}

func (w *twin) MarkMailSent(ctx context.Context, a partner.ClientID, id, token string) (registry.SettlementResult, error) {
	return fault(w, "forwarded", func() (registry.SettlementResult, error) { return w.Outbox.MarkMailSent(ctx, a, id, token) })
}

func (w *twin) EnqueueMail(ctx context.Context, r, id string, l *incident.Mail, d time.Duration) (registry.PutResult, time.Time, error) {
	var due time.Time
	out, err := fault(w, "put", func() (out registry.PutResult, err error) {
		out, due, err = w.trays.EnqueueMail(ctx, r, id, l, d)
		return out, err
	})
	return out, due, err
}

func (w *twin) ClaimMailQueue(ctx context.Context, r string, d time.Duration) (registry.MailClaim, registry.MailQueue, error) {
	var q registry.MailQueue
	c, err := fault(w, "claim tray", func() (c registry.MailClaim, err error) {
		c, q, err = w.trays.ClaimMailQueue(ctx, r, d)
		return c, err
	})
	return c, q, err
}

func (w *twin) SettleMailQueue(ctx context.Context, r, token string, s registry.MailQueueSettlement) (registry.SettlementResult, int, error) {
	left := 0
	name := "settle"
	if len(s.Leave) > 0 {
		name = "leave"
	}
	out, err := fault(w, name, func() (out registry.SettlementResult, err error) {
		out, left, err = w.trays.SettleMailQueue(ctx, r, token, s)
		return out, err
	})
	return out, left, err
}

func (w *twin) MailsSuppressed(ctx context.Context, subs []registry.Subscription) ([]bool, error) {
	return fault(w, "suppressed", func() ([]bool, error) { return w.silence.MailsSuppressed(ctx, subs) })
}

func (w *twin) ConfirmationsRefused(ctx context.Context, tray string) (bool, error) {
	return w.trays.ConfirmationsRefused(ctx, tray)
}

func (w *twin) ListMailQueues(ctx context.Context, after registry.MailQueuePlace) ([]registry.MailQueueInfo, registry.MailQueuePlace, bool, error) {
	return w.trays.ListMailQueues(ctx, after)
}

// TestFaultTwins has every store call of mails' lives fail, before it applies and after: no mail is
// lost, and one doubles only when writing down its acceptance failed before it applied, with the
// Message-ID it had.
func TestFaultTwins(t *testing.T) {
	t.Parallel()
	busy := &mailer.SendError{Code: 451, Err: errors.New("451 busy")}
	nobody := &mailer.SendError{Code: 550, Permanent: true, BadAddress: true, Err: errors.New("550 no such mailbox")}
	for name, tt := range map[string]struct {
		apps    int
		answers []error
		mails   int
	}{
		"one":                {1, nil, 1},
		"one, deferred":      {1, []error{busy}, 1},
		"two":                {2, nil, 2},
		"digest":             {5, nil, 1},
		"digest, deferred":   {5, []error{busy}, 1},
		"another after that": {4, []error{busy, busy}, 1},
		"refused":            {2, []error{nobody, nobody, nobody}, 0},
	} {
		for n := 1; n <= 24; n++ {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/call%d/after=%v", name, n, after), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t)
					w.post.errs = append([]error(nil), tt.answers...)
					w.owe(outage(tt.apps)...)
					tw := &twin{Outbox: w.store, trays: w.trays, silence: w.store, n: n, after: after}
					w.opts.Outbox, w.opts.MailQueues, w.opts.Suppressions = tw, tw, tw
					w.rounds(t, tt.apps)
					want := tt.mails
					if tw.failed == "leave" && !after && want > 0 { // what was refused is refused again
						want++
					}
					ids := w.post.ids()
					if len(ids) != want || len(w.waiting()) != 0 {
						t.Errorf("%s failed: %d mails %v, want %d; waiting %+v", tw.failed, len(ids), ids, want, w.waiting())
					}
					distinct := map[string]bool{}
					for _, id := range ids {
						distinct[id] = true
					}
					if len(distinct) != tt.mails {
						t.Errorf("a double has another Message-ID: %v", ids)
					}
				})
			}
		}
	}
}

// outage is an opening of each of n apps, to one recipient.
func outage(n int) []incident.Mail {
	ls := make([]incident.Mail, n)
	for i := range ls {
		ls[i] = letter()
		ls[i].ClientID = partner.ClientID(fmt.Sprintf("app%d", i))
		ls[i].AppName = fmt.Sprintf("App %d", i)
		ls[i].Incident = incident.NewID(ls[i].ClientID, partner.StateChange, since)
	}
	return ls
}

// rounds has tasks and ticks come again as they do; all forwarding is done before the first sending,
// as while a tray waits for more.
func (w *world) rounds(t *testing.T, apps int) {
	t.Helper()
	s := mailer.NewSender(w.opts)
	check := func(err error) {
		if err != nil && !errors.Is(err, errTwin) {
			t.Fatal(err)
		}
	}
	for range 3 {
		for i := range apps {
			id := partner.ClientID(fmt.Sprintf("app%d", i))
			pages, errs := w.store.ReadOutboxPages(t.Context(), []registry.OutboxPlace{{App: id}})
			check(errs[0])
			for _, m := range pages[0].Due {
				check(s.ForwardMail(t.Context(), id, m))
			}
		}
		w.expire()
	}
	for range 6 {
		check(s.SendQueued(t.Context(), incident.RecipientKey("kim@example.com")))
		w.expire()
	}
}
