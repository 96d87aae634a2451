package redisconn_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// The name stays while a server runs, and is another one after a restart.
func TestPrimaries(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	name := func() string {
		rdb := p.Client(t)
		got, err := redisconn.IdentifyPrimaries(t.Context(), rdb)
		if err != nil || got == "" {
			t.Fatalf("primaries %q, %v", got, err)
		}
		return got
	}
	before := name()
	if again := name(); again != before {
		t.Errorf("%q, then %q", before, again)
	}
	p.Kill()
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	if after := name(); after == before {
		t.Errorf("still %q after a restart", after)
	}
	for what, rdb := range map[string]redis.UniversalClient{"miniredis": redistest.Mini(t)} {
		if _, err := redisconn.IdentifyPrimaries(t.Context(), rdb); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	cluster, _ := redistest.Clustered(t)
	if got, err := redisconn.IdentifyPrimaries(t.Context(), cluster); err != nil || got == "" {
		t.Errorf("of a Cluster: %q, %v", got, err)
	}
}
