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

// Store keeps every app's mailbox in Redis. It is safe for concurrent use, has no state of its own, and does not retry. The
// caller may repeat every call with the same nonce, token and results, whether or not the first one was applied.
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
	return &Store{rdb: rdb, keys: k, set: set, scripts: loadScripts()}
}

// Settings returns the settings in force.
func (s *Store) Settings() Settings { return s.set }

// runInLife runs a script that writes in a life of an app. If the mailbox still belongs to an earlier life, BeginLife puts that
// one aside first.
func (s *Store) runInLife(ctx context.Context, sc *redis.Script, life Life, args ...any) *redis.Cmd {
	return s.runInLifeWithKeys(ctx, sc, life, mailboxKeys(s.keys, life.App), args...)
}

// runInLifeWithKeys is runInLife for a script that has keys of its own.
func (s *Store) runInLifeWithKeys(ctx context.Context, sc *redis.Script, life Life, ks []string, args ...any) *redis.Cmd {
	args = append([]any{life.Birth}, args...)
	cmd := sc.Run(ctx, s.rdb, ks, args...)
	if isUnborn(cmd.Err()) {
		if err := s.BeginLife(ctx, life); err != nil {
			cmd.SetErr(err)
			return cmd
		}
		cmd = sc.Run(ctx, s.rdb, ks, args...)
	}
	return cmd
}

func (s *Store) runScript(ctx context.Context, sc *redis.Script, what string, life Life, args ...any) ([]any, error) {
	v, err := s.runInLife(ctx, sc, life, args...).Slice()
	if err != nil {
		return nil, wrapError(what, life.App, err)
	}
	return v, nil
}

// Deposit puts snapshots of at most MaxBatch tenants into an app's mailbox. Tenants that are not approved, and snapshots no newer
// than what was deposited, are left out. If too few replicas confirmed the write, the result is returned along with the error. Its
// wake-up must still be enqueued: no other caller gets it.
func (s *Store) Deposit(ctx context.Context, life Life, nonce string, recs []tenant.Record) (DepositResult, error) {
	if err := checkBatchSize("deposit in", life.App, len(recs)); err != nil {
		return DepositResult{}, err
	}
	var all DepositResult
	for _, piece := range splitRecords(toPointers(recs)) {
		d, err := s.decodeDeposit(life.App, s.runInLife(ctx, s.scripts.deposit, life, s.depositArgs(nil, nonce, piece, encodings{})...))
		if all.add(d); err != nil {
			return all, err
		}
	}
	return all, nil
}

func toPointers(recs []tenant.Record) []*tenant.Record {
	out := make([]*tenant.Record, len(recs))
	for i := range recs {
		out[i] = &recs[i]
	}
	return out
}

// recordArgs is how many arguments the deposit of one record takes.
const recordArgs = 2 + 2*tenant.Slots

// encodings caches encoded records while they are deposited for one app after another.
type encodings map[*tenant.Record]*[recordArgs]any

func (e encodings) encodeRecord(r *tenant.Record) *[recordArgs]any {
	if args, ok := e[r]; ok {
		return args
	}
	args := &[recordArgs]any{string(r.Tenant), r.Top}
	for slot, h := range r.Heads {
		seq, change := h.Sequence, ""
		if seq != 0 {
			change = encodeSlot(r, slot)
		}
		args[2+2*slot], args[3+2*slot] = seq, change
	}
	e[r] = args
	return args
}

func encodeSlot(r *tenant.Record, slot int) string {
	text := delivery.EncodeChange(r.Heads[slot].Change)
	if slot == int(tenant.SlotStatus) && r.Unreported != nil {
		text += "\n"
		if c := r.Unreported.Change; c != nil {
			text += delivery.EncodeChange(*c)
		}
	}
	return text
}

// depositArgs appends the arguments of a deposit to first.
func (s *Store) depositArgs(first []any, nonce string, recs []*tenant.Record, encoded encodings) []any {
	args := slices.Grow(first, 3+recordArgs*len(recs))
	args = append(args, nonce, durationMillis(s.set.Horizon), durationMillis(s.set.Grace))
	for _, r := range recs {
		args = append(args, encoded.encodeRecord(r)[:]...)
	}
	return args
}

func (s *Store) decodeDeposit(app partner.ClientID, cmd *redis.Cmd) (d DepositResult, err error) {
	v, err := readSliceAnswer(cmd)
	if len(v) == 4 {
		d = DepositResult{Wake: s.newWake(v[0], v[1]), Written: int(asInteger(v[2])), Replaced: int(asInteger(v[3]))}
	} else if err == nil {
		err = ErrFormat
	}
	return d, wrapError("deposit in", app, err)
}

// Batch is a deposit for one app among several, which may share records.
type Batch struct {
	Life    Life
	Records []*tenant.Record
}

