package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/lamplighter/lamplighter/internal/auditlog"
	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/service"
)

// auditVerifyCmd checks audit lines, with the settings of serve.
type auditVerifyCmd struct {
	settingFlags
	Files   []string `arg:"" name:"file" help:"Files with audit lines, in any order; together they are one chain."`
	Offline bool     `help:"Check only the chain, without Redis."`
}

// errAudit is the error of verify when something is wrong.
var errAudit = errors.New("the audit log was altered, or is incomplete")

// Run prints the faults, and fails when there are any.
func (c *auditVerifyCmd) Run(ctx context.Context, a *commandEnv) error {
	var settings *config.Config
	if !c.Offline {
		l, err := c.loadSettings(a, nil)
		if err != nil {
			return err
		}
		settings = &l.Config
	}
	sources := make([]auditlog.Source, len(c.Files))
	for i, name := range c.Files {
		sources[i] = auditlog.Source{Name: name, Open: func() (io.ReadCloser, error) { return os.Open(name) }} //nolint:gosec // the caller's own file
	}
	found, err := service.VerifyAudit(ctx, settings, sources)
	if err != nil {
		return err
	}
	for _, words := range found.Faults {
		fmt.Fprintln(a.stdout, words)
	}
	if found.Wrong > 0 {
		return fmt.Errorf("%w: faults %d, lines %d", errAudit, found.Wrong, found.Lines)
	}
	fmt.Fprintf(a.stdout, "%d lines, %d to %d: each follows the one before.\n", found.Lines, found.First, found.Last)
	if settings != nil {
		fmt.Fprintf(a.stdout, "%d entries in Redis agree with them.\n", found.Compared)
	}
	return nil
}
