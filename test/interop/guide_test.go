package interop_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

const guidePath = root + "/docs/receiver-guide.md"

var (
	update = flag.Bool("update", false, "write the code and the example into the receiver guide")
	// block is a fenced block with a comment above it that says what it shows.
	block = regexp.MustCompile("(?ms)^<!-- (source|captured): ([^>]+) -->\n```([a-z]+)\n(.*?)^```$")
	// regionMark begins or ends a region, whatever the language's comments look like.
	regionMark = regexp.MustCompile(`^\s*(?://|#)\s*(region \w+|endregion)$`)
)

func TestGuide(t *testing.T) {
	t.Parallel()
	sent := capture(t)
	if *update {
		updateGuide(t, sent)
	}
	guide := readGuide(t)
	t.Run("ShowsTestedCode", func(t *testing.T) { showsTestedCode(t, guide) })
	t.Run("ShowsARealRequest", func(t *testing.T) { showsARealRequest(t, guide, sent) })
}

// showsTestedCode: the code in the guide is the code that is tested, and what verifies is shown in
// every language.
func showsTestedCode(t *testing.T, guide string) {
	t.Helper()
	shown := map[string]int{}
	for _, b := range block.FindAllStringSubmatch(guide, -1) {
		if b[1] != "source" {
			continue
		}
		shown[b[2]]++
		if diff := cmp.Diff(region(t, b[2]), b[4]); diff != "" {
			t.Errorf("%s differs from its source; run TestGuide with -update (-source +guide):\n%s", b[2], diff)
		}
	}
	for _, file := range []string{"javascript/receiver.mjs", "python/receiver.py", "csharp/Receiver.cs", "go/receiver.go"} {
		for _, name := range []string{"signature", "token"} {
			if source := "docs/receivers/" + file + " " + name; shown[source] != 1 {
				t.Errorf("the guide shows %s %d times, want once", source, shown[source])
			}
		}
	}
	for _, language := range []string{"```js", "```python", "```csharp", "```go\n"} {
		if all, marked := strings.Count(guide, language), len(regexp.MustCompile(`-->\n`+language).FindAllString(guide, -1)); all != marked {
			t.Errorf("%d blocks of %q, but only %d name their source", all, language, marked)
		}
	}
}

// readGuide reads the guide.
func readGuide(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(guidePath)
	if err != nil {
		t.Fatalf("read the guide: %v", err)
	}
	return string(text)
}

// region reads a part of a file, without the indentation that all its lines share. source is the
// file's path and the region's name.
func region(t *testing.T, source string) string {
	t.Helper()
	file, name, _ := strings.Cut(source, " ")
	text, err := os.ReadFile(root + "/" + file)
	if err != nil {
		t.Fatalf("read the code of the guide: %v", err)
	}
	var lines []string
	inside, ended := false, false
	for l := range strings.Lines(string(text)) {
		mark := regionMark.FindStringSubmatch(strings.TrimRight(l, "\n"))
		switch {
		case mark == nil && inside:
			lines = append(lines, l)
		case mark != nil && inside:
			inside, ended = false, true
		case mark != nil:
			inside = mark[1] == "region "+name
		}
	}
	if !ended {
		t.Fatalf("%s: no region %q that ends", file, name)
	}
	return strings.Trim(dedent(lines), "\n") + "\n"
}

func dedent(lines []string) string {
	indent := -1
	for _, l := range lines {
		if strings.TrimSpace(l) == "" {
			continue
		}
		if n := len(l) - len(strings.TrimLeft(l, " \t")); indent < 0 || n < indent {
			indent = n
		}
	}
	var b strings.Builder
	for _, l := range lines {
		if strings.TrimSpace(l) == "" {
			b.WriteString("\n")
			continue
		}
		b.WriteString(l[max(indent, 0):])
	}
	return b.String()
}

// captured is a request as it came in.
type captured struct {
	header http.Header
	body   []byte
}

// headerOrder is how the guide lists the headers; a request has these and no others.
func headerOrder() []string {
	return []string{
		"Content-Type", "User-Agent", "Content-Length", "webhook-id", "webhook-timestamp", "webhook-signature",
		"x-state-sequence", "x-state-superseded",
	}
}

