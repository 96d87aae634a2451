package feed

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/lamplighter/lamplighter/internal/partner"
)

// ErrMalformed reports a text that is not a revision of any feed.
var ErrMalformed = errors.New("must be a revision that an earlier answer gave")

// markRules returns a mark for the revisions of a feed with unusual rules about licences. The same settings look
// different under other rules, so a reader must not continue from a revision with another mark.
func markRules(r partner.Requirements) string {
	items := r.Items()
	if slices.Equal(items, partner.DefaultRequirements().Items()) {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join(items, ",")))
	return hex.EncodeToString(sum[:4])
}

// formatRevision formats a revision for answers: a number and, with unusual rules, a hyphen and their mark.
func formatRevision(revision int64, rules string) string {
	text := strconv.FormatInt(revision, 10)
	if rules != "" {
		text += "-" + rules
	}
	return text
}

// parseRevision reads the format of formatRevision.
func parseRevision(text string) (revision int64, rules string, err error) {
	number, mark, marked := strings.Cut(text, "-")
	revision, err = strconv.ParseInt(number, 10, 64)
	if err != nil || revision < 0 || strconv.FormatInt(revision, 10) != number {
		return 0, "", ErrMalformed
	}
	if b, err := hex.DecodeString(mark); marked && (err != nil || len(b) != 4 || strings.ToLower(mark) != mark) {
		return 0, "", ErrMalformed
	}
	return revision, mark, nil
}
