package told

// causeRow is one cause. description and advice are about a notification; callDescription and callAdvice are about
// a call of the platform's engines, or a probe, where they differ.
type causeRow struct {
	name, description, advice   string
	callDescription, callAdvice string
}

// The names that this package itself knows.
const (
	unknown      = "unknown"
	doesNotExist = "dns"
	isInside     = "blocked_address"
	unreachable  = "unreachable_name"
)

// Advice that several rows share.
const (
	askStaff    = "There is nothing for you to do. If it stays so, ask the platform's staff."
	checkHost   = "Check the host name in the endpoint's URL and its DNS records. If the endpoint has moved, set the new URL."
	checkURL    = "Something answers at the URL, but not the service that is expected there. Check that the URL leads to the service itself, not to a login or help page, and that the service answers as its interface says."
	checkTLS    = "Check that the certificate has not expired, names this host, comes with its intermediate certificates, and that the server speaks TLS 1.2 or newer."
	checkBroken = "The connection was accepted and then closed. A crashing service, a proxy in front of it or a firewall can cause that: look in their logs."
	checkSlow   = "Check that the service behind the endpoint is running and not overloaded, and that a firewall does not drop the connection. Users of the platform wait for its answer."
	checkSigner = "The answer must be signed with the private key whose public key is set for the app. Check that the service uses that key, that it signs the nonce of this very call, and that its clock is right; or set the app's public keys anew."
	switchOn    = "Correct the fault, then switch it on again: pending notifications are delivered then."
	grant       = "Ask the platform's staff to grant the licence."
)

