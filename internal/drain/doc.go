// Package drain empties mailboxes. A run takes one app's mailbox, makes an attempt for each due notification, settles the
// results, and gives the mailbox back. At most one notification of a tenant is in flight, and the oldest comes first.
// A fault of the endpoint opens its circuit, which the mailbox shares with all processes. A fault of one notification climbs
// the retry schedule. A fault of the service itself counts against no endpoint. Package circuit makes these decisions.
//
// # Who calls, and in which order
//
// The service makes one Drainer in each process with the role worker. Then, in any order and from any goroutine:
//
//   - Drain: the queue's worker calls it with an app and the generation of the wake-up.
//   - DispatchWake: the Dispatcher calls it for a wake-up that was armed in this process, by a fan-out, a drain, an API call or
//     the sweep. If it returns false, the Dispatcher makes the wake-up a task of the queue.
//   - SignalDeposit: the Dispatcher calls it for a deposit that armed no wake-up. A run of this process then reads its mailbox
//     at once.
//
// Stop is last: the service calls it after its listeners and the intake of queue tasks have stopped. It passes waiting
// wake-ups to the queue, and waits until all runs have given their mailboxes back.
//
// A run makes its calls of the mailbox in this order:
//
//	Endpoints.Life          the life of the app by the settings read last
//	BeginAndClaim           ownership and the first claims; a mailbox that is off, owned by another run or in its
//	                        cool-down ends the run here
//	Endpoints.Endpoint      the endpoint by settings that are at least as new as the claims
//	Exchange, repeatedly    hands in results, takes claims, renews the owner's lease
//	RecallFailed            after a recovery, page by page
//	SettleAndFinish, or     the last results, and the mailbox back if nothing is due
//	Finish                  the mailbox back, with the cool-down or the switch-off that follows
//	Observer.Observe        what the run found of the endpoint, for incidents and mails
//	Waker.Wake              the wake-up that Finish armed
//
// A call of the mailbox is tried up to four times. An app that was deleted or made again ends the run (mailbox.ErrGone).
//
// # States of a run
//
// A run has three states at a time. circuit.Stage says which claims it may take, circuit.Proof what it knows of the endpoint.
// Its place says whether it counts as working:
//
//	queue's worker ─▶ working ◀── a result ──── waiting
//	local wake-up ─▶ (waitlist) ─▶ working ──── no attempt began or ended for 200 ms ──▶ waiting
//
//	claiming ──evidence against the endpoint──▶ suspecting ──▶ claiming, or the circuit opens
//	claiming ──budget spent──▶ resting ──1 s, attempts in flight──▶ claiming with another budget, otherwise Finish
//	any ──410, own fault, opening, stop, age of 90 s──▶ leaving ──attempts settled──▶ Finish
//	any ──the mailbox has another owner──▶ lost ──attempts ended──▶ end
//
// A waiting run frees its place, and its worker of the queue, for other apps. Its attempts go on.
//
// A claim is held (heldClaim), then in flight (plannedAttempt, finishedAttempt), then a settlement, and leaves the run with an
// exchange. A claim whose lease has no room for a whole request is released without an attempt.
//
// # What a crash leaves
//
// The mailbox and the settings are the only durable state. Nothing is lost; a notification may be sent twice, and receivers
// recognize that by its webhook-id and x-state-sequence.
//
//	a process dies …                  what is left                              who repairs it, and when
//	before BeginAndClaim              an armed wake-up                          the queue's task, if there is one; otherwise the
//	                                                                            sweep arms another after the grace (10 s)
//	with a waitlist or a timer        armed wake-ups                            the same
//	with held claims                  claims without an attempt                 the next run takes them after their lease (25 s)
//	during an attempt                 a claim; the receiver may have got it     the next run sends it again after the lease
//	after an attempt, before the      the same: 32 gathered results, what is    the same
//	exchange that settles it          in flight and one exchange at most
//	before Finish                     the ownership                             it expires (15 s); the sweep then arms a wake-up
//	after SwitchOff, before Finish    settings that are off, a mailbox that     the sweep switches the mailbox off
//	                                  is on
//	after Finish, before Observe      an incident without the run's news        the next run, or the incidents' loop, which reads
//	                                                                            whether the circuit is open and what is pending
//	after Finish, before Wake         an armed wake-up without a task           the sweep, after the grace
//	during RecallFailed               pages that are not due yet                the mailbox knows the next page: the next run
//	at any time                       attempts missing from the list of         nothing: at most one flush (200 ms)
//	                                  deliveries
//
// The leases are those of the settings' defaults. A run that only loses its ownership ends its attempts and reports what it
// found; its claims stay valid until their own leases expire. No attempt starts that could outlast its claim, so the next claim
// of a tenant never overlaps with it. The exception is a process that is suspended within an attempt.
//
// What a process remembers of endpoints (memory.go) is lost with it. The next run of an app then starts with one attempt at a
// time until the host answers.
package drain
