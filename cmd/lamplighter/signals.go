package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// cancelOnSignal returns a context that ends with the first SIGINT or SIGTERM; a second one ends the process
// at once. The context ends only after the default handling is back, so whoever sees the first signal's
// effects may send the second. stop gives up listening and waits for it.
func cancelOnSignal(parent context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	// room for the one that ends the context and one of each kind that comes before handling is back
	caught := make(chan os.Signal, 3)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-caught:
		case <-ctx.Done():
			signal.Stop(caught)
			return
		}
		signal.Stop(caught) // nothing is put into caught after this
		select {
		case second := <-caught:
			exitBySignal(second)
		default:
			cancel()
		}
	}()
	return ctx, func() {
		cancel()
		<-ended
	}
}

// exitBySignal ends this process by the signal, as if nobody had listened for it.
func exitBySignal(s os.Signal) {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Signal(s)
	}
	if err != nil { // where a process cannot send itself signals
		os.Exit(exitStopped)
	}
	select {} // the signal is on its way
}
