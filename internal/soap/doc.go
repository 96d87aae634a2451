// Package soap builds and reads the few SOAP 1.1 messages that probes exchange with partners'
// integration endpoints. It is pure.
//
// Answers come from strangers. Read takes no document type, no processing instruction, no entity
// but XML's own five, no other encoding than UTF-8, and bounds size and depth; what it refuses it
// refuses before a parser has expanded anything (SOAP 1.1 section 3 forbids the first two anyway).
package soap
