package jobs

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// refused is an answer of Redis.
type refused string

func (r refused) Error() string { return string(r) }
func (refused) RedisError()     {}

// Why a page failed is said by a word of a closed set.
func TestReasons(t *testing.T) {
	t.Parallel()
	r := NewRunner(Options{StoreFault: func(err error) string { return string(redisconn.ClassifyFault(err)) }})
	for want, err := range map[mailbox.JobReason]error{
		mailbox.StoreFull:   refused("OOM command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:9."),
		mailbox.FewReplicas: &redisconn.ReplicasError{},
		mailbox.StoreAway:   refused("LOADING Redis is loading the dataset in memory"),
		mailbox.Unreadable:  registry.ErrUnreadable,
		mailbox.Internal:    errors.New("no luck"),
	} {
		if got := r.failureReason(fmt.Errorf("page of job: %w", err)); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
	for _, err := range []error{context.DeadlineExceeded, fmt.Errorf("read: %w", context.DeadlineExceeded)} {
		if got := r.failureReason(err); got != mailbox.StoreAway {
			t.Errorf("%v is %q", err, got)
		}
	}
	if got := r.failureReason(mailbox.ErrFormat); got != mailbox.Unreadable {
		t.Errorf("a newer format is %q", got)
	}
}
