package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/incidents"
	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/told"
)

// world is everything behind the API, in memory.
type world struct {
	// licences are what endpoints need.
	licences partner.Requirements

	// held keeps reads of apps until it is closed; nil keeps none.
	held chan struct{}

	mu   sync.Mutex
	down error
	// tokensDown is down for tokens alone.
	tokensDown error
	// approveErr fails approvals alone.
	approveErr error
	// approvedMeanwhile and dismissedMeanwhile are what others did after the API looked.
	approvedMeanwhile, dismissedMeanwhile bool
	// auditErr fails the audit alone.
	auditErr  error
	revision  int64
	apps      map[partner.ClientID]registry.AppRecord
	secrets   map[partner.ClientID]registry.WebhookSecrets
	tokens    map[string]registry.Token
	lookups   int
	uses      []string
	audited   []registry.AuditEntry
	approvals map[partner.ClientID][]tenant.ID
	statuses  map[tenant.ID]tenant.Status
	sequence  int64
	bound     map[string]string
	answers   map[string]registry.Accepted
	accepted  []registry.ChangeRequest
	batches   []int
	actions   []string
	notes     []registry.AuditNote
	reports   []registry.Report
	// reportedLines are those of idempotency keys that were reported.
	reportedLines map[string]bool
	lookedUp      []string
	tried         int
	events        []string
	eventErr      error
	// changed is what the store's watch says, confirmed what it says when it looks again; acceptErr fails Accept.
	changed              string
	confirmed, acceptErr error
	lineErrs             map[tenant.ID]error
	// beforePut runs within PutApp before it compares revisions.
	beforePut func()
	panics    bool
}

