// Package apply brings the service into the state that files describe.
//
// Manifests describe apps with their endpoints and approvals, and the status of tenants. Members that a document
// leaves out stay as they are, so that partners may change their own contact while operators manage the rest.
// Approvals are a set: missing ones are added; existing ones that are not in the manifest are removed only when the
// caller prunes.
//
// The difference between a manifest and the service is computed by pure functions (DiffApp, DiffTenant). Runner reads
// the service's state and carries the differences out. Each step is one repeatable request with the revision it was
// decided on. So a run that was killed is completed by running it again.
package apply
