package mailbox_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

const testApp partner.ClientID = "app1"

// testLife is the life of an app that a version before births made.
var testLife = mailbox.Life{App: testApp}

// box is one app's mailbox under test.
type box struct {
	testing.TB
	s   *mailbox.Store
	rdb redis.UniversalClient
	// keys is where its keys are; on a Cluster, which has one database, each box has a prefix.
	keys keys.Space
	// clock is nil on a real server, where time passes by itself.
	clock *miniredis.Miniredis
	calls int
	// birth is that of the life which its calls mean.
	birth int64
}

func (b *box) life() mailbox.Life { return mailbox.Life{App: testApp, Birth: b.birth} }

// former is where the approvals of the life before a birth are.
func (b *box) former(birth int64) string {
	return b.key(keys.AppFormer) + ":" + strconv.FormatInt(birth, 10)
}

// quick are leases short enough to wait for on a real server, and long enough for a slow machine.
func quick() mailbox.Settings {
	return mailbox.Settings{
		OwnerLease: 1500 * time.Millisecond, EntryLease: 1500 * time.Millisecond,
		Horizon: 3 * time.Second, Grace: 1500 * time.Millisecond,
	}
}

// each runs f against miniredis with a clock that stands still until told, against a real server and
// against a real Cluster.
func each(t *testing.T, set mailbox.Settings, f func(b *box)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		f(miniBox(t, set))
	})
	t.Run("redis-server", func(t *testing.T) {
		t.Parallel()
		rdb := redistest.Real(t)
		f(&box{TB: t, rdb: rdb, keys: keys.New(""), s: mailbox.New(rdb, keys.New(""), set)})
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		rdb, prefix := redistest.Clustered(t)
		f(&box{TB: t, rdb: rdb, keys: keys.New(prefix), s: mailbox.New(rdb, keys.New(prefix), set)})
	})
}

var start = time.Date(2026, 11, 3, 20, 0, 0, 0, time.UTC)

func miniBox(t testing.TB, set mailbox.Settings) *box {
	t.Helper()
	mr := miniredis.RunT(t)
	mr.SetTime(start)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	return &box{TB: t, rdb: rdb, keys: keys.New(""), s: mailbox.New(rdb, keys.New(""), set), clock: mr}
}

// now is Redis's clock.
func (b *box) now() time.Time {
	b.Helper()
	now, err := b.rdb.Time(b.Context()).Result()
	b.check(err)
	return now.Truncate(time.Millisecond).UTC()
}

// pass lets d pass.
func (b *box) pass(d time.Duration) {
	b.Helper()
	until := b.now().Add(d)
	if b.clock != nil {
		b.clock.SetTime(until)
		return
	}
	redistest.Eventually(b, 10*d+time.Minute, "time to pass", func() bool { return !b.now().Before(until) })
}

func (b *box) check(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *box) nonce() string {
	b.calls++
	return "n" + strconv.Itoa(b.calls)
}

func (b *box) key(k keys.AppKey) string { return b.keys.App(testApp, k) }

// field reads the mailbox's own hash, "" when the field is absent.
func (b *box) field(name string) string {
	b.Helper()
	v, err := b.rdb.HMGet(b.Context(), b.key(keys.AppMailbox), name).Result()
	b.check(err)
	s, _ := v[0].(string)
	return s
}

// change is a change whose id tells its tenant and sequence.
func change(t tenant.ID, seq int64, ct tenant.ChangeType) tenant.Change {
	return tenant.Change{ID: tenant.FormatChangeID(t, max(seq, 1)), Tenant: t, Sequence: seq, Type: ct, VersionName: "10.3"}
}

// record is a snapshot made out of changes in their order: a Delete clears the other slots.
func record(t tenant.ID, changes ...tenant.Change) tenant.Record {
	r := tenant.Record{Tenant: t}
	for _, c := range changes {
		if c.Type == tenant.Delete {
			r.Heads = [tenant.Slots]tenant.Head{}
		}
		r.Top, r.Heads[c.Type.Slot()] = max(r.Top, c.Sequence), tenant.Head{Sequence: c.Sequence, Change: c}
	}
	return r
}

