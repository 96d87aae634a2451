package compare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Bounds of one page, and its cost, in units of one pair of a mailbox's page.
const (
	// pairsPage is how many pairs of a mailbox are read at once.
	pairsPage = mailbox.MaxBatch
	// scanned is how many keys of Redis one step through the index scans. indexPage is of how many tenants it then reads the
	// entries at once, and indexPairs is about how many entries that may be.
	scanned    = 1000
	indexPage  = 200
	indexPairs = 2000
	// suspectsMax is how many pairs may wait for their second check; with more the walk waits.
	suspectsMax = 50_000

	// indexEvery is how old the last walk through the index may be before a slow round walks through it again.
	indexEvery = 2 * time.Hour

	costPage   = 25.0
	costScan   = 40.0
	costTenant = 0.4
	costEntry  = 0.3
	costLook   = 4.0
)

// The places of a walk: "apps|<client id>|<cursor>", then "index|<cursor>". With an empty cursor the first is the first page of
// the app with the client id, or of the next app.
const (
	inApps  = "apps"
	inIndex = "index"
	atStart = inApps + "||"
	atEnd   = "end"
)

// parseCursor parses a place; one that this version cannot read is the start.
func parseCursor(cursor string) (part string, app partner.ClientID, at string) {
	part, rest, _ := strings.Cut(cursor, "|")
	switch part {
	case inIndex:
		return inIndex, "", rest
	case inApps:
		id, at, _ := strings.Cut(rest, "|")
		return inApps, partner.ClientID(id), at
	default:
		return inApps, "", ""
	}
}

func formatAppCursor(app partner.ClientID, at string) string {
	return inApps + "|" + string(app) + "|" + at
}

// nextClientID returns the smallest string above app, so that no client id lies between.
func nextClientID(app partner.ClientID) partner.ClientID { return app + "\x00" }

// skipPlace returns the place behind one that cannot be compared.
func skipPlace(cursor string) string {
	if part, app, _ := parseCursor(cursor); part == inApps {
		return formatAppCursor(nextClientID(app), "")
	}
	return atEnd
}

// compareNextPage compares the next page, and returns its cost.
func (c *Comparer) compareNextPage(ctx context.Context, now time.Time) (float64, error) {
	part, app, at := parseCursor(c.state.Cursor)
	if part == inIndex {
		return c.compareIndexPage(ctx, now, at)
	}
	apps := c.opts.Apps.All()
	i, found := slices.BinarySearchFunc(apps, app, func(e *registry.Entry, id partner.ClientID) int {
		return strings.Compare(string(e.Rec.App.ClientID), string(id))
	})
	if i == len(apps) {
		if c.state.Cursor = atEnd; c.state.Fast || now.Sub(c.state.Indexed) >= indexEvery {
			c.state.Cursor = inIndex + "|"
		}
		return 1, nil
	}
	if !found { // deleted meanwhile, or a place between two apps
		at = ""
	}
	id := apps[i].Rec.App.ClientID
	c.state.Cursor = formatAppCursor(id, at) // the place that noteFailure skips
	next, cost, err := c.compareAppPage(ctx, now, apps[i], at)
	if err != nil {
		return cost, err
	}
	if c.state.Cursor = formatAppCursor(id, next); next == "" {
		c.state.Cursor = formatAppCursor(nextClientID(id), "")
	}
	return cost, nil
}

// compareAppPage compares a page of a mailbox with the tenants' records and index entries.
func (c *Comparer) compareAppPage(ctx context.Context, now time.Time, e *registry.Entry, at string) (next string, cost float64, err error) {
	id := e.Rec.App.ClientID
	if at == "" {
		if err := c.compareSettings(ctx, e); err != nil {
			return "", costPage, fmt.Errorf("compare app %s: %w", id, err)
		}
	}
	page, next, err := c.opts.Mailboxes.ReadMarks(ctx, id, at, pairsPage)
	if err != nil {
		return "", 0, fmt.Errorf("compare app %s: %w", id, err)
	}
	cost = costPage
	for marks := range slices.Chunk(page, pairsPage) {
		sights, err := c.readSnapshots(ctx, e, marks)
		if err != nil {
			return "", cost, fmt.Errorf("compare app %s: %w", id, err)
		}
		for i, s := range sights {
			if len(s.Gaps()) > 0 {
				c.suspects.add(suspect{app: id, tenant: marks[i].Tenant, first: s, at: now})
			}
		}
		cost += float64(len(marks))
		c.state.Compared += int64(len(marks))
	}
	c.opts.Metrics.countCompared(len(page))
	return next, cost, nil
}

// compareSettings finds a mailbox that knows newer settings than are stored: the settings lost their last writes. The mailbox is
// read first, so that a write in between is no gap. The script that heals compares with the app's stored settings again.
func (c *Comparer) compareSettings(ctx context.Context, e *registry.Entry) error {
	id := e.Rec.App.ClientID
	v, err := c.opts.Mailboxes.View(ctx, id)
	if err != nil || v.Birth <= e.Rec.Birth && v.Revision <= e.Rec.Revision && v.EndpointRevision <= e.Rec.EndpointRevision {
		return err
	}
	healed, err := c.opts.Registry.HealApp(ctx, id, v.Birth, v.Revision, v.EndpointRevision)
	if err != nil || !healed {
		return err
	}
	c.opts.Metrics.countClosed(Settings, 1)
	c.opts.Log.WarnContext(ctx, "the settings lost writes that a mailbox knows; the app got a new revision", "app", id)
	c.state.Closed++
	return c.requestFastRound(ctx)
}

