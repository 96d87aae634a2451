package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// IdempotencyRecord is a request that is to be carried out once.
type IdempotencyRecord struct {
	// Caller is the caller of the request: two callers may use the same key.
	Caller string
	// Key is the Idempotency-Key, Digest identifies all else in the request.
	Key, Digest string
	// Within is how long a run may take; after that another may begin.
	Within time.Duration
	// Owner is against whom the key counts: it may have Most keys at a time, over all its callers. Empty and 0: the caller, with
	// IdempotencyKeysMax.
	Owner string
	Most  int
}

// IdempotencyState is the state of a key, a closed set.
type IdempotencyState uint8

// The states of a key.
const (
	// IdempotencyRun: the caller runs the request, and MUST settle it with IdempotencyClaim.Run.
	IdempotencyRun IdempotencyState = iota
	// IdempotencyDone: the request was carried out; IdempotencyClaim.Answer is what was settled.
	IdempotencyDone
	// IdempotencyBusy: another run is in progress, for IdempotencyClaim.Wait at most.
	IdempotencyBusy
	// IdempotencyFull: the caller has too many keys; the first of them expires after IdempotencyClaim.Wait.
	IdempotencyFull
)

// IdempotencyClaim is the answer to ClaimIdempotencyKey.
type IdempotencyClaim struct {
	State  IdempotencyState
	Run    string
	Answer []byte
	Wait   time.Duration
}

// Limits of what callers can store.
const (
	// IdempotencyKeysMax is how many keys one caller may have at a time, unless it has an owner who may have fewer.
	IdempotencyKeysMax = 10_000
	// IdempotencyAnswerMax is how many bytes a sealed answer may take.
	IdempotencyAnswerMax = 4096
)

// The scripts of requests that are carried out once.
var (
	claimIdempotency  = newScript("once_begin")
	settleIdempotency = newScript("once_settle")
)

// ClaimIdempotencyKey claims the key for a run, or returns the result of an earlier one. Keys are kept for
// Options.IdempotencyKeep. Errors: ErrKeyReused if the key was used with another digest; ErrUnreadable if no key of the keyring
// opens the answer. After any other error the claim that IdempotencyClaim.Run names may have been written: the caller settles it
// if it knows that nothing runs.
func (s *Store) ClaimIdempotencyKey(ctx context.Context, o IdempotencyRecord) (IdempotencyClaim, error) {
	names, member := s.idempotencyKeys(o)
	run := s.nonce()
	most := IdempotencyKeysMax
	if o.Most > 0 {
		most = o.Most
	}
	answer, err := claimIdempotency.run(ctx, s.durable, names, o.Digest, run, o.Within.Milliseconds(), s.opts.IdempotencyKeep.Milliseconds(), most, member).Slice()
	if err != nil {
		return IdempotencyClaim{Run: run}, wrapError(err, "begin under an idempotency key") // it may have been written
	}
	word, _ := answer[0].(string)
	wait := func() time.Duration {
		ms, _ := answer[1].(int64)
		return time.Duration(ms) * time.Millisecond
	}
	switch word {
	case "run":
		return IdempotencyClaim{State: IdempotencyRun, Run: run}, nil
	case "busy":
		return IdempotencyClaim{State: IdempotencyBusy, Wait: wait()}, nil
	case "full":
		return IdempotencyClaim{State: IdempotencyFull, Wait: wait()}, nil
	case "other":
		return IdempotencyClaim{}, ErrKeyReused
	case "done":
		sealed, _ := answer[1].(string)
		outcome, err := s.opts.Keyring.Open(sealed, idempotencyAAD(member))
		if err != nil {
			return IdempotencyClaim{}, fmt.Errorf("outcome under an idempotency key: %w: %w", ErrUnreadable, err)
		}
		return IdempotencyClaim{State: IdempotencyDone, Answer: outcome}, nil
	default:
		return IdempotencyClaim{}, newAnswerError(claimIdempotency, answer)
	}
}

// SettleIdempotencyKey ends a run. Its outcome is sealed, since it may hold a secret, and returned to repeats. An empty outcome
// removes the key; one that takes more than IdempotencyAnswerMax is an error. If the claim of the run has ended, nothing changes
// and settled is false.
func (s *Store) SettleIdempotencyKey(ctx context.Context, o IdempotencyRecord, run string, outcome []byte) (settled bool, err error) {
	names, member := s.idempotencyKeys(o)
	sealed := ""
	if len(outcome) > 0 {
		if sealed, err = s.opts.Keyring.Seal(outcome, idempotencyAAD(member)); err != nil {
			return false, fmt.Errorf("seal an outcome: %w", err)
		}
		if len(sealed) > IdempotencyAnswerMax {
			return false, fmt.Errorf("keep an outcome of %d bytes, at most %d: %w", len(sealed), IdempotencyAnswerMax, ErrTooMany)
		}
	}
	n, err := settleIdempotency.run(ctx, s.durable, names, run, sealed, member).Int()
	return n == 1, wrapError(err, "settle under an idempotency key")
}

// idempotencyKeys replaces a key and its caller by digests, so that no characters of the caller appear in a key of Redis.
func (s *Store) idempotencyKeys(o IdempotencyRecord) (names []string, member string) {
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

func idempotencyAAD(member string) string { return "once/" + member }
