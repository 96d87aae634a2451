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

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/mailer/smtptest"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
)

const app partner.ClientID = "app1"

// post is a mail server in memory.
type post struct {
	mu   sync.Mutex
	errs []error // answers of the first mails; nil accepts
	got  []string
}

func (p *post) Send(_ context.Context, m *mailer.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if len(p.errs) > 0 {
		err, p.errs = p.errs[0], p.errs[1:]
	}
	if err == nil {
		p.got = append(p.got, m.ID)
	}
	return err
}

// world is an outbox in Redis and a sender.
type world struct {
	rdb   redis.UniversalClient
	store *registry.IncidentStore
	post  *post
	reg   *prometheus.Registry
	log   *bytes.Buffer
	opts  mailer.Options
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{rdb: redistest.Mini(t), post: &post{}, reg: prometheus.NewRegistry(), log: &bytes.Buffer{}}
	w.store = registry.NewIncidentStore(w.rdb, keys.New(""), 0)
	w.opts = mailer.Options{
		Outbox: w.store, Transport: w.post, Composer: composer(t, nil), Metrics: mailer.NewMetrics(w.reg),
		Log: slog.New(slog.NewTextHandler(w.log, nil)), Now: func() time.Time { return since.Add(time.Hour) },
	}
	return w
}

// owe puts letters in the outbox.
func (w *world) owe(t *testing.T, ls ...incident.Letter) {
	t.Helper()
	_, err := w.store.Transition(t.Context(), app, partner.StateChange, func(s incident.State) registry.IncidentStep {
		s.ID, s.N = ls[0].Mail.Incident, s.N+1
		return registry.IncidentStep{State: s, Letters: ls}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) send(t *testing.T, id string) {
	t.Helper()
	if err := mailer.NewSender(w.opts).Send(t.Context(), app, id); err != nil {
		t.Fatal(err)
	}
}

func (w *world) entry(t *testing.T, id string) registry.OutboxEntry {
	t.Helper()
	all, err := w.store.Outbox(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.ID == id {
			return e
		}
	}
	t.Fatalf("no entry %s", id)
	return registry.OutboxEntry{}
}

func (w *world) counted(t *testing.T, kind incident.Kind, r mailer.Result) {
	t.Helper()
	want := fmt.Sprintf("lamplighter_mails_total{kind=%q,result=%q} 1\n", kind, r)
	got := &strings.Builder{}
	families, err := w.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetCounter().GetValue() > 0 {
				fmt.Fprintf(got, "%s{kind=%q,result=%q} %v\n", f.GetName(), m.GetLabel()[0].GetValue(), m.GetLabel()[1].GetValue(), m.GetCounter().GetValue())
			}
		}
	}
	if got.String() != want {
		t.Errorf("counted\n%swant\n%s", got, want)
	}
}

func TestSenderSendsOnce(t *testing.T) {
	t.Parallel()
	w, l := newWorld(t), letter()
	w.owe(t, l)
	for range 3 { // late tasks for the same mail
		w.send(t, l.ID())
	}
	w.send(t, "inc_app1_s1.1.gone")
	if len(w.post.got) != 1 || w.entry(t, l.ID()).State != registry.MailSentState {
		t.Errorf("sent %v, entry %+v", w.post.got, w.entry(t, l.ID()))
	}
	w.counted(t, incident.KindOpened, mailer.ResultSent)
	if line := w.log.String(); strings.Count(line, "mail tried") != 1 || strings.Contains(line, "kim@") || !strings.Contains(line, "outcome=sent") {
		t.Errorf("log:\n%s", line)
	}
}

