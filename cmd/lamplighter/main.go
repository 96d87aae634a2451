// Command lamplighter notifies partner apps of state changes of the platform's tenants. It also has the operators'
// commands: keys, settings, health, and publishing a state change.
//
// Exit codes: 0 done; 1 it failed, or the service refused; 2 wrong usage or settings; 3 apply
// --dry-run found something to do; 130 stopped by Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	_ "time/tzdata" // mails use contacts' time zones; images have no zone data

	"github.com/alecthomas/kong"

	"github.com/lamplighter/lamplighter/internal/config"
)

// version is set by the linker: -X main.version=1.2.3.
var version string

const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	// exitDifferent says that apply --dry-run found something to do.
	exitDifferent = 3
	// exitStopped is the exit code for Ctrl-C in shells.
	exitStopped = 130
)

const description = `Tells every partner app when a customer's lights go on or off.

Settings come from flags, LAMPLIGHTER_ environment variables and a YAML file (--config), in this order.

Exit codes: 0 done; 1 it failed, or the service refused; 2 wrong usage or settings; 3 apply --dry-run found something to do; 130 stopped by Ctrl-C.`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// commandEnv is what commands need besides their flags.
type commandEnv struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	build          buildInfo
}

// usageError is a mistake in how the command was called.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// kongExit carries the exit code of a command line that kong handled itself, such as --help.
type kongExit struct{ code int }

// run executes one command line and returns its exit code.
func run(args []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case kongExit:
			code = r.code
		default:
			panic(r)
		}
	}()
	ctx, stop := cancelOnSignal(context.Background())
	defer stop()
	a := &commandEnv{stdin: os.Stdin, stdout: stdout, stderr: stderr, environ: os.Environ(), build: readBuildInfo(version)}
	parser, err := kong.New(newCLI(),
		kong.Name("lamplighter"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(kongExit{code}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: false, WrapUpperBound: 100}),
		kong.Bind(a), kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		return a.reportError(fmt.Errorf("build the command line: %w", err))
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		return a.reportError(usageError{fmt.Errorf("%w (%s)", err, explainUsageError(err))})
	}
	if err := command.Run(); err != nil {
		code := a.reportError(err)
		if code == exitFailed && ctx.Err() != nil {
			return exitStopped
		}
		return code
	}
	return exitDone
}

// explainUsageError says how to correct a wrong command line.
func explainUsageError(err error) string {
	for old, now := range map[string]string{
		"unknown flag --url":   "the admin API is --server; an endpoint's address is --to of endpoints set",
		"unknown flag --token": "a token is never given on the command line, which other users of the machine can read: use --token-file, LAMPLIGHTER_TOKEN or lamplighter login",
	} {
		if rest, ok := strings.CutPrefix(err.Error(), old); ok && (rest == "" || strings.HasPrefix(rest, ",")) {
			return now
		}
	}
	return findHelpCommand(err) + " shows how"
}

// findHelpCommand is the help command for a wrong command line.
func findHelpCommand(err error) string {
	if wrong, ok := errors.AsType[*kong.ParseError](err); ok && wrong.Context != nil {
		if at := wrong.Context.Selected(); at != nil {
			return at.FullPath() + " --help"
		}
	}
	return "lamplighter --help"
}

// reportError prints an error and returns its exit code.
func (a *commandEnv) reportError(err error) int {
	fmt.Fprintf(a.stderr, "lamplighter: %v\n", err)
	if next := suggestFix(err); next != "" {
		fmt.Fprintf(a.stderr, "  %s\n", next)
	}
	var usage usageError
	var settings config.Problems
	if errors.As(err, &usage) || errors.As(err, &settings) {
		return exitUsage
	}
	if errors.Is(err, errDifferent) {
		return exitDifferent
	}
	return exitFailed
}
