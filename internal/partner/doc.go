// Package partner defines partners' apps: their four endpoints, contacts, licences and keys, and the
// rules of a valid app. It is pure: other packages decide whether an address may be dialled, and
// whether it answers.
package partner
