//go:build soak

package e2e_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"
)

// lingering is how long a post may be on its way to where the app no longer is: an attempt's time-out
// and the longest freeze of a worker, with room for a busy machine.
const lingering = 15 * time.Second

// truthApp is one app of a truth soak. It may be deleted and made again under its id.
type truthApp struct {
	id string
	// mortal apps are deleted and made again; restless ones are switched, moved and paused.
	mortal, restless bool

	mu sync.Mutex
	// life is the present one, or the last; alive is true while calls may count on it.
	life  *appLife
	alive bool
	lives []*appLife
	// flying are the tenants whose approval a call is changing just now.
	flying map[string]int
	idle   *sync.Cond
}

// appLife is an app from when it was made until it was deleted, with a receiver of its own.
type appLife struct {
	app      *truthApp
	receiver *receiver
	// made is when it was there for sure, ended when its deletion was asked for.
	made, ended time.Time
	// hears is when it had a URL for sure, path the last one that was written, since when it holds for
	// sure, and to the one that is being written.
	hears    time.Time
	path, to string
	moved    time.Time
	resynced time.Time // when the last resync was asked for that was answered
	pairs    map[string]*approval
	heard    map[string][]heard
}

// approval is what is known of one tenant's consent to one life of an app. It is sure unless a call about
// it is under way, or was when the app was made again.
type approval struct {
	sure, stands bool
	// begun is when the first call was sent that could let the app hear of the tenant.
	begun time.Time
	// asked and given frame the call after which it stands.
	asked, given time.Time
	// gaps are the times in which it surely did not stand, each from an answer to the next call.
	gaps []gap
}

type gap struct{ from, to time.Time }

// heard is a notification that a receiver took.
type heard struct {
	kind     int
	sequence int64
	at       time.Time
}

