package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"text/tabwriter"
)

// Result is one figure of a run. Reference and Ratio (value by reference) are absent where nothing
// was measured beside it, Met where it has no goal.
type Result struct {
	Name      string   `json:"name"`
	Value     float64  `json:"value"`
	Unit      string   `json:"unit"`
	Reference *float64 `json:"reference"`
	Ratio     *float64 `json:"ratio"`
	Goal      string   `json:"goal"`
	Met       *bool    `json:"met"`
}

// newResult makes a result without reference and goal.
func newResult(name, unit string, value float64) Result {
	return Result{Name: name, Unit: unit, Value: round(value)}
}

// beside puts the reference of the same run next to it.
func (r Result) beside(reference float64) Result {
	reference = round(reference)
	r.Reference = &reference
	if reference != 0 {
		ratio := round(r.Value / reference)
		r.Ratio = &ratio
	}
	return r
}

// ratioAtLeast sets the goal that the value is at least so many times the reference.
func (r Result) ratioAtLeast(n float64) Result {
	return r.judge("ratio >= "+number(n), r.Ratio != nil && *r.Ratio >= n)
}

// ratioWithinFifth sets the goal that the value is within 20 % of the reference.
func (r Result) ratioWithinFifth() Result {
	return r.judge("ratio 0.8 to 1.2", r.Ratio != nil && *r.Ratio <= 1.2 && *r.Ratio >= 0.8)
}

// atLeast and atMost set goals for the value itself.
func (r Result) atLeast(n float64) Result { return r.judge(">= "+number(n)+" "+r.Unit, r.Value >= n) }

func (r Result) atMost(n float64) Result { return r.judge("<= "+number(n)+" "+r.Unit, r.Value <= n) }

// judge sets a goal in words and whether it is met.
func (r Result) judge(goal string, met bool) Result {
	r.Goal, r.Met = goal, &met
	return r
}

// round keeps four digits: more are noise.
func round(v float64) float64 {
	n, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	if err != nil {
		return v // NaN and infinities
	}
	return n
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func optional(v *float64) string {
	if v == nil {
		return "-"
	}
	return number(*v)
}

func (r Result) verdict() string {
	switch {
	case r.Met == nil:
		return ""
	case *r.Met:
		return "yes"
	default:
		return "NO"
	}
}

func (r Result) line() string {
	s := r.Name + ": " + number(r.Value) + " " + r.Unit
	if r.Reference != nil {
		s += ", reference " + optional(r.Reference) + ", ratio " + optional(r.Ratio)
	}
	if r.Goal != "" {
		s += ", goal " + r.Goal + ": " + r.verdict()
	}
	return s
}

func writeTable(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "name\tvalue\tunit\treference\tratio\tgoal\tmet")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, number(r.Value), r.Unit, optional(r.Reference), optional(r.Ratio), r.Goal, r.verdict())
	}
	return t.Flush()
}

func writeJSON(name string, results []Result) error {
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.WriteFile(name, append(text, '\n'), 0o644); err != nil { //nolint:gosec // results are for everyone
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// pair is a measurement and its reference, taken right after each other.
type pair struct{ value, reference float64 }

// medianPair returns the pair whose ratio is the median, so that what is shown belongs together.
func medianPair(pairs []pair) pair {
	sorted := slices.Clone(pairs)
	slices.SortFunc(sorted, func(a, b pair) int { return cmp.Compare(a.value/a.reference, b.value/b.reference) })
	return sorted[len(sorted)/2]
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// percentile returns the smallest value that at least p of all do not exceed. It sorts values.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	rank := int(p*float64(len(values))+0.999999) - 1
	return values[min(max(rank, 0), len(values)-1)]
}
