package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

const (
	// removalsKeep is how many removed apps are remembered for readers of changes.
	removalsKeep = 4000
	// appsPage is how many apps with their documents one script reads.
	appsPage = 200
	// removalsMax is how many removals one read returns; with more of them it returns ErrTooOld. It MUST be less than
	// removalsKeep.
	removalsMax = 1000
)

// The scripts of apps.
var (
	getApp      = newScript("get_app")
	putApp      = newScript("put_app", "revision", "note")
	deleteApp   = newScript("delete_app", "revision")
	listApps    = newScript("list_apps")
	changedApps = newScript("changed_apps")
)

// ErrTooOld reports that the removals since a revision are no longer known: the caller must read everything again.
var ErrTooOld = errors.New("revision is too old: not all removals since are known")

// App reads one app. Errors: ErrNotFound, ErrUnreadable.
func (s *Store) App(ctx context.Context, id partner.ClientID) (AppRecord, error) {
	v, err := getApp.run(ctx, s.rdb, s.configKeys(keys.ConfigApps, keys.ConfigLives), string(id)).StringSlice()
	switch {
	case err != nil:
		return AppRecord{}, wrapError(err, "read app %s", id)
	case len(v) == 0:
		return AppRecord{}, fmt.Errorf("read app %s: %w", id, ErrNotFound)
	case len(v) != 2:
		return AppRecord{}, fmt.Errorf("read app %s: %w", id, newAnswerError(getApp, v))
	}
	return decodeApp(id, v[0], v[1])
}

// Apps reads a page of apps ordered by client id, starting behind after; next is empty on the last page.
// Apps written or removed between two pages move no other app. limit is 100 when 0, 500 at most.
func (s *Store) Apps(ctx context.Context, after partner.ClientID, limit int) (recs []AppRecord, next partner.ClientID, err error) {
	limit = clampPageSize(limit)
	start := "-"
	if after != "" {
		start = "(" + string(after)
	}
	var flat []string
	for len(flat) < 3*(limit+1) {
		n := min(limit+1-len(flat)/3, appsPage)
		page, err := listApps.run(ctx, s.rdb, s.configKeys(keys.ConfigApps, keys.ConfigIndex, keys.ConfigLives), start, n).StringSlice()
		if err != nil {
			return nil, "", wrapError(err, "list apps")
		}
		if flat = append(flat, page...); len(page) < 3*n {
			break
		}
		start = "(" + page[len(page)-3]
	}
	recs = make([]AppRecord, 0, min(len(flat)/3, limit))
	for i := 0; i+2 < len(flat); i += 3 {
		if len(recs) == limit {
			return recs, recs[limit-1].App.ClientID, nil
		}
		rec, err := decodeApp(partner.ClientID(flat[i]), flat[i+1], flat[i+2])
		if err != nil {
			return nil, "", fmt.Errorf("list apps: %w", err)
		}
		recs = append(recs, rec)
	}
	return recs, "", nil
}

// PutApp stores an app as given (the caller runs partner.ValidateApp and partner.NormalizeApp first), if its revision is the
// expected one: AnyRevision, NoRevision for a new app, or the number that was read. secrets replace the webhook secrets; nil
// keeps them. action names the write in the audit, such as "app.put"; the audit entry holds what differs. notes are audited
// beside it.
//
// When PutApp returns, the write is durable and audited; created is false if the app existed. If nothing changes, nothing is
// written: the revision stays, and there is no audit entry. Errors: ErrConflict; partner.ValidationError if a write by a caller
// other than the service makes the app larger than partner.MaxStored; ErrUnreadable if the stored app is of another version,
// which is never overwritten.
func (s *Store) PutApp(
	ctx context.Context, app partner.App, expect int64, secrets *WebhookSecrets, actor Actor, action string, notes ...AuditNote,
) (rec AppRecord, created bool, err error) {
	id := app.ClientID
	doc, err := encodeApp(app)
	if err != nil {
		return AppRecord{}, false, err
	}
	sealed := ""
	if secrets != nil {
		if sealed, err = s.sealSecrets(id, *secrets); err != nil {
			return AppRecord{}, false, err
		}
	}
	part, err := encodeFeedPart(app)
	if err != nil {
		return AppRecord{}, false, err
	}
	for range tokenTries {
		old := storedDoc{readable: true}
		if expect != NoRevision { // a new app has no stored document
			if old, err = s.readStoredApp(ctx, id); err != nil {
				return AppRecord{}, false, err
			}
		}
		if old.readable && actor.Role != serviceRole && len(doc) > partner.MaxStored && len(doc) >= len(old.doc) {
			return AppRecord{}, false, newTooLargeError(len(doc))
		}
		w := appWrite{app: app, old: old, expect: expect, doc: doc, sealed: sealed, part: part, action: action, actor: actor, notes: notes}
		rec, created, err = s.putApp(ctx, w)
		// The audit entry says what differs from the stored app: if it was written meanwhile, it is compared again.
		if expect != AnyRevision || !errors.Is(err, ErrConflict) {
			return rec, created, err
		}
	}
	return AppRecord{}, false, newConflictError(id, expect, 0)
}

