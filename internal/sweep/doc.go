// Package sweep repairs what expires or is lost without an event, and counts. Its loops run side by side, each in one process at
// a time:
//
//   - arm: wake-ups whose task or owner was lost, and mailboxes that missed a switch
//   - owed: fan-outs that stayed pending
//   - incidents: incidents whose next step is due, and endpoints that have been failing for too long
//   - mails: mails that wait in outboxes and mail queues
//   - gauges: the cluster's state, which every process exports
//   - index: approvals that calls left half changed
//
// No loop waits for another. Package loop has what they share. Other documents call them the sweep.
package sweep
