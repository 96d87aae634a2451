package mailer_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/mailer/smtptest"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// TestFiveHundredAppsFailAtOnce has one provider go down: 300 apps have one contact, 200 a contact
// each. Four senders, as many as a worker has, send on a real Redis to a real socket.
func TestFiveHundredAppsFailAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rdb = redistest.Real(t)
	w.store, w.trays = registry.NewIncidentStore(w.rdb, keys.New(""), 0), registry.NewMailQueueStore(w.rdb, keys.New(""))
	srv := smtptest.Start(t, smtptest.Options{})
	tr := transport(t, srv.Host, srv.Port, nil)
	t.Cleanup(tr.Close)
	w.opts.Outbox, w.opts.MailQueues, w.opts.Suppressions, w.opts.Transport = w.store, w.trays, w.store, tr
	ls := outage(500)
	for i := 300; i < len(ls); i++ {
		ls[i].To = fmt.Sprintf("contact%d@example.com", i)
	}
	w.owe(ls...)
	began := time.Now()
	w.forward(ls...)
	s := mailer.NewSender(w.opts)
	recipients := make(chan string)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for r := range recipients {
				if err := s.SendQueued(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := 299; i < len(ls); i++ {
		recipients <- incident.RecipientKey(ls[i].To)
	}
	close(recipients)
	wg.Wait()
	to := map[string]int{}
	for _, m := range srv.Mails() {
		to[m.To]++
	}
	t.Logf("%d mails to %d recipients over %d connections in %v", len(srv.Mails()), len(to), srv.Connections(), time.Since(began).Round(time.Millisecond))
	if len(srv.Mails()) != 201 || len(to) != 201 || to["kim@example.com"] != 1 || srv.Connections() > 8 || len(w.waiting()) != 0 {
		t.Errorf("%d mails to %d, %d to the one with 300 apps, over %d connections", len(srv.Mails()), len(to), to["kim@example.com"], srv.Connections())
	}
}
