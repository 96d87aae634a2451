// Package alerting turns observations about endpoints into decided mails. It passes events to the
// incident machine, finds the recipients, and has the new state and the mails written in one step.
// Package mailer sends the mails.
//
// # Model
//
// Per app and endpoint the store keeps one incident.State, and per app an outbox of mails. The
// states are those of package incident. A Tracker itself keeps nothing between calls. So any number
// of processes may use one, and none has to take over from another.
//
//	  ┌────────────────── the incident was written meanwhile ──────────────────┐
//	  ▼                                                                        │
//	read ──▶ decide ──▶ a mail is due? find the audience, decide again ──▶ commit if unchanged
//	           ▲                                                               │
//	         events                      outbox of the app ◀──── one script ───┘
//	                                            │ wake-up (a hint)
//	                                            ▼
//	                                    mailer.Sender.ForwardMail
//
// # Who calls
//
//   - Observe: the drainer after each round of results, the prober, the tests that callers of the API
//     request, writes that switch an endpoint on or off, and withdrawn approvals.
//   - TickApp: the Advancer, which the loop of the sweep calls for every app that has a state, a report
//     or an unconfirmed address. TickApp lets incidents open, remind and recover, and it takes engines'
//     reports into account. The Advancer also switches off endpoints that have failed too long.
//   - RequestConfirmations: each write of an app, and TickApp for those that were not written.
//   - CloseIncident: the API.
//   - WakeMail: the loop of the sweep, for each mail that is due in an outbox.
//
// # Order of a decision
//
//  1. The app's settings are read. An unknown app is skipped; CloseIncident still ends its incident.
//  2. ReadIncident reads the state, and decide applies the events to it: a pure function of state, events and
//     time. Most events change nothing that needs a mail; then this read, and a write if the state changed,
//     is all.
//  3. If there is a mail, or the endpoint begins to recover, the audience is read: the backlog, the time of
//     the next attempt, and the recipients, that is those that can get mail, without those that unsubscribed.
//     decide is called again with it.
//  4. CommitIfUnchanged writes state, mails and history in one script, if the state is still the one that was
//     read. Otherwise all begins again at 2; the earlier decision is dropped. After 20 such conflicts in a row
//     the caller gets an error.
//  5. One log line "mail decided" is written per mail, the suppressed ones are counted, and the mailer
//     is woken for each mail.
//
// # What a crash leaves behind
//
//   - Before the write (1 to 3, or a write that failed): nothing is stored, and the observation is lost
//     with the error of Observe. The next attempt or probe repeats it: a failing endpoint is attempted
//     or probed again after its cool-down or interval. TickApp infers a lost success of a state-change
//     endpoint: one whose circuit is closed, and which has had no failure for quietAfter, has recovered.
//     A tenant is no longer refused once nothing is pending for it. Reports stay in the store, so the
//     next TickApp takes them.
//   - After the write, before the caller knows: state and mails are stored. A repeat decides by the new
//     state. If it decides the same mail, that has the same id, and the script does not write it twice.
//   - After the write, before the log line and the wake-up (5): the mails are in the outbox and are not
//     lost. The sweep finds those that are due and calls WakeMail, at most once a minute for a mail. The
//     log line and the count of suppressed mails are missing for good.
//   - A mail whose task is lost, or whose mailer dies: the same WakeMail repairs it.
//   - A confirmation that was not written: TickApp writes it for requestWithin after the address was
//     set. Its id follows from the app, the time and the address, so that it is written once. After
//     requestWithin the address stays unconfirmed until it is set again.
//
// A Redis that loses acknowledged writes may lose states and mails, or repeat a mail.
package alerting
