// Package mailer sends the mails that lie in apps' outboxes: it claims one, composes it as text
// and HTML, hands it to the mail server and writes down what came of it.
//
// What may double: a mail server that accepts a mail and whose answer is then lost gets it again,
// with the same Message-ID, as does a process that dies, or loses Redis, between the acceptance
// and writing it down. Nothing is lost: a mail leaves the outbox only when a server accepted or
// refused it for good, or after 5 days of trying.
package mailer
