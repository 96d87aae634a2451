package soap

import (
	"encoding/xml"
	"strings"
)

// Namespaces of the messages.
const (
	// Namespace is that of SOAP 1.1 envelopes.
	Namespace = "http://schemas.xmlsoap.org/soap/envelope/"
	// MirroringNamespace is that of the mirroring service IMirroringClientService.
	MirroringNamespace = "http://www.superoffice.com/online/mirroring/0.1"
	// QuoteNamespace is that of the quote connector IOnlineQuoteConnector.
	QuoteNamespace = "http://www.superoffice.net/EIS/Quote/1.0"
)

// ContentType is that of every SOAP 1.1 message.
const ContentType = "text/xml; charset=utf-8"

// Request is a message as it is posted.
type Request struct {
	// Action is the value of the SOAPAction header, with its quotation marks.
	Action string
	Body   []byte
}

const (
	open  = `<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="` + Namespace + `">`
	shut  = `</s:Envelope>`
	empty = `<s:Body/>`
)

// NewEmptyRequest is a message without a call. It names no operation, so it changes nothing. A SOAP 1.1 service must
// answer it all the same, usually with a Fault.
func NewEmptyRequest() Request { return Request{Action: `""`, Body: []byte(open + empty + shut)} }

// NewTestConnection is the quote connector's call of that name, without connection data.
func NewTestConnection() Request {
	return Request{
		Action: `"` + QuoteNamespace + `/IOnlineQuoteConnector/TestConnection"`,
		Body:   []byte(open + `<s:Body><TestConnection xmlns="` + QuoteNamespace + `"/></s:Body>` + shut),
	}
}

// NewAuthenticate is the call that begins each mirroring cycle.
func NewAuthenticate(signedToken string) Request {
	var token strings.Builder
	// A strings.Builder takes every write.
	_ = xml.EscapeText(&token, []byte(signedToken))
	return Request{
		Action: `"` + MirroringNamespace + `/IMirroringClientService/Authenticate"`,
		Body: []byte(open + `<s:Header><SignedToken s:mustUnderstand="1" xmlns="` + MirroringNamespace + `">` + token.String() +
			`</SignedToken></s:Header><s:Body><AuthenticateRequest xmlns="` + MirroringNamespace + `"><ClientState/></AuthenticateRequest></s:Body>` + shut),
	}
}
