//go:build soak

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

// fact is one thing that the source said of a tenant: a change, or a status that is told to nobody.
type fact struct {
	// kind is the change's type, or silent.
	kind     int
	sequence int64 // of a change
	endpoint string
	state    tenant.State // the tenant's from then on
	// sent is before the first call about it, answered after the last.
	sent, answered time.Time
}

const silent = -1

// history is what the source said of one tenant, in the source's own order. One reporter writes it.
type history struct {
	name string
	// quiet tenants get statuses, too, which are told to nobody.
	quiet bool
	// counted tenants' changes bear a number that grows, so that several may be under way at once. The
	// number is the reporter's alone.
	counted bool
	number  int64

	mu    sync.Mutex
	facts []fact
	// spoiled: its order was lost at intake, which is charged there. What follows from that is not judged.
	spoiled bool
}

func (h *history) lostOrder() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.spoiled
}

func (h *history) all() []fact {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.facts[:len(h.facts):len(h.facts)]
}

// state is what the pull must say.
func (h *history) state() (state tenant.State, endpoint string) {
	for _, f := range h.all() {
		state = f.state
		if f.endpoint != "" {
			endpoint = f.endpoint
		}
	}
	return state, endpoint
}

// heads are the newest change of each slot by the source's order; kind is silent where there is none.
func (h *history) heads() (heads [3]fact) {
	for i := range heads {
		heads[i].kind = silent
	}
	for _, f := range h.all() {
		if f.kind == silent {
			continue
		}
		heads[slotOf(f.kind)] = f
		if f.kind == int(tenant.Delete) { // it makes the others untold truth
			heads[1].kind, heads[2].kind = silent, silent
		}
	}
	return heads
}

// add writes down what was answered, and holds its sequence against those before.
func (s *truthSoak) add(h *history, f fact) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.kind != silent {
		for i := len(h.facts) - 1; i >= 0; i-- {
			if last := h.facts[i]; last.kind != silent {
				if f.sequence <= last.sequence {
					h.spoiled = true
					s.charge(backAtIntake, "%s: %s got %d, the %s before it %d", h.name, words[f.kind], f.sequence, words[last.kind], last.sequence)
				}
				break
			}
		}
	}
	f.state = tenant.Running
	if n := len(h.facts); n > 0 {
		f.state = h.facts[n-1].state
	}
	if f.kind != silent {
		if state, alters := tenant.ChangeType(f.kind).ResultingState(); alters { //nolint:gosec // of the words
			f.state = state
		}
	}
	h.facts = append(h.facts, f)
}

// posting is one call to POST /v1/state-changes, which is repeated under its key until it is answered.
type posting struct {
	key   string
	lines []postingLine
	batch bool
}

type postingLine struct {
	of       *history // nil for a line that breaks a rule
	kind     int
	endpoint string
	text     string
	sequence int64 // once answered
	number   int64 // the source's own, 0 where it counts nothing
	// overtaken: it was refused because a higher number had been accepted.
	overtaken bool
}

