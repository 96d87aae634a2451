// Package architecture holds no code, only tests that read the repository as
// text: which package imports which, what production code may call, and
// whether the documents name paths, make targets and metrics that exist.
//
// A new package gets its row in layout (layout_test.go) in the change that adds
// it. A rule that is in the way is changed there, in the open, or not at all.
package architecture
