package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// yesFlag skips the question before something is removed.
type yesFlag struct {
	Yes bool `short:"y" help:"Do not ask; for scripts."`
}

// errDeclined is the error of a command whose question was not answered with yes.
var errDeclined = errors.New("nothing was changed: the answer was not yes")

// errCannotAsk is the error of a command that has a question but no terminal.
var errCannotAsk = usageError{errors.New("this needs a confirmation, and there is no terminal to ask on: give --yes")}

// confirm asks on a terminal. Without a terminal it demands --yes, so that no script removes anything by accident.
func (f yesFlag) confirm(a *commandEnv, question string) error {
	if f.Yes {
		return nil
	}
	if !isTerminal(a.stdin) {
		return errCannotAsk
	}
	fmt.Fprintf(a.stderr, "%s [yes/no] ", question)
	answer, err := bufio.NewReader(io.LimitReader(a.stdin, 100)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer == "" { // the end of the input, such as /dev/null
		fmt.Fprintln(a.stderr)
		return errCannotAsk
	}
	if strings.TrimSpace(strings.ToLower(answer)) != "yes" {
		return errDeclined
	}
	return nil
}

// isTerminal reports whether v is a terminal.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
