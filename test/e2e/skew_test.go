package e2e_test

import (
	"bytes"
	"flag"
	"math"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// skewBinary is what `make skew-test` sets. Without it only the clock of Redis is wrong.
var skewBinary = flag.String("skew.binary", "", "a binary whose clock CLOCK_SKEW_SECONDS sets wrong, for processes that differ")

// skewed says how far clocks are ahead of the test's own, which is that of the receivers.
type skewed struct {
	redis        time.Duration
	api          time.Duration
	first, other time.Duration // the workers
}

// TestAMinuteOfSkew runs the service with clocks that are a minute or two apart: of Redis and of all processes, or of
// the processes among themselves. A worker is killed under load, and an endpoint fails for a while: nothing
// may be lost or reordered, what is told twice is at most what the killed worker had in flight, and people
// hear of the one failure once.
func TestAMinuteOfSkew(t *testing.T) {
	t.Parallel()
	cases := map[string]skewed{"RedisAhead": {redis: time.Minute}, "RedisBehind": {redis: -time.Minute}}
	if *skewBinary != "" {
		cases["WorkersApart"] = skewed{first: time.Minute, other: -time.Minute}
		cases["WorkersBehindAndAPIAhead"] = skewed{api: time.Minute, first: -time.Minute, other: -time.Minute}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			skew(t, name, c)
		})
	}
}

// serveAhead is serve with a clock that is ahead of the test's.
func (s *stack) serveAhead(by time.Duration, roles string) *process {
	s.t.Helper()
	if by == 0 {
		return s.serve(roles)
	}
	p := &process{stack: s, bin: *skewBinary, roles: roles, listen: s.api, ops: s.address(), env: []string{"CLOCK_SKEW_SECONDS=" + strconv.Itoa(int(by.Seconds()))}}
	if roles != "worker" {
		p.ops = s.ops
	}
	p.run()
	return p
}

func skew(t *testing.T, name string, c skewed) {
	server := redistest.StartAhead(t, c.redis, "--appendonly", "yes")
	s := newStackOn(t, "redis://"+server.Addr+"/0", "LAMPLIGHTER_INCIDENT_OPEN_AFTER=1s", "LAMPLIGHTER_INCIDENT_RECOVER_AFTER=1s")
	s.redis = server
	ahead := map[*process]time.Duration{}
	for _, p := range []struct {
		by    time.Duration
		roles string
	}{{c.api, "api"}, {c.first, "worker"}, {c.other, "worker"}} {
		ahead[s.serveAhead(p.by, p.roles)] = p.by - c.redis
	}
	var worker *process
	for p, want := range ahead {
		redistest.Eventually(t, 20*time.Second, "the difference is measured", func() bool {
			return math.Abs(p.metric("lamplighter_redis_clock_skew_seconds")-want.Seconds()) < 5
		})
		if p.roles == "worker" {
			worker = p
		}
	}
	names := tenantNames(150)
	rs := []*receiver{newReceiver(t, "app1"), newReceiver(t, "app2")}
	var well atomic.Bool
	rs[1].answer = func(notification) int {
		if well.Load() {
			return http.StatusOK
		}
		return http.StatusInternalServerError
	}
	for _, r := range rs {
		s.register(r, "RS256", names)
	}
	tr := newTruth()
	l := s.load(tr, names, 2, 20)
	incident := func(state string) func() bool {
		return func() bool {
			_, b := s.call(http.MethodGet, "/v1/incidents", "", nil)
			return bytes.Count(b, []byte(`"state":"`)) == 1 && bytes.Contains(b, []byte(`"state":"`+state+`"`))
		}
	}
	redistest.Eventually(t, 30*time.Second, "an incident opens", incident("open"))
	worker.kill()
	worker.start()
	well.Store(true)
	redistest.Eventually(t, 60*time.Second, "more load", func() bool { return l.sent.Load() >= 400 })
	l.end(t)
	awaitSettled(t, tr, 30*time.Second, rs...)
	s.quiet(rs...)
	report(t, "clocks apart, "+name, tr, l, rs)
	s.agree(tr, rs...)
	redistest.Eventually(t, 30*time.Second, "the incident, and no other, has ended", incident("closed"))
	const most = 2 * 32 // what one worker may have in flight
	for _, r := range rs {
		r.healthy()
		if r.duplicates > most {
			t.Errorf("%s was told %d notifications twice", r.id, r.duplicates)
		}
	}
	for p := range ahead {
		if late := p.metric("lamplighter_delivery_lag_seconds_count", `held="no"`) - p.metric("lamplighter_delivery_lag_seconds_bucket", `held="no"`, `le="60"`); late != 0 {
			t.Errorf("%v deliveries count as late: the lag is measured across clocks", late)
		}
	}
}
