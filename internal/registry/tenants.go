package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

var putStatus = newScript("put_status")

// statusFields are the fields of a record that make a status, in the order of decodeStatus.
func statusFields() []string {
	return []string{"v", "state", "endpoint", "version", "file", "updated"}
}

// decodeStatus decodes the values of statusFields; an absent one is "".
func decodeStatus(id tenant.ID, v []string) (tenant.Status, error) {
	if len(v) != len(statusFields()) || v[0] != strconv.Itoa(format) {
		return tenant.Status{}, fmt.Errorf("%w: record of tenant %s is not of format %d", ErrUnreadable, id, format)
	}
	st := tenant.Status{Tenant: id, PublicEndpoint: v[2], VersionName: v[3], FileVersion: v[4]}
	if err := st.State.UnmarshalText([]byte(v[1])); err != nil {
		return tenant.Status{}, fmt.Errorf("%w: state of tenant %s: %w", ErrUnreadable, id, err)
	}
	ms, err := strconv.ParseInt(v[5], 10, 64)
	if err != nil {
		return tenant.Status{}, fmt.Errorf("%w: time of tenant %s's status: %w", ErrUnreadable, id, err)
	}
	st.UpdatedAt = fromMillis(ms)
	return st, nil
}

// Status reads what the pull answers, in one round trip. Errors: ErrNotFound for a tenant that was never reported, ErrUnreadable.
func (s *Store) Status(ctx context.Context, id tenant.ID) (tenant.Status, error) {
	values, err := s.rdb.HMGet(ctx, s.keys.Tenant(id, keys.TenantRecord), statusFields()...).Result()
	if err != nil {
		return tenant.Status{}, wrapError(err, "read status of tenant %s", id)
	}
	fields := make([]string, len(values))
	known := false
	for i, v := range values {
		text, ok := v.(string)
		known = known || ok
		fields[i] = text
	}
	if !known {
		return tenant.Status{}, fmt.Errorf("read status of tenant %s: %w", id, ErrNotFound)
	}
	return decodeStatus(id, fields)
}

// StatusRequest is a status to set without notifying any app. A nil field keeps the stored value.
type StatusRequest struct {
	Tenant                                   tenant.ID
	State                                    tenant.State
	PublicEndpoint, VersionName, FileVersion *string
	// Expect is the tenant as the caller read it; nil replaces whatever is stored.
	Expect *TenantView
}

// PutStatus sets a tenant's status without notifying any app, and returns the tenant after the write. The tenant is known from
// then on. The write is audited afterwards: if that fails, the call fails, and a repeat is harmless. Errors: ErrConflict if the
// tenant is not as expected, ErrUnreadable.
func (s *Store) PutStatus(ctx context.Context, r StatusRequest, actor Actor) (TenantView, error) {
	args := []any{r.State.String(), encodeOptional(r.PublicEndpoint), encodeOptional(r.VersionName), encodeOptional(r.FileVersion)}
	if r.Expect != nil {
		args = append(args, encodeExpectedView(*r.Expect)...)
	}
	answer, err := putStatus.run(ctx, s.durable, []string{s.keys.Tenant(r.Tenant, keys.TenantRecord)}, args...).Slice()
	switch {
	case err != nil:
		return TenantView{}, wrapError(err, "write status of tenant %s", r.Tenant)
	case len(answer) == 0:
		return TenantView{}, fmt.Errorf("write status of tenant %s: %w", r.Tenant, ErrConflict)
	case len(answer) != 2:
		return TenantView{}, newAnswerError(putStatus, answer)
	}
	before, err := decodeRecord(r.Tenant, pairsToMap(answer[0]))
	if err != nil {
		return TenantView{}, err
	}
	after, err := decodeRecord(r.Tenant, pairsToMap(answer[1]))
	if err != nil {
		return TenantView{}, err
	}
	entry := AuditEntry{
		Actor: actor.Name, Role: actor.Role, RequestID: actor.RequestID,
		Action: "tenant.put_status", Subject: string(r.Tenant), After: encodeAuditedStatus(after.Status),
	}
	if before.Known {
		entry.Before = encodeAuditedStatus(before.Status)
	}
	return after, s.AppendAudit(ctx, entry)
}

// encodeExpectedView returns the values of a view that put_status.lua and raise.lua compare.
func encodeExpectedView(v TenantView) []any {
	if !v.Known {
		return []any{"", "", "", "", "", "", ""}
	}
	top := ""
	if v.Record.Top > 0 {
		top = strconv.FormatInt(v.Record.Top, 10)
	}
	st := v.Status
	return []any{
		strconv.Itoa(format), st.State.String(), st.PublicEndpoint, st.VersionName, st.FileVersion,
		strconv.FormatInt(toMillis(st.UpdatedAt), 10), top,
	}
}

// pairsToMap converts alternating names and values to a map.
func pairsToMap(v any) map[string]string {
	list, _ := v.([]any)
	out := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		name, _ := list[i].(string)
		out[name], _ = list[i+1].(string)
	}
	return out
}

