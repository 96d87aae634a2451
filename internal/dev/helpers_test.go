package dev_test

import (
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"
)

func discard() slog.Handler { return slog.DiscardHandler }

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// parseSeconds reads the first half of what TIME answers.
func parseSeconds(t *testing.T, v any) time.Time {
	t.Helper()
	n, err := strconv.ParseInt(fmt.Sprint(v), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(n, 0)
}
