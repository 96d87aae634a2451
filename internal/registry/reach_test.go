package registry_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// reached shares a report and returns those of all, in their order.
func reached(t *testing.T, s fixture, process, report string) string {
	t.Helper()
	r, err := s.ShareReach(t.Context(), process, report)
	noErr(t, "share", err)
	if age := time.Since(r.Now); age < -time.Minute || age > time.Minute {
		t.Errorf("Redis' time is %v", r.Now)
	}
	slices.Sort(r.Reports)
	return strings.Join(r.Reports, " ")
}

// Each process reads what all wrote last, also those that ended; what is old, or no report, goes.
func TestShareReach(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		key := s.keys.Config(keys.ConfigReach)
		if got := reached(t, s, "p1", "a;1"); got != "a;1" {
			t.Errorf("one: %q", got)
		}
		reached(t, s, "p2", "b")
		if got := reached(t, s, "p1", "c"); got != "b c" {
			t.Errorf("two: %q", got)
		}
		now := time.Now().UnixMilli()
		noErr(t, "plant", s.rdb.HSet(t.Context(), key, "old", fmt.Sprintf("%d;old", now-11*60_000), "odd", "odd", "none", ";x", "ahead", fmt.Sprintf("%d;ahead", now+3_600_000)).Err())
		if got := reached(t, s, "p3", ""); got != " b c" {
			t.Errorf("three: %q", got)
		}
		if n := s.rdb.HLen(t.Context(), key).Val(); n != 3 {
			t.Errorf("%d reports are kept", n)
		}
		if ttl := s.rdb.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > 10*time.Minute {
			t.Errorf("they are kept for %v", ttl)
		}
	})
}

// However many processes come and go, the newest reports are kept, and the caller's is among them.
func TestReachIsBounded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		many := map[string]any{}
		for i := range 500 {
			many[fmt.Sprint("gone", i)] = fmt.Sprintf("%d;gone", time.Now().UnixMilli()-1000)
		}
		noErr(t, "plant", s.rdb.HSet(t.Context(), s.keys.Config(keys.ConfigReach), many).Err())
		if got := strings.Fields(reached(t, s, "p1", "mine")); len(got) != 48 || !slices.Contains(got, "mine") {
			t.Errorf("%d reports: %v", len(got), got)
		}
		if n := s.rdb.HLen(t.Context(), s.keys.Config(keys.ConfigReach)).Val(); n != 48 {
			t.Errorf("%d reports are kept", n)
		}
	})
}

// Of processes that decide from the same common cause one writes.
func TestPutCommonCause(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		put := func(was, next string) bool {
			ok, err := s.PutCommonCause(t.Context(), was, next)
			noErr(t, "put", err)
			return ok
		}
		got := []bool{put("x", "a"), put("", "a"), put("", "b"), put("a", "c"), put("a", "d")}
		if want := []bool{false, true, false, true, false}; !slices.Equal(got, want) {
			t.Errorf("written: %v, want %v", got, want)
		}
		r, err := s.ShareReach(t.Context(), "p1", "")
		noErr(t, "read", err)
		if r.Cause != "c" {
			t.Errorf("it is %q", r.Cause)
		}
		if ttl := s.rdb.PTTL(t.Context(), s.keys.Config(keys.ConfigCommonCause)).Val(); ttl <= 24*time.Hour {
			t.Errorf("it is kept for %v", ttl)
		}
	})
}

// Keys of another type are told, and left alone.
func TestReachOfAnotherType(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		noErr(t, "plant", s.rdb.LPush(t.Context(), s.keys.Config(keys.ConfigReach), "odd").Err())
		if _, err := s.ShareReach(t.Context(), "p1", ""); err == nil {
			t.Errorf("reach: %v", err)
		}
		noErr(t, "plant", s.rdb.LPush(t.Context(), s.keys.Config(keys.ConfigCommonCause), "odd").Err())
		if _, err := s.PutCommonCause(t.Context(), "", "a"); err == nil {
			t.Errorf("cause: %v", err)
		}
	})
}
