// Command mutate changes the Lua scripts of a package, one small fault at a time, and runs the package's tests against each. A
// fault that no test notices could be introduced by a later change without notice.
//
// Faults are made by rule: a comparison negated or moved by one, an operator or a key swapped, a
// number one too high, a field of another name, a condition that always or never holds, a line left
// out. The scripts are in the test binary as text, so a fault is written over them there, in the room
// that comments leave: nothing is compiled again and a fault costs a second or two.
//
// Tests run in stages, the quick ones first, and a fault that one notices goes no further:
//
//	miniredis     the conformance tests on miniredis
//	world         random interleavings against the oracle
//	redis-server  the conformance tests on a real server, with -real
//
// What survives is printed as a table. A survivor is either equivalent, and then -known names the
// file that says why, or a test is missing. The exit code is 1 when a survivor is not known.
package main
