package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

const (
	// pullers is how many clients ask at once, each waiting for its answer.
	pullers = 32
	// pullWarm is how long each load runs before it counts.
	pullWarm = 500 * time.Millisecond
	// reported is how many tenants are reported to the service; further ones are copies of their
	// records.
	reported = 1_000
	// copyMax is how many tenants one pipeline writes.
	copyMax = 2_000
)

// stringKey is where the bare GET finds an answer about a tenant.
func stringKey(n int) string { return "bench:" + tenantName(n) }

// pulls measures the pull beside a static handler and a bare Redis GET, over numbers of tenants.
func pulls(ctx context.Context, b *bench) error {
	for _, n := range b.pulled {
		if err := pullAmong(ctx, b, n); err != nil {
			return fmt.Errorf("%d tenants: %w", n, err)
		}
	}
	return nil
}

func pullAmong(ctx context.Context, b *bench, tenants int) error {
	s, err := b.newStack(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.know(ctx, tenants); err != nil {
		return err
	}
	if _, err := s.serve(ctx, "api"); err != nil {
		return err
	}
	answer, err := s.call(ctx, http.StatusOK, http.MethodGet, "/api/state/"+tenantName(tenants-1), "", nil)
	if err != nil {
		return err
	}
	err = s.load(ctx, 0, tenants, "strings for the bare GET", func(p redis.Pipeliner, n int) { p.Set(ctx, stringKey(n), answer, 0) })
	if err != nil {
		return err
	}
	static, stop, err := b.startStatic(ctx, answer)
	if err != nil {
		return err
	}
	defer stop()
	return s.measurePulls(ctx, tenants, static)
}

// know lets the service take reports about the first tenants and fan out what is owed, and copies
// their records, as the service wrote them, to the others.
func (s *stack) know(ctx context.Context, tenants int) error {
	p, err := s.serve(ctx, "api,worker")
	if err != nil {
		return err
	}
	first := min(tenants, reported)
	for _, change := range []string{`"change_type":"resume"`, `"change_type":"move","public_endpoint":"online3.superoffice.com"`} {
		if err := s.report(ctx, first, change); err != nil {
			return err
		}
	}
	var records []map[string]string
	err = poll(ctx, patience, 50*time.Millisecond, "no fan-out is owed", func() (bool, error) {
		if records, err = s.records(ctx, first); err != nil {
			return false, err
		}
		return !slices.ContainsFunc(records, func(r map[string]string) bool { return r["owed"] != "" }), nil
	})
	if err != nil {
		return err
	}
	if err := p.terminate(); err != nil {
		return err
	}
	return s.load(ctx, first, tenants, "copied records", func(p redis.Pipeliner, n int) {
		p.HSet(ctx, recordKey(n), records[n%first])
	})
}

// report reports the same change of each of the tenants [0, tenants) in one NDJSON body.
func (s *stack) report(ctx context.Context, tenants int, change string) error {
	var lines bytes.Buffer
	for n := range tenants {
		fmt.Fprintf(&lines, `{"tenant":"%s","version_name":"Release 10.3.8","file_version":"%s",%s}`+"\n", tenantName(n), fileVersion, change)
	}
	answer, err := s.call(ctx, http.StatusOK, http.MethodPost, "/v1/state-changes", typeLines, lines.Bytes())
	if err != nil {
		return err
	}
	return allDone(answer, `"status":202`, tenants)
}

// load writes something for each of the tenants [from, to), in pipelines.
func (s *stack) load(ctx context.Context, from, to int, what string, put func(redis.Pipeliner, int)) error {
	const shown = 250_000
	var done atomic.Int64
	err := each(ctx, (to-from+copyMax-1)/copyMax, func(ctx context.Context, batch int) error {
		start := from + batch*copyMax
		end := min(start+copyMax, to)
		_, err := s.redis.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for n := start; n < end; n++ {
				put(p, n)
			}
			return nil
		})
		after := done.Add(int64(end - start))
		if before := after - int64(end-start); err == nil && after/shown > before/shown {
			s.b.say("%d of %d %s", after, to-from, what)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", what, err)
	}
	return nil
}

func recordKey(n int) string {
	return keys.New(keys.DefaultPrefix).Tenant(tenant.ID(tenantName(n)), keys.TenantRecord)
}

// records reads the records of the tenants [0, n).
func (s *stack) records(ctx context.Context, n int) ([]map[string]string, error) {
	cmds := make([]*redis.MapStringStringCmd, n)
	_, err := s.redis.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range cmds {
			cmds[i] = p.HGetAll(ctx, recordKey(i))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	out := make([]map[string]string, n)
	for i, c := range cmds {
		out[i] = c.Val()
	}
	return out, nil
}

// measurePulls runs the loads one after another, so often as there are rounds.
func (s *stack) measurePulls(ctx context.Context, tenants int, static string) error {
	b := s.b
	rdb := redis.NewClient(&redis.Options{Addr: s.redis.addr, PoolSize: pullers})
	defer func() { _ = rdb.Close() }()
	bare := askFunc(func(n int) error { return rdb.Get(ctx, stringKey(n)).Err() })
	loads := []struct {
		name string
		ask  func() (asker, error)
	}{
		{"pull", func() (asker, error) { return dialPuller(ctx, s.api, false) }},
		{"static handler", func() (asker, error) { return dialPuller(ctx, static, false) }},
		{"bare GET", func() (asker, error) { return bare, nil }},
		{"pull, 304", func() (asker, error) { return dialPuller(ctx, s.api, true) }},
		{"static handler, 304", func() (asker, error) { return dialPuller(ctx, static, true) }},
	}
	all := map[string][]pace{}
	for round := range b.rounds {
		for _, l := range loads {
			p, err := closedLoop(pullers, tenants, pullWarm, b.pullFor, l.ask)
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			b.say("%s, %d tenants, round %d of %d: %.0f/s, p50 %.2f p99 %.2f ms", l.name, tenants, round+1, b.rounds, p.rate, p.p50, p.p99)
			all[l.name] = append(all[l.name], p)
		}
	}
	for _, c := range []struct{ name, reference string }{
		{"pull", "static handler"}, {"pull", "bare GET"}, {"pull, 304", "static handler, 304"},
	} {
		var rates, tails []pair
		for i, p := range all[c.name] {
			rates = append(rates, pair{p.rate, all[c.reference][i].rate})
			tails = append(tails, pair{p.p99, all[c.reference][i].p99})
		}
		rate, tail := medianPair(rates), medianPair(tails)
		name := fmt.Sprintf("%s beside %s, %d tenants: ", c.name, c.reference, tenants)
		b.add(newResult(name+"requests", "requests/s", rate.value).beside(rate.reference))
		b.add(newResult(name+"p99", "ms", tail.value).beside(tail.reference))
	}
	return nil
}
