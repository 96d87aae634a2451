// Package mailer sends the mails that package alerting decided. It moves each mail from the app's
// outbox to its recipient's mail queue, sends from there one by one or as a digest, and records the
// result.
//
// # Model
//
//	outbox of an app ──ForwardMail──▶ mail queue of a recipient ──SendQueued──▶ mail server
//
// A mail in an outbox is waiting, claimed or settled. It is claimed under a token with a lease, by one
// process at a time. A mail with an earlier mail of the same incident to the same recipient still in
// the outbox is not due. A settled mail's id is remembered for a day, so that it is not added again.
//
// A mail queue holds the mails to one address, from all apps, and what their sending depends on: the
// failed attempts in a row, the window of the daily cap, the digest that is being sent (the batch),
// and for each incident the Message-ID of the digest to which later mails reply. Confirmations have a
// queue of their own, with its own budget.
//
//	            ForwardMail              SendQueued: claim
//	(absent) ─────────────────▶ due ─────────────────────────▶ claimed
//	    ▲                        ▲  settle: mails are left,        │
//	    │                        └── after a delay, or lease over ─┤
//	    └──────────────── settle: no mail is left ─────────────────┘
//
// # Who calls
//
//   - ForwardMail and SendQueued: the handlers of queue tasks. Tasks only wake the mailer; losing one
//     loses nothing.
//   - FindDueQueues and WakeRecipient: the loop of the sweep. The same loop finds due mails in
//     outboxes and wakes ForwardMail by alerting.Tracker.WakeMail.
//   - Subscriptions: the pages of the API to which the links in mails lead, and the mailer for addresses
//     that bounce.
//   - Compose, ComposeDigest, MakeSamples, SendWithSteps and CheckLogin: the commands that show, test
//     and check mail, too.
//
// # Order of a run
//
// ForwardMail claims the mail, adds it to the queue, settles it in the outbox, and wakes SendQueued
// for the time when the queue is due. A queue that was empty is due after Policy.GatherFor. A mail whose queue is full stays in the outbox for an hour; a
// confirmation is dropped instead.
//
// SendQueued claims the queue, reads it, and repeats these steps until nothing may be sent or its
// time is over:
//
//  1. Mails about apps from which the recipient unsubscribed are removed, and so are confirmations that
//     the recipient refuses.
//  2. Mails that are older than giveUpAfter are removed, if the last attempt failed. Confirmations of
//     that age are removed in any case.
//  3. The next batch is chosen: a pinned digest first. When the daily cap is reached, nothing is sent
//     until the window ends. More than singlesMax incidents become a digest, and so do several mails
//     after the cap was reached. Otherwise the oldest mail is sent by itself.
//  4. A digest is pinned: its mails and its time are stored before the attempt.
//  5. The mail server gets the message.
//  6. The result is settled: sent mails leave the queue, a permanent refusal removes the mail, a bad
//     address also all other mails to it. Any other failure ends the run, and the queue is due again
//     after RetryDelay, or after at most serverWait when the server itself failed.
//
// At the end the queue is released, and SendQueued is woken again if mails are left.
//
// # What a crash leaves behind
//
//   - Before a claim: the mail is due in the outbox or the queue. The sweep wakes the mailer for it.
//   - ForwardMail, after its claim: the outbox lists the mail as due after claimLease. ForwardMail then
//     runs again. If the mail is in the queue, or left it within a day, it is not added a second time.
//   - ForwardMail, after settling, before the wake-up: the mail is in the queue. The sweep finds the
//     queue when it is due.
//   - SendQueued, before the server accepted the message (1 to 5): the queue is due after claimLease. A
//     pinned digest is sent again with the same mails and Message-ID.
//   - SendQueued, between the acceptance and the settlement: the message is sent again after claimLease.
//     It has the same Message-ID and the same content. The same happens when the server's answer is
//     lost, or when Redis is away after the acceptance.
//   - SendQueued, after a permanent refusal, before the settlement: the mail is tried and refused again.
//   - A claim that was lost because the run took longer than its lease: the mails that were sent leave
//     the queue all the same. The run ends, and the new owner's values stand.
//
// So a mail may be sent twice, and none is lost. It leaves the queue only when a server accepted it or
// permanently refused it, when it is given up after 5 days, when the recipient does not want it, or
// when this version cannot compose it. Each of these is counted and logged.
//
// Outside of this: a Redis that loses acknowledged writes, and a server that accepts a mail and loses
// it.
package mailer
