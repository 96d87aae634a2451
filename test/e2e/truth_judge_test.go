//go:build soak

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

// quietWithin bounds how long it may take until everybody knows, once the faults are over.
const quietWithin = time.Minute

// settle ends all faults, makes each approval certain, and waits until everybody knows.
func (s *truthSoak) settle() {
	ctx := s.t.Context()
	s.proxy.refusal.Store(nil)
	for _, p := range slices.Concat(s.workers, s.soak.apis) {
		if err := s.supervise(ctx, p); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, a := range s.apps {
		a.mu.Lock()
		var unsure []string
		for name, p := range a.life.pairs {
			if !p.sure {
				unsure = append(unsure, name)
			}
		}
		a.mu.Unlock()
		slices.Sort(unsure)
		for _, name := range unsure {
			s.approve(ctx, s.dice, a, []string{name}, s.dice.oneIn(2))
		}
	}
	s.awaitTold("after the faults")
}

// awaitTold waits until nothing is missing, and charges what is missing then.
func (s *truthSoak) awaitTold(when string) {
	began := time.Now()
	var missing []string
	for {
		missing = nil
		for _, a := range s.apps {
			missing = append(missing, s.missing(a)...)
		}
		if len(missing) == 0 || time.Since(began) > quietWithin {
			break
		}
		wait(s.t, 100*time.Millisecond)
	}
	s.count("ms until told "+when, time.Since(began).Milliseconds())
	for _, m := range missing {
		s.charge(lost, "%s: %s", when, m)
	}
}

// missing lists what the app has not heard and must have.
func (s *truthSoak) missing(a *truthApp) (out []string) {
	a.mu.Lock()
	life := a.life
	pairs := map[string]approval{}
	for name, p := range life.pairs {
		pairs[name] = *p
	}
	hears, resynced := life.hears, life.resynced
	a.mu.Unlock()
	r := life.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range s.tenants {
		p, ok := pairs[h.name]
		if !ok || !p.stands || h.lostOrder() {
			continue
		}
		since := p.given // what was reported from then on must be told; before, the status alone
		if hears.After(since) {
			since = hears
		}
		got := r.tenants[h.name]
		if got == nil {
			got = &seen{sequences: map[int]int64{}, status: silent}
		}
		for slot, f := range h.heads() {
			if f.kind == silent || slot > 0 && !f.sent.After(since) {
				continue
			}
			if got.sequences[slot] < f.sequence {
				out = append(out, fmt.Sprintf("%s was not told the %s of %s, %d; it heard %v; approved %s, heads %s", a.id, words[f.kind], h.name, f.sequence,
					got.sequences, p.given.Format("15:04:05.000"), s.describe(h)))
			}
		}
		if want, known := s.wantedStatus(h, p, resynced); known && got.sequences[0] != 0 && got.status != want {
			out = append(out, fmt.Sprintf("%s believes %s of %s, not %s: %v; heads %s", a.id, words[got.status], h.name, words[want], got.sequences, s.describe(h)))
		}
	}
	return out
}

// wantedStatus is the status that an app must believe last. A status that is told to nobody is believed
// by who was told the truth anew since.
func (s *truthSoak) wantedStatus(h *history, p approval, resynced time.Time) (kind int, known bool) {
	told := h.heads()[0].kind
	facts := h.all()
	for i := len(facts) - 1; i >= 0; i-- {
		f := facts[i]
		if f.kind == silent {
			if !p.asked.After(f.answered) && !resynced.After(f.answered) {
				return 0, false
			}
			k, ok := f.state.ResyncChangeType()
			return int(k), ok
		}
		if slotOf(f.kind) == 0 {
			return told, true
		}
	}
	return 0, false
}

func (s *truthSoak) describe(h *history) string {
	var out []string
	facts := h.all()
	for _, f := range facts[max(0, len(facts)-6):] {
		word := "status " + f.state.String()
		if f.kind != silent {
			word = words[f.kind]
		}
		out = append(out, fmt.Sprintf("%s %d at %s", word, f.sequence, f.sent.Format("15:04:05.000")))
	}
	return strings.Join(out, ", ")
}

// judge holds what was heard and kept against the source.
func (s *truthSoak) judge() {
	for _, a := range s.apps {
		for n, life := range a.lives {
			s.judgeLife(a, n, life)
		}
		s.judgeApprovals(s.t.Context(), s.dice, a)
		s.judgeGate(s.t.Context(), s.dice, a)
	}
	for _, h := range s.tenants {
		s.pull(s.t.Context(), h, "at the end")
		s.judgeKept(h)
	}
}

// judgeLife judges the order and the content of what one receiver heard.
func (s *truthSoak) judgeLife(a *truthApp, n int, life *appLife) {
	r := life.receiver
	r.mu.Lock()
	s.count("notifications", int64(r.posts))
	s.count("told again", int64(r.duplicates)) // by a resync, too
	if !a.mortal && !a.restless {
		s.count("told again, app1", int64(r.duplicates))
	}
	for _, b := range r.backwards {
		s.charge(backAtReceiver, "%s, made the %d. time: %s", a.id, n+1, b)
	}
	for _, f := range r.faults {
		s.charge(badAnswer, "%s: %s", a.id, f)
	}
	r.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range s.tenants {
		if h.lostOrder() {
			continue
		}
		facts := slices.DeleteFunc(slices.Clone(h.all()), func(f fact) bool { return f.kind == silent })
		slices.SortFunc(facts, func(x, y fact) int { return int(x.sequence - y.sequence) })
		for _, e := range life.heard[h.name] {
			s.judgeHeard(a, life, h, facts, e)
		}
	}
}

// judgeHeard compares one notification with the change that its sequence names: a status may also be the
// newest one told again, under the sequence of a later change.
func (s *truthSoak) judgeHeard(a *truthApp, life *appLife, h *history, facts []fact, e heard) {
	at := -1
	want := int(tenant.Resume) // of a tenant that is running for all that is known
	for i, f := range facts {
		if f.sequence > e.sequence {
			break
		}
		if slotOf(f.kind) == 0 {
			want = f.kind
		}
		if f.sequence == e.sequence {
			at = i
		}
	}
	switch {
	case at < 0 && len(facts) > 0 && !h.quiet:
		s.charge(wrongStatus, "%s was told %s %d of %s, a sequence that the source was never answered", a.id, words[e.kind], e.sequence, h.name)
	case slotOf(e.kind) > 0 && at >= 0 && facts[at].kind != e.kind, slotOf(e.kind) == 0 && e.kind != want && !h.quiet:
		s.charge(wrongStatus, "%s was told %s %d of %s, which was %s then", a.id, words[e.kind], e.sequence, h.name, words[want])
	}
	if p := life.pairs[h.name]; p != nil && at >= 0 {
		for _, g := range p.gaps { // what was sent after consent had ended
			if facts[at].sent.After(g.from) && e.at.After(g.from) && (g.to.IsZero() || e.at.Before(g.to)) {
				s.charge(foreign, "%s was told %s %d of %s, sent after its approval had been taken back", a.id, words[e.kind], e.sequence, h.name)
			}
		}
	}
}

// gateWithin is how long a gate may stay closed for what a former URL asked for: where the opening that a new URL
// brings was lost, the next loop that arms wake-ups makes it good, and faults keep that from its work for a while.
const gateWithin = 30 * time.Second

// judgeGate judges that nobody is left alone for what another URL asked for. The app is at one that never
// asks for it, and breakers open for seconds.
func (s *truthSoak) judgeGate(ctx context.Context, d *dice, a *truthApp) {
	s.count("gates judged", 1)
	for began := time.Now(); ; d.pause(ctx, 100*time.Millisecond, 500*time.Millisecond) {
		status, b := s.insist(ctx, d, http.MethodGet, "/v1/apps/"+a.id+"/mailbox", "", nil, false)
		var box struct {
			RetryAt time.Time `json:"retry_at"`
		}
		if status != http.StatusOK || json.Unmarshal(b, &box) != nil {
			s.charge(badAnswer, "mailbox of %s: %d %s", a.id, status, tail(b, 200))
			return
		}
		if time.Until(box.RetryAt) <= time.Minute {
			return
		}
		if time.Since(began) > gateWithin {
			s.charge(lost, "%s is left alone until %v, since its former URL asked for it: %s", a.id, box.RetryAt, b)
			return
		}
	}
}

// judgeApprovals compares the approvals that are listed, and their index, with those that were given. Who
// is not right at once has a while: a repair takes entries off the index and puts them back.
func (s *truthSoak) judgeApprovals(ctx context.Context, d *dice, a *truthApp) {
	a.mu.Lock()
	life, before := a.life, map[string]approval{}
	for _, h := range s.tenants {
		p := a.life.pairs[h.name]
		if p == nil {
			p = &approval{sure: true}
		}
		if p.sure {
			before[h.name] = *p
		}
	}
	a.mu.Unlock()
	s.count("lists of approvals judged", 1)
	var wrong map[string]string
	for began := time.Now(); ; d.pause(ctx, 100*time.Millisecond, 200*time.Millisecond) {
		wrong = s.wrongApprovals(ctx, d, a, before)
		if len(wrong) == 0 || time.Since(began) > 5*time.Second {
			break
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, what := range wrong {
		p, was := life.pairs[name], before[name]
		if p == nil {
			p = &approval{sure: true}
		}
		if p.sure && p.stands == was.stands && p.given.Equal(was.given) && len(p.gaps) == len(was.gaps) {
			c := lost
			if !was.stands {
				c = foreign
			}
			s.charge(c, "approval of %s for %s, made %d times: %s; given at %s", name, a.id, len(a.lives), what, was.given.Format("15:04:05.000"))
		}
	}
}

// wrongApprovals says of which tenants list or index differ from what is known for sure.
func (s *truthSoak) wrongApprovals(ctx context.Context, d *dice, a *truthApp, known map[string]approval) map[string]string {
	listed, wrong := map[string]bool{}, map[string]string{}
	for cursor := ""; ; {
		var page struct {
			Items []struct{ Tenant string }
			Next  string `json:"next_cursor"`
		}
		status, b := s.insist(ctx, d, http.MethodGet, "/v1/apps/"+a.id+"/approvals?limit=500"+cursor, "", nil, false)
		if status != http.StatusOK || json.Unmarshal(b, &page) != nil {
			s.charge(badAnswer, "approvals of %s: %d %s", a.id, status, tail(b, 200))
			return nil
		}
		for _, i := range page.Items {
			listed[i.Tenant] = true
		}
		if page.Next == "" {
			break
		}
		cursor = "&cursor=" + page.Next
	}
	for name, p := range known {
		if listed[name] != p.stands {
			wrong[name] = fmt.Sprintf("listed %v", listed[name])
			continue
		}
		indexed, err := s.rdb.SIsMember(ctx, "lamplighter:{"+name+"}:approvals", a.id).Result()
		if err == nil && p.stands && !indexed {
			wrong[name] = "listed, but not in the tenant's index"
		}
	}
	return wrong
}

// judgeKept compares the list of accepted changes with the source's: nothing twice, nothing besides.
func (s *truthSoak) judgeKept(h *history) {
	kept, err := s.rdb.ZRange(s.t.Context(), "lamplighter:{"+h.name+"}:changes", 0, -1).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	var got, want []string
	for _, k := range kept {
		var c struct {
			ID   string `json:"i"`
			Type int    `json:"t"`
		}
		if err := json.Unmarshal([]byte(k), &c); err != nil {
			s.t.Fatal(err)
		}
		got = append(got, words[c.Type]+" "+strings.TrimPrefix(c.ID, "chg_"+h.name+"_"))
	}
	for _, f := range h.all() {
		if f.kind != silent {
			want = append(want, words[f.kind]+" "+strconv.FormatInt(f.sequence, 10))
		}
	}
	if !slices.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		s.charge(backAtIntake, "%s: %d changes are kept, the source reported %d; from the %d. on they are %v and %v", h.name, len(got), len(want), at+1,
			got[at:min(len(got), at+4)], want[at:min(len(want), at+4)])
	}
}

// closing reports one more status of each tenant, with nothing failing: it finds whom nobody tells any more,
// and who is told without consent.
func (s *truthSoak) closing() {
	ctx := s.t.Context()
	last := &reporter{truthSoak: s, dice: s.dice, name: "last"}
	p := &posting{batch: true}
	for i, h := range s.tenants {
		kind := int(tenant.Suspend)
		if i%2 == 0 {
			kind = int(tenant.Resume)
		}
		p.lines = append(p.lines, postingLine{of: h, kind: kind, text: `{"tenant":"` + h.name + `","change_type":"` + words[kind] + `"}`})
	}
	last.carry(ctx, p)
	s.awaitTold("of the last change")
	deadline := time.Now().Add(quietWithin)
	for _, l := range p.lines {
		id := fmt.Sprintf("chg_%s_%d", l.of.name, l.sequence)
		for {
			var k struct {
				InStep bool `json:"in_step"`
				Apps   json.RawMessage
			}
			s.want(http.StatusOK, &k, http.MethodGet, "/v1/state-changes/"+id, "")
			if k.InStep {
				break
			}
			if time.Now().After(deadline) {
				s.charge(neverInStep, "%s: %s", id, k.Apps)
				break
			}
			wait(s.t, 20*time.Millisecond)
		}
		s.pull(ctx, l.of, "after the last change")
	}
	s.judgeLast(p)
}

// judgeLast judges who was told of the last changes.
func (s *truthSoak) judgeLast(p *posting) {
	for _, a := range s.apps {
		a.mu.Lock()
		for _, l := range p.lines {
			name := l.of.name
			told := slices.ContainsFunc(a.life.heard[name], func(e heard) bool { return e.sequence == l.sequence })
			if q := a.life.pairs[name]; told && (q == nil || !q.stands) {
				s.charge(foreign, "%s was told the last change of %s, which does not approve it", a.id, name)
			}
		}
		a.mu.Unlock()
	}
}
