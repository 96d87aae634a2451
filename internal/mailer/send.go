package mailer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// MailQueues keep each recipient's letters; *registry.MailQueueStore is one.
type MailQueues interface {
	EnqueueMail(ctx context.Context, recipient, mailID string, l *incident.RecipientMail, hold time.Duration) (registry.PutResult, time.Time, error)
	ClaimMailQueue(ctx context.Context, recipient string, lease time.Duration) (registry.MailQueueClaim, error)
	SettleMailQueue(ctx context.Context, recipient, token string, t registry.MailQueueSettlement) (registry.SettlementResult, int, error)
	// ConfirmationsRefused reports whether the recipient of a tray of questions wants no more of them.
	ConfirmationsRefused(ctx context.Context, tray string) (bool, error)
	ListMailQueues(ctx context.Context, after registry.MailQueuePlace) (list []registry.MailQueueInfo, next registry.MailQueuePlace, more bool, err error)
}

// SuppressionChecker tells who wants no mail about an app; *registry.IncidentStore is one.
type SuppressionChecker interface {
	MailsSuppressed(ctx context.Context, subs []registry.Subscription) ([]bool, error)
}

// BounceMarker is told of an address that does not take mail.
type BounceMarker interface {
	MarkBounced(ctx context.Context, app partner.ClientID, address string, code int) error
}

// Waker wakes the mailer for a recipient's tray.
type Waker interface {
	EnqueueSendMail(ctx context.Context, recipient string, generation int64, delay time.Duration) error
}

const (
	// claimRunFor is how long one round goes on sending out of a tray. With sendWithin it ends before
	// the claim's lease.
	claimRunFor = claimLease - sendWithin - 2*settleWithin
	// fullWait is how long a letter stays in its outbox when its recipient's tray is full.
	fullWait = time.Hour
	// serverWait is the longest wait after a fault of the mail server itself, which says nothing
	// about the recipient: once it is back, nobody shall wait long.
	serverWait = time.Minute
)

// SendQueued sends what waits in a recipient's tray as far as it gets. An error means that the tray could
// not be read or written: the task may be run again, and the tray is listed as due after its lease.
func (s *Sender) SendQueued(ctx context.Context, recipient string) error {
	claim, err := s.opts.MailQueues.ClaimMailQueue(ctx, recipient, claimLease)
	if err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	if claim.Result != registry.ClaimTaken {
		s.opts.Log.DebugContext(ctx, "tray left alone", "recipient", recipient, "outcome", int(claim.Result))
		return nil
	}
	r := &claimRun{
		Sender: s, recipient: recipient, confirmations: incident.IsConfirmationQueue(recipient), token: claim.Token, queue: claim.Queue, began: s.opts.Now(),
	}
	if err := r.moveConfirmations(ctx); err != nil {
		return fmt.Errorf("move the questions to %s: %w", recipient, err)
	}
	for more := true; more; {
		if more, err = r.sendNextBatch(ctx); err != nil {
			return fmt.Errorf("write down what came of mail to %s: %w", recipient, err)
		}
	}
	return nil
}

// claimRun is one claim of a tray.
type claimRun struct {
	*Sender
	recipient, token string
	// confirmations: the tray holds questions alone, which have budgets of their own.
	confirmations bool
	queue         registry.MailQueue
	began         time.Time
}

// moveConfirmations brings the questions that a version before laid into a recipient's own tray to where they delay no news.
func (r *claimRun) moveConfirmations(ctx context.Context) error {
	if r.confirmations {
		return nil
	}
	var moved []registry.QueuedMail
	var tray string
	for _, l := range r.queue.Mails {
		if l.Unreadable != nil || l.Mail.Mail.Kind != incident.KindConfirm {
			continue
		}
		tray = incident.MailQueueOf(&l.Mail)
		out, _, err := r.opts.MailQueues.EnqueueMail(ctx, tray, l.ID, &l.Mail, 0)
		if err != nil {
			return err
		}
		if out == registry.PutFull {
			r.recordResult(ctx, []registry.QueuedMail{l}, false, ResultDropped, nil, 0, r.opts.Now())
		}
		moved = append(moved, l)
	}
	if len(moved) == 0 {
		return nil
	}
	if err := r.writeSettlement(ctx, registry.MailQueueSettlement{Keep: true, Leave: mailIDs(moved), Attempts: r.queue.Attempts, Batch: r.queue.Batch}); err != nil {
		return err
	}
	return r.wakeAfter(ctx, tray, 0)
}

