package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// cutter fails commands of chosen pipelines of scripts: before Redis gets them, or after it ran them.
type cutter struct {
	err error
	// cut says of the nth pipeline of scripts, counted from 1, and the nth of its commands, counted from
	// 0, whether it fails.
	cut func(pipeline, command int) bool
	// ran is true where Redis runs what fails, so that its answer is what is lost.
	ran bool
	// lost is called once what a pipeline lost is decided.
	lost func()

	pipelines int
}

func (*cutter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*cutter) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (c *cutter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if c.cut == nil || !runsScripts(cmds) {
			return next(ctx, cmds)
		}
		c.pipelines++
		var sent []redis.Cmder
		var failed []redis.Cmder
		for i, cmd := range cmds {
			if c.cut(c.pipelines, i) {
				failed = append(failed, cmd)
			}
			if c.ran || !c.cut(c.pipelines, i) {
				sent = append(sent, cmd)
			}
		}
		var err error
		if len(sent) > 0 {
			err = next(ctx, sent)
		}
		for _, cmd := range failed {
			cmd.SetErr(c.err)
			err = c.err
		}
		if c.lost != nil && len(failed) > 0 {
			c.lost()
		}
		return err
	}
}

// TestNothingOvertakesAnUndecidedChange fails commands of several rounds and repeats the whole call under
// its key, as its caller does: the tenant's changes are accepted in the order given, whatever failed.
func TestNothingOvertakesAnUndecidedChange(t *testing.T) {
	t.Parallel()
	broken := errors.New("MOVED 1234 10.9.8.7:6379")
	for name, tc := range map[string]struct {
		cut func(pipeline, command int) bool
		ran bool
	}{
		"FirstRoundRefused":     {func(p, _ int) bool { return p == 1 }, false},
		"FirstRoundAnswersLost": {func(p, _ int) bool { return p == 1 }, true},
		"EverySecondRefused":    {func(_, c int) bool { return c%2 == 1 }, false},
		"EverySecondLost":       {func(_, c int) bool { return c%2 == 0 }, true},
		"MiddleRoundRefused":    {func(p, _ int) bool { return p == 2 }, false},
		"OneTenantInRoundTwo":   {func(p, c int) bool { return p == 2 && c == 0 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				s := newFixture(t, rdb, registry.Options{})
				accept(t, s, change("Cust0", tenant.Suspend)) // loads the scripts
				faults := &cutter{err: broken, ran: tc.ran}
				rdb.AddHook(faults)
				var reqs []registry.ChangeRequest
				for line := range 20 {
					r := change(tenant.ID(fmt.Sprint("Cust", line%5)), []tenant.ChangeType{tenant.Suspend, tenant.Upgrade, tenant.Resume, tenant.Delete}[line/5])
					r.IdempotencyKey, r.Line = "k", line+1
					reqs = append(reqs, r)
				}
				faults.cut = tc.cut
				results := must[[]registry.AcceptResult](t)(s.Accept(t.Context(), reqs))
				faults.cut = nil
				failed := map[tenant.ID]bool{}
				held := 0
				for i, r := range results {
					id := reqs[i].Tenant
					switch {
					case r.Err == nil && failed[id]:
						t.Errorf("change %d of %s was accepted behind one that failed", i, id)
					case failed[id]:
						wantErr(t, fmt.Sprint("change ", i), r.Err, registry.ErrUndecided)
						held++
					case r.Err != nil:
						wantErr(t, fmt.Sprint("change ", i), r.Err, broken)
						failed[id] = true
					}
				}
				if len(failed) == 0 || held == 0 {
					t.Fatalf("%d tenants failed, %d changes were held back: nothing is shown", len(failed), held)
				}
				again := accept(t, s, reqs...)
				last := map[tenant.ID]int64{}
				for i, a := range again {
					if a.Sequence <= last[a.Tenant] {
						t.Errorf("change %d of %s stands behind a later one", i, a.Tenant)
					}
					last[a.Tenant] = a.Sequence
					if r := results[i]; r.Err == nil && r.Accepted.Sequence != a.Sequence {
						t.Errorf("change %d was accepted twice", i)
					}
				}
				for id := range last {
					same(t, "state of "+string(id), must[tenant.Status](t)(s.Status(t.Context(), id)).State, tenant.Deleted)
				}
			})
		})
	}
}

