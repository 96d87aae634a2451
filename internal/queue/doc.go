// Package queue is the service's alarm clock: small asynq tasks that wake the fan-out, the
// drainers, the mailer and the probes. No task is a record of work; what it wakes looks the work
// up, so a task that is lost, late or doubled harms nothing.
package queue
