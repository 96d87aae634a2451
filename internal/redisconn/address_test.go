package redisconn_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/secret"
)

func TestMain(m *testing.M) { redistest.Main(m) }

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"redis://127.0.0.1:6379/0":                     "single redis://127.0.0.1:6379/0",
		"redis://localhost":                            "single redis://localhost:6379/0",
		"rediss://user:p%40ss@redis.example:6380/3":    "single rediss://redis.example:6380/3",
		"redis://:password@h/":                         "single redis://h:6379/0",
		"redis://u:p@ss@h:1/1":                         "single redis://h:1/1",
		"redis://[::1]:6379/2":                         "single redis://[::1]:6379/2",
		"redis://[::1]":                                "single redis://[::1]:6379/0",
		"redis+sentinel://a:1,b:2,c/main/4":            "sentinel redis+sentinel://a:1,b:2,c:26379/main/4",
		"rediss+sentinel://u:p@a/main":                 "sentinel rediss+sentinel://a:26379/main/0",
		"redis+cluster://a:7000,b:7001":                "cluster redis+cluster://a:7000,b:7001",
		"rediss+cluster://u:p@configuration.example/0": "cluster rediss+cluster://configuration.example:6379",
	} {
		a, err := redisconn.ParseAddress(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if got := a.Mode.String() + " " + a.String(); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
		if strings.HasPrefix(raw, "rediss") != a.TLS {
			t.Errorf("%s: TLS = %v", raw, a.TLS)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"hunter2":                            "no scheme",
		"http://hunter2@h":                   "the scheme must be",
		"redis+proxy://h":                    "the scheme must be",
		"redis://u:hunter2@a:1,b:2":          "names 2 hosts",
		"redis://u:hunter2@":                 "a host is empty",
		"redis://u:hunter2@h:0":              "a port is not a number from 1",
		"redis://u:hunter2@h:70000":          "a port is not a number from 1",
		"redis://u:hunter2%@h":               "the password is not percent-encoded",
		"redis://hunter2%:x@h":               "the user name is not percent-encoded",
		"redis://u:hunter2@h/db":             "is not a number",
		"redis://u:hunter2@h/-1":             "is not a number",
		"redis://u:hunter2@h?timeout=1":      "options after ?",
		"redis://u:hunter2#x@h":              "percent-encode the password",
		"redis://a b":                        "a host is malformed",
		"redis://a:b:c":                      "malformed",
		"redis+sentinel://u:hunter2@h":       "the primary's name is missing",
		"redis+sentinel://u:hunter2@h/m/x":   "is not a number",
		"redis+cluster://u:hunter2@h:1,:2":   "a host is empty",
		"redis+cluster://u:hunter2@h:7000/1": "a Cluster has database 0 alone",
	} {
		a, err := redisconn.ParseAddress(raw)
		if !errors.Is(err, redisconn.ErrURL) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", raw, err, want)
		}
		if shown := fmt.Sprint(err, a) + fmt.Sprintf("%+v %#v", a, a); strings.Contains(shown, "hunter2") {
			t.Errorf("%s: the password shows: %s", raw, shown)
		}
	}
}

func TestNewRefusesBadTLSFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pair := redistest.NewAuthority(t, time.Hour)
	for name, tc := range map[string]struct {
		o    redisconn.Options
		want string
	}{
		"WithoutTLS": {redisconn.Options{URL: secret.New("redis://h"), CAFile: pair.CA}, "redis.url has no TLS"},
		"MissingCA":  {redisconn.Options{URL: secret.New("rediss://h"), CAFile: dir + "/none"}, "read redis.tls.ca"},
		"EmptyCA":    {redisconn.Options{URL: secret.New("rediss://h"), CAFile: pair.Key}, "holds no PEM certificate"},
		"HalfPair":   {redisconn.Options{URL: secret.New("rediss://h"), CertFile: pair.Cert}, "go together"},
		"WrongPair":  {redisconn.Options{URL: secret.New("rediss://h"), CertFile: pair.CA, KeyFile: pair.Key}, "redis.tls.cert"},
		"BadURL":     {redisconn.Options{URL: secret.New("h")}, "no scheme"},
	} {
		if _, err := redisconn.New(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
	}
}

// FuzzParseAddress: what is accepted prints without its password, and reads again as the same.
func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{"redis://u:p@h:1/2", "rediss+sentinel://a,b/m/1", "redis+cluster://[::1]:1,b", "redis://%zz@h", "redis:///"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := redisconn.ParseAddress(raw)
		if err != nil {
			return
		}
		again, err := redisconn.ParseAddress(a.String())
		if err != nil {
			t.Fatalf("%q reads as %s, which does not read: %v", raw, a, err)
		}
		if diff := cmp.Diff(a.String(), again.String()); diff != "" {
			t.Errorf("%q changed by printing: %s", raw, diff)
		}
	})
}
