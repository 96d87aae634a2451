package httpapi

import (
	"log/slog"
	"net/http"
	"time"
)

// Limits of connections. Handlers that stream replace the read and write deadlines as they go.
const (
	readHeaderWithin = 5 * time.Second
	readWithin       = 40 * time.Second
	writeWithin      = 60 * time.Second
	idleWithin       = 2 * time.Minute
	maxHeaderBytes   = 32 << 10
)

// NewServer makes a server whose timeouts and limits protect it from slow or greedy clients. The caller serves it and shuts
// it down.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	s := &http.Server{
		Handler: limitBodies(h), ReadHeaderTimeout: readHeaderWithin, ReadTimeout: readWithin, WriteTimeout: writeWithin,
		IdleTimeout: idleWithin, MaxHeaderBytes: maxHeaderBytes,
		DisableGeneralOptionsHandler: true, // OPTIONS * is answered like any unknown path
	}
	if log != nil {
		s.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	}
	return s
}
