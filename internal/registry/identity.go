package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
)

const (
	// countsKeep is how long the count of a process that does not check is kept. It must be longer than Redis is unreachable,
	// otherwise the missing count looks like a loss of writes.
	countsKeep = 7 * 24 * time.Hour
	// refusalsKeep is how long a refusal is kept unless it is repeated.
	refusalsKeep = time.Minute
	// refusalsMax bounds the refusals, and the identities that an accepted store replaces.
	refusalsMax = 16
)

// The scripts of the store's identity.
var (
	watchStore  = newScript("watch_store")
	acceptStore = newScript("accept_store")
)

// StoreMemory is what a process remembers of the store. A value with only Process remembers nothing.
type StoreMemory struct {
	// Process names the process, which has a count of its own.
	Process string
	// Identity is the store's identity, Count how often the process checked it, Revision the revision of the settings.
	Identity        string
	Count, Revision int64
}

// StoreMatch is the result of the comparison of a store with what a process remembers.
type StoreMatch int

// The closed set, in the numbers of watch_store.lua.
const (
	// StoreSame is the store that the process remembers.
	StoreSame StoreMatch = iota + 1
	// StoreTaken is a store that the process accepts as its own: it remembered none, or the one that this store was accepted in
	// place of.
	StoreTaken
	// StoreGone has no identity.
	StoreGone
	// StoreOther has an identity that the process does not know.
	StoreOther
)

// StoreCheck is the result of CheckStore.
type StoreCheck struct {
	Match StoreMatch
	// Lower means that count or revision went back: the store lost acknowledged writes.
	Lower bool
	// Now is what the process remembers after StoreSame and StoreTaken.
	Now StoreMemory
}

// CheckStore compares the store with what a process remembers, and counts the check. A process that remembers nothing gets the
// store's identity, which is made if there is none. If the store went back, a fast round of the comparison is requested. A
// replica never answers.
func (s *Store) CheckStore(ctx context.Context, m StoreMemory) (StoreCheck, error) {
	ks := s.configKeys(keys.ConfigIdentity, keys.ConfigCounts, keys.ConfigRevision, keys.ConfigRefused, keys.ConfigFastRound)
	ks[1] += ":" + m.Process
	args := []any{
		m.Identity, NewStoreIdentity(), m.Count, m.Revision, countsKeep.Milliseconds(), refusalsKeep.Milliseconds(), refusalsMax,
	}
	rdb := s.rdb
	if m.Identity == "" {
		rdb = s.durable
	}
	parts, err := watchStore.run(ctx, rdb, ks, args...).Slice()
	type fewReplicas interface {
		error
		Replicas() (confirmed, asked int)
	}
	if _, few := errors.AsType[fewReplicas](err); few {
		parts, err = watchStore.run(ctx, s.rdb, ks, args...).Slice() // a process must be able to start while replicas are unreachable
	}
	if err != nil {
		return StoreCheck{}, wrapError(err, "check whether the store is the same")
	}
	if len(parts) != 5 {
		return StoreCheck{}, newAnswerError(watchStore, parts)
	}
	match, ok1 := parts[0].(int64)
	identity, ok2 := parts[1].(string)
	count, ok3 := parts[2].(int64)
	revision, ok4 := parts[3].(int64)
	lower, ok5 := parts[4].(int64)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || match < int64(StoreSame) || match > int64(StoreOther) {
		return StoreCheck{}, newAnswerError(watchStore, parts)
	}
	return StoreCheck{
		Match: StoreMatch(match), Lower: lower == 1,
		Now: StoreMemory{Process: m.Process, Identity: identity, Count: count, Revision: revision},
	}, nil
}

// AcceptStore makes every process accept the present store at its next check: those that remember the same identity as m, the
// store's last identity, or one that recently refused the store. It is audited, and requests a fast round of the comparison.
// identity is a new one from NewStoreIdentity; a repeat with the same one changes nothing. was is the last identity, empty for
// none.
func (s *Store) AcceptStore(ctx context.Context, identity string, m StoreMemory, actor Actor) (was string, err error) {
	was, err = acceptStore.run(ctx, s.durable,
		s.configKeys(keys.ConfigIdentity, keys.ConfigRefused, keys.ConfigFastRound, keys.ConfigAudit),
		identity, m.Identity, refusalsMax, s.opts.AuditKeep, actor.Name, actor.Role, actor.RequestID).Text()
	return was, wrapError(err, "accept the store")
}

// NewStoreIdentity returns an identity that no other store has.
func NewStoreIdentity() string { return rand.Text() }