func TestSenderWritesDownWhatCame(t *testing.T) {
	t.Parallel()
	refused := &mailer.SendError{Permanent: true, Code: 550, Err: errors.New("550 5.1.1 <Kim@example.com> unknown, token=abcdef123456")}
	busy := &mailer.SendError{Code: 421, Err: errors.New("421 busy")}
	for name, tt := range map[string]struct {
		err    error
		age    time.Duration
		result mailer.Result
		state  registry.OutboxState
		delay  time.Duration
	}{
		"Refused":         {refused, time.Hour, mailer.ResultRefused, registry.MailFailedState, 0},
		"Busy":            {busy, time.Hour, mailer.ResultDeferred, registry.MailWaiting, time.Minute},
		"AnyOtherError":   {errors.New("boom"), time.Hour, mailer.ResultDeferred, registry.MailWaiting, time.Minute},
		"JustBeforeAWeek": {busy, 120*time.Hour - time.Millisecond, mailer.ResultDeferred, registry.MailWaiting, time.Minute},
		"GivenUp":         {busy, 120 * time.Hour, mailer.ResultExpired, registry.MailFailedState, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, l := newWorld(t), letter()
			w.opts.Now = func() time.Time { return l.Mail.At.Add(tt.age) }
			w.post.errs = []error{tt.err}
			w.owe(t, l)
			w.send(t, l.ID())
			e := w.entry(t, l.ID())
			if e.State != tt.state {
				t.Fatalf("entry %+v, want state %s", e, tt.state)
			}
			if wait := time.Until(e.At); tt.delay > 0 && (wait > tt.delay || wait < tt.delay-30*time.Second) {
				t.Errorf("tried again in %v, want %v", wait, tt.delay)
			}
			if e.Failure != nil && (e.Failure.To != l.To || e.Failure.Kind != incident.KindOpened || strings.Contains(e.Failure.Error, "abcdef")) {
				t.Errorf("recorded %+v", e.Failure)
			}
			w.counted(t, incident.KindOpened, tt.result)
			if strings.Contains(strings.ToLower(w.log.String()), "kim@") {
				t.Errorf("the log names the recipient: %s", w.log)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]time.Duration{
		0: time.Minute, 1: time.Minute, 2: 5 * time.Minute, 3: 15 * time.Minute, 4: time.Hour, 5: time.Hour, 500: time.Hour,
	} {
		if got := mailer.Backoff(n); got != want {
			t.Errorf("after %d tries %v, want %v", n, got, want)
		}
	}
}

func TestUnreadableMailsDoNotStayForEver(t *testing.T) {
	t.Parallel()
	w, l := newWorld(t), letter()
	l.To = "nobody"
	w.owe(t, l)
	w.rdb.HSet(t.Context(), keys.New("").App(app, keys.AppOutbox), "future", `1;w;0;0;;0;;{"v":99}`)
	w.send(t, l.ID())
	w.send(t, "future")
	for _, id := range []string{l.ID(), "future"} {
		if e := w.entry(t, id); e.State != registry.MailFailedState || e.Failure.Error == "" {
			t.Errorf("entry %+v", e)
		}
	}
	if n, err := testutil.GatherAndCount(w.reg); err != nil || n != (len(incident.Kinds())+1)*len(mailer.Results()) {
		t.Errorf("%d series, %v: every combination is there from the start", n, err)
	}
}

func TestOneBadRecipientOfThree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := smtptest.Start(t, smtptest.Options{})
	srv.AnswerEach(func(conn int) smtptest.Script {
		if conn == 2 {
			return smtptest.Script{Rcpt: "550 5.1.1 no such user"}
		}
		return smtptest.Script{}
	})
	w.opts.Transport = transport(t, srv.Host, srv.Port, nil)
	var ls []incident.Letter
	for _, to := range []string{"a@example.com", "b@example.com", "c@example.com"} {
		l := letter()
		l.To = to
		ls = append(ls, l)
	}
	w.owe(t, ls...)
	for i := range ls {
		w.send(t, ls[i].ID())
	}
	if got := srv.Mails(); len(got) != 2 || got[0].To != "a@example.com" || got[1].To != "c@example.com" {
		t.Errorf("arrived: %+v", got)
	}
	if e := w.entry(t, ls[1].ID()); e.State != registry.MailFailedState || e.Failure.Code != 550 {
		t.Errorf("the refused one: %+v", e)
	}
}

// twin fails the nth call of the outbox, before it applies or after.
type twin struct {
	mailer.Outbox
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

func (w *twin) ClaimMail(ctx context.Context, a partner.ClientID, id string, d time.Duration) (registry.MailClaim, error) {
	return fault(w, func() (registry.MailClaim, error) { return w.Outbox.ClaimMail(ctx, a, id, d) })
}

func (w *twin) MailSent(ctx context.Context, a partner.ClientID, id, token string) (registry.SettleOutcome, error) {
	return fault(w, func() (registry.SettleOutcome, error) { return w.Outbox.MailSent(ctx, a, id, token) })
}

func (w *twin) MailDeferred(ctx context.Context, a partner.ClientID, id, token string, d time.Duration) (registry.SettleOutcome, error) {
	return fault(w, func() (registry.SettleOutcome, error) { return w.Outbox.MailDeferred(ctx, a, id, token, d) })
}

func (w *twin) MailFailed(ctx context.Context, a partner.ClientID, id, token string, f registry.MailFailure) (registry.SettleOutcome, error) {
	return fault(w, func() (registry.SettleOutcome, error) { return w.Outbox.MailFailed(ctx, a, id, token, f) })
}

// expireClaims lets the leases and waits of all mails end.
func (w *world) expireClaims(t *testing.T) {
	t.Helper()
	key := keys.New("").App(app, keys.AppOutbox)
	for id, text := range w.rdb.HGetAll(t.Context(), key).Val() {
		if f := strings.SplitN(text, ";", 5); f[1] == "w" {
			w.rdb.HSet(t.Context(), key, id, "1;w;0;0;"+f[4])
		}
	}
}

// TestFaultTwins has every store call of a mail's life fail, before it applies and after: the mail
// is never lost, and doubles only when writing down its acceptance failed before it applied.
func TestFaultTwins(t *testing.T) {
	t.Parallel()
	busy := &mailer.SendError{Code: 421, Err: errors.New("421 busy")}
	refused := &mailer.SendError{Permanent: true, Code: 550, Err: errors.New("550 no")}
	for name, tt := range map[string]struct {
		answers []error
		copies  int
		// doubled is the call whose failure before applying doubles the mail, 0 for none.
		doubled int
	}{
		"accepted":          {nil, 1, 2},
		"deferred, then ok": {[]error{busy}, 1, 4},
		"refused":           {[]error{refused, refused}, 0, 0},
	} {
		for n := 1; n <= 4; n++ {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/call%d/after=%v", name, n, after), func(t *testing.T) {
					t.Parallel()
					w, l := newWorld(t), letter()
					w.post.errs = append([]error(nil), tt.answers...)
					w.owe(t, l)
					w.opts.Outbox = &twin{Outbox: w.store, n: n, after: after}
					s := mailer.NewSender(w.opts)
					for range 6 { // tasks and ticks come again; each stops at the fault
						due, err := w.store.OutboxDue(t.Context(), app, 10)
						if err != nil {
							t.Fatal(err)
						}
						for _, id := range due {
							if err := s.Send(t.Context(), app, id); err != nil && !errors.Is(err, errTwin) {
								t.Fatal(err)
							}
						}
						w.expireClaims(t)
					}
					want := tt.copies
					if n == tt.doubled && !after {
						want++
					}
					if len(w.post.got) != want {
						t.Errorf("arrived %d times, want %d", len(w.post.got), want)
					}
					if e := w.entry(t, l.ID()); e.State == registry.MailWaiting {
						t.Errorf("still waits: %+v", e)
					}
					for _, id := range w.post.got {
						if id != w.post.got[0] {
							t.Errorf("a double has another Message-ID: %v", w.post.got)
						}
					}
				})
			}
		}
	}
}

