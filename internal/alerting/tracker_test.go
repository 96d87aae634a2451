package alerting_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/alerting"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestMain(m *testing.M) { redistest.Main(m) }

const (
	id   partner.ClientID = "app1"
	kind                  = partner.StateChange
	kim                   = "kim@example.com"
	lee                   = "lee@example.com"
)

var (
	refused = incident.Failure{Reason: delivery.ReasonRefused}
	blocked = incident.Failure{Reason: delivery.ReasonBlockedAddress, Immediate: true}
	ok      = incident.Success{}
)

// world is a tracker on a Redis, with a clock of the test's and everything else in memory.
type world struct {
	*alerting.Tracker
	t       *testing.T
	rdb     redis.UniversalClient
	store   *registry.IncidentStore
	reg     *prometheus.Registry
	log     *bytes.Buffer
	app     partner.App
	unknown bool
	now     time.Time
	view    mailbox.View
	looked  int
	waiting []tenant.ID
	woken   []string
	wakeErr error
	opts    alerting.Options
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, rdb: redistest.Mini(t), reg: prometheus.NewRegistry(), log: &bytes.Buffer{}, now: time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)}
	w.store = registry.NewIncidentStore(w.rdb, keys.New(""), 0)
	w.app = partner.New(id)
	w.app.Name, w.app.TechnicalContact = "Awesome App", partner.Contact{Email: kim, TimeZone: "Europe/Oslo"}
	w.app.Endpoints[kind].Enabled, w.app.Endpoints[kind].URL = true, "https://partner.example/hook?key=hunter2secret"
	w.view = mailbox.View{Waiting: 3, Diverged: 2, CooldownUntil: w.now.Add(time.Minute)}
	w.opts = alerting.Options{
		Apps: w, Store: w.store, Queue: w, Mailboxes: w, Environment: partner.Online, Settings: incident.DefaultSettings(),
		Metrics: alerting.NewMetrics(w.reg), Log: slog.New(slog.NewTextHandler(w.log, nil)), Now: func() time.Time { return w.now },
	}
	w.Tracker = alerting.New(w.opts)
	return w
}

func (w *world) Refresh(context.Context) error { return nil }

func (w *world) Lookup(partner.ClientID) (*registry.Entry, bool, error) {
	return &registry.Entry{Rec: registry.AppRecord{App: w.app}}, !w.unknown, nil
}

func (w *world) EnqueueForwardMail(_ context.Context, _ partner.ClientID, mailID string, generation int64) error {
	if w.wakeErr != nil {
		return w.wakeErr
	}
	w.woken = append(w.woken, fmt.Sprintf("%s:%d", mailID, generation))
	return nil
}

func (w *world) View(context.Context, partner.ClientID) (mailbox.View, error) {
	w.looked++
	return w.view, nil
}

func (w *world) ReadPairs(_ context.Context, _ partner.ClientID, ts []tenant.ID) ([]mailbox.PairState, error) {
	out := make([]mailbox.PairState, len(ts))
	for i, id := range ts {
		if out[i].Tenant = id; slices.Contains(w.waiting, id) {
			out[i].Entries[tenant.SlotStatus] = &delivery.Entry{}
		}
	}
	return out, nil
}

