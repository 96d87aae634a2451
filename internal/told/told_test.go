package told_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/told"
)

var update = flag.Bool("update", false, "write docs/reasons.md anew")

func TestTheTableIsWhole(t *testing.T) {
	t.Parallel()
	if n := len(told.AllCauses()); n > 250 {
		t.Fatalf("%d causes: a Cause has one byte", n)
	}
	names := map[string]bool{}
	for _, c := range told.AllCauses() {
		if names[c.String()] || c.String() == "" || c.IsZero() || told.FindCause(c.String()) != c {
			t.Errorf("cause %q is there twice, or not found by its name", c)
		}
		names[c.String()] = true
		for _, k := range partner.AllEndpointKinds() {
			words, advice := c.Description(k), c.Advice(k)
			if words == "" || strings.HasSuffix(words, ".") || words == c.String() {
				t.Errorf("%s: words %q", c, words)
			}
			if advice != "" && !strings.HasSuffix(advice, ".") {
				t.Errorf("%s: advice %q", c, advice)
			}
		}
	}
	for _, r := range delivery.AllReasons() {
		if r.Cause().String() != r.String() || r.Cause().Advice(partner.StateChange) == "" != (r == delivery.ReasonNone) {
			t.Errorf("the reason %s of deliveries has no row of its own, or no advice", r)
		}
	}
	for _, r := range health.AllReasons() {
		if r.Cause().String() != string(r) || r.IsFailing() && r.Cause().Advice(partner.Mirroring) == "" {
			t.Errorf("the reason %s of probes has no row of its own, or no advice", r)
		}
	}
	for _, l := range partner.AllLicenses() {
		if told.FindCause(string(l)).String() != string(l) {
			t.Errorf("the licence %s has no row", l)
		}
	}
	for _, r := range []partner.OffReason{partner.OffGone, partner.OffFailing} {
		if told.FindCause(string(r)).String() != string(r) {
			t.Errorf("the reason %s for switching off has no row", r)
		}
	}
}

// TestStrangersAreToldTheSame: a name that does not exist and one that leads inside are one reason, and every other cause is its own.
func TestStrangersAreToldTheSame(t *testing.T) {
	t.Parallel()
	for _, c := range told.AllCauses() {
		want := c.String()
		if want == "dns" || want == "blocked_address" {
			want = "unreachable_name"
		}
		for _, k := range partner.AllEndpointKinds() {
			if got := c.PublicReason().InfoFor(k); got != told.FindCause(want).InfoFor(k) || got.Reason.String() != want {
				t.Errorf("of %s strangers are told %v", c, got)
			}
		}
	}
	if told.UnreachableReason() != told.FindCause("dns").PublicReason() {
		t.Error("Unreachable is something else")
	}
}

// TestOnlyTheTableSpeaks: a name that is not in the table gives the cause unknown, and a Text has no other origin.
func TestOnlyTheTableSpeaks(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "dial tcp 10.1.2.3:443", "DNS", "dns ", "reason(99)"} {
		c := told.FindCause(text)
		if text == "" {
			if !c.IsZero() || !c.PublicReason().IsZero() || c.String() != "" {
				t.Errorf("of nothing, %q is told", c)
			}
			continue
		}
		if c.String() != "unknown" || strings.Contains(fmt.Sprint(c.InfoFor(partner.ERPSync)), text) {
			t.Errorf("%q is told as %v", text, c.InfoFor(partner.ERPSync))
		}
	}
	for _, of := range []any{told.Text{}, told.Reason{}, told.Cause{}} {
		for f := range reflect.TypeOf(of).Fields() {
			if f.IsExported() {
				t.Errorf("%T can be made of anything by its field %s", of, f.Name)
			}
		}
	}
	b, err := json.Marshal(told.FindCause("timeout").PublicReason().InfoFor(partner.StateChange))
	if err != nil || !strings.HasPrefix(string(b), `{"reason":"timeout","words":"it did not answer in time","advice":"Check`) {
		t.Errorf("as JSON: %s, %v", b, err)
	}
	if b, err = json.Marshal(told.FailureInfo{}); err != nil || string(b) != "{}" {
		t.Errorf("nothing as JSON: %s, %v", b, err)
	}
}

// TestTheDocument: docs/reasons.md is the table.
func TestTheDocument(t *testing.T) {
	t.Parallel()
	const path = "../../docs/reasons.md"
	got := document()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s is not the table: go test ./internal/told -update", path)
	}
}

func document() string {
	var b strings.Builder
	b.WriteString(`# Reasons

What an endpoint failed at, in words, and what to do about it: ` + "`reason`, `words` and `advice`" + ` of deliveries, incidents, health, tests and
` + "`why`" + `; mails say the same. The set is closed. These texts never contain an error's text or a server's answer. Those are in ` + "`detail` and `excerpt`" + `,
only for operators and admins.

Partners and mails get ` + "`unreachable_name`" + ` in the place of ` + "`dns` and `blocked_address`" + `, so that they cannot find out which internal names exist.

This page is made from the table in ` + "`internal/told`" + `; a test compares them. Where two texts stand in a cell, the first is said of a notification,
the second of calls of the platform's engines and of probes.

| reason | the endpoint: "it …" | what to do |
|---|---|---|
`)
	for _, c := range told.AllCauses() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c, cell(c.Description), cell(c.Advice))
	}
	return b.String()
}

// cell is what a text says of a notification and, if that is another, of a call.
func cell(text func(partner.EndpointKind) string) string {
	push, call := text(partner.StateChange), text(partner.ERPSync)
	if push == call {
		return push
	}
	return push + "<br>" + call
}