// newLife starts a receiver. The caller holds the app's lock, or nobody else knows the app yet.
func (s *truthSoak) newLife(a *truthApp) *appLife {
	life := &appLife{app: a, receiver: newReceiver(s.t, a.id), path: "/hook", to: "/hook", moved: time.Now(), pairs: map[string]*approval{}, heard: map[string][]heard{}}
	r := life.receiver
	r.lean = true
	if a.restless || a.mortal {
		r.answer = func(notification) int {
			<-time.After(s.dice.between(0, 4*time.Millisecond)) // the receiver's own work
			if s.dice.oneIn(20) {
				return http.StatusInternalServerError
			}
			return http.StatusOK
		}
	}
	r.behave = func(w http.ResponseWriter, req *http.Request) bool {
		life.look(s, req.URL.Path)
		if req.URL.Path == "/sick" {
			if s.dice.oneIn(2) { // the run that it is part of goes on, maybe longer than this URL stands
				select {
				case <-req.Context().Done():
				case <-time.After(s.dice.between(0, 1900*time.Millisecond)):
				}
			}
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	r.onTake = func(n *notification, seq int64, now time.Time) { life.take(s, n, seq, now) }
	a.life = life
	a.lives = append(a.lives, life)
	return life
}

// look judges that a post came here at all.
func (l *appLife) look(s *truthSoak, path string) {
	l.app.mu.Lock()
	defer l.app.mu.Unlock()
	switch {
	case !l.ended.IsZero() && time.Since(l.ended) > lingering:
		s.charge(foreign, "%s was posted to %v after it was deleted", l.app.id, time.Since(l.ended))
	case path != l.path && path != l.to && time.Since(l.moved) > lingering:
		s.charge(foreign, "%s was posted to at %s, %v after its URL became %s", l.app.id, path, time.Since(l.moved), l.path)
	}
}

// take judges that the app may hear of the tenant, and keeps what it heard.
func (l *appLife) take(s *truthSoak, n *notification, seq int64, now time.Time) {
	l.app.mu.Lock()
	defer l.app.mu.Unlock()
	p := l.pairs[n.ContextIdentifier]
	if p == nil || p.begun.IsZero() {
		s.charge(foreign, "%s, made the %d. time, was told of %s (%s, %d), which has not approved it since",
			l.app.id, len(l.app.lives), n.ContextIdentifier, words[n.ChangeType], seq)
	}
	l.heard[n.ContextIdentifier] = append(l.heard[n.ContextIdentifier], heard{n.ChangeType, seq, now})
}

// make makes the app anew, while calls about approvals may be under way.
func (s *truthSoak) make(ctx context.Context, d *dice, a *truthApp) {
	a.mu.Lock()
	life := s.newLife(a)
	for t := range a.flying { // these may become this life's
		life.pairs[t] = &approval{begun: time.Now()}
	}
	a.mu.Unlock()
	first := a.mortal && d.oneIn(3) // it gets its first URL later
	endpoint := `"state_change":{"url":"` + life.receiver.addrURL("/hook") + `","enabled":true}`
	body := func(endpoints string) []byte {
		return []byte(`{"name":"` + a.id + `","technical_contact":{"name":"Kim","email":"kim@` + a.id + `.example"},"endpoints":{` + endpoints + `}}`)
	}
	path := "/v1/apps/" + a.id
	var slow sync.WaitGroup
	switch {
	case first:
		s.count("first URLs", 1)
		s.must(ctx, d, http.MethodPut, path, body(""))
	case a.mortal && d.oneIn(3): // another PUT of the same app comes late: it waits for a connector that hangs
		s.count("slow PUTs", 1)
		slow.Go(func() {
			s.must(ctx, d, http.MethodPut, path+"?force=true", body(endpoint+`,"quote_connector":{"url":"`+s.hanging+`","enabled":true}`))
		})
		fallthrough
	default:
		s.must(ctx, d, http.MethodPut, path, body(endpoint))
	}
	a.mu.Lock()
	life.made, a.alive = time.Now(), true
	if !first {
		life.hears = life.made
	}
	a.mu.Unlock()
	slow.Wait()
	if first {
		d.pause(ctx, 200*time.Millisecond, 2*time.Second)
		s.must(ctx, d, http.MethodPut, path+"/endpoints/state_change", []byte(`{"url":"`+life.receiver.addrURL("/hook")+`","enabled":true}`))
		a.mu.Lock()
		life.hears = time.Now()
		a.mu.Unlock()
	}
}

func (r *receiver) addrURL(path string) string { return "http://" + r.addr + path }

// must repeats a write until it is answered, and charges any answer but success.
func (s *truthSoak) must(ctx context.Context, d *dice, method, path string, body []byte) {
	contentType := ""
	if body != nil {
		contentType = "application/json"
	}
	if status, b := s.insist(ctx, d, method, path, contentType, body, false); status < 200 || status > 299 {
		s.charge(badAnswer, "%s %s: %d %s", method, path, status, tail(b, 300))
	}
}

// remake deletes the app and makes it again, for an owner who has another URL.
func (s *truthSoak) remake(ctx context.Context, d *dice, a *truthApp) {
	s.judgeApprovals(ctx, d, a)
	a.mu.Lock()
	a.alive = false
	a.life.ended = time.Now()
	a.mu.Unlock()
	if !*truthCalm && d.oneIn(2) { // the deletion is cut short, and taken up later
		s.count("deletions disturbed", 1)
		s.proxy.refusal.Store(&refusal{percent: 20 + d.intN(60), all: true, reply: "OOM command not allowed when used memory > 'maxmemory'."})
		time.AfterFunc(d.between(10*time.Millisecond, 500*time.Millisecond), func() { s.proxy.refusal.Store(nil) })
	}
	if status, b := s.insist(ctx, d, http.MethodDelete, "/v1/apps/"+a.id, "", nil, false); status != http.StatusNoContent && status != http.StatusNotFound {
		s.charge(badAnswer, "DELETE %s: %d %s", a.id, status, tail(b, 200))
	}
	if !d.oneIn(3) { // nobody approves any more when the new one is made: then nothing may be approved there
		a.mu.Lock()
		for len(a.flying) > 0 {
			a.idle.Wait()
		}
		a.mu.Unlock()
	}
	d.pause(ctx, 0, 300*time.Millisecond)
	s.make(ctx, d, a)
	s.count("apps made again", 1)
}

// own is an owner's life: one thing after the other is done to the app.
func (s *truthSoak) own(ctx context.Context, d *dice, a *truthApp) {
	d.pause(ctx, 300*time.Millisecond, 1500*time.Millisecond)
	if ctx.Err() != nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	path := "/v1/apps/" + a.id
	switch what := d.intN(11); {
	case a.mortal && what < 4:
		s.remake(ctx, d, a)
	case what < 5:
		s.count("switched off and on", 1)
		s.point(ctx, d, a, a.life.path, false)
		d.pause(ctx, 100*time.Millisecond, 2*time.Second)
		s.point(ctx, d, a, a.life.path, true)
	case what < 6:
		s.count("paused", 1)
		s.must(ctx, d, http.MethodPost, path+"/pause", nil)
		d.pause(ctx, 100*time.Millisecond, time.Second)
		s.must(ctx, d, http.MethodPost, path+"/resume", nil)
	case what < 7:
		s.count("URLs changed", 1)
		to := "/hook"
		if a.life.path == to {
			to = "/moved"
		}
		s.point(ctx, d, a, to, true)
	case what < 9: // to one that asks to be left alone for an hour, and away from it
		s.count("URLs sick and changed", 1)
		to := a.life.path
		s.point(ctx, d, a, "/sick", true)
		d.pause(ctx, 100*time.Millisecond, 2*time.Second)
		s.point(ctx, d, a, to, true)
		d.pause(ctx, 0, 3*time.Second)
		s.judgeGate(ctx, d, a)
	case what < 10:
		s.judgeApprovals(ctx, d, a)
	default:
		s.resync(ctx, d, a)
	}
}

// point writes where the app's endpoint is, and whether it is on.
func (s *truthSoak) point(ctx context.Context, d *dice, a *truthApp, path string, on bool) {
	body := `{"url":"` + a.life.receiver.addrURL(path) + `","enabled":false}`
	if on {
		body = strings.Replace(body, "false", "true", 1)
	}
	a.mu.Lock()
	a.life.to = path
	a.mu.Unlock()
	s.must(ctx, d, http.MethodPut, "/v1/apps/"+a.id+"/endpoints/state_change", []byte(body))
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.life.path != path {
		a.life.path, a.life.moved = path, time.Now()
	}
}

// resyncPause is how long after a resync the next one of the app is taken, and a little.
const resyncPause = time.Minute + 2*time.Second

func (s *truthSoak) resync(ctx context.Context, d *dice, a *truthApp) {
	asked := time.Now()
	a.mu.Lock()
	soon := asked.Sub(a.life.resynced) < resyncPause
	a.mu.Unlock()
	if soon { // it would not be told anew
		return
	}
	s.count("resyncs", 1)
	s.must(ctx, d, http.MethodPost, "/v1/apps/"+a.id+"/resync", []byte("{}"))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.life.resynced = asked
}

// flip gives approvals of an app or takes one back. A tenant's approvals are changed by one lane alone.
func (s *truthSoak) flip(ctx context.Context, d *dice, names []string) {
	a := s.apps[d.intN(len(s.apps))]
	name := names[d.intN(len(names))]
	if d.oneIn(4) { // many at once
		var some []string
		for range 1 + d.intN(20) {
			some = append(some, names[d.intN(len(names))])
		}
		s.approve(ctx, d, a, some, true)
		return
	}
	a.mu.Lock()
	p := a.life.pairs[name]
	give := p == nil || !p.sure || !p.stands || d.oneIn(10)
	a.mu.Unlock()
	s.approve(ctx, d, a, []string{name}, give)
}

// approve carries out one call about approvals, and writes down what is known then.
func (s *truthSoak) approve(ctx context.Context, d *dice, a *truthApp, names []string, give bool) {
	asked := time.Now()
	a.mu.Lock()
	life := a.life
	if !a.alive {
		a.mu.Unlock()
		return
	}
	for _, name := range names {
		a.flying[name]++
		p := life.pairs[name]
		if p == nil {
			p = &approval{}
			life.pairs[name] = p
		}
		if give {
			if p.begun.IsZero() {
				p.begun = asked
			}
			if n := len(p.gaps); n > 0 && p.gaps[n-1].to.IsZero() {
				p.gaps[n-1].to = asked
			}
		}
		p.sure = p.sure && p.stands && give // a repeated approval changes nothing
	}
	a.mu.Unlock()
	method, path, want := http.MethodPut, "/v1/apps/"+a.id+"/approvals/"+names[0], http.StatusNoContent
	var body []byte
	contentType := ""
	switch {
	case !give:
		method = http.MethodDelete
		s.count("approvals taken back", 1)
	case len(names) > 1:
		path, want, contentType = "/v1/apps/"+a.id+"/approvals", http.StatusOK, "application/x-ndjson"
		body = []byte(`{"tenant":"` + strings.Join(names, "\"}\n{\"tenant\":\"") + "\"}\n")
		fallthrough
	default:
		s.count("approvals given", int64(len(names)))
	}
	var status int
	var b []byte
	for {
		status, b = s.insist(ctx, d, method, path, contentType, body, false)
		if status != http.StatusOK || strings.Count(string(b), `"status":204`) == len(names) || strings.Contains(string(b), `"status":404`) {
			break
		}
		d.pause(ctx, 10*time.Millisecond, 100*time.Millisecond)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for _, name := range names {
		if a.flying[name]--; a.flying[name] == 0 {
			delete(a.flying, name)
		}
	}
	a.idle.Broadcast()
	if a.life != life || !a.alive {
		return // what it means for a life that came meanwhile stays unsure
	}
	if status != want || strings.Contains(string(b), `"status":404`) {
		s.charge(badAnswer, "%s %s: %d %s", method, path, status, tail(b, 200))
		return
	}
	for _, name := range names {
		p := life.pairs[name]
		switch {
		case p.sure: // it stood before
		case give:
			p.sure, p.stands, p.asked, p.given = true, true, asked, now
		default:
			p.sure, p.stands = true, false
			p.gaps = append(p.gaps, gap{from: now})
		}
	}
}