// serviceRole is the role of the service itself. Its writes are few and small, and are not refused because of the size.
const serviceRole = "service"

func newTooLargeError(n int) error {
	return partner.ValidationError{{Detail: fmt.Sprintf(
		"the app takes %d bytes as it is stored, and may take %d: its URLs, public keys, addresses and names together; a larger one that is stored already may be written if it gets smaller",
		n, partner.MaxStored)}}
}

// storedDoc is an app's stored document; revision is 0 if there is none.
type storedDoc struct {
	revision int64
	doc      string
	// readable is false where the document is of another version.
	readable bool
}

// readStoredApp reads an app's document without decoding it.
func (s *Store) readStoredApp(ctx context.Context, id partner.ClientID) (storedDoc, error) {
	stored, err := s.rdb.HGet(ctx, s.keys.Config(keys.ConfigApps), string(id)).Result()
	if isRedisNil(err) {
		return storedDoc{readable: true}, nil
	}
	if err != nil {
		return storedDoc{}, wrapError(err, "read app %s", id)
	}
	rev, doc, _ := strings.Cut(stored, ";")
	n, err := strconv.ParseInt(rev, 10, 64)
	if err != nil || !strings.HasPrefix(doc, `{"v":1,`) && !strings.HasPrefix(doc, `{"v":1}`) {
		return storedDoc{}, nil //nolint:nilerr // the script refuses it
	}
	return storedDoc{revision: n, doc: doc, readable: true}, nil
}

// appWrite is one attempt to write an app.
type appWrite struct {
	app               partner.App
	old               storedDoc
	expect            int64
	doc, sealed, part string
	action            string
	actor             Actor
	notes             []AuditNote
}

func (s *Store) putApp(ctx context.Context, w appWrite) (rec AppRecord, created bool, err error) {
	id, expect := w.app.ClientID, w.expect
	if w.old.readable && expect == AnyRevision {
		expect = w.old.revision
	}
	before, after := diffAppDocuments(w.old.doc, w.doc)
	args := []any{
		string(id), expect, w.doc, w.sealed, s.opts.AuditKeep, w.actor.Name, w.actor.Role, w.actor.RequestID, w.action, w.part, feedRemovalsKeep,
		w.app.Endpoints[partner.StateChange].SettingsDigest(w.app.Paused), before, after,
	}
	for _, n := range w.notes {
		args = append(args, n.Action, shortenAuditDocument(n.Before), shortenAuditDocument(n.After))
	}
	ks := s.appKeys()
	if partners := s.partnerAuditKeys(w.actor.Role); partners != nil {
		ks[slices.Index(ks, s.keys.Config(keys.ConfigAudit))] = partners[0]
		ks = append(ks, partners[1:]...)
	}
	v, err := putApp.run(ctx, s.durable, ks, args...).Slice()
	switch {
	case err != nil:
		return AppRecord{}, false, wrapError(err, "write app %s", id)
	case len(v) == 4 && v[0] == int64(1):
		return decodeWrittenApp(w.app, v)
	case len(v) == 2:
		current, _ := v[1].(int64)
		return AppRecord{}, false, newConflictError(id, expect, current)
	default:
		return AppRecord{}, false, fmt.Errorf("write app %s: %w", id, newAnswerError(putApp, v))
	}
}

// decodeWrittenApp decodes {1, revision, existed, life}.
func decodeWrittenApp(app partner.App, v []any) (rec AppRecord, created bool, err error) {
	revision, ok1 := v[1].(int64)
	existed, ok2 := v[2].(int64)
	life, ok3 := v[3].(string)
	if !ok1 || !ok2 || !ok3 {
		return AppRecord{}, false, fmt.Errorf("write app %s: %w", app.ClientID, newAnswerError(putApp, v))
	}
	rec = AppRecord{App: app, Revision: revision}
	rec.Birth, rec.EndpointRevision = decodeLife(life, rec)
	return rec, existed == 0, nil
}