// after lets time pass and observes, or ticks when there is nothing to observe.
func (w *world) after(d time.Duration, events ...incident.Event) {
	w.t.Helper()
	w.now = w.now.Add(d)
	var err error
	if len(events) > 0 {
		err = w.Observe(w.t.Context(), id, kind, events...)
	} else {
		_, err = w.Tick(w.t.Context(), id)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// Tick ticks with what is found a moment before, and wakes the mailer, as the loops do.
func (w *world) Tick(ctx context.Context, app partner.ClientID) (map[partner.EndpointKind]incident.State, error) {
	found, errs := w.store.ReadOpenIncidents(ctx, []partner.ClientID{app})
	if errs[0] != nil {
		return nil, errs[0]
	}
	if found[0] == nil {
		found[0] = &registry.OpenIncidents{}
	}
	pages, errs := w.store.ReadOutboxPages(ctx, []registry.OutboxPlace{{App: app}})
	for _, mail := range pages[0].Due {
		errs = append(errs, w.WakeMail(ctx, app, mail))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return w.TickApp(ctx, app, *found[0])
}

// mails lists the outbox as "<kind> <n> to <recipient>".
func (w *world) mails() []string {
	w.t.Helper()
	all, err := w.store.ListOutbox(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	list := []string{}
	for _, e := range all {
		list = append(list, fmt.Sprintf("%s %d to %s", e.Mail.Kind, e.Mail.N, e.Mail.To))
	}
	slices.Sort(list)
	return list
}

func (w *world) want(what string, mails ...string) {
	w.t.Helper()
	if diff := cmp.Diff(append([]string{}, mails...), w.mails()); diff != "" {
		w.t.Errorf("%s: mails (-want +got):\n%s", what, diff)
	}
}

func (w *world) suppressed() map[string]float64 {
	w.t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "lamplighter_mails_suppressed_total" && m.GetCounter().GetValue() > 0 {
				got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return got
}

func TestOpenedThenRecovered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.after(0, refused)
	w.after(5*time.Minute - time.Millisecond)
	w.want("early")
	w.after(time.Millisecond)
	w.want("failing for 5 minutes", "opened 1 to "+kim)
	if len(w.woken) != 1 {
		t.Errorf("the mailer was woken for %v", w.woken)
	}
	w.after(time.Minute, ok)
	w.after(time.Minute)
	w.want("well for a minute", "opened 1 to "+kim, "recovered 2 to "+kim)
	all, err := w.store.ListOutbox(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	first, second := all[0].Mail, all[1].Mail
	if second.First != 1 || second.After != 1 || second.AfterID() != first.ID() || second.Backlog.Notifications != 3 {
		t.Errorf("recovery %+v", second)
	}
	if first.TimeZone != "Europe/Oslo" || first.AppName != "Awesome App" || strings.Contains(first.URL, "hunter2") || first.Backlog.Tenants != 2 {
		t.Errorf("opening %+v", first)
	}
	if line := w.log.String(); strings.Count(line, "mail decided") != 2 || strings.Contains(line, kim) {
		t.Errorf("log:\n%s", line)
	}
	w.now = w.now.Add(2 * time.Hour)
	w.after(0)
	if n := w.rdb.Exists(t.Context(), keys.New("").App(id, keys.AppIncidents)).Val(); n != 0 {
		t.Error("something is remembered of a healthy endpoint")
	}
}

func TestSuccessOfAHealthyEndpointCostsOneRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.after(0, ok)
	w.after(0)
	if n := w.rdb.DBSize(t.Context()).Val(); n != 0 || w.looked != 0 || len(w.woken) != 0 {
		t.Errorf("%d keys written, %d looks into the mailbox, %d wake-ups", n, w.looked, len(w.woken))
	}
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	masked := func(address, why string) string { return incident.RecipientKey(address) + ":" + why }
	for name, tt := range map[string]struct {
		change     func(w *world)
		want       []string
		suppressed map[string]float64
		// log is what the one line says of those who are not mailed.
		log string
	}{
		"Contact":    {func(*world) {}, []string{"opened 1 to " + kim}, map[string]float64{}, "[]"},
		"ErrorMails": {func(w *world) { w.app.ErrorEmails = []string{lee, "ada@example.com"} }, []string{"opened 1 to ada@example.com", "opened 1 to " + lee}, map[string]float64{}, "[]"},
		"Off":        {func(w *world) { w.app.Endpoints[kind].SendErrorEmails = false }, nil, map[string]float64{"switched_off": 1}, masked(kim, "switched_off")},
		"Nobody":     {func(w *world) { w.app.TechnicalContact.Email = "" }, nil, map[string]float64{"no_recipient": 1}, "[:no_recipient]"},
		"Unsubscribed": {
			func(w *world) {
				w.app.ErrorEmails = []string{kim, lee}
				if err := w.store.SetMailSuppressed(w.t.Context(), registry.Subscription{App: id, Recipient: incident.RecipientKey(strings.ToUpper(kim))}, true); err != nil {
					w.t.Fatal(err)
				}
			},
			[]string{"opened 1 to " + lee},
			map[string]float64{"unsubscribed": 1},
			masked(kim, "unsubscribed"),
		},
		"Marked": {
			func(w *world) {
				w.app.ErrorEmails = []string{kim, lee, "ada@example.com"}
				w.app = w.app.WithMark(kim, &partner.AddressMark{State: partner.Bounced}).WithMark(lee, &partner.AddressMark{State: partner.Unconfirmed})
			},
			[]string{"opened 1 to ada@example.com"},
			map[string]float64{"bounced": 1, "unconfirmed": 1},
			masked(kim, "bounced") + " " + masked(lee, "unconfirmed"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.change(w)
			w.after(0, blocked)
			w.want(name, tt.want...)
			if diff := cmp.Diff(tt.suppressed, w.suppressed()); diff != "" {
				t.Errorf("suppressed (-want +got):\n%s", diff)
			}
			if log := w.log.String(); strings.Count(log, "mail decided") != 1 || !strings.Contains(log, tt.log) || strings.Contains(log, "@") {
				t.Errorf("log:\n%s", w.log)
			}
		})
	}
}

func TestRecoveryIsToldToThoseWhoWereTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.after(0, blocked)
	w.app.ErrorEmails = []string{kim, lee} // lee came later
	w.after(time.Minute, ok)
	w.after(time.Minute)
	w.want("recovered", "opened 1 to "+kim, "recovered 2 to "+kim)
	if got := w.suppressed()["not_told"]; got != 1 {
		t.Errorf("not_told counted %v times", got)
	}
}

func TestUnheardSuccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.after(0, refused)
	w.view.CooldownUntil = time.Time{} // it answered somebody who died before saying so
	w.after(5 * time.Minute)
	w.want("no gate and no news")
	w.after(time.Minute, blocked)
	w.want("failing", "opened 1 to "+kim)
	w.view.CooldownUntil = w.now.Add(time.Hour) // it asked for an hour's pause
	w.after(30 * time.Minute)
	w.want("gated", "opened 1 to "+kim)
	w.view.CooldownUntil = time.Time{}
	w.after(time.Minute)
	w.after(time.Minute)
	w.want("no gate any more", "opened 1 to "+kim, "recovered 2 to "+kim)
}

// A refused notification that a newer change replaced is not observed again: what the mailbox holds
// says whether its tenant is still in trouble.
func TestUnheardAcceptance(t *testing.T) {
	t.Parallel()
	a, b := incident.Rejection{Tenant: "a", Status: 422}, incident.Rejection{Tenant: "b", Status: 422}
	t.Run("OpensNothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.after(0, a)
		w.after(time.Minute)
		w.after(5 * time.Minute)
		w.want("the newer truth was taken")
	})
	t.Run("Recovers", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.waiting = []tenant.ID{"a", "b"}
		w.after(0, a, b)
		w.after(5 * time.Minute)
		w.want("both wait", "opened 1 to "+kim)
		w.waiting = []tenant.ID{"b"}
		w.after(time.Second)
		w.after(2 * time.Minute)
		w.want("one waits", "opened 1 to "+kim)
		w.waiting = nil
		w.after(time.Second)
		w.after(time.Minute)
		w.want("none waits", "opened 1 to "+kim, "recovered 2 to "+kim)
	})
	t.Run("SaysNothingOfAnEndpointThatFails", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.after(0, a, refused)
		w.after(time.Second)
		w.after(5 * time.Minute)
		w.want("it fails", "opened 1 to "+kim)
	})
}

