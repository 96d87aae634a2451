package tenant

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrUnknownChangeType reports a change type outside the closed set.
var ErrUnknownChangeType = errors.New("unknown change type")

// ChangeType is what happened to a tenant. Its number is the notification's ChangeType on the wire, its String the
// name in the admin API. Adding one means: the constants, changeTypeNames, Slot, ResultingState and the receiver's
// guide.
type ChangeType uint8

// The closed set of change types, numbered as on the wire.
const (
	// Upgrade: about to be upgraded, away until further notice.
	Upgrade ChangeType = iota
	// BackupRestored: restored from a backup; caches must be distrusted. An event, not a state.
	BackupRestored
	// Suspend: placed in suspension.
	Suspend
	// Resume: back from another operation.
	Resume
	// Delete: gone for good.
	Delete
	// Move: moved to another public endpoint.
	Move
)

var changeTypeNames = [...]string{"upgrade", "backup_restored", "suspend", "resume", "delete", "move"}

// AllChangeTypes lists the closed set in wire order.
func AllChangeTypes() []ChangeType {
	return []ChangeType{Upgrade, BackupRestored, Suspend, Resume, Delete, Move}
}

// ParseChangeType reads a name of the admin API.
func ParseChangeType(s string) (ChangeType, error) {
	for i, n := range changeTypeNames {
		if n == s {
			return ChangeType(i), nil
		}
	}
	return 0, fmt.Errorf("%w: must be one of %s", ErrUnknownChangeType, strings.Join(changeTypeNames[:], ", "))
}

// String returns the name in the admin API.
func (c ChangeType) String() string {
	if int(c) < len(changeTypeNames) {
		return changeTypeNames[c]
	}
	return "change_type(" + strconv.Itoa(int(c)) + ")"
}

// IsValid reports whether c is in the closed set.
func (c ChangeType) IsValid() bool { return int(c) < len(changeTypeNames) }

// MarshalText writes the name in the admin API.
func (c ChangeType) MarshalText() ([]byte, error) {
	if !c.IsValid() {
		return nil, ErrUnknownChangeType
	}
	return []byte(c.String()), nil
}

// UnmarshalText reads a name of the admin API.
func (c *ChangeType) UnmarshalText(b []byte) error {
	v, err := ParseChangeType(string(b))
	if err != nil {
		return err
	}
	*c = v
	return nil
}

// Slot groups the changes that replace one another while they are pending: a newer change replaces an older one of
// its slot, and leaves other slots alone.
type Slot uint8

// The closed set of slots.
const (
	// SlotStatus holds Upgrade, Suspend, Resume and Delete.
	SlotStatus Slot = iota
	// SlotMove holds Move.
	SlotMove
	// SlotRestore holds BackupRestored.
	SlotRestore
)

// Slots is the number of slots.
const Slots = 3

var slotNames = [Slots]string{"status", "move", "restore"}

// String is the slot's name in Redis fields.
func (s Slot) String() string {
	if int(s) < len(slotNames) {
		return slotNames[s]
	}
	return "slot(" + strconv.Itoa(int(s)) + ")"
}

// ParseSlot reads a slot's name.
func ParseSlot(s string) (Slot, bool) {
	for i, n := range slotNames {
		if n == s {
			return Slot(i), true
		}
	}
	return 0, false
}

// Slot returns the slot of c.
func (c ChangeType) Slot() Slot {
	switch c {
	case Move:
		return SlotMove
	case BackupRestored:
		return SlotRestore
	default:
		return SlotStatus
	}
}

// ResultingState is the state that a change puts its tenant in; false if it does not change the state.
func (c ChangeType) ResultingState() (State, bool) {
	switch c {
	case Upgrade:
		return OfflineMaintenance, true
	case Suspend:
		return Suspended, true
	case Resume:
		return Running, true
	case Delete:
		return Deleted, true
	default:
		return Unknown, false
	}
}

// Change is one accepted transition of a tenant.
type Change struct {
	// ID names the change to operators and, as webhook-id, to receivers: see FormatChangeID.
	ID     string
	Tenant ID
	Type   ChangeType
	// Sequence grows with every change of the tenant.
	Sequence    int64
	VersionName string
	FileVersion string
	// PublicEndpoint is a host name, set only for Move.
	PublicEndpoint string
	// OccurredAt is the time that the platform gave, zero if it gave none. It is not used for ordering.
	OccurredAt time.Time
	AcceptedAt time.Time
}

const changeIDPrefix = "chg_"

// FormatChangeID is the id of a tenant's change. The pair (tenant, sequence) is unique, so the change is found by its
// id without an index.
func FormatChangeID(t ID, sequence int64) string {
	return changeIDPrefix + string(t) + "_" + strconv.FormatInt(sequence, 10)
}

const statusIDPrefix = "status_"

// FormatStatusID is the id of the status that a tenant had when top was its highest sequence. It is used for
// notifications of a status that no change brought; no change has such an id.
func FormatStatusID(t ID, top int64) string {
	return statusIDPrefix + string(t) + "_" + strconv.FormatInt(top, 10)
}

// ErrInvalidChangeID reports a string that cannot be the id of a change.
var ErrInvalidChangeID = errors.New("invalid change id")

// ParseChangeID splits a change's id.
func ParseChangeID(s string) (ID, int64, error) {
	rest, ok := strings.CutPrefix(s, changeIDPrefix)
	i := strings.LastIndexByte(rest, '_')
	if !ok || i < 0 {
		return "", 0, ErrInvalidChangeID
	}
	t, err := ParseID(rest[:i])
	if err != nil {
		return "", 0, ErrInvalidChangeID
	}
	digits := rest[i+1:]
	seq, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || seq <= 0 || strconv.FormatInt(seq, 10) != digits {
		return "", 0, ErrInvalidChangeID
	}
	return t, seq, nil
}
