package soap_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"github.com/lamplighter/lamplighter/internal/soap"
)

// said is what each answer says, in letters that no two encodings write alike.
const said = "Blåbær – fjørå"

func faultSaying(text string) string {
	return envelope(`<s:Fault><faultcode>s:Server</faultcode><faultstring>` + text + `</faultstring></s:Fault>`)
}

func encoded(t *testing.T, e encoding.Encoding, text string) string {
	t.Helper()
	if e == nil {
		return text
	}
	out, err := e.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func declaring(name string) string { return `<?xml version="1.0" encoding="` + name + `"?>` }

// TestEncodings: each encoding that services use, by each way of declaring it.
func TestEncodings(t *testing.T) {
	t.Parallel()
	const latin = "Blåbær, fjørå" // without the dash, which Latin-1 lacks
	big, little := unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM), unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	xml := func(charset string) string { return "text/xml; charset=" + charset }
	type answer struct {
		header, mark, declaration string
		in                        encoding.Encoding
		text                      string
	}
	right := map[string]answer{
		"UTF8Nothing":            {"", "", "", nil, said},
		"UTF8Header":             {xml("utf-8"), "", "", nil, said},
		"UTF8HeaderQuoted":       {`text/xml;charset="UTF-8"`, "", declaring("utf-8"), nil, said},
		"UTF8Declaration":        {"text/xml", "", declaring("UTF-8"), nil, said},
		"UTF8Mark":               {"text/xml", "\xef\xbb\xbf", "", nil, said},
		"UTF8MarkAgainstHeader":  {xml("iso-8859-1"), "\xef\xbb\xbf", declaring("utf-8"), nil, said},
		"Latin1Header":           {xml("ISO-8859-1"), "", "", charmap.ISO8859_1, latin},
		"Latin1Declaration":      {"text/xml", "", declaring("iso-8859-1"), charmap.ISO8859_1, latin},
		"Latin1Both":             {xml("iso-8859-1"), "", declaring("ISO-8859-1"), charmap.ISO8859_1, latin},
		"Latin1SingleQuotes":     {"text/xml", "", `<?xml version='1.0' encoding='latin1' standalone='yes'?>`, charmap.ISO8859_1, latin},
		"Latin1BehindAUTF8Proxy": {xml("utf-8"), "", declaring("ISO-8859-1"), charmap.ISO8859_1, latin},
		"Latin1UnknownHeader":    {xml("x-unknown"), "", declaring("ISO-8859-1"), charmap.ISO8859_1, latin},
		"Latin9Header":           {xml("iso-8859-15"), "", "", charmap.ISO8859_15, latin + " €"},
		"Windows1252Header":      {xml("windows-1252"), "", "", charmap.Windows1252, said},
		"Windows1252Declaration": {"application/xml", "", declaring("Windows-1252"), charmap.Windows1252, said},
		"Windows1252Both":        {xml("cp1252"), "", declaring("windows-1252"), charmap.Windows1252, said},
		"Windows1251Header":      {xml("windows-1251"), "", "", charmap.Windows1251, "Черника"},
		"Windows1250Declaration": {"", "", declaring("windows-1250"), charmap.Windows1250, "Borůvka"},
		"UTF16BigMark":           {"text/xml", "\xfe\xff", "", big, said},
		"UTF16LittleMark":        {"text/xml", "\xff\xfe", "", little, said},
		"UTF16BigNothing":        {"text/xml", "", "", big, said},
		"UTF16LittleHeader":      {xml("utf-16"), "", "", little, said},
		"UTF16BigHeader":         {xml("UTF-16BE"), "", declaring("utf-16"), big, said},
		"UTF16LittleDeclaration": {"text/xml", "", declaring("utf-16"), little, said},
		"UTF16MarkHeaderBoth":    {xml("utf-16"), "\xff\xfe", declaring("utf-16"), little, said},
		"UTF8CalledUTF16":        {xml("utf-8"), "", declaring("utf-16"), nil, said},
		"ASCIICalledUnknown":     {xml("utf-8"), "", declaring("x-unknown"), nil, "plain"},
		"HeaderNotWellFormed":    {"text/xml; charset", "", declaring("iso-8859-1"), charmap.ISO8859_1, latin},
	}
	for name, a := range right {
		got, err := soap.ReadAnswer(a.header, []byte(a.mark+encoded(t, a.in, a.declaration+faultSaying(a.text))))
		if err != nil || got.Fault == nil || got.Fault.Text != a.text {
			t.Errorf("%s: %+v, %v", name, got.Fault, err)
		}
	}
	broken := map[string]struct{ header, text string }{
		"Latin1Undeclared":       {"text/xml", encoded(t, charmap.ISO8859_1, faultSaying(latin))},
		"Latin1CalledUTF8":       {xml("utf-8"), encoded(t, charmap.ISO8859_1, faultSaying(latin))},
		"Latin1DeclaredUTF8":     {"text/xml", encoded(t, charmap.ISO8859_1, declaring("utf-8")+faultSaying(latin))},
		"Windows1252NoSuchByte":  {xml("windows-1252"), faultSaying("\x81")},
		"UTF16OddLength":         {"text/xml", "\xff\xfe" + encoded(t, little, faultSaying(said)) + "x"},
		"UTF16HalfOfAPair":       {"text/xml", "\xfe\xff" + encoded(t, big, faultSaying("xx")) + "\xd8\x00"},
		"UnknownHeader":          {xml("ebcdic-cp-us"), faultSaying("plain")},
		"UnknownDeclaration":     {"text/xml", declaring("shift_jis") + faultSaying("plain")},
		"MarkAndThenLatin1":      {xml("iso-8859-1"), "\xef\xbb\xbf" + encoded(t, charmap.ISO8859_1, faultSaying(latin))},
		"MultipartWithoutParts":  {`multipart/related; boundary="b"`, faultSaying("plain")},
		"MultipartWithoutStart":  {`multipart/related; boundary="b"; start="<c>"`, "--b\r\nContent-Id: <a>\r\n\r\n" + faultSaying("plain") + "\r\n--b--\r\n"},
		"MultipartUnnamed":       {`multipart/related`, "--b\r\n\r\n" + faultSaying("plain") + "\r\n--b--\r\n"},
		"MultipartBrokenBase64":  {`multipart/related; boundary="b"`, "--b\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!\r\n--b--\r\n"},
		"MultipartUnknownLetter": {`multipart/related; boundary="b"`, "--b\r\nContent-Type: text/xml; charset=x\r\n\r\n" + faultSaying("plain") + "\r\n--b--\r\n"},
	}
	for name, a := range broken {
		if got, err := soap.ReadAnswer(a.header, []byte(a.text)); !errors.Is(err, soap.ErrUnreadable) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	t.Logf("%d right, %d broken", len(right), len(broken))
}

// TestMultipart reads answers of services that use MTOM.
func TestMultipart(t *testing.T) {
	t.Parallel()
	const header = `multipart/related; type="application/xop+xml"; start="<root>"; boundary="uuid:1"; start-info="text/xml"`
	part := func(head, body string) string { return "--uuid:1\r\n" + head + "\r\n\r\n" + body + "\r\n" }
	root := "Content-Id: <root>\r\nContent-Type: application/xop+xml; charset=%s; type=\"text/xml\"\r\nContent-Transfer-Encoding: %s"
	latin, err := charmap.ISO8859_1.NewEncoder().String(faultSaying("Blåbær"))
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"Binary":     part(fmt.Sprintf(root, "utf-8", "8bit"), faultSaying("Blåbær")),
		"Attachment": part("Content-Id: <a>\r\nContent-Type: image/png", "\x89PNG\x00\xff") + part(fmt.Sprintf(root, "UTF-8", "binary"), faultSaying("Blåbær")),
		"Latin1":     part(fmt.Sprintf(root, "iso-8859-1", "binary"), latin),
		"Base64":     part(fmt.Sprintf(root, "utf-8", "base64"), base64.StdEncoding.EncodeToString([]byte(faultSaying("Blåbær")))),
		"Quoted":     part(fmt.Sprintf(root, "utf-8", "quoted-printable"), strings.ReplaceAll(strings.ReplaceAll(faultSaying("Bl=C3=A5b=C3=A6r"), `="`, `=3D"`), "\n", "")),
	} {
		got, err := soap.ReadAnswer(header, []byte(body+"--uuid:1--\r\n"))
		if err != nil || got.Fault == nil || got.Fault.Text != "Blåbær" {
			t.Errorf("%s: %+v, %v", name, got.Fault, err)
		}
	}
}
