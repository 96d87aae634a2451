// Package deploy has only tests: the examples for systemd and compose name existing settings, and give a
// process the time that its shutdown takes.
package deploy
