// Package registry keeps the service's record of apps, approvals, tenants, changes, tokens,
// incidents and the audit, in Redis.
//
// Every state change is one script on keys of one hash slot. What spans two slots (an app and its
// mailbox, an approval and its tenant's index) is written in an order that a repeat or the sweep
// completes. Values carry a format version.
package registry
