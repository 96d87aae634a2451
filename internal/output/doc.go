// Package output prints what the admin API answers: as a table for people, as
// JSON or YAML for programs. It knows no resource: a caller names the members
// that make the columns. What it prints in a table cannot command a terminal.
package output
