package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/lamplighter/lamplighter/internal/signing"
)

// Settings of the service that the plain client copies.
const (
	inFlightPerApp = 32
	inFlight       = 512
	inFlightFloor  = 4
	drainers       = 1000
)

// drainRig is a stack whose apps can be given something to drain again and again.
type drainRig struct {
	*stack
	alg     string
	samples int
	worker  *process
	name    string
}

// drained is what a drain and the plain client after it reached.
type drained struct {
	rate, plainRate float64
	// cpu per delivery: worker and Redis, of which redisCPU is Redis's; the plain client's own.
	cpu, redisCPU, plainCPU time.Duration
}

// newDrainRig prepares apps with about so many deliveries in all. API and worker are apart, so
// that the worker can be started when all is waiting.
func (b *bench) newDrainRig(ctx context.Context, name string, apps, deliveries int, alg string, settings ...string) (*drainRig, error) {
	s, err := b.newStack(ctx, settings...)
	if err != nil {
		return nil, err
	}
	g := &drainRig{stack: s, alg: alg, samples: max(deliveries/apps, 1), name: name}
	if _, err := s.serve(ctx, "api"); err != nil {
		s.stop()
		return nil, err
	}
	if err := s.register(ctx, apps, g.samples, alg); err != nil {
		s.stop()
		return nil, err
	}
	return g, nil
}

// patience bounds every wait for deliveries.
const patience = 5 * time.Minute

// load pauses the apps, reports changes of all tenants, and switches the apps on again while no
// worker runs: so everything is due when one starts.
func (g *drainRig) load(ctx context.Context) error {
	if err := g.switchAll(ctx, 0, g.apps, "pause"); err != nil {
		return err
	}
	var err error
	if g.worker == nil {
		if g.worker, err = g.serve(ctx, "worker"); err != nil {
			return err
		}
	}
	g.epoch++
	if err := g.publish(ctx, g.epoch, g.samples, 0); err != nil {
		return err
	}
	if err := g.awaitWaiting(ctx, g.apps*g.samples); err != nil {
		return err
	}
	if err := g.worker.terminate(); err != nil {
		return err
	}
	g.worker = nil
	return g.switchAll(ctx, 0, g.apps, "resume")
}

// drain measures one drain from the first arrival to the last. The worker is new, so it has no
// token to use again and no connection yet, as the plain client.
func (g *drainRig) drain(ctx context.Context) (d drained, err error) {
	if err := g.load(ctx); err != nil {
		return d, err
	}
	t := g.receivers.expect(g.epoch, g.samples, 0, g.apps, false)
	if g.worker, err = g.start(ctx, "worker"); err != nil {
		return d, err
	}
	if err := t.wait(ctx, t.begun, patience); err != nil {
		return d, err
	}
	counted := t.count.Load()
	before, redisBefore, err := g.cpu()
	if err != nil {
		return d, err
	}
	profiled := g.profile(ctx)
	if err := t.wait(ctx, t.done, patience); err != nil {
		return d, err
	}
	after, redisAfter, err := g.cpu()
	if err != nil {
		return d, err
	}
	if repeated := t.repeated.Load(); repeated > 0 {
		g.b.say("%s: %d notifications arrived twice", g.name, repeated)
	}
	n := time.Duration(max(t.expected-counted, 1))
	d.rate, d.cpu, d.redisCPU = t.rate(), (after-before)/n, (redisAfter-redisBefore)/n
	return d, <-profiled
}

// cpu returns the CPU time used so far by worker and Redis together, and by Redis.
func (g *drainRig) cpu() (both, redis time.Duration, err error) {
	worker, err := cpuOf(g.worker.pid())
	if err != nil {
		return 0, 0, err
	}
	redis, err = cpuOf(g.redis.cmd.Process.Pid)
	return worker + redis, redis, err
}

// profile writes a CPU profile of the worker while it drains, if one is wanted.
func (g *drainRig) profile(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	if g.b.profile == "" {
		done <- nil
		return done
	}
	go func() { done <- g.writeProfile(ctx) }()
	return done
}

func (g *drainRig) writeProfile(ctx context.Context) error {
	const seconds = 6
	status, text, err := g.do(ctx, http.MethodGet, "http://"+g.worker.ops+"/debug/pprof/profile?seconds="+strconv.Itoa(seconds), "", nil)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("profile: status %d: %w", status, err)
	}
	if err := os.MkdirAll(g.b.profile, 0o750); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	name := filepath.Join(g.b.profile, g.name+"-"+strconv.Itoa(g.epoch)+".pprof")
	g.b.say("profile of %d s in %s", seconds, name)
	return os.WriteFile(name, text, 0o600)
}

