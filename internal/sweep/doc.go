// Package sweep repairs what only time can break, every few seconds and in one process at a time:
// wake-ups whose task or owner was lost, mailboxes that missed a switch, fan-outs that stayed
// owed, incidents whose moment has come, mails whose next try is due. What it finds on the way it
// counts, and every process exports that count.
package sweep
