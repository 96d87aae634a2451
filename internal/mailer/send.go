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

// MailQueues keep each recipient's mails; *registry.MailQueueStore is one.
type MailQueues interface {
	EnqueueMail(ctx context.Context, recipient, mailID string, l *incident.Mail, hold time.Duration) (registry.PutResult, time.Time, error)
	ClaimMailQueue(ctx context.Context, recipient string, lease time.Duration) (registry.MailClaim, registry.MailQueue, error)
	SettleMailQueue(ctx context.Context, recipient, token string, t registry.MailQueueSettlement) (registry.SettlementResult, int, error)
	// ConfirmationsRefused reports whether the recipient of a queue of confirmations refuses further ones.
	ConfirmationsRefused(ctx context.Context, tray string) (bool, error)
	ListMailQueues(ctx context.Context, after registry.MailQueuePlace) (list []registry.MailQueueInfo, next registry.MailQueuePlace, more bool, err error)
}

// SuppressionChecker says which recipients unsubscribed from mail about an app; *registry.IncidentStore is one.
type SuppressionChecker interface {
	MailsSuppressed(ctx context.Context, subs []registry.Subscription) ([]bool, error)
}

// BounceMarker marks an address that does not accept mail.
type BounceMarker interface {
	MarkBounced(ctx context.Context, app partner.ClientID, address string, code int) error
}

// Waker wakes the mailer for a mail queue, after a delay.
type Waker interface {
	EnqueueSendMail(ctx context.Context, recipient string, generation int64, delay time.Duration) error
}

const (
	// claimRunFor is how long a run starts further attempts. An attempt that starts just before its end
	// still ends before the claim's lease.
	claimRunFor = claimLease - sendWithin - 2*settleWithin
	// fullWait is how long a mail stays in its outbox when its recipient's mail queue is full.
	fullWait = time.Hour
	// serverWait is the longest wait after a fault of the mail server itself, which says nothing about the
	// recipient. It is short, so that mail is sent soon after the server works again.
	serverWait = time.Minute
)

// SendQueued claims a mail queue and sends its mails, until none may be sent or claimRunFor is over. An error
// means that the queue could not be read or written. The task may be run again, and the queue is listed as due
// after the lease of its claim.
func (s *Sender) SendQueued(ctx context.Context, recipient string) error {
	claim, queue, err := s.opts.MailQueues.ClaimMailQueue(ctx, recipient, claimLease)
	if err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	if claim.Result != registry.ClaimTaken {
		s.opts.Log.DebugContext(ctx, "mail queue not claimed", "recipient", recipient, "outcome", int(claim.Result))
		return nil
	}
	r := &claimRun{
		Sender: s, recipient: recipient, confirmations: incident.IsConfirmationQueue(recipient), token: claim.Token, queue: queue, began: s.opts.Now(),
	}
	if err := r.moveConfirmations(ctx); err != nil {
		return fmt.Errorf("move the confirmations to %s: %w", recipient, err)
	}
	for more := true; more; {
		if more, err = r.sendNextBatch(ctx); err != nil {
			return fmt.Errorf("settle the mail queue of %s: %w", recipient, err)
		}
	}
	return nil
}

// claimRun is the work of one claim of a mail queue. queue is what the run knows of it: it is read once, after
// the claim, and each settlement updates it.
type claimRun struct {
	*Sender
	recipient, token string
	// confirmations is set for a queue of confirmations, which have their own budget.
	confirmations bool
	queue         registry.MailQueue
	began         time.Time
}

