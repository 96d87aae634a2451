package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// changesMax is how many changes of a tenant are listed at most.
const changesMax = 1000

// The scripts of intake.
var (
	acceptChange = newScript("accept")
	bindKey      = newScript("bind")
)

// errSequence reports a stored answer that accept.lua did not write.
var errSequence = errors.New("no sequence and number of apps")

// ownKeyKeep is how long the answer to a change without an idempotency key is kept. It is longer than the client library repeats
// a call whose answer it did not get.
const ownKeyKeep = time.Minute

// listWithin bounds the second listing, which is done even if the caller has disconnected.
const listWithin = 5 * time.Second

// AcceptResult is the answer to one ChangeRequest.
type AcceptResult struct {
	Accepted Accepted
	// Err says why the change is not accepted. ErrOutOfOrder: it never will be. ErrUndecided: an earlier change of the tenant in
	// the same call is not decided. After any other error it is unknown whether the change was written. A repeat with the same
	// idempotency key is safe.
	Err error
}

// Accept stores changes, those of one tenant in the given order, and returns the result of each at its index. A result without
// error is durable: the tenant's status, the newest change of its slot and the mark of a pending fan-out were written in one
// step, and the list of pending fan-outs holds the tenant. If Accept returns an error, nothing was accepted, and there are no
// results.
//
// After a change that is not decided, no later change of its tenant is tried: a repeat of the first would otherwise come after
// the later one.
//
// The list and the record are in different slots, so the list is written twice. The first time is before the record, because a
// crash after accepting must not hide the tenant from the sweep. The second time is after it, because a fan-out of an older
// change may remove the tenant from the list in between. So every tenant of which something may have been written is listed
// again, whatever the result. A change whose second listing fails is not returned as accepted.
func (s *Store) Accept(ctx context.Context, reqs []ChangeRequest) ([]AcceptResult, error) {
	if len(reqs) == 0 {
		return nil, nil
	}
	rounds, tenants := splitIntoRounds(reqs)
	if err := s.addPendingFanouts(ctx, s.rdb, tenants); err != nil {
		return nil, err
	}
	results := make([]AcceptResult, len(reqs))
	undecided := map[tenant.ID]bool{}
	nonce := s.nonce()
	for _, round := range rounds {
		s.acceptRound(ctx, reqs, round, nonce, undecided, results)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listWithin)
	defer cancel()
	if err := s.addPendingFanouts(ctx, s.durable, listWrittenTenants(tenants, reqs, results)); err != nil {
		for i := range results {
			if results[i].Err == nil {
				results[i] = AcceptResult{Err: err}
			}
		}
	}
	return results, nil
}

// acceptRound tries the requests of one round, except those of undecided tenants. It adds the tenants that are undecided now.
func (s *Store) acceptRound(ctx context.Context, reqs []ChangeRequest, round []int, nonce string, undecided map[tenant.ID]bool, results []AcceptResult) {
	tried := make([]int, 0, len(round))
	calls := make([]call, 0, len(round))
	for _, at := range round {
		if undecided[reqs[at].Tenant] {
			results[at].Err = fmt.Errorf("accept change of tenant %s: %w", reqs[at].Tenant, ErrUndecided)
			continue
		}
		tried = append(tried, at)
		calls = append(calls, s.newAcceptCall(&reqs[at], nonce+"."+strconv.Itoa(at)))
	}
	for i, cmd := range acceptChange.runMany(ctx, s.durable, calls) {
		at := tried[i]
		results[at] = decodeAcceptAnswer(&reqs[at], cmd)
		if err := results[at].Err; err != nil && !errors.Is(err, ErrOutOfOrder) {
			undecided[reqs[at].Tenant] = true
		}
	}
}

// splitIntoRounds splits requests into rounds of distinct tenants, because calls of one pipeline may be repeated in another
// order. It also lists the tenants.
func splitIntoRounds(reqs []ChangeRequest) (rounds [][]int, tenants []tenant.ID) {
	seen := make(map[tenant.ID]int, len(reqs))
	for i := range reqs {
		id := reqs[i].Tenant
		n := seen[id]
		if n == 0 {
			tenants = append(tenants, id)
		}
		if n == len(rounds) {
			rounds = append(rounds, make([]int, 0, len(reqs)-i))
		}
		rounds[n] = append(rounds[n], i)
		seen[id] = n + 1
	}
	return rounds, tenants
}

// listWrittenTenants lists the tenants of which something may have been written. If every change of a tenant was refused with
// ErrOutOfOrder, nothing was.
func listWrittenTenants(tenants []tenant.ID, reqs []ChangeRequest, results []AcceptResult) []tenant.ID {
	may := make(map[tenant.ID]bool, len(tenants))
	for i := range results {
		if !errors.Is(results[i].Err, ErrOutOfOrder) {
			may[reqs[i].Tenant] = true
		}
	}
	return slices.DeleteFunc(tenants, func(id tenant.ID) bool { return !may[id] })
}

