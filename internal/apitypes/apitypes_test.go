package apitypes_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/apitypes"
)

type inner struct {
	Reason string `json:"reason,omitempty"`
	Advice string `json:"advice,omitempty"`
}

type private struct {
	Detail string `json:"detail,omitempty"`
}

type color map[string]string

func (color) Keys() []string { return []string{"blue", "red"} }

type item struct {
	Text string `json:"text" api:"write"`
}

type sample struct {
	_        struct{}        `api:"closed"`
	Name     string          `json:"name" api:"write,required,minLength=1,maxLength=9" doc:"Its name."`
	Count    int             `json:"count" api:"write,min=0,max=3"`
	Sequence *int64          `json:"sequence,omitempty"`
	Share    float64         `json:"share"`
	On       bool            `json:"on" api:"write"`
	Tags     []string        `json:"tags" api:"write,minItems=1,maxItems=2,unordered"`
	Items    []item          `json:"items,omitempty" api:"write"`
	Colors   color           `json:"colors" api:"write"`
	Others   map[string]bool `json:"others"`
	Raw      json.RawMessage `json:"raw,omitempty"`
	At       time.Time       `json:"at,omitzero"`
	Word     string          `json:"word" api:"write,ref=Word"`
	Secret   string          `json:"secret,omitempty" api:"refused" doc:"It is made."`
	Hidden   string          `json:"-"`
	internal string          //nolint:unused // a field that is no member
	inner    `always:"reason"`
	*private
}

func describe(t *testing.T, mode apitypes.Mode) string {
	t.Helper()
	types := []apitypes.Named{apitypes.NameType("Sample", mode, sample{}, "A sample."), apitypes.NameType("ItemPut", apitypes.Put, item{}, "")}
	made := apitypes.Describe(types, map[reflect.Type]string{reflect.TypeFor[time.Month](): "Month"})
	b, err := json.MarshalIndent(made["Sample"], "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	for mode, want := range map[apitypes.Mode][]string{
		apitypes.Answer: {
			`"required":["name","count","share","on","tags","colors","others","word","reason"]`, `"additionalProperties":false`, `"description":"A sample."`,
			`"sequence":{"format":"int64","type":"integer"}`, `"share":{"type":"number"}`, `"raw":{}`, `"at":{"$ref":"#/components/schemas/Time"}`,
			`"word":{"$ref":"#/components/schemas/Word"}`, `"others":{"additionalProperties":{"type":"boolean"},"type":"object"}`,
			`"detail":{"type":"string"}`, `"secret":{"description":"Itismade.","type":"string"}`, `"name":{"description":"Itsname.","type":"string"}`,
			`"colors":{"properties":{"blue":{"type":"string"},"red":{"type":"string"}},"type":"object"}`,
		},
		apitypes.Put: {
			`"required":["name"]`, `"name":{"description":"Itsname.","maxLength":9,"minLength":1,"type":"string"}`,
			`"count":{"maximum":3,"minimum":0,"type":"integer"}`, `"tags":{"items":{"type":"string"},"maxItems":2,"minItems":1,"type":"array"}`,
			`"items":{"items":{"$ref":"#/components/schemas/ItemPut"},"type":"array"}`,
		},
		apitypes.Patch: {
			`"count":{"maximum":3,"minimum":0,"type":["integer","null"]}`, `"on":{"type":["boolean","null"]}`,
			`"colors":{"properties":{"blue":{"type":["string","null"]},"red":{"type":["string","null"]}},"type":["object","null"]}`,
			`"items":{"items":{"$ref":"#/components/schemas/ItemPut"},"type":["array","null"]}`,
			`"word":{"oneOf":[{"$ref":"#/components/schemas/Word"},{"type":"null"}]}`,
		},
	} {
		got := strings.Join(strings.Fields(describe(t, mode)), "")
		for _, part := range want {
			if !strings.Contains(got, strings.ReplaceAll(part, " ", "")) && !strings.Contains(got, part) {
				t.Errorf("mode %d: no %s in\n%s", mode, part, got)
			}
		}
		if mode != apitypes.Answer && (strings.Contains(got, `"sequence"`) || strings.Contains(got, `"secret"`)) {
			t.Errorf("mode %d: a write has members that only answers have: %s", mode, got)
		}
		if mode == apitypes.Patch && strings.Contains(got, `"required"`) {
			t.Errorf("a patch requires something: %s", got)
		}
	}
}

func TestShapeOf(t *testing.T) {
	t.Parallel()
	shape := apitypes.ShapeOf(reflect.TypeFor[sample]())
	var names []string
	for _, m := range shape.Members {
		names = append(names, m.Name)
		if v := reflect.ValueOf(sample{private: &private{}}).FieldByIndex(m.Index); v.Type() != m.Type && v.Type() != reflect.PointerTo(m.Type) {
			t.Errorf("the index of %s leads to a %v", m.Name, v.Type())
		}
	}
	if got, want := strings.Join(names, " "), "name count sequence share on tags items colors others raw at word secret reason advice detail"; got != want {
		t.Errorf("members %s, want %s", got, want)
	}
	if !shape.Closed || !shape.Members[5].Unordered || shape.Members[12].Access != apitypes.Refused {
		t.Errorf("%+v", shape)
	}
}

func TestWrongTagsAreFound(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]reflect.Type{
		"Word": reflect.TypeFor[struct {
			A string `json:"a" api:"writable"`
		}](),
		"NoValue": reflect.TypeFor[struct {
			A string `json:"a" api:"maxLength"`
		}](),
		"NoInt": reflect.TypeFor[struct {
			A string `json:"a" api:"maxLength=x"`
		}](),
		"Value": reflect.TypeFor[struct {
			A string `json:"a" api:"write=1"`
		}](),
		"NoBounds": reflect.TypeFor[struct {
			A int `json:"a" api:"write"`
		}](),
		"NoReason": reflect.TypeFor[struct {
			A string `json:"a" api:"refused"`
		}](),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the tag was accepted", name)
				}
			}()
			apitypes.ShapeOf(wrong)
		}()
	}
}
