package dev

import (
	"context"
	"log/slog"
	"strconv"
)

// verifiedDeliveries knows which deliveries the receiver has shown already.
type verifiedDeliveries interface {
	consumeVerified(app, tenant string) bool
}

// logHandler handles the service's log. Records of interest for the demo become lines of the event log; others go to
// next.
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

// showRequest shows accepted changes and refused requests, and no other calls of the API.
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
			e.eventLog.logEvent(eventGood, "delivered", f["app"]+" was notified about "+f["tenant"]+" and answered "+f["status"])
		}
		return
	}
	words := f["app"] + " could not be notified about " + f["tenant"] + ": " + f["reason"] + ", attempt " + f["attempt"]
	if f["attempt"] == "1" {
		words += "; the notification is kept, and tried again until it is delivered"
	}
	e.eventLog.logEvent(eventBad, "waiting", words)
}

// showMail shows mails that were not sent; the catcher shows the others.
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

// collectAttrs returns a record's attributes as text.
func collectAttrs(r slog.Record) map[string]string {
	f := make(map[string]string, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		f[a.Key] = a.Value.String()
		return true
	})
	return f
}
