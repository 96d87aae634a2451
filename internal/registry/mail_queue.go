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
	// queuedMailsMax bounds the letters that wait for one recipient.
	queuedMailsMax = 2000
	// confirmationsMax bounds the questions that wait for one: no more can be asked before the oldest are given up.
	confirmationsMax = 15
	// struckAfter is how long an empty tray stays listed: longer than anybody takes between listing
	// it and laying something in.
	struckAfter = time.Minute
	// mailQueuesPerLook bounds the trays that one Trays lists.
	mailQueuesPerLook = 1000
	// mailQueuePage is about how many fields of a tray are read at once.
	mailQueuePage = 500
	// leaveAtOnce bounds the letters that one script takes out of a tray, forgetLook at about how many fields it looks
	// besides for what is forgotten: more than it adds.
	leaveAtOnce = 100
	forgetLook  = 100
	// oldThreads is how long threads may matter that a version before wrote.
	oldThreads = 36 * 24 * time.Hour
)

// MailQueueStore keeps, for each recipient of mail, the letters of all apps that wait to be sent to
// them. It is safe for concurrent use and holds no state of its own.
//
// A letter comes here from an app's outbox: it is laid in first and settled there afterwards, so it
// is never lost, and laid in once however often that is repeated.
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

// PutResult is what came of laying a letter into a tray.
type PutResult int

// The closed set of outcomes, as tray_put.lua numbers them.
const (
	// PutFull: the tray takes no more for now.
	PutFull PutResult = iota
	// PutDone: laid in.
	PutDone
	// PutKnown: it is there, or left a short while ago.
	PutKnown
)

// EnqueueMail lays a letter into a recipient's tray. An empty tray waits hold for more. It returns
// when the tray is due. The tray is listed before and after, so that a crash loses none. Of questions a tray takes few:
// whoever lays them in drops what it does not take.
func (s *MailQueueStore) EnqueueMail(ctx context.Context, recipient, mailID string, l *incident.RecipientMail, hold time.Duration) (PutResult, time.Time, error) {
	if err := s.addToQueueList(ctx, recipient); err != nil {
		return PutFull, time.Time{}, err
	}
	room := queuedMailsMax
	if l.Mail.Kind == incident.KindConfirm {
		room = confirmationsMax
	}
	v, err := s.put.run(ctx, s.rdb, s.queueKeys(recipient), mailID, l.Encode(), hold.Milliseconds(), room).Int64Slice()
	if err != nil {
		return PutFull, time.Time{}, wrapError(err, "lay mail %s into a tray", mailID)
	}
	if len(v) != 2 {
		return PutFull, time.Time{}, fmt.Errorf("lay mail %s into a tray: %w", mailID, newAnswerError(s.put, v))
	}
	return PutResult(v[0]), fromMillis(v[1]), s.addToQueueList(ctx, recipient)
}

func (s *MailQueueStore) addToQueueList(ctx context.Context, recipient string) error {
	z := redis.Z{Score: float64(time.Now().UnixMicro()) / 1000, Member: recipient}
	return wrapError(s.rdb.ZAdd(ctx, s.keys.Config(keys.ConfigMailQueues), z).Err(), "list a tray")
}

// SetConfirmationsRefused records whether the recipient of a tray of questions wants no more of them, of any app.
func (s *MailQueueStore) SetConfirmationsRefused(ctx context.Context, tray string, on bool) error {
	set := s.keys.Config(keys.ConfigUnasked)
	if on {
		return wrapError(s.rdb.SAdd(ctx, set, tray).Err(), "refuse questions to %s", tray)
	}
	return wrapError(s.rdb.SRem(ctx, set, tray).Err(), "allow questions to %s", tray)
}

// ConfirmationsRefused reports whether the recipient of a tray of questions wants no more of them.
func (s *MailQueueStore) ConfirmationsRefused(ctx context.Context, tray string) (bool, error) {
	refused, err := s.rdb.SIsMember(ctx, s.keys.Config(keys.ConfigUnasked), tray).Result()
	return refused, wrapError(err, "read whether %s takes questions", tray)
}

// MailQueue is a recipient's letters and how their sending stands.
type MailQueue struct {
	Mails []QueuedMail
	// Attempts counts the failed tries since the last that succeeded.
	Attempts int
	// WindowAt is when the first mail of the running day was sent, Sent how many were since.
	WindowAt time.Time
	Sent     int
	// Batch is the digest that is being sent, opaque here; empty for none.
	Batch string
	// Threads are the Message-IDs of the digests that told the recipient of incidents first.
	Threads map[string]string
}

// QueuedMail is a letter in a tray.
type QueuedMail struct {
	ID      string
	Arrived time.Time
	Mail    incident.RecipientMail
	// Unreadable is set instead of Letter when this version cannot read it.
	Unreadable error
}

// MailQueueClaim is the right to send from a tray for a while.
type MailQueueClaim struct {
	// Result is ClaimMissing when nothing waits, ClaimTaken, ClaimHeld or ClaimEarly.
	Result ClaimResult
	Token  string
	// Until is the end of the lease; for ClaimHeld and ClaimEarly when to come again.
	Until time.Time
	// Queue is set for ClaimTaken.
	Queue MailQueue
}

