package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const script = `-- a comment with DUE == 1
local n = num(ARGV[1]) -- another
if n <= now and not mine then redis.call('HDEL', BOX, 'gate') end
redis.call('ZADD', DUE, int(now + 1), '--')
return {'done', n}
`

func TestStripLeavesLinesAndStrings(t *testing.T) {
	t.Parallel()
	got := strip(script)
	if strings.Contains(got, "comment") || strings.Contains(got, "another") || !strings.Contains(got, "'--'") {
		t.Errorf("stripped to %q", got)
	}
	if strings.Count(got, "\n") != strings.Count(script, "\n") {
		t.Error("lines moved")
	}
}

func TestMutants(t *testing.T) {
	t.Parallel()
	var got []string
	for _, m := range mutants("x", script) {
		if len(m.text) > len(script) {
			t.Errorf("%s does not fit over the script", m.after)
		}
		if m.file == "x" && m.before != m.after {
			got = append(got, m.rule+": "+m.after)
		}
	}
	for _, want := range []string{
		"number: local n = num(ARGV[2])",
		"boundary: if n < now and not mine then redis.call('HDEL', BOX, 'gate') end",
		"negated: if n > now and not mine then redis.call('HDEL', BOX, 'gate') end",
		"logic: if n <= now or not mine then redis.call('HDEL', BOX, 'gate') end",
		"logic: if n <= now and  mine then redis.call('HDEL', BOX, 'gate') end",
		"always: if true then redis.call('HDEL', BOX, 'gate') end",
		"never: if false then redis.call('HDEL', BOX, 'gate') end",
		"field: if n <= now and not mine then redis.call('HDEL', BOX, 'gatex') end",
		"key: redis.call('ZADD', FLIGHT, int(now + 1), '--')",
		"arithmetic: redis.call('ZADD', DUE, int(now - 1), '--')",
		"dropped: ",
		"field: return {'donex', n}",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no fault %q in\n%s", want, strings.Join(got, "\n"))
		}
	}
}

func TestReportTellsTheUnknown(t *testing.T) {
	t.Parallel()
	m := mutant{file: "x", line: 3, rule: "logic", before: "a", after: "b"}
	var out strings.Builder
	if code := report(&out, []verdict{{mutant: m}, {mutant: m, by: "world"}}, nil, time.Second); code != 1 {
		t.Errorf("code = %d, want 1", code)
	}
	if !strings.Contains(out.String(), "x:3 logic") || !strings.Contains(out.String(), "1 world, 1 unnoticed") {
		t.Errorf("report = %s", out.String())
	}
	if other := (mutant{file: "x", line: 3, rule: "logic", before: "a", after: "c"}); !m.survived(out.String()) || other.survived(out.String()) {
		t.Errorf("not the survivor, or another, is found in %s", out.String())
	}
	if code := report(&out, []verdict{{mutant: m}}, map[string]string{m.key(): "why not"}, time.Second); code != 0 {
		t.Errorf("code = %d, want 0 for a known one", code)
	}
}

func TestPartsAreTheWhole(t *testing.T) {
	t.Parallel()
	all := mutants("x", script)
	n := 0
	for _, part := range []string{"1/3", "2/3", "3/3"} {
		some, err := partOf(all, part)
		if err != nil {
			t.Fatal(err)
		}
		n += len(some)
	}
	if n != len(all) {
		t.Errorf("the parts hold %d faults, want %d", n, len(all))
	}
	for _, wrong := range []string{"", "0/3", "4/3", "x"} {
		if _, err := partOf(all, wrong); err == nil {
			t.Errorf("part %q was taken", wrong)
		}
	}
}