var errDown = fmt.Errorf("read app: %w", &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused to 10.9.8.7:6379")})

func newWorld() *world {
	w := &world{
		apps: map[partner.ClientID]registry.AppRecord{}, secrets: map[partner.ClientID]registry.WebhookSecrets{},
		tokens: map[string]registry.Token{}, approvals: map[partner.ClientID][]tenant.ID{},
		statuses: map[tenant.ID]tenant.Status{}, sequence: 1795449599999, bound: map[string]string{},
		answers: map[string]registry.Accepted{}, reportedLines: map[string]bool{}, lineErrs: map[tenant.ID]error{},
	}
	for _, role := range []string{"platform", "partner:app1", "partner:other", "operator", "admin"} {
		w.tokens[httpapi.HashToken(tokenOf(role))] = registry.Token{ID: role, Name: role + " token", Role: role}
	}
	w.spare()
	return w
}

// tokenOf is the test's token of a role.
func tokenOf(role string) string { return "lmp_" + role }

func (w *world) lock() func() {
	w.mu.Lock()
	return w.mu.Unlock
}

func (w *world) TokenByHash(_ context.Context, hash string) (registry.Token, error) {
	defer w.lock()()
	w.lookups++
	if w.tokensDown != nil {
		return registry.Token{}, w.tokensDown
	}
	t, ok := w.tokens[hash]
	if !ok {
		return t, registry.ErrNotFound
	}
	return t, nil
}

func (w *world) App(_ context.Context, id partner.ClientID) (registry.AppRecord, error) {
	if w.held != nil {
		<-w.held
	}
	defer w.lock()()
	if w.panics {
		panic("app exploded at 10.9.8.7")
	}
	if w.down != nil {
		return registry.AppRecord{}, w.down
	}
	rec, ok := w.apps[id]
	if !ok {
		return rec, fmt.Errorf("read app: %w", registry.ErrNotFound)
	}
	return rec, nil
}

func (w *world) Apps(_ context.Context, after partner.ClientID, limit int) ([]registry.AppRecord, partner.ClientID, error) {
	defer w.lock()()
	var out []registry.AppRecord
	for _, id := range slices.Sorted(maps.Keys(w.apps)) {
		if id <= after {
			continue
		}
		if len(out) == limit {
			return out, out[limit-1].App.ClientID, nil
		}
		out = append(out, w.apps[id])
	}
	return out, "", w.down
}

func (w *world) PutApp(_ context.Context, app partner.App, expect int64, secrets *registry.WebhookSecrets, _ registry.Actor, action string, notes ...registry.AuditNote) (registry.AppRecord, bool, error) {
	defer w.lock()()
	if w.beforePut != nil {
		w.beforePut()
	}
	old, exists := w.apps[app.ClientID]
	if expect != registry.AnyRevision && expect != old.Revision {
		return registry.AppRecord{}, false, fmt.Errorf("write app: %w", registry.ErrConflict)
	}
	w.revision++
	rec := registry.AppRecord{App: app, Revision: w.revision}
	w.apps[app.ClientID] = rec
	if secrets != nil {
		w.secrets[app.ClientID] = *secrets
	}
	w.actions = append(w.actions, action)
	w.notes = append(w.notes, notes...)
	return rec, !exists, nil
}

func (w *world) DeleteApp(_ context.Context, id partner.ClientID, expect int64, _ registry.Actor) (int64, error) {
	defer w.lock()()
	old, exists := w.apps[id]
	switch {
	case w.down != nil:
		return 0, w.down
	case !exists:
		return 0, registry.ErrNotFound
	case expect != registry.AnyRevision && expect != old.Revision:
		return 0, registry.ErrConflict
	}
	delete(w.apps, id)
	w.revision++
	return w.revision, nil
}

func (w *world) Secrets(_ context.Context, id partner.ClientID) (registry.WebhookSecrets, error) {
	defer w.lock()()
	s, ok := w.secrets[id]
	if !ok {
		return s, registry.ErrNotFound
	}
	return s, nil
}

func (w *world) AppResumed(_ context.Context, rec registry.AppRecord) error {
	defer w.lock()()
	w.events = append(w.events, "resumed "+string(rec.App.ClientID))
	return w.eventErr
}

func (w *world) AppWritten(_ context.Context, old *registry.AppRecord, rec registry.AppRecord) error {
	defer w.lock()()
	w.events = append(w.events, fmt.Sprintf("written %s new=%t", rec.App.ClientID, old == nil))
	return w.eventErr
}

func (*world) EndpointGone(context.Context, partner.ClientID, partner.EndpointKind, delivery.Result) error {
	return nil
}

func (w *world) AppDeleted(_ context.Context, id partner.ClientID, revision int64, _ registry.Actor) (string, error) {
	defer w.lock()()
	w.events = append(w.events, "deleted "+string(id))
	return mailbox.ClearJobID(mailbox.Life{App: id, Birth: revision}).String(), w.eventErr
}

func (*world) CheckURL(raw string) (*url.URL, error) {
	return guard.New(guard.Policy{}, nil).CheckURL(raw)
}

func (w *world) CheckHost(_ context.Context, u *url.URL) ([]netip.Addr, error) {
	defer w.lock()()
	w.lookedUp = append(w.lookedUp, u.Hostname())
	switch host := u.Hostname(); {
	case strings.HasSuffix(host, ".inside.example"):
		return nil, &guard.BlockedError{Reason: guard.ReasonPrivate}
	case strings.HasSuffix(host, ".unknown.example"):
		return nil, guard.ErrNoHost
	case strings.HasSuffix(host, ".silent.example"):
		return nil, guard.ErrNoResolver
	default:
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
	}
}

func (*world) CheckKey(_ context.Context, u *url.URL, _ []netip.Addr) error {
	if strings.HasSuffix(u.Hostname(), ".short.example") {
		return &guard.ShortKeyError{Bits: 1024, Least: guard.RSABits}
	}
	return nil
}

func (w *world) EndpointHealth(_ context.Context, app *partner.App, k partner.EndpointKind) (health.Assessment, error) {
	return health.Assess(health.Subject{
		Kind: k, Endpoint: app.Endpoints[k], Environment: partner.Online, Paused: app.Paused, Missing: w.licences.Missing(app, k),
		FailingSince: start, FailingCause: told.FindCause("refused"), FailingDetail: "nothing listens there",
	}), nil
}

func (*world) Test(context.Context, partner.ClientID, partner.EndpointKind) (health.TestResult, error) {
	return health.TestResult{State: health.StatusFailing, Cause: told.FindCause("wrong_key"), Status: 200, Detail: "it signed with another key", Duration: 12 * time.Millisecond}, nil
}

// TestSettings finds fault with endpoints whose host says so.
func (w *world) TestSettings(_ context.Context, app partner.App, kind partner.EndpointKind) (health.TestResult, error) {
	defer w.lock()()
	w.tried++
	if strings.Contains(app.Endpoints[kind].EffectiveURL(partner.Online), "failing") {
		return health.TestResult{State: health.StatusFailing, Cause: told.FindCause("refused"), Detail: "it refused the connection"}, w.down
	}
	if strings.Contains(app.Endpoints[kind].EffectiveURL(partner.Online), "unheard") {
		return health.TestResult{State: health.StatusUnchecked, Cause: told.FindCause("no_tenant"), Detail: "nobody to call for"}, w.down
	}
	return health.TestResult{State: health.StatusHealthy, Cause: told.FindCause("none"), Status: 500, Detail: "a SOAP service answered"}, w.down
}

func (w *world) Approve(_ context.Context, app partner.ClientID, ts []tenant.ID, _ registry.Actor) error {
	defer w.lock()()
	w.batches = append(w.batches, len(ts))
	for _, t := range ts {
		if !slices.Contains(w.approvals[app], t) {
			w.approvals[app] = append(w.approvals[app], t)
		}
	}
	return errors.Join(w.down, w.approveErr)
}

func (w *world) Dismiss(_ context.Context, app partner.ClientID, ts []tenant.ID, _ registry.Actor) error {
	defer w.lock()()
	w.approvals[app] = slices.DeleteFunc(w.approvals[app], func(t tenant.ID) bool { return slices.Contains(ts, t) })
	return w.down
}

func (w *world) HasApproved(_ context.Context, app partner.ClientID, t tenant.ID) (bool, error) {
	defer w.lock()()
	return slices.Contains(w.approvals[app], t), w.down
}

func (w *world) ApproveNew(ctx context.Context, app partner.ClientID, t tenant.ID, actor registry.Actor) error {
	if w.approvedMeanwhile {
		return fmt.Errorf("approve: %w", registry.ErrConflict)
	}
	return w.Approve(ctx, app, []tenant.ID{t}, actor)
}

func (w *world) DismissExisting(ctx context.Context, app partner.ClientID, t tenant.ID, actor registry.Actor) error {
	if w.dismissedMeanwhile {
		return fmt.Errorf("dismiss: %w", registry.ErrConflict)
	}
	return w.Dismiss(ctx, app, []tenant.ID{t}, actor)
}

func (w *world) Approvals(_ context.Context, app partner.ClientID, cursor string, limit int) ([]tenant.ID, string, error) {
	defer w.lock()()
	if cursor == "!" {
		return nil, "", mailbox.ErrCursor
	}
	all := slices.Sorted(slices.Values(w.approvals[app]))
	i, found := slices.BinarySearch(all, tenant.ID(cursor))
	if found {
		i++
	}
	all = all[i:]
	if len(all) > limit {
		return all[:limit], string(all[limit-1]), nil
	}
	return all, "", w.down
}

func (*world) Resync(_ context.Context, _ partner.ClientID, ts []tenant.ID) (int, error) {
	return len(ts), nil
}

func (w *world) ResyncAll(_ context.Context, rec registry.AppRecord, _ registry.Actor) (string, int64, error) {
	defer w.lock()()
	id := rec.App.ClientID
	return mailbox.JobID{App: id, Kind: mailbox.JobResync, Number: 46656}.String(), int64(len(w.approvals[id])), nil
}

func (*world) View(context.Context, partner.ClientID) (mailbox.View, error) {
	return mailbox.View{
		Waiting: 200, Diverged: 150, Oldest: 61234 * time.Millisecond, CooldownUntil: start.Add(time.Minute), Now: start,
	}, nil
}

func (*world) Attempts(_ context.Context, app partner.ClientID, q registry.AttemptQuery) (attempts []delivery.Attempt, next string, err error) {
	one := delivery.Attempt{
		At: start, ClientID: app, Tenant: "Cust12345", ChangeID: "chg_Cust12345_1", WebhookID: "chg_Cust12345_1", ChangeType: "suspend",
		Sequence: 1, Number: 2, Outcome: "retryable", Reason: "server_error", Status: 500, DurationMS: 7, Excerpt: "oops",
	}
	if q.Limit < 1 || q.Tenant != "" && q.Tenant != one.Tenant {
		return nil, "", nil
	}
	return []delivery.Attempt{one}, "", nil
}

func (w *world) Tenant(_ context.Context, id tenant.ID) (registry.TenantView, error) {
	defer w.lock()()
	st, ok := w.statuses[id]
	return registry.TenantView{Status: st, Known: ok, Record: tenant.Record{Tenant: id, Top: 7}}, w.down
}

func (w *world) PutStatus(_ context.Context, req registry.StatusRequest, _ registry.Actor) (registry.TenantView, error) {
	defer w.lock()()
	id := req.Tenant
	if w.down != nil {
		return registry.TenantView{}, w.down
	}
	st := w.statuses[id]
	if req.Expect != nil && req.Expect.Status != st {
		return registry.TenantView{}, registry.ErrConflict
	}
	st.Tenant, st.State, st.UpdatedAt = id, req.State, start
	for _, f := range []struct{ to, from *string }{
		{&st.PublicEndpoint, req.PublicEndpoint},
		{&st.VersionName, req.VersionName},
		{&st.FileVersion, req.FileVersion},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	w.statuses[id] = st
	return registry.TenantView{Status: st, Known: true, Record: tenant.Record{Tenant: id, Top: 7}}, nil
}

func (w *world) Status(_ context.Context, id tenant.ID) (tenant.Status, error) {
	defer w.lock()()
	st, ok := w.statuses[id]
	if !ok && w.down == nil {
		return st, registry.ErrNotFound
	}
	return st, w.down
}

func (w *world) BindIdempotencyKey(_ context.Context, key string, lines map[int]string) ([]int, error) {
	defer w.lock()()
	if w.down != nil {
		return nil, w.down
	}
	var conflicts []int
	for line, hash := range lines {
		at := fmt.Sprintf("%s %d", key, line)
		if old, ok := w.bound[at]; ok && old != hash {
			conflicts = append(conflicts, line)
			continue
		}
		w.bound[at] = hash
	}
	return conflicts, nil
}

func (w *world) Accept(_ context.Context, reqs []registry.ChangeRequest) ([]registry.AcceptResult, error) {
	defer w.lock()()
	if w.down != nil {
		return nil, w.down
	}
	w.batches = append(w.batches, len(reqs))
	out := make([]registry.AcceptResult, len(reqs))
	for i, r := range reqs {
		at := fmt.Sprintf("%s %d", r.IdempotencyKey, r.Line)
		if first, ok := w.answers[at]; ok && r.IdempotencyKey != "" {
			out[i].Accepted = first
			out[i].Accepted.Replayed = true
			continue
		}
		if out[i].Err = w.lineErrs[r.Tenant]; out[i].Err != nil {
			continue
		}
		w.sequence++
		w.accepted = append(w.accepted, r)
		out[i].Accepted = registry.Accepted{ID: tenant.FormatChangeID(r.Tenant, w.sequence), Tenant: r.Tenant, Sequence: w.sequence, Apps: 1}
		w.answers[at] = out[i].Accepted
	}
	return out, nil
}

func (w *world) DeliveryStatus(_ context.Context, id string) (intake.DeliveryStatus, error) {
	if w.down != nil {
		return intake.DeliveryStatus{}, w.down
	}
	if id != "chg_Cust12345_1795449600000" {
		return intake.DeliveryStatus{}, registry.ErrNotFound
	}
	return intake.DeliveryStatus{
		Change: tenant.Change{ID: id, Tenant: "Cust12345", Type: tenant.Suspend, Sequence: 1795449600000, AcceptedAt: start},
		Apps: []intake.AppDelivery{
			{ClientID: "app1", State: "waiting", Attempts: 2, Reason: "refused", NextAttemptAt: start.Add(time.Minute)},
			{ClientID: "app2", State: "settled"},
		},
	}, nil
}

func (w *world) ListIncidents(_ context.Context, q incidents.Query) ([]incidents.Incident, string, error) {
	if q.After != "" && q.After != "1" {
		return nil, "", incidents.ErrCursor
	}
	if w.down != nil {
		return nil, "", w.down
	}
	i := incidents.Incident{ID: "inc_app1_smi2xk0", ClientID: "app1", Endpoint: partner.StateChange, State: "open", Cause: told.FindCause("refused"), OpenedAt: start}
	if q.App != "" && q.App != i.ClientID || q.Endpoint != "" && q.Endpoint != i.Endpoint.String() || q.State != "" && q.State != i.State {
		return nil, "", nil
	}
	return []incidents.Incident{i}, "1", nil
}

func (w *world) CloseIncident(_ context.Context, id string, _ registry.Actor) (incidents.Incident, error) {
	if w.down != nil {
		return incidents.Incident{}, w.down
	}
	if id != "inc_app1_smi2xk0" {
		return incidents.Incident{}, registry.ErrNotFound
	}
	return incidents.Incident{ID: id, ClientID: "app1", Endpoint: partner.StateChange, State: "closed", OpenedAt: start, ClosedAt: start}, nil
}