// depositMany is DepositMany for batches that are one run of the script each. The arguments are made for each round trip, so that
// the memory they take does not grow with the number of batches.
func (s *Store) depositMany(ctx context.Context, nonce string, batches []Batch) ([]DepositResult, []error) {
	out, errs := make([]DepositResult, len(batches)), make([]error, len(batches))
	calls, at := make([]call, 0, len(batches)), make([]int, 0, len(batches))
	encoded := encodings{}
	for i, b := range batches {
		if errs[i] = checkBatchSize("deposit in", b.Life.App, len(b.Records)); errs[i] == nil {
			calls, at = append(calls, call{
				life: b.Life, size: 4 + recordArgs*len(b.Records),
				args: func() []any { return s.depositArgs([]any{b.Life.Birth}, nonce, b.Records, encoded) },
			}), append(at, i)
		}
	}
	s.runManyInLife(ctx, s.scripts.deposit, calls, func(j int, cmd *redis.Cmd) {
		i := at[j]
		out[i], errs[i] = s.decodeDeposit(batches[i].Life.App, cmd)
	})
	return out, errs
}

// Dismissals counts how often approvals of an app were withdrawn; see Approve.
func (s *Store) Dismissals(ctx context.Context, app partner.ClientID) (int64, error) {
	v, err := s.rdb.HMGet(ctx, s.keys.App(app, keys.AppMailbox), "dismissals").Result()
	if err != nil {
		return 0, wrapError("count dismissals of", app, err)
	}
	return asInteger(v[0]), nil
}

// Approve admits at most MaxBatch tenants: each absent one is approved, and its status is deposited by the next deposit. It
// returns how many wait for that deposit.
//
// The caller MUST read Dismissals before the tops, and pass the count as since. If the approval of one of these tenants was
// withdrawn in between, Approve admits no tenant and returns ErrDismissed. With a top from before, a late fan-out could deposit a
// status older than one that an attempt of the former approval delivers. The caller then reads both again. The mailbox knows the
// tenants of the last dismissals; if these do not reach back to since, any dismissal counts.
func (s *Store) Approve(ctx context.Context, life Life, since int64, ts []Admission) (int, error) {
	return s.admitTenants(ctx, life, "approve", strconv.FormatInt(since, 10), ts)
}

// ApproveNew is Approve for tenants of which none has approved the app. If one has, it admits none and returns ErrApproved.
func (s *Store) ApproveNew(ctx context.Context, life Life, since int64, ts []Admission) (int, error) {
	return s.admitTenants(ctx, life, "first", strconv.FormatInt(since, 10), ts)
}

// RequestResync requests that the next deposit deposits the status of approved tenants again. It returns how many of them are
// approved.
func (s *Store) RequestResync(ctx context.Context, life Life, ts []Admission) (int, error) {
	return s.admitTenants(ctx, life, "resync", "", ts)
}

// foundApproval is the answer of admit to ApproveNew if a tenant has approved the app.
const foundApproval = -2

func (s *Store) admitTenants(ctx context.Context, life Life, mode, since string, ts []Admission) (int, error) {
	if err := checkBatchSize("admit tenants to", life.App, len(ts)); err != nil {
		return 0, err
	}
	args := make([]any, 0, 2+2*len(ts))
	args = append(args, mode, since)
	for _, a := range ts {
		args = append(args, string(a.Tenant), a.Top)
	}
	n, err := readCountAnswer(s.runInLifeWithKeys(ctx, s.scripts.admit, life, s.dismissedKeys(life.App), args...))
	switch {
	case err != nil || n >= 0:
		return max(n, 0), wrapError("admit tenants to", life.App, err)
	case n == foundApproval:
		return 0, wrapError("admit tenants to", life.App, ErrApproved)
	default:
		return 0, wrapError("admit tenants to", life.App, ErrDismissed)
	}
}

// Dismiss withdraws approvals of at most MaxBatch tenants and removes what is pending for them. It returns how many approvals
// there were. An attempt in flight ends by itself.
func (s *Store) Dismiss(ctx context.Context, life Life, ts []tenant.ID) (int, error) {
	if err := checkBatchSize("dismiss tenants from", life.App, len(ts)); err != nil {
		return 0, err
	}
	args := append([]any{dismissedMost, int(dismissedFor.Seconds())}, toScriptArgs(ts)...)
	n, err := readCountAnswer(s.runInLifeWithKeys(ctx, s.scripts.dismiss, life, s.dismissedKeys(life.App), args...))
	return n, wrapError("dismiss tenants from", life.App, err)
}

// How many tenants of the last dismissals are kept, and for how long: an approval reads tops within some milliseconds. The whole
// key is deleted at once when it expires, so it must stay small.
const (
	dismissedMost = 2000
	dismissedFor  = time.Minute
)

