package tenant

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrUnknownState reports a state name outside the closed set.
var ErrUnknownState = errors.New("unknown state")

// State is a tenant's state as the pull answers it. Numbers are the platform's; 7 and 9 are unused.
type State uint8

// The closed set of states.
const (
	Unknown            State = 0
	Provisioning       State = 1
	Running            State = 2
	Deleted            State = 3
	Suspended          State = 4
	OnlineMaintenance  State = 5
	OfflineMaintenance State = 6
	ProvisioningFailed State = 8
	Deleting           State = 10
	DeleteFailed       State = 11
	MigrationPending   State = 12
)

// AllStates lists the closed set.
func AllStates() []State {
	return []State{
		Unknown, Provisioning, Running, Deleted, Suspended, OnlineMaintenance, OfflineMaintenance,
		ProvisioningFailed, Deleting, DeleteFailed, MigrationPending,
	}
}

// String is the state's name on the wire.
func (s State) String() string {
	switch s {
	case Unknown:
		return "Unknown"
	case Provisioning:
		return "Provisioning"
	case Running:
		return "Running"
	case Deleted:
		return "Deleted"
	case Suspended:
		return "Suspended"
	case OnlineMaintenance:
		return "OnlineMaintenance"
	case OfflineMaintenance:
		return "OfflineMaintenance"
	case ProvisioningFailed:
		return "ProvisioningFailed"
	case Deleting:
		return "Deleting"
	case DeleteFailed:
		return "DeleteFailed"
	case MigrationPending:
		return "MigrationPending"
	default:
		return "State(" + strconv.Itoa(int(s)) + ")"
	}
}

// ParseState reads a state's name.
func ParseState(name string) (State, error) {
	all := AllStates()
	names := make([]string, len(all))
	for i, s := range all {
		if names[i] = s.String(); names[i] == name {
			return s, nil
		}
	}
	return Unknown, fmt.Errorf("%w: must be one of %s", ErrUnknownState, strings.Join(names, ", "))
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the state's name.
func (s *State) UnmarshalText(b []byte) error {
	v, err := ParseState(string(b))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// IsRunning reports whether apps may call the tenant.
func (s State) IsRunning() bool { return s == Running || s == OnlineMaintenance }

// ResyncChangeType is the change type that notifies an app of a state by an approval or a resync; false when no
// change type expresses it. It is as exact as apps need: OnlineMaintenance becomes Resume, since apps may call, and
// Deleting becomes Delete.
func (s State) ResyncChangeType() (ChangeType, bool) {
	switch s {
	case Running, OnlineMaintenance:
		return Resume, true
	case OfflineMaintenance:
		return Upgrade, true
	case Suspended:
		return Suspend, true
	case Deleted, Deleting:
		return Delete, true
	default:
		return 0, false
	}
}

// Status is a tenant's current status, as the pull answers it.
type Status struct {
	Tenant ID
	State  State
	// PublicEndpoint is the host that serves the tenant, empty until known.
	PublicEndpoint string
	VersionName    string
	FileVersion    string
	UpdatedAt      time.Time
}

// Head is the newest change of a slot, as a fan-out deposits it.
type Head struct {
	// Sequence is the change's own, 0 when the slot is empty, and NeverChanged for a status that no change brought.
	// Such a head is deposited only by an approval or a resync.
	Sequence int64
	Change   Change
}

// NeverChanged is the Head.Sequence of a status that no change brought.
const NeverChanged int64 = -1

// Record is the snapshot of a tenant that a fan-out deposits: the highest accepted sequence and the newest change of
// each slot, read in one step.
type Record struct {
	Tenant ID
	Top    int64
	Heads  [Slots]Head
	// Unreported is nil while the newest change of the status slot describes the status.
	Unreported *UnreportedStatus
}

// UnreportedStatus is a status that was set after the newest change, without notifications. An approval or a resync
// deposits it instead of that change, so that notifications agree with the pull.
type UnreportedStatus struct {
	// Change is nil when no change type expresses the state: nothing is deposited then.
	Change *Change
}

// ResyncChange is the change that an approval or a resync deposits, false for none.
func (r Record) ResyncChange() (Change, bool) {
	head := r.Heads[SlotStatus]
	switch {
	case r.Unreported == nil:
		return head.Change, head.Sequence != 0
	case r.Unreported.Change == nil:
		return Change{}, false
	default:
		return *r.Unreported.Change, true
	}
}

// NewRecord completes stored heads into a Record. A status that no change brought, or that was set after the last
// change, gets a made-up change of the type that its state maps to. It is deposited only on request.
func NewRecord(st Status, top int64, heads [Slots]Head) Record {
	r := Record{Tenant: st.Tenant, Top: top, Heads: heads}
	t, says := st.State.ResyncChangeType()
	head := heads[SlotStatus]
	switch {
	case head.Sequence == 0 && says:
		r.Heads[SlotStatus] = Head{Sequence: NeverChanged, Change: makeStatusChange(st, top, t)}
	case head.Sequence == 0:
	case !says:
		r.Unreported = &UnreportedStatus{}
	case t != head.Change.Type:
		c := makeStatusChange(st, top, t)
		r.Unreported = &UnreportedStatus{Change: &c}
	case st.VersionName != head.Change.VersionName || st.FileVersion != head.Change.FileVersion:
		c := head.Change
		c.VersionName, c.FileVersion = st.VersionName, st.FileVersion
		r.Unreported = &UnreportedStatus{Change: &c}
	}
	return r
}

// makeStatusChange makes up the change that notifies an app of a status that no change brought.
func makeStatusChange(st Status, top int64, t ChangeType) Change {
	return Change{
		ID: FormatStatusID(st.Tenant, top), Tenant: st.Tenant, Type: t,
		VersionName: st.VersionName, FileVersion: st.FileVersion, AcceptedAt: st.UpdatedAt,
	}
}
