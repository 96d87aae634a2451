// Package tenant describes the platform's tenants: ids, states and change types. It says how a change alters a
// tenant's status, and which change replaces which.
//
// The package is pure: no I/O, no clock. Names and numbers are part of the wire format that partners' receivers rely
// on (the platform's tenant status and state change notification pages).
package tenant
