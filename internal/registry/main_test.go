package registry_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// fixture is a store on an empty Redis, with a second look at what it stores.
type fixture struct {
	*registry.Store
	rdb  redis.UniversalClient
	keys keys.Space
	cmds *counter
}

// each runs f on miniredis and on a real redis-server.
func each(t *testing.T, f func(t *testing.T, s fixture)) {
	t.Helper()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) { f(t, newFixture(t, rdb, registry.Options{})) })
}

func newFixture(t testing.TB, rdb redis.UniversalClient, opts registry.Options) fixture {
	t.Helper()
	c := &counter{t: t}
	rdb.AddHook(c)
	opts.Keys = keys.New("test")
	if opts.Keyring == nil {
		opts.Keyring = testKeyring(t)
	}
	return fixture{Store: registry.New(rdb, opts), rdb: rdb, keys: opts.Keys, cmds: c}
}

func testKeyring(t testing.TB) *secret.Keyring {
	t.Helper()
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	if err != nil {
		t.Fatal(err)
	}
	return secret.NewKeyring(k)
}

// counter counts round trips and fails the test when the keys of one script differ in their hash
// tag, which a single server would not mind but a Cluster does.
type counter struct {
	t     testing.TB
	mu    sync.Mutex
	trips int
}

func (c *counter) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.saw(cmd)
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.saw(cmds...)
		return next(ctx, cmds)
	}
}

func (c *counter) saw(cmds ...redis.Cmder) {
	c.mu.Lock()
	c.trips++
	c.mu.Unlock()
	for _, cmd := range cmds {
		if cmd.Name() != "evalsha" && cmd.Name() != "eval" {
			continue
		}
		args := cmd.Args()
		tag := ""
		for _, k := range args[3 : 3+args[2].(int)] {
			_, rest, _ := strings.Cut(k.(string), "{")
			own, _, _ := strings.Cut(rest, "}")
			if tag == "" {
				tag = own
			}
			if own == "" || own != tag {
				c.t.Errorf("a script's keys are in several slots: %v", args[3:3+args[2].(int)])
			}
		}
	}
}

// during counts the round trips that f makes.
func (c *counter) during(f func()) int {
	c.mu.Lock()
	before := c.trips
	c.mu.Unlock()
	f()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trips - before
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func noErr(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func same(t *testing.T, what string, got, want any, opts ...cmp.Option) {
	t.Helper()
	opts = append(opts, cmp.Comparer(func(a, b secret.Text) bool { return a.Equal(b) }))
	if d := cmp.Diff(want, got, opts...); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

var (
	kim = registry.Actor{Name: "kim", Role: "operator", RequestID: "req-1"}
	t0  = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
)

func testApp(id string) partner.App {
	a := partner.New(partner.ClientID(id))
	a.Name = "App " + id
	a.TechnicalContact = partner.Contact{Name: "Kim Ø", Email: "kim@example.com", TimeZone: "Europe/Oslo"}
	a.ErrorEmails = []string{"ops@example.com"}
	a.RequiredLicenses = []partner.License{partner.CustomApps}
	a.Endpoints[partner.StateChange] = partner.Endpoint{
		URL: "https://partner.example/hook?a=1&b=<2>", URLs: map[partner.Environment]string{partner.Stage: "https://stage.example/"},
		Enabled: true, SendErrorEmails: true, SwitchedAt: t0,
	}
	a.EverHadURL = true
	a.CreatedAt, a.UpdatedAt = t0, t0.Add(time.Minute)
	return a
}

// puts makes each write another one: what changes nothing is none.
var puts atomic.Int64

func put(t testing.TB, s fixture, app partner.App) registry.AppRecord {
	t.Helper()
	app.UpdatedAt = app.UpdatedAt.Add(time.Duration(puts.Add(1)) * time.Millisecond)
	rec, _, err := s.PutApp(t.Context(), app, registry.AnyRevision, nil, kim, "app.put")
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// fakeSealer marks what it sealed and fails when told to.
type fakeSealer struct{ sealErr, openErr error }

func (f fakeSealer) Seal(plaintext []byte, aad string) (string, error) {
	return fmt.Sprintf("%s|%s", aad, plaintext), f.sealErr
}

func (fakeSealer) Stale(string) bool { return false }

func (f fakeSealer) Open(sealed, aad string) ([]byte, error) {
	rest, ok := strings.CutPrefix(sealed, aad+"|")
	if f.openErr == nil && !ok {
		return nil, errors.New("belongs elsewhere")
	}
	return []byte(rest), f.openErr
}
