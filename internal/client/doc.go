// Package client speaks to the admin API for the command line: one request at a
// time, the pages of a list, or a body of lines. It follows no redirect, because
// that would take the token elsewhere, puts refusals into words, and repeats what
// may be repeated when it is told to.
package client
