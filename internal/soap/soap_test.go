package soap_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/soap"
)

const (
	ns        = `xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"`
	mirroring = `xmlns="http://www.superoffice.com/online/mirroring/0.1"`
)

func envelope(body string) string {
	return `<s:Envelope ` + ns + `><s:Body>` + body + `</s:Body></s:Envelope>`
}

// What is sent is well-formed, says what is meant and keeps hostile text in its place.
func TestRequests(t *testing.T) {
	t.Parallel()
	type parsed struct {
		XMLName xml.Name
		Token   struct {
			Text       string `xml:",chardata"`
			Understand string `xml:"http://schemas.xmlsoap.org/soap/envelope/ mustUnderstand,attr"`
		} `xml:"Header>SignedToken"`
		Body struct {
			Calls []struct{ XMLName xml.Name } `xml:",any"`
		} `xml:"Body"`
	}
	for name, tc := range map[string]struct {
		req           soap.Request
		action, token string
		call          xml.Name
	}{
		"Empty": {soap.NewEmptyRequest(), `""`, "", xml.Name{}},
		"TestConnection": {
			soap.NewTestConnection(), `"http://www.superoffice.net/EIS/Quote/1.0/IOnlineQuoteConnector/TestConnection"`, "",
			xml.Name{Space: "http://www.superoffice.net/EIS/Quote/1.0", Local: "TestConnection"},
		},
		"Authenticate": {
			soap.NewAuthenticate(`a.b_c-d</SignedToken>&"`), `"http://www.superoffice.com/online/mirroring/0.1/IMirroringClientService/Authenticate"`,
			`a.b_c-d</SignedToken>&"`,
			xml.Name{Space: "http://www.superoffice.com/online/mirroring/0.1", Local: "AuthenticateRequest"},
		},
	} {
		var p parsed
		if err := xml.Unmarshal(tc.req.Body, &p); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.XMLName != (xml.Name{Space: soap.Namespace, Local: "Envelope"}) || tc.req.Action != tc.action || p.Token.Text != tc.token {
			t.Errorf("%s: root %v, action %s, token %q", name, p.XMLName, tc.req.Action, p.Token.Text)
		}
		if tc.token != "" && p.Token.Understand != "1" {
			t.Errorf("%s: mustUnderstand %q", name, p.Token.Understand)
		}
		call := xml.Name{}
		if len(p.Body.Calls) > 0 {
			call = p.Body.Calls[0].XMLName
		}
		if call != tc.call || len(p.Body.Calls) > 1 {
			t.Errorf("%s: calls %v, want %v", name, p.Body.Calls, tc.call)
		}
	}
}

