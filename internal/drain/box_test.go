package drain_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Times of the tests' protocol, the service's own.
const (
	entryLease = mailbox.DefaultEntryLease
	ownerLease = mailbox.DefaultOwnerLease
)

// slotted names an entry.
type slotted struct {
	tenant tenant.ID
	slot   tenant.Slot
}

// box is one app's mailbox in memory, for synctest's clock. It follows mailbox.md's rules and
// fails where told, before or after it applied a call.
type box struct {
	mu      sync.Mutex
	skew    time.Duration
	entries map[slotted]*delivery.Entry
	due     map[tenant.ID]time.Time
	flight  map[tenant.ID]int64
	version int64
	stamp   int64
	seq     int64
	gen     int64
	armed   time.Time
	owner   string
	oexp    time.Time
	gate    time.Time
	gopen   int
	// probes may prove the endpoint, refusing is since when it refuses nearly all, recall since when what failed is to be recalled.
	probes           int
	refusing, recall time.Time
	off              int64
	// sole: one tenant is all that approved.
	sole bool
	// birth is that of the mailbox's life; epoch counts openings, oepoch is what the owner began with.
	birth         int64
	epoch, oepoch int

	// fails holds what the next calls of a name do: "before", "after" or "".
	fails map[string][]string
	// broken makes every call of a name fail, as fails does.
	broken map[string]string
	calls  []string
	// wants are the numbers of claims asked for, released the releases handed in, handed is how many
	// results came at once at most.
	wants    []int
	released int
	handed   int
	// unreadable tenants come without an entry.
	unreadable map[tenant.ID]bool
}

func newBox() *box {
	return &box{
		entries: map[slotted]*delivery.Entry{}, due: map[tenant.ID]time.Time{}, flight: map[tenant.ID]int64{},
		fails: map[string][]string{}, broken: map[string]string{}, unreadable: map[tenant.ID]bool{},
	}
}

var errFake = errors.New("connection lost")

func (b *box) now() time.Time { return time.Now().Add(b.skew).Truncate(time.Millisecond) }

// deposit puts a change in and returns its sequence.
func (b *box) deposit(t tenant.ID, c tenant.ChangeType) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	b.version++
	k := slotted{t, c.Slot()}
	e := &delivery.Entry{
		Sequence: b.seq, Version: b.version, FirstDepositedMS: b.now().UnixMilli(),
		Change: delivery.EncodeChange(tenant.Change{ID: tenant.FormatChangeID(t, b.seq), Type: c, AcceptedAt: b.now()}),
	}
	if old := b.entries[k]; old != nil {
		e.Superseded, e.FirstDepositedMS = old.Superseded+1, old.FirstDepositedMS
	}
	b.entries[k] = e
	if _, ok := b.flight[t]; !ok {
		if at, ok := b.due[t]; !ok || at.After(b.now()) {
			b.due[t] = b.now()
		}
	}
	return b.seq
}

func (b *box) fill(n int) {
	for i := range n {
		b.deposit(tenant.ID(fmt.Sprintf("t%03d", i)), tenant.Suspend)
	}
}

// locked runs f under the mailbox's lock.
func (b *box) locked(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *box) waiting() (n int) {
	b.locked(func() { n = len(b.entries) })
	return n
}

// do runs one call and fails it as told.
func (b *box) do(name string, f func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, name)
	how := b.broken[name]
	if l := b.fails[name]; len(l) > 0 {
		how, b.fails[name] = l[0], l[1:]
	}
	if how == "before" {
		return fmt.Errorf("%s: %w", name, errFake)
	}
	f()
	if how == "after" {
		return fmt.Errorf("%s: %w", name, errFake)
	}
	return nil
}

func (b *box) count(name string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, c := range b.calls {
		if c == name {
			n++
		}
	}
	return n
}

func (b *box) vacant(t tenant.ID) bool {
	for s := range tenant.Slot(tenant.Slots) {
		if b.entries[slotted{t, s}] != nil {
			return false
		}
	}
	return true
}

