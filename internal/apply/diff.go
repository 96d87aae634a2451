package apply

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Edit is one member that changes. Old is nil when it has no value yet.
type Edit struct {
	Path string `json:"path"`
	Old  any    `json:"old,omitempty"`
	New  any    `json:"new"`
}

// Action is what is done to an app or a tenant.
type Action string

// The closed set of actions.
const (
	Create Action = "create"
	Change Action = "change"
	Remove Action = "remove"
)

// AppStep is what must be done for one app.
type AppStep struct {
	ID     string `json:"client_id"`
	Action Action `json:"action"`
	Edits  []Edit `json:"edits,omitempty"`
	// Add and Drop are approvals to add and to remove, sorted.
	Add  []string `json:"approvals_added,omitempty"`
	Drop []string `json:"approvals_removed,omitempty"`
	// Extra counts existing approvals that are not in the manifest and stay.
	Extra int       `json:"approvals_left_alone,omitempty"`
	At    *Position `json:"at,omitempty"`

	app App
	// revision is the app's revision at the time of the decision; empty for an app to create.
	revision string
}

// writesApp reports whether the app itself must be written.
func (s *AppStep) writesApp() bool { return s.Action == Create || len(s.Edits) > 0 }

// TenantStep is what must be done for one tenant.
type TenantStep struct {
	ID    string    `json:"tenant"`
	Edits []Edit    `json:"edits"`
	At    *Position `json:"at"`

	said map[string]any
}

// CurrentApp is the present state of an app in the service.
type CurrentApp struct {
	// Members is its document; nil when there is no such app.
	Members map[string]any
	// Approvals are its tenants, in any order; needed only if the manifest has approvals for the app.
	Approvals []string
}

// DiffApp returns what must be done to bring an app into the state of the manifest, nil for nothing. With prune,
// approvals that are not in the manifest are removed.
func DiffApp(app App, now CurrentApp, prune bool) *AppStep {
	s := &AppStep{ID: app.ID, Action: Change, At: &app.At, app: app}
	if now.Members == nil {
		s.Action = Create
		s.Edits = appendEdits(nil, "", nil, app.Said, appSchema())
	} else {
		s.revision, _ = now.Members["revision"].(string)
		s.Edits = appendEdits(nil, "", now.Members, app.Said, appSchema())
	}
	if app.Approvals != nil {
		have := slices.Sorted(slices.Values(now.Approvals))
		s.Add = subtractSorted(app.Approvals, have)
		extra := subtractSorted(have, app.Approvals)
		if prune {
			s.Drop = extra
		} else {
			s.Extra = len(extra)
		}
	}
	if !s.writesApp() && len(s.Add) == 0 && len(s.Drop) == 0 {
		return nil
	}
	return s
}

// DiffTenant is DiffApp for a tenant; now is nil for an unknown tenant.
func DiffTenant(t Tenant, now map[string]any) *TenantStep {
	list := appendEdits(nil, "", now, t.Said, tenantSchema())
	if len(list) == 0 {
		return nil
	}
	return &TenantStep{ID: t.ID, Edits: list, At: &t.At, said: t.Said}
}

// subtractSorted returns the sorted list a without the elements of the sorted list b.
func subtractSorted(a, b []string) []string {
	var out []string
	for _, s := range a {
		if _, found := slices.BinarySearch(b, s); !found {
			out = append(out, s)
		}
	}
	return out
}

// appendEdits appends the members of said that differ from now, in the order of their names.
func appendEdits(list []Edit, path string, now, said map[string]any, schema map[string]member) []Edit {
	for _, name := range slices.Sorted(maps.Keys(said)) {
		at, want, have := joinMemberPath(path, name), said[name], now[name]
		known := schema[name]
		if known.kind == nested && !known.atomic {
			inner, _ := have.(map[string]any)
			members, _ := want.(map[string]any)
			list = appendEdits(list, at, inner, members, known.members)
			continue
		}
		if !areEquivalent(have, want) && (!known.set || !areEquivalent(sortTexts(have), sortTexts(want))) {
			list = append(list, Edit{Path: at, Old: have, New: want})
		}
	}
	return list
}

// areEquivalent compares JSON values. An absent value, "", empty lists and empty objects are the same for the
// service.
func areEquivalent(have, want any) bool {
	return reflect.DeepEqual(have, want) || isEmpty(have) && isEmpty(want)
}

// sortTexts sorts a list of texts, for members whose order has no meaning.
func sortTexts(v any) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	out := slices.Clone(list)
	slices.SortFunc(out, func(a, b any) int {
		x, _ := a.(string)
		y, _ := b.(string)
		return strings.Compare(x, y)
	})
	return out
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// buildMergePatch returns the merge patch for the edits.
func buildMergePatch(edits []Edit) map[string]any {
	out := map[string]any{}
	for _, e := range edits {
		at := out
		names := strings.Split(e.Path, ".")
		for _, name := range names[:len(names)-1] {
			inner, ok := at[name].(map[string]any)
			if !ok {
				inner = map[string]any{}
				at[name] = inner
			}
			at = inner
		}
		at[names[len(names)-1]] = buildReplacement(e.Old, e.New)
	}
	return out
}

// buildReplacement returns the object that replaces another one in a merge patch: members that are left out become
// null.
func buildReplacement(old, fresh any) any {
	have, ok := old.(map[string]any)
	want, ok2 := fresh.(map[string]any)
	if !ok || !ok2 {
		return fresh
	}
	out := maps.Clone(want)
	for name := range have {
		if _, said := want[name]; !said {
			out[name] = nil
		}
	}
	return out
}
