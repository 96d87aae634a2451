// Package soap builds and reads the few SOAP 1.1 messages that probes exchange with partners'
// integration endpoints. It is pure.
//
// Answers come from untrusted services. ReadAnswer accepts no document type, no processing instruction and no entity
// but the five of XML, and limits size and depth. It refuses before a parser has expanded anything (SOAP 1.1 section
// 3 forbids the first two anyway).
package soap
