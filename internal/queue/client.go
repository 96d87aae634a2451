package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Limits of every task. asynq gives up a task that runs longer than its timeout; the record of its work
// is elsewhere, so nothing is lost.
const (
	maxRetry    = 5
	taskTimeout = 2 * time.Minute
)

// Client enqueues tasks. It is safe for concurrent use.
type Client struct {
	asynq *asynq.Client
	// namespace is made by FormatNamespace.
	namespace string
}

// NewClient returns a Client on a shared Redis client, which it does not close.
func NewClient(rdb redis.UniversalClient, namespace string) *Client {
	return &Client{asynq: asynq.NewClientFromRedisClient(rdb), namespace: namespace}
}

// EnqueueFanout wakes a fan-out for tenants; id makes a repeated call the same task.
func (c *Client) EnqueueFanout(ctx context.Context, id string, ts []tenant.ID) error {
	return c.enqueueTask(ctx, Fanout, id, fanoutPayload{Tenants: ts}, 0)
}

// EnqueueDrain wakes a drainer for an app's mailbox after a delay. A generation already enqueued
// counts as success.
func (c *Client) EnqueueDrain(ctx context.Context, app partner.ClientID, generation int64, delay time.Duration) error {
	id := string(app) + ":" + strconv.FormatInt(generation, 10)
	return c.enqueueTask(ctx, Drain, id, drainPayload{App: app, Generation: generation}, delay)
}

// EnqueueSendMail wakes the mailer for a mail queue after a delay. A generation already enqueued counts as
// success.
func (c *Client) EnqueueSendMail(ctx context.Context, recipient string, generation int64, delay time.Duration) error {
	return c.enqueueTask(ctx, SendMail, recipient+":"+strconv.FormatInt(generation, 10), sendMailPayload{Recipient: recipient}, delay)
}

// EnqueueForwardMail wakes the mailer for one mail of an app's outbox. A repeated call with the same attempt
// is the same task.
func (c *Client) EnqueueForwardMail(ctx context.Context, app partner.ClientID, mail string, attempt int64) error {
	id := string(app) + ":" + mail + ":" + strconv.FormatInt(attempt, 10)
	return c.enqueueTask(ctx, ForwardMail, id, forwardMailPayload{App: app, Mail: mail}, 0)
}

// EnqueueProbe wakes a probe of an integration endpoint when it is due. A time already enqueued counts as
// success.
func (c *Client) EnqueueProbe(ctx context.Context, app partner.ClientID, k partner.EndpointKind, due time.Time) error {
	id := string(app) + ":" + k.String() + ":" + strconv.FormatInt(due.UnixMilli(), 10)
	return c.enqueueTask(ctx, Probe, id, probePayload{App: app, Endpoint: k}, time.Until(due))
}

func (c *Client) enqueueTask(ctx context.Context, k Kind, id string, p payload, delay time.Duration) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode %s task: %w", k, err)
	}
	opts := []asynq.Option{asynq.Queue(AsynqName(c.namespace, k)), asynq.TaskID(id), asynq.MaxRetry(maxRetry), asynq.Timeout(taskTimeout)}
	if delay > 0 {
		// asynq stores whole seconds and rounds down; a wake-up that comes early finds nothing to do
		opts = append(opts, asynq.ProcessAt(time.Now().Add(delay+time.Second-1).Truncate(time.Second)))
	}
	_, err = c.asynq.EnqueueContext(ctx, asynq.NewTask(string(k), b), opts...)
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return fmt.Errorf("enqueue %s task %s: %w", k, id, err)
	}
	return nil
}