// Tenant reads the whole record of a tenant, in one step. A tenant that was never reported is no error: its view has Known false.
// Errors: ErrUnreadable.
func (s *Store) Tenant(ctx context.Context, id tenant.ID) (TenantView, error) {
	fields, err := s.rdb.HGetAll(ctx, s.keys.Tenant(id, keys.TenantRecord)).Result()
	if err != nil {
		return TenantView{}, wrapError(err, "read tenant %s", id)
	}
	return decodeRecord(id, fields)
}

// Tenants reads many tenants in the order of ids, pipelined. If some cannot be read, the call fails with an error that names each
// of them; the others can then be read one by one.
func (s *Store) Tenants(ctx context.Context, ids []tenant.ID) ([]TenantView, error) {
	return s.readTenants(ctx, s.rdb, ids)
}

// ReplicatedTenants is Tenants for records that replicas have, if Options.Durable waits for them. Such a record may be delivered to
// partners, because no failover undoes it. It fails if too few replicas confirm.
func (s *Store) ReplicatedTenants(ctx context.Context, ids []tenant.ID) ([]TenantView, error) {
	return s.readTenants(ctx, s.durable, ids)
}

func (s *Store) readTenants(ctx context.Context, rdb redis.UniversalClient, ids []tenant.ID) ([]TenantView, error) {
	cmds := make([]*redis.MapStringStringCmd, len(ids))
	for start := 0; start < len(ids); start += pipelineMax {
		end := min(start+pipelineMax, len(ids))
		// Each command holds its own error.
		_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := start; i < end; i++ {
				cmds[i] = p.HGetAll(ctx, s.keys.Tenant(ids[i], keys.TenantRecord))
			}
			return nil
		})
	}
	return decodeRecords(ids, cmds)
}

func decodeRecords(ids []tenant.ID, cmds []*redis.MapStringStringCmd) ([]TenantView, error) {
	views := make([]TenantView, len(ids))
	var errs []error
	for i, cmd := range cmds {
		fields, err := cmd.Result()
		if err == nil {
			views[i], err = decodeRecord(ids[i], fields)
		} else {
			err = wrapError(err, "read tenant %s", ids[i])
			if !errors.Is(err, ErrUnreadable) {
				return nil, err // Redis is unreachable: the others failed likewise
			}
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return views, nil
}

func decodeRecord(id tenant.ID, fields map[string]string) (TenantView, error) {
	if len(fields) == 0 {
		return TenantView{Status: tenant.Status{Tenant: id}, Record: tenant.Record{Tenant: id}}, nil
	}
	names := statusFields()
	values := make([]string, len(names))
	for i, n := range names {
		values[i] = fields[n]
	}
	st, err := decodeStatus(id, values)
	if err != nil {
		return TenantView{}, err
	}
	top, err := parseTopSequence(id, fields["top"])
	if err != nil {
		return TenantView{}, err
	}
	heads, err := decodeHeads(id, fields)
	if err != nil {
		return TenantView{}, err
	}
	return TenantView{
		Status: st, Known: true, Record: tenant.NewRecord(st, top, heads), FanoutPending: fields["owed"] != "",
		SourceSequence: parseSourceSequence(fields["source"]),
	}, nil
}

// parseSourceSequence parses the last sequence of the source. It is only shown, so a value that cannot be read counts as none;
// accept.lua, which compares it, refuses it.
func parseSourceSequence(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > MaxSourceSequence {
		return 0
	}
	return n
}

// parseTopSequence parses the highest sequence assigned; a tenant that never changed has none.
func parseTopSequence(id tenant.ID, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	top, err := strconv.ParseInt(text, 10, 64)
	if err != nil || top <= 0 {
		return 0, fmt.Errorf("%w: sequence of tenant %s", ErrUnreadable, id)
	}
	return top, nil
}

// decodeHeads decodes the newest change of each slot, "<sequence>;<change>".
func decodeHeads(id tenant.ID, fields map[string]string) ([tenant.Slots]tenant.Head, error) {
	var heads [tenant.Slots]tenant.Head
	for slot := range tenant.Slot(tenant.Slots) {
		text, ok := fields[slot.String()]
		if !ok {
			continue
		}
		number, change, _ := strings.Cut(text, ";")
		seq, err := strconv.ParseInt(number, 10, 64)
		if err != nil || seq <= 0 {
			return heads, fmt.Errorf("%w: sequence of tenant %s's newest %s", ErrUnreadable, id, slot)
		}
		c, err := delivery.DecodeChange(change, id, seq)
		if err != nil {
			return heads, fmt.Errorf("%w: tenant %s's newest %s: %w", ErrUnreadable, id, slot, err)
		}
		heads[slot] = tenant.Head{Sequence: seq, Change: c}
	}
	return heads, nil
}

// auditedStatus is a status as the audit shows it.
type auditedStatus struct {
	State          tenant.State `json:"state"`
	PublicEndpoint string       `json:"public_endpoint"`
	VersionName    string       `json:"version_name"`
	FileVersion    string       `json:"file_version"`
}

func encodeAuditedStatus(st tenant.Status) string {
	b, err := json.Marshal(auditedStatus{st.State, st.PublicEndpoint, st.VersionName, st.FileVersion})
	if err != nil { // strings always marshal
		panic("registry: marshal status: " + err.Error())
	}
	return string(b)
}