// plainJob is the same work for the plain client.
func (g *drainRig) plainJob() plainJob {
	g.epoch++
	return plainJob{
		KeyFile: g.keyFile(g.alg), Alg: g.alg, Port: g.receivers.port, Epoch: g.epoch, Apps: g.apps, Samples: g.samples,
		InFlight: max(inFlightFloor, min(inFlightPerApp, inFlight/g.apps)), AppsAtOnce: min(g.apps, drainers), Idle: inFlightPerApp,
	}
}

// measure drains and posts plainly in turn.
func (g *drainRig) measure(ctx context.Context, fsync string) ([]drained, error) {
	if err := g.redis.fsync(ctx, fsync); err != nil {
		return nil, err
	}
	var all []drained
	for round := range g.b.rounds {
		d, err := g.drain(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", g.name, err)
		}
		p, err := g.b.plain(ctx, g.receivers, g.plainJob())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", g.name, err)
		}
		d.plainRate, d.plainCPU = p.rate, p.cpu
		all = append(all, d)
		g.b.say("%s, appendfsync %s, round %d of %d: %.0f/s and %v a delivery (Redis %v); plain client %.0f/s and %v",
			g.name, fsync, round+1, g.b.rounds, d.rate, d.cpu.Round(time.Microsecond), d.redisCPU.Round(time.Microsecond), p.rate, p.cpu.Round(time.Microsecond))
	}
	return all, nil
}

func rates(all []drained) (pairs []pair) {
	for _, d := range all {
		pairs = append(pairs, pair{d.rate, d.plainRate})
	}
	return pairs
}

// cpuMicros is the median CPU per delivery in µs, the service's and the plain client's.
func cpuMicros(all []drained) (service, plain float64) {
	var s, p []float64
	for _, d := range all {
		s = append(s, float64(d.cpu.Nanoseconds())/1e3)
		p = append(p, float64(d.plainCPU.Nanoseconds())/1e3)
	}
	return median(s), median(p)
}

// drains measures the drain over numbers of apps.
func drains(ctx context.Context, b *bench) error {
	for _, c := range []struct {
		apps int
		goal float64
	}{{1, 1}, {10, 1}, {200, 0.85}, {2000, 0.6}} {
		if len(b.apps) > 0 && !slices.Contains(b.apps, c.apps) {
			continue
		}
		if err := drainsOf(ctx, b, c.apps, c.goal); err != nil {
			return err
		}
	}
	return nil
}

func drainsOf(ctx context.Context, b *bench, apps int, goal float64) error {
	g, err := b.newDrainRig(ctx, fmt.Sprintf("drain-%d-apps", apps), apps, b.deliveries, signing.ES256)
	if err != nil {
		return err
	}
	defer g.stop()
	modes := []string{"everysec"}
	if apps <= 10 || b.wide && apps <= 200 {
		modes = append(modes, "always")
	}
	for _, mode := range modes {
		all, err := g.measure(ctx, mode)
		if err != nil {
			return err
		}
		m := medianPair(rates(all))
		b.add(newResult(fmt.Sprintf("drain, %d apps, ES256, AOF %s", apps, mode), "deliveries/s", m.value).beside(m.reference).ratioAtLeast(goal))
		if mode == "everysec" {
			b.remember(apps, all)
		}
	}
	return nil
}

// remember keeps the CPU figures of drains for the flat-cost scenario.
func (b *bench) remember(apps int, all []drained) {
	if b.costs == nil {
		b.costs = map[int][]drained{}
	}
	b.costs[apps] = slices.Clone(all)
}

// drainRS256 compares a drain with the rate at which all cores sign and do nothing else.
func drainRS256(ctx context.Context, b *bench) error {
	g, err := b.newDrainRig(ctx, "drain-rs256", 10, b.rsDeliveries, signing.RS256)
	if err != nil {
		return err
	}
	defer g.stop()
	var pairs []pair
	for range b.rounds {
		d, err := g.drain(ctx)
		if err != nil {
			return err
		}
		signed, err := signingRate(ctx, g.keyFile(signing.RS256), signing.RS256, 2*time.Second)
		if err != nil {
			return err
		}
		b.say("RS256: %.0f deliveries/s, %.0f signatures/s", d.rate, signed)
		pairs = append(pairs, pair{d.rate, signed})
	}
	m := medianPair(pairs)
	b.add(newResult("drain, 10 apps, RS256, beside signing alone", "deliveries/s", m.value).beside(m.reference).ratioAtLeast(0.9))
	return nil
}

