// Package queue wakes the fan-out, the drainers, the mailer and the probes by small asynq tasks. No task
// is a record of work: its handler looks the work up. So a task that is lost, late or doubled does no
// harm.
package queue
