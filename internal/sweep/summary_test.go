package sweep_test

import (
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/sweep"
)

func TestConditionOf(t *testing.T) {
	t.Parallel()
	now := time.Now()
	waiting := mailbox.View{Waiting: 1, Now: now}
	gated, probing := waiting, waiting
	gated.CooldownUntil, probing.CooldownUntil = now.Add(time.Minute), now.Add(-time.Minute)
	off := gated
	off.Off = true
	open := sweep.EndpointIncidents{}
	open.Open[partner.StateChange] = true
	other := sweep.EndpointIncidents{}
	other.Open[partner.ERPSync], other.Failing[partner.StateChange] = true, true
	idle := func(v mailbox.View) mailbox.View {
		v.Waiting = 0
		return v
	}
	for name, c := range map[string]struct {
		view mailbox.View
		t    sweep.EndpointIncidents
		on   bool
		want string
	}{
		"OffBySettings": {gated, open, false, "off"}, "OffInTheMailbox": {off, open, true, "off"},
		"GateClosed": {gated, sweep.EndpointIncidents{}, true, "failing"}, "GateRunOut": {probing, sweep.EndpointIncidents{}, true, "failing"},
		"GateClosedAndNothingWaits": {idle(gated), sweep.EndpointIncidents{}, true, "failing"}, "GateRunOutAndNothingWaits": {idle(probing), sweep.EndpointIncidents{}, true, "in_step"},
		"IncidentOpen": {waiting, open, true, "failing"}, "IncidentOfAnotherEndpoint": {waiting, other, true, "behind"},
		"Behind": {waiting, sweep.EndpointIncidents{}, true, "behind"}, "InStep": {mailbox.View{}, sweep.EndpointIncidents{}, true, "in_step"},
	} {
		if got := sweep.ConditionOf(c.view, c.t, c.on); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Series name apps only while something is wrong with them.
func TestExceptions(t *testing.T) {
	t.Parallel()
	c := newClusterCollector(5)
	now := time.Now()
	c.views["app00000"] = mailbox.View{Waiting: 3, Diverged: 2, CooldownUntil: now.Add(time.Hour), Now: now} // failing
	c.views["app00001"] = mailbox.View{Waiting: 2, Diverged: 1, Now: now}                                    // behind
	c.views["app00002"] = mailbox.View{Waiting: 9, Off: true, Now: now}                                      // off: somebody decided so
	c.views["app00003"] = mailbox.View{CooldownUntil: now.Add(-time.Second), Now: now}                       // nothing waits, nothing to prove it with
	c.troubles["app00004"] = &registry.OpenIncidents{Incidents: map[partner.EndpointKind]incident.State{
		partner.Mirroring: {ID: "inc_x", OpenedAt: now}, partner.ERPSync: {FailingSince: now},
	}}
	p := c.process()
	p.mustRound(t, "gauges")
	same(t, map[string]float64{
		"endpoint_failing app00000 state_change": 1,
		"endpoint_failing app00004 erp_sync":     1, "endpoint_failing app00004 mirroring": 1,
		"endpoint_waiting app00000": 3, "endpoint_waiting app00001": 2,
		"endpoint_diverged_tenants app00000": 2, "endpoint_diverged_tenants app00001": 1,
		"incidents_open mirroring": 1, "breakers closed": 2, "breakers open": 1, "breakers half_open": 1,
	}, p.series(t, "endpoint_failing", "endpoint_waiting", "endpoint_diverged_tenants", "incidents_open", "breakers", "endpoint_exceptions_dropped"))
}

func TestExceptionsAreCapped(t *testing.T) {
	t.Parallel()
	const more = 7
	c := newClusterCollector(sweep.MaxExceptions + more)
	for _, a := range c.apps {
		c.views[a.Rec.App.ClientID] = mailbox.View{Waiting: 1, Diverged: 1}
	}
	p := c.process()
	p.mustRound(t, "gauges")
	got := p.series(t, "endpoint_waiting", "endpoint_diverged_tenants", "endpoint_exceptions_dropped")
	if len(got) != 2*sweep.MaxExceptions+1 || got["endpoint_exceptions_dropped"] != more {
		t.Errorf("%d series, %v dropped", len(got), got["endpoint_exceptions_dropped"])
	}
}
