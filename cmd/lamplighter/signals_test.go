package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// signalled is set for the process that TestSignals starts.
const signalled = "LAMPLIGHTER_TEST_SIGNALLED"

// TestSecondSignalAfterTheContextEnded: a process that saw its context end dies by the next signal,
// however soon that comes. The child sends both signals to itself, the second the
// moment the context ends: there is no time in which it could be lost.
func TestSecondSignalAfterTheContextEnded(t *testing.T) {
	if os.Getenv(signalled) != "" {
		ctx, stop := cancelOnSignal(context.Background())
		defer stop()
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {} // a signal that was swallowed leaves a deadlock, or the test's time-out
	}
	t.Parallel()
	left := t.TempDir() // each child dies before it could remove its files
	for range 50 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=20s")
		child.Env = append(os.Environ(), signalled+"=1", "TMPDIR="+left)
		out, err := child.CombinedOutput()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatalf("the child ended with %v, want by the second signal; it said\n%s", err, out)
		}
		if status, ok := exit.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
			t.Fatalf("the child ended with %v, want by the second signal; it said\n%s", err, out)
		}
	}
}