// table is the closed set. Its first row is the zero Cause. docs/reasons.md is made from it.
var table = [...]causeRow{
	{},
	{name: unknown, description: "this version does not know the reason", advice: askStaff},

	{name: "none", description: "it answered"},
	{name: "healthy", description: "it answered as it should"},

	{
		name: "timeout", description: "it did not answer in time",
		advice:     "Check that the service behind the endpoint is running and not overloaded, and that a firewall does not drop the connection. Answer first and do the work afterwards: only the answer is awaited.",
		callAdvice: checkSlow,
	},
	{name: "trickling", description: "it began to answer, but so slowly that the answer was not complete in time", advice: checkSlow},
	{name: doesNotExist, description: "its host name does not exist", advice: checkHost},
	{
		name: isInside, description: "its address may not be called",
		advice: "The URL leads to a private, local or otherwise reserved address, which is never called. Set a URL that is reachable on the public internet, or correct the DNS record of its host.",
	},
	{
		name: unreachable, description: "its host name does not exist, or leads to no address that may be called",
		advice: "Check the host name in the endpoint's URL and its DNS records: the name must exist, and lead to public internet addresses alone. If the endpoint has moved, set the new URL.",
	},
	{
		name: "refused", description: "it refused the connection", callDescription: "it refused the connection: nothing listens on that port, or a firewall rejects us",
		advice: "Nothing accepts connections on that port. Check that the service is running, that it listens on the port in the URL and that a firewall lets it through.",
	},
	{name: "reset", description: "it broke off the connection", callDescription: "it broke off the connection before it had answered", advice: checkBroken},
	{name: "half_closed", description: "it closed its side of the connection before its answer was complete", advice: checkBroken},

	{name: "tls", description: "no secure connection could be made: its certificate or TLS settings are wrong", advice: checkTLS},
	{name: "tls_expired", description: "its TLS certificate has expired or is not valid yet", advice: "Renew the certificate and install it, with its intermediate certificates, on every machine that serves the endpoint."},
	{
		name: "tls_unknown_authority", description: "its TLS certificate is from an authority that is not trusted: self-signed, or an intermediate certificate is not sent",
		advice: "Use a certificate of a public authority, and have the server send the intermediate certificates with it.",
	},
	{name: "tls_wrong_host", description: "its TLS certificate is for another host name", advice: "Use a certificate that names the host in the endpoint's URL, or set the URL that the certificate names."},
	{
		name: "tls_refused", description: "it refused the TLS handshake: it wants a protocol older than TLS 1.2, another cipher, or a client certificate",
		advice: "Have the server speak TLS 1.2 or newer with the usual ciphers, without asking for a client certificate.",
	},
	{
		name: "tls_client_certificate", description: "it asks for a TLS client certificate, and none is sent: let this address be called without one",
		advice: "Have the server ask for no client certificate at this address. IIS, for instance, may ask for one by renegotiating, for a part of a site: that part must not ask.",
	},
	{name: "tls_protocol", description: "what answers on that port does not speak TLS as it should", advice: "Check that the port in the URL is that of the HTTPS server, and look in the log of the server or the proxy in front of it."},
	{
		name: "tls_weak_key", description: "its TLS certificate, or one that signed it, has an RSA key that is too short",
		advice: "Install a certificate with an RSA key of at least 2048 bits, or with an ECDSA key.",
	},

	{name: "redirect", description: "it answered with a redirect, which is never followed", advice: "Redirects are never followed. Set the endpoint's URL to where it leads, or have the service answer at the URL itself."},
	{
		name: "auth_error", description: "it answered that the caller is not allowed",
		advice:     "The endpoint, or something in front of it, asks for a login. Notifications prove their origin by their Token and signature instead: verify those, and let the request through.",
		callAdvice: "The endpoint, or something in front of it, asks for a login. Calls prove their origin by the signed token that they carry instead: verify that, and let the call through.",
	},
	{
		name: "client_error", description: "it refused this notification", callDescription: "it refused the call",
		advice:     "The URL does not lead to the receiver: check its path, and that it accepts POST.",
		callAdvice: "The URL does not lead to the service, or the service does not start: check the path, that it accepts POST, and the service's own log. A WCF service that is broken answers calls with 404 although its help page shows.",
	},
	{
		name: "not_found", description: "it answers a POST with 404: a WCF service that is broken does so even while its help page still shows",
		advice: "Check the path in the URL, and the service's own log: it may not start.",
	},
	{name: "get_only", description: "it does not take POST: what answers there serves pages, not SOAP calls", advice: checkURL},
	{name: "rate_limited", description: "it asked for fewer requests", advice: "The endpoint keeps asking for fewer requests. We slow down as it asks, but it must take some: check its limits for requests that come from us."},
	{
		name: "server_error", description: "it answered with an error of its own",
		advice:     "The service fails while it handles the notification, or the proxy in front cannot reach it: look in its log.",
		callAdvice: "The service fails while it handles the call, or the proxy in front cannot reach it: look in its log.",
	},
	{
		name: "gone", description: "it answered that it is gone for good",
		advice:     "A 410 answer asks us to stop for good. If that was not meant, have the endpoint answer 2xx.",
		callAdvice: "A 410 answer says that the service was taken away for good. If it was, switch the endpoint off; if that was not meant, bring the service back.",
	},

	{name: "bad_answer", description: "it answered, but not as the protocol asks", advice: checkURL},
	{name: "not_http", description: "it answered in something that is not HTTP", advice: "Check that the port in the URL is that of an HTTP server, and that the scheme is the server's: https where it speaks TLS."},
	{name: "too_large", description: "its answer is larger than any answer to this call can be (64 KiB are read)", advice: checkURL},
	{name: "html", description: "it answered a SOAP call with a web page", advice: checkURL},
	{name: "not_soap", description: "it answered in something that is not SOAP 1.1", advice: checkURL},
	{name: "soap_1_2", description: "it answered in SOAP 1.2; the platform calls with SOAP 1.1 (basicHttpBinding)", advice: "Offer the service with SOAP 1.1, which WCF calls basicHttpBinding, at this URL."},
	{name: "unsafe_xml", description: "its answer holds a document type, entities or other XML that SOAP forbids; it was not read", advice: "Have the service answer in plain SOAP 1.1, without a document type, entities or processing instructions."},
	{name: "fault", description: "it answered Authenticate with a SOAP Fault", advice: "Look in the service's log for why Authenticate failed."},
	{name: "unexpected_answer", description: "it answered in SOAP, but not with an AuthenticateResponse that says IsSuccessful", advice: checkURL},
	{
		name: "unreadable", description: "an answer came, but it cannot be read here: it is compressed, or in an encoding (charset) that is not known or does not fit",
		advice: "Have the service answer without compression, in UTF-8, and declare that.",
	},
	{
		name: "not_successful", description: "it does not trust the platform's token: it answered IsSuccessful=false",
		advice: "Check how the service verifies the token of the call: its signature by the keys of /login/.well-known/jwks, its audience, issuer and time.",
	},
	{name: "no_token", description: "its AuthenticateResponse holds no SignedApplicationToken", advice: "Have the service answer with the nonce and the time, signed by the app's key, as SignedApplicationToken."},
	{name: "bad_token", description: "its SignedApplicationToken is not of the form NONCE.yyyyMMddHHmm.BASE64", advice: "Have the service write the nonce, a dot, the UTC minute in twelve digits, a dot, and the signature in base64."},
	{name: "wrong_nonce", description: "it signed another nonce than the one it was sent: an old answer, or a nonce of its own", advice: "Have the service sign the nonce of this very call, and keep no answers."},
	{name: "stale_minute", description: "it signed another time than now: its clock is wrong, it does not use UTC, or the answer is an old one", advice: "Set the clock of the service's machine, write the minute in UTC, and keep no answers."},
	{name: "wrong_key", description: "it did not prove that it holds the app's key", callDescription: "its signature does not fit any public key that is registered for the app", advice: checkSigner},
	{name: "no_public_key", description: "it answered, but no public key is registered for the app, so its signature cannot be checked", advice: "Set the app's public keys to those that belong to the service's private keys."},

	{name: "no_tenant", description: "no tenant has approved the app, and each call is made on behalf of a tenant", advice: "Have a tenant approve the app, then try again."},
	{name: "nothing_to_tell", description: "no tenant with a known status has approved the app, so there is no status to send", advice: "Have a tenant approve the app, then try again."},
	{name: "not_tried", description: "it was tried several times just before, and not again", advice: "Wait for a minute, then try again."},
	{name: "own_fault", description: "the fault is on the sending side", callDescription: "the fault is on the calling side, so the call says nothing about it", advice: askStaff},

	{name: "untried", description: "no notification was posted to it yet", callDescription: "it was not tried yet at this URL"},
	{name: "unprobed", description: "it was not tried yet, and this deployment probes nothing"},
	{name: "never_on", description: "it was never switched on"},
	{name: "switched_off", description: "it was switched off by hand"},
	{name: "failing", description: "the service switched it off, because it failed for too long without a break", advice: switchOn},
	{name: "no_url", description: "it is switched on, but has no URL for this environment", advice: "Set a URL."},
	{name: "paused", description: "the app is paused"},
	{name: "custom_apps", description: "it is switched on, but the app was not granted the licence custom_apps: it is neither called nor probed", advice: grant},
	{name: "integration_server", description: "it is switched on, but the app was not granted the licence integration_server: it is neither called nor probed", advice: grant},
	{name: "database_mirroring", description: "it is switched on, but the app was not granted the licence database_mirroring: it is neither called nor probed", advice: grant},
	{name: "expander_services", description: "it is switched on, but the app was not granted the licence expander_services: it is neither called nor probed", advice: grant},
}
