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

// Trays keep each recipient's letters; *registry.TrayStore is one.
type Trays interface {
	PutLetter(ctx context.Context, recipient, mailID string, l *incident.RecipientMail, hold time.Duration) (registry.PutOutcome, time.Time, error)
	ClaimTray(ctx context.Context, recipient string, lease time.Duration) (registry.TrayClaim, error)
	SettleTray(ctx context.Context, recipient, token string, t registry.TraySettlement) (registry.SettleOutcome, int, error)
	// QuestionsRefused reports whether the recipient of a tray of questions wants no more of them.
	QuestionsRefused(ctx context.Context, tray string) (bool, error)
	Trays(ctx context.Context, after registry.TrayPlace) (list []registry.TrayInfo, next registry.TrayPlace, more bool, err error)
}

// Silence tells who wants no mail about an app; *registry.IncidentStore is one.
type Silence interface {
	Suppressed(ctx context.Context, subs []registry.Subscription) ([]bool, error)
}

// Bouncer is told of an address that does not take mail.
type Bouncer interface {
	Bounced(ctx context.Context, app partner.ClientID, address string, code int) error
}

// Waker wakes the mailer for a recipient's tray.
type Waker interface {
	EnqueuePost(ctx context.Context, recipient string, generation int64, delay time.Duration) error
}

const (
	// roundFor is how long one round goes on sending out of a tray. With sendWithin it ends before
	// the claim's lease.
	roundFor = claimLease - sendWithin - 2*settleWithin
	// fullWait is how long a letter stays in its outbox when its recipient's tray is full.
	fullWait = time.Hour
	// serverWait is the longest wait after a fault of the mail server itself, which says nothing
	// about the recipient: once it is back, nobody shall wait long.
	serverWait = time.Minute
)

// Post sends what waits in a recipient's tray as far as it gets. An error means that the tray could
// not be read or written: the task may be run again, and the tray is listed as due after its lease.
func (s *Sender) Post(ctx context.Context, recipient string) error {
	claim, err := s.opts.Trays.ClaimTray(ctx, recipient, claimLease)
	if err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	if claim.Outcome != registry.ClaimTaken {
		s.opts.Log.DebugContext(ctx, "tray left alone", "recipient", recipient, "outcome", int(claim.Outcome))
		return nil
	}
	r := &round{
		Sender: s, recipient: recipient, questions: incident.IsConfirmationQueue(recipient), token: claim.Token, tray: claim.Tray, began: s.opts.Now(),
	}
	if err := r.moveQuestions(ctx); err != nil {
		return fmt.Errorf("move the questions to %s: %w", recipient, err)
	}
	for more := true; more; {
		if more, err = r.step(ctx); err != nil {
			return fmt.Errorf("write down what came of mail to %s: %w", recipient, err)
		}
	}
	return nil
}

// round is one claim of a tray.
type round struct {
	*Sender
	recipient, token string
	// questions: the tray holds questions alone, which have budgets of their own.
	questions bool
	tray      registry.Tray
	began     time.Time
}

// moveQuestions brings the questions that a version before laid into a recipient's own tray to where they delay no news.
func (r *round) moveQuestions(ctx context.Context) error {
	if r.questions {
		return nil
	}
	var moved []registry.TrayLetter
	var tray string
	for _, l := range r.tray.Letters {
		if l.Unreadable != nil || l.Letter.Mail.Kind != incident.KindConfirm {
			continue
		}
		tray = incident.MailQueueOf(&l.Letter)
		out, _, err := r.opts.Trays.PutLetter(ctx, tray, l.ID, &l.Letter, 0)
		if err != nil {
			return err
		}
		if out == registry.PutFull {
			r.report(ctx, []registry.TrayLetter{l}, false, ResultDropped, nil, 0, r.opts.Now())
		}
		moved = append(moved, l)
	}
	if len(moved) == 0 {
		return nil
	}
	if err := r.settle(ctx, registry.TraySettlement{Keep: true, Leave: ids(moved), Attempts: r.tray.Attempts, Parcel: r.tray.Parcel}); err != nil {
		return err
	}
	return r.wake(ctx, tray, 0)
}

