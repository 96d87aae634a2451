package secret_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/lamplighter/lamplighter/internal/secret"
)

const confidential = "correct-horse-battery"

func TestTextNeverPrints(t *testing.T) {
	t.Parallel()
	type exported struct{ Password secret.Text }
	type hidden struct{ password secret.Text }
	text := secret.New(confidential)
	values := map[string]any{
		"value": text, "pointer": &text, "slice": []secret.Text{text}, "map": map[string]secret.Text{"k": text},
		"exported field": exported{text}, "unexported field": hidden{text}, "pointer to struct": &hidden{text},
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s", "%T"} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, confidential) || strings.Contains(got, fmt.Sprintf("%x", confidential)) {
				t.Errorf("%s with %s shows the value: %s", name, verb, got)
			}
		}
	}
	if got := fmt.Sprintf("%v %s %#v", text, text, text); got != "[redacted] [redacted] [redacted]" {
		t.Errorf("formatted = %q", got)
	}
	if got := text.String() + text.GoString(); got != "[redacted][redacted]" {
		t.Errorf("String and GoString = %q", got)
	}
}

func TestTextNeverEncodes(t *testing.T) {
	t.Parallel()
	type config struct {
		Password secret.Text `json:"password" yaml:"password"`
	}
	c := config{secret.New(confidential)}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("started", "password", c.Password, "config", c, "group", slog.GroupValue(slog.Any("p", &c.Password)))
	slog.New(slog.NewJSONHandler(&log, nil)).Info("started", "password", c.Password, "config", c)
	for name, encode := range map[string]func(any) ([]byte, error){
		"json": json.Marshal, "xml": xml.Marshal, "yaml": yaml.Marshal,
		"slog": func(any) ([]byte, error) { return log.Bytes(), nil },
	} {
		got, err := encode(c)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if bytes.Contains(got, []byte(confidential)) || !bytes.Contains(got, []byte("[redacted]")) {
			t.Errorf("%s encodes as %s", name, got)
		}
	}
}

func TestTextReveals(t *testing.T) {
	t.Parallel()
	text := secret.New(confidential)
	if text.Reveal() != confidential || text.IsZero() {
		t.Errorf("Reveal, IsZero = %q, %t", text.Reveal(), text.IsZero())
	}
	var zero secret.Text
	if zero.Reveal() != "" || !zero.IsZero() || !secret.New("").IsZero() {
		t.Error("the zero Text is not the empty one")
	}
	if !text.Equal(secret.New(confidential)) || text.Equal(zero) || text.Equal(secret.New(confidential+"x")) || !zero.Equal(secret.New("")) {
		t.Error("Equal does not compare values")
	}
	if !reflect.DeepEqual(text, secret.New(confidential)) || reflect.DeepEqual(text, zero) {
		t.Error("DeepEqual does not compare values")
	}
}

func TestTextDecodes(t *testing.T) {
	t.Parallel()
	var c struct {
		Password secret.Text `json:"password" yaml:"password"`
	}
	if err := json.Unmarshal([]byte(`{"password":"from json"}`), &c); err != nil || c.Password.Reveal() != "from json" {
		t.Errorf("json: %q, %v", c.Password.Reveal(), err)
	}
	if err := yaml.Unmarshal([]byte("password: from yaml\n"), &c); err != nil || c.Password.Reveal() != "from yaml" {
		t.Errorf("yaml: %q, %v", c.Password.Reveal(), err)
	}
	err := json.Unmarshal([]byte(`{"password":"[redacted]"}`), &c)
	if !errors.Is(err, secret.ErrMasked) || c.Password.Reveal() != "from yaml" {
		t.Errorf("a placeholder was taken as a secret: %q, %v", c.Password.Reveal(), err)
	}
}