// TestWritesRefusedInTheMiddleOfACall lets a real Redis refuse writes from the second round on, and
// allows them again for the third, which must not overtake.
func TestWritesRefusedInTheMiddleOfACall(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		setting, refuse, allow, want string
	}{
		"TooFewReplicas": {"min-replicas-to-write", "1", "0", "NOREPLICAS"},
		"MemoryIsFull":   {"maxmemory", "1", "0", "OOM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := redistest.Start(t)
			rdb := p.Client(t)
			s := newFixture(t, rdb, registry.Options{})
			reqs := []registry.ChangeRequest{change("Cust1", tenant.Suspend), change("Cust1", tenant.Upgrade), change("Cust1", tenant.Resume), change("Cust2", tenant.Suspend)}
			for i := range reqs {
				reqs[i].IdempotencyKey, reqs[i].Line = "k", i
			}
			accept(t, s, change("Cust0", tenant.Suspend))
			side := redis.NewClient(&redis.Options{Addr: p.Addr})
			defer func() { _ = side.Close() }()
			set := func(value string) { noErr(t, "set", side.ConfigSet(t.Context(), tc.setting, value).Err()) }
			rounds := 0
			rdb.AddHook(&beforeScripts{do: func(pipelined bool) {
				value := tc.allow
				if pipelined {
					if rounds++; rounds == 2 {
						value = tc.refuse
					}
				}
				set(value)
			}})
			results, err := s.Accept(t.Context(), reqs)
			set(tc.allow)
			noErr(t, "accept", err)
			noErr(t, "the change before it", results[0].Err)
			if !strings.Contains(fmt.Sprint(results[1].Err), tc.want) {
				t.Errorf("the refused change: %v, want %s", results[1].Err, tc.want)
			}
			wantErr(t, "the change behind it", results[2].Err, registry.ErrUndecided)
			again := accept(t, s, reqs...)
			if !again[0].Replayed || again[1].Replayed || again[2].Replayed || !again[3].Replayed {
				t.Errorf("repeated: %+v", again)
			}
			same(t, "state", must[tenant.Status](t)(s.Status(t.Context(), "Cust1")).State, tenant.Running)
		})
	}
}

// TestChangesOfOneSourceKeepItsOrder: what a source counts below its newest accepted change changes nothing.
func TestChangesOfOneSourceKeepItsOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		const newest = 1<<53 - 1
		last := int64(0)
		for i, step := range []struct {
			key    string
			source int64
			typ    tenant.ChangeType
			// want is "new", "first" (the answer given before) or "refused".
			want string
			// stored is what the record counts afterwards.
			stored int64
		}{
			{"", 0, tenant.Suspend, "new", 0},
			{"a", 5, tenant.Upgrade, "new", 5},
			{"a", 5, tenant.Upgrade, "first", 5},
			{"b", 5, tenant.Suspend, "refused", 5},
			{"", 5, tenant.Suspend, "refused", 5},
			{"b", 4, tenant.Suspend, "refused", 5},
			{"b", 1, tenant.Suspend, "refused", 5},
			{"b", 0, tenant.Suspend, "new", 5},
			{"c", 4, tenant.Suspend, "refused", 5},
			{"d", 6, tenant.Resume, "new", 6},
			{"a", 5, tenant.Upgrade, "first", 6},
			{"", 7, tenant.Move, "new", 7},
			{"", 7, tenant.Move, "refused", 7},
			{"e", newest - 1, tenant.Suspend, "new", newest - 1},
			{"f", newest, tenant.Resume, "new", newest},
			{"g", newest - 1, tenant.Suspend, "refused", newest},
			{"g", newest, tenant.Suspend, "refused", newest},
			{"g", 0, tenant.Delete, "new", newest},
		} {
			before := s.dump(t)
			r := change("Cust1", step.typ)
			r.IdempotencyKey, r.SourceSequence = step.key, step.source
			res := must[[]registry.AcceptResult](t)(s.Accept(ctx, []registry.ChangeRequest{r}))[0]
			what := fmt.Sprintf("step %d (%s %d)", i, step.key, step.source)
			switch step.want {
			case "refused":
				wantErr(t, what, res.Err, registry.ErrOutOfOrder)
				same(t, what+": what is stored", s.dump(t), before)
			default:
				noErr(t, what, res.Err)
				if res.Accepted.Replayed != (step.want == "first") {
					t.Errorf("%s: %+v, want %s", what, res.Accepted, step.want)
				}
				if step.want == "new" && res.Accepted.Sequence <= last {
					t.Errorf("%s: sequence %d after %d", what, res.Accepted.Sequence, last)
				}
				last = max(last, res.Accepted.Sequence)
			}
			same(t, what+": counted", must[registry.TenantView](t)(s.Tenant(ctx, "Cust1")).SourceSequence, step.stored)
		}
	})
}