func (p *posting) body() []byte {
	var b bytes.Buffer
	for _, l := range p.lines {
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// newLine draws a change of a tenant.
func newLine(d *dice, h *history) postingLine {
	l := postingLine{of: h, kind: randomKinds[d.intN(len(randomKinds))]}
	extra := ""
	if l.kind == int(tenant.Move) {
		l.endpoint = "online" + strconv.Itoa(1+d.intN(99)) + ".superoffice.com"
		extra = `,"public_endpoint":"` + l.endpoint + `"`
	}
	if h.counted {
		h.number++
		l.number = h.number
		extra += `,"source_sequence":` + strconv.FormatInt(l.number, 10)
	}
	l.text = `{"tenant":"` + h.name + `","change_type":"` + words[l.kind] + `"` + extra + `}`
	return l
}

// randomKinds are mostly switches on and off.
var randomKinds = []int{0, 2, 3, 3, 2, 3, 1, 5, 5, 4} //nolint:gochecknoglobals // never changed

// reporter reports changes of its own tenants until the time is over, one call at a time.
type reporter struct {
	*truthSoak
	dice *dice
	mine []*history
	name string
	made int
	old  []*posting
}

func (r *reporter) run(ctx context.Context) {
	for ctx.Err() == nil {
		// what was begun is brought to its end: only then is the source's order known
		r.step(context.WithoutCancel(ctx))
		r.dice.pause(ctx, 5*time.Millisecond, 40*time.Millisecond)
	}
}

func (r *reporter) step(ctx context.Context) {
	h := r.mine[r.dice.intN(len(r.mine))]
	switch what := r.dice.intN(100); {
	case what < 10 && len(r.old) > 0:
		r.count("repeats much later", 1)
		r.repeat(ctx, r.old[r.dice.intN(len(r.old))])
	case what < 20 && h.quiet && len(h.all()) > 0:
		r.setStatus(ctx, h)
	case what < 55 && h.counted:
		r.carryAtOnce(ctx, h)
	case what < 55:
		r.carry(ctx, &posting{lines: []postingLine{newLine(r.dice, h)}})
	default:
		few := []*history{h, r.mine[r.dice.intN(len(r.mine))], r.mine[r.dice.intN(len(r.mine))]}
		p := &posting{batch: true}
		for range 4 + r.dice.intN(30) {
			p.lines = append(p.lines, newLine(r.dice, few[r.dice.intN(len(few))]))
		}
		if r.dice.oneIn(5) {
			p.lines[r.dice.intN(len(p.lines))] = postingLine{text: `{"tenant":"` + h.name + `","change_type":"explode"}`}
		}
		r.count("batches", 1)
		r.carry(ctx, p)
	}
	if r.dice.oneIn(10) {
		r.pull(ctx, h, "right after the answer")
	}
}

// carry sends a report until it is answered, sometimes twice at once, and writes down what was said.
func (r *reporter) carry(ctx context.Context, p *posting) {
	r.made++
	p.key = fmt.Sprintf("%s-%d", r.name, r.made)
	sent := time.Now()
	if r.dice.oneIn(6) {
		r.count("repeats at once", 1)
		twin := &posting{key: p.key, batch: p.batch, lines: append([]postingLine(nil), p.lines...)}
		var both sync.WaitGroup
		both.Go(func() { r.send(ctx, twin) })
		r.send(ctx, p)
		both.Wait()
		r.compare(p, twin)
	} else {
		r.send(ctx, p)
	}
	answered := time.Now()
	for _, l := range p.lines {
		if l.of == nil {
			continue
		}
		if l.overtaken {
			r.charge(backAtIntake, "%s: %s was refused as overtaken, number %d, although one came after the other", l.of.name, words[l.kind], l.number)
			continue
		}
		r.add(l.of, fact{kind: l.kind, sequence: l.sequence, endpoint: l.endpoint, sent: sent, answered: answered})
		r.count("changes", 1)
		r.offer(l)
	}
	r.old = append(r.old, p)
	if r.dice.oneIn(6) {
		r.count("repeats at once", 1)
		r.repeat(ctx, p)
	}
}

// carryAtOnce sends several changes of a tenant side by side, each until it is answered. Which of them are
// accepted is open but for the newest; their order is that of their numbers.
func (r *reporter) carryAtOnce(ctx context.Context, h *history) {
	sent := time.Now()
	all := make([]*posting, 2+r.dice.intN(4))
	for i := range all {
		r.made++
		all[i] = &posting{key: fmt.Sprintf("%s-%d", r.name, r.made), lines: []postingLine{newLine(r.dice, h)}}
	}
	var calls sync.WaitGroup
	for _, i := range r.dice.perm(len(all)) {
		calls.Go(func() { r.send(ctx, all[i]) })
	}
	calls.Wait()
	answered := time.Now()
	r.count("changes at once", int64(len(all)))
	for i, p := range all {
		l := p.lines[0]
		r.old = append(r.old, p)
		if l.overtaken {
			r.count("changes overtaken", 1)
			if i == len(all)-1 {
				r.charge(backAtIntake, "%s: number %d was refused, the highest of all", h.name, l.number)
			}
			continue
		}
		r.add(h, fact{kind: l.kind, sequence: l.sequence, endpoint: l.endpoint, sent: sent, answered: answered})
		r.count("changes", 1)
		r.offer(l)
	}
}

// repeat sends a report again that was answered before: the answer must be the same, and nothing changes.
func (r *reporter) repeat(ctx context.Context, p *posting) {
	again := &posting{key: p.key, batch: p.batch, lines: append([]postingLine(nil), p.lines...)}
	for i := range again.lines {
		again.lines[i].sequence = 0
	}
	r.send(ctx, again)
	r.compare(p, again)
}

func (s *truthSoak) compare(a, b *posting) {
	for i := range a.lines {
		if a.lines[i].sequence != b.lines[i].sequence {
			s.charge(backAtIntake, "key %s line %d was accepted twice, as %d and %d", a.key, i+1, a.lines[i].sequence, b.lines[i].sequence)
		}
	}
}

// send repeats a report until each line is answered for good.
func (r *reporter) send(ctx context.Context, p *posting) {
	if !p.batch {
		status, b := r.insist(ctx, r.dice, http.MethodPost, "/v1/state-changes", "application/json", p.body(), true, "Idempotency-Key", p.key)
		r.answer(p, 0, status, b)
		return
	}
	for {
		status, b := r.insist(ctx, r.dice, http.MethodPost, "/v1/state-changes", "application/x-ndjson", p.body(), true, "Idempotency-Key", p.key)
		if status != http.StatusOK {
			r.charge(badAnswer, "a batch of changes: %d %s", status, tail(b, 200))
			return
		}
		if r.answerLines(p, b) {
			return
		}
		r.dice.pause(ctx, 10*time.Millisecond, 100*time.Millisecond)
	}
}

// answerLines reads the answers of a batch; false when it must be sent again.
func (r *reporter) answerLines(p *posting, b []byte) bool {
	lines, failed := strings.Split(strings.TrimSpace(string(b)), "\n"), 0
	for i := range p.lines {
		var a struct{ Line, Status int }
		if i >= len(lines) || json.Unmarshal([]byte(lines[i]), &a) != nil || a.Line != i+1 || a.Status >= http.StatusInternalServerError {
			failed++
			if a.Status == http.StatusInternalServerError {
				r.charge(badAnswer, "line of a batch: %s", lines[i])
			}
			continue
		}
		r.answer(p, i, a.Status, []byte(lines[i]))
	}
	if failed > 0 {
		r.count("lines failed", int64(failed))
		if failed < len(p.lines) {
			r.count("batches failed in part", 1)
		}
	}
	return failed == 0
}

// answer takes the last word on a line.
func (r *reporter) answer(p *posting, at, status int, b []byte) {
	l := &p.lines[at]
	var a struct {
		Sequence int64 `json:"sequence"`
	}
	_ = json.Unmarshal(b, &a)
	switch {
	case l.of == nil:
		if status != http.StatusUnprocessableEntity {
			r.charge(badAnswer, "a line that breaks a rule: %d", status)
		}
	case status == http.StatusConflict && l.number > 0 && bytes.Contains(b, []byte("source_sequence")):
		l.overtaken = true
	case status != http.StatusAccepted || a.Sequence <= 0:
		r.charge(badAnswer, "key %s line %d: %d %s", p.key, at+1, status, tail(b, 200))
	case l.sequence != 0 && l.sequence != a.Sequence:
		r.charge(backAtIntake, "key %s line %d was accepted twice, as %d and %d", p.key, at+1, l.sequence, a.Sequence)
	default:
		l.sequence = a.Sequence
	}
}

// setStatus sets a status that is told to nobody. Only on condition that nothing came in between: a call
// that was given up may be carried out late.
func (r *reporter) setStatus(ctx context.Context, h *history) {
	states := []tenant.State{tenant.Running, tenant.Suspended, tenant.OfflineMaintenance, tenant.Deleted}
	want, sent := states[r.dice.intN(len(states))], time.Now()
	path := "/v1/tenants/" + h.name
	for {
		tag, state := r.tag(ctx, path)
		status, b := r.once(ctx, time.Minute, http.MethodPut, path+"/status", "application/json", []byte(`{"state":"`+want.String()+`"}`), "If-Match", tag)
		if status == http.StatusOK {
			break
		}
		if status != http.StatusPreconditionFailed && !passing(status) {
			r.charge(badAnswer, "PUT %s/status: %d %s", path, status, tail(b, 200))
			return
		}
		if _, state = r.tag(ctx, path); state == want.String() {
			break
		}
		r.dice.pause(ctx, 10*time.Millisecond, 100*time.Millisecond)
	}
	r.count("statuses set", 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.facts = append(h.facts, fact{kind: silent, state: want, sent: sent, answered: time.Now()})
}

// tag reads a tenant's ETag and state.
func (r *reporter) tag(ctx context.Context, path string) (tag, state string) {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.stack.apis[r.dice.intN(len(r.stack.apis))]+path, http.NoBody)
		if err != nil {
			r.t.Error(err)
			return "", ""
		}
		req.Header.Set("Authorization", "Bearer "+adminToken)
		if resp, err := platform.Do(req); err == nil {
			var a struct{ State string }
			err = json.NewDecoder(resp.Body).Decode(&a)
			_ = resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK {
				return resp.Header.Get("ETag"), a.State
			}
		}
		r.dice.pause(ctx, 10*time.Millisecond, 100*time.Millisecond)
	}
}

// pull compares what the pull says of a tenant with what the source said last. No reporter may be at it.
func (s *truthSoak) pull(ctx context.Context, h *history, when string) {
	if len(h.all()) == 0 || h.lostOrder() {
		return
	}
	status, b := s.insist(ctx, s.dice, http.MethodGet, "/api/state/"+h.name, "", nil, false)
	var a struct{ State, Endpoint string }
	if status != http.StatusOK || json.Unmarshal(b, &a) != nil {
		s.charge(badAnswer, "pull of %s: %d %s", h.name, status, tail(b, 200))
		return
	}
	s.judgePull(h, when, a.State, a.Endpoint)
}

func (s *truthSoak) judgePull(h *history, when, gotState, gotEndpoint string) {
	state, endpoint := h.state()
	if endpoint != "" {
		endpoint = "https://" + endpoint + "/" + h.name
	}
	s.count("pulls compared", 1)
	if gotState != state.String() || gotEndpoint != endpoint {
		s.charge(pullDiffers, "%s, %s: the pull says %s at %q, the source %s at %q", h.name, when, gotState, gotEndpoint, state, endpoint)
	}
}

// passing reports whether an answer asks for a repeat; 0 is none at all.
func passing(status int) bool {
	return status == 0 || status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout ||
		status == http.StatusInternalServerError || status == http.StatusUnauthorized || status == http.StatusForbidden
}

// insist repeats a call until it is answered. Who is impatient sometimes hangs up early: only calls that
// bear a key may be carried out beside their own repeat.
func (s *truthSoak) insist(ctx context.Context, d *dice, method, path, contentType string, body []byte, impatient bool, header ...string) (int, []byte) {
	for {
		within := time.Minute
		if impatient && d.oneIn(5) {
			within = d.between(100*time.Millisecond, 3*time.Second)
		}
		status, b := s.once(ctx, within, method, path, contentType, body, header...)
		if !passing(status) && !(status == http.StatusConflict && bytes.Contains(b, []byte("overtaken"))) {
			return status, b
		}
		s.count("calls repeated", 1)
		d.pause(ctx, 10*time.Millisecond, 150*time.Millisecond)
		if ctx.Err() != nil {
			return 0, nil
		}
	}
}

// once makes one call; the status is 0 where no answer came.
func (s *truthSoak) once(ctx context.Context, within time.Duration, method, path, contentType string, body []byte, header ...string) (int, []byte) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.stack.apis[s.dice.intN(len(s.stack.apis))]+path, bytes.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := platform.Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	switch resp.StatusCode {
	case http.StatusInternalServerError, http.StatusUnauthorized, http.StatusForbidden:
		s.charge(badAnswer, "%s %s: %d %s", method, path, resp.StatusCode, tail(b, 300))
	}
	return resp.StatusCode, b
}
