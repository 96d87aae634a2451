package registry_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestClaimFormat(t *testing.T) {
	t.Parallel()
	own := strconv.Itoa(registry.DataFormat)
	newer := strconv.Itoa(registry.DataFormat + 1)
	for name, tc := range map[string]struct {
		there, left string
		refused     bool
	}{
		"Empty":     {there: "", left: own},
		"Older":     {there: "1", left: own},
		"Same":      {there: own, left: own},
		"Newer":     {there: newer, left: newer, refused: true},
		"NoNumber":  {there: "three", left: "three", refused: true},
		"HugeValue": {there: strings.Repeat("9", 30), left: strings.Repeat("9", 30), refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				s := newFixture(t, rdb, registry.Options{})
				key := s.keys.Config(keys.ConfigFormat)
				if tc.there != "" {
					noErr(t, "set", rdb.Set(t.Context(), key, tc.there, 0).Err())
				}
				err := s.ClaimFormat(t.Context())
				if tc.refused {
					wantErr(t, "a newer format", err, registry.ErrNewerFormat)
					if !strings.Contains(err.Error(), `"test"`) {
						t.Errorf("the error does not name the prefix: %v", err)
					}
				} else {
					noErr(t, "claim", err)
				}
				same(t, "format", rdb.Get(t.Context(), key).Val(), tc.left)
			})
		})
	}
}

// TestClaimFormatOfAFullRedis: a process that starts again frees memory, and must not need any.
func TestClaimFormatOfAFullRedis(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := p.Client(t)
	s := registry.New(rdb, registry.Options{Keyring: testKeyring(t)})
	noErr(t, "claim", s.ClaimFormat(t.Context()))
	noErr(t, "claim environment", s.ClaimEnvironment(t.Context(), "online"))
	noErr(t, "fill", rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	noErr(t, "claim when full", s.ClaimFormat(t.Context()))
	noErr(t, "claim environment when full", s.ClaimEnvironment(t.Context(), "online"))
}

func TestClaimFormatWithoutRedis(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	s := newFixture(t, rdb, registry.Options{})
	_ = rdb.Close()
	if err := s.ClaimFormat(t.Context()); err == nil {
		t.Error("claimed without Redis")
	}
}

// TestDataFormatCoversWhatIsWritten fails when a value's format is raised and DataFormat is forgotten.
func TestDataFormatCoversWhatIsWritten(t *testing.T) {
	t.Parallel()
	const sequence = 1795449600000
	text := delivery.EncodeChange(tenant.Change{
		ID: tenant.FormatChangeID("Cust1", sequence), Tenant: "Cust1", Type: tenant.Suspend, Sequence: sequence, AcceptedAt: time.UnixMilli(sequence),
	})
	var value struct {
		Format int `json:"v"`
	}
	noErr(t, "read", json.Unmarshal([]byte(text), &value))
	same(t, "highest format written", value.Format, registry.DataFormat)
}