// dump is all that lies in a tenant's slot, without times to live.
func (s fixture) dump(t *testing.T) map[string]string {
	t.Helper()
	ctx := t.Context()
	out := map[string]string{}
	names := s.rdb.Keys(ctx, "test:{Cust*").Val()
	slices.Sort(names)
	for _, k := range names {
		switch s.rdb.Type(ctx, k).Val() {
		case "hash":
			out[k] = fmt.Sprint(s.rdb.HGetAll(ctx, k).Val())
		case "zset":
			out[k] = fmt.Sprint(s.rdb.ZRangeWithScores(ctx, k, 0, -1).Val())
		default:
			out[k] = s.rdb.Get(ctx, k).Val()
		}
	}
	return out
}

// TestAFinalRefusalHoldsNothingUp: a change that is out of order is decided, so the next one is taken.
func TestAFinalRefusalHoldsNothingUp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		numbered := func(source int64, typ tenant.ChangeType) registry.ChangeRequest {
			r := change("Cust1", typ)
			r.SourceSequence = source
			return r
		}
		results := must[[]registry.AcceptResult](t)(s.Accept(t.Context(), []registry.ChangeRequest{
			numbered(5, tenant.Suspend), numbered(4, tenant.Delete), numbered(6, tenant.Resume), numbered(6, tenant.Delete), change("Cust1", tenant.Upgrade),
		}))
		for i, want := range []error{nil, registry.ErrOutOfOrder, nil, registry.ErrOutOfOrder, nil} {
			if !errors.Is(results[i].Err, want) {
				t.Errorf("change %d: %v, want %v", i, results[i].Err, want)
			}
		}
		same(t, "state", must[tenant.Status](t)(s.Status(t.Context(), "Cust1")).State, tenant.OfflineMaintenance)
	})
}

// TestSourceSequenceOfAnotherForm: a count that is none refuses those changes that must be compared with it.
func TestSourceSequenceOfAnotherForm(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		record := s.keys.Tenant("Cust1", keys.TenantRecord)
		for _, bad := range []string{"", "x", "-1", "1.5", "1e3", " 5", "9007199254740992", "99999999999999999999"} {
			s.rdb.HSet(ctx, record, "source", bad)
			s.rdb.HSetNX(ctx, record, "v", "1")
			r := change("Cust1", tenant.Suspend)
			r.SourceSequence = 1<<53 - 1
			before := s.rdb.HGetAll(ctx, record).Val()
			wantErr(t, strconv.Quote(bad), must[[]registry.AcceptResult](t)(s.Accept(ctx, []registry.ChangeRequest{r}))[0].Err, registry.ErrUnreadable)
			same(t, strconv.Quote(bad)+": the record", s.rdb.HGetAll(ctx, record).Val(), before)
			accept(t, s, change("Cust1", tenant.Suspend)) // is compared with nothing
			view := must[registry.TenantView](t)(s.Tenant(ctx, "Cust1"))
			same(t, strconv.Quote(bad)+": as it is shown", view.SourceSequence, int64(0))
		}
	})
}

// TestALateCopyChangesNothing: the library sends a pipeline again whose answers it did not get, and meanwhile
// another process accepted a newer change. The copy gets the first answer, with a key and without.
func TestALateCopyChangesNothing(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "k"} {
		t.Run("key="+key, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				twice := &repeater{}
				s := newFixture(t, rdb, registry.Options{})
				other := registry.New(s.otherClient(t), registry.Options{Keys: s.keys, Keyring: testKeyring(t)})
				accept(t, s, change("Cust0", tenant.Suspend)) // loads the scripts
				rdb.AddHook(twice)
				var newer registry.Accepted
				twice.between = func() {
					newer = must[[]registry.AcceptResult](t)(other.Accept(t.Context(), []registry.ChangeRequest{change("Cust1", tenant.Resume)}))[0].Accepted
				}
				twice.on.Store(true)
				r := change("Cust1", tenant.Suspend)
				r.IdempotencyKey = key
				older := accept(t, s, r)[0]
				twice.on.Store(false)
				if older.Sequence >= newer.Sequence || newer.Sequence == 0 {
					t.Errorf("the older change has sequence %d, the newer %d", older.Sequence, newer.Sequence)
				}
				if older.Replayed && key == "" {
					t.Error("a change without a key was answered as a repeat")
				}
				same(t, "changes", len(must[[]tenant.Change](t)(s.Changes(t.Context(), "Cust1", 0))), 2)
				same(t, "state", must[tenant.Status](t)(s.Status(t.Context(), "Cust1")).State, tenant.Running)
			})
		})
	}
}

