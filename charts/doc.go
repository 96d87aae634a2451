// Package charts has only tests: the chart's schema has the binary's settings, its alerts and dashboards
// are copies of those of this repository, and its network policy refuses what the guard refuses.
// `make chart` renders and checks it with Helm.
package charts
