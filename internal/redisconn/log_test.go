package redisconn

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestDriverLogIsStructured(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	driverLog{slog.New(slog.NewJSONHandler(&b, nil))}.Printf(t.Context(), "failed to dial after %d attempts", 3)
	if got := b.String(); !strings.Contains(got, `"err":"failed to dial after 3 attempts"`) || !strings.Contains(got, `"level":"WARN"`) {
		t.Errorf("logged %s", got)
	}
}