// dismissedKeys are the keys of the scripts that read or write dismissals.
func (s *Store) dismissedKeys(app partner.ClientID) []string {
	return append(mailboxKeys(s.keys, app), s.keys.App(app, keys.AppDismissed))
}

// Begin takes the mailbox for a drainer. The token MUST be unique to this run; gen is the generation of the wake-up that started
// it, 0 for none.
func (s *Store) Begin(ctx context.Context, life Life, token string, gen int64) (BeginResult, error) {
	v, err := s.runScript(ctx, s.scripts.begin, "begin", life, s.beginArgs(token, gen)...)
	if err != nil {
		return BeginResult{}, err
	}
	return s.decodeBegin(life.App, v)
}

func (s *Store) beginArgs(token string, gen int64) []any {
	return []any{token, strconv.FormatInt(gen, 10), durationMillis(s.set.OwnerLease), durationMillis(s.set.Horizon), durationMillis(s.set.Grace)}
}

func (s *Store) decodeBegin(app partner.ClientID, v []any) (BeginResult, error) {
	switch {
	case len(v) == 7 && v[0] == "owner":
		b := BeginResult{
			State: Owned, Probes: int(min(max(asInteger(v[1]), 0), MaxBatch)), Openings: int(asInteger(v[2])), Sole: v[4] == "1", Refusing: v[5] == "1", Recall: v[6] == "1",
		}
		if held := asInteger(v[3]); held > 0 {
			b.HeldUntil = time.UnixMilli(held).UTC()
		}
		return b, nil
	case len(v) == 1 && v[0] == "busy":
		return BeginResult{State: Busy}, nil
	case len(v) == 1 && v[0] == "off":
		return BeginResult{State: Off}, nil
	case len(v) == 3 && v[0] == "gated":
		return BeginResult{State: CircuitOpen, Wake: s.newWake(v[1], v[2])}, nil
	default:
		return BeginResult{}, wrapError("begin", app, ErrFormat)
	}
}

// Exchange settles at most MaxBatch results and claims up to want (at most MaxBatch) tenants.
//
// After an error it is unknown whether the call was applied. The caller repeats it with the same results, or lets the claims'
// leases expire.
func (s *Store) Exchange(ctx context.Context, life Life, token string, want int, results []Settlement) (ExchangeResult, error) {
	if err := checkBatchSize("exchange with", life.App, len(results)); err != nil {
		return ExchangeResult{}, err
	}
	if len(results) > 0 && len(results)+want > exchangeMost { // results, then claims, in one round trip
		_, second, err := s.runPair(ctx, life, "exchange",
			scriptRun{s.scripts.exchange, s.exchangeArgs(token, 0, results)}, scriptRun{s.scripts.exchange, s.exchangeArgs(token, want, nil)}, nil)
		if err != nil {
			return ExchangeResult{}, err
		}
		return decodeExchange(life.App, second)
	}
	v, err := s.runScript(ctx, s.scripts.exchange, "exchange with", life, s.exchangeArgs(token, want, results)...)
	if err != nil {
		return ExchangeResult{}, err
	}
	return decodeExchange(life.App, v)
}

func (s *Store) exchangeArgs(token string, want int, results []Settlement) []any {
	args := make([]any, 0, 4+8*len(results))
	args = append(args, token, min(want, MaxBatch), durationMillis(s.set.OwnerLease), durationMillis(s.set.EntryLease))
	for _, r := range results {
		step := 0
		if r.Step {
			step = 1
		}
		args = append(args, string(r.Claim.Tenant), r.Claim.Slot.String(), strconv.FormatInt(r.Claim.Entry.Version, 10), r.Claim.Stamp,
			settlementCode(r), durationMillis(r.Delay), step, int(r.Reason))
	}
	return args
}

// settlementCode is a settlement's letter in the script exchange.
func settlementCode(r Settlement) string {
	switch {
	case r.Result == OK:
		return "o"
	case r.Result == Release:
		return "r"
	case r.Well:
		return "w"
	default:
		return "f"
	}
}

