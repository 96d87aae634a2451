package dev

import (
	"context"
	"log/slog"
	"strconv"
)

// deliveries knows which deliveries somebody else has told about already.
type deliveries interface {
	told(app, tenant string) bool
}

// events is the service's log: what a newcomer wants to see becomes a line on the console, other
// records go on to next.
type events struct {
	console    *console
	deliveries deliveries
	next       slog.Handler
}

// Enabled implements slog.Handler.
func (e *events) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || e.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (e *events) Handle(ctx context.Context, r slog.Record) error {
	told := false
	switch r.Message {
	case "request handled":
		told = e.request(fields(r))
	case "delivery attempted":
		e.delivery(fields(r))
		told = true
	case "mail tried":
		e.mail(fields(r))
		told = true
	}
	if told || !e.next.Enabled(ctx, r.Level) {
		return nil
	}
	return e.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (e *events) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &events{console: e.console, deliveries: e.deliveries, next: e.next.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (e *events) WithGroup(name string) slog.Handler {
	return &events{console: e.console, deliveries: e.deliveries, next: e.next.WithGroup(name)}
}

// request tells accepted changes and refused requests; the API's other calls are no news.
func (e *events) request(f map[string]string) bool {
	status, _ := strconv.Atoi(f["status"])
	switch {
	case status >= 400:
		e.console.event(eventBad, "answered", f["method"]+" "+f["route"]+" with "+f["status"]+because(f["err"]))
	case f["operation"] != "postStateChanges":
		return false
	case f["change_id"] != "":
		e.console.event(eventInfo, "accepted", "a change of "+f["tenant"]+" ("+f["change_id"]+")")
	default:
		e.console.event(eventInfo, "accepted", "lines of changes")
	}
	return true
}

func (e *events) delivery(f map[string]string) {
	if f["outcome"] == "delivered" {
		if !e.deliveries.told(f["app"], f["tenant"]) {
			e.console.event(eventGood, "delivered", f["app"]+" was told about "+f["tenant"]+" and answered "+f["status"])
		}
		return
	}
	words := f["app"] + " could not be told about " + f["tenant"] + ": " + f["reason"] + ", attempt " + f["attempt"]
	if f["attempt"] == "1" {
		words += "; what it missed is kept, and tried until it knows"
	}
	e.console.event(eventBad, "waiting", words)
}

// mail tells what did not leave; what left is shown by the catcher.
func (e *events) mail(f map[string]string) {
	if f["outcome"] != "sent" {
		e.console.event(eventBad, "mail", "about "+f["app"]+" "+f["outcome"]+because(f["err"]))
	}
}

func because(err string) string {
	if err == "" {
		return ""
	}
	return ": " + err
}

// fields are a record's attributes as text.
func fields(r slog.Record) map[string]string {
	f := make(map[string]string, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		f[a.Key] = a.Value.String()
		return true
	})
	return f
}
