package service_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// entriesRead counts the ended incidents that Redis hands out.
type entriesRead struct {
	trips

	all, most atomic.Int64
}

func (e *entriesRead) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		n := int64(0)
		for _, cmd := range cmds {
			if list, ok := cmd.(*redis.StringSliceCmd); ok && cmd.Name() == "zrevrangebyscore" {
				n += int64(len(list.Val()))
			}
		}
		e.all.Add(n)
		e.most.Store(max(e.most.Load(), n))
		return err
	}
}

// TestIncidentPagesReadLittle: where apps have many ended incidents, a page reads about as many as it shows,
// and with a filter never more than it may at once.
func TestIncidentPagesReadLittle(t *testing.T) {
	t.Parallel()
	const apps, of = 60, 400
	c := newCrowd(t, apps)
	space, now := keys.New(settings(t).Redis.Prefix), time.Now().UTC().Truncate(time.Second)
	var ids []string // the last ended first
	for n := range of {
		_, err := c.rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for a := range apps {
				at := now.Add(time.Hour - time.Duration(n*apps+a)*time.Millisecond) // after all that the crowd has
				one := incident.EndedIncident{ID: fmt.Sprintf("inc%02d-%03d", a, n), ClientID: crowdApp(a), Endpoint: partner.StateChange, EndedAt: at, Ending: incident.EndRecovered}
				one.Format = 1
				text, err := json.Marshal(one)
				if err != nil {
					return err
				}
				ids = append(ids, one.ID)
				p.ZAdd(t.Context(), space.App(crowdApp(a), keys.AppHistory), redis.Z{Score: float64(at.UnixMilli()), Member: text})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var read entriesRead
	c.rdb.AddHook(&read)
	for _, test := range []struct {
		limit     int
		filter    string
		all, most int64 // that may be read for a page
	}{
		{20, "", 100, 100},
		{100, "", 60 * 110, 60 * 110}, // fewer apps than it shows: the newest of each
		{500, "", 20_000, 20_000},
		{500, "&endpoint=state_change", 22_000, 20_000},
	} {
		cursor, shown := "", []string(nil)
		for range 3 {
			read.all.Store(0)
			read.most.Store(0)
			answer := c.call("GET", fmt.Sprint("/v1/incidents?state=closed&limit=", test.limit, test.filter, "&cursor=", url.QueryEscape(cursor)), "")
			items, _ := answer["items"].([]any)
			for _, i := range items {
				one, _ := i.(map[string]any)
				id, _ := one["id"].(string)
				shown = append(shown, id)
			}
			cursor, _ = answer["next_cursor"].(string)
			if all, most := read.all.Load(), read.most.Load(); all > test.all || most > test.most {
				t.Errorf("a page of %d%s reads %d incidents, %d at once, want at most %d, %d", test.limit, test.filter, all, most, test.all, test.most)
			}
		}
		if !slices.Equal(shown, ids[:3*test.limit]) {
			t.Errorf("by %d%s: %d incidents, others than the last ended", test.limit, test.filter, len(shown))
		}
	}
}