func decodeExchange(app partner.ClientID, v []any) (ExchangeResult, error) {
	if len(v) == 1 && v[0] == "lost" {
		return ExchangeResult{}, nil
	}
	if len(v) < 3 || len(v)%3 != 0 {
		return ExchangeResult{}, wrapError("exchange with", app, ErrFormat)
	}
	x := ExchangeResult{Owner: true, Off: v[0] == "off", Outdated: v[0] == "outdated", Left: int(asInteger(v[2]))}
	stamp := asInteger(v[1])
	x.Claims = make([]Claim, 0, len(v)/3-1)
	for i := 3; i < len(v); i += 3 {
		t, slotName, text := tenant.ID(asString(v[i])), asString(v[i+1]), asString(v[i+2])
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
func (s *Store) Finish(ctx context.Context, life Life, token string, c Closing) (FinishResult, error) {
	args := append([]any{life.Birth}, s.finishArgs(token, c)...)
	v, err := s.scripts.finish.EvalSha(ctx, s.rdb, mailboxKeys(s.keys, life.App), args...).Slice()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		if err := s.loadFinishScripts(ctx); err != nil {
			return FinishResult{}, wrapError("finish", life.App, err)
		}
		v, err = s.scripts.finish.EvalSha(ctx, s.rdb, mailboxKeys(s.keys, life.App), args...).Slice()
	}
	if isUnborn(err) { // Redis lost what Begin wrote
		return FinishResult{State: Lost}, nil
	}
	if err != nil {
		return FinishResult{}, wrapError("finish", life.App, err)
	}
	return s.decodeFinish(life.App, v)
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
	return []any{token, formatFlag(c.Force), durationMillis(c.Cooldown), off, durationMillis(s.set.Horizon), durationMillis(s.set.Grace), c.Probes, refusing}
}

func (s *Store) decodeFinish(app partner.ClientID, v []any) (FinishResult, error) {
	switch {
	case len(v) == 1 && v[0] == "lost":
		return FinishResult{State: Lost}, nil
	case len(v) == 1 && v[0] == "more":
		return FinishResult{State: More}, nil
	case len(v) == 4 && v[0] == "done":
		return FinishResult{State: Done, Wake: s.newWake(v[1], v[2]), Outdated: v[3] == "1"}, nil
	default:
		return FinishResult{}, wrapError("finish", app, ErrFormat)
	}
}

// RenewLease renews the owner's lease; false means that another process owns the mailbox.
func (s *Store) RenewLease(ctx context.Context, life Life, token string) (bool, error) {
	n, err := s.runInLife(ctx, s.scripts.beat, life, token, durationMillis(s.set.OwnerLease)).Int()
	return n == 1, wrapError("beat", life.App, err)
}

// ApplySwitch sets whether the mailbox's endpoint is on. A revision older than the last one is ignored.
func (s *Store) ApplySwitch(ctx context.Context, nonce string, sw Switch) (Wake, error) {
	v, err := s.runScript(ctx, s.scripts.change, "switch", sw.Life, s.switchArgs(nonce, sw, false)...)
	return s.decodeWake(v, err)
}

func (s *Store) switchArgs(nonce string, sw Switch, sweep bool) []any {
	return []any{nonce, sw.Revision, formatFlag(sw.On), sw.EndpointRevision, durationMillis(s.set.Horizon), durationMillis(s.set.Grace), formatFlag(sweep)}
}

// RepairWakeUps arms the wake-ups of mailboxes whose owner or wake-up was lost or that came within the horizon, and applies the
// switch to those that missed one. It uses one round trip for all given apps if they are not too many. Wake-ups and errors are at
// their app's index.
func (s *Store) RepairWakeUps(ctx context.Context, nonce string, apps []Switch) ([]Wake, []error) {
	out, errs := make([]Wake, len(apps)), make([]error, len(apps))
	calls := make([]call, len(apps))
	for i, a := range apps {
		calls[i] = newCall(a.Life, append([]any{a.Life.Birth}, s.switchArgs(nonce, a, true)...)...)
	}
	s.runManyInLife(ctx, s.scripts.change, calls, func(i int, cmd *redis.Cmd) {
		v, err := cmd.Slice()
		out[i], errs[i] = s.decodeWake(v, wrapError("sweep", apps[i].Life.App, err))
	})
	return out, errs
}

// EndCooldown ends the cool-down of an open circuit, and is an opening.
func (s *Store) EndCooldown(ctx context.Context, life Life, nonce string) (Wake, error) {
	v, err := s.runScript(ctx, s.scripts.open, "end the cool-down of", life, nonce, durationMillis(s.set.Horizon), durationMillis(s.set.Grace))
	return s.decodeWake(v, err)
}

func (s *Store) decodeWake(v []any, err error) (Wake, error) {
	if err != nil {
		return Wake{}, err
	}
	if len(v) != 2 {
		return Wake{}, ErrFormat
	}
	return s.newWake(v[0], v[1]), nil
}

func (s *Store) newWake(gen, in any) Wake {
	return Wake{Generation: asInteger(gen), Delay: time.Duration(asInteger(in)) * time.Millisecond}
}

func durationMillis(d time.Duration) int64 { return d.Milliseconds() }

func formatFlag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func asString(v any) string {
	s, _ := v.(string)
	return s
}

// asInteger converts a script's number, which is an integer or a string.
func asInteger(v any) int64 {
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

func toScriptArgs(ts []tenant.ID) []any {
	out := make([]any, len(ts))
	for i, t := range ts {
		out[i] = string(t)
	}
	return out
}
