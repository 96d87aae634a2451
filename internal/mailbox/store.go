package mailbox

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Store keeps every app's mailbox in Redis. It is safe for concurrent use, holds no state of its
// own, and never retries by itself: every call may be repeated by the caller with the same
// nonce, token and results, whether or not the first was applied.
type Store struct {
	rdb     redis.UniversalClient
	keys    keys.Space
	set     Settings
	scripts scripts
}

// New returns a Store with the given settings, zero times at their defaults.
func New(rdb redis.UniversalClient, k keys.Space, set Settings) *Store {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&set.OwnerLease, DefaultOwnerLease)
	def(&set.EntryLease, DefaultEntryLease)
	def(&set.Horizon, DefaultHorizon)
	def(&set.Grace, DefaultGrace)
	return &Store{rdb: rdb, keys: k, set: set, scripts: load()}
}

// Settings returns the settings in force.
func (s *Store) Settings() Settings { return s.set }

// write runs a script that writes in a life of an app. Where the mailbox still belongs to an earlier life,
// that one is put aside first.
func (s *Store) write(ctx context.Context, sc *redis.Script, life Life, args ...any) *redis.Cmd {
	return s.writeTo(ctx, sc, life, keysOf(s.keys, life.App), args...)
}

// writeTo is write of a script that has keys of its own.
func (s *Store) writeTo(ctx context.Context, sc *redis.Script, life Life, ks []string, args ...any) *redis.Cmd {
	args = append([]any{life.Birth}, args...)
	cmd := sc.Run(ctx, s.rdb, ks, args...)
	if isUnborn(cmd.Err()) {
		if err := s.Born(ctx, life); err != nil {
			cmd.SetErr(err)
			return cmd
		}
		cmd = sc.Run(ctx, s.rdb, ks, args...)
	}
	return cmd
}

func (s *Store) run(ctx context.Context, sc *redis.Script, what string, life Life, args ...any) ([]any, error) {
	v, err := s.write(ctx, sc, life, args...).Slice()
	if err != nil {
		return nil, failure(what, life.App, err)
	}
	return v, nil
}

// Deposit puts snapshots of at most MaxBatch tenants into an app's mailbox. Tenants that are not
// approved, and snapshots no newer than what was deposited, are left out. Where too few replicas
// confirmed it, what was written is returned along with the error: it wakes nobody else.
func (s *Store) Deposit(ctx context.Context, life Life, nonce string, recs []tenant.Record) (Deposited, error) {
	if err := fits("deposit in", life.App, len(recs)); err != nil {
		return Deposited{}, err
	}
	var all Deposited
	for _, piece := range pieces(pointers(recs)) {
		d, err := s.deposited(life.App, s.write(ctx, s.scripts.deposit, life, s.depositArgs(nil, nonce, piece, encodings{})...))
		if all.add(d); err != nil {
			return all, err
		}
	}
	return all, nil
}

func pointers(recs []tenant.Record) []*tenant.Record {
	out := make([]*tenant.Record, len(recs))
	for i := range recs {
		out[i] = &recs[i]
	}
	return out
}

// recordArgs is how many values the deposit of one record takes.
const recordArgs = 2 + 2*tenant.Slots

// encodings keeps what records are deposited as while they are deposited for one app after another.
type encodings map[*tenant.Record]*[recordArgs]any

func (e encodings) of(r *tenant.Record) *[recordArgs]any {
	if args, ok := e[r]; ok {
		return args
	}
	args := &[recordArgs]any{string(r.Tenant), r.Top}
	for slot, h := range r.Heads {
		seq, change := h.Sequence, ""
		if seq != 0 {
			change = encode(r, slot)
		}
		args[2+2*slot], args[3+2*slot] = seq, change
	}
	e[r] = args
	return args
}

