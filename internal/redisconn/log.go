package redisconn

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// LogTo sends go-redis's own messages (lost connections, failovers) to log, instead of plain text on standard error. go-redis has
// one logger per process: call it once, before New.
func LogTo(log *slog.Logger) { redis.SetLogger(driverLog{log}) }

type driverLog struct{ log *slog.Logger }

// Printf logs at warn level: go-redis reports only faults and failovers.
func (d driverLog) Printf(ctx context.Context, format string, v ...any) {
	d.log.WarnContext(ctx, "redis client reported", "err", fmt.Sprintf(format, v...))
}