// readSnapshots reads the tenants' sides of pairs whose marks were read.
func (c *Comparer) readSnapshots(ctx context.Context, e *registry.Entry, marks []mailbox.Mark) ([]PairSnapshot, error) {
	id := e.Rec.App.ClientID
	ids := listTenants(marks)
	peeks, now, err := c.opts.Registry.ReadTenantSides(ctx, id, ids)
	if err != nil {
		return nil, err
	}
	hears, fresh := e.Rec.App.EverHadURL, false
	if hears && slices.ContainsFunc(marks, func(m mailbox.Mark) bool { return m.Again }) {
		if fresh, err = c.isFresh(ctx, e, now); err != nil {
			return nil, err
		}
	}
	out := make([]PairSnapshot, len(marks))
	var owed []tenant.ID
	for i, m := range marks {
		out[i] = newSnapshot(m, peeks[i])
		out[i].HasURL, out[i].Fresh = hears, fresh
		if out[i].FanoutPending {
			owed = append(owed, m.Tenant)
		}
	}
	if len(owed) == 0 {
		return out, nil
	}
	tickets, err := c.opts.Registry.ReadTickets(ctx, owed)
	if err != nil {
		return nil, err
	}
	for i := range out {
		if out[i].FanoutPending {
			out[i].Listed, tickets = tickets[0] != 0, tickets[1:]
		}
	}
	return out, nil
}

func newSnapshot(m mailbox.Mark, p registry.TenantSide) PairSnapshot {
	return PairSnapshot{
		Approved: m.Approved, Known: m.Known, Again: m.Again,
		Indexed: p.Indexed, Reported: p.Known, Top: p.Top, FanoutPending: p.FanoutPending, Unreadable: m.Unreadable || p.Unreadable,
	}
}

// freshFor bounds how long it may take until the job is made that follows a first URL.
const freshFor = time.Minute

// isFresh reports whether a job deposits the status of the app's tenants, or may be about to because the app just got its first
// URL. The revision of its endpoint is a time of Redis's clock, and no other write of the app raises it.
func (c *Comparer) isFresh(ctx context.Context, e *registry.Entry, now time.Time) (bool, error) {
	if now.Sub(time.UnixMilli(e.Rec.EndpointRevision)) < freshFor {
		return true, nil
	}
	open, err := c.opts.Mailboxes.OpenJobs(ctx, []partner.ClientID{e.Rec.App.ClientID})
	return err == nil && len(open[0]) > 0, err
}

// compareIndexPage finds index entries without an approval, to which no mailbox leads. No notification is lost by them, so a slow
// round walks through the index only every indexEvery.
func (c *Comparer) compareIndexPage(ctx context.Context, now time.Time, at string) (float64, error) {
	ids, next, err := c.opts.Registry.ReadIndexPage(ctx, at, scanned)
	if err != nil {
		return 0, err
	}
	cost := costScan
	for len(ids) > 0 {
		chunk := ids[:min(c.keysPerPage, len(ids))]
		ids = ids[len(chunk):]
		entries, err := c.compareTenants(ctx, now, chunk)
		if err != nil {
			return cost, fmt.Errorf("compare the index of approvals: %w", err)
		}
		cost += costTenant*float64(len(chunk)) + costEntry*float64(entries)
		c.keysPerPage = max(min(indexPairs*len(chunk)/max(entries, 1), indexPage), 1)
	}
	if c.state.Cursor = inIndex + "|" + next; next == "" {
		c.state.Cursor, c.state.Indexed = atEnd, now
	}
	return cost, nil
}

func (c *Comparer) compareTenants(ctx context.Context, now time.Time, ids []tenant.ID) (entries int, err error) {
	approvers, err := c.opts.Registry.ApproversOf(ctx, ids)
	if errors.Is(err, registry.ErrUnreadable) && len(ids) > 1 { // one unreadable tenant must not keep the others from being compared
		for _, id := range ids {
			n, err := c.compareTenants(ctx, now, []tenant.ID{id})
			if entries += n; err != nil && !errors.Is(err, registry.ErrUnreadable) {
				return entries, err
			}
		}
		return entries, nil
	}
	if err != nil {
		return 0, err
	}
	byApp := map[partner.ClientID]int{}
	var asked []mailbox.MarkQuery
	for i, id := range ids {
		apps := approvers[i]
		entries += len(apps)
		for _, app := range apps {
			at, ok := byApp[app]
			if !ok {
				at = len(asked)
				byApp[app] = at
				asked = append(asked, mailbox.MarkQuery{App: app})
			}
			asked[at].Tenants = append(asked[at].Tenants, id)
		}
	}
	marks, err := c.opts.Mailboxes.ReadMarksOf(ctx, asked)
	if err != nil {
		return entries, err
	}
	for i, b := range asked {
		for _, m := range marks[i] {
			if !m.Approved && !m.Unreadable {
				c.suspects.add(suspect{app: b.App, tenant: m.Tenant, first: PairSnapshot{Indexed: true}, at: now})
			}
		}
	}
	return entries, nil
}

func listTenants(marks []mailbox.Mark) []tenant.ID {
	ids := make([]tenant.ID, len(marks))
	for i, m := range marks {
		ids[i] = m.Tenant
	}
	return ids
}