func encode(r *tenant.Record, slot int) string {
	text := delivery.EncodeChange(r.Heads[slot].Change)
	if slot == int(tenant.SlotStatus) && r.Silent != nil {
		text += "\n"
		if c := r.Silent.Change; c != nil {
			text += delivery.EncodeChange(*c)
		}
	}
	return text
}

// depositArgs appends the arguments of a deposit to first.
func (s *Store) depositArgs(first []any, nonce string, recs []*tenant.Record, encoded encodings) []any {
	args := slices.Grow(first, 3+recordArgs*len(recs))
	args = append(args, nonce, ms(s.set.Horizon), ms(s.set.Grace))
	for _, r := range recs {
		args = append(args, encoded.of(r)[:]...)
	}
	return args
}

func (s *Store) deposited(app partner.ClientID, cmd *redis.Cmd) (d Deposited, err error) {
	v, err := answered(cmd)
	if len(v) == 4 {
		d = Deposited{Wake: s.wake(v[0], v[1]), Written: int(integer(v[2])), Replaced: int(integer(v[3]))}
	} else if err == nil {
		err = ErrFormat
	}
	return d, failure("deposit in", app, err)
}

// Batch is a deposit for one app among several, which may share records.
type Batch struct {
	Life    Life
	Records []*tenant.Record
}

// depositMany is DepositMany of batches that are one run of the script each: what is sent is made for each round trip, so
// that the memory it takes does not grow with them.
func (s *Store) depositMany(ctx context.Context, nonce string, batches []Batch) ([]Deposited, []error) {
	out, errs := make([]Deposited, len(batches)), make([]error, len(batches))
	calls, at := make([]call, 0, len(batches)), make([]int, 0, len(batches))
	encoded := encodings{}
	for i, b := range batches {
		if errs[i] = fits("deposit in", b.Life.App, len(b.Records)); errs[i] == nil {
			calls, at = append(calls, call{
				life: b.Life, size: 4 + recordArgs*len(b.Records),
				args: func() []any { return s.depositArgs([]any{b.Life.Birth}, nonce, b.Records, encoded) },
			}), append(at, i)
		}
	}
	s.writeMany(ctx, s.scripts.deposit, calls, func(j int, cmd *redis.Cmd) {
		i := at[j]
		out[i], errs[i] = s.deposited(batches[i].Life.App, cmd)
	})
	return out, errs
}

// Dismissals counts how often approvals of an app were taken back; see Approve.
func (s *Store) Dismissals(ctx context.Context, app partner.ClientID) (int64, error) {
	v, err := s.rdb.HMGet(ctx, s.keys.App(app, keys.AppMailbox), "dismissals").Result()
	if err != nil {
		return 0, failure("count dismissals of", app, err)
	}
	return integer(v[0]), nil
}

// Approve admits at most MaxBatch tenants: each absent one is approved and its status will be told
// by the next deposit. It returns how many await that telling.
//
// Dismissals MUST be read before the tops, and is given as since. Where the approval of one of these tenants
// was taken back in between, Approve admits nobody and returns ErrDismissed: with a top from before, a late
// fan-out could tell a status older than one that a post of the former approval brings. The caller
// then reads both anew. The mailbox knows whose approvals the last dismissals took back; where it does not
// reach back to since, any dismissal counts.
func (s *Store) Approve(ctx context.Context, life Life, since int64, ts []Admission) (int, error) {
	return s.admit(ctx, life, "approve", strconv.FormatInt(since, 10), ts)
}

// ApproveNew is Approve of tenants of which none has approved the app: where one has, it admits
// nobody and returns ErrApproved.
func (s *Store) ApproveNew(ctx context.Context, life Life, since int64, ts []Admission) (int, error) {
	return s.admit(ctx, life, "first", strconv.FormatInt(since, 10), ts)
}

// Again asks for the status of approved tenants to be told again by the next deposit. It returns
// how many are approved.
func (s *Store) Again(ctx context.Context, life Life, ts []Admission) (int, error) {
	return s.admit(ctx, life, "resync", "", ts)
}

