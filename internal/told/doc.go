// Package told is the closed set of texts that describe a failure, with advice on what to do about it.
//
// An error's text holds dialled addresses, names out of certificates, and parts of an unknown server's answer.
// Partners and recipients of an app's mail must not see these. They are shown a Reason and its Text, which can be
// made only from a row of the table in this package. Operators and admins are shown the exact Cause, from the same
// table, and the error's text beside it.
//
// A name that does not exist and one that leads to an address inside are two causes and one reason. Otherwise
// partners could find out which names exist inside.
package told
