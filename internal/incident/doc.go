// Package incident decides when people must be told that an endpoint fails, and when that it is
// well again. It is pure: a Machine takes a State, an Event and the time, and returns the next
// State with the mails that the step owes.
//
// One State covers one endpoint of one app, whoever observed it: pushes, probes and error reports.
//
//	well ──failure──▶ failing ──OpenAfter, or at once──▶ open ──success──▶ recovering ──RecoverAfter──▶ well
//	                     │                                ▲ │                   │
//	                     └──success──▶ well               │ └─switched off──▶ off
//	                                                      └──────failure────────┘
//
// Two things make an endpoint bad: it fails as a whole (FailingSince), or it refuses the
// notifications of single tenants (Rejected), each unresolved until that tenant's notification
// is delivered. It is well when neither holds.
//
// Failures come from pushes, probes and the reports of the platform's engines, and are one
// incident. Engines tell of failures alone: while they complain, a success that others see does
// not end the trouble, and an hour without a complaint does. Reports alone open an incident when they
// went on for a minute or were ten; they never have the endpoint switched off, since nobody but those
// engines sees it fail. A certificate that ends soon is no
// failure and belongs to no incident; it owes a mail 21 and 7 days ahead.
//
// While a common cause holds (Machine.Common), failures on the connection are written down, but nothing opens or reminds because
// of them, for 30 minutes at most; then what opens says so. After its end an endpoint that still fails opens
// when OpenAfter has passed since that end, not since its first failure: until then it could not show that it is well.
//
// What holds whatever the order of events: a transition owes at most one mail; its number N is
// unique in the incident, so that a mail's id follows from (incident, N, recipient); nobody is
// told of a recovery, or of a close, before an opening; and an incident ends by recovery, by a person, by people
// switching the endpoint off, when nobody calls it any more, or after AbandonAfter without news.
//
// The service's own faults never arrive here as failures: they are ignored.
package incident