// foundApproval is admit's answer to ApproveFirst where a tenant has approved the app.
const foundApproval = -2

func (s *Store) admit(ctx context.Context, life Life, mode, since string, ts []Admission) (int, error) {
	if err := fits("admit tenants to", life.App, len(ts)); err != nil {
		return 0, err
	}
	args := make([]any, 0, 2+2*len(ts))
	args = append(args, mode, since)
	for _, a := range ts {
		args = append(args, string(a.Tenant), a.Top)
	}
	n, err := counted(s.writeTo(ctx, s.scripts.admit, life, s.dismissedKeys(life.App), args...))
	switch {
	case err != nil || n >= 0:
		return max(n, 0), failure("admit tenants to", life.App, err)
	case n == foundApproval:
		return 0, failure("admit tenants to", life.App, ErrApproved)
	default:
		return 0, failure("admit tenants to", life.App, ErrDismissed)
	}
}

// Dismiss takes approvals of at most MaxBatch tenants back and removes what waits for them. What is in flight ends by itself.
func (s *Store) Dismiss(ctx context.Context, life Life, ts []tenant.ID) (int, error) {
	if err := fits("dismiss tenants from", life.App, len(ts)); err != nil {
		return 0, err
	}
	args := append([]any{dismissedMost, int(dismissedFor.Seconds())}, texts(ts)...)
	n, err := counted(s.writeTo(ctx, s.scripts.dismiss, life, s.dismissedKeys(life.App), args...))
	return n, failure("dismiss tenants from", life.App, err)
}

// How many tenants whose approvals were taken back last are known, and for how long: an approval reads tops for
// some milliseconds. The key expires in one go, so it must stay small.
const (
	dismissedMost = 2000
	dismissedFor  = time.Minute
)

// dismissedKeys are the keys of the scripts that look at who was dismissed.
func (s *Store) dismissedKeys(app partner.ClientID) []string {
	return append(keysOf(s.keys, app), s.keys.App(app, keys.AppDismissed))
}

// Begin takes the mailbox for a drainer. The token MUST be unique to this run; gen is the
// generation that woke it, 0 for none.
func (s *Store) Begin(ctx context.Context, life Life, token string, gen int64) (Begun, error) {
	v, err := s.run(ctx, s.scripts.begin, "begin", life, s.beginArgs(token, gen)...)
	if err != nil {
		return Begun{}, err
	}
	return s.begun(life.App, v)
}

func (s *Store) beginArgs(token string, gen int64) []any {
	return []any{token, strconv.FormatInt(gen, 10), ms(s.set.OwnerLease), ms(s.set.Horizon), ms(s.set.Grace)}
}

func (s *Store) begun(app partner.ClientID, v []any) (Begun, error) {
	switch {
	case len(v) == 7 && v[0] == "owner":
		b := Begun{
			State: Owned, Probes: int(min(max(integer(v[1]), 0), MaxBatch)), Openings: int(integer(v[2])), Sole: v[4] == "1", Refusing: v[5] == "1", Recall: v[6] == "1",
		}
		if held := integer(v[3]); held > 0 {
			b.HeldUntil = time.UnixMilli(held).UTC()
		}
		return b, nil
	case len(v) == 1 && v[0] == "busy":
		return Begun{State: Busy}, nil
	case len(v) == 1 && v[0] == "off":
		return Begun{State: Off}, nil
	case len(v) == 3 && v[0] == "gated":
		return Begun{State: Gated, Wake: s.wake(v[1], v[2])}, nil
	default:
		return Begun{}, failure("begin", app, ErrFormat)
	}
}