// DeleteApp removes an app and its secrets, revokes its partner's tokens, and returns the revision of the deletion. The caller
// must clear away what is stored outside the settings (mailbox, index of approvals, deliveries). Errors: ErrNotFound,
// ErrConflict.
func (s *Store) DeleteApp(ctx context.Context, id partner.ClientID, expect int64, actor Actor) (int64, error) {
	ks := append(s.appKeys(), s.configKeys(keys.ConfigTokens, keys.ConfigTokenLast)...)
	ks = append(ks, s.partnerAuditListKey(id))
	for range tokenTries {
		look, err := s.scanTokens(ctx, partnerRole(id))
		if err != nil {
			return 0, fmt.Errorf("delete app %s: %w", id, err)
		}
		tokens := look.unrevokedIDs()
		if len(tokens) > revokeMax {
			if err := s.checkRevision(ctx, id, expect); err != nil {
				return 0, fmt.Errorf("delete: %w", err)
			}
			if tokens, err = s.revokeExcessTokens(ctx, tokens, actor); err != nil {
				return 0, fmt.Errorf("delete app %s: %w", id, err)
			}
		}
		old, err := s.readStoredApp(ctx, id)
		if err != nil {
			return 0, fmt.Errorf("delete app %s: %w", id, err)
		}
		before, _ := diffAppDocuments(old.doc, "")
		args := []any{
			string(id), expect, removalsKeep, s.opts.AuditKeep, actor.Name, actor.Role, actor.RequestID, feedRemovalsKeep, look.last,
			old.revision, before,
		}
		for _, t := range tokens {
			args = append(args, t)
		}
		n, err := deleteApp.run(ctx, s.durable, ks, args...).Int64Slice()
		switch {
		case err != nil:
			return 0, wrapError(err, "delete app %s", id)
		case len(n) == 2 && n[0] == 0:
			return 0, newConflictError(id, expect, n[1])
		case len(n) == 2:
			return n[1], nil
		case len(n) == 1 && n[0] == 2:
			return 0, fmt.Errorf("delete app %s: %w", id, ErrNotFound)
		case len(n) != 1:
			return 0, fmt.Errorf("delete app %s: %w", id, newAnswerError(deleteApp, n))
		}
	}
	return 0, fmt.Errorf("delete app %s: the app is being written, or tokens of its partner are being added: %w", id, ErrConflict)
}

// checkRevision returns an error unless an app's revision is the expected one. A deletion calls it before it revokes tokens in
// separate steps.
func (s *Store) checkRevision(ctx context.Context, id partner.ClientID, expect int64) error {
	rec, err := s.App(ctx, id)
	if expect == AnyRevision && errors.Is(err, ErrUnreadable) {
		return nil
	}
	if err == nil && expect != AnyRevision && rec.Revision != expect {
		err = newConflictError(id, expect, rec.Revision)
	}
	return err
}

func newConflictError(id partner.ClientID, expected, current int64) error {
	return fmt.Errorf("app %s is at revision %d, not %d: %w: read it again", id, current, expected, ErrConflict)
}

// Secrets reads an app's webhook secrets. Errors: ErrNotFound, ErrUnreadable.
func (s *Store) Secrets(ctx context.Context, id partner.ClientID) (WebhookSecrets, error) {
	sealed, err := s.rdb.HGet(ctx, s.keys.Config(keys.ConfigSecrets), string(id)).Result()
	if err != nil {
		return WebhookSecrets{}, wrapError(err, "read secrets of app %s", id)
	}
	return s.openSecrets(id, sealed)
}

// Revision returns the revision of the newest write to any app, 0 before the first.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	n, err := s.rdb.Get(ctx, s.keys.Config(keys.ConfigRevision)).Int64()
	err = wrapError(err, "read the settings' revision")
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	return n, err
}

// ChangedSince reads the apps that were written and removed after a revision, in the order of their revisions, and the revision
// to which the answer belongs. From 0 it reads all apps. Errors: ErrTooOld, ErrUnreadable.
func (s *Store) ChangedSince(ctx context.Context, rev int64) (changed []AppRecord, removed []partner.ClientID, newest int64, err error) {
	d, err := s.readDelta(ctx, rev, rev)
	if err != nil {
		return nil, nil, 0, err
	}
	changed = make([]AppRecord, 0, len(d.changed))
	for _, c := range d.changed {
		rec, err := decodeApp(c.id, c.doc, c.life)
		if err != nil {
			return nil, nil, 0, fmt.Errorf("read changed apps: %w", err)
		}
		changed = append(changed, rec)
	}
	return changed, d.removed, d.revision, nil
}

func (s *Store) configKeys(suffixes ...keys.ConfigKey) []string {
	out := make([]string, len(suffixes))
	for i, k := range suffixes {
		out[i] = s.keys.Config(k)
	}
	return out
}

func (s *Store) appKeys() []string {
	return s.configKeys(keys.ConfigApps, keys.ConfigIndex, keys.ConfigRevision, keys.ConfigChanged,
		keys.ConfigRemoved, keys.ConfigSecrets, keys.ConfigAudit, keys.ConfigFeed, keys.ConfigFeedParts,
		keys.ConfigFeedChanged, keys.ConfigFeedRemoved, keys.ConfigFeedHistory, keys.ConfigHistory, keys.ConfigLives)
}