// ClaimMailQueue claims a tray for as long as lease. After an error it may be claimed; the lease frees it.
func (s *MailQueueStore) ClaimMailQueue(ctx context.Context, recipient string, lease time.Duration) (MailQueueClaim, error) {
	token := s.nonce()
	v, err := s.claim.run(ctx, s.rdb, s.queueKeys(recipient), token, lease.Milliseconds()).Int64Slice()
	if err != nil {
		return MailQueueClaim{}, wrapError(err, "claim the tray of %s", recipient)
	}
	if len(v) != 2 {
		return MailQueueClaim{}, fmt.Errorf("claim the tray of %s: %w", recipient, newAnswerError(s.claim, v))
	}
	c := MailQueueClaim{Result: ClaimResult(v[0]), Token: token, Until: fromMillis(v[1])}
	if c.Result == ClaimTaken {
		if c.Queue, err = s.readQueue(ctx, recipient); err != nil {
			return MailQueueClaim{}, err
		}
	}
	return c, nil
}

// readQueue reads a tray in pages. What is laid in meanwhile may be among it or not.
func (s *MailQueueStore) readQueue(ctx context.Context, recipient string) (MailQueue, error) {
	fields := map[string]string{}
	for cursor := uint64(0); ; {
		page, next, err := s.rdb.HScan(ctx, s.queueKeys(recipient)[0], cursor, "", mailQueuePage).Result()
		if err != nil {
			return MailQueue{}, wrapError(err, "read the tray of %s", recipient)
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
			return 0 // an unset field, or nonsense: either way as if nothing was sent yet
		}
		return n
	}
	for name, text := range fields {
		switch id, isLetter := strings.CutPrefix(name, "letter:"); {
		case isLetter:
			at, body, _ := strings.Cut(text, ";")
			l := QueuedMail{ID: id, Arrived: fromMillis(number(at))}
			l.Mail, l.Unreadable = incident.DecodeRecipientMail(body)
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
	// The order in which the transitions were decided; ids only break ties.
	slices.SortFunc(t.Mails, func(a, b QueuedMail) int {
		if c := a.Mail.Mail.At.Compare(b.Mail.Mail.At); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return t
}

// MailQueueSettlement is what came of sending from a tray.
type MailQueueSettlement struct {
	// Leave are the ids of letters that were sent or dropped.
	Leave []string
	// Keep holds the claim, for a parcel that is about to be sent. Otherwise the tray may be claimed
	// again after Delay.
	Keep  bool
	Delay time.Duration
	// Oldest is when the oldest of the letters that stay arrived; zero when none that was read stays.
	Oldest time.Time
	// The others are the tray's new values.
	Attempts int
	WindowAt time.Time
	Sent     int
	Batch    string
	// Threads are remembered beside those that are known.
	Threads []DigestThread
}

// DigestThread is the digest that told a recipient of an incident first, and for how long that matters.
type DigestThread struct {
	Incident, MessageID string
	Keep                time.Duration
}

// SettleMailQueue writes down what came of sending and returns how many letters wait still. It may be
// called late or twice: that letters were sent is a fact, all else counts for the claim's holder. Where many leave, they do so
// in several steps, the claim kept between them.
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
		return SettleMissing, 0, wrapError(err, "settle the tray of %s", recipient)
	}
	if len(v) != 2 {
		return SettleMissing, 0, fmt.Errorf("settle the tray of %s: %w", recipient, newAnswerError(s.settle, v))
	}
	return SettlementResult(v[0]), int(v[1]), nil
}

func (s *MailQueueStore) queueKeys(recipient string) []string {
	return []string{s.keys.Recipient(recipient, keys.RecipientMailQueue)}
}

// MailQueueInfo is how a tray stands.
type MailQueueInfo struct {
	Recipient string
	Mails     int
	// Due is when it may be claimed, Oldest when its oldest letter came.
	Due, Oldest time.Time
	Attempts    int
}

// Overdue is how long its oldest letter is late: since it came when sending has failed, else since
// it was due.
func (t MailQueueInfo) Overdue(now time.Time) time.Duration {
	if t.Attempts > 0 {
		return now.Sub(t.Oldest)
	}
	return max(now.Sub(t.Due), 0)
}

// MailQueuePlace is where to go on in the list of trays: behind the tray of Recipient. The zero value is the start.
type MailQueuePlace struct {
	Score     float64
	Recipient string
}

// ListMailQueues lists trays in which something waits, those first that were not touched for longest, and
// strikes off empty ones. It looks at mailQueuesPerLook from a place on; more is false where those were the last. It MUST be
// called now and then for all of them.
func (s *MailQueueStore) ListMailQueues(ctx context.Context, after MailQueuePlace) (list []MailQueueInfo, next MailQueuePlace, more bool, err error) {
	index := s.keys.Config(keys.ConfigMailQueues)
	listed, err := s.rdb.ZRangeByScoreWithScores(ctx, index, &redis.ZRangeBy{Min: formatScore(after.Score), Max: "+inf", Count: mailQueuesPerLook}).Result()
	if err != nil {
		return nil, MailQueuePlace{}, false, wrapError(err, "list trays")
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
			errs = append(errs, wrapError(err, "look into the tray of %s", t.Recipient))
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
		errs = append(errs, wrapError(cmd.Err(), "strike off a tray"))
	}
	return list, next, more, errors.Join(errs...)
}

func formatScore(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// parseNumbers reads four numbers, 0 for what is absent.
func parseNumbers(v []any) [4]int64 {
	var out [4]int64
	for i := range min(len(v), len(out)) {
		if text, ok := v[i].(string); ok {
			out[i], _ = strconv.ParseInt(text, 10, 64)
		}
	}
	return out
}
