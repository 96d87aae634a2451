package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// Once is a request that is to be carried out once.
type Once struct {
	// Caller is whose key it is: two callers may use the same one.
	Caller string
	// Key is the Idempotency-Key, Digest stands for all else that the request says.
	Key, Digest string
	// Within is how long a run may take; afterwards another may begin.
	Within time.Duration
	// Owner is who pays for the key: it may have Most keys at a time, over all its callers. Empty and 0: the
	// caller, with OnceMax.
	Owner string
	Most  int
}

// OnceState is how a key stands, a closed set.
type OnceState uint8

// The states of a key.
const (
	// OnceRun: the caller runs, and MUST settle with Begun.Run.
	OnceRun OnceState = iota
	// OnceDone: it was carried out; Begun.Outcome is what was settled.
	OnceDone
	// OnceBusy: another run is under way, for Begun.Wait at most.
	OnceBusy
	// OnceFull: the caller has too many keys; the first of them lapses after Begun.Wait.
	OnceFull
)

// Begun is the answer to BeginOnce.
type Begun struct {
	State   OnceState
	Run     string
	Outcome []byte
	Wait    time.Duration
}

// Limits of what a caller can make the store keep.
const (
	// OnceMax is how many keys one caller may have at a time, unless it has an owner who may have fewer.
	OnceMax = 10_000
	// OnceBytes is how many bytes an outcome may take as it is stored.
	OnceBytes = 4096
)

// The scripts of requests that are carried out once.
var (
	beginOnce  = newScript("once_begin")
	settleOnce = newScript("once_settle")
)

// BeginOnce claims the key for a run, or says what came of an earlier one. Keys are kept for
// Options.IdempotencyKeep. Errors: ErrKeyReused when the key came with another digest,
// ErrUnreadable when the outcome was sealed with a key that is gone. With any other error Begun.Run
// names a claim that may have been written, to be settled by whoever knows that nothing runs.
func (s *Store) BeginOnce(ctx context.Context, o Once) (Begun, error) {
	names, member := s.onceKeys(o)
	run := s.nonce()
	most := OnceMax
	if o.Most > 0 {
		most = o.Most
	}
	answer, err := beginOnce.run(ctx, s.durable, names, o.Digest, run, o.Within.Milliseconds(), s.opts.IdempotencyKeep.Milliseconds(), most, member).Slice()
	if err != nil {
		return Begun{Run: run}, failure(err, "begin under an idempotency key") // it may be written all the same
	}
	word, _ := answer[0].(string)
	wait := func() time.Duration {
		ms, _ := answer[1].(int64)
		return time.Duration(ms) * time.Millisecond
	}
	switch word {
	case "run":
		return Begun{State: OnceRun, Run: run}, nil
	case "busy":
		return Begun{State: OnceBusy, Wait: wait()}, nil
	case "full":
		return Begun{State: OnceFull, Wait: wait()}, nil
	case "other":
		return Begun{}, ErrKeyReused
	case "done":
		sealed, _ := answer[1].(string)
		outcome, err := s.opts.Keyring.Open(sealed, onceAAD(member))
		if err != nil {
			return Begun{}, fmt.Errorf("outcome under an idempotency key: %w: %w", ErrUnreadable, err)
		}
		return Begun{State: OnceDone, Outcome: outcome}, nil
	default:
		return Begun{}, badAnswer(beginOnce, answer)
	}
}

// SettleOnce ends a run: its outcome is sealed, since it may hold a secret, and told to repeats.
// An empty outcome forgets the key, one that takes more than OnceBytes is an error. A run whose claim ended changes nothing; then settled is false.
func (s *Store) SettleOnce(ctx context.Context, o Once, run string, outcome []byte) (settled bool, err error) {
	names, member := s.onceKeys(o)
	sealed := ""
	if len(outcome) > 0 {
		if sealed, err = s.opts.Keyring.Seal(outcome, onceAAD(member)); err != nil {
			return false, fmt.Errorf("seal an outcome: %w", err)
		}
		if len(sealed) > OnceBytes {
			return false, fmt.Errorf("keep an outcome of %d bytes, at most %d: %w", len(sealed), OnceBytes, ErrTooMany)
		}
	}
	n, err := settleOnce.run(ctx, s.durable, names, run, sealed, member).Int()
	return n == 1, failure(err, "settle under an idempotency key")
}

// onceKeys names a key and its caller without their characters, which are the caller's.
func (s *Store) onceKeys(o Once) (names []string, member string) {
	digest := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:16])
	}
	caller := digest(o.Caller)
	owner := caller
	if o.Owner != "" {
		owner = digest(o.Owner)
	}
	member = digest(caller + o.Key)
	return []string{s.keys.Config(keys.ConfigOnce) + ":" + member, s.keys.Config(keys.ConfigOnceOf) + ":" + owner}, member
}

func onceAAD(member string) string { return "once/" + member }
