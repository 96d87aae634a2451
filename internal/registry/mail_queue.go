package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
)

const (
	// queuedMailsMax bounds the mails in one recipient's queue.
	queuedMailsMax = 2000
	// confirmationsMax bounds the confirmations in one recipient's queue: no more can be added before the oldest are dropped.
	confirmationsMax = 15
	// struckAfter is how long an empty queue stays listed. It is longer than the time between listing a queue and adding a mail
	// to it.
	struckAfter = time.Minute
	// mailQueuesPerLook bounds the queues that one ListMailQueues examines.
	mailQueuesPerLook = 1000
	// mailQueuePage is about how many fields of a queue are read at once.
	mailQueuePage = 500
	// leaveAtOnce bounds the mails that one script removes from a queue. forgetLook is about how many further fields it examines
	// for expired ones: more than it adds.
	leaveAtOnce = 100
	forgetLook  = 100
	// oldThreads is how long threads are kept that an earlier version wrote.
	oldThreads = 36 * 24 * time.Hour
)

// MailQueueStore stores, for each recipient, the mails of all apps that are to be sent to them. It is safe for concurrent use and
// has no state of its own.
//
// A mail comes from an app's outbox: it is added here first and settled there afterwards. So it is never lost, and is added only
// once however often that is repeated.
type MailQueueStore struct {
	rdb   redis.UniversalClient
	keys  keys.Space
	nonce func() string

	put, claim, settle, strike *script
}

// NewMailQueueStore returns the store on rdb, which the caller closes.
func NewMailQueueStore(rdb redis.UniversalClient, space keys.Space) *MailQueueStore {
	return &MailQueueStore{
		rdb: rdb, keys: space, nonce: rand.Text, put: newScript("tray_put"), claim: newScript("tray_claim"),
		settle: newScript("tray_settle"), strike: newScript("tray_strike"),
	}
}

// PutResult is the result of EnqueueMail.
type PutResult int

// The closed set of results, as tray_put.lua numbers them.
const (
	// PutFull: the queue is full for now.
	PutFull PutResult = iota
	// PutDone: the mail was added.
	PutDone
	// PutKnown: the mail is in the queue already, or left it a short while ago.
	PutKnown
)

// EnqueueMail adds a mail to a recipient's queue. An empty queue waits hold for more mails. It returns when the queue is due. The
// queue is listed before and after, so that a crash loses no mail. A queue of confirmations takes only a few: the caller drops a
// confirmation that it does not take.
func (s *MailQueueStore) EnqueueMail(ctx context.Context, recipient, mailID string, l *incident.Mail, hold time.Duration) (PutResult, time.Time, error) {
	if err := s.addToQueueList(ctx, recipient); err != nil {
		return PutFull, time.Time{}, err
	}
	room := queuedMailsMax
	if l.Kind == incident.KindConfirm {
		room = confirmationsMax
	}
	v, err := s.put.run(ctx, s.rdb, s.queueKeys(recipient), mailID, l.Encode(), hold.Milliseconds(), room).Int64Slice()
	if err != nil {
		return PutFull, time.Time{}, wrapError(err, "enqueue mail %s", mailID)
	}
	if len(v) != 2 {
		return PutFull, time.Time{}, fmt.Errorf("enqueue mail %s: %w", mailID, newAnswerError(s.put, v))
	}
	return PutResult(v[0]), fromMillis(v[1]), s.addToQueueList(ctx, recipient)
}

func (s *MailQueueStore) addToQueueList(ctx context.Context, recipient string) error {
	z := redis.Z{Score: float64(time.Now().UnixMicro()) / 1000, Member: recipient}
	return wrapError(s.rdb.ZAdd(ctx, s.keys.Config(keys.ConfigMailQueues), z).Err(), "list a mail queue")
}

// SetConfirmationsRefused records whether the recipient of a queue of confirmations refuses further ones, of any app.
func (s *MailQueueStore) SetConfirmationsRefused(ctx context.Context, tray string, on bool) error {
	set := s.keys.Config(keys.ConfigUnasked)
	if on {
		return wrapError(s.rdb.SAdd(ctx, set, tray).Err(), "refuse confirmations to %s", tray)
	}
	return wrapError(s.rdb.SRem(ctx, set, tray).Err(), "allow confirmations to %s", tray)
}

// ConfirmationsRefused reports whether the recipient of a queue of confirmations refuses further ones.
func (s *MailQueueStore) ConfirmationsRefused(ctx context.Context, tray string) (bool, error) {
	refused, err := s.rdb.SIsMember(ctx, s.keys.Config(keys.ConfigUnasked), tray).Result()
	return refused, wrapError(err, "read whether %s takes confirmations", tray)
}

// MailQueue holds a recipient's mails and the state of their sending.
type MailQueue struct {
	Mails []QueuedMail
	// Attempts counts the failed attempts since the last that succeeded.
	Attempts int
	// WindowAt is when the first mail of the current day was sent, Sent how many were sent since.
	WindowAt time.Time
	Sent     int
	// Batch is the digest that is being sent; its content is not interpreted here. Empty for none.
	Batch string
	// Threads are the Message-IDs of the digests that first reported an incident to the recipient, by incident.
	Threads map[string]string
}

