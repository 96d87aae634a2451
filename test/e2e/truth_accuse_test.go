//go:build soak

package e2e_test

import (
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

// truthCase is a truth soak without servers: one tenant, one app that was told all there is to tell.
type truthCase struct {
	*truthSoak
	h    *history
	a    *truthApp
	life *appLife
	at   time.Time // a moment after all that happened
}

func newTruthCase(t *testing.T) *truthCase {
	s := &truthSoak{t: t, dice: newDice(1, 1), counts: map[string]int64{}, charges: map[charge][]string{}}
	began := time.Now().Add(-time.Minute)
	c := &truthCase{truthSoak: s, h: &history{name: "Cust1"}, a: &truthApp{id: "app1", alive: true}, at: time.Now()}
	c.life = s.newLife(c.a)
	c.life.made, c.life.hears, c.life.moved = began, began, began
	c.life.pairs["Cust1"] = &approval{sure: true, stands: true, begun: began, asked: began, given: began.Add(time.Second)}
	s.apps, s.tenants = []*truthApp{c.a}, []*history{c.h}
	for i, kind := range []tenant.ChangeType{tenant.Suspend, tenant.Resume, tenant.Move, tenant.Suspend} {
		f := fact{kind: int(kind), sequence: int64(10 * (i + 1)), sent: began.Add(time.Duration(i+2) * time.Second)}
		if kind == tenant.Move {
			f.endpoint = "online1.superoffice.com"
		}
		s.add(c.h, f)
	}
	return c
}

// tell has the app's receiver take a notification.
func (c *truthCase) tell(kind tenant.ChangeType, sequence int64) {
	h := http.Header{}
	h.Set("X-State-Sequence", strconv.FormatInt(sequence, 10))
	c.life.receiver.take(h, &notification{ChangeType: int(kind), ContextIdentifier: "Cust1"}, c.at)
}

// judged judges what a run does, but for calls.
func (c *truthCase) judged() (found []charge) {
	for _, m := range c.missing(c.a) {
		c.charge(lost, "%s", m)
	}
	c.judgeLife(c.a, 0, c.life)
	for k := range c.charges {
		found = append(found, k)
	}
	slices.Sort(found)
	return found
}

// TestTheTruthSoakAccuses shows of each judgement that it falls, and only where something is wrong.
func TestTheTruthSoakAccuses(t *testing.T) {
	t.Parallel()
	all := func(c *truthCase) {
		c.tell(tenant.Suspend, 10)
		c.tell(tenant.Resume, 20)
		c.tell(tenant.Move, 30)
		c.tell(tenant.Suspend, 40)
	}
	line := func(c *truthCase, kind tenant.ChangeType, sequence int64) postingLine {
		return postingLine{of: c.h, kind: int(kind), sequence: sequence}
	}
	for name, row := range map[string]struct {
		happens func(c *truthCase)
		want    []charge
	}{
		"nothing is wrong": {happens: func(c *truthCase) {
			all(c)
			c.tell(tenant.Suspend, 40) // twice
			c.judgeInStep(line(c, tenant.Move, 30), c.at, "")
			c.judgePull(c.h, "", "Suspended", "https://online1.superoffice.com/Cust1")
			c.judgeLast(&posting{lines: []postingLine{line(c, tenant.Suspend, 40)}})
			c.life.look(c.truthSoak, "/hook")
		}},
		"what a newer one replaced is not told": {happens: func(c *truthCase) {
			c.tell(tenant.Move, 30)
			c.tell(tenant.Suspend, 40)
			c.judgeInStep(line(c, tenant.Suspend, 10), c.at, "")
		}},
		"the newest status is not told": {happens: func(c *truthCase) {
			c.tell(tenant.Resume, 20)
			c.tell(tenant.Move, 30)
		}, want: []charge{lost}},
		"a move is not told": {happens: func(c *truthCase) {
			c.tell(tenant.Suspend, 40)
		}, want: []charge{lost}},
		"a move from before the approval need not be told": {happens: func(c *truthCase) {
			c.life.pairs["Cust1"].given = c.at
			c.tell(tenant.Suspend, 40)
		}},
		"an approval tells nothing": {happens: func(c *truthCase) {
			c.life.pairs["Cust1"].given = c.at
		}, want: []charge{lost}},
		"a first URL tells nothing": {happens: func(c *truthCase) {
			c.life.hears = c.at
		}, want: []charge{lost}},
		"a status that was set is not told on approval": {happens: func(c *truthCase) {
			all(c)
			c.h.facts = append(c.h.facts, fact{kind: silent, state: tenant.Running, answered: c.at})
			c.h.quiet = true
			c.life.pairs["Cust1"].asked = c.at.Add(time.Second)
		}, want: []charge{lost}},
		"an older one comes behind": {happens: func(c *truthCase) {
			all(c)
			c.tell(tenant.Move, 30)
		}, want: []charge{backAtReceiver}},
		"another change than the source's": {happens: func(c *truthCase) {
			all(c)
			c.tell(tenant.Resume, 40)
		}, want: []charge{wrongStatus, lost}},
		"a sequence nobody gave": {happens: func(c *truthCase) {
			all(c)
			c.tell(tenant.Suspend, 41)
		}, want: []charge{wrongStatus}},
		"an older change is accepted behind a newer one": {happens: func(c *truthCase) {
			all(c)
			c.add(c.h, fact{kind: int(tenant.Resume), sequence: 35})
		}, want: []charge{backAtIntake}},
		"a key is accepted twice": {happens: func(c *truthCase) {
			all(c)
			c.compare(&posting{lines: []postingLine{line(c, tenant.Move, 30)}}, &posting{lines: []postingLine{line(c, tenant.Move, 31)}})
		}, want: []charge{backAtIntake}},
		"in step although nobody was told": {happens: func(c *truthCase) {
			c.judgeInStep(line(c, tenant.Suspend, 10), c.at, "")
			all(c)
		}, want: []charge{falseInStep}},
		"in step before it was told": {happens: func(c *truthCase) {
			all(c)
			c.judgeInStep(line(c, tenant.Suspend, 10), c.at.Add(-time.Second), "")
		}, want: []charge{falseInStep}},
		"a new owner hears of who did not consent": {happens: func(c *truthCase) {
			all(c)
			delete(c.life.pairs, "Cust1")
			c.tell(tenant.Suspend, 40)
		}, want: []charge{foreign}},
		"a change from after the end of consent": {happens: func(c *truthCase) {
			all(c)
			p := c.life.pairs["Cust1"]
			p.stands, p.gaps = false, []gap{{from: c.at.Add(-57 * time.Second)}}
			p.gaps[0].from = c.h.facts[3].sent.Add(-time.Millisecond)
		}, want: []charge{foreign}},
		"the last change goes to who does not approve": {happens: func(c *truthCase) {
			all(c)
			c.life.pairs["Cust1"].stands = false
			c.judgeLast(&posting{lines: []postingLine{line(c, tenant.Suspend, 40)}})
		}, want: []charge{foreign}},
		"a post to where the app was": {happens: func(c *truthCase) {
			all(c)
			c.life.look(c.truthSoak, "/sick")
		}, want: []charge{foreign}},
		"a post to an app that was deleted": {happens: func(c *truthCase) {
			all(c)
			c.life.ended = c.at.Add(-time.Minute)
			c.life.look(c.truthSoak, "/hook")
		}, want: []charge{foreign}},
		"the pull says another state": {happens: func(c *truthCase) {
			all(c)
			c.judgePull(c.h, "", "Running", "https://online1.superoffice.com/Cust1")
		}, want: []charge{pullDiffers}},
		"the pull says another endpoint": {happens: func(c *truthCase) {
			all(c)
			c.judgePull(c.h, "", "Suspended", "")
		}, want: []charge{pullDiffers}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTruthCase(t)
			row.happens(c)
			if got := c.judged(); !slices.Equal(got, row.want) && !(len(got) == 0 && len(row.want) == 0) {
				t.Errorf("charges %v, want %v: %v", got, row.want, c.charges)
			}
		})
	}
}
