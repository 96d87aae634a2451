package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// mailTable runs one trouble after the other on one deployment, and counts what its mail server got.
type mailTable struct {
	*stack

	t    *testing.T
	mail *secureMailServer
	p    *process
	rdb  *redis.Client
	tr   *truth
	rows []mailRow
}

type mailRow struct {
	trouble, app  string
	want, doubles int
}

// TestMailsThroughTroubles compares the mails that a real server with STARTTLS and a login holds with
// those that were owed, after each trouble that mail can meet. Waits of minutes are cut short in Redis,
// where they are kept: the lease of a process that died, and the time of the next try.
func TestMailsThroughTroubles(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]func(w *mailTable){
		"Processes": func(w *mailTable) {
			w.row("outage with flapping", "wide", w.flapping, 2, 0)
			w.row("killed before the decision", "before", w.beforeDecision, 2, 0)
			w.row("killed after the decision", "after", w.afterDecision, 2, 0)
			w.row("killed after the mail was sent", "sent", w.afterMark, 2, 0)
			w.row("killed after sending, before it is written down", "marked", w.beforeMark, 2, 1)
		},
		"Servers": func(w *mailTable) {
			w.row("mail server away for 10 minutes (tries cut short)", "away", w.away, 2, 0)
			w.row("greylisting: 450, then taken", "grey", w.greylisting, 2, 0)
			w.row("one bad recipient of three", "good", w.oneBad, 4, 0)
			w.row("server drops after DATA", "drop", w.dropped, 2, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, "always", "LAMPLIGHTER_INCIDENT_OPEN_AFTER=1s", "LAMPLIGHTER_INCIDENT_RECOVER_AFTER=1500ms", "LAMPLIGHTER_MAIL_GATHER_FOR=0s",
				"LAMPLIGHTER_BREAKER_OPEN_FOR_MAX=1s", "LAMPLIGHTER_DELIVERY_OWNER_LEASE=2s")
			w := &mailTable{stack: s, t: t, mail: newSecureMailServer(t, s, "(wide|before|after|sent|marked|away|grey|good|drop)[.]example$"), tr: newTruth(), rdb: s.redis.Client(t)}
			w.p = s.serve("api,worker")
			play(w)
			w.compare()
		})
	}
}

// compare counts what arrived, and prints it.
func (w *mailTable) compare() {
	wait(w.t, 2*time.Second) // one mail more than is owed would come now
	var table strings.Builder
	for _, row := range w.rows {
		got, distinct := w.got(row.app)
		fmt.Fprintf(&table, "| %s | %d | %d | %d | %d |\n", row.trouble, row.want, got, row.want-distinct, got-distinct)
		if distinct != row.want || got-distinct != row.doubles {
			w.t.Errorf("%s: %d mails, %d distinct, want %d with %d doubles: %v", row.trouble, got, distinct, row.want, row.doubles, w.subjects(row.app))
		}
	}
	w.t.Logf("mails after troubles:\n| trouble | expected | received | lost | doubles |\n|---|---|---|---|---|\n%s", &table)
}

// row plays one trouble for an app of its own, whose contact is to hear that it fails and that it is well.
func (w *mailTable) row(name, app string, trouble func(r *receiver), want, doubles int) {
	w.t.Helper()
	began := time.Now()
	defer func() { w.t.Logf("%s: %v", name, time.Since(began).Round(100*time.Millisecond)) }()
	r := newReceiver(w.t, app)
	w.register(r, "RS256", tenantsOf(app))
	trouble(r)
	if r.listener.Load() == nil {
		r.start()
	}
	redistest.Eventually(w.t, 90*time.Second, name+": all mails", func() bool {
		w.hurry()
		_, distinct := w.got(app)
		return distinct >= want && w.trays("count") == 0
	})
	w.rows = append(w.rows, mailRow{name, app, want, doubles})
}

func tenantsOf(app string) []string {
	out := make([]string, 6)
	for i := range out {
		out[i] = fmt.Sprintf("T%s%d", app, i)
	}
	return out
}

// got counts the mails to an app's recipients, and the different ones.
func (w *mailTable) got(app string) (all, distinct int) {
	ids := map[string]bool{}
	for _, m := range w.mail.mails() {
		if strings.HasSuffix(m.To[0].Address, "@"+app+".example") {
			all++
			ids[m.MessageID] = true
		}
	}
	return all, len(ids)
}

func (w *mailTable) subjects(app string) []string {
	var out []string
	for _, m := range w.mail.mails() {
		if strings.HasSuffix(m.To[0].Address, "@"+app+".example") {
			out = append(out, m.MessageID+" "+m.Subject)
		}
	}
	return out
}

// fails stops the receiver and gives it something to miss.
func (w *mailTable) fails(r *receiver) {
	w.t.Helper()
	r.stop()
	var changes []change
	for _, name := range tenantsOf(r.id) {
		changes = append(changes, change{name, 2})
	}
	if err := w.publish(w.t.Context(), w.tr, "mail-"+r.id, changes); err != nil {
		w.t.Fatal(err)
	}
}

// state is the incident's: "" none, else open or closed.
func (w *mailTable) state(app string) string {
	var list struct {
		Items []struct {
			State string `json:"state"`
		} `json:"items"`
	}
	w.want(http.StatusOK, &list, http.MethodGet, "/v1/incidents?client_id="+app, "")
	if len(list.Items) == 0 {
		return ""
	}
	return list.Items[0].State
}