// next decides what is sent.
func (r *round) next(now time.Time) parcel {
	if r.questions {
		return nextQuestion(&r.tray, now)
	}
	return r.opts.Policy.next(&r.tray, now)
}

// step sends one parcel and settles it. It reports whether the round goes on.
func (r *round) step(ctx context.Context) (bool, error) {
	if err := r.dropUnwanted(ctx); err != nil {
		return false, err
	}
	now := r.opts.Now()
	p := r.next(now)
	switch {
	case len(p.expired) > 0:
		for i := range p.expired {
			result := ResultExpired
			if r.questions && r.tray.Attempts == 0 {
				result = ResultDropped // no server failed: its turn never came
			}
			r.report(ctx, p.expired[i:i+1], false, result, nil, 0, now)
		}
		return true, r.settle(ctx, registry.TraySettlement{Keep: true, Leave: ids(p.expired), Attempts: r.tray.Attempts})
	case p.wait > 0:
		return false, r.release(ctx, p.wait, r.tray.Attempts)
	case len(p.letters) == 0 || now.Sub(r.began) >= roundFor || ctx.Err() != nil:
		return false, r.release(ctx, 0, r.tray.Attempts)
	}
	return r.send(ctx, &p)
}

// dropUnwanted takes out the letters about apps of which the recipient wants to hear no more, and questions where no more
// are wanted.
func (r *round) dropUnwanted(ctx context.Context) error {
	if len(r.tray.Letters) == 0 {
		return nil
	}
	unwanted, err := r.unwanted(ctx)
	if err != nil {
		return err
	}
	if len(unwanted) == 0 {
		return nil
	}
	for i := range unwanted {
		r.report(ctx, unwanted[i:i+1], false, ResultUnwanted, nil, 0, r.opts.Now())
	}
	return r.settle(ctx, registry.TraySettlement{Keep: true, Leave: ids(unwanted), Attempts: r.tray.Attempts, Parcel: r.tray.Parcel})
}

func (r *round) unwanted(ctx context.Context) ([]registry.TrayLetter, error) {
	refused := false
	var err error
	if r.questions {
		if refused, err = r.opts.Trays.QuestionsRefused(ctx, r.recipient); err != nil {
			return nil, err
		}
	}
	off := make([]bool, len(r.tray.Letters))
	if r.opts.Silence != nil && !refused {
		subs := make([]registry.Subscription, len(r.tray.Letters))
		for i := range subs {
			l := &r.tray.Letters[i].Letter
			subs[i] = registry.Subscription{App: l.ClientID, Recipient: incident.RecipientKey(l.To)}
		}
		if off, err = r.opts.Silence.Suppressed(ctx, subs); err != nil {
			return nil, err
		}
	}
	var out []registry.TrayLetter
	for i, l := range r.tray.Letters {
		if (off[i] || refused) && l.Unreadable == nil {
			out = append(out, l)
		}
	}
	return out, nil
}

func (r *round) send(ctx context.Context, p *parcel) (bool, error) {
	began := r.opts.Now()
	msg, err := r.compose(p)
	if err != nil {
		r.report(ctx, p.letters, p.digest, ResultUnreadable, &SendError{Err: err}, 0, began)
		return true, r.settle(ctx, registry.TraySettlement{Keep: true, Leave: ids(p.letters), Attempts: r.tray.Attempts})
	}
	if fz := p.freeze(); p.digest && fz != r.tray.Parcel {
		if err := r.settle(ctx, registry.TraySettlement{Keep: true, Parcel: fz, Attempts: r.tray.Attempts}); err != nil {
			return false, err
		}
	}
	sendCtx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	cause := r.opts.Transport.Send(sendCtx, msg)
	if cause == nil {
		window := r.window(began)
		err := r.settle(ctx, registry.TraySettlement{
			Keep: true, Leave: ids(p.letters), WindowAt: window.at, Sent: window.sent + 1, Threads: r.threads(p, msg),
		})
		r.report(ctx, p.letters, p.digest, ResultSent, nil, 0, began)
		return err == nil, err
	}
	return r.failed(ctx, p, asSendError(cause), began)
}

