//go:build !windows && !plan9

package auditlog

import "log/syslog"

// dialSyslog connects to the syslog at an address, or to this machine's when network is empty.
func dialSyslog(network, address string) (syslogWriter, error) {
	return syslog.Dial(network, address, syslog.LOG_AUTHPRIV|syslog.LOG_NOTICE, syslogTag)
}