// until waits long enough for a try that was killed to be made again: a minute names its wake-up anew.
func (w *mailTable) until(what string, cond func() bool) {
	w.t.Helper()
	redistest.Eventually(w.t, 3*time.Minute, what, cond)
}

func (w *mailTable) arrived(app string, n int) {
	w.t.Helper()
	w.until(fmt.Sprintf("%d mails to %s", n, app), func() bool { got, _ := w.got(app); return got >= n })
}

// trays looks into the recipients' trays: waiting letters and failed tries.
func (w *mailTable) trays(field string) (sum int) {
	for _, k := range w.keysOf("*:tray") {
		n, _ := w.rdb.HGet(w.t.Context(), k, field).Int()
		sum += n
	}
	return sum
}

func (w *mailTable) keysOf(pattern string) []string {
	keys, err := w.rdb.Keys(w.t.Context(), pattern).Result()
	if err != nil {
		w.t.Fatal(err)
	}
	return keys
}

// hurry ends the waits until the next try.
func (w *mailTable) hurry() {
	for _, k := range w.keysOf("*:tray") {
		if w.rdb.HGet(w.t.Context(), k, "lease").Val() == "0" {
			w.rdb.HSet(w.t.Context(), k, "due", "0")
		}
	}
}

// restart kills the process, ends the leases that it held, and starts it again.
func (w *mailTable) restart(between ...func()) {
	w.t.Helper()
	w.p.kill()
	for _, f := range between {
		f()
	}
	for _, k := range w.keysOf("*:tray") {
		w.rdb.HSet(w.t.Context(), k, "lease", "0", "due", "0")
	}
	w.p.start()
}

func (w *mailTable) flapping(r *receiver) {
	w.fails(r)
	w.arrived(r.id, 1)
	var n atomic.Int64
	r.answer = func(notification) int { // back, and away again, for each tenant
		if n.Add(1)%2 == 1 {
			return http.StatusServiceUnavailable
		}
		return 0
	}
}

// mailbox is how the app's breaker stands.
func (w *mailTable) mailbox(app string) string {
	var v struct {
		Breaker string `json:"breaker"`
	}
	w.want(http.StatusOK, &v, http.MethodGet, "/v1/apps/"+app+"/mailbox", "")
	return v.Breaker
}

func (w *mailTable) beforeDecision(r *receiver) {
	w.fails(r)
	w.until("failing", func() bool { return w.mailbox(r.id) == "open" })
	w.restart()
	w.arrived(r.id, 1)
}

func (w *mailTable) afterDecision(r *receiver) {
	w.mail.down.Store(true)
	w.mail.cut()
	w.fails(r)
	w.until("the decision, and a try", func() bool { return w.state(r.id) == "open" && w.trays("attempts") > 0 })
	w.restart(func() { w.mail.down.Store(false) })
	w.arrived(r.id, 1)
}

func (w *mailTable) afterMark(r *receiver) {
	w.fails(r)
	w.arrived(r.id, 1)
	w.until("it is written down", func() bool { return w.trays("count") == 0 })
	w.restart()
}

func (w *mailTable) beforeMark(r *receiver) {
	w.mail.cut()
	w.mail.mute.Store(wholeMail)
	w.fails(r)
	w.arrived(r.id, 1)
	w.restart(func() { // the server has it, and its answer never came
		w.mail.mute.Store(0)
		w.mail.cut()
	})
	w.arrived(r.id, 2)
}

func (w *mailTable) away(r *receiver) {
	w.mail.down.Store(true)
	w.mail.cut()
	w.fails(r)
	for try := 1; try <= 10; try++ { // as many as there are in ten minutes
		w.until(fmt.Sprintf("try %d", try), func() bool {
			if w.trays("attempts") >= try {
				return true
			}
			w.hurry()
			return false
		})
		if try%4 == 0 { // in real time the breaker would let the next through
			w.restart()
		}
	}
	w.mail.down.Store(false)
}

func (w *mailTable) greylisting(r *receiver) {
	w.mail.greylist(true)
	w.fails(r)
	w.until("it is told to come later", func() bool { return w.trays("attempts") > 0 })
	w.mail.greylist(false)
	w.hurry()
	w.arrived(r.id, 1)
}

func (w *mailTable) oneBad(r *receiver) {
	w.want(http.StatusOK, nil, http.MethodPatch, "/v1/apps/"+r.id, `{"error_emails":["a@good.example","nobody@bad.example","b@good.example"]}`)
	w.fails(r)
	w.arrived(r.id, 2)
	var app struct {
		Problems []struct {
			Email string `json:"email"`
			State string `json:"state"`
		} `json:"address_problems"`
	}
	w.until("the bad one is marked", func() bool {
		w.want(http.StatusOK, &app, http.MethodGet, "/v1/apps/"+r.id, "")
		return len(app.Problems) == 1
	})
	if app.Problems[0].Email != "nobody@bad.example" || app.Problems[0].State != "bounced" {
		w.t.Errorf("marked %+v", app.Problems)
	}
}

func (w *mailTable) dropped(r *receiver) {
	w.mail.cut()
	w.mail.mute.Store(wholeMail)
	w.fails(r)
	w.arrived(r.id, 1)
	w.mail.mute.Store(0)
	w.mail.cut() // instead of the answer
	w.until("it is tried again", func() bool { w.hurry(); got, _ := w.got(r.id); return got >= 2 })
}