// QueuedMail is a mail in a queue or an outbox.
type QueuedMail struct {
	ID string
	// Arrived is when the mail was added to the queue; zero for one in an outbox.
	Arrived time.Time
	Mail    incident.Mail
	// Unreadable is set instead of Mail if this version cannot read it.
	Unreadable error
}

// ClaimMailQueue claims a queue for the duration of lease. The queue is returned for ClaimTaken. After an error it may be
// claimed; it is free again when the lease ends.
func (s *MailQueueStore) ClaimMailQueue(ctx context.Context, recipient string, lease time.Duration) (MailClaim, MailQueue, error) {
	token := s.nonce()
	v, err := s.claim.run(ctx, s.rdb, s.queueKeys(recipient), token, lease.Milliseconds()).Int64Slice()
	if err != nil {
		return MailClaim{}, MailQueue{}, wrapError(err, "claim the mail queue of %s", recipient)
	}
	if len(v) != 2 {
		return MailClaim{}, MailQueue{}, fmt.Errorf("claim the mail queue of %s: %w", recipient, newAnswerError(s.claim, v))
	}
	c := MailClaim{Result: ClaimResult(v[0]), Token: token, Until: fromMillis(v[1])}
	if c.Result != ClaimTaken {
		return c, MailQueue{}, nil
	}
	q, err := s.readQueue(ctx, recipient)
	return c, q, err
}

// readQueue reads a queue in pages. A mail that is added meanwhile may be included or not.
func (s *MailQueueStore) readQueue(ctx context.Context, recipient string) (MailQueue, error) {
	fields := map[string]string{}
	for cursor := uint64(0); ; {
		page, next, err := s.rdb.HScan(ctx, s.queueKeys(recipient)[0], cursor, "", mailQueuePage).Result()
		if err != nil {
			return MailQueue{}, wrapError(err, "read the mail queue of %s", recipient)
		}
		for i := 0; i+1 < len(page); i += 2 {
			fields[page[i]] = page[i+1]
		}
		if cursor = next; cursor == 0 {
			return decodeMailQueue(fields), nil
		}
	}
}