// nextBatch decides what is sent.
func (r *claimRun) nextBatch(now time.Time) batch {
	if r.confirmations {
		return nextConfirmation(&r.queue, now)
	}
	return r.opts.Policy.nextBatch(&r.queue, now)
}

// sendNextBatch sends one parcel and settles it. It reports whether the round goes on.
func (r *claimRun) sendNextBatch(ctx context.Context) (bool, error) {
	if err := r.dropUnwanted(ctx); err != nil {
		return false, err
	}
	now := r.opts.Now()
	p := r.nextBatch(now)
	switch {
	case len(p.expired) > 0:
		for i := range p.expired {
			result := ResultExpired
			if r.confirmations && r.queue.Attempts == 0 {
				result = ResultDropped // no server failed: its turn never came
			}
			r.recordResult(ctx, p.expired[i:i+1], false, result, nil, 0, now)
		}
		return true, r.writeSettlement(ctx, registry.MailQueueSettlement{Keep: true, Leave: mailIDs(p.expired), Attempts: r.queue.Attempts})
	case p.wait > 0:
		return false, r.releaseQueue(ctx, p.wait, r.queue.Attempts)
	case len(p.mails) == 0 || now.Sub(r.began) >= claimRunFor || ctx.Err() != nil:
		return false, r.releaseQueue(ctx, 0, r.queue.Attempts)
	}
	return r.sendBatch(ctx, &p)
}

// dropUnwanted takes out the letters about apps of which the recipient wants to hear no more, and questions where no more
// are wanted.
func (r *claimRun) dropUnwanted(ctx context.Context) error {
	if len(r.queue.Mails) == 0 {
		return nil
	}
	unwanted, err := r.unwantedMails(ctx)
	if err != nil {
		return err
	}
	if len(unwanted) == 0 {
		return nil
	}
	for i := range unwanted {
		r.recordResult(ctx, unwanted[i:i+1], false, ResultUnwanted, nil, 0, r.opts.Now())
	}
	return r.writeSettlement(ctx, registry.MailQueueSettlement{Keep: true, Leave: mailIDs(unwanted), Attempts: r.queue.Attempts, Batch: r.queue.Batch})
}

func (r *claimRun) unwantedMails(ctx context.Context) ([]registry.QueuedMail, error) {
	refused := false
	var err error
	if r.confirmations {
		if refused, err = r.opts.MailQueues.ConfirmationsRefused(ctx, r.recipient); err != nil {
			return nil, err
		}
	}
	off := make([]bool, len(r.queue.Mails))
	if r.opts.Suppressions != nil && !refused {
		subs := make([]registry.Subscription, len(r.queue.Mails))
		for i := range subs {
			l := &r.queue.Mails[i].Mail
			subs[i] = registry.Subscription{App: l.ClientID, Recipient: incident.RecipientKey(l.To)}
		}
		if off, err = r.opts.Suppressions.MailsSuppressed(ctx, subs); err != nil {
			return nil, err
		}
	}
	var out []registry.QueuedMail
	for i, l := range r.queue.Mails {
		if (off[i] || refused) && l.Unreadable == nil {
			out = append(out, l)
		}
	}
	return out, nil
}

func (r *claimRun) sendBatch(ctx context.Context, p *batch) (bool, error) {
	began := r.opts.Now()
	msg, err := r.composeBatch(p)
	if err != nil {
		r.recordResult(ctx, p.mails, p.digest, ResultUnreadable, &SendError{Err: err}, 0, began)
		return true, r.writeSettlement(ctx, registry.MailQueueSettlement{Keep: true, Leave: mailIDs(p.mails), Attempts: r.queue.Attempts})
	}
	if fz := p.encodePin(); p.digest && fz != r.queue.Batch {
		if err := r.writeSettlement(ctx, registry.MailQueueSettlement{Keep: true, Batch: fz, Attempts: r.queue.Attempts}); err != nil {
			return false, err
		}
	}
	sendCtx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	cause := r.opts.Transport.Send(sendCtx, msg)
	if cause == nil {
		window := r.currentWindow(began)
		err := r.writeSettlement(ctx, registry.MailQueueSettlement{
			Keep: true, Leave: mailIDs(p.mails), WindowAt: window.at, Sent: window.sent + 1, Threads: r.digestThreads(p, msg),
		})
		r.recordResult(ctx, p.mails, p.digest, ResultSent, nil, 0, began)
		return err == nil, err
	}
	return r.settleFailure(ctx, p, asSendError(cause), began)
}

