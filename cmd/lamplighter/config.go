package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/service"
	"github.com/lamplighter/lamplighter/internal/signing"
)

type configCheckCmd struct{ settingFlags }

// Run reports every mistake that can be found without connecting to anything.
func (c *configCheckCmd) Run(a *commandEnv) error {
	l, err := c.loadSettings(a, nil)
	if err != nil {
		return err
	}
	if err := checkServeSettings(l, time.Now()); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "The settings are valid for serve.")
	return nil
}

// checkServeSettings joins the problems of the settings with those of the files that they name.
func checkServeSettings(l *config.Loaded, now time.Time) error {
	var problems config.Problems
	if err := l.CheckServe(); err != nil && !errors.As(err, &problems) {
		return err
	}
	c := l.Config
	if len(c.Signing.Keys) > 0 {
		keys, err := signing.LoadKeys(c.Signing.Keys...)
		if err == nil {
			_, err = keys.Signer(signing.RS256, now)
		}
		if err != nil {
			problems = append(problems, config.Problem{Key: "signing.keys", Origin: l.Origin("signing.keys"), Detail: err.Error()})
		}
	}
	for _, part := range []struct {
		key   string
		check func(*config.Config) error
	}{{"redis", service.CheckRedis}, {"smtp", service.CheckMail}} {
		if err := part.check(&c); err != nil {
			problems = append(problems, config.Problem{Key: part.key, Detail: err.Error()})
		}
	}
	return problems.AsError()
}

type configPrintCmd struct{ settingFlags }

// Run prints the effective settings.
func (c *configPrintCmd) Run(a *commandEnv) error {
	l, err := c.loadSettings(a, nil)
	if err != nil {
		return err
	}
	return l.Print(a.stdout)
}

type configSchemaCmd struct{}

// Run prints the JSON Schema.
func (configSchemaCmd) Run(a *commandEnv) error { return printJSON(a, config.JSONSchema()) }

func printJSON(a *commandEnv, v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
