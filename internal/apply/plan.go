package apply

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Plan is everything that must be done.
type Plan struct {
	Tenants []TenantStep `json:"tenants"`
	Apps    []AppStep    `json:"apps"`
}

// Summary counts what a plan does, or what was done.
type Summary struct {
	Created   int `json:"apps_created"`
	Changed   int `json:"apps_changed"`
	Removed   int `json:"apps_removed"`
	Tenants   int `json:"tenants_set"`
	Added     int `json:"approvals_added"`
	Dropped   int `json:"approvals_removed"`
	Unchanged int `json:"apps_unchanged"`
	// LeftAlone counts existing approvals that are not in the manifest and stay.
	LeftAlone int `json:"approvals_left_alone"`
	Failed    int `json:"failed"`
}

// IsEmpty reports whether there is nothing to do.
func (p *Plan) IsEmpty() bool { return len(p.Tenants) == 0 && len(p.Apps) == 0 }

// Summarize counts what the plan does; said is how many apps the manifest has.
func (p *Plan) Summarize(said int) Summary {
	s := Summary{Tenants: len(p.Tenants), Unchanged: said}
	for i := range p.Apps {
		step := &p.Apps[i]
		if step.Action == Remove {
			s.Removed++
			continue
		}
		if step.writesApp() || len(step.Add)+len(step.Drop) > 0 {
			s.Unchanged--
		}
		switch {
		case step.Action == Create:
			s.Created++
		case step.writesApp():
			s.Changed++
		}
		s.Added += len(step.Add)
		s.Dropped += len(step.Drop)
		s.LeftAlone += step.Extra
	}
	return s
}

// Removals lists the apps to remove, and counts the approvals to remove.
func (p *Plan) Removals() (apps []string, approvals int) {
	for i := range p.Apps {
		if p.Apps[i].Action == Remove {
			apps = append(apps, p.Apps[i].ID)
		}
		approvals += len(p.Apps[i].Drop)
	}
	return apps, approvals
}

// NewApps lists the apps to create.
func (p *Plan) NewApps() []string {
	var ids []string
	for i := range p.Apps {
		if p.Apps[i].Action == Create {
			ids = append(ids, p.Apps[i].ID)
		}
	}
	return ids
}

// DiffColour colours a line of the given sign: '+', '-' or '~'.
type DiffColour func(sign byte, line string) string

// maxNamed is how many approvals are listed before they are only counted.
const maxNamed = 10

// Print shows the plan as a diff. A nil paint leaves it plain.
func (p *Plan) Print(w io.Writer, paint DiffColour) error {
	if paint == nil {
		paint = func(_ byte, line string) string { return line }
	}
	var b strings.Builder
	line := func(sign byte, format string, args ...any) {
		b.WriteString(paint(sign, fmt.Sprintf(format, args...)) + "\n")
	}
	for _, t := range p.Tenants {
		line('~', "~ tenant %s (%s)", t.ID, t.At)
		printEdits(line, t.Edits)
	}
	for i := range p.Apps {
		s := &p.Apps[i]
		switch s.Action {
		case Remove:
			line('-', "- app %s", s.ID)
			continue
		case Create:
			line('+', "+ app %s (%s)", s.ID, s.At)
		default:
			line('~', "~ app %s (%s)", s.ID, s.At)
		}
		printEdits(line, s.Edits)
		printTenants(line, '+', s.Add)
		printTenants(line, '-', s.Drop)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printEdits(line func(byte, string, ...any), edits []Edit) {
	for _, e := range edits {
		if e.Old == nil {
			line('+', "    + %s: %s", e.Path, formatValue(e.New))
			continue
		}
		line('~', "    ~ %s: %s -> %s", e.Path, formatValue(e.Old), formatValue(e.New))
	}
}

func printTenants(line func(byte, string, ...any), sign byte, tenants []string) {
	if len(tenants) == 0 {
		return
	}
	names := strings.Join(tenants[:min(len(tenants), maxNamed)], ", ")
	if len(tenants) > maxNamed {
		names += fmt.Sprintf(" and %s more", FormatThousands(len(tenants)-maxNamed))
	}
	line(sign, "    %c %s: %s", sign, FormatCount(len(tenants), "approval"), names)
}

// formatValue formats a value as JSON, which escapes control characters.
func formatValue(v any) string {
	text, err := json.Marshal(v)
	if err != nil { // values come from JSON or YAML
		return "?"
	}
	return truncateValue(strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, string(text)))
}

// String is the summary as text.
func (s Summary) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		noun string
		verb string
	}{
		{s.Created, "app", "created"},
		{s.Changed, "app", "changed"},
		{s.Removed, "app", "removed"},
		{s.Tenants, "tenant", "set"},
		{s.Added, "approval", "added"},
		{s.Dropped, "approval", "removed"},
		{s.Failed, "thing", "failed"},
	} {
		if p.n > 0 {
			parts = append(parts, FormatCount(p.n, p.noun)+" "+p.verb)
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "nothing to do")
	}
	if s.Unchanged > 0 {
		parts = append(parts, FormatCount(s.Unchanged, "app")+" as it should be")
	}
	text := strings.Join(parts, ", ")
	if s.LeftAlone > 0 {
		text += "; " + FormatCount(s.LeftAlone, "approval") + " not in the files left alone (--prune removes them)"
	}
	return text
}

// FormatCount formats a count with its noun.
func FormatCount(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return FormatThousands(n) + " " + noun + "s"
}

// FormatThousands formats a number with separators.
func FormatThousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// sort puts the steps in an order that does not depend on the order of answers.
func (p *Plan) sort() {
	slices.SortFunc(p.Apps, func(a, b AppStep) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(p.Tenants, func(a, b TenantStep) int { return strings.Compare(a.ID, b.ID) })
}
