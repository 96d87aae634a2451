package apply

import "strings"

// kind is the type of a member's value.
type kind uint8

const (
	text kind = iota
	boolean
	texts
	integer
	nested
	// ignored members occur only in answers. They are accepted so that an answer can be edited and applied.
	ignored
)

// member describes the value of a name; members are those of a nested object. An atomic object is replaced as a
// whole.
type member struct {
	kind    kind
	members map[string]member
	atomic  bool
	// set says that the order of a list has no meaning.
	set bool
}

func appSchema() map[string]member {
	endpoint := member{kind: nested, members: map[string]member{
		"url":     {kind: text},
		"urls":    {kind: nested, atomic: true, members: map[string]member{"sod": {}, "stage": {}, "online": {}}},
		"enabled": {kind: boolean}, "send_error_emails": {kind: boolean},
		"effective_url": {kind: ignored}, "off_by": {kind: ignored}, "off_reason": {kind: ignored}, "switched_at": {kind: ignored},
		"switched_by": {kind: ignored}, "traffic": {kind: ignored}, "missing_license": {kind: ignored},
		"health": {kind: ignored}, "warnings": {kind: ignored},
	}}
	return map[string]member{
		"client_id":         {kind: text},
		"name":              {kind: text},
		"technical_contact": {kind: nested, members: map[string]member{"name": {}, "email": {}, "time_zone": {}}},
		"error_emails":      {kind: texts, set: true},
		"required_licenses": {kind: texts, set: true},
		"granted_licenses":  {kind: texts, set: true},
		"public_keys":       {kind: texts},
		"token_algorithm":   {kind: text},
		"probe_tenant":      {kind: text},
		"budget_factor":     {kind: integer},
		"endpoints": {kind: nested, members: map[string]member{
			"state_change": endpoint, "erp_sync": endpoint, "quote_connector": endpoint, "mirroring": endpoint,
		}},
		"approvals": {kind: texts},
		"paused":    {kind: ignored}, "revision": {kind: ignored}, "created_at": {kind: ignored}, "updated_at": {kind: ignored},
		"webhook_secret": {kind: ignored}, "warnings": {kind: ignored},
		"address_problems": {kind: ignored}, "missing_licenses": {kind: ignored}, "public_key_info": {kind: ignored},
	}
}

func tenantSchema() map[string]member {
	return map[string]member{
		"tenant": {kind: text}, "state": {kind: text}, "public_endpoint": {kind: text},
		"version_name": {kind: text}, "file_version": {kind: text},
		"is_running": {kind: ignored}, "updated_at": {kind: ignored}, "sequence": {kind: ignored}, "fan_out_owed": {kind: ignored},
		"source_sequence": {kind: ignored},
	}
}

// suggestMember returns a half-sentence with the known member closest to name, empty when none is close.
func suggestMember(name string, known map[string]member) string {
	best, distance := "", len(name)/3+2
	for candidate := range known {
		if d := editDistance(strings.ToLower(name), candidate); d < distance || d == distance && best != "" && candidate < best {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return ": did you mean " + best + "?"
}

// maxCompared limits the work for a name of arbitrary length.
const maxCompared = 64

// editDistance counts the bytes to insert, delete or replace to turn a into b.
func editDistance(a, b string) int {
	a = a[:min(len(a), maxCompared)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = min(diagonal, row[j], row[j+1]) + 1
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