func capture(t *testing.T) captured {
	t.Helper()
	requests := make(chan captured, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- captured{r.Header, body}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	p := newPlatform(t, newKeyring(t))
	wantDelivered(t, p.post(t, server.URL, attempt{message: change(tenant.Move, firstSequence)}))
	return <-requests
}

func (c captured) String() string {
	var b strings.Builder
	b.WriteString("POST /hook HTTP/1.1\nHost: partner.example\n")
	for _, name := range headerOrder() {
		fmt.Fprintf(&b, "%s: %s\n", name, c.header.Get(name))
	}
	return b.String() + "\n" + string(c.body) + "\n"
}

// showsARealRequest: the example in the guide is a request as they are sent today, and its
// signature is right.
func showsARealRequest(t *testing.T, guide string, sent captured) {
	t.Helper()
	blocks := map[string]string{}
	for _, b := range block.FindAllStringSubmatch(guide, -1) {
		if b[1] == "captured" {
			blocks[b[2]] = b[4]
		}
	}
	head, body, _ := strings.Cut(blocks["request"], "\n\n")
	body = strings.TrimSuffix(body, "\n")
	shown := http.Header{}
	for l := range strings.Lines(head) {
		if name, value, ok := strings.Cut(strings.TrimSpace(l), ": "); ok && name != "Host" {
			shown.Set(name, value)
		}
	}
	if diff := cmp.Diff(sortedKeys(sent.header), sortedKeys(shown)); diff != "" {
		t.Errorf("headers (-sent +guide):\n%s", diff)
	}
	if diff := cmp.Diff(properties(t, sent.body), properties(t, []byte(body))); diff != "" {
		t.Errorf("properties (-sent +guide):\n%s", diff)
	}
	webhook, err := standardwebhooks.NewWebhook(exampleSecret)
	if err != nil {
		t.Fatalf("prepare verifier: %v", err)
	}
	if err := webhook.VerifyIgnoringTimestamp([]byte(body), shown); err != nil {
		t.Errorf("the signature of the example: %v", err)
	}
	for i, name := range []string{"token header", "token claims"} {
		if diff := cmp.Diff(tokenPart(t, []byte(body), i), blocks[name]); diff != "" {
			t.Errorf("%s (-in Token +guide):\n%s", name, diff)
		}
	}
}

// updateGuide writes the example and the code into the guide.
func updateGuide(t *testing.T, c captured) {
	t.Helper()
	text := block.ReplaceAllStringFunc(readGuide(t), func(found string) string {
		b := block.FindStringSubmatch(found)
		content := ""
		switch {
		case b[1] == "source":
			content = region(t, b[2])
		case b[2] == "request":
			content = c.String()
		case b[2] == "token header":
			content = tokenPart(t, c.body, 0)
		case b[2] == "token claims":
			content = tokenPart(t, c.body, 1)
		}
		return fmt.Sprintf("<!-- %s: %s -->\n```%s\n%s```", b[1], b[2], b[3], content)
	})
	if err := os.WriteFile(guidePath, []byte(text), 0o644); err != nil {
		t.Fatalf("write the guide: %v", err)
	}
}

// tokenPart decodes a segment of the Token in a body.
func tokenPart(t *testing.T, body []byte, segment int) string {
	t.Helper()
	var n struct{ Token string }
	if err := json.Unmarshal(body, &n); err != nil {
		t.Fatalf("read the example's body: %v", err)
	}
	segments := strings.Split(n.Token, ".")
	if len(segments) != 3 {
		t.Fatalf("the example's Token has %d segments", len(segments))
	}
	raw, err := base64.RawURLEncoding.DecodeString(segments[segment])
	if err != nil {
		t.Fatalf("decode Token: %v", err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, raw, "", "  "); err != nil {
		t.Fatalf("read Token: %v", err)
	}
	return pretty.String() + "\n"
}

// properties lists the names of an object in their order.
func properties(t *testing.T, text []byte) []string {
	t.Helper()
	var names []string
	decoder := json.NewDecoder(bytes.NewReader(text))
	for depth := 0; ; {
		token, err := decoder.Token()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatalf("read the properties of %q: %v", text, err)
		}
		if delim, ok := token.(json.Delim); ok {
			depth += map[json.Delim]int{'{': 1, '}': -1}[delim]
			continue
		}
		names = append(names, token.(string))
		if _, err := decoder.Token(); err != nil { // its value, a text or a number
			t.Fatalf("read the properties of %q: %v", text, err)
		}
	}
}

func sortedKeys(h http.Header) []string {
	keys := make([]string, 0, len(h))
	for k := range h {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
