// Package apply makes the service what files say it should be.
//
// Manifests (Read) say apps with their endpoints and approvals, and where
// tenants stand. What a document says is made so and what it does not say stays,
// so that partners may change their own contact while operators keep the rest.
// Approvals are a set: those that are said and missing are added; those that are
// there and not said go only when the caller prunes.
//
// The difference between a manifest and what the service says is a pure function
// (Diff). Runner reads, and carries the differences out. Each step is one request
// that may be repeated, with the revision it was decided on, so a run that was
// killed is finished by running it again.
package apply