const (
	// threadKeep is how long it matters which digest told of an incident: longer than one stays open
	// without news.
	threadKeep = 35 * day
	// endedKeep is how long it matters after the incident's end, for one that opens anew.
	endedKeep = day
)

// digestThreads are the digests that later mails will answer, after a parcel was sent.
func (r *claimRun) digestThreads(p *batch, sent *Message) []registry.DigestThread {
	var out []registry.DigestThread
	for i := range p.mails {
		l := &p.mails[i].Mail
		id, known := r.queue.Threads[l.Mail.Incident]
		if p.digest && !known && (l.First == 0 || l.First == l.Mail.N) {
			id, known = sent.ID, true
		}
		if !known {
			continue
		}
		keep := threadKeep
		if endsIncident(l.Mail.Kind) {
			keep = endedKeep
		}
		out = append(out, registry.DigestThread{Incident: l.Mail.Incident, MessageID: id, Keep: keep})
	}
	return out
}

func (r *claimRun) settleFailure(ctx context.Context, p *batch, cause *SendError, began time.Time) (bool, error) {
	if cause.Permanent {
		leave := p.mails
		if cause.BadAddress { // all that waits for this address would be refused like this
			leave = mailsToSameAddress(r.queue.Mails, &p.mails[0])
			r.markBounced(ctx, leave, cause.Code)
		}
		r.recordResult(ctx, leave, p.digest, ResultRefused, cause, 0, began)
		err := r.writeSettlement(ctx, registry.MailQueueSettlement{Keep: true, Leave: mailIDs(leave), Attempts: r.queue.Attempts})
		return err == nil, err
	}
	delay := RetryDelay(r.queue.Attempts + 1)
	if cause.Server {
		delay = min(delay, serverWait)
	}
	r.recordResult(ctx, p.mails, p.digest, ResultDeferred, cause, delay, began)
	return false, r.releaseQueue(ctx, delay, r.queue.Attempts+1)
}

// mailsToSameAddress lists the letters to the address of one; unreadable ones are taken for such.
func mailsToSameAddress(ls []registry.QueuedMail, one *registry.QueuedMail) []registry.QueuedMail {
	var out []registry.QueuedMail
	for _, l := range ls {
		if l.Unreadable != nil || incident.RecipientKey(l.Mail.To) == incident.RecipientKey(one.Mail.To) {
			out = append(out, l)
		}
	}
	return out
}

// markBounced marks the address at each of the apps that wrote to it. A mark that fails is made by the
// next mail that bounces.
func (r *claimRun) markBounced(ctx context.Context, ls []registry.QueuedMail, code int) {
	if r.opts.Bounces == nil {
		return
	}
	bctx, cancel := settleContext(ctx)
	defer cancel()
	done := map[partner.ClientID]bool{}
	for i := range ls {
		l := &ls[i].Mail
		if ls[i].Unreadable != nil || done[l.ClientID] {
			continue
		}
		done[l.ClientID] = true
		if err := r.opts.Bounces.MarkBounced(bctx, l.ClientID, l.To, code); err != nil {
			r.opts.Log.WarnContext(ctx, "bounced address not marked, the next mail marks it", "app", string(l.ClientID), "recipient", r.recipient, "err", err)
		}
	}
}

func (r *claimRun) composeBatch(p *batch) (*Message, error) {
	if p.digest {
		ls := make([]*incident.RecipientMail, len(p.mails))
		for i := range p.mails {
			ls[i] = &p.mails[i].Mail
		}
		return r.opts.Composer.ComposeDigest(ls, p.at)
	}
	if err := p.mails[0].Unreadable; err != nil {
		return nil, err
	}
	return r.opts.Composer.ComposeReply(&p.mails[0].Mail, r.queue.Threads)
}

type dailyWindow struct {
	at   time.Time
	sent int
}

// currentWindow is the running day that a mail sent now counts to. That of questions begins with the last one.
func (r *claimRun) currentWindow(now time.Time) dailyWindow {
	if r.queue.WindowAt.IsZero() || !now.Before(r.queue.WindowAt.Add(day)) {
		return dailyWindow{at: now}
	}
	if r.confirmations {
		return dailyWindow{now, r.queue.Sent}
	}
	return dailyWindow{r.queue.WindowAt, r.queue.Sent}
}

