// Package mailbox is the record of what is pending for each app. Drainers deliver what it holds.
//
// A mailbox belongs to one app. It holds at most one pending entry per tenant and slot (status,
// move, restore): a newer change replaces the pending one of its slot. So an app that was unreachable
// for a week gets at most three notifications per tenant. Queue tasks only wake drainers; losing one
// loses nothing.
//
// # Model
//
//	tenants  tenant -> known[*]   the approvals; known is the highest tenant sequence deposited,
//	                              * requests that the status is deposited again
//	waiting  tenant|slot -> entry what is pending
//	due      tenant -> time       has entries, may be claimed from then on
//	flight   tenant -> stamp      claimed; the stamp is the end of the claim's lease
//
// A tenant has entries if and only if it is in due or in flight; it is never in both. There are two
// sets because a newer change ends a tenant's back-off, but must not touch a tenant in flight.
//
//	           deposit                 exchange: claim
//	(nothing) ─────────▶ due ─────────────────────────▶ flight
//	    ▲                 ▲  result: failed, released,     │
//	    │                 └──────── or newer entries ──────┤
//	    └───────────────────── result: ok, none left ──────┘
//
// # A drainer's run
//
// Begin takes the mailbox under a token with a lease. Exchange, repeatedly, settles results and takes
// new claims. Finish gives the mailbox back, and opens the endpoint's circuit if the endpoint failed.
//
// When the cool-down is over, the next drainer gets a round of claims as probes, all in one exchange. Their
// number was set when the circuit opened. Half of the probes that were not tried before come from the end of
// what is due. The circuit closes once an answer shows that the endpoint works: a delivery, or a failure
// that is the notification's own. A circuit that opened because the endpoint asked for a pause closes when
// the cool-down is over.
//
// A released entry is due again at its former time. Entries are recalled that failed while the endpoint
// refused nearly all, or before an opening: RecallFailed makes them due page by page, and they keep their
// step of the retry schedule. The mailbox stores the time range and the place that the recall reached, so
// that the next owner continues.
//
// Every script that makes a tenant due, or gives up ownership, ends by arming a wake-up: a generation and a
// time. The caller turns it into one run, of its own or by a queue task. A wake-up that does not come within
// its grace counts as lost; the sweep then arms another.
//
// BeginAndClaim is Begin with the first Exchange. SettleAndFinish is the last Exchange with Finish. Each
// takes one round trip: two calls in their usual order, each of them atomic.
//
// # Lives of an app
//
// A client id that is deleted and made again names another app. Its birth is the revision of the write that
// made it, and a mailbox belongs to the life of one birth. Births only grow; an app that an older version
// made has birth 0. Each call that writes names the birth that it read when it began:
//
//   - A birth lower than the mailbox's is refused with ErrGone, and nothing is written.
//   - A higher one first ends the former life, by BeginLife, and then runs in its own. Only Finish returns
//     Lost instead: the owner of a mailbox began in its life.
//
// EndLife ends a life without beginning another: its birth is the deletion's revision. A life ends in one
// short step, whatever its size. Pending entries are unlinked; owner, circuit and switch are removed. The
// approvals are renamed to a key of their own, because each of them may still be in the tenants' index. A job
// removes them page by page: ReadFormerApprovals, the change of the index, RemoveFormerApprovals. View.Former
// names the births that have approvals left. Claims, and the counters of versions, stamps, generations and
// dismissals, outlive a life: a tenant stays in flight while an attempt of a former life may be in progress.
// The mailbox of a deleted app expires once all former approvals are removed.
//
// # Jobs
//
// Work for a whole app is a Job, a HASH beside the mailbox: its place, its counts, its claim, and the life it
// belongs to. ClaimJob gives the right to make pages for JobLease, and each page renews it. A call whose claim
// is over, or whose job has ended, returns ErrJobLost and writes nothing, so a worker that was suspended does no
// harm. DepositJobPage deposits a page of tenants again: marks, deposit and the job's place in one step. If a
// tenant's record is older than what was deposited meanwhile, it marks the tenant and keeps the job's place;
// the caller reads those records again. RemoveFormerApprovals is a page of a former life.
//
// MakeDepositJob joins the running job of its kind. If that has begun, it goes round once more, so that every
// tenant is deposited after the last request. The walk over the approvals uses HSCAN, whose cursor is valid for
// one run of Redis; after a restart or failover the walk begins again.
//
// # Openings
//
// An opening is an event after which the endpoint is judged anew: its URL changed, it was switched on or
// resumed, or a test saw it answer. The mailbox counts openings as its epoch, and stores the epoch in which
// its owner began; a repeated Begin keeps the first one's. An owner that began before the last opening is
// outdated, which Exchange and Finish report: what it found out about the endpoint is discarded. Its
// deliveries count. Its failures are due again at once and climb no step of the retry schedule. It claims
// nothing, does not open or close the circuit, switches nothing off, and gives the mailbox back although
// work is due; the next run does that work.
//
// Settings that do not change the endpoint are no opening. The sweep repairs an EndCooldown or ApplySwitch
// that was lost: it passes the revision at which the endpoint last changed, and one newer than the mailbox
// knows is an opening.
//
// BeginAndClaim reads the revision of the settings after it claimed. A drainer that uses settings of that
// revision or a newer one for these claims uses no URL, secret or switch that was replaced before the claim.
//
// # Why nothing is lost, doubled or reordered
//
//   - Exclusion. A tenant enters flight only by a claim from due. It leaves only by a result
//     that bears its current stamp, or by a claim after the stamp's time. Stamps strictly grow
//     per mailbox, so no older result, release, repeated or late call can touch a later claim. An
//     attempt ends before its stamp. Hence there is one attempt per tenant at a time, whichever process
//     owns the mailbox and whatever call is late. The owner's lease protects throughput, not order.
//   - No lost update. An entry is removed by the acknowledgement of its own version, by a newer one
//     of its slot, by a newer Delete, or by a withdrawn approval. Versions are never reused.
//   - Order, no resurrection. known only grows while approved, and a deposit writes only what is
//     above it. A deposit is a snapshot of the tenant's record. So at any time each slot's newest
//     change at or below known was delivered or is pending. Claims take the lowest sequence first, so
//     the delivered sequences grow over all slots.
//   - No lost wake-up. Only time can lose one: the lease of an owner or the grace of a wake-up ends, or
//     a due time comes within the horizon. The sweep repairs that.
//   - Approvals. An approval starts from a top that was read after the tenant's last dismissal. Dismissals
//     counts the dismissals, and the tenants of the last ones are kept for a minute. Approve admits no tenant
//     if one of its tenants was dismissed since the count that it is given, or if that cannot be decided. So
//     nothing that an attempt of a former approval delivers is newer than what the new approval starts from.
//   - Lives. An approval, and what is pending for it, belong to one life: only calls of that life see them,
//     and an attempt uses the settings of the life that claimed it. So nothing of one life reaches another.
//     A life that ends with approvals counts as a dismissal: an approval in the next life starts from a top
//     that was read after it. So an app at the former app's address is notified of nothing older than the
//     former app was.
//   - Openings. Only a run that began after the last opening opens the circuit or switches an endpoint off:
//     the failures of an old URL do not open the circuit of a new one.
//   - Idempotence. A repeated deposit is recognised by known, a result by stamp and version, a wake-up by
//     the caller that armed it last, while it is armed, and the change of a life by its birth.
//
// tools/model checks these rules exhaustively: 25 worlds of one or two tenants, two drainers and one
// to three changes, with crashes, lost tasks, lost answers, late copies, resyncs, dismissals that
// race approvals, deleted apps, circuits, rounds of probes, pauses, recalls, refusals and switches. Each world
// has 0.1 to 8.7 million states, all of them about 60 million, and none violates a rule. For each rule it also
// finds a violation if the rule is left out (make model). Its documentation says which script or code each of
// its steps stands for, and where they differ. tools/mutate puts small faults into the scripts and reports
// those that no test notices (make mutate).
//
// The proof does not cover: a process that is suspended in the middle of a send and overlaps with its
// successor (only the receiver's rule on x-state-sequence helps), Redis losing acknowledged
// writes, and leaps of its clock.
//
// # Format
//
// Values carry format 1 (field "format" of the mailbox hash). The change in an entry has a format of
// its own, so that a longer or shorter one can be read beside it. A mailbox of a newer format, or
// with a birth that is no number, is refused with ErrFormat and never rewritten. A mailbox without a birth
// has birth 0, and one without an epoch has seen no opening. One that knows no revision of its endpoint
// accepts the first that it gets.
package mailbox
