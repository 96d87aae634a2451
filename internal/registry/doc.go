// Package registry stores the service's apps, approvals, tenants, changes, tokens, incidents and audit in Redis.
//
// Every state change is one script on keys of one hash slot. A change that spans two slots (an app and its mailbox, an approval
// and its tenant's index) is written in an order that a repeat or the sweep can complete. Values carry a format version.
package registry