func (b *box) wake() mailbox.Wake {
	now := b.now()
	var at time.Time
	for _, d := range b.due {
		if at.IsZero() || d.Before(at) {
			at = d
		}
	}
	for _, s := range b.flight {
		if d := time.UnixMilli(s); at.IsZero() || d.Before(at) {
			at = d
		}
	}
	if at.IsZero() || b.off > 0 || b.oexp.After(now) {
		return mailbox.Wake{}
	}
	for _, t := range []time.Time{now, b.gate} {
		if t.After(at) {
			at = t
		}
	}
	if b.armed.After(now) {
		return mailbox.Wake{}
	}
	b.gen++
	b.armed = at.Add(mailbox.DefaultGrace)
	return mailbox.Wake{Generation: b.gen, Delay: at.Sub(now)}
}

// sweep arms what was lost.
func (b *box) sweep() (w mailbox.Wake) {
	b.locked(func() { w = b.wake() })
	return w
}

func (b *box) Begin(_ context.Context, life mailbox.Life, token string, generation int64) (x mailbox.BeginResult, err error) {
	gone := false
	err = b.do("begin", func() {
		now := b.now()
		if gone = life.Birth < b.birth; gone {
			return
		}
		if generation == b.gen {
			b.armed = time.Time{}
		}
		switch {
		case b.off > 0:
			x.State = mailbox.Off
		case b.oexp.After(now) && b.owner != token:
			x.State = mailbox.Busy
		case b.gate.After(now):
			x.State, x.Wake = mailbox.CircuitOpen, b.wake()
		default:
			b.owner, b.oexp = token, now.Add(ownerLease)
			x.Openings, x.Refusing, x.Recall = b.gopen, !b.refusing.IsZero(), !b.recall.IsZero()
			if x.Probes = b.probes; b.probes == 0 {
				b.gate = time.Time{}
			}
			x.Sole = b.sole
			b.oepoch = b.epoch
		}
	})
	return x, goneOr(gone, err)
}

// goneOr is the error of a call for a life that is over.
func goneOr(gone bool, err error) error {
	if gone {
		return mailbox.ErrGone
	}
	return err
}

// open counts an opening, as people do.
func (b *box) open() {
	b.locked(func() {
		b.epoch++
		if b.gate.After(b.now()) {
			b.gate, b.gopen = b.now(), 0
		}
		b.probes, b.refusing = min(b.probes, 1), time.Time{}
		for k, e := range b.entries {
			if at, ok := b.due[k.tenant]; ok && at.After(b.now()) && e.LastAttemptMS > 0 {
				b.due[k.tenant], b.armed = b.now(), time.Time{}
			}
		}
	})
}

func (b *box) Exchange(_ context.Context, life mailbox.Life, token string, want int, results []mailbox.Settlement) (x mailbox.ExchangeResult, err error) {
	gone := false
	err = b.do("exchange", func() {
		if gone = life.Birth < b.birth; gone {
			return
		}
		b.wants = append(b.wants, want)
		b.handed = max(b.handed, len(results))
		mine := b.owner == token
		for _, r := range results {
			b.settle(r, mine)
		}
		if !mine {
			return
		}
		x.Owner, x.Outdated = true, b.epoch != b.oepoch
		x.Off = b.off > 0 && !x.Outdated
		b.oexp = b.now().Add(ownerLease)
		if !b.gate.IsZero() {
			want = min(want, 1) * max(b.probes, 1)
		}
		if !x.Off && !x.Outdated {
			b.claim(want, &x)
		}
	})
	if err := goneOr(gone, err); err != nil {
		return mailbox.ExchangeResult{}, err
	}
	return x, nil
}