const (
	// threadKeep is how long it matters which digest told of an incident: longer than one stays open
	// without news.
	threadKeep = 35 * day
	// endedKeep is how long it matters after the incident's end, for one that opens anew.
	endedKeep = day
)

// threads are the digests that later mails will answer, after a parcel was sent.
func (r *round) threads(p *parcel, sent *Message) []registry.TrayThread {
	var out []registry.TrayThread
	for i := range p.letters {
		l := &p.letters[i].Letter
		id, known := r.tray.Threads[l.Mail.Incident]
		if p.digest && !known && (l.First == 0 || l.First == l.Mail.N) {
			id, known = sent.ID, true
		}
		if !known {
			continue
		}
		keep := threadKeep
		if over(l.Mail.Kind) {
			keep = endedKeep
		}
		out = append(out, registry.TrayThread{Incident: l.Mail.Incident, MessageID: id, Keep: keep})
	}
	return out
}

func (r *round) failed(ctx context.Context, p *parcel, cause *SendError, began time.Time) (bool, error) {
	if cause.Permanent {
		leave := p.letters
		if cause.BadAddress { // all that waits for this address would be refused like this
			leave = sameAddress(r.tray.Letters, &p.letters[0])
			r.bounced(ctx, leave, cause.Code)
		}
		r.report(ctx, leave, p.digest, ResultRefused, cause, 0, began)
		err := r.settle(ctx, registry.TraySettlement{Keep: true, Leave: ids(leave), Attempts: r.tray.Attempts})
		return err == nil, err
	}
	delay := Backoff(r.tray.Attempts + 1)
	if cause.Server {
		delay = min(delay, serverWait)
	}
	r.report(ctx, p.letters, p.digest, ResultDeferred, cause, delay, began)
	return false, r.release(ctx, delay, r.tray.Attempts+1)
}

// sameAddress lists the letters to the address of one; unreadable ones are taken for such.
func sameAddress(ls []registry.TrayLetter, one *registry.TrayLetter) []registry.TrayLetter {
	var out []registry.TrayLetter
	for _, l := range ls {
		if l.Unreadable != nil || incident.RecipientKey(l.Letter.To) == incident.RecipientKey(one.Letter.To) {
			out = append(out, l)
		}
	}
	return out
}

// bounced marks the address at each of the apps that wrote to it. A mark that fails is made by the
// next mail that bounces.
func (r *round) bounced(ctx context.Context, ls []registry.TrayLetter, code int) {
	if r.opts.Bouncer == nil {
		return
	}
	bctx, cancel := settling(ctx)
	defer cancel()
	done := map[partner.ClientID]bool{}
	for i := range ls {
		l := &ls[i].Letter
		if ls[i].Unreadable != nil || done[l.ClientID] {
			continue
		}
		done[l.ClientID] = true
		if err := r.opts.Bouncer.Bounced(bctx, l.ClientID, l.To, code); err != nil {
			r.opts.Log.WarnContext(ctx, "bounced address not marked, the next mail marks it", "app", string(l.ClientID), "recipient", r.recipient, "err", err)
		}
	}
}

func (r *round) compose(p *parcel) (*Message, error) {
	if p.digest {
		ls := make([]*incident.RecipientMail, len(p.letters))
		for i := range p.letters {
			ls[i] = &p.letters[i].Letter
		}
		return r.opts.Composer.ComposeDigest(ls, p.at)
	}
	if err := p.letters[0].Unreadable; err != nil {
		return nil, err
	}
	return r.opts.Composer.ComposeReply(&p.letters[0].Letter, r.tray.Threads)
}

type window struct {
	at   time.Time
	sent int
}

// window is the running day that a mail sent now counts to. That of questions begins with the last one.
func (r *round) window(now time.Time) window {
	if r.tray.WindowAt.IsZero() || !now.Before(r.tray.WindowAt.Add(day)) {
		return window{at: now}
	}
	if r.questions {
		return window{now, r.tray.Sent}
	}
	return window{r.tray.WindowAt, r.tray.Sent}
}

