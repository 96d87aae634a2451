package output_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/lamplighter/lamplighter/internal/output"
)

const answer = `{"z":"last first","n":12,"f":1.5,"on":true,"none":null,"list":["a","b"],"empty":[],"o":{"x":{"y":"deep"},"e":{}},"items":[{"id":"1"},{"id":"2"}],"odd":"yes","lines":"a\nb"}`

func one(t *testing.T, format output.Format, doc string) string {
	t.Helper()
	var b strings.Builder
	if err := (output.Printer{Out: &b, Format: format}).PrintDocument([]byte(doc)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestOneInEachFormat(t *testing.T) {
	t.Parallel()
	want := `z            last first
n            12
f            1.5
on           true
list         a, b
o.x.y        deep
items[0].id  1
items[1].id  2
odd          yes
lines        a b
`
	if diff := cmp.Diff(want, one(t, output.Table, answer)); diff != "" {
		t.Error(diff)
	}
	want = `z: last first
"n": 12
f: 1.5
"on": true
none: null
list:
  - a
  - b
empty: []
o:
  x:
    "y": deep
  e: {}
items:
  - id: "1"
  - id: "2"
odd: "yes"
lines: |-
  a
  b
`
	if diff := cmp.Diff(want, one(t, output.YAML, answer)); diff != "" {
		t.Error(diff)
	}
	var back any
	if err := json.Unmarshal([]byte(one(t, output.JSON, answer)), &back); err != nil {
		t.Fatal(err)
	}
}

// FuzzYAMLSaysWhatJSONSays reads the YAML again and compares it with the JSON.
func FuzzYAMLSaysWhatJSONSays(f *testing.F) {
	for _, s := range []string{answer, `[]`, `"\u2028"`, `{"a":"- b","no":"~","1":"0x1f","":" "}`, `"2026-11-24"`, `{"<<":"x"}`, `"\u0000\ud83d\ude00"`, `1e400`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		var want any
		if json.Unmarshal([]byte(doc), &want) != nil || strings.Contains(doc, `\ud`) || strings.Contains(doc, "\ufeff") {
			return
		}
		var b strings.Builder
		if err := (output.Printer{Out: &b, Format: output.YAML}).PrintDocument([]byte(doc)); err != nil {
			return
		}
		var got any
		if err := yaml.Unmarshal([]byte(b.String()), &got); err != nil {
			t.Fatalf("%q became %q: %v", doc, b.String(), err)
		}
		if texts(got) != texts(want) {
			t.Errorf("%q became %q", doc, b.String())
		}
	})
}

// texts collects the strings of a document, which alone may be misread.
func texts(v any) string {
	switch v := v.(type) {
	case string:
		return "s" + v
	case []any:
		var b strings.Builder
		for _, item := range v {
			b.WriteString("," + texts(item))
		}
		return b.String()
	}
	return ""
}

func TestListInEachFormat(t *testing.T) {
	t.Parallel()
	items := []json.RawMessage{json.RawMessage(`{"id":"a","o":{"state":"open"}}`), json.RawMessage(`{"id":"longer\u001b[2J"}`)}
	columns := []output.Column{{Title: "ID", Path: "id"}, {Title: "STATE", Path: "o.state"}}
	for format, want := range map[output.Format]string{
		output.Table: "ID         STATE\na          open\nlonger[2J\n",
		output.YAML:  "- id: a\n  o:\n    state: open\n- id: \"longer\\e[2J\"\n",
		output.JSON:  "[\n  {\n    \"id\": \"a\",\n    \"o\": {\n      \"state\": \"open\"\n    }\n  },\n  {\n    \"id\": \"longer\\u001b[2J\"\n  }\n]\n",
	} {
		var b strings.Builder
		if err := (output.Printer{Out: &b, Format: format}).PrintList(items, columns, "none"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%s: %s", format, diff)
		}
	}
	for format, want := range map[output.Format]string{output.Table: "There is none.\n", output.JSON: "[]\n", output.YAML: "[]\n"} {
		var b strings.Builder
		if err := (output.Printer{Out: &b, Format: format}).PrintList(nil, columns, "There is none."); err != nil || b.String() != want {
			t.Errorf("%s: %q, %v", format, b.String(), err)
		}
	}
}

// TestTimesInTables: tables are for people, and show times to the millisecond; programs get all of them.
func TestTimesInTables(t *testing.T) {
	t.Parallel()
	for at, want := range map[string]string{
		"2026-11-26T16:26:09.531633786Z":      "2026-11-26T16:26:09.531Z",
		"2026-11-26T16:26:09.5316+01:00":      "2026-11-26T16:26:09.531+01:00",
		"2026-11-26T16:26:09.531Z":            "2026-11-26T16:26:09.531Z",
		"2026-11-26T16:26:09Z":                "2026-11-26T16:26:09Z",
		"2026-11-26T99:26:09.531633786Z":      "2026-11-26T99:26:09.531633786Z",
		"2026-11-26T16:26:09.531633786Z plus": "2026-11-26T16:26:09.531633786Z plus",
	} {
		doc := `{"at":"` + at + `"}`
		if got := one(t, output.Table, doc); got != "at  "+want+"\n" {
			t.Errorf("%s became %q", at, got)
		}
		if got := one(t, output.JSON, doc); !strings.Contains(got, at) {
			t.Errorf("%s became %q in JSON", at, got)
		}
	}
}

func TestColoursWhereAsked(t *testing.T) {
	t.Parallel()
	items := []json.RawMessage{json.RawMessage(`{"s":"failing"}`), json.RawMessage(`{"s":"healthy"}`), json.RawMessage(`{"s":"other"}`)}
	var b strings.Builder
	p := output.Printer{Out: &b, Format: output.Table, Colour: true}
	if err := p.PrintList(items, []output.Column{{Title: "S", Path: "s"}}, ""); err != nil {
		t.Fatal(err)
	}
	if want := "S\n\x1b[31mfailing\x1b[0m\n\x1b[32mhealthy\x1b[0m\nother\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
}

func TestLongCellsAreCut(t *testing.T) {
	t.Parallel()
	got := one(t, output.Table, `{"a":"`+strings.Repeat("ø", 500)+`"}`)
	if want := "a  " + strings.Repeat("ø", 119) + "…\n"; got != want {
		t.Errorf("%q", got)
	}
}

func TestOneRefusesWhatIsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{"", "{", `{"a":}`, strings.Repeat("[", 100) + strings.Repeat("]", 100)} {
		for _, format := range []output.Format{output.Table, output.YAML} {
			if err := (output.Printer{Out: &strings.Builder{}, Format: format}).PrintDocument([]byte(doc)); err == nil {
				t.Errorf("%s accepts %q", format, doc)
			}
		}
	}
}