// moveConfirmations moves confirmations out of a recipient's own mail queue, where older versions put them, into the
// queue of confirmations.
func (r *claimRun) moveConfirmations(ctx context.Context) error {
	if r.confirmations {
		return nil
	}
	var moved []registry.QueuedMail
	var tray string
	for _, l := range r.queue.Mails {
		if l.Unreadable != nil || l.Mail.Kind != incident.KindConfirm {
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

// nextBatch decides what is sent next.
func (r *claimRun) nextBatch(now time.Time) batch {
	if r.confirmations {
		return nextConfirmation(&r.queue, now)
	}
	return r.opts.Policy.nextBatch(&r.queue, now)
}

// sendNextBatch sends one batch and settles it. It reports whether the run continues.
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
				result = ResultDropped // it was never tried, because the budget was used up
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

// dropUnwanted removes the mails about apps from which the recipient unsubscribed, and confirmations where the recipient
// refuses them.
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
	// threadKeep is how long the digest about an incident's opening is remembered: longer than an incident
	// stays open without an event.
	threadKeep = 35 * day
	// endedKeep is how long it is remembered after the incident's end, for a mail about a reopened one.
	endedKeep = day
)

// digestThreads are the digests that later mails reply to. It is called after a batch was sent.
func (r *claimRun) digestThreads(p *batch, sent *Message) []registry.DigestThread {
	var out []registry.DigestThread
	for i := range p.mails {
		l := &p.mails[i].Mail
		id, known := r.queue.Threads[l.Incident]
		if p.digest && !known && (l.First == 0 || l.First == l.N) {
			id, known = sent.ID, true
		}
		if !known {
			continue
		}
		keep := threadKeep
		if l.Kind.EndsIncident() {
			keep = endedKeep
		}
		out = append(out, registry.DigestThread{Incident: l.Incident, MessageID: id, Keep: keep})
	}
	return out
}

func (r *claimRun) settleFailure(ctx context.Context, p *batch, cause *SendError, began time.Time) (bool, error) {
	if cause.Permanent {
		leave := p.mails
		if cause.BadAddress { // the server would refuse all pending mails to this address
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

// mailsToSameAddress lists the mails to the address of one; unreadable ones count as such.
func mailsToSameAddress(ls []registry.QueuedMail, one *registry.QueuedMail) []registry.QueuedMail {
	var out []registry.QueuedMail
	for _, l := range ls {
		if l.Unreadable != nil || incident.RecipientKey(l.Mail.To) == incident.RecipientKey(one.Mail.To) {
			out = append(out, l)
		}
	}
	return out
}

// markBounced marks the address at each app whose mails it bounced. A mark that fails is only logged; the next mail
// that bounces sets it.
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
			r.opts.Log.WarnContext(ctx, "bounced address not marked; the next mail to it marks it", "app", string(l.ClientID), "recipient", r.recipient, "err", err)
		}
	}
}

func (r *claimRun) composeBatch(p *batch) (*Message, error) {
	if p.digest {
		ls := make([]*incident.Mail, len(p.mails))
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

// currentWindow is the window of the daily cap to which a mail sent now counts. For confirmations it begins anew with
// each one.
func (r *claimRun) currentWindow(now time.Time) dailyWindow {
	if r.queue.WindowAt.IsZero() || !now.Before(r.queue.WindowAt.Add(day)) {
		return dailyWindow{at: now}
	}
	if r.confirmations {
		return dailyWindow{now, r.queue.Sent}
	}
	return dailyWindow{r.queue.WindowAt, r.queue.Sent}
}

// writeSettlement writes a settlement, also while the process stops, and updates r.queue. The error is errClaimLost when
// another process has claimed the queue.
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

// oldestRemaining is when the oldest of the mails that stay arrived, zero when none stays.
func (r *claimRun) oldestRemaining(leave []string) time.Time {
	var oldest time.Time
	for _, l := range mailsWithout(r.queue.Mails, leave) {
		if oldest.IsZero() || l.Arrived.Before(oldest) {
			oldest = l.Arrived
		}
	}
	return oldest
}

// errClaimLost ends a run whose claim expired and went to another process.
var errClaimLost = errors.New("the claim of the mail queue was lost")

// releaseQueue gives the mail queue back, and wakes the mailer after a delay if mails are left.
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

// wakeAfter wakes the mailer after a delay. A wake-up that fails is only logged: the caller of FindDueQueues repeats it.
func (s *Sender) wakeAfter(ctx context.Context, recipient string, delay time.Duration) error {
	if s.opts.Waker == nil {
		return nil
	}
	if err := s.opts.Waker.EnqueueSendMail(ctx, recipient, s.opts.Now().Add(delay).UnixMilli(), delay); err != nil {
		s.opts.Log.WarnContext(ctx, "mailer not woken; the loop of mails repeats it", "recipient", recipient, "err", err)
	}
	return nil
}

// Backlog is what is pending in some mail queues.
type Backlog struct {
	// Mails counts the mails. Oldest is how long the most overdue one is late.
	Mails  int
	Oldest time.Duration
	// Due are the names of the queues that are due.
	Due []string
}

// FindDueQueues reads a page of the mail queues, from a place on. next is where the following page starts; more is
// false after the last page. It MUST be called every few seconds for all queues, and WakeRecipient for those that are
// due. One process at a time is enough; several do no harm.
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

// WakeRecipient wakes the mailer for a mail queue that is due, at most once a minute: the earlier task may be lost, or may
// still be in its queue.
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
