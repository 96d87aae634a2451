// Package secret keeps confidential values out of sight: Text never prints,
// Keyring encrypts what is stored, and RedactURL, RedactError and Excerpt make
// text that came from outside fit for logs, mails and answers.
//
// Nothing here logs, and no error of this package contains a secret, so its
// errors may be shown as they are.
package secret