func (b *box) settle(r mailbox.Settlement, mine bool) {
	t, k := r.Claim.Tenant, slotted{r.Claim.Tenant, r.Claim.Slot}
	e := b.entries[k]
	same := e != nil && e.Version == r.Claim.Entry.Version
	outdated := b.epoch != b.oepoch
	if mine && !outdated && (r.Result == mailbox.OK || r.Well) {
		b.gate, b.gopen, b.probes = time.Time{}, 0, 0
		if !b.refusing.IsZero() {
			b.recall, b.refusing = b.refusing, time.Time{}
		}
	}
	if r.Result == mailbox.OK {
		if same {
			delete(b.entries, k)
		}
		if b.vacant(t) {
			delete(b.due, t)
		}
	}
	if b.flight[t] != r.Claim.Stamp {
		return
	}
	if b.vacant(t) {
		delete(b.flight, t)
		return
	}
	if !mine {
		return
	}
	delete(b.flight, t)
	at := b.now()
	if r.Result == mailbox.Release {
		b.released++
		if same && e.Attempts == 0 { // it goes back to where it stood
			at = time.UnixMilli(e.FirstDepositedMS)
		}
	}
	if r.Result == mailbox.Failed && same {
		e.Attempts++
		if r.Step && !outdated {
			e.Steps++
		}
		e.LastReason, e.LastAttemptMS = r.Reason, at.UnixMilli()
		if !outdated {
			at = at.Add(r.Delay.Truncate(time.Millisecond))
		}
	}
	b.due[t] = at
}

func (b *box) claim(want int, x *mailbox.ExchangeResult) {
	now := b.now()
	for t, s := range b.flight {
		if s <= now.UnixMilli() {
			delete(b.flight, t)
			if !b.vacant(t) {
				b.due[t] = now
			}
		}
	}
	b.stamp = max(now.Add(entryLease).UnixMilli(), b.stamp+1)
	order := slices.SortedFunc(maps.Keys(b.due), func(p, q tenant.ID) int {
		return cmp.Or(b.due[p].Compare(b.due[q]), cmp.Compare(p, q))
	})
	order = slices.DeleteFunc(order, func(t tenant.ID) bool { return b.due[t].After(now) })
	if want = min(want, len(order)); !b.gate.IsZero() { // half of what was not tried at the end
		var end []tenant.ID
		for _, t := range slices.Backward(order[(want+1)/2:]) {
			if len(end) < want/2 && !b.tried(t) {
				end = append(end, t)
			}
		}
		front := order[: want-len(end) : want-len(end)]
		order = append(front, slices.DeleteFunc(end, func(t tenant.ID) bool { return slices.Contains(front, t) })...)
		want = len(order)
	}
	for _, t := range order[:want] {
		delete(b.due, t)
		b.flight[t] = b.stamp
		if b.unreadable[t] {
			x.Unreadable = append(x.Unreadable, t)
			continue
		}
		c := mailbox.Claim{Tenant: t, Stamp: b.stamp}
		for s := range tenant.Slot(tenant.Slots) {
			if e := b.entries[slotted{t, s}]; e != nil && (c.Entry.Version == 0 || e.Sequence < c.Entry.Sequence) {
				c.Slot, c.Entry = s, *e
			}
		}
		x.Claims = append(x.Claims, c)
	}
	if want > 0 {
		x.Left = len(b.due)
	}
}

func (b *box) Finish(_ context.Context, life mailbox.Life, token string, c mailbox.Closing) (f mailbox.FinishResult, err error) {
	gone := false
	err = b.do("finish", func() {
		if gone = life.Birth < b.birth; gone {
			return
		}
		now := b.now()
		if b.owner != token {
			f.State = mailbox.Lost
			return
		}
		if f.Outdated = b.epoch != b.oepoch; f.Outdated {
			c.Cooldown, c.OffRevision = 0, 0
		}
		if !c.Force && c.Cooldown == 0 && c.OffRevision == 0 && b.off == 0 {
			for _, at := range b.due {
				if !at.After(now) {
					f.State = mailbox.More
					return
				}
			}
		}
		b.owner, b.oexp = "", time.Time{}
		if c.Cooldown > 0 {
			b.gate, b.probes, b.refusing = now.Add(c.Cooldown.Truncate(time.Millisecond)), c.Probes, c.Refusing
			b.gopen += min(c.Probes, 1)
		}
		b.off = max(b.off, c.OffRevision)
		f.Wake = b.wake()
	})
	return f, goneOr(gone, err)
}

// tried reports whether anything of a tenant failed.
func (b *box) tried(t tenant.ID) bool {
	for s := range tenant.Slot(tenant.Slots) {
		if e := b.entries[slotted{t, s}]; e != nil && e.Attempts > 0 {
			return true
		}
	}
	return false
}

