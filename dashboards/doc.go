// Package dashboards holds no code, only tests: that the dashboards follow the rules Grafana's own
// linter has, that each alert is tested both ways and explained, and that every metric, label and
// value they name is one that a running service exports.
package dashboards
