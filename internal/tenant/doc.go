// Package tenant holds what the platform says about its customers' installations: tenant ids,
// states, change types, how a change alters a tenant's status and which change replaces which.
//
// The package is pure: no I/O, no clock. Names and numbers are wire facts that partners'
// receivers rely on (the platform's tenant status and state change notification pages).
package tenant
