// Package output prints answers of the admin API: as a table for a terminal, as JSON or YAML for programs. It knows
// no resource: callers name the members for the columns. Control characters of values never reach a terminal.
package output