// toPointers is records as DepositMany takes them.
func toPointers(recs ...tenant.Record) []*tenant.Record {
	out := make([]*tenant.Record, len(recs))
	for i := range recs {
		out[i] = &recs[i]
	}
	return out
}

// story reads a snapshot from words like "suspend5 move7".
func story(t tenant.ID, words string) tenant.Record {
	var cs []tenant.Change
	for w := range strings.FieldsSeq(words) {
		name := strings.TrimRight(w, "0123456789")
		ct, err := tenant.ParseChangeType(name)
		if err != nil {
			panic(err)
		}
		seq, err := strconv.ParseInt(w[len(name):], 10, 64)
		if err != nil {
			panic(err)
		}
		cs = append(cs, change(t, seq, ct))
	}
	return record(t, cs...)
}

// approved admits tenants at a top and deposits a snapshot without anything to tell, so that
// nothing waits and nothing is asked for.
func (b *box) approved(top int64, ts ...tenant.ID) {
	b.Helper()
	for ; len(ts) > mailbox.MaxBatch; ts = ts[mailbox.MaxBatch:] {
		b.approved(top, ts[:mailbox.MaxBatch]...)
	}
	adm := make([]mailbox.Admission, len(ts))
	recs := make([]tenant.Record, len(ts))
	for i, t := range ts {
		adm[i], recs[i] = mailbox.Admission{Tenant: t, Top: top}, tenant.Record{Tenant: t, Top: top}
	}
	b.admit(adm)
	_, err := b.s.Deposit(b.Context(), b.life(), b.nonce(), recs)
	b.check(err)
}

func (b *box) approve(t tenant.ID, top int64) int {
	b.Helper()
	return b.admit([]mailbox.Admission{{Tenant: t, Top: top}})
}

// admit approves, once more where the call began a life, which counts as a dismissal.
func (b *box) admit(adm []mailbox.Admission) int {
	b.Helper()
	n, err := b.s.Approve(b.Context(), b.life(), b.dismissals(), adm)
	if errors.Is(err, mailbox.ErrDismissed) && b.birth > 0 {
		n, err = b.s.Approve(b.Context(), b.life(), b.dismissals(), adm)
	}
	b.check(err)
	return n
}

func (b *box) dismissals() int64 {
	b.Helper()
	n, err := b.s.Dismissals(b.Context(), testApp)
	b.check(err)
	return n
}

func (b *box) again(t tenant.ID) int {
	b.Helper()
	n, err := b.s.RequestResync(b.Context(), b.life(), []mailbox.Admission{{Tenant: t}})
	b.check(err)
	return n
}

func (b *box) dismiss(ts ...tenant.ID) int {
	b.Helper()
	n, err := b.s.Dismiss(b.Context(), b.life(), ts)
	b.check(err)
	return n
}

// tell deposits a snapshot under a fresh nonce.
func (b *box) tell(t tenant.ID, words string) mailbox.DepositResult {
	b.Helper()
	return b.deposit(b.nonce(), story(t, words))
}

func (b *box) deposit(nonce string, recs ...tenant.Record) mailbox.DepositResult {
	b.Helper()
	d, err := b.s.Deposit(b.Context(), b.life(), nonce, recs)
	b.check(err)
	return d
}

func (b *box) begin(token string, gen int64) mailbox.BeginResult {
	b.Helper()
	x, err := b.s.Begin(b.Context(), b.life(), token, gen)
	b.check(err)
	return x
}

// own begins and fails unless the mailbox was taken.
func (b *box) own(token string) mailbox.BeginResult {
	b.Helper()
	x := b.begin(token, 0)
	if x.State != mailbox.Owned {
		b.Fatalf("begin(%s) = %+v, want to own the mailbox", token, x)
	}
	return x
}

func (b *box) exchange(token string, want int, rs ...mailbox.Settlement) mailbox.ExchangeResult {
	b.Helper()
	x, err := b.s.Exchange(b.Context(), b.life(), token, want, rs)
	b.check(err)
	return x
}

