package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestGoals(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		result Result
		met    bool
	}{
		"RatioReached":    {newResult("a", "x", 10).beside(10).ratioAtLeast(1), true},
		"RatioMissed":     {newResult("a", "x", 9.99).beside(10).ratioAtLeast(1), false},
		"RatioUnknown":    {newResult("a", "x", 9).beside(0).ratioAtLeast(0.5), false},
		"WithinAbove":     {newResult("a", "x", 12).beside(10).ratioWithinFifth(), true},
		"WithinTooMuch":   {newResult("a", "x", 12.1).beside(10).ratioWithinFifth(), false},
		"WithinTooLittle": {newResult("a", "x", 7.9).beside(10).ratioWithinFifth(), false},
		"AtLeastReached":  {newResult("a", "x", 5).atLeast(5), true},
		"AtMostMissed":    {newResult("a", "x", 5.01).atMost(5), false},
		"AsShown":         {newResult("a", "x", 123456).atLeast(123500), true}, // four digits
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.result.Met == nil || *tc.result.Met != tc.met {
				t.Errorf("%s: met is not %v", tc.result.line(), tc.met)
			}
		})
	}
}

func TestResultsAsJSON(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "sub", "results.json")
	want := []Result{newResult("with", "ms", 2).beside(4).atMost(3), newResult("without", "ms", 1)}
	if err := writeJSON(name, want); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var raw []map[string]any
	if err := json.Unmarshal(text, &raw); err != nil {
		t.Fatal(err)
	}
	wantRaw := []map[string]any{
		{"name": "with", "value": 2.0, "unit": "ms", "reference": 4.0, "ratio": 0.5, "goal": "<= 3 ms", "met": true},
		{"name": "without", "value": 1.0, "unit": "ms", "reference": nil, "ratio": nil, "goal": "", "met": nil},
	}
	if diff := cmp.Diff(wantRaw, raw); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, tc := range []struct{ p, want float64 }{{0.5, 50}, {0.99, 99}, {1, 100}, {0, 1}} {
		if got := percentile(hundred, tc.p); got != tc.want {
			t.Errorf("percentile %v = %v, want %v", tc.p, got, tc.want)
		}
	}
	if got := percentile([]float64{7}, 0.99); got != 7 {
		t.Errorf("percentile of one = %v", got)
	}
}

// Value and reference shown belong to one round.
func TestMedianPair(t *testing.T) {
	t.Parallel()
	got := medianPair([]pair{{100, 100}, {30, 60}, {90, 300}})
	if got != (pair{30, 60}) {
		t.Errorf("median pair = %v, want that of ratio 0.5", got)
	}
}

func TestTallyCountsEachOnce(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	c := r.expect(3, 2, 1, 3, true)
	now := time.Unix(100, 0)
	body := func(name string) []byte {
		return []byte(`{"ChangeType":2,"ContextIdentifier":"Cust1","VersionName":"` + name + `","FileVersion":"1"}`)
	}
	for _, ignored := range []struct {
		app  int
		name string
	}{{1, "r2.0"}, {1, "r3.2"}, {0, "r3.0"}, {3, "r3.0"}, {1, "r3"}, {1, "10.3"}, {1, ""}} {
		c.take(ignored.app, body(ignored.name), now)
	}
	if n := c.count.Load(); n != 0 {
		t.Fatalf("%d counted of another epoch, sample or app", n)
	}
	c.take(1, body(versionName(3, 0)), now)
	c.take(1, body(versionName(3, 0)), now.Add(time.Hour))
	c.take(1, body(versionName(3, 1)), now)
	c.take(2, body(versionName(3, 0)), now)
	select {
	case <-c.done:
		t.Fatal("done before all arrived")
	default:
	}
	c.take(2, body(versionName(3, 1)), now.Add(3*time.Second))
	<-c.begun
	<-c.done
	if c.repeated.Load() != 1 || c.rate() != 1 {
		t.Errorf("repeated %d, rate %v; want 1 and 1/s", c.repeated.Load(), c.rate())
	}
	sent := []time.Time{now.Add(-time.Millisecond), now.Add(-time.Millisecond)}
	if got := c.lags(sent, 1, 2); got != (lag{1, 1}) {
		t.Errorf("lags of app 1 = %v", got)
	}
}

func TestClientSent(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		`+1.5 [0 127.0.0.1:4] "evalsha" "x" "lamplighter:{a}:due"`: true,
		`+1.5 [0 lua] "hget" "lamplighter:{a}:mailbox" "off"`:      false,
		`+1.5 [0 127.0.0.1:4] "set" "k" "[0 lua] x"`:               true,
		"+OK": false,
	} {
		if got := clientSent(line); got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}
