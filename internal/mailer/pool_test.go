package mailer_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/mailer/smtptest"
)

func TestBurstUsesFewConnections(t *testing.T) {
	t.Parallel()
	srv := smtptest.Start(t, smtptest.Options{})
	tr := transport(t, srv.Host, srv.Port, nil)
	t.Cleanup(tr.Close)
	for range 60 {
		if err := tr.Send(t.Context(), compose(t, letter())); err != nil {
			t.Fatal(err)
		}
	}
	if n := srv.Connections(); n != 2 || len(srv.Mails()) != 60 {
		t.Errorf("%d mails over %d connections, want 60 over 2: one brings 50 at most", len(srv.Mails()), n)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if err := tr.Send(t.Context(), compose(t, letter())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := srv.Connections(); n > 7 || len(srv.Mails()) != 100 {
		t.Errorf("%d mails over %d connections", len(srv.Mails()), n)
	}
}

func TestConnectionThatTheServerEndedIsReplaced(t *testing.T) {
	t.Parallel()
	srv := smtptest.Start(t, smtptest.Options{})
	srv.Answer(smtptest.Script{Mails: 1})
	tr := transport(t, srv.Host, srv.Port, nil)
	t.Cleanup(tr.Close)
	for range 3 {
		if err := tr.Send(t.Context(), compose(t, letter())); err != nil {
			t.Fatal(err)
		}
	}
	if len(srv.Mails()) != 3 || srv.Connections() != 3 {
		t.Errorf("%d mails over %d connections", len(srv.Mails()), srv.Connections())
	}
}

// A refusal says nothing against the connection: the next mail uses it.
func TestRefusalKeepsTheConnection(t *testing.T) {
	t.Parallel()
	srv := smtptest.Start(t, smtptest.Options{})
	srv.Answer(smtptest.Script{Rcpt: "451 4.7.1 greylisted"})
	tr := transport(t, srv.Host, srv.Port, nil)
	t.Cleanup(tr.Close)
	for range 3 {
		if err := tr.Send(t.Context(), compose(t, letter())); err == nil {
			t.Fatal("accepted")
		}
	}
	if srv.Connections() != 1 {
		t.Errorf("%d connections", srv.Connections())
	}
}

func TestBreakerLeavesASilentServerAlone(t *testing.T) {
	t.Parallel()
	srv := smtptest.Start(t, smtptest.Options{})
	srv.Answer(smtptest.Script{Greeting: "421 4.3.2 down"})
	reg := prometheus.NewRegistry()
	m := mailer.NewMetrics(reg)
	tr := transport(t, srv.Host, srv.Port, func(o *mailer.SMTPOptions) { o.Metrics = m })
	for i := range 20 {
		var se *mailer.SendError
		if err := tr.Send(t.Context(), compose(t, letter())); !errors.As(err, &se) || !se.Server || se.Permanent {
			t.Fatalf("try %d: %v", i+1, err)
		}
	}
	if n := srv.Connections(); n != 5 {
		t.Errorf("%d connections to a server that is down, want 5", n)
	}
	want := `
# HELP lamplighter_smtp_breaker_open 1 while this process leaves a mail server alone that did not answer. Aggregate with max.
# TYPE lamplighter_smtp_breaker_open gauge
lamplighter_smtp_breaker_open 1
# HELP lamplighter_smtp_connections_total Connections that were made to the mail server, with greeting and login, by result.
# TYPE lamplighter_smtp_connections_total counter
lamplighter_smtp_connections_total{result="error"} 5
lamplighter_smtp_connections_total{result="ok"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "lamplighter_smtp_breaker_open", "lamplighter_smtp_connections_total"); err != nil {
		t.Error(err)
	}
}

// What a server says about a mail is no fault of the server.
func TestRefusalsDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	srv := smtptest.Start(t, smtptest.Options{})
	srv.Answer(smtptest.Script{Rcpt: "550 5.1.1 no such user"})
	tr := transport(t, srv.Host, srv.Port, nil)
	t.Cleanup(tr.Close)
	for i := range 10 {
		var se *mailer.SendError
		if err := tr.Send(t.Context(), compose(t, letter())); !errors.As(err, &se) || !se.BadAddress {
			t.Fatalf("try %d: %v", i+1, err)
		}
	}
}
