// Package doctor finds out whether what serve depends on works: Redis, the mail server, the guard. Each check says what
// was found and what to change. It is what `lamplighter doctor` does before a start, without the service.
package doctor
