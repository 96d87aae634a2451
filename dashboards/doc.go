// Package dashboards has only tests: the dashboards follow the rules of Grafana's linter, each alert has
// tests in which it fires and does not, and a runbook, and a running service exports every metric, label
// and value that they name.
package dashboards
