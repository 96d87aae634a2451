package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clientMode is the argument that makes this program the plain client.
const clientMode = "plain-client"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the program starts here
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == clientMode {
		exit(runPlainClient(ctx, os.Stdin, os.Stdout))
	}
	if len(os.Args) > 1 && os.Args[1] == staticMode {
		exit(runStatic(ctx, os.Stdin, os.Stdout))
	}
	exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func exit(err error) {
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// size says how much each scenario does.
type size struct {
	// rounds are pairs of measurement and reference; the median pair counts.
	rounds int
	// deliveries of one drain, and of one signed with RS256.
	deliveries, rsDeliveries int
	// intake is how many changes the end-to-end scenario reports to 10 apps.
	intake int
	// samples of a latency, and how often the latency is measured.
	samples, latencyRounds int
	// blast is how many changes the isolation scenario reports at once; steady its latency samples.
	blast, steady int
	// dead is how many tenants wait for a dead app, watch how long Redis is watched.
	dead  int
	watch time.Duration
	// sweep are the numbers of waiting tenants of the flat-cost scenario.
	sweep []int
	// pulled are the numbers of tenants that are asked about, pullFor how long each load counts.
	pulled  []int
	pullFor time.Duration
	// applied is how many apps the apply scenario has.
	applied int
	// wide adds the variants that take long: isolation among 200 apps, appendfsync always
	// everywhere.
	wide bool
}

func fullSize() size {
	return size{
		rounds: 3, deliveries: 30_000, rsDeliveries: 8_000, intake: 4_000, samples: 3_000, latencyRounds: 5,
		blast: 2_000, steady: 1_000, dead: 100_000, watch: 40 * time.Second, sweep: []int{1_000, 10_000, 100_000},
		pulled: []int{1_000}, pullFor: 3 * time.Second, applied: 3_000, wide: true,
	}
}

func shortSize() size {
	return size{
		rounds: 1, deliveries: 20_000, rsDeliveries: 4_000, intake: 1_500, samples: 1_000, latencyRounds: 1,
		blast: 500, steady: 200, dead: 20_000, watch: 8 * time.Second, sweep: []int{1_000, 20_000},
		pulled: []int{1_000}, pullFor: 2 * time.Second, applied: 1_000,
	}
}

// bench is one run.
type bench struct {
	size
	binary   string
	logLevel string
	profile  string
	dir      string
	only     *regexp.Regexp
	// apps are the numbers of apps to drain for; empty: all.
	apps     []int
	progress io.Writer
	began    time.Time
	results  []Result
	// costs are the drains measured so far, by the number of apps.
	costs map[int][]drained
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	short := flags.Bool("short", false, "measure less of everything, in a few minutes")
	only := flags.String("only", "", "run the scenarios whose name matches this regular `expression`: "+fmt.Sprint(scenarioNames()))
	out := flags.String("out", "", "`file` for the results (default bench/results.json; bin/bench.json with -short, -only or -apps)")
	binary := flags.String("binary", "bin/lamplighter", "the lamplighter `program` to measure")
	level := flags.String("log-level", "warn", "log.level of the measured processes")
	rounds := flags.Int("rounds", 0, "pairs of measurement and reference (0: 3, or 1 with -short)")
	profile := flags.String("profile", "", "write a CPU profile of the worker in each drain to this `directory`")
	apps := flags.String("apps", "", "drain only for these `numbers` of apps, such as 1,10")
	waiting := flags.Int("tenants", 0, "add this number of tenants to the scenarios flat and pull, such as 1000000")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b := &bench{size: fullSize(), logLevel: *level, profile: *profile, progress: stderr, began: time.Now()}
	if *short {
		b.size = shortSize()
	}
	if *rounds > 0 {
		b.rounds = *rounds
	}
	if *waiting > 0 {
		b.sweep, b.pulled = append(b.sweep, *waiting), append(b.pulled, *waiting)
	}
	if *out == "" {
		if *out = "bench/results.json"; *short || *only != "" || *apps != "" {
			*out = "bin/bench.json"
		}
	}
	var err error
	if b.apps, err = parseNumbers(*apps); err != nil {
		return fmt.Errorf("-apps: %w", err)
	}
	if b.only, err = regexp.Compile(*only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if b.binary, err = filepath.Abs(*binary); err != nil {
		return fmt.Errorf("-binary: %w", err)
	}
	if _, err := os.Stat(b.binary); err != nil {
		return fmt.Errorf("no program to measure, run 'make build' first: %w", err)
	}
	if b.dir, err = os.MkdirTemp("", "lamplighter-bench"); err != nil {
		return fmt.Errorf("make a directory for the run: %w", err)
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	return b.all(ctx, stdout, *out)
}

func parseNumbers(list string) (numbers []int, err error) {
	for field := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

// all runs the chosen scenarios. One that fails does not keep the others from being measured, and
// the run ends with its error.
func (b *bench) all(ctx context.Context, stdout io.Writer, out string) error {
	var errs []error
	for _, s := range scenarios() {
		if !b.only.MatchString(s.name) || ctx.Err() != nil {
			continue
		}
		b.say("%s: %s", s.name, s.about)
		if err := s.run(ctx, b); err != nil {
			b.say("%s failed: %v", s.name, err)
			errs = append(errs, fmt.Errorf("scenario %s: %w", s.name, err))
		}
	}
	if len(b.results) == 0 {
		return errors.Join(append(errs, errors.New("nothing was measured"))...)
	}
	fmt.Fprintf(stdout, "%d cores, %s, log.level %s, %v in all\n\n", runtime.NumCPU(), runtime.Version(), b.logLevel, time.Since(b.began).Round(time.Second))
	if err := writeTable(stdout, b.results); err != nil {
		errs = append(errs, err)
	}
	if err := writeJSON(out, b.results); err != nil {
		errs = append(errs, err)
	} else {
		b.say("results are in %s", out)
	}
	return errors.Join(errs...)
}

// say shows progress.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "%6.1fs  "+format+"\n", append([]any{time.Since(b.began).Seconds()}, args...)...)
}

// add records a result and shows it.
func (b *bench) add(r Result) {
	b.results = append(b.results, r)
	b.say("= %s", r.line())
}

type scenario struct {
	name, about string
	run         func(context.Context, *bench) error
}

// scenarios lists what is measured, in the order of the table.
func scenarios() []scenario {
	return []scenario{
		{"drain", "what waits for 1 to 2,000 apps is delivered", drains},
		{"rs256", "a drain whose tokens are signed with RS256", drainRS256},
		{"log", "a drain that logs every attempt", drainLogged},
		{"end-to-end", "NDJSON intake to the last arrival, 10 apps", endToEnd},
		{"latency", "a change sent to its arrival at 50 changes/s", latencies},
		{"isolation", "half of the endpoints hang for 10 s", isolation},
		{"dead", "an app is down and its tenants wait", deadApp},
		{"flat", "CPU per delivery over numbers of apps and of waiting tenants", flatCost},
		{"pull", "GET /api/state/{tenant} by 32 clients that each wait for the answer", pulls},
		{"apply", "lamplighter apply of apps that are new, differ in one member, or do not differ", measureApply},
	}
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}
