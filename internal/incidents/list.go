package incidents

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
)

const (
	incidentPage = 100
	// appsAtOnce is how many apps are read in one round trip.
	appsAtOnce = 1000
	// historyMost is the most ended incidents of an app. sameMoment is how many of them may have ended in the
	// millisecond before which a page begins.
	historyMost = 1000
	sameMoment  = 8
	// entriesAtOnce limits how many ended incidents are read at once.
	entriesAtOnce = 20_000
)

// ListIncidents returns a page and the position after it, which is empty on the last page. Open incidents come first,
// the last opened first, then closed ones, the last closed first. Errors: ErrCursor.
//
// A page costs a few round trips per thousand apps, wherever it is in the list. A position stays valid when incidents
// open and close. No incident is missed; one that closes meanwhile may appear as both.
func (m *Manager) ListIncidents(ctx context.Context, q Query) (list []Incident, next string, err error) {
	after, err := parsePosition(q.After)
	if err != nil {
		return nil, "", err
	}
	if err := m.opts.Apps.Refresh(ctx); err != nil {
		return nil, "", fmt.Errorf("refresh apps: %w", err)
	}
	apps := m.requestedApps(q.App)
	limit := cmp.Or(max(q.Limit, 0), incidentPage)
	if q.State != Closed && after.state != Closed {
		if list, err = m.openIncidents(ctx, apps, q.Endpoint, after); err != nil {
			return nil, "", err
		}
	}
	if q.State != Open && len(list) <= limit {
		closed, err := m.closedIncidents(ctx, apps, q.Endpoint, after, limit+1-len(list))
		if err != nil {
			return nil, "", err
		}
		list = append(list, closed...)
	}
	if len(list) <= limit {
		return list, "", nil
	}
	return list[:limit], positionOf(&list[limit-1]).String(), nil
}

// requestedApps lists the apps whose incidents are requested.
func (m *Manager) requestedApps(only partner.ClientID) []partner.ClientID {
	if only != "" {
		if _, ok := m.opts.Apps.App(only); !ok {
			return nil
		}
		return []partner.ClientID{only}
	}
	entries := m.opts.Apps.All()
	ids := make([]partner.ClientID, len(entries))
	for i, e := range entries {
		ids[i] = e.Rec.App.ClientID
	}
	return ids
}

// openIncidents lists the open incidents after a position.
func (m *Manager) openIncidents(ctx context.Context, apps []partner.ClientID, endpoint string, after position) ([]Incident, error) {
	var list []Incident
	for some := range slices.Chunk(apps, appsAtOnce) {
		states, err := m.opts.Store.IncidentsOf(ctx, some)
		if err != nil {
			return nil, err
		}
		for i, app := range some {
			for k, s := range states[i] {
				if s.IsOpen() && (endpoint == "" || endpoint == k.String()) {
					list = append(list, newOpenIncident(app, k, s))
				}
			}
		}
	}
	return sortAfterPosition(list, after), nil
}

// closedIncidents lists the first closed incidents after a position. It knows when each app's newest incident ended.
// It reads the apps in that order, twice as many each time. It stops when the unread apps cannot have an incident
// before the last one found. It reads nothing that ended before what is certainly on the page, and a bounded amount
// at once.
func (m *Manager) closedIncidents(ctx context.Context, apps []partner.ClientID, endpoint string, after position, need int) ([]Incident, error) {
	var until time.Time
	if after.state == Closed {
		until = time.UnixMilli(after.at)
	}
	heads, err := m.newestEndedByApp(ctx, apps, until)
	if err != nil {
		return nil, err
	}
	each := need + sameMoment
	if endpoint != "" { // incidents of other endpoints are in between
		each = historyMost
	}
	within := timeRange{until: until}
	if endpoint == "" {
		within.since = earliestNeeded(heads, until, need)
	}
	var list []Incident
	for size := need; len(heads) > 0; size *= 2 {
		if len(list) == need && heads[0].ended.UnixMilli() < list[need-1].ClosedAt.UnixMilli() {
			break
		}
		some, err := m.appsFittingPage(ctx, heads[:min(size, len(heads))], within, each)
		if err != nil {
			return nil, err
		}
		heads = heads[len(some):]
		more, err := m.readEnded(ctx, some, within, each)
		if err != nil {
			return nil, err
		}
		list = append(list, slices.DeleteFunc(more, func(i Incident) bool { return endpoint != "" && endpoint != i.Endpoint.String() })...)
		list = sortAfterPosition(list, after)
		if len(list) >= need {
			list = list[:need]
			within.since = list[need-1].ClosedAt
		}
	}
	return list, nil
}

