package main

import (
	"io"
	"strings"
	"testing"
)

func silent(int, int) {}

// Each rule is needed: without it the search finds what it guards against.
func TestEveryRuleIsNeeded(t *testing.T) {
	t.Parallel()
	for _, f := range seededFaults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			if why := f.show(io.Discard, silent); why != "" {
				t.Error(why)
			}
		})
	}
}

// With all rules, the worlds that show the faults hold.
func TestRulesHoldWhereTheirFaultsShow(t *testing.T) {
	t.Parallel()
	for _, f := range seededFaults() {
		if f.slower { // searched with the rule already
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			if res := f.world.search(0, silent); len(res.bad) > 0 {
				t.Errorf("%s\n%s", res.bad[0], strings.Join(res.path, "\n"))
			}
		})
	}
}

// A violation comes with the way to it.
func TestPathLeadsToTheViolation(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if code := breakOne(&out, "finish"); code != 0 {
		t.Fatalf("exit code %d: %s", code, &out)
	}
	for _, want := range []string{"without owner or wake-up", "accept t0 1 (status)", "D1 begin(", "finish"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "?") {
		t.Errorf("a step without a label in\n%s", &out)
	}
}

func TestUnknownRule(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if code := breakOne(&out, "gravity"); code != 2 || !strings.Contains(out.String(), "-break list") {
		t.Errorf("exit code %d: %s", code, &out)
	}
}
