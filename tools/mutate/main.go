package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.root, "root", "../..", "the repository")
	flag.StringVar(&o.pkg, "pkg", "internal/mailbox", "the package; its scripts are in lua/")
	flag.StringVar(&o.scripts, "scripts", "", "only the scripts of these names, comma-separated")
	flag.StringVar(&o.known, "known", "equivalent.txt", "the file of faults that change nothing, and why")
	flag.StringVar(&o.part, "part", "1/1", "which part of the faults to try: 2/5 is the second of five, every fifth one")
	flag.StringVar(&o.again, "again", "", "try only the survivors of a report in this file")
	flag.IntVar(&o.parallel, "parallel", 2, "how many are tried at once")
	flag.BoolVar(&o.real, "real", false, "try survivors on a real redis-server too")
	flag.BoolVar(&o.list, "list", false, "list the faults and try none")
	flag.Parse()
	code, err := run(context.Background(), o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		code = 2
	}
	os.Exit(code)
}

// options are what the command was asked for.
type options struct {
	root, pkg, scripts, known, part, again string
	parallel                               int
	real, list                             bool
}

// verdict is what became of a mutant.
type verdict struct {
	mutant

	// by is the stage that noticed it, "" when none did.
	by, why string
}

func run(ctx context.Context, o options, out io.Writer) (code int, err error) {
	dir := filepath.Join(o.root, filepath.FromSlash(o.pkg))
	sources, all, err := load(filepath.Join(dir, "lua"), o.scripts)
	if err != nil {
		return 0, err
	}
	if all, err = partOf(all, o.part); err != nil {
		return 0, err
	}
	if o.again != "" {
		report, err := os.ReadFile(o.again)
		if err != nil {
			return 0, err
		}
		all = slices.DeleteFunc(all, func(m mutant) bool { return !m.survived(string(report)) })
	}
	if o.list {
		for _, m := range all {
			fmt.Fprintf(out, "%s\n    %s\n    %s\n", m.place(), m.before, m.after)
		}
		return 0, nil
	}
	known, err := readKnown(o.known)
	if err != nil {
		return 0, err
	}
	b, err := build(ctx, dir, sources)
	if err != nil {
		return 0, err
	}
	defer b.close()
	if by, err := b.try(ctx, nil, o.real); err != nil || by != "" {
		return 0, fmt.Errorf("the tests do not pass as it is (%s): %w", by, err)
	}
	began := time.Now()
	verdicts, err := tryAll(ctx, b, all, o)
	if err != nil {
		return 0, err
	}
	return report(out, verdicts, known, time.Since(began)), nil
}

// load reads the scripts and lists their faults.
func load(dir, only string) (sources map[string]string, all []mutant, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.lua"))
	if err != nil || len(files) == 0 {
		return nil, nil, fmt.Errorf("no scripts in %s: %w", dir, err)
	}
	sources = map[string]string{}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".lua")
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, nil, err
		}
		sources[name] = string(text)
		if only == "" || slices.Contains(strings.Split(only, ","), name) {
			all = append(all, mutants(name, string(text))...)
		}
	}
	return sources, all, nil
}

// partOf takes part "2/5" of the faults.
func partOf(all []mutant, part string) ([]mutant, error) {
	var n, of int
	if _, err := fmt.Sscanf(part, "%d/%d", &n, &of); err != nil || n < 1 || n > of {
		return nil, fmt.Errorf("%q is no part like 2/5", part)
	}
	var out []mutant
	for i := n - 1; i < len(all); i += of {
		out = append(out, all[i])
	}
	return out, nil
}

func (m *mutant) place() string { return fmt.Sprintf("%s:%d %s", m.file, m.line, m.rule) }

// survived reports whether a report lists the mutant as a survivor.
func (m *mutant) survived(report string) bool {
	for line := range strings.Lines(report) {
		rest, ok := strings.CutPrefix(line, m.place()+" ")
		if ok && strings.Contains(rest, m.before) && strings.Contains(rest, m.after) {
			return true
		}
	}
	return false
}

// tryAll tries the mutants, some at a time.
func tryAll(ctx context.Context, b *binary, all []mutant, o options) ([]verdict, error) {
	out := make([]verdict, len(all))
	var (
		mu       sync.Mutex
		failures []error
		tried    int
		workers  sync.WaitGroup
	)
	next := make(chan int)
	for range o.parallel {
		workers.Go(func() {
			for i := range next {
				by, err := b.try(ctx, &all[i], o.real)
				out[i] = verdict{mutant: all[i], by: by}
				mu.Lock()
				if err != nil {
					failures = append(failures, fmt.Errorf("%s: %w", all[i].place(), err))
				}
				if tried++; tried%25 == 0 {
					fmt.Fprintf(os.Stderr, "%d of %d\n", tried, len(all))
				}
				mu.Unlock()
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	workers.Wait()
	if len(failures) > 0 {
		return nil, fmt.Errorf("%d could not be tried, such as %w", len(failures), failures[0])
	}
	return out, nil
}

// report prints the survivors and how many each stage noticed.
func report(out io.Writer, all []verdict, known map[string]string, took time.Duration) (code int) {
	by, strange := map[string]int{}, 0
	for i, v := range all {
		if v.by == "" {
			if why := known[v.key()]; why != "" {
				all[i].by, all[i].why = "equivalent", why
			} else {
				strange++
			}
		}
		by[all[i].by]++
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "survivor\twithout the fault\twith it\tequivalent because")
	for _, v := range all {
		if v.by == "" || v.by == "equivalent" {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", v.place(), v.before, v.after, v.why)
		}
	}
	_ = w.Flush()
	fmt.Fprintf(out, "%d faults in %.0f s:", len(all), took.Seconds())
	for _, stage := range slices.Sorted(maps.Keys(by)) {
		if stage != "" {
			fmt.Fprintf(out, " %d %s,", by[stage], stage)
		}
	}
	fmt.Fprintf(out, " %d unnoticed\n", strange)
	if strange > 0 {
		return 1
	}
	return 0
}

// key names a mutant whatever line it moves to.
func (m *mutant) key() string { return m.file + "\t" + m.before + "\t" + m.after }

// readKnown reads why a fault changes nothing: "file<TAB>before<TAB>after<TAB>why" a line.
func readKnown(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndex(line, "\t")
		if at < 0 || strings.Count(line, "\t") != 3 {
			return nil, fmt.Errorf("%s: %q has not four columns", path, line)
		}
		out[line[:at]] = line[at+1:]
	}
	return out, nil
}
