package mailer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/registry/registrytest"
)

const app partner.ClientID = "app1"

// post is a mail server in memory.
type post struct {
	mu   sync.Mutex
	errs []error // answers of the first mails; nil accepts
	got  []*mailer.Message
}

func (p *post) Send(_ context.Context, m *mailer.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if len(p.errs) > 0 {
		err, p.errs = p.errs[0], p.errs[1:]
	}
	if err == nil {
		p.got = append(p.got, m)
	}
	return err
}

func (p *post) ids() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]string, len(p.got))
	for i, m := range p.got {
		out[i] = m.ID
	}
	return out
}

// world is outboxes and mail queues in Redis, and a sender.
type world struct {
	t       *testing.T
	rdb     redis.UniversalClient
	store   *registry.IncidentStore
	trays   *registry.MailQueueStore
	post    *post
	reg     *prometheus.Registry
	log     *bytes.Buffer
	opts    mailer.Options
	now     time.Time
	bounces []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, rdb: redistest.Mini(t), post: &post{}, reg: prometheus.NewRegistry(), log: &bytes.Buffer{}, now: since.Add(time.Hour)}
	w.store = registry.NewIncidentStore(w.rdb, keys.New(""), 0)
	w.trays = registry.NewMailQueueStore(w.rdb, keys.New(""))
	w.opts = mailer.Options{
		Outbox: w.store, MailQueues: w.trays, Suppressions: w.store, Bounces: w, Transport: w.post, Composer: composer(t, mailer.LinkMaker{}),
		Policy: mailer.Policy{DailyCap: 20}, Metrics: mailer.NewMetrics(w.reg), Log: slog.New(slog.NewTextHandler(w.log, nil)),
		Now: func() time.Time { return w.now },
	}
	return w
}

func (w *world) MarkBounced(_ context.Context, app partner.ClientID, address string, code int) error {
	w.bounces = append(w.bounces, fmt.Sprintf("%s %s %d", app, address, code))
	return nil
}

