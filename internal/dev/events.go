package dev

import (
	"context"
	"log/slog"
	"strconv"
)

// verifiedDeliveries knows which deliveries somebody else has told about already.
type verifiedDeliveries interface {
	consumeVerified(app, tenant string) bool
}

// logHandler is the service's log: what a newcomer wants to see becomes a line on the console, other
// records go on to next.
type logHandler struct {
	eventLog   *eventLog
	deliveries verifiedDeliveries
	next       slog.Handler
}

// Enabled implements slog.Handler.
func (e *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || e.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (e *logHandler) Handle(ctx context.Context, r slog.Record) error {
	told := false
	switch r.Message {
	case "request handled":
		told = e.showRequest(collectAttrs(r))
	case "delivery attempted":
		e.showDelivery(collectAttrs(r))
		told = true
	case "mail tried":
		e.showMail(collectAttrs(r))
		told = true
	}
	if told || !e.next.Enabled(ctx, r.Level) {
		return nil
	}
	return e.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (e *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{eventLog: e.eventLog, deliveries: e.deliveries, next: e.next.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (e *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{eventLog: e.eventLog, deliveries: e.deliveries, next: e.next.WithGroup(name)}
}

// showRequest tells accepted changes and refused requests; the API's other calls are no news.
func (e *logHandler) showRequest(f map[string]string) bool {
	status, _ := strconv.Atoi(f["status"])
	switch {
	case status >= 400:
		e.eventLog.logEvent(eventBad, "answered", f["method"]+" "+f["route"]+" with "+f["status"]+formatCause(f["err"]))
	case f["operation"] != "postStateChanges":
		return false
	case f["change_id"] != "":
		e.eventLog.logEvent(eventInfo, "accepted", "a change of "+f["tenant"]+" ("+f["change_id"]+")")
	default:
		e.eventLog.logEvent(eventInfo, "accepted", "lines of changes")
	}
	return true
}

func (e *logHandler) showDelivery(f map[string]string) {
	if f["outcome"] == "delivered" {
		if !e.deliveries.consumeVerified(f["app"], f["tenant"]) {
			e.eventLog.logEvent(eventGood, "delivered", f["app"]+" was told about "+f["tenant"]+" and answered "+f["status"])
		}
		return
	}
	words := f["app"] + " could not be told about " + f["tenant"] + ": " + f["reason"] + ", attempt " + f["attempt"]
	if f["attempt"] == "1" {
		words += "; what it missed is kept, and tried until it knows"
	}
	e.eventLog.logEvent(eventBad, "waiting", words)
}

// showMail tells what did not leave; what left is shown by the catcher.
func (e *logHandler) showMail(f map[string]string) {
	if f["outcome"] != "sent" {
		e.eventLog.logEvent(eventBad, "mail", "about "+f["app"]+" "+f["outcome"]+formatCause(f["err"]))
	}
}

func formatCause(err string) string {
	if err == "" {
		return ""
	}
	return ": " + err
}

// collectAttrs are a record's attributes as text.
func collectAttrs(r slog.Record) map[string]string {
	f := make(map[string]string, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		f[a.Key] = a.Value.String()
		return true
	})
	return f
}