// settle writes down, also while the process stops, and keeps the round's view in step.
func (r *round) settle(ctx context.Context, t registry.TraySettlement) error {
	if t.WindowAt.IsZero() {
		t.WindowAt, t.Sent = r.tray.WindowAt, r.tray.Sent
	}
	t.Oldest = r.oldestWithout(t.Leave)
	sctx, cancel := settling(ctx)
	defer cancel()
	out, _, err := r.opts.Trays.SettleTray(sctx, r.recipient, r.token, t)
	if err != nil {
		return err
	}
	if out != registry.SettleDone {
		return errLost
	}
	r.tray.Attempts, r.tray.WindowAt, r.tray.Sent, r.tray.Parcel = t.Attempts, t.WindowAt, t.Sent, t.Parcel
	r.tray.Letters = without(r.tray.Letters, t.Leave)
	for _, th := range t.Threads {
		r.tray.Threads[th.Incident] = th.MessageID
	}
	return nil
}

// oldestWithout is when the oldest of the letters arrived that stay, zero when none does.
func (r *round) oldestWithout(leave []string) time.Time {
	var oldest time.Time
	for _, l := range without(r.tray.Letters, leave) {
		if oldest.IsZero() || l.Arrived.Before(oldest) {
			oldest = l.Arrived
		}
	}
	return oldest
}

// errLost ends a round whose claim went to another: it took longer than its lease.
var errLost = errors.New("the claim of the tray was lost")

// release gives the tray back and has somebody look again when something waits.
func (r *round) release(ctx context.Context, delay time.Duration, attempts int) error {
	sctx, cancel := settling(ctx)
	defer cancel()
	_, left, err := r.opts.Trays.SettleTray(sctx, r.recipient, r.token, registry.TraySettlement{
		Delay: delay, Attempts: attempts, WindowAt: r.tray.WindowAt, Sent: r.tray.Sent, Parcel: r.tray.Parcel, Oldest: r.oldestWithout(nil),
	})
	if err != nil || left == 0 {
		return err
	}
	return r.wake(sctx, r.recipient, delay)
}

// wake has the mailer come after a delay. A wake-up that fails is made good by FindDue's caller.
func (s *Sender) wake(ctx context.Context, recipient string, delay time.Duration) error {
	if s.opts.Waker == nil {
		return nil
	}
	if err := s.opts.Waker.EnqueuePost(ctx, recipient, s.opts.Now().Add(delay).UnixMilli(), delay); err != nil {
		s.opts.Log.WarnContext(ctx, "mailer not woken, the loop of mails will do it", "recipient", recipient, "err", err)
	}
	return nil
}

// Backlog is what waits in some trays.
type Backlog struct {
	// Letters counts all, Oldest is how long the one that is late for longest is.
	Letters int
	Oldest  time.Duration
	// Due are the recipients whose tray is due.
	Due []string
}

// FindDue looks at some trays, from a place on, and says where to go on; more is false behind the last of them.
// It MUST be called every few seconds for all of them, by one process at a time for economy, and Wake for those that are due.
func (s *Sender) FindDue(ctx context.Context, after registry.TrayPlace) (b Backlog, next registry.TrayPlace, more bool, err error) {
	trays, next, more, err := s.opts.Trays.Trays(ctx, after)
	now := s.opts.Now()
	for _, t := range trays {
		b.Letters += t.Letters
		b.Oldest = max(b.Oldest, t.Overdue(now))
		if !t.Due.After(now) {
			b.Due = append(b.Due, t.Recipient)
		}
	}
	return b, next, more, err
}

// Wake wakes the mailer for a tray that is due. The same one is woken once a minute: the task before may have been lost, or wait
// still.
func (s *Sender) Wake(ctx context.Context, recipient string) error {
	return s.opts.Waker.EnqueuePost(ctx, recipient, s.opts.Now().UnixMilli()/time.Minute.Milliseconds(), 0)
}

func ids(ls []registry.TrayLetter) []string {
	out := make([]string, len(ls))
	for i := range ls {
		out[i] = ls[i].ID
	}
	return out
}

func without(ls []registry.TrayLetter, leave []string) []registry.TrayLetter {
	gone := make(map[string]bool, len(leave))
	for _, id := range leave {
		gone[id] = true
	}
	out := make([]registry.TrayLetter, 0, len(ls))
	for _, l := range ls {
		if !gone[l.ID] {
			out = append(out, l)
		}
	}
	return out
}
