// Package alerting turns what is observed about endpoints into the mails that people are owed: it
// feeds the incident machine, finds the recipients, and has state and letters written in one
// step. Sending is the mailer's.
//
// A decision that was written is never lost: its letters lie in the app's outbox, and Tick wakes
// the mailer for what lies there too long, whatever failed after the write. What was observed
// but not written is lost with the error that Observe returns; the next attempt tells it again,
// since an endpoint that fails is attempted at least every minute.
package alerting