// RecallFailed implements drain.Mailbox.
func (b *box) RecallFailed(_ context.Context, _ mailbox.Life, token string) (more bool, err error) {
	err = b.do("recall", func() {
		if b.owner != token {
			return
		}
		for k, e := range b.entries {
			if at, ok := b.due[k.tenant]; ok && at.After(b.now()) && e.LastAttemptMS >= b.recall.UnixMilli() && e.LastAttemptMS > 0 {
				b.due[k.tenant] = b.now()
			}
		}
		b.recall = time.Time{}
	})
	return false, err
}

// BeginAndClaim implements drain.Mailbox.
func (b *box) BeginAndClaim(ctx context.Context, a mailbox.Life, token string, generation int64, want int) (mailbox.BeginResult, mailbox.ExchangeResult, error) {
	return take(ctx, b, a, token, generation, want)
}

// SettleAndFinish implements drain.Mailbox.
func (b *box) SettleAndFinish(ctx context.Context, a mailbox.Life, token string, results []mailbox.Settlement) (mailbox.FinishResult, error) {
	return leave(ctx, b, a, token, results)
}

// singles are a mailbox's single calls.
type singles interface {
	Begin(ctx context.Context, a mailbox.Life, token string, generation int64) (mailbox.BeginResult, error)
	Exchange(ctx context.Context, a mailbox.Life, token string, want int, results []mailbox.Settlement) (mailbox.ExchangeResult, error)
	Finish(ctx context.Context, a mailbox.Life, token string, c mailbox.Closing) (mailbox.FinishResult, error)
}

// take and leave make pairs of single calls, as the store does.
func take(ctx context.Context, s singles, a mailbox.Life, token string, generation int64, want int) (b mailbox.BeginResult, x mailbox.ExchangeResult, err error) {
	b, err = s.Begin(ctx, a, token, generation)
	if err == nil && b.State == mailbox.Owned {
		x, err = s.Exchange(ctx, a, token, want, nil)
	}
	return b, x, err
}

func leave(ctx context.Context, s singles, a mailbox.Life, token string, results []mailbox.Settlement) (mailbox.FinishResult, error) {
	if _, err := s.Exchange(ctx, a, token, 0, results); err != nil {
		return mailbox.FinishResult{}, err
	}
	return s.Finish(ctx, a, token, mailbox.Closing{})
}

// lateBox deposits a tenant's change just before the nth Finish.
type lateBox struct {
	*box
	at map[int]tenant.ID
	n  int
}

func (l *lateBox) Finish(ctx context.Context, a mailbox.Life, token string, c mailbox.Closing) (mailbox.FinishResult, error) {
	l.n++
	if t, ok := l.at[l.n]; ok {
		l.deposit(t, tenant.Suspend)
	}
	return l.box.Finish(ctx, a, token, c)
}

// SettleAndFinish implements drain.Mailbox.
func (l *lateBox) SettleAndFinish(ctx context.Context, a mailbox.Life, token string, results []mailbox.Settlement) (mailbox.FinishResult, error) {
	return leave(ctx, l, a, token, results)
}

// boxes are several apps' mailboxes.
type boxes map[partner.ClientID]*box

// BeginAndClaim implements drain.Mailbox.
func (m boxes) BeginAndClaim(ctx context.Context, a mailbox.Life, token string, generation int64, want int) (mailbox.BeginResult, mailbox.ExchangeResult, error) {
	return m[a.App].BeginAndClaim(ctx, a, token, generation, want)
}

// SettleAndFinish implements drain.Mailbox.
func (m boxes) SettleAndFinish(ctx context.Context, a mailbox.Life, token string, results []mailbox.Settlement) (mailbox.FinishResult, error) {
	return m[a.App].SettleAndFinish(ctx, a, token, results)
}

func (m boxes) RecallFailed(ctx context.Context, a mailbox.Life, token string) (bool, error) {
	return m[a.App].RecallFailed(ctx, a, token)
}

func (m boxes) Exchange(ctx context.Context, a mailbox.Life, token string, want int, results []mailbox.Settlement) (mailbox.ExchangeResult, error) {
	return m[a.App].Exchange(ctx, a, token, want, results)
}

func (m boxes) Finish(ctx context.Context, a mailbox.Life, token string, c mailbox.Closing) (mailbox.FinishResult, error) {
	return m[a.App].Finish(ctx, a, token, c)
}
