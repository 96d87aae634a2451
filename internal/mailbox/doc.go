// Package mailbox is the delivery engine's record of work: what each app must still be told.
//
// A mailbox belongs to one app. It holds at most one waiting entry per tenant and slot (status,
// move, restore): a newer change replaces the waiting one of its slot, so an app that is away
// for a week owes each tenant at most three posts. Queue tasks only wake drainers; losing one
// loses nothing.
//
// # Model
//
//	tenants  tenant -> known[*]   the approvals; known is the highest tenant sequence deposited,
//	                              * asks for the status to be told again
//	waiting  tenant|slot -> entry what must still be told
//	due      tenant -> time       has entries, may be claimed from then on
//	flight   tenant -> stamp      claimed; the stamp is the end of the claim's lease
//
// A tenant has entries if and only if it is in due or in flight; it is never in both. Two sets,
// because a newer change pulls a tenant out of back-off but must not touch one in flight.
//
//	           deposit                 exchange: claim
//	(nothing) ─────────▶ due ─────────────────────────▶ flight
//	    ▲                 ▲  result: failed, released,     │
//	    │                 └──────── or newer entries ──────┤
//	    └───────────────────── result: ok, none left ──────┘
//
// # A drainer's life
//
// Begin takes the mailbox under a token with a lease; Exchange, repeatedly, hands in the results
// of posts and gets new claims; Finish gives the mailbox back and closes the endpoint's gate when
// it failed. A gate that ran out lets one claim through as a probe, and is forgotten once an answer
// shows that the endpoint is well: a delivery, or a refusal that is the notification's own fault.
//
// Every script that makes a tenant due, or gives up ownership, ends by arming a wake-up: a
// generation and a time that the caller turns into one run, of its own or by a queue task. A wake-up
// that is lost counts as lost after its grace; the sweep then arms another.
//
// Take is Begin with the first Exchange, and Leave the last one with Finish, in one round trip each: two
// calls in their usual order, each atomic by itself.
//
// # Why nothing is lost, doubled or reordered
//
//   - Exclusion. A tenant enters flight only by a claim from due and leaves only by a result
//     that bears its current stamp, or by a claim after the stamp's time. Stamps strictly grow
//     per mailbox, so no older result, release, repeated or late call can touch a later claim. A
//     post ends before its stamp. Hence one post per tenant, whoever owns, whatever is late. The
//     owner's lease protects throughput, not order.
//   - No lost update. An entry leaves by the acknowledgement of its own version, by a newer one
//     of its slot, by a newer Delete, or by a withdrawn approval. Versions are never reused.
//   - Order, no resurrection. known only grows while approved, and a deposit writes only what is
//     above it. A deposit is a snapshot of the tenant's record, so at any time each slot's newest
//     change at or below known was told or waits; lowest first, that is a growing sequence over
//     all slots.
//   - No lost wake-up. Only time can break it: an owner's or a wake-up's lease running out, or a
//     horizon coming near. The sweep repairs that.
//   - Approvals. An approval starts from a top that was read after the last dismissal: Dismissals
//     counts them, and Approve admits nobody when the count moved. So nothing that a post of a
//     former approval brings is newer than what the new one starts from.
//   - Idempotence. A deposit is told apart by known, a result by stamp and version, a wake-up by
//     who asked for it last, while it is armed.
//
// tools/model checks these rules exhaustively: 21 worlds of one or two tenants, two drainers and one
// to three changes, with crashes, lost tasks, lost answers, late copies, resyncs, dismissals that
// race approvals, deleted apps, gates, refusals and switches, 0.1 to 5.8 million states each and 39
// million in all, none of which violates one of them; and it finds each rule's absence (make model).
// Its documentation says which script or code each of its steps stands for, and where they differ.
// tools/mutate brings small faults into the scripts and says which of them no test notices (make mutate).
// Outside the proof: a process frozen in the middle of a send may overlap with its
// successor (the receiver's rule on x-state-sequence is the only cure), Redis losing acknowledged
// writes, and leaps of its clock.
//
// # Format
//
// Values carry format 1 (field "format" of the mailbox hash), and the change in an entry a format of
// its own, so that a longer or shorter one can be read beside it. A mailbox of a newer format is
// refused with ErrFormat, never rewritten.
package mailbox
