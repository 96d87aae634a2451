package auditlog

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// syslogTag is the name under which lines are logged.
const syslogTag = "lamplighter-audit"

type syslogWriter = io.WriteCloser

// Syslog sends lines to a syslog. It cannot read what it sent: after a crash, a line may be sent twice.
type Syslog struct {
	// Network is udp, tcp, or empty for this machine's syslog.
	Network, Address string
	// Dial connects; nil for a syslog connection.
	Dial func(network, address string) (io.WriteCloser, error)
}

// LastPlace implements Sink.
func (Syslog) LastPlace(p Place) (Place, error) { return p, nil }

// Write implements Sink.
func (s Syslog) Write(lines [][]byte) error {
	dial := s.Dial
	if dial == nil {
		dial = dialSyslog
	}
	w, err := dial(s.Network, s.Address)
	if err != nil {
		return fmt.Errorf("reach the syslog: %w", err)
	}
	defer func() { _ = w.Close() }()
	for _, line := range lines {
		if _, err := w.Write(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return fmt.Errorf("write to the syslog: %w", err)
		}
	}
	return nil
}

// ParseSink reads a setting: the path of a file, "syslog" for this machine's, or udp://host:port and tcp://host:port
// for a remote one.
func ParseSink(text string) (Sink, error) {
	switch network, address, isURL := strings.Cut(text, "://"); {
	case text == "syslog":
		return Syslog{}, nil
	case isURL && (network == "udp" || network == "tcp") && address != "":
		return Syslog{Network: network, Address: address}, nil
	case filepath.IsAbs(text):
		return File{Name: text}, nil
	default:
		return nil, fmt.Errorf("%q must be the absolute path of a file, syslog, udp://host:port or tcp://host:port", text)
	}
}