func TestOutageLosesNothing(t *testing.T) {
	t.Parallel()
	w, l := newWorld(t), letter()
	srv := smtptest.Start(t, smtptest.Options{})
	srv.AnswerEach(func(conn int) smtptest.Script {
		if conn <= 20 {
			return smtptest.Script{Greeting: "421 4.3.2 down"}
		}
		return smtptest.Script{}
	})
	w.opts.Transport = transport(t, srv.Host, srv.Port, nil)
	w.owe(t, l)
	for range 21 {
		w.send(t, l.ID())
		w.expireClaims(t)
	}
	if len(srv.Mails()) != 1 || w.entry(t, l.ID()).Attempts != 21 {
		t.Errorf("%d mails after %d tries", len(srv.Mails()), w.entry(t, l.ID()).Attempts)
	}
}

func TestWhatCameIsWrittenAlsoWhileStopping(t *testing.T) {
	t.Parallel()
	w, l := newWorld(t), letter()
	w.owe(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	w.opts.Transport = stopping{w.post, cancel}
	if err := mailer.NewSender(w.opts).Send(ctx, app, l.ID()); err != nil {
		t.Fatal(err)
	}
	if e := w.entry(t, l.ID()); e.State != registry.MailSentState {
		t.Errorf("entry %+v", e)
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
