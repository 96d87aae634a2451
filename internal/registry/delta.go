package registry

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// storedApp is an app as stored in Redis.
type storedApp struct {
	id                partner.ClientID
	doc, sealed, life string
}

// lastRevision returns the revision of the app's last write, 0 if it cannot be read.
func (a storedApp) lastRevision() int64 {
	text, _, _ := strings.Cut(a.doc, ";")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// delta is what changed between two revisions.
type delta struct {
	revision int64
	changed  []storedApp
	removed  []partner.ClientID
	// cursor is where the next page starts.
	cursor int64
}

// readDelta reads the apps that were written after revision from, and those that were removed after revision since. The reader's
// state is that of since, which is not before from. It reads pages until one is not full. Apps that are written meanwhile come
// again with a later page. Apps that are removed meanwhile come with the last page, whose revision then holds for the whole
// result. A reader that begins with nothing only needs the removals after its first page. Each page names the revision from which
// it continues, so that pages from before and after a loss are not mixed.
func (s *Store) readDelta(ctx context.Context, from, since int64) (delta, error) {
	ks := s.configKeys(keys.ConfigApps, keys.ConfigRevision, keys.ConfigChanged, keys.ConfigRemoved, keys.ConfigSecrets, keys.ConfigHistory, keys.ConfigLives)
	apps := map[partner.ClientID]storedApp{}
	var order []partner.ClientID
	for cursor, gone, known := from, since, since; ; {
		page, err := s.readDeltaPage(ctx, ks, cursor, gone, known)
		if err != nil {
			return delta{}, err
		}
		for _, a := range page.changed {
			if _, again := apps[a.id]; again {
				order = slices.DeleteFunc(order, func(id partner.ClientID) bool { return id == a.id })
			}
			apps[a.id] = a
			order = append(order, a.id)
		}
		if len(page.changed) == appsPage {
			cursor, known = page.cursor, page.revision
			if gone == 0 {
				gone = page.revision
			}
			continue
		}
		d := delta{revision: page.revision, removed: page.removed}
		for _, id := range page.removed {
			delete(apps, id)
		}
		for _, id := range order {
			if a, ok := apps[id]; ok {
				d.changed = append(d.changed, a)
			}
		}
		return d, nil
	}
}

func (s *Store) readDeltaPage(ctx context.Context, ks []string, cursor, gone, known int64) (delta, error) {
	parts, err := changedApps.run(ctx, s.rdb, ks, cursor, gone, appsPage, removalsMax, known).Slice()
	if err != nil {
		return delta{}, wrapError(err, "read the apps changed since revision %d", cursor)
	}
	if len(parts) != 5 {
		return delta{}, newAnswerError(changedApps, parts)
	}
	revision, ok1 := parts[0].(int64)
	flat, ok2 := decodeStrings(parts[1])
	went, ok3 := decodeStrings(parts[2])
	forgotten, ok4 := parts[3].(int64)
	last, ok5 := parts[4].(int64)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || len(flat)%4 != 0 {
		return delta{}, newAnswerError(changedApps, parts)
	}
	if forgotten != 0 {
		return delta{}, fmt.Errorf("read the apps changed since revision %d: %w", cursor, ErrTooOld)
	}
	d := delta{revision: revision, cursor: last}
	for i := 0; i < len(flat); i += 4 {
		d.changed = append(d.changed, storedApp{id: partner.ClientID(flat[i]), doc: flat[i+1], sealed: flat[i+2], life: flat[i+3]})
	}
	for _, id := range went {
		d.removed = append(d.removed, partner.ClientID(id))
	}
	return d, nil
}

// decodeStrings decodes a script's list of strings.
func decodeStrings(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, len(list))
	for i, item := range list {
		if out[i], ok = item.(string); !ok {
			return nil, false
		}
	}
	return out, true
}
