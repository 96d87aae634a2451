package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// Trouble is what is known of an app's endpoints and owed to its people.
type Trouble struct {
	// Incidents is what is remembered of the app's endpoints; one that is absent is well.
	// Unreadable is set instead when this version cannot read it.
	Incidents  map[partner.EndpointKind]incident.State
	Unreadable error
	// Mails: the outbox holds something. Reports: engines reported something that is not forgotten.
	Mails, Reports bool
}

// Troubled reads, for each app, its trouble; nil where there is none. One round trip for all, and
// one call for each app.
func (s *IncidentStore) Troubled(ctx context.Context, apps []partner.ClientID) ([]*Trouble, error) {
	calls := make([]call, len(apps))
	for i, id := range apps {
		calls[i] = call{keys: []string{
			s.keys.App(id, keys.AppIncidents), s.keys.App(id, keys.AppOutbox), s.keys.App(id, keys.AppReports),
		}}
	}
	out := make([]*Trouble, len(apps))
	for i, cmd := range s.trouble.runMany(ctx, s.rdb, calls) {
		flat, err := cmd.StringSlice()
		if err = failure(err, "find apps with incidents: app %s", apps[i]); errors.Is(err, ErrUnreadable) {
			out[i] = &Trouble{Unreadable: err}
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(flat) < 2 || len(flat)%2 != 0 {
			return nil, fmt.Errorf("find apps with incidents: app %s: %w", apps[i], badAnswer(s.trouble, flat))
		}
		out[i] = troubleOf(apps[i], flat)
	}
	return out, nil
}

func troubleOf(app partner.ClientID, flat []string) *Trouble {
	t := &Trouble{Mails: flat[0] == "1", Reports: flat[1] == "1"}
	all := make(map[string]string, len(flat)/2-1)
	for i := 2; i < len(flat); i += 2 {
		all[flat[i]] = flat[i+1]
	}
	if len(all) == 0 && !t.Mails && !t.Reports {
		return nil
	}
	t.Incidents, t.Unreadable = decodeIncidents(app, all)
	return t
}
