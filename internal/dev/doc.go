// Package dev runs a complete Lamplighter on one machine without any installation: an in-process Redis, generated
// keys, a receiver that verifies notifications, a mail catcher, demo apps and tenants, and a readable line for each
// event. All state is dropped when it stops.
//
// The service in it is the real one. The parts around it are a small partner's and operator's side, which use only
// public interfaces. Apps and tenants are made through the admin API, the receiver finds the keys through the
// discovery document, and mails arrive by SMTP. Only the lines about the service itself are taken from its log.
package dev
