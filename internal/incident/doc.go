// Package incident decides which mails are sent about an endpoint: when it fails, and when it has
// recovered. It is pure: a Machine takes a State, an Event and the time, and returns the next
// State with the mails that the step decides.
//
// One State covers one endpoint of one app. Pushes, probes and error reports all feed it.
//
//	healthy ──failure──▶ failing ──OpenAfter, or at once──▶ open ──success──▶ recovering ──RecoverAfter──▶ healthy
//	                        │                                ▲ │                   │
//	                        └──success──▶ healthy            │ └─switched off──▶ off
//	                                                         └──────failure────────┘
//
// An endpoint is unhealthy for one of two reasons: it fails as a whole (FailingSince), or it refuses
// the notifications of single tenants (Rejected). A tenant stays in Rejected until its notification
// is delivered. The endpoint is healthy when neither holds.
//
// Failures from all three sources belong to one incident. Within five minutes of a reported failure, a
// success that a push or probe sees does not end the failure. A success that an engine reports does, and
// so does an hour without a report. Reports alone open an incident when they lasted for a minute or were
// ten. They never have the endpoint switched off, since only the engines see it fail. A certificate that
// ends soon is no failure and belongs to no incident; mails warn of it 21 and 7 days ahead.
//
// While a common cause lasts (Machine.CommonCause), connection failures are recorded, but they open
// no incident and cause no reminder. This lasts for at most 30 minutes; a mail about an incident that
// opens after that names the common cause. After a common cause has ended, an endpoint that still
// fails opens when OpenAfter has passed since that end, not since its first failure: it could not
// recover before.
//
// These rules hold for every order of events:
//
//   - A transition has at most one mail. Its number N is unique in the incident, so a mail's id
//     follows from the incident, N and the recipient.
//   - No recipient gets a mail about a recovery or a close without one about the opening.
//   - An incident ends by recovery, when a person closes it or switches the endpoint off, when the
//     endpoint is not called any more, or after AbandonAfter without an event.
//
// The service's own faults are no failures of the endpoint: the machine ignores them.
package incident