// drainLogged shows what a log line per attempt costs.
func drainLogged(ctx context.Context, b *bench) error {
	g, err := b.newDrainRig(ctx, "drain-logged", 10, b.deliveries, signing.ES256, "LAMPLIGHTER_LOG_LEVEL=info")
	if err != nil {
		return err
	}
	defer g.stop()
	all, err := g.measure(ctx, "everysec")
	if err != nil {
		return err
	}
	m := medianPair(rates(all))
	b.add(newResult("drain, 10 apps, ES256, log.level info", "deliveries/s", m.value).beside(m.reference))
	return nil
}

// flatCost compares CPU per delivery over numbers of apps and of waiting tenants.
func flatCost(ctx context.Context, b *bench) error {
	var first float64
	for _, apps := range []int{10, 200, 2000} {
		if b.costs[apps] == nil {
			g, err := b.newDrainRig(ctx, fmt.Sprintf("cost-%d-apps", apps), apps, b.deliveries, signing.ES256)
			if err != nil {
				return err
			}
			all, err := g.measure(ctx, "everysec")
			g.stop()
			if err != nil {
				return err
			}
			b.remember(apps, all)
		}
		cpu, plain := cpuMicros(b.costs[apps])
		r := newResult(fmt.Sprintf("CPU per delivery, %d apps", apps), "us", cpu)
		if first == 0 {
			first = cpu
			b.add(r)
			b.add(newResult("CPU per post of the plain client, 10 apps", "us", plain))
			continue
		}
		b.add(r.beside(first).ratioWithinFifth())
	}
	return flatTenants(ctx, b)
}

// flatTenants does so over the tenants that wait for one app. Few are drained more often, since
// one short drain is all noise.
func flatTenants(ctx context.Context, b *bench) error {
	var first float64
	for _, n := range b.sweep {
		g, err := b.newDrainRig(ctx, fmt.Sprintf("cost-%d-tenants", n), 1, n, signing.ES256)
		if err != nil {
			return err
		}
		var all []drained
		for range max(1, min(8, 20_000/n)) {
			d, err := g.drain(ctx)
			if err != nil {
				g.stop()
				return err
			}
			all = append(all, d)
		}
		g.stop()
		cpu, _ := cpuMicros(all)
		r := newResult(fmt.Sprintf("CPU per delivery, 1 app, %d tenants waiting", n), "us", cpu)
		if first == 0 {
			first = cpu
			b.add(r)
			continue
		}
		b.add(r.beside(first).ratioWithinFifth())
	}
	return nil
}

// endToEnd measures from the first byte of an NDJSON report to the last arrival.
func endToEnd(ctx context.Context, b *bench) error {
	const apps = 10
	for _, mode := range []string{"everysec", "always"} {
		var pairs []pair
		for range b.rounds {
			p, err := endToEndOnce(ctx, b, mode, apps)
			if err != nil {
				return err
			}
			b.say("end to end, AOF %s: %.0f/s, plain client %.0f/s", mode, p.value, p.reference)
			pairs = append(pairs, p)
		}
		m := medianPair(pairs)
		b.add(newResult("end to end, NDJSON to last arrival, 10 apps, AOF "+mode, "deliveries/s", m.value).beside(m.reference).atLeast(9000))
	}
	return nil
}

func endToEndOnce(ctx context.Context, b *bench, mode string, apps int) (pair, error) {
	s, err := b.newStack(ctx)
	if err != nil {
		return pair{}, err
	}
	defer s.stop()
	if err := s.redis.fsync(ctx, mode); err != nil {
		return pair{}, err
	}
	p, err := s.serve(ctx, "api,worker")
	if err != nil {
		return pair{}, err
	}
	if err := s.register(ctx, apps, b.intake, signing.ES256); err != nil {
		return pair{}, err
	}
	t := s.receivers.expect(1, b.intake, 0, apps, false)
	start := time.Now()
	if err := s.publish(ctx, 1, b.intake, 0); err != nil {
		return pair{}, err
	}
	b.say("end to end, AOF %s: %d changes confirmed in %v", mode, b.intake, time.Since(start).Round(time.Millisecond))
	if err := t.wait(ctx, t.done, patience); err != nil {
		return pair{}, err
	}
	rate := float64(t.expected) / t.since(start).Seconds()
	if err := p.terminate(); err != nil {
		return pair{}, err
	}
	g := &drainRig{stack: s, alg: signing.ES256, samples: b.intake}
	s.epoch = 1
	plain, err := b.plain(ctx, s.receivers, g.plainJob())
	return pair{rate, plain.rate}, err
}
