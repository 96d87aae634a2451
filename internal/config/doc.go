// Package config turns a YAML file, the environment and flags into one checked Config.
//
// One table (Settings) holds every setting once: its key, meaning, default and range. The YAML
// key, the flag, the environment name, the error messages, `config print` and
// docs/configuration.md all come out of it. A flag goes before the environment, that before
// the file, that before the default. Loading reports every mistake at once, as Problems.
//
// Only the service and the command import this package: parts take what they need as their own
// options.
package config