// writeSettlement writes down, also while the process stops, and keeps the round's view in step.
func (r *claimRun) writeSettlement(ctx context.Context, t registry.MailQueueSettlement) error {
	if t.WindowAt.IsZero() {
		t.WindowAt, t.Sent = r.queue.WindowAt, r.queue.Sent
	}
	t.Oldest = r.oldestRemaining(t.Leave)
	sctx, cancel := settleContext(ctx)
	defer cancel()
	out, _, err := r.opts.MailQueues.SettleMailQueue(sctx, r.recipient, r.token, t)
	if err != nil {
		return err
	}
	if out != registry.SettleDone {
		return errClaimLost
	}
	r.queue.Attempts, r.queue.WindowAt, r.queue.Sent, r.queue.Batch = t.Attempts, t.WindowAt, t.Sent, t.Batch
	r.queue.Mails = mailsWithout(r.queue.Mails, t.Leave)
	for _, th := range t.Threads {
		r.queue.Threads[th.Incident] = th.MessageID
	}
	return nil
}

// oldestRemaining is when the oldest of the letters arrived that stay, zero when none does.
func (r *claimRun) oldestRemaining(leave []string) time.Time {
	var oldest time.Time
	for _, l := range mailsWithout(r.queue.Mails, leave) {
		if oldest.IsZero() || l.Arrived.Before(oldest) {
			oldest = l.Arrived
		}
	}
	return oldest
}

// errClaimLost ends a round whose claim went to another: it took longer than its lease.
var errClaimLost = errors.New("the claim of the tray was lost")

// releaseQueue gives the tray back and has somebody look again when something waits.
func (r *claimRun) releaseQueue(ctx context.Context, delay time.Duration, attempts int) error {
	sctx, cancel := settleContext(ctx)
	defer cancel()
	_, left, err := r.opts.MailQueues.SettleMailQueue(sctx, r.recipient, r.token, registry.MailQueueSettlement{
		Delay: delay, Attempts: attempts, WindowAt: r.queue.WindowAt, Sent: r.queue.Sent, Batch: r.queue.Batch, Oldest: r.oldestRemaining(nil),
	})
	if err != nil || left == 0 {
		return err
	}
	return r.wakeAfter(sctx, r.recipient, delay)
}

// wakeAfter has the mailer come after a delay. A wake-up that fails is made good by FindDue's caller.
func (s *Sender) wakeAfter(ctx context.Context, recipient string, delay time.Duration) error {
	if s.opts.Waker == nil {
		return nil
	}
	if err := s.opts.Waker.EnqueueSendMail(ctx, recipient, s.opts.Now().Add(delay).UnixMilli(), delay); err != nil {
		s.opts.Log.WarnContext(ctx, "mailer not woken, the loop of mails will do it", "recipient", recipient, "err", err)
	}
	return nil
}

// Backlog is what waits in some trays.
type Backlog struct {
	// Mails counts all, Oldest is how long the one that is late for longest is.
	Mails  int
	Oldest time.Duration
	// Due are the recipients whose tray is due.
	Due []string
}

// FindDueQueues looks at some trays, from a place on, and says where to go on; more is false behind the last of them.
// It MUST be called every few seconds for all of them, by one process at a time for economy, and Wake for those that are due.
func (s *Sender) FindDueQueues(ctx context.Context, after registry.MailQueuePlace) (b Backlog, next registry.MailQueuePlace, more bool, err error) {
	trays, next, more, err := s.opts.MailQueues.ListMailQueues(ctx, after)
	now := s.opts.Now()
	for _, t := range trays {
		b.Mails += t.Mails
		b.Oldest = max(b.Oldest, t.Overdue(now))
		if !t.Due.After(now) {
			b.Due = append(b.Due, t.Recipient)
		}
	}
	return b, next, more, err
}

// WakeRecipient wakes the mailer for a tray that is due. The same one is woken once a minute: the task before may have been lost, or wait
// still.
func (s *Sender) WakeRecipient(ctx context.Context, recipient string) error {
	return s.opts.Waker.EnqueueSendMail(ctx, recipient, s.opts.Now().UnixMilli()/time.Minute.Milliseconds(), 0)
}

func mailIDs(ls []registry.QueuedMail) []string {
	out := make([]string, len(ls))
	for i := range ls {
		out[i] = ls[i].ID
	}
	return out
}

func mailsWithout(ls []registry.QueuedMail, leave []string) []registry.QueuedMail {
	gone := make(map[string]bool, len(leave))
	for _, id := range leave {
		gone[id] = true
	}
	out := make([]registry.QueuedMail, 0, len(ls))
	for _, l := range ls {
		if !gone[l.ID] {
			out = append(out, l)
		}
	}
	return out
}
