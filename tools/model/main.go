package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// progressEvery is the pause between lines that tell how far a search is.
const progressEvery = 5 * time.Second

func main() {
	world := flag.String("world", "", "explore only the worlds whose name begins with this")
	broken := flag.String("break", "", "take one rule away and search the world that shows it; 'list' names them")
	flag.Parse()
	if *broken != "" {
		os.Exit(breakOne(os.Stdout, *broken))
	}
	os.Exit(exploreAll(os.Stdout, *world))
}

// exploreAll explores the worlds and returns the exit code: 1 when a rule does not hold.
func exploreAll(w io.Writer, prefix string) int {
	code, states, steps := 0, 0, 0
	began := time.Now()
	for _, c := range worlds() {
		if !strings.HasPrefix(c.name, prefix) {
			continue
		}
		res := c.search(0, progress(w, c.name))
		states, steps = states+res.states, steps+res.steps
		report(w, c.name, res)
		if len(res.bad) > 0 {
			code = 1
		}
		runtime.GC()
	}
	fmt.Fprintf(w, "%d states, %d steps, %.0f s, violations: %s\n", states, steps, time.Since(began).Seconds(), map[int]string{0: "0", 1: "SOME"}[code])
	return code
}

// breakOne takes one rule away and returns 0 when the search finds that out.
func breakOne(w io.Writer, name string) int {
	list := seededFaults()
	if name == "list" {
		for _, f := range list {
			fmt.Fprintf(w, "%-14s %s\n", f.name, f.what)
		}
		return 0
	}
	i := slices.IndexFunc(list, func(f seeded) bool { return f.name == name })
	if i < 0 {
		fmt.Fprintf(w, "no rule is called %q; -break list names them\n", name)
		return 2
	}
	if why := list[i].show(w, progress(w, name)); why != "" {
		fmt.Fprintln(w, why)
		return 1
	}
	return 0
}

// show searches the fault's world without its rule, and says why that does not show the fault.
func (f seeded) show(w io.Writer, progress func(states, ahead int)) (why string) {
	res := f.world.search(f.bit, progress)
	report(w, "without "+f.name, res)
	if !f.slower {
		if len(res.bad) == 0 || !strings.Contains(res.bad[0], f.finds) {
			return fmt.Sprintf("the search found %q, want a violation with %q", res.bad, f.finds)
		}
		return ""
	}
	with := f.world.search(0, progress)
	report(w, "with "+f.name, with)
	if len(res.bad)+len(with.bad) > 0 || res.ticks <= with.ticks {
		return fmt.Sprintf("told within %d ticks without the rule, %d with it", res.ticks, with.ticks)
	}
	return ""
}

func report(w io.Writer, name string, res result) {
	fmt.Fprintf(w, "%-30s %9d states %10d steps %6.1f s", name, res.states, res.steps, res.took.Seconds())
	if res.ticks >= 0 {
		fmt.Fprintf(w, "  told within %d ticks", res.ticks)
	}
	fmt.Fprintln(w)
	if len(res.bad) == 0 {
		return
	}
	fmt.Fprintf(w, "    VIOLATED after %d steps: %s\n", len(res.path), res.bad[0])
	for _, line := range res.path {
		fmt.Fprintln(w, "        "+line)
	}
}

// progress prints how far a search is, every progressEvery.
func progress(w io.Writer, name string) func(states, ahead int) {
	last := time.Now()
	return func(states, ahead int) {
		if time.Since(last) < progressEvery {
			return
		}
		last = time.Now()
		fmt.Fprintf(w, "%-30s %9d states, %d to visit\n", name, states, ahead)
	}
}
