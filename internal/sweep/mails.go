package sweep

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/loop"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

const (
	mailsLoop = "mails"
	// mailsAtOnce is how many of the mailer's tasks are enqueued at once.
	mailsAtOnce = 64
)

// mailCount counts mails that wait. Its JSON is the note of the loop's last round, and part of its place.
type mailCount struct {
	Mails int `json:"n,omitempty"`
	// Oldest is since when, in ms, the most overdue mail has been waiting, 0 for none.
	Oldest int64 `json:"o,omitempty"`
}

func (c *mailCount) add(mails int, since time.Time) {
	c.Mails += mails
	if ms := since.UnixMilli(); !since.IsZero() && (c.Oldest == 0 || ms < c.Oldest) {
		c.Oldest = ms
	}
}

// oldestDelay returns for how long the oldest mail has been waiting.
func (c *mailCount) oldestDelay(now time.Time) time.Duration {
	if c.Oldest == 0 {
		return 0
	}
	return max(now.Sub(time.UnixMilli(c.Oldest)), 0)
}

func decodeMailCount(note string) *mailCount {
	var c mailCount
	if json.Unmarshal([]byte(note), &c) != nil {
		return &mailCount{}
	}
	return &c
}

// mailPlace is a place of the loop: first in the list of mail queues, then behind an app.
type mailPlace struct {
	mailCount

	Queue registry.MailQueuePlace `json:"tray"`
	// Apps: the mail queues are done.
	Apps bool   `json:"apps,omitempty"`
	App  string `json:"app,omitempty"`
}

func decodeMailPlace(cursor string) mailPlace {
	var p mailPlace
	if json.Unmarshal([]byte(cursor), &p) != nil {
		return mailPlace{}
	}
	return p
}

func encodeJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // strings and numbers always marshal
		panic("sweep: marshal: " + err.Error())
	}
	return string(b)
}

// wakeMails is the step of the loop that wakes the mailer for what waits: mail queues of recipients first, then outboxes of apps.
func (s *Sweeper) wakeMails(ctx context.Context, cursor string) (loop.Report, error) {
	var f faults
	p, until := decodeMailPlace(cursor), s.startUntil()
	if !p.Apps {
		s.wakeMailQueues(ctx, &p, until, &f)
		return loop.Report{Next: encodeJSON(p), Passed: f.own}, f.storeError()
	}
	s.refreshApps(ctx, &f)
	entries, next, last := s.appsAfter(p.App, page)
	s.wakeOutboxes(ctx, listClientIDs(entries), &p.mailCount, until, &f)
	if last {
		return loop.Report{End: true, Passed: f.own, Note: encodeJSON(p.mailCount)}, f.storeError()
	}
	p.App = next
	return loop.Report{Next: encodeJSON(p), Passed: f.own}, f.storeError()
}

func (s *Sweeper) wakeMailQueues(ctx context.Context, p *mailPlace, until time.Time, f *faults) {
	trays, err := s.opts.Mails.ReadMailQueues(ctx, p.Queue)
	if err != nil {
		f.addError(fmt.Errorf("read the mail queues: %w", err))
	}
	since := time.Time{}
	if trays.Late > 0 {
		since = time.Now().Add(-trays.Late)
	}
	p.add(trays.Mails, since)
	n := forEachUntil(len(trays.Due), mailsAtOnce, until, func(i int) { f.addError(s.opts.Mails.WakeMailQueue(ctx, trays.Due[i])) })
	s.noteSkipped(f, len(trays.Due)-n, "mail queues")
	p.Queue, p.Apps = trays.Next, !trays.More
}

// noteSkipped records items for which no time was left.
func (*Sweeper) noteSkipped(f *faults, n int, what string) {
	if n > 0 {
		f.addError(fmt.Errorf("no time for %d %s: %w", n, what, context.DeadlineExceeded))
	}
}

// wakeOutboxes reads the outboxes of those apps that have mails, each to its end.
func (s *Sweeper) wakeOutboxes(ctx context.Context, ids []partner.ClientID, c *mailCount, until time.Time, f *faults) {
	has, errs := s.opts.Mails.HasOutboxMails(ctx, ids)
	var places []registry.OutboxPlace
	for i, id := range ids {
		if f.addError(errs[i]); has[i] {
			places = append(places, registry.OutboxPlace{App: id})
		}
	}
	for len(places) > 0 && time.Now().Before(until) {
		var again []registry.OutboxPlace
		for chunk := range slices.Chunk(places, batch) {
			again = append(again, s.wakeOutboxPages(ctx, chunk, c, until, f)...)
		}
		places = again
	}
	s.noteSkipped(f, len(places), "outboxes")
}

// wakeOutboxPages reads one page of each outbox, and returns the places of those that have more.
func (s *Sweeper) wakeOutboxPages(ctx context.Context, places []registry.OutboxPlace, c *mailCount, until time.Time, f *faults) (again []registry.OutboxPlace) {
	type mail struct {
		app partner.ClientID
		id  string
	}
	var due []mail
	pages, errs := s.opts.Mails.ReadOutboxPages(ctx, places)
	for i, p := range pages {
		app := places[i].App
		if errs[i] != nil {
			f.addError(errs[i])
			continue
		}
		c.add(p.Waiting, p.Oldest)
		for _, id := range p.Due {
			due = append(due, mail{app, id})
		}
		if p.Next != "" {
			again = append(again, registry.OutboxPlace{App: app, Cursor: p.Next})
		}
	}
	n := forEachUntil(len(due), mailsAtOnce, until, func(i int) { f.addError(s.opts.Mails.WakeMail(ctx, due[i].app, due[i].id)) })
	s.noteSkipped(f, len(due)-n, "mails")
	return again
}
