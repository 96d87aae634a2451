// Package fanout deposits tenants' records into the mailboxes of the apps that approved them, and manages the approvals.
//
// A fan-out deposits a snapshot of the record, never a single change. So a late, repeated, overtaken or incomplete fan-out can
// only deposit the same record or a newer one, and each call of the package may be repeated.
//
// # States of a tenant's fan-out
//
//	            accept                  every mailbox has the record
//	(none) ───────────────▶ pending ───────────────────────────────▶ (none)
//	                         ▲   │
//	                         └───┘ a mailbox failed, or a newer change was accepted
//
// Pending means two things in the store: the mark in the tenant's record, and the tenant's ticket in the list of pending
// fan-outs. The registry lists the tenant first, then the accept writes the change and the mark in one step. CompleteFanouts
// removes the mark only if the record is still the one that was read, and the ticket only if it is.
//
// # States of an approval
//
// The approval itself is in the app's mailbox, which decides. The index of tenants (which apps approved a tenant) lets a
// fan-out find the app; it follows the mailbox.
//
//	               Approve: index, mailbox, index again, deposit
//	not approved ─────────────────────────────────────────────────▶ approved
//	             ◀─────────────────────────────────────────────────
//	               Dismiss: mailbox, index
//
// Both are noted as unfinished before the first write, and the note is removed after the last one. In between, the pair may be in
// one of the two places only. An index entry without an approval costs a deposit that the mailbox ignores. An approval without
// an index entry misses deposits, until the repair adds the entry and deposits the record.
//
// # Who calls, and in which order
//
// The service makes one Fanout and one Approvals per process, and a Runner in workers.
//
//   - Runner.Submit: the intake after an accept. If it returns false, or in a process without the role worker, the caller makes
//     tasks of the queue.
//   - Fanout.Run: the Runner, the queue's worker for such tasks, and the worker for fan-outs that the sweep starts again.
//   - Approve, ApproveNew, Dismiss, DismissExisting, Resync: the API, the dismissals by ReportedApprovals; Resync also endpoint
//     tests and the second opinion of an incident.
//   - AdvanceJob: the runner of jobs, page by page, with the claim of the job. A resync of all tenants and the removal of a former
//     life's approvals are jobs.
//   - ReconcileIndex and CatchUp: the comparison, for gaps that it finds; ReconcileIndex also the Repairer.
//   - Repairer.Repair: one loop of the sweep, in one process at a time.
//
// A fan-out makes its calls in this order, for at most mailbox.MaxBatch tenants:
//
//	ReadFanoutInputs     tickets, then records, then the first page of approvers. A change that is accepted later has a newer
//	                     ticket or record, so CompleteFanouts does not remove its mark
//	Apps.Lookup          the life of each approver; Refresh if one is unknown or has no URL
//	DepositMany          the records into the mailboxes; a deposit for an ended life goes to the present life, once
//	Waker.Wake           the wake-up that a deposit armed, for each app
//	NextApprovers        the next page of approvers, until there is none
//	CompleteFanouts      for the tenants whose record reached every mailbox
//
// # What a crash leaves
//
//	a process dies …                     what is left                            who repairs it, and when
//	after the ticket, before the accept  a ticket without a mark                 the sweep starts a fan-out of the tenant, which
//	                                                                             removes a ticket older than ten minutes
//	after the accept, before Submit      a pending fan-out                       the sweep starts it again (delivery.sweep)
//	with tenants in the Runner           pending fan-outs                        the same; a stop in order hands them to the queue
//	between two deposits                 some mailboxes have the record          the same; a repeated deposit changes nothing
//	after a deposit, before Wake         an armed wake-up without a task         the sweep arms another after the grace
//	before CompleteFanouts               a pending fan-out that is done          the sweep starts it again; it only completes
//	within CompleteFanouts               a ticket without a mark                 as above
//	within Approve, Dismiss or Resync    a note of unfinished approvals          the Repairer, after one minute: it makes the index
//	                                                                             match the mailbox and deposits the records
//	after Approve, before the audit      an approval without an audit entry      nothing; a caller that repeats Approve writes one
//	within a page of a job               the job at its former page              the next claim of the job repeats the page
//
// An error, as opposed to a crash, leaves the same. What failed stays pending, and the Runner passes it to the queue. An app whose
// settings cannot be read keeps the fan-outs of its tenants pending, since it may be an app with a URL. The sweep tries all other
// tenants first.
package fanout
