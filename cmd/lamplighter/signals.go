package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// cancelOnSignal returns a context that ends with the first SIGINT or SIGTERM; a second one ends the process at once.
// The context ends only after default signal handling is restored. So a second signal works as soon as effects of the
// first are visible. stop ends the handling and waits for that.
func cancelOnSignal(parent context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	// room for the signal that ends the context, and for one of each kind before default handling is restored
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

// exitBySignal ends this process by the signal, as if it were not handled.
func exitBySignal(s os.Signal) {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Signal(s)
	}
	if err != nil { // for systems on which a process cannot signal itself
		os.Exit(exitStopped)
	}
	select {} // the signal is on its way
}
