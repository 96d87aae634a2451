// Package dev runs a whole Lamplighter on one machine without anything installed: an in-process
// Redis, generated keys, a receiver that verifies what it gets, a mail catcher, demo apps and
// tenants, and a readable line for each thing that happens. It forgets everything when it stops.
//
// The service in it is the real one. What stands around it is a partner's and an operator's side
// made small, so it uses the public ways alone: apps and tenants are made through the admin API,
// the receiver finds the keys through the discovery document, and mails leave by SMTP. Only the
// lines about the service itself are read off its log.
package dev
