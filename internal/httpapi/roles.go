package httpapi

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lamplighter/lamplighter/internal/partner"
)

// RoleKind is what a token may do. Adding one means: the constants, roleNames, the routes' table
// and the API document.
type RoleKind uint8

// The closed set of roles.
const (
	// Platform is the platform itself: it reports changes and keeps approvals.
	Platform RoleKind = 1 << iota
	// Partner is the owner of one app.
	Partner
	// Operator runs the service: everything except tokens and granted licences.
	Operator
	// Admin may do everything.
	Admin
)

// AllRoles lists the closed set.
func AllRoles() []RoleKind { return []RoleKind{Platform, Partner, Operator, Admin} }

// String is the role's name in a token.
func (k RoleKind) String() string {
	switch k {
	case Platform:
		return "platform"
	case Partner:
		return "partner"
	case Operator:
		return "operator"
	case Admin:
		return "admin"
	default:
		return fmt.Sprintf("role(%d)", uint8(k))
	}
}

// Role is what a token may do and, for a partner's, to which app.
type Role struct {
	Kind RoleKind
	// App is set only for Partner.
	App partner.ClientID
}

// ErrUnknownRole reports a role outside the closed set.
var ErrUnknownRole = errors.New("unknown role: must be platform, partner:<client_id>, operator or admin")

// ParseRole reads "platform", "partner:<client_id>", "operator" or "admin".
func ParseRole(s string) (Role, error) {
	word, id, colon := strings.Cut(s, ":")
	for _, k := range AllRoles() {
		if k.String() != word || colon != (k == Partner) {
			continue
		}
		if k != Partner {
			return Role{Kind: k}, nil
		}
		app, err := partner.ParseClientID(id)
		if err != nil {
			return Role{}, fmt.Errorf("role partner: %w", err)
		}
		return Role{Kind: k, App: app}, nil
	}
	return Role{}, ErrUnknownRole
}

// String is the role as ParseRole reads it.
func (r Role) String() string {
	if r.Kind == Partner {
		return r.Kind.String() + ":" + string(r.App)
	}
	return r.Kind.String()
}

// roleSet is a set of RoleKind. Admin needs no mention: it may call every operation.
type roleSet uint8

func allowRoles(kinds ...RoleKind) roleSet {
	set := roleSet(Admin)
	for _, k := range kinds {
		set |= roleSet(k)
	}
	return set
}

func (s roleSet) has(k RoleKind) bool { return s&roleSet(k) != 0 }
