// Package config turns a YAML file, the environment and flags into one checked Config.
//
// One table (AllSettings) holds every setting once: its key, meaning, default and range. The YAML key, the flag, the
// environment name, the error messages, `config print` and docs/configuration.md are all made from it. Flags have
// precedence over the environment, the environment over the file, the file over defaults. Loading reports all
// mistakes at once, as Problems.
//
// Only the service and the command import this package. Other packages have options of their own.
package config
