// Package secret protects confidential values. Text never prints its value, Keyring encrypts what is stored, and
// RedactURL, RedactError and MakeExcerpt make untrusted text safe for logs, mails and answers.
//
// Nothing here logs, and no error of this package contains a secret, so its
// errors may be shown as they are.
package secret