func TestReadUnderstands(t *testing.T) {
	t.Parallel()
	authenticated := xml.Name{Space: soap.MirroringNamespace, Local: "AuthenticateResponse"}
	for name, tc := range map[string]struct {
		text string
		want soap.Answer
	}{
		"EmptyBody":   {envelope(""), soap.Answer{}},
		"WithHeader":  {`<s:Envelope ` + ns + `><s:Header><x xmlns="urn:x"><y/></x></s:Header><s:Body/></s:Envelope>`, soap.Answer{}},
		"OtherPrefix": {`<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body/></Envelope>`, soap.Answer{}},
		"Declared":    {"\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<!-- hello -->" + envelope("") + "\n", soap.Answer{}},
		"Fault": {
			envelope(`<s:Fault><faultcode xmlns:a="urn:a">a:ActionNotSupported</faultcode><faultstring xml:lang="en">No &lt;such&gt; action</faultstring></s:Fault>`),
			soap.Answer{
				Fault: &soap.Fault{Code: "a:ActionNotSupported", Text: "No <such> action"}, Name: xml.Name{Space: soap.Namespace, Local: "Fault"},
				Members: map[string]string{"faultcode": "a:ActionNotSupported", "faultstring": "No <such> action"},
			},
		},
		"Authenticated": {
			envelope(`<AuthenticateResponse ` + mirroring + `><IsSuccessful> true </IsSuccessful><ErrorMessage/>
				<SignedApplicationToken><![CDATA[N.202611261000.QUJD]]></SignedApplicationToken><x xmlns="urn:x">other</x><Deep>a<b>c</b>d</Deep></AuthenticateResponse>`),
			soap.Answer{Name: authenticated, Members: map[string]string{
				"IsSuccessful": "true", "ErrorMessage": "", "SignedApplicationToken": "N.202611261000.QUJD", "Deep": "ad",
			}},
		},
		"FirstElementAlone": {
			envelope(`<AuthenticateResponse ` + mirroring + `/><Other><IsSuccessful>true</IsSuccessful></Other>`),
			soap.Answer{Name: authenticated, Members: map[string]string{}},
		},
	} {
		got, err := soap.ReadAnswer("", []byte(tc.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">`)
	for i := range 9 {
		fmt.Fprintf(&b, `<!ENTITY lol%d "%s">`, i+1, strings.Repeat(fmt.Sprintf("&lol%d;", i), 10))
	}
	bomb := b.String() + "]>" + envelope("<x>&lol9;</x>")
	for name, tc := range map[string]struct {
		text string
		want error
	}{
		"Nothing":           {"", soap.ErrNotSOAP},
		"Text":              {"OK", soap.ErrNotSOAP},
		"JSON":              {`{"ok":true}`, soap.ErrNotSOAP},
		"OtherXML":          {`<ok xmlns="urn:x"/>`, soap.ErrNotSOAP},
		"NoNamespace":       {`<Envelope><Body/></Envelope>`, soap.ErrNotSOAP},
		"PrefixAlone":       {`<s:Envelope><s:Body/></s:Envelope>`, soap.ErrNotSOAP},
		"NoBody":            {`<s:Envelope ` + ns + `/>`, soap.ErrNotSOAP},
		"TwoBodies":         {`<s:Envelope ` + ns + `><s:Body/><s:Body/></s:Envelope>`, soap.ErrNotSOAP},
		"TwoEnvelopes":      {envelope("") + envelope(""), soap.ErrNotSOAP},
		"Trailing":          {envelope("") + "x", soap.ErrNotSOAP},
		"CutShort":          {`<s:Envelope ` + ns + `><s:Body>`, soap.ErrNotSOAP},
		"CrossedTags":       {`<s:Envelope ` + ns + `><s:Body></s:Envelope></s:Body>`, soap.ErrNotSOAP},
		"MemberTwice":       {envelope(`<A><B>1</B><B>2</B></A>`), soap.ErrNotSOAP},
		"UnknownEntity":     {envelope(`<A>&nbsp;</A>`), soap.ErrNotSOAP},
		"UnknownEncoding":   {`<?xml version="1.0" encoding="ebcdic-cp-us"?>` + envelope(""), soap.ErrUnreadable},
		"UTF16":             {"\xff\xfe<\x00s\x00", soap.ErrNotSOAP},
		"NotUTF8":           {envelope("<A>\xff</A>"), soap.ErrUnreadable},
		"ControlCharacter":  {envelope("<A>\x00</A>"), soap.ErrNotSOAP},
		"SOAP12":            {`<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body/></s:Envelope>`, soap.ErrSOAP12},
		"HTML":              {`<html><body>You have created a service.</body></html>`, soap.ErrHTML},
		"HTML5":             {"\n<!DOCTYPE HTML>\n<html>", soap.ErrHTML},
		"XHTML":             {`<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x"><html/>`, soap.ErrHTML},
		"XHTMLUndeclared":   {`<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>`, soap.ErrHTML},
		"DTD":               {`<!DOCTYPE s:Envelope SYSTEM "http://127.0.0.1/x.dtd">` + envelope(""), soap.ErrUnsafe},
		"ExternalEntity":    {`<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>` + envelope("<x>&e;</x>"), soap.ErrUnsafe},
		"EntityInside":      {envelope(`<!ENTITY e "x">`), soap.ErrUnsafe},
		"LowerCaseDTD":      {`<!doctype x>` + envelope(""), soap.ErrUnsafe},
		"Bomb":              {bomb, soap.ErrUnsafe},
		"Instruction":       {envelope(`<?php phpinfo() ?>`), soap.ErrUnsafe},
		"Stylesheet":        {`<?xml-stylesheet href="x"?>` + envelope(""), soap.ErrUnsafe},
		"DeepNesting":       {envelope(strings.Repeat("<a>", 33) + strings.Repeat("</a>", 33)), soap.ErrUnsafe},
		"EndlessNesting":    {envelope(strings.Repeat("<a>", 15000)), soap.ErrUnsafe},
		"DeepHeader":        {`<s:Envelope ` + ns + `><s:Header>` + strings.Repeat("<a>", 100), soap.ErrUnsafe},
		"TooLarge":          {envelope(strings.Repeat(" ", soap.MaxAnswer)), soap.ErrTooLarge},
		"QuadraticAttempt":  {envelope("<a " + strings.Repeat(`x="1" `, 10000) + "/>"), nil},
		"LargeButPermitted": {envelope("<a>" + strings.Repeat("x", soap.MaxAnswer-200) + "</a>"), nil},
	} {
		_, err := soap.ReadAnswer("", []byte(tc.text))
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(envelope(`<AuthenticateResponse ` + mirroring + `><IsSuccessful>true</IsSuccessful></AuthenticateResponse>`))
	f.Add(envelope(`<s:Fault><faultcode>s:Client</faultcode></s:Fault>`))
	f.Add(`<!DOCTYPE html>`)
	f.Add(`<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e "x">]><x>&e;</x>`)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := soap.ReadAnswer("", []byte(text))
		if err != nil {
			for _, known := range []error{soap.ErrTooLarge, soap.ErrHTML, soap.ErrSOAP12, soap.ErrUnsafe, soap.ErrNotSOAP, soap.ErrUnreadable} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatalf("an error of no kind: %v", err)
		}
		if plain, err := soap.ToUTF8("", []byte(text)); err != nil || !bytes.Contains(plain, []byte(soap.Namespace)) {
			t.Errorf("took %q for SOAP", text)
		}
		for _, m := range a.Members {
			if len(m) > 3*len(text) {
				t.Error("a member grew")
			}
		}
	})
}