// owe puts mails into their apps' outboxes.
func (w *world) owe(ls ...incident.Mail) {
	w.t.Helper()
	for i := range ls {
		_, err := registrytest.Decide(w.t.Context(), w.store, ls[i].ClientID, ls[i].Endpoint, func(s incident.State) incident.Decision {
			s.ID, s.N = ls[i].Incident, s.N+1
			return incident.Decision{State: s, Mails: ls[i : i+1]}
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// forward moves mails to their mail queues.
func (w *world) forward(ls ...incident.Mail) {
	w.t.Helper()
	s := mailer.NewSender(w.opts)
	for i := range ls {
		if err := s.ForwardMail(w.t.Context(), ls[i].ClientID, ls[i].ID()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// deliver sends the mails in kim's mail queue.
func (w *world) deliver() {
	w.t.Helper()
	if err := mailer.NewSender(w.opts).SendQueued(w.t.Context(), incident.RecipientKey("kim@example.com")); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) send(ls ...incident.Mail) {
	w.t.Helper()
	w.owe(ls...)
	w.forward(ls...)
	w.deliver()
}

// waiting lists the mails in mail queues.
func (w *world) waiting() []registry.MailQueueInfo {
	w.t.Helper()
	list, _, _, err := w.trays.ListMailQueues(w.t.Context(), registry.MailQueuePlace{})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func (w *world) counted(want string) {
	w.t.Helper()
	got := &strings.Builder{}
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetCounter().GetValue() > 0 {
				fmt.Fprintf(got, "%s %s %v\n", m.GetLabel()[0].GetValue(), m.GetLabel()[1].GetValue(), m.GetCounter().GetValue())
			}
		}
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		w.t.Errorf("counted (-want +got):\n%s", diff)
	}
}

func TestSenderSendsOnce(t *testing.T) {
	t.Parallel()
	w, l := newWorld(t), letter()
	w.owe(l)
	for range 3 { // late tasks for the same mail
		w.forward(l)
		w.deliver()
	}
	gone := l
	gone.N = 9
	w.forward(gone)
	if len(w.post.got) != 1 || len(w.waiting()) != 0 {
		t.Errorf("sent %v, waiting %+v", w.post.ids(), w.waiting())
	}
	w.counted("opened sent 1\n")
	if line := w.log.String(); strings.Count(line, "mail tried") != 1 || strings.Contains(line, "kim@") || !strings.Contains(line, "outcome=sent") {
		t.Errorf("log:\n%s", line)
	}
}

func TestSenderWritesDownWhatCame(t *testing.T) {
	t.Parallel()
	refused := &mailer.SendError{Permanent: true, Code: 554, Err: errors.New("554 5.7.1 <Kim@example.com> spam, token=abcdef123456")}
	unknown := &mailer.SendError{Permanent: true, BadAddress: true, Code: 550, Err: errors.New("550 5.1.1 <Kim@example.com> unknown")}
	busy := &mailer.SendError{Code: 451, Err: errors.New("451 busy")}
	down := &mailer.SendError{Server: true, Err: errors.New("connection refused")}
	for name, tt := range map[string]struct {
		err     error
		before  int // failed tries before
		result  mailer.Result
		delay   time.Duration
		bounces int
	}{
		"Refused":       {err: refused, result: mailer.ResultRefused},
		"Unknown":       {err: unknown, result: mailer.ResultRefused, bounces: 1},
		"Busy":          {err: busy, result: mailer.ResultDeferred, delay: time.Minute},
		"BusyAgain":     {err: busy, before: 2, result: mailer.ResultDeferred, delay: 15 * time.Minute},
		"Down":          {err: down, before: 4, result: mailer.ResultDeferred, delay: time.Minute},
		"AnyOtherError": {err: errors.New("boom"), result: mailer.ResultDeferred, delay: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, l := newWorld(t), letter()
			w.post.errs = []error{tt.err}
			w.owe(l)
			w.forward(l)
			tray := keys.New("").Recipient(incident.RecipientKey(l.To), keys.RecipientMailQueue)
			w.rdb.HSet(t.Context(), tray, "attempts", tt.before)
			w.deliver()
			list := w.waiting()
			if (len(list) == 1) != (tt.result == mailer.ResultDeferred) {
				t.Fatalf("waiting %+v", list)
			}
			if len(list) == 1 {
				if wait := time.Until(list[0].Due); wait > tt.delay || wait < tt.delay-30*time.Second || list[0].Attempts != tt.before+1 {
					t.Errorf("tried again in %v after %d tries, want %v", wait, list[0].Attempts, tt.delay)
				}
			}
			w.counted(fmt.Sprintf("opened %s 1\n", tt.result))
			if text := strings.ToLower(w.log.String()); strings.Contains(text, "kim@") || strings.Contains(text, "abcdef") {
				t.Errorf("the log names the recipient or a secret: %s", text)
			}
			if len(w.bounces) != tt.bounces || tt.bounces > 0 && w.bounces[0] != "app1 kim@example.com 550" {
				t.Errorf("bounces %v", w.bounces)
			}
		})
	}
}

func TestMailIsGivenUpAfterFiveDays(t *testing.T) {
	t.Parallel()
	w, l := newWorld(t), letter()
	busy := &mailer.SendError{Code: 451, Err: errors.New("451 busy")}
	w.post.errs = []error{busy, busy}
	w.now = l.At.Add(120 * time.Hour)
	w.send(l) // late, but tried once whatever its age
	w.expire()
	w.now = l.At.Add(120*time.Hour - time.Millisecond)
	w.deliver()
	w.expire()
	if len(w.waiting()) != 1 {
		t.Fatal("given up early")
	}
	w.now = l.At.Add(120 * time.Hour)
	w.deliver()
	if len(w.waiting()) != 0 || len(w.post.got) != 0 {
		t.Errorf("waiting %+v, sent %v", w.waiting(), w.post.ids())
	}
	w.counted("opened deferred 2\nopened expired 1\n")
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]time.Duration{
		0: time.Minute, 1: time.Minute, 2: 5 * time.Minute, 3: 15 * time.Minute, 4: time.Hour, 5: 4 * time.Hour, 500: 4 * time.Hour,
	} {
		if got := mailer.RetryDelay(n); got != want {
			t.Errorf("after %d tries %v, want %v", n, got, want)
		}
	}
}

func TestUnreadableMailsDoNotStayForEver(t *testing.T) {
	t.Parallel()
	w, l := newWorld(t), letter()
	w.owe(l)
	w.forward(l)
	tray := keys.New("").Recipient(incident.RecipientKey(l.To), keys.RecipientMailQueue)
	w.rdb.HSet(t.Context(), tray, "letter:future", `1;{"v":99}`, "count", 2)
	w.rdb.HSet(t.Context(), keys.New("").App(app, keys.AppOutbox), "future", `1;w;0;0;;0;;{"v":99}`)
	if err := mailer.NewSender(w.opts).ForwardMail(t.Context(), app, "future"); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	if len(w.waiting()) != 0 || len(w.post.got) != 1 {
		t.Errorf("waiting %+v, sent %v", w.waiting(), w.post.ids())
	}
	w.counted("opened sent 1\nunknown unreadable 2\n")
	if n, err := testutil.GatherAndCount(w.reg); err != nil || n != (len(incident.AllKinds())+2)*len(mailer.AllResults())+3 {
		t.Errorf("%d series, %v: every combination is there from the start", n, err)
	}
}

func TestFullTrayLeavesTheMailInTheOutbox(t *testing.T) {
	t.Parallel()
	w, l := newWorld(t), letter()
	w.rdb.HSet(t.Context(), keys.New("").Recipient(incident.RecipientKey(l.To), keys.RecipientMailQueue), "v", "1", "count", 2000, "due", 1)
	w.owe(l)
	w.forward(l)
	all, err := w.store.ListOutbox(t.Context(), app)
	if err != nil || len(all) != 1 || all[0].State != registry.MailWaiting || time.Until(all[0].At) < 50*time.Minute {
		t.Errorf("outbox %+v, %v", all, err)
	}
}

func TestUnsubscribedWhileItWaited(t *testing.T) {
	t.Parallel()
	w, a, b := newWorld(t), letter(), letter()
	b.ClientID, b.Incident = "app2", incident.NewID("app2", partner.StateChange, since)
	w.owe(a, b)
	w.forward(a, b)
	if err := w.store.SetMailSuppressed(t.Context(), registry.Subscription{App: app, Recipient: incident.RecipientKey(a.To)}, true); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	if len(w.post.got) != 1 || w.post.got[0].ID != compose(t, b).ID || len(w.waiting()) != 0 {
		t.Errorf("sent %v, waiting %+v", w.post.ids(), w.waiting())
	}
	w.counted("opened sent 1\nopened unwanted 1\n")
}

// expire lets leases, claims and waits end.
func (w *world) expire() {
	w.t.Helper()
	ctx := w.t.Context()
	for _, key := range w.rdb.Keys(ctx, "*:outbox").Val() {
		for id, text := range w.rdb.HGetAll(ctx, key).Val() {
			if f := strings.SplitN(text, ";", 5); f[1] == "w" {
				w.rdb.HSet(ctx, key, id, "1;w;0;0;"+f[4])
			}
		}
	}
	for _, key := range w.rdb.Keys(ctx, "*:tray").Val() {
		w.rdb.HSet(ctx, key, "due", 0, "lease", 0)
	}
}

func TestWhatCameIsWrittenAlsoWhileStopping(t *testing.T) {
	t.Parallel()
	w, l := newWorld(t), letter()
	w.owe(l)
	w.forward(l)
	ctx, cancel := context.WithCancel(t.Context())
	w.opts.Transport = stopping{w.post, cancel}
	if err := mailer.NewSender(w.opts).SendQueued(ctx, incident.RecipientKey(l.To)); err != nil {
		t.Fatal(err)
	}
	if len(w.waiting()) != 0 {
		t.Errorf("waiting %+v", w.waiting())
	}
}

// stopping ends the task's context while the server accepts.
type stopping struct {
	*post
	stop context.CancelFunc
}

func (s stopping) Send(ctx context.Context, m *mailer.Message) error {
	s.stop()
	return s.post.Send(ctx, m)
}
