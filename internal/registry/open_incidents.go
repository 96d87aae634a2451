package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// OpenIncidents is the stored state of an app's endpoints, and whether mails or reports wait.
type OpenIncidents struct {
	// Incidents are the stored states of the app's endpoints; one that is absent is healthy. Unreadable is set instead if this
	// version cannot read them.
	Incidents  map[partner.EndpointKind]incident.State
	Unreadable error
	// Mails: the outbox is not empty. Reports: reports of engines are stored.
	Mails, Reports bool
}

// ReadOpenIncidents reads the open incidents of each app, nil if there are none. Errors are at their app's index. It takes one
// round trip for each pipelineMax apps if none has any, otherwise two.
func (s *IncidentStore) ReadOpenIncidents(ctx context.Context, apps []partner.ClientID) ([]*OpenIncidents, []error) {
	out, errs := make([]*OpenIncidents, len(apps)), make([]error, len(apps))
	ks := make([][]string, len(apps))
	for i, id := range apps {
		ks[i] = []string{s.keys.App(id, keys.AppIncidents), s.keys.App(id, keys.AppOutbox), s.keys.App(id, keys.AppReports)}
	}
	var found []int
	for start := 0; start < len(apps); start += pipelineMax {
		end := min(start+pipelineMax, len(apps))
		cmds := make([]*redis.IntCmd, end-start)
		// Each command holds its own error.
		_, _ = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := start; i < end; i++ {
				cmds[i-start] = p.Exists(ctx, ks[i]...)
			}
			return nil
		})
		for i := start; i < end; i++ {
			n, err := cmds[i-start].Result()
			if errs[i] = wrapError(err, "find apps with incidents: app %s", apps[i]); n > 0 {
				found = append(found, i)
			}
		}
	}
	calls := make([]call, len(found))
	for at, i := range found {
		calls[at] = call{keys: ks[i]}
	}
	for at, cmd := range s.trouble.runMany(ctx, s.rdb, calls) {
		i := found[at]
		flat, err := cmd.StringSlice()
		err = wrapError(err, "find apps with incidents: app %s", apps[i])
		switch {
		case errors.Is(err, ErrUnreadable):
			out[i] = &OpenIncidents{Unreadable: err}
		case err != nil:
			errs[i] = err
		case len(flat) < 2 || len(flat)%2 != 0:
			errs[i] = fmt.Errorf("find apps with incidents: app %s: %w", apps[i], newAnswerError(s.trouble, flat))
		default:
			out[i] = decodeOpenIncidents(apps[i], flat)
		}
	}
	return out, errs
}

func decodeOpenIncidents(app partner.ClientID, flat []string) *OpenIncidents {
	t := &OpenIncidents{Mails: flat[0] == "1", Reports: flat[1] == "1"}
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