// Exchange hands in at most MaxBatch results and claims up to want (at most MaxBatch) tenants.
//
// On an error nothing is known of it: the caller repeats it with the same results, or lets the
// claims' leases run out.
func (s *Store) Exchange(ctx context.Context, life Life, token string, want int, results []Settlement) (Exchanged, error) {
	if err := fits("exchange with", life.App, len(results)); err != nil {
		return Exchanged{}, err
	}
	if len(results) > 0 && len(results)+want > exchangeMost { // results, then claims, in one round trip
		_, second, err := s.pair(ctx, life, "exchange",
			step{s.scripts.exchange, s.exchangeArgs(token, 0, results)}, step{s.scripts.exchange, s.exchangeArgs(token, want, nil)}, nil)
		if err != nil {
			return Exchanged{}, err
		}
		return exchanged(life.App, second)
	}
	v, err := s.run(ctx, s.scripts.exchange, "exchange with", life, s.exchangeArgs(token, want, results)...)
	if err != nil {
		return Exchanged{}, err
	}
	return exchanged(life.App, v)
}

func (s *Store) exchangeArgs(token string, want int, results []Settlement) []any {
	args := make([]any, 0, 4+8*len(results))
	args = append(args, token, min(want, MaxBatch), ms(s.set.OwnerLease), ms(s.set.EntryLease))
	for _, r := range results {
		step := 0
		if r.Step {
			step = 1
		}
		args = append(args, string(r.Claim.Tenant), r.Claim.Slot.String(), strconv.FormatInt(r.Claim.Entry.Version, 10), r.Claim.Stamp,
			kindOf(r), ms(r.Delay), step, int(r.Reason))
	}
	return args
}

// kindOf is a settlement's letter in the script.
func kindOf(r Settlement) string {
	switch {
	case r.Verdict == OK:
		return "o"
	case r.Verdict == Release:
		return "r"
	case r.Well:
		return "w"
	default:
		return "f"
	}
}

func exchanged(app partner.ClientID, v []any) (Exchanged, error) {
	if len(v) == 1 && v[0] == "lost" {
		return Exchanged{}, nil
	}
	if len(v) < 2 || (len(v)-2)%3 != 0 {
		return Exchanged{}, failure("exchange with", app, ErrFormat)
	}
	x := Exchanged{Owner: true, Off: v[0] == "off", Outdated: v[0] == "outdated"}
	stamp := integer(v[1])
	x.Claims = make([]Claim, 0, (len(v)-2)/3)
	for i := 2; i < len(v); i += 3 {
		t, slotName, text := tenant.ID(str(v[i])), str(v[i+1]), str(v[i+2])
		slot, ok := tenant.ParseSlot(slotName)
		e, err := delivery.ParseEntry(text)
		if !ok || err != nil {
			x.Unreadable = append(x.Unreadable, t)
			continue
		}
		x.Claims = append(x.Claims, Claim{Tenant: t, Slot: slot, Stamp: stamp, Entry: e})
	}
	return x, nil
}

// Finish gives the mailbox back.
func (s *Store) Finish(ctx context.Context, life Life, token string, c Closing) (Finished, error) {
	args := append([]any{life.Birth}, s.finishArgs(token, c)...)
	v, err := s.scripts.finish.EvalSha(ctx, s.rdb, keysOf(s.keys, life.App), args...).Slice()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		if err := s.loadPair(ctx); err != nil {
			return Finished{}, failure("finish", life.App, err)
		}
		v, err = s.scripts.finish.EvalSha(ctx, s.rdb, keysOf(s.keys, life.App), args...).Slice()
	}
	if isUnborn(err) { // it lost what Begin wrote
		return Finished{State: Lost}, nil
	}
	if err != nil {
		return Finished{}, failure("finish", life.App, err)
	}
	return s.finished(life.App, v)
}

func (s *Store) finishArgs(token string, c Closing) []any {
	off := ""
	if c.OffRevision > 0 {
		off = strconv.FormatInt(c.OffRevision, 10)
	}
	refusing := ""
	if !c.Refusing.IsZero() {
		refusing = strconv.FormatInt(c.Refusing.UnixMilli(), 10)
	}
	return []any{token, flag(c.Force), ms(c.Gate), off, ms(s.set.Horizon), ms(s.set.Grace), c.Probes, refusing}
}

