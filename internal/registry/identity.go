package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
)

const (
	// countsKeep is how long the count of a process that does not look is kept: longer than Redis is
	// away, or its loss is taken for one of Redis'.
	countsKeep = 7 * 24 * time.Hour
	// refusalsKeep is how long a refusal that is not repeated is kept.
	refusalsKeep = time.Minute
	// refusalsMax bounds the refusals, and the identities that an accepted store takes over from.
	refusalsMax = 16
)

// The scripts of the store's identity.
var (
	watchStore  = newScript("watch_store")
	acceptStore = newScript("accept_store")
)

// StoreMemory is what a process remembers of the store. Its zero value but for Process remembers nothing.
type StoreMemory struct {
	// Process names the process; its count is its own.
	Process string
	// Identity is that of the store, Count how often the process looked, Revision that of the settings.
	Identity        string
	Count, Revision int64
}

// StoreMatch says how the store stands to what a process remembers.
type StoreMatch int

// The closed set, in the numbers of watch_store.lua.
const (
	// StoreSame is the store that the process remembers.
	StoreSame StoreMatch = iota + 1
	// StoreTaken is one that the process takes as its own: it remembered none, or the one that this was
	// accepted in place of.
	StoreTaken
	// StoreGone has no identity.
	StoreGone
	// StoreOther has an identity that the process does not know.
	StoreOther
)

// StoreCheck is what a look at the store found.
type StoreCheck struct {
	Match StoreMatch
	// Lower says that count or revision went back: the store lost writes that it had acknowledged.
	Lower bool
	// Now is what to remember after StoreSame and StoreTaken.
	Now StoreMemory
}

// CheckStore compares the store with what a process remembers, and counts the look. To a process that
// remembers nothing it gives the store's identity, and makes one where there is none. A store that went
// back owes a fast round of the comparison from then on. A replica never answers.
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
		parts, err = watchStore.run(ctx, s.rdb, ks, args...).Slice() // a process must start while replicas are away
	}
	if err != nil {
		return StoreCheck{}, wrapError(err, "look whether the store is the same")
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

// AcceptStore makes every process whose store this was not take it as it is, at its next look: those that
// remember what m does, what the store's identity was, and what lately refused it. It is audited, and owes
// a fast round of the comparison. identity is a new one from NewStoreIdentity; a repeat with the same one
// changes nothing. was is the identity before, empty for none.
func (s *Store) AcceptStore(ctx context.Context, identity string, m StoreMemory, actor Actor) (was string, err error) {
	was, err = acceptStore.run(ctx, s.durable,
		s.configKeys(keys.ConfigIdentity, keys.ConfigRefused, keys.ConfigFastRound, keys.ConfigAudit),
		identity, m.Identity, refusalsMax, s.opts.AuditKeep, actor.Name, actor.Role, actor.RequestID).Text()
	return was, wrapError(err, "accept the store")
}

// NewStoreIdentity makes an identity that no other store has.
func NewStoreIdentity() string { return rand.Text() }
