// Package charts holds no code, only tests: that the chart's schema knows the settings that the
// binary knows, that alerts and dashboards in it are the ones of this repository, and that its
// network policy refuses what the guard refuses. `make chart` renders and checks it with Helm.
package charts