func TestSwitchedOffIsNoticedWithoutBeingTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.after(0, incident.Failure{Reason: delivery.ReasonGone, Status: 410})
	e := &w.app.Endpoints[kind]
	e.Enabled, e.OffReason, e.SwitchedAt = false, partner.OffGone, w.now
	w.after(time.Second)
	w.after(time.Second)
	w.want("switched off by the service", "switched_off 1 to "+kim)
	e.Enabled, e.OffReason, e.SwitchedAt = true, "", w.now
	w.after(time.Second)
	w.after(time.Second, ok)
	w.after(time.Minute)
	w.want("on again", "recovered 2 to "+kim, "switched_off 1 to "+kim)
}

func TestSeveralEventsAreOneStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.waiting = []tenant.ID{"T1", "T2"}
	w.after(0, ok, incident.Rejection{Tenant: "T1", Status: 422}, incident.Rejection{Tenant: "T2", Status: 422})
	w.after(time.Minute, incident.Success{Tenant: "T2"})
	w.after(4 * time.Minute)
	all, err := w.store.ListOutbox(t.Context(), id)
	if err != nil || len(all) != 1 {
		t.Fatalf("outbox %+v, %v", all, err)
	}
	if got := all[0].Mail.Tenants; len(got) != 1 || got[0] != "T1" {
		t.Errorf("names %v", got)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.after(0, blocked)
	states, err := w.store.Incidents(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	open := states[kind].ID
	for _, wrong := range []string{"", "inc_app1_s1", "inc_other_s1"} {
		if err := w.CloseIncident(t.Context(), wrong, "ada"); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("closing %q: %v, want ErrNotFound", wrong, err)
		}
	}
	if err := w.CloseIncident(t.Context(), open, "ada"); err != nil {
		t.Fatal(err)
	}
	if err := w.CloseIncident(t.Context(), open, "ada"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("closing twice: %v, want ErrNotFound", err)
	}
	w.after(time.Hour, blocked)
	w.want("closed", "closed 2 to "+kim, "opened 1 to "+kim)
	all, err := w.store.ListOutbox(t.Context(), id)
	if err != nil || len(all) != 2 || all[1].Mail.First != 1 || strings.Contains(all[1].Mail.Encode(), "ada") {
		t.Errorf("outbox %+v, %v", all, err)
	}
	list, err := w.store.History(t.Context(), id, 10)
	if err != nil || len(list) != 1 || list[0].By != "ada" || list[0].Ending != incident.EndClosed {
		t.Errorf("history %+v, %v", list, err)
	}
}

