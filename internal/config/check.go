package config

import (
	"net"
	"slices"
	"strings"
	"time"
)

// leaseMargin is how much longer than an attempt its claim must last, so that the result can be settled.
const leaseMargin = 5 * time.Second

// deriveSettings sets values that follow from other settings.
func (l *Loaded) deriveSettings() {
	c := &l.Config
	c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	if c.Token.Issuer.StateChange == "" {
		host := c.Environment
		if host == "stage" {
			host = "qaonline" // the platform's host name for this environment
		}
		c.Token.Issuer.StateChange = "https://" + host + ".superoffice.com"
	}
}

// crossCheck finds settings that contradict each other. Each problem names the setting to change.
func (l *Loaded) crossCheck() Problems {
	c := &l.Config
	var p Problems
	add := func(wrong bool, key, detail string) {
		if wrong {
			p.add(key, l.origins[key], "%s", detail)
		}
	}
	add(!strings.Contains(c.Redis.URL.Reveal(), "+sentinel://") && (c.Redis.SentinelUsername != "" || !c.Redis.SentinelPassword.IsZero()),
		"redis.sentinel_username", "is for sentinels, but redis.url names none: remove it, or use redis+sentinel://host:port,…/master")
	add(c.ShutdownTimeout < c.Delivery.Timeout, "shutdown_timeout", "must not be shorter than delivery.timeout, or a stop cuts attempts off")
	add(c.Delivery.SwitchOffAfter > 0 && c.Delivery.SwitchOffAfter <= c.Incident.OpenAfter,
		"incident.open_after", "must be shorter than delivery.switch_off_after, or endpoints are switched off before a mail says that they fail")
	add(len(c.Roles) == 0, "roles", "is empty: give api, worker or both")
	add(isSameListener(c.Listen, c.OpsListen), "ops_listen", "is the same address as listen: give it a port of its own")
	add(c.PublicListen != "" && (isSameListener(c.PublicListen, c.Listen) || isSameListener(c.PublicListen, c.OpsListen)),
		"public_listen", "is the address of another listener: give it a port of its own")
	add((c.Redis.TLS.Cert == "") != (c.Redis.TLS.Key == ""), "redis.tls.cert", "a client certificate needs both redis.tls.cert and redis.tls.key")
	add((c.SMTP.Username == "") != c.SMTP.Password.IsZero(), "smtp.username", "a login needs both smtp.username and smtp.password")
	add(c.SMTP.TLS == "none" && !c.SMTP.Password.IsZero(), "smtp.tls", "with none the password would travel in the clear: use mandatory, or no login")
	add(c.SMTP.Disabled && c.SMTP.Host != "", "smtp.disabled", "is true although smtp.host is set: remove one of them")
	add(c.SMTP.Host != "" && c.SMTP.From == "", "smtp.from", "is needed to send mail: set it to the sender's address")
	add((c.SMTP.DKIM.Key == "") != (c.SMTP.DKIM.Selector == ""), "smtp.dkim.key", "signing needs both smtp.dkim.key and smtp.dkim.selector")
	add(c.Delivery.EntryLease < c.Delivery.Timeout+leaseMargin, "delivery.entry_lease", "must be at least 5s longer than delivery.timeout, or one notification could be sent twice at once")
	add(c.Delivery.InFlight < c.Delivery.InFlightPerApp, "delivery.in_flight", "must not be smaller than delivery.in_flight_per_app")
	add(len(c.Delivery.RetrySchedule) == 0, "delivery.retry_schedule", "is empty: give at least one wait")
	add(c.Breaker.OpenForMax < c.Breaker.OpenFor, "breaker.open_for_max", "must not be shorter than breaker.open_for")
	add(!slices.IsSorted(c.Incident.RemindAfter), "incident.remind_after", "must be in ascending order")
	add(len(c.Guard.AllowPorts) == 0 && len(c.Guard.AllowCIDRs) == 0, "guard.allow_ports", "is empty: no endpoint could be reached")
	return p
}

// CheckServe reports what `lamplighter serve` needs beyond a valid Config: Problems, or nil. The content of the files
// of signing.keys is not checked here.
func (l *Loaded) CheckServe() error {
	c := &l.Config
	var p Problems
	need := func(missing bool, key, detail string) {
		if missing {
			p.add(key, Origin{}, "%s", detail)
		}
	}
	need(c.PublicURL == "", "public_url", "is required: set it to the URL under which partners reach this service, such as https://lamplighter.example.com")
	need(c.Encryption.Key.IsZero(), "encryption.key", "is required: make one with `lamplighter keys encryption` and keep it safe")
	need(len(c.Signing.Keys) == 0, "signing.keys", "is required: make a key with `lamplighter keys generate --out FILE`")
	need(c.SMTP.Host == "" && !c.SMTP.Disabled, "smtp.host", "is required to send mails when endpoints fail: set it with smtp.from, or set smtp.disabled to true to run without mail")
	return p.AsError()
}

// isSameListener reports whether both addresses cannot be listened on: they have the same port, and one host equals
// the other or means all interfaces. Port 0 is chosen by the system.
func isSameListener(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	everywhere := []string{"", "0.0.0.0", "::"}
	return hostA == hostB || slices.Contains(everywhere, hostA) || slices.Contains(everywhere, hostB)
}
