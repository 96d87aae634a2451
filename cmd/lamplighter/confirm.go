package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// yesFlag skips the question before something is lost.
type yesFlag struct {
	Yes bool `short:"y" help:"Do not ask; for scripts."`
}

// errDeclined ends a command whose question was not answered with yes.
var errDeclined = errors.New("nothing was changed: the answer was not yes")

// errCannotAsk ends one that nobody can answer.
var errCannotAsk = usageError{errors.New("this needs a yes, and nobody can be asked here: give --yes")}

// confirm asks on a terminal. Without one it wants --yes, so that no script destroys by surprise.
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

// isTerminal reports whether v is one.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
