package delivery_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestStoredChangesComeBack(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1795449600123).UTC()
	for name, c := range map[string]tenant.Change{
		"Plain":  {ID: "chg_1", Type: tenant.Suspend, VersionName: "Release 8.4 R08", FileVersion: "8.4.12.1234", AcceptedAt: at},
		"Move":   {ID: "chg_2", Type: tenant.Move, PublicEndpoint: "sod3.superoffice.com", AcceptedAt: at, OccurredAt: at.Add(-time.Hour)},
		"Escape": {ID: "chg_3", Type: tenant.Upgrade, VersionName: "a\"b\\c\n<é>\u2028", FileVersion: "{},:"},
		"Number": {ID: "chg_Cust1_1795449600123", Type: tenant.Suspend, VersionName: "v", AcceptedAt: at},
		"Later":  {ID: "chg_Cust1_1795449600100", Type: tenant.Suspend, AcceptedAt: at},
		"NoTime": {ID: "chg_Cust1_1795449600100", Type: tenant.Suspend},
		"Others": {ID: "chg_Cust2_1795449600100", Type: tenant.Suspend, AcceptedAt: at},
		"Bare":   {ID: "chg_4", Type: tenant.Delete},
		"Past":   {ID: "chg_5", Type: tenant.Resume, OccurredAt: time.UnixMilli(-5).UTC()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.Tenant, c.Sequence = "Cust1", 7
			text := delivery.EncodeChange(c)
			if !json.Valid([]byte(text)) {
				t.Errorf("%s is no JSON", text)
			}
			got, err := delivery.DecodeChange(text, "Cust1", 7)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestChangesStoredInOtherSpellings(t *testing.T) {
	t.Parallel()
	want := tenant.Change{ID: "chg_1", Tenant: "Cust1", Sequence: 7, Type: tenant.Suspend, VersionName: "v"}
	for _, text := range []string{
		`{"v":1,"i":"chg_1","t":2,"n":"v"}`, `{ "n": "v", "t": 2, "i": "chg_1", "v": 1 }`, `{"v":1,"i":"chg_1","t":2,"n":"\u0076","x":[1]}`,
	} {
		got, err := delivery.DecodeChange(text, "Cust1", 7)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	for _, text := range []string{
		"", "{", "{}", "null", `{"v":2,"i":"chg_1","t":2}`, `{"v":3,"i":"chg_1","t":2}`, `{"v":2,"q":-1,"t":2}`, `{"v":2,"q":"1","t":2}`, `{"v":1,"i":"","t":2}`, `{"v":1,"i":"chg_1","t":9}`, `{"v":1,"i":"chg_1","t":258}`,
		`{"v":"1","i":"chg_1","t":2}`, `{"v":1,"i":5,"t":2}`, `{"v":1,"i":"chg_1","t":2`, `{"v":1,"i":"chg_1","t":2}}`, `{"v":01,"i":"chg_1","t":2}`,
		`{"v":1,"i":"chg_1","t":2,}`, `{"v":1 "i":"chg_1","t":2}`, `{"v":1,"i":"chg_1","t":2,"a":99999999999999999999}`,
	} {
		if c, err := delivery.DecodeChange(text, "Cust1", 7); !errors.Is(err, delivery.ErrBadPayload) {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
}

// The quick reader accepts nothing that encoding/json would read otherwise.
func FuzzDecodeChange(f *testing.F) {
	f.Add(`{"v":1,"i":"chg_1","t":2,"n":"v","f":"1","a":1795449600123}`)
	f.Add(`{"v":1,"i":"chg_1","t":2,"v":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		quick, err := delivery.DecodeChange(text, "Cust1", 7)
		// a space sends the same text to encoding/json
		slow, serr := delivery.DecodeChange(" "+text, "Cust1", 7)
		if (err == nil) != (serr == nil) {
			t.Fatalf("%q: %v, encoding/json: %v", text, err, serr)
		}
		if d := cmp.Diff(slow, quick); d != "" {
			t.Fatalf("%q: %s", text, d)
		}
	})
}

func BenchmarkDecodeChange(b *testing.B) {
	text := delivery.EncodeChange(tenant.Change{
		ID: "chg_Cust1000001_1795449600123", Tenant: "Cust1000001", Type: tenant.Suspend, VersionName: "Release 8.4 R08", FileVersion: "8.4.12.1234",
		AcceptedAt: time.Now(),
	})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := delivery.DecodeChange(text, "Cust1000001", 7); err != nil {
			b.Fatal(err)
		}
	}
}