// newAcceptCall makes the script's call for one request; own is the server's key for a request without a key.
func (s *Store) newAcceptCall(r *ChangeRequest, own string) call {
	name, keep := own, ownKeyKeep
	if r.IdempotencyKey != "" {
		name, keep = hashIdempotencyKey(r.IdempotencyKey, r.Line), s.opts.IdempotencyKeep
	}
	ks := []string{
		s.keys.Tenant(r.Tenant, keys.TenantRecord), s.keys.Tenant(r.Tenant, keys.TenantApprovals),
		s.keys.Tenant(r.Tenant, keys.TenantChanges), s.keys.Tenant(r.Tenant, keys.TenantAnswers) + ":" + name,
	}
	state := ""
	if st, alters := r.Type.ResultingState(); alters {
		state = st.String()
	}
	empties := "0"
	if r.Type == tenant.Delete {
		empties = "1"
	}
	return call{keys: ks, args: []any{
		string(r.Tenant), int(r.Type), r.Type.Slot().String(), state, encodeOptional(r.VersionName), encodeOptional(r.FileVersion),
		r.PublicEndpoint, toMillis(r.OccurredAt), r.SourceSequence, keep.Milliseconds(),
		s.opts.ChangesKeep.Milliseconds(), changesMax, empties,
	}}
}

// encodeOptional encodes an optional value: "" for nil, otherwise "=" and the value.
func encodeOptional(v *string) string {
	if v == nil {
		return ""
	}
	return "=" + *v
}

// hashIdempotencyKey replaces an idempotency key and its line by a digest, so that no characters of the caller appear in a key of
// Redis.
func hashIdempotencyKey(key string, line int) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(line) + ";" + key))
	return hex.EncodeToString(sum[:16])
}

// The first item of the answer of accept.lua.
const (
	answeredNew = iota
	answeredBefore
	answeredOutOfOrder
)

// decodeAcceptAnswer decodes the script's answer to a request.
func decodeAcceptAnswer(r *ChangeRequest, cmd *redis.Cmd) AcceptResult {
	v, err := cmd.Slice()
	if err != nil {
		return AcceptResult{Err: wrapError(err, "accept change of tenant %s", r.Tenant)}
	}
	if len(v) != 2 {
		return AcceptResult{Err: newAnswerError(acceptChange, v)}
	}
	how, ok1 := v[0].(int64)
	text, ok2 := v[1].(string)
	switch {
	case !ok1 || !ok2 || how < answeredNew || how > answeredOutOfOrder:
		return AcceptResult{Err: newAnswerError(acceptChange, v)}
	case how == answeredOutOfOrder:
		return AcceptResult{Err: fmt.Errorf("accept change of tenant %s: %w", r.Tenant, ErrOutOfOrder)}
	}
	a, err := decodeAccepted(r.Tenant, text)
	// without a key of the caller, the repeat is the client library's, within this call
	a.Replayed = err == nil && how == answeredBefore && r.IdempotencyKey != ""
	return AcceptResult{Accepted: a, Err: err}
}

// decodeAccepted parses "<sequence>;<apps>".
func decodeAccepted(id tenant.ID, text string) (Accepted, error) {
	first, second, _ := strings.Cut(text, ";")
	sequence, err1 := strconv.ParseInt(first, 10, 64)
	apps, err2 := strconv.Atoi(second)
	if err1 != nil || err2 != nil || sequence <= 0 || apps < 0 {
		return Accepted{}, fmt.Errorf("answer to a change of tenant %s: %w: %w", id, ErrUnreadable, errSequence)
	}
	return Accepted{ID: tenant.FormatChangeID(id, sequence), Tenant: id, Sequence: sequence, Apps: apps}, nil
}

// bindMargin is how much longer, in ms, a binding is kept than an answer. A change may be accepted some time after its line was
// bound, and its answer must not outlive the binding.
const bindMargin = 60 * 60 * 1000

// boundLines is how many lines of a call are in one HASH: several small ones expire one after another.
const boundLines = 500

// bindingKeys returns the keys for one piece of a call's lines. The HASH without a number is the one in which an older version
// binds all lines.
func (s *Store) bindingKeys(key string, piece int) []string {
	whole := s.keys.Config(keys.ConfigIdempotency) + ":" + hashIdempotencyKey(key, 0)
	if piece == 0 {
		return []string{whole}
	}
	return []string{whole + ":" + strconv.Itoa(piece), whole}
}

// BindIdempotencyKey binds the lines of an idempotent call to the hashes of their bodies, for Options.IdempotencyKeep. It
// returns, in ascending order, the lines that an earlier call bound to another body: those MUST be refused with ErrKeyReused. All
// others are bound. It is called before Accept. A crash in between loses nothing: the repeat binds the same and is then accepted.
func (s *Store) BindIdempotencyKey(ctx context.Context, key string, lines map[int]string) (conflicts []int, err error) {
	ordered := make([]int, 0, len(lines))
	for line := range lines {
		ordered = append(ordered, line)
	}
	slices.Sort(ordered)
	for len(ordered) > 0 {
		piece := ordered[0] / boundLines
		n := 1
		for n < len(ordered) && ordered[n]/boundLines == piece {
			n++
		}
		args := make([]any, 1, 1+2*n)
		args[0] = s.opts.IdempotencyKeep.Milliseconds() + bindMargin
		for _, line := range ordered[:n] {
			args = append(args, line, lines[line])
		}
		ordered = ordered[n:]
		bound, err := bindKey.run(ctx, s.rdb, s.bindingKeys(key, piece), args...).StringSlice()
		if err != nil {
			return nil, wrapError(err, "bind the idempotency key")
		}
		for _, b := range bound {
			line, err := strconv.Atoi(b)
			if err != nil {
				return nil, fmt.Errorf("bind the idempotency key: %w", err)
			}
			conflicts = append(conflicts, line)
		}
	}
	return conflicts, nil
}