// otherClient is a client of the fixture's server and database, without the fixture's hooks.
func (s fixture) otherClient(t *testing.T) redis.UniversalClient {
	t.Helper()
	c, ok := s.rdb.(*redis.Client)
	if !ok {
		t.Fatal("not a client of one server")
	}
	o := *c.Options()
	rdb := redis.NewClient(&redis.Options{Addr: o.Addr, DB: o.DB, ReadTimeout: o.ReadTimeout})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// TestTheServersOwnKeyLastsAMinute: what a change without a key leaves beside the record is gone soon.
func TestTheServersOwnKeyLastsAMinute(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		accept(t, s, change("Cust1", tenant.Suspend), change("Cust1", tenant.Resume))
		names := s.rdb.Keys(ctx, "test:{Cust1}:answer:*").Val()
		if len(names) != 2 {
			t.Fatalf("%d answers are kept, want 2: %v", len(names), names)
		}
		for _, k := range names {
			if ttl := s.rdb.PTTL(ctx, k).Val(); ttl <= 50*time.Second || ttl > time.Minute {
				t.Errorf("%s is kept for %v, want a minute", k, ttl)
			}
		}
	})
}

// TestTheFormerNonceIsLeftAlone: an older process beside this one tells its own late copy by the field
// "call", which must stand as that process wrote it.
func TestTheFormerNonceIsLeftAlone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		record := s.keys.Tenant("Cust1", keys.TenantRecord)
		accept(t, s, change("Cust1", tenant.Suspend))
		if s.rdb.HExists(ctx, record, "call").Val() {
			t.Error("a nonce is written that nobody reads")
		}
		s.rdb.HSet(ctx, record, "call", "ABC.0;17;2")
		accept(t, s, change("Cust1", tenant.Resume))
		same(t, "the older process's nonce", s.rdb.HGet(ctx, record, "call").Val(), "ABC.0;17;2")
	})
}

// TestWhatMightBeWrittenIsListedAgain: a fan-out of an older change strikes the tenant off between the two
// listings, and the answer of the accept is lost, with its caller or without. The tenant is listed.
func TestWhatMightBeWrittenIsListedAgain(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprint("callerGone=", gone), func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				s := newFixture(t, rdb, registry.Options{})
				first := accept(t, s, change("Cust1", tenant.Resume))[0]
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				fanout := registry.New(s.otherClient(t), registry.Options{Keys: s.keys, Keyring: testKeyring(t)})
				rdb.AddHook(&cutter{err: lost, ran: true, cut: func(int, int) bool { return true }, lost: func() {
					// strikes off what it read before the accept wrote: the ticket of the first listing
					ticket := must[[]int64](t)(fanout.ReadTickets(t.Context(), []tenant.ID{"Cust1"}))[0]
					if ticket == 0 {
						t.Error("the accept did not list first")
					}
					noErr(t, "strike off", s.otherClient(t).ZRem(t.Context(), s.keys.Pending(keys.PendingTenants), "Cust1").Err())
					if gone {
						leave()
					}
				}})
				results, err := s.Accept(ctx, []registry.ChangeRequest{change("Cust1", tenant.Suspend)})
				noErr(t, "accept", err)
				wantErr(t, "the change whose answer is lost", results[0].Err, lost)
				view := must[registry.TenantView](t)(s.Tenant(t.Context(), "Cust1"))
				if view.Record.Top == first.Sequence || !view.FanoutPending {
					t.Fatal("nothing was written, so that nothing is shown")
				}
				if ticket := must[[]int64](t)(s.ReadTickets(t.Context(), []tenant.ID{"Cust1"}))[0]; ticket == 0 {
					t.Error("the record owes a fan-out, and the tenant is listed nowhere")
				}
			})
		})
	}
}
