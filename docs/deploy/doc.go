// Package deploy holds no code, only tests: that the examples for systemd and compose name settings
// that exist, and leave a process the time that its shutdown takes.
package deploy
