package httpapi

import "strings"

// tagComparison is the way in which entity tags are compared (RFC 9110 section 8.8.3.2).
type tagComparison bool

const (
	// strong is If-Match's: a weak tag never matches.
	strong tagComparison = false
	// weak is If-None-Match's: the mark W/ makes no difference.
	weak tagComparison = true
)

// matchesETag reports whether a precondition's header lines name the current entity tag; current is
// empty when the resource does not exist. "*" matches whatever exists. Malformed lines match
// nothing.
func matchesETag(lines []string, current string, how tagComparison) bool {
	if current == "" {
		return false
	}
	for _, line := range lines {
		for tag := range strings.SplitSeq(line, ",") {
			tag = strings.TrimSpace(tag)
			if how == weak {
				tag = strings.TrimPrefix(tag, "W/")
			}
			if tag == "*" || tag == current {
				return true
			}
		}
	}
	return false
}
