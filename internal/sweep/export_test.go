package sweep

import "github.com/lamplighter/lamplighter/internal/mailbox"

// ConditionOf is conditionOf.
func ConditionOf(v mailbox.View, t Troubles, on bool) string { return string(conditionOf(v, t, on)) }

// Limits of a sweep and of the series that name apps.
const (
	Batch         = batch
	MaxExceptions = maxExceptions
)