// timeRange limits the end of the incidents that are read, both ends included; a zero time is no limit.
type timeRange struct{ since, until time.Time }

// earliestNeeded is a time since which at least need incidents have ended that belong behind until, the end of the page
// before. It is zero when there are too few to be certain. Each app's newest counts as one, unless it ended at until.
func earliestNeeded(heads []newestEnded, until time.Time, need int) time.Time {
	for _, h := range heads {
		if !until.IsZero() && !h.ended.Before(until) {
			continue
		}
		if need--; need == 0 {
			return h.ended
		}
	}
	return time.Time{}
}

// appsFittingPage is the longest prefix of apps whose incidents fit into one read.
func (m *Manager) appsFittingPage(ctx context.Context, of []newestEnded, s timeRange, each int) ([]newestEnded, error) {
	if len(of)*each <= entriesAtOnce {
		return of, nil
	}
	counts, err := m.opts.Store.CountEnded(ctx, appIDs(of), s.since, s.until)
	if err != nil {
		return nil, err
	}
	total := 0
	for i, n := range counts {
		if total += min(n, each); total > entriesAtOnce {
			return of[:max(i, 1)], nil
		}
	}
	return of, nil
}

func appIDs(heads []newestEnded) []partner.ClientID {
	apps := make([]partner.ClientID, len(heads))
	for i, h := range heads {
		apps[i] = h.app
	}
	return apps
}

// newestEnded is an app with the end of its newest ended incident.
type newestEnded struct {
	app   partner.ClientID
	ended time.Time
}

// newestEndedByApp lists the apps that have ended incidents, the last ended first.
func (m *Manager) newestEndedByApp(ctx context.Context, apps []partner.ClientID, until time.Time) ([]newestEnded, error) {
	ended, err := m.opts.Store.ReadLastEndedTimes(ctx, apps, until)
	if err != nil {
		return nil, err
	}
	var heads []newestEnded
	for i, app := range apps {
		if !ended[i].IsZero() {
			heads = append(heads, newestEnded{app, ended[i]})
		}
	}
	slices.SortFunc(heads, func(a, b newestEnded) int { return b.ended.Compare(a.ended) })
	return heads, nil
}

// readEnded reads ended incidents of some apps.
func (m *Manager) readEnded(ctx context.Context, of []newestEnded, s timeRange, each int) ([]Incident, error) {
	apps := appIDs(of)
	all, err := m.opts.Store.ListEnded(ctx, apps, s.since, s.until, each)
	if err != nil {
		return nil, err
	}
	var list []Incident
	for i, app := range apps {
		for _, e := range all[i] {
			one := Incident{
				ID: e.ID, ClientID: app, Endpoint: e.Endpoint, State: Closed, Since: e.Since, OpenedAt: e.OpenedAt, ClosedAt: e.EndedAt,
			}
			addFailure(&one, e.Failure)
			list = append(list, one)
		}
	}
	return list, nil
}

// position is a position in the list: the incident's state, when it opened or closed, and its id.
type position struct {
	state State
	at    int64
	id    string
}

func positionOf(i *Incident) position {
	if i.State == Closed {
		return position{Closed, i.ClosedAt.UnixMilli(), i.ID}
	}
	return position{Open, i.OpenedAt.UnixMilli(), i.ID}
}

// compare is negative when p comes before q in the list.
func (p position) compare(q position) int {
	return cmp.Or(cmp.Compare(q.state, p.state), cmp.Compare(q.at, p.at), strings.Compare(p.id, q.id))
}

// String is the position in the format of cursors.
func (p position) String() string {
	return string(p.state) + " " + strconv.FormatInt(p.at, 10) + " " + p.id
}

// parsePosition reads Query.After. An empty cursor is the zero position, before all incidents.
func parsePosition(after string) (position, error) {
	if after == "" {
		return position{}, nil
	}
	parts := strings.Split(after, " ")
	if len(parts) != 3 || !slices.Contains(AllStates(), State(parts[0])) {
		return position{}, ErrCursor
	}
	at, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return position{}, ErrCursor
	}
	return position{State(parts[0]), at, parts[2]}, nil
}

// sortAfterPosition sorts incidents and drops those that do not come after a position.
func sortAfterPosition(list []Incident, after position) []Incident {
	if after.state != "" {
		list = slices.DeleteFunc(list, func(i Incident) bool { return positionOf(&i).compare(after) <= 0 })
	}
	slices.SortFunc(list, func(a, b Incident) int { return positionOf(&a).compare(positionOf(&b)) })
	return list
}
