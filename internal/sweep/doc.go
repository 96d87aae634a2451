// Package sweep repairs what only time can break, and counts, in loops that run side by side, each in one process at a time:
//
//   - arm: wake-ups whose task or owner was lost, and mailboxes that missed a switch. Nothing comes before it
//   - owed: fan-outs that stayed owed
//   - incidents: incidents whose moment has come, and endpoints that have failed for too long
//   - mails: mails that wait in outboxes and trays
//   - gauges: the cluster's state, which every process exports
//   - index: approvals that calls left half changed
//
// None waits for another. Package loop has what they share. Elsewhere they are called the sweep.
package sweep