// claim takes exactly one claim.
func (b *box) claim(token string) mailbox.Claim {
	b.Helper()
	x := b.exchange(token, 1)
	if len(x.Claims) != 1 {
		b.Fatalf("exchange(%s) = %+v, want one claim", token, x)
	}
	return x.Claims[0]
}

func (b *box) finish(token string, c mailbox.Closing) mailbox.FinishResult {
	b.Helper()
	f, err := b.s.Finish(b.Context(), b.life(), token, c)
	b.check(err)
	return f
}

func (b *box) sweep(rev int64, on bool) mailbox.Wake {
	b.Helper()
	ws, errs := b.s.RepairWakeUps(b.Context(), b.nonce(), []mailbox.Switch{{Life: b.life(), Revision: rev, On: on}})
	b.check(errs[0])
	return ws[0]
}

func (b *box) turn(rev int64, on bool) mailbox.Wake {
	b.Helper()
	w, err := b.s.ApplySwitch(b.Context(), b.nonce(), mailbox.Switch{Life: b.life(), Revision: rev, On: on})
	b.check(err)
	return w
}

func ok(c mailbox.Claim) mailbox.Settlement { return mailbox.Settlement{Claim: c, Result: mailbox.OK} }

func release(c mailbox.Claim) mailbox.Settlement {
	return mailbox.Settlement{Claim: c, Result: mailbox.Release}
}

func failed(c mailbox.Claim, d time.Duration) mailbox.Settlement {
	return mailbox.Settlement{Claim: c, Result: mailbox.Failed, Delay: d, Step: true, Reason: delivery.ReasonRefused}
}

func (b *box) inspect(t tenant.ID) mailbox.PairState {
	b.Helper()
	st, err := b.s.ReadPairs(b.Context(), testApp, []tenant.ID{t})
	b.check(err)
	return st[0]
}

// stands tells in one line how a tenant stands:
//
//	<known>[*] | none, then per waiting slot <change type><sequence>[+superseded][!attempts][~ told again],
//	then due, later or flight
func (b *box) stands(t tenant.ID) string {
	b.Helper()
	st := b.inspect(t)
	out := "none"
	if st.Approved {
		out = strconv.FormatInt(st.Known, 10)
	}
	if st.Again {
		out += "*"
	}
	words := []string{out}
	for _, e := range st.Entries {
		if e != nil {
			words = append(words, b.words(t, *e))
		}
	}
	out = strings.Join(words, " ")
	switch {
	case st.InFlight && !st.DueAt.IsZero():
		b.Fatalf("tenant %s is due and in flight", t)
	case st.InFlight:
		out += " flight"
	case !st.DueAt.IsZero() && st.DueAt.After(b.now()):
		out += " later"
	case !st.DueAt.IsZero():
		out += " due"
	}
	return out
}

func (b *box) words(t tenant.ID, e delivery.Entry) string {
	b.Helper()
	m, err := e.Message(testApp, t)
	b.check(err)
	out := fmt.Sprintf("%s%d", m.Change.Type, m.Sequence)
	if m.Superseded > 0 {
		out += fmt.Sprintf("+%d", m.Superseded)
	}
	if m.Attempts > 0 {
		out += fmt.Sprintf("!%d", m.Attempts)
	}
	if e.Retold != "" {
		out += "~"
	}
	return out
}

// expect fails unless the tenant stands as told.
func (b *box) expect(t tenant.ID, want string) {
	b.Helper()
	if got := b.stands(t); got != want {
		b.Errorf("tenant %s stands %q, want %q", t, got, want)
	}
}

// within fails unless at lies d after a moment between from and to: scripts take their own time.
func (b *box) within(what string, at, from, to time.Time, d time.Duration) {
	b.Helper()
	if at.Before(from.Add(d)) || at.After(to.Add(d)) {
		b.Errorf("%s is %v, want %v after [%v, %v]", what, at, d, from, to)
	}
}
