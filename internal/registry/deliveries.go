package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

var recordAttempts = newScript("record_attempts")

// storedAttempt is an attempt as stored.
type storedAttempt struct {
	Format int `json:"v"`
	delivery.Attempt
}

// RecordAttempts adds attempts, oldest first, to the app's list of recent ones, of which Options.DeliveriesKeep are kept. The
// list is only shown: nothing depends on it.
func (s *Store) RecordAttempts(ctx context.Context, app partner.ClientID, attempts []delivery.Attempt) error {
	key := []string{s.keys.App(app, keys.AppDeliveries)}
	for chunk := range slices.Chunk(attempts, maxPage) {
		args := make([]any, 2, 2+len(chunk))
		args[0], args[1] = s.opts.DeliveriesKeep, s.opts.IncidentsKeep.Milliseconds()
		for _, a := range chunk {
			b, err := json.Marshal(storedAttempt{Format: format, Attempt: a})
			if err != nil {
				return fmt.Errorf("encode an attempt of app %s: %w", app, err)
			}
			args = append(args, b)
		}
		if err := recordAttempts.run(ctx, s.rdb, key, args...).Err(); err != nil {
			return wrapError(err, "record attempts of app %s", app)
		}
	}
	return nil
}

// AttemptQuery asks for a page of an app's attempts.
type AttemptQuery struct {
	// Tenant limits the page to one tenant's attempts, unless it is empty.
	Tenant tenant.ID
	// After is the cursor from the previous page, empty for the first.
	After string
	// Limit is 100 if it is 0, and 500 at most.
	Limit int
}

// attemptsAtOnce is how many attempts one read returns, attemptReads how many reads a page makes at most.
const (
	attemptsAtOnce = maxPage
	attemptReads   = 20
)

// Attempts lists an app's attempts, newest first. next is the cursor of the next page, empty if there is none. A page may hold
// fewer attempts than requested, even none, and still have a next one. Errors: ErrUnreadable.
func (s *Store) Attempts(ctx context.Context, app partner.ClientID, q AttemptQuery) (attempts []delivery.Attempt, next string, err error) {
	at, ok := parseAttemptPosition(q.After)
	if !ok {
		return nil, "", nil
	}
	limit := clampPageSize(q.Limit)
	for range attemptReads {
		stored, err := s.rdb.LRange(ctx, s.keys.App(app, keys.AppDeliveries), at.index, at.index+attemptsAtOnce-1).Result()
		if err != nil {
			return nil, "", wrapError(err, "read attempts of app %s", app)
		}
		for _, text := range at.attemptsBehind(stored) {
			if len(attempts) == limit {
				return attempts, at.String(), nil
			}
			at = at.moveBehind(text)
			a, err := decodeAttempt(text)
			if err != nil {
				return nil, "", fmt.Errorf("read attempts of app %s: %w", app, err)
			}
			if q.Tenant == "" || a.Tenant == q.Tenant {
				attempts = append(attempts, a)
			}
		}
		if len(stored) < attemptsAtOnce {
			return attempts, "", nil
		}
	}
	return attempts, at.String(), nil
}

func decodeAttempt(text string) (delivery.Attempt, error) {
	var a storedAttempt
	err := decodeJSON(text, &a, &a.Format)
	return a.Attempt, err
}

// attemptPosition is a place in an app's list of attempts: behind the attempt with the digest. That attempt is at the index or
// further back, because new attempts are added at the front. The zero value is the front.
type attemptPosition struct {
	index  int64
	digest string
}

func digestAttempt(stored string) string {
	sum := sha256.Sum256([]byte(stored))
	return hex.EncodeToString(sum[:8])
}

// attemptsBehind returns the attempts behind the position, from a read that began at its index. If the position's attempt is not
// in the read, the result is nothing, and the position moves on: its attempt is further back, or was removed together with all
// older ones.
func (p *attemptPosition) attemptsBehind(stored []string) []string {
	if p.digest == "" {
		return stored
	}
	for i, text := range stored {
		if digestAttempt(text) == p.digest {
			p.index += int64(i)
			return stored[i+1:]
		}
	}
	p.index += int64(len(stored))
	return nil
}

// moveBehind returns the position behind the next attempt.
func (p attemptPosition) moveBehind(stored string) attemptPosition {
	if p.digest != "" {
		p.index++
	}
	return attemptPosition{p.index, digestAttempt(stored)}
}

func (p attemptPosition) String() string {
	if p.digest == "" {
		return ""
	}
	return strconv.FormatInt(p.index, 10) + "-" + p.digest
}

// parseAttemptPosition parses the form of String; ok is false for any other text.
func parseAttemptPosition(text string) (attemptPosition, bool) {
	if text == "" {
		return attemptPosition{}, true
	}
	index, digest, ok := strings.Cut(text, "-")
	n, err := strconv.ParseInt(index, 10, 64)
	return attemptPosition{n, digest}, ok && err == nil && n >= 0 && digest != ""
}
