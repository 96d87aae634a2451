package redisconn

import (
	"context"
	"time"
)

// Patience is how long replicas are waited for.
func Patience(ctx context.Context) time.Duration { return replicaTimeout(ctx) }