func decodeMailQueue(fields map[string]string) MailQueue {
	t := MailQueue{Threads: map[string]string{}}
	number := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0 // an unset or invalid field counts as if nothing was sent yet
		}
		return n
	}
	for name, text := range fields {
		switch id, isLetter := strings.CutPrefix(name, "letter:"); {
		case isLetter:
			at, body, _ := strings.Cut(text, ";")
			l := QueuedMail{ID: id, Arrived: fromMillis(number(at))}
			l.Mail, l.Unreadable = incident.DecodeMail(body)
			t.Mails = append(t.Mails, l)
		case name == "attempts":
			t.Attempts = int(number(text))
		case name == "window":
			t.WindowAt = fromMillis(number(text))
		case name == "sent":
			t.Sent = int(number(text))
		case name == "parcel":
			t.Batch = text
		default:
			if incidentID, isThread := strings.CutPrefix(name, "thread:"); isThread {
				_, id, _ := strings.Cut(text, ";")
				t.Threads[incidentID] = id
			}
		}
	}
	// The order in which the transitions were decided; ids only decide between equal times.
	slices.SortFunc(t.Mails, func(a, b QueuedMail) int {
		if c := a.Mail.At.Compare(b.Mail.At); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return t
}

// MailQueueSettlement is the result of sending from a queue.
type MailQueueSettlement struct {
	// Leave are the ids of mails that were sent or dropped.
	Leave []string
	// Keep keeps the claim, for a batch that is about to be sent. Otherwise the queue may be claimed again after Delay.
	Keep  bool
	Delay time.Duration
	// Oldest is when the oldest of the remaining mails arrived; zero if none of those that were read remains.
	Oldest time.Time
	// The following are the queue's new values.
	Attempts int
	WindowAt time.Time
	Sent     int
	Batch    string
	// Threads are added to those that are known.
	Threads []DigestThread
}

// DigestThread is the digest that first reported an incident to a recipient, and how long it is kept.
type DigestThread struct {
	Incident, MessageID string
	Keep                time.Duration
}

// SettleMailQueue stores the result of sending and returns how many mails remain. It may be called late or twice: the removal of
// sent mails always counts, everything else only for the claim's holder. If many mails leave, they do so in several steps, and
// the claim is kept between them.
func (s *MailQueueStore) SettleMailQueue(ctx context.Context, recipient, token string, t MailQueueSettlement) (SettlementResult, int, error) {
	for len(t.Leave) > leaveAtOnce {
		some := t
		some.Leave, some.Keep, some.Threads = t.Leave[:leaveAtOnce], true, nil
		if out, _, err := s.settlePart(ctx, recipient, token, some); err != nil || out == SettleMissing {
			return out, 0, err
		}
		t.Leave = t.Leave[leaveAtOnce:]
	}
	return s.settlePart(ctx, recipient, token, t)
}

func (s *MailQueueStore) settlePart(ctx context.Context, recipient, token string, t MailQueueSettlement) (SettlementResult, int, error) {
	release := 1
	if t.Keep {
		release = 0
	}
	args := []any{
		token, release, t.Delay.Milliseconds(), sentKeep.Milliseconds(), t.Attempts, toMillis(t.WindowAt), t.Sent, t.Batch,
		toMillis(t.Oldest), forgetLook + 2*len(t.Leave), oldThreads.Milliseconds(), len(t.Threads),
	}
	for _, th := range t.Threads {
		args = append(args, th.Incident, th.MessageID, th.Keep.Milliseconds())
	}
	for _, id := range t.Leave {
		args = append(args, id)
	}
	v, err := s.settle.run(ctx, s.rdb, s.queueKeys(recipient), args...).Int64Slice()
	if err != nil {
		return SettleMissing, 0, wrapError(err, "settle the mail queue of %s", recipient)
	}
	if len(v) != 2 {
		return SettleMissing, 0, fmt.Errorf("settle the mail queue of %s: %w", recipient, newAnswerError(s.settle, v))
	}
	return SettlementResult(v[0]), int(v[1]), nil
}

func (s *MailQueueStore) queueKeys(recipient string) []string {
	return []string{s.keys.Recipient(recipient, keys.RecipientMailQueue)}
}

// MailQueueInfo is a summary of a queue.
type MailQueueInfo struct {
	Recipient string
	Mails     int
	// Due is when the queue may be claimed, Oldest when its oldest mail arrived.
	Due, Oldest time.Time
	Attempts    int
}

// Overdue returns how long the queue's mails are late: since the oldest arrived if sending has failed, otherwise since the queue
// was due.
func (t MailQueueInfo) Overdue(now time.Time) time.Duration {
	if t.Attempts > 0 {
		return now.Sub(t.Oldest)
	}
	return max(now.Sub(t.Due), 0)
}

// MailQueuePlace is where to continue in the list of queues: behind the queue of Recipient. The zero value is the start.
type MailQueuePlace struct {
	Score     float64
	Recipient string
}

// ListMailQueues lists queues that are not empty, the longest untouched first, and removes empty ones from the list. It examines
// mailQueuesPerLook from a place on; more is false if those were the last. It MUST be called regularly for the whole list.
func (s *MailQueueStore) ListMailQueues(ctx context.Context, after MailQueuePlace) (list []MailQueueInfo, next MailQueuePlace, more bool, err error) {
	index := s.keys.Config(keys.ConfigMailQueues)
	listed, err := s.rdb.ZRangeByScoreWithScores(ctx, index, &redis.ZRangeBy{Min: formatScore(after.Score), Max: "+inf", Count: mailQueuesPerLook}).Result()
	if err != nil {
		return nil, MailQueuePlace{}, false, wrapError(err, "list mail queues")
	}
	more = len(listed) == mailQueuesPerLook
	at := slices.IndexFunc(listed, func(z redis.Z) bool { return z.Score == after.Score && z.Member == after.Recipient })
	if listed = listed[at+1:]; len(listed) == 0 {
		return nil, MailQueuePlace{}, false, nil
	}
	last := listed[len(listed)-1]
	next = MailQueuePlace{Score: last.Score, Recipient: fmt.Sprint(last.Member)}
	cmds := make([]*redis.SliceCmd, len(listed))
	// Each command holds its own error.
	_, _ = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, z := range listed {
			cmds[i] = p.HMGet(ctx, s.keys.Recipient(fmt.Sprint(z.Member), keys.RecipientMailQueue), "count", "due", "oldest", "attempts")
		}
		return nil
	})
	var errs []error
	var empty []call
	stale := float64(time.Now().Add(-struckAfter).UnixMilli())
	for i, z := range listed {
		t := MailQueueInfo{Recipient: fmt.Sprint(z.Member)}
		v, err := cmds[i].Result()
		if err != nil {
			errs = append(errs, wrapError(err, "read the mail queue of %s", t.Recipient))
			continue
		}
		n := parseNumbers(v)
		t.Mails, t.Due, t.Oldest, t.Attempts = int(n[0]), fromMillis(n[1]), fromMillis(n[2]), int(n[3])
		switch {
		case t.Mails > 0:
			list = append(list, t)
		case z.Score < stale:
			empty = append(empty, call{keys: []string{index}, args: []any{t.Recipient, formatScore(z.Score)}})
		}
	}
	for _, cmd := range s.strike.runMany(ctx, s.rdb, empty) {
		errs = append(errs, wrapError(cmd.Err(), "remove an empty mail queue from the list"))
	}
	return list, next, more, errors.Join(errs...)
}

func formatScore(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// parseNumbers parses four numbers, 0 for an absent one.
func parseNumbers(v []any) [4]int64 {
	var out [4]int64
	for i := range min(len(v), len(out)) {
		if text, ok := v[i].(string); ok {
			out[i], _ = strconv.ParseInt(text, 10, 64)
		}
	}
	return out
}
