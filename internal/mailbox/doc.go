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
// it failed. A gate that ran out lets a round of claims through as probes, as many as it was closed with, all in one
// exchange: half of what was not tried comes from the end of what is due. It is forgotten once an answer shows that the
// endpoint is well: a delivery, or a refusal that is the notification's own fault. A gate that closed because the endpoint
// asked for a pause is forgotten when it has run out.
//
// What is released untried goes back to where it stood. What failed while the endpoint refused nearly all, and what failed
// before an opening, is recalled: Recall makes it due page by page, and keeps its step of the schedule. The mailbox remembers since
// when, and how far it came, so that whoever owns it next goes on.
//
// Every script that makes a tenant due, or gives up ownership, ends by arming a wake-up: a
// generation and a time that the caller turns into one run, of its own or by a queue task. A wake-up
// that is lost counts as lost after its grace; the sweep then arms another.
//
// Take is Begin with the first Exchange, and Leave the last one with Finish, in one round trip each: two
// calls in their usual order, each atomic by itself.
//
// # Lives of an app
//
// A client id that is deleted and made again names another app. Its birth is the revision of the write that
// made it, and a mailbox belongs to the life of one birth; births only grow, and an app that an older version
// made has birth 0. Each call that writes names the birth it means, as it read it when it began:
//
//   - a lower one than the mailbox's is refused with ErrGone, and nothing is written;
//   - a higher one first ends the former life, by Born, and then runs in its own. Finish alone is Lost: who
//     owns a mailbox began in its life.
//
// Died ends a life without beginning another: its birth is the deletion's revision. A life ends in one short
// step, however large it is: what waited is unlinked, owner, gate and switch are forgotten, and the approvals
// are renamed to a key of their own, because each of them may still stand in the tenants' index. A job takes
// them away page by page: Former, what it does to the index, Cleared. View.Former names the births that have
// some left. Claims, and the counters of versions, stamps, generations and dismissals, outlive a life: a tenant
// stays in flight while a former life's post may be out. The mailbox of a deleted app expires once all is
// cleared away.
//
// # Jobs
//
// Work for a whole app is a Job, a HASH beside the mailbox: its place, its counts, its claim, and the life it is for. ClaimJob gives the right
// to make pages for JobLease, and each page renews it. A call whose claim is over, or whose job has ended, is ErrJobLost and writes nothing, so
// that a worker which was frozen does no harm. Tell is a page of tenants that are told again: marks, deposit and the job's place in one
// step. Where a tenant's record is older than what was deposited meanwhile, Tell marks the tenant and stays; the caller reads those
// records anew. Cleared is a page of a former life.
//
// MakeDepositJob joins the job of its kind that runs: once that has begun, it goes round once more, so that every tenant is told after
// whoever asked last. The walk over the approvals is HSCAN's: its cursor is good for one run of Redis, and begins anew in another.
//
// # Openings
//
// An opening says that the endpoint is another than it was, or is to be tried anew: its URL changed, it was
// switched on or resumed, or somebody saw it answer. The mailbox counts them as its epoch, and notes at which
// one its owner began; a repeated Begin keeps the first one's. An owner that began before the last opening is
// outdated: Exchange and Finish say so, and what it saw of the endpoint is void. Its deliveries count. What
// failed is due again at once and climbs no step of the schedule. It claims nothing, closes no gate and forgets
// none, switches nothing off, and leaves although work is due; the next run does that work.
//
// Settings that leave the endpoint alone open nothing. An Open or a Switch that was lost is repaired by the
// sweep: it tells at which revision the endpoint last changed, and a newer one than the mailbox was told is
// an opening.
//
// Take reads the revision of the settings after it claimed. Whoever posts the claims by settings of that
// revision or a newer one uses no URL, secret or switch that was replaced before the claim.
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
//   - Approvals. An approval starts from a top that was read after the tenant's last dismissal: Dismissals
//     counts them, whom the last ones meant is kept for a minute, and Approve admits nobody when one of its
//     tenants is among those since the count, or nobody can tell. So nothing that a post of a
//     former approval brings is newer than what the new one starts from.
//   - Lives. An approval, and what waits for it, belong to one life: only calls of that life see them, and a
//     claim is posted by the settings of the life that claimed it. So nothing of a former life reaches a
//     later one, nor the other way round. A life that ends with approvals counts as a dismissal: an approval
//     in the next one starts from a top that was read after it, so that an app at the former one's address
//     hears nothing older than that did.
//   - Openings. Only a run that began after the last opening closes a gate or switches an endpoint off: the
//     failures of an old URL close no gate of a new one.
//   - Idempotence. A deposit is told apart by known, a result by stamp and version, a wake-up by
//     who asked for it last, while it is armed, the turn of a life by its birth.
//
// tools/model checks these rules exhaustively: 25 worlds of one or two tenants, two drainers and one
// to three changes, with crashes, lost tasks, lost answers, late copies, resyncs, dismissals that
// race approvals, deleted apps, gates, rounds of probes, pauses, recalls, refusals and switches, 0.1 to 8.7
// million states each and some 60 million in all, none of which violates one of them; and it finds each rule's absence (make model).
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
// refused with ErrFormat, never rewritten; so is one whose birth is no number. A mailbox without a birth is of
// birth 0, one without an epoch saw no opening, and one that was told no revision of its endpoint takes the
// first over.
package mailbox
