// Package told is the closed set of words that a failure is told in, with what to do about it.
//
// An error's text names addresses that were dialled and names out of certificates, and repeats what an unknown
// server said. Partners, and whoever gets an app's mail, may know none of that. What they are shown is a Reason, and its
// Text: neither can be made of anything but a row of the table here. Operators and admins are shown the exact Cause, which is
// of the same table, and beside it the text that a failure left.
//
// A name that does not exist and one that leads to an address inside are two causes and one reason, since the
// difference would tell partners which names there are inside.
package told