// racing lets something happen between the decision to end an incident and its writing, once.
type racing struct {
	*registry.IncidentStore

	meanwhile func()
}

func (r *racing) CommitIfUnchanged(
	ctx context.Context, app partner.ClientID, k partner.EndpointKind, was registry.StoredIncident, d incident.Decision,
) (bool, error) {
	if meanwhile := r.meanwhile; meanwhile != nil && (d.Ended != nil || was.Reports != nil && len(d.Mails) > 0) {
		r.meanwhile = nil
		meanwhile()
	}
	return r.IncidentStore.CommitIfUnchanged(ctx, app, k, was, d)
}

// TestALostRaceTellsNothing: of two calls that close an incident, one succeeds and one mail is decided.
func TestALostRaceTellsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.after(0, blocked)
	states, err := w.store.Incidents(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	open, other := states[kind].ID, w.Tracker
	w.woken, w.opts.Store = nil, &racing{w.store, func() {
		w.now = w.now.Add(time.Second) // what both write in one instant is the same, and written once
		if err := other.CloseIncident(t.Context(), open, "ada"); err != nil {
			t.Error(err)
		}
	}}
	w.log.Reset()
	if err := alerting.New(w.opts).CloseIncident(t.Context(), open, "kim"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("closing what another has closed: %v, want ErrNotFound", err)
	}
	w.want("closed once", "closed 2 to "+kim, "opened 1 to "+kim)
	if n := strings.Count(w.log.String(), "mail decided"); n != 1 || len(w.woken) != 1 {
		t.Errorf("%d mails told, %d tasks queued, want 1 of each:\n%s", n, len(w.woken), w.log)
	}
}

// overtaken always has the incident written by another between reading and writing.
type overtaken struct {
	*registry.IncidentStore

	tries int
}

func (o *overtaken) CommitIfUnchanged(context.Context, partner.ClientID, partner.EndpointKind, registry.StoredIncident, incident.Decision) (bool, error) {
	o.tries++
	return false, nil
}

// TestEndlessConflictsEnd: a decision that others overtake again and again ends with an error, and nothing is told.
func TestEndlessConflictsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := &overtaken{IncidentStore: w.store}
	w.opts.Store = store
	err := alerting.New(w.opts).Observe(t.Context(), id, kind, blocked)
	if !errors.Is(err, registry.ErrConflict) || store.tries < 2 {
		t.Errorf("%v after %d tries, want ErrConflict", err, store.tries)
	}
	w.want("nothing was decided")
	if n := strings.Count(w.log.String(), "mail decided"); n != 0 {
		t.Errorf("%d mails told", n)
	}
}

func TestUnknownAppIsPassedOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.unknown = true
	w.after(0, blocked)
	w.after(0)
	if n := w.rdb.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys written for an app that is gone", n)
	}
}

func TestTickTellsWhatIsOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.after(0, blocked)
	states, err := w.Tick(t.Context(), id)
	var open []partner.EndpointKind
	for k, s := range states {
		if s.IsOpen() {
			open = append(open, k)
		}
	}
	if diff := cmp.Diff([]partner.EndpointKind{kind}, open); diff != "" || err != nil {
		t.Errorf("%v, open (-want +got):\n%s", err, diff)
	}
}

func TestEverySeriesIsThereFromTheStart(t *testing.T) {
	t.Parallel()
	families, err := newWorld(t).reg.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != len(alerting.AllSuppressions()) {
		t.Errorf("families %v, %v", families, err)
	}
}

func TestMailerIsWokenAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.wakeErr = errors.New("queue away")
	w.after(0, blocked)
	if _, err := w.Tick(t.Context(), id); err == nil {
		t.Error("a tick that woke nobody says nothing")
	}
	w.wakeErr = nil
	w.after(0)
	w.after(time.Second)
	w.after(time.Minute)
	if len(w.woken) != 3 || w.woken[0] != w.woken[1] || w.woken[1] == w.woken[2] {
		t.Errorf("woken %v, want the same wake-up within a minute and another after", w.woken)
	}
}

// twin fails the nth call of the store, before it applies or after.
type twin struct {
	alerting.Store
	n     int
	after bool
	calls int
}

var errTwin = errors.New("store failed")

func fault[T any](w *twin, call func() (T, error)) (T, error) {
	w.calls++
	var zero T
	if w.calls != w.n {
		return call()
	}
	if w.after {
		if _, err := call(); err != nil {
			return zero, err
		}
	}
	return zero, errTwin
}

func (w *twin) ReadIncident(ctx context.Context, a partner.ClientID, k partner.EndpointKind) (registry.StoredIncident, error) {
	return fault(w, func() (registry.StoredIncident, error) { return w.Store.ReadIncident(ctx, a, k) })
}

func (w *twin) CommitIfUnchanged(
	ctx context.Context, a partner.ClientID, k partner.EndpointKind, was registry.StoredIncident, d incident.Decision,
) (bool, error) {
	return fault(w, func() (bool, error) { return w.Store.CommitIfUnchanged(ctx, a, k, was, d) })
}

func (w *twin) Incidents(ctx context.Context, a partner.ClientID) (map[partner.EndpointKind]incident.State, error) {
	return fault(w, func() (map[partner.EndpointKind]incident.State, error) { return w.Store.Incidents(ctx, a) })
}

func (w *twin) MailsSuppressed(ctx context.Context, l []registry.Subscription) ([]bool, error) {
	return fault(w, func() ([]bool, error) { return w.Store.MailsSuppressed(ctx, l) })
}

// TestFaultTwins has every store call of an incident's life fail, before it applies and after.
// Ticks and attempts go on as they do, so each transition is told, once, and the mailer is woken.
func TestFaultTwins(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 18; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("call%d/after=%v", n, after), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.opts.Store = &twin{Store: w.store, n: n, after: after}
				w.Tracker = alerting.New(w.opts)
				faults := 0
				play := func(minutes int, e incident.Event) {
					for range minutes {
						w.now = w.now.Add(time.Minute)
						err := w.Observe(t.Context(), id, kind, e)
						_, tickErr := w.Tick(t.Context(), id)
						for _, err := range []error{err, tickErr} {
							if errors.Is(err, errTwin) {
								faults++
							} else if err != nil {
								t.Fatal(err)
							}
						}
					}
				}
				play(8, refused)
				play(4, ok)
				w.want("after the fault", "opened 1 to "+kim, "recovered 2 to "+kim)
				if faults != 1 {
					t.Errorf("%d calls failed, want 1", faults)
				}
				all, err := w.store.ListOutbox(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(w.woken, func(s string) bool { return strings.HasPrefix(s, all[0].ID) }) {
					t.Errorf("the mailer was never woken for the opening: %v", w.woken)
				}
			})
		}
	}
}

// probes says when an endpoint is probed next.
type probes struct {
	next time.Time
	err  error
	kind partner.EndpointKind
}

func (p *probes) NextProbe(_ context.Context, _ *partner.App, k partner.EndpointKind, _ time.Time) (time.Time, error) {
	p.kind = k
	return p.next, p.err
}

// TestMailsSayTheNextProbe: it is looked up when the mail is decided, and without it none is.
func TestMailsSayTheNextProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.app.Endpoints[erp].Enabled, w.app.Endpoints[erp].URL = true, "https://partner.example/erp"
	p := &probes{next: w.now.Add(9 * time.Hour), err: errors.New("redis is away")}
	w.opts.Probes = p
	w.Tracker = alerting.New(w.opts)
	if err := w.Observe(t.Context(), id, erp, blocked); !errors.Is(err, p.err) {
		t.Fatalf("without a forecast: %v", err)
	}
	w.want("nobody knows when it is probed next")
	p.err = nil
	if err := w.Observe(t.Context(), id, erp, blocked); err != nil {
		t.Fatal(err)
	}
	all, err := w.store.ListOutbox(t.Context(), id)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d letters, %v", len(all), err)
	}
	if got := all[0].Mail.NextTry; !got.Equal(p.next) || p.kind != erp || w.looked != 0 {
		t.Errorf("next try %v of %s, want %v; the mailbox was looked at %d times", got, p.kind, p.next, w.looked)
	}
}