func (s *Store) finished(app partner.ClientID, v []any) (Finished, error) {
	switch {
	case len(v) == 1 && v[0] == "lost":
		return Finished{State: Lost}, nil
	case len(v) == 1 && v[0] == "more":
		return Finished{State: More}, nil
	case len(v) == 4 && v[0] == "done":
		return Finished{State: Done, Wake: s.wake(v[1], v[2]), Outdated: v[3] == "1"}, nil
	default:
		return Finished{}, failure("finish", app, ErrFormat)
	}
}

// Beat renews the owner's lease; false means that the mailbox belongs to another.
func (s *Store) Beat(ctx context.Context, life Life, token string) (bool, error) {
	n, err := s.write(ctx, s.scripts.beat, life, token, ms(s.set.OwnerLease)).Int()
	return n == 1, failure("beat", life.App, err)
}

// Switch tells a mailbox whether its endpoint is on. Revisions older than the last are ignored.
func (s *Store) Switch(ctx context.Context, nonce string, sw Switch) (Wake, error) {
	v, err := s.run(ctx, s.scripts.change, "switch", sw.Life, s.switchArgs(nonce, sw, false)...)
	return s.wakeOf(v, err)
}

func (s *Store) switchArgs(nonce string, sw Switch, sweep bool) []any {
	return []any{nonce, sw.Revision, flag(sw.On), sw.EndpointRevision, ms(s.set.Horizon), ms(s.set.Grace), flag(sweep)}
}

// Sweep repairs what time alone breaks: it arms the wake-ups of mailboxes whose owner, wake-up or
// horizon ran out, and switches those that missed a switch. One round trip for all apps given;
// wake-ups and errors stand at their app's index.
func (s *Store) Sweep(ctx context.Context, nonce string, apps []Switch) ([]Wake, []error) {
	out, errs := make([]Wake, len(apps)), make([]error, len(apps))
	calls := make([]call, len(apps))
	for i, a := range apps {
		calls[i] = callOf(a.Life, append([]any{a.Life.Birth}, s.switchArgs(nonce, a, true)...)...)
	}
	s.writeMany(ctx, s.scripts.change, calls, func(i int, cmd *redis.Cmd) {
		v, err := cmd.Slice()
		out[i], errs[i] = s.wakeOf(v, failure("sweep", apps[i].Life.App, err))
	})
	return out, errs
}

// Open lets a closed gate run out at once.
func (s *Store) Open(ctx context.Context, life Life, nonce string) (Wake, error) {
	v, err := s.run(ctx, s.scripts.open, "open gate of", life, nonce, ms(s.set.Horizon), ms(s.set.Grace))
	return s.wakeOf(v, err)
}

func (s *Store) wakeOf(v []any, err error) (Wake, error) {
	if err != nil {
		return Wake{}, err
	}
	if len(v) != 2 {
		return Wake{}, ErrFormat
	}
	return s.wake(v[0], v[1]), nil
}

func (s *Store) wake(gen, in any) Wake {
	return Wake{Generation: integer(gen), Delay: time.Duration(integer(in)) * time.Millisecond}
}

func ms(d time.Duration) int64 { return d.Milliseconds() }

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func str(v any) string {
	s, _ := v.(string)
	return s
}

// integer reads a script's number, which comes as an integer or as text.
func integer(v any) int64 {
	switch n := v.(type) {
	case int64:
		return n
	case string:
		i, err := strconv.ParseInt(strings.TrimSuffix(n, ".0"), 10, 64)
		if err != nil {
			return 0
		}
		return i
	default:
		return 0
	}
}

func texts(ts []tenant.ID) []any {
	out := make([]any, len(ts))
	for i, t := range ts {
		out[i] = string(t)
	}
	return out
}
