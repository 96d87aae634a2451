package redisconn_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// documented reads the rights that docs/security.md gives: what is for data, and for a Cluster's node besides.
func documented(t *testing.T) (data, cluster []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^ +redis-cli (ACL SETUSER lamplighter (?:.*\\\n)*.*)$`).FindAllStringSubmatch(string(text), -1)
	if len(all) != 2 {
		t.Fatalf("%d commands", len(all))
	}
	rules := func(s string) []string {
		return strings.Fields(strings.NewReplacer("\\\n", " ", "'", "", ">PASSWORD", ">pw", "ACL SETUSER lamplighter", "").Replace(s))
	}
	return rules(all[0][1]), rules(all[1][1])
}

// grant gives the user the rules without some of them, and returns who lacks what then.
func grant(t *testing.T, admin *redis.Client, rules []string, without ...string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", "lamplighter", "reset", "on", ">pw"}
	for _, r := range rules {
		if !slices.Contains(without, r) {
			args = append(args, r)
		}
	}
	if err := admin.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestMissingRights(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	admin := p.Client(t)
	rules, _ := documented(t)
	rdb := client(t, redisconn.Options{URL: address("redis://lamplighter:pw@" + p.Addr)})
	everything := client(t, redisconn.Options{URL: address("redis://" + p.Addr)})
	if missing, err := redisconn.MissingRights(t.Context(), everything, "lamplighter"); err != nil || len(missing) > 0 {
		t.Errorf("a user that may do everything lacks %v, %v", missing, err)
	}
	// Whatever is taken away of the documented rights is missed, but for what connecting takes and what only a subscriber does.
	for _, r := range append(rules, "") {
		switch r {
		case "reset", "on", ">pw", "-@all", "+hello", "+auth", "+ping", "+subscribe", "+unsubscribe", "+config|get", "+client|setname":
			continue
		}
		grant(t, admin, rules, r)
		var want []string
		if r != "" {
			want = []string{r}
		}
		missing, err := redisconn.MissingRights(t.Context(), rdb, "lamplighter")
		if err != nil {
			t.Fatalf("without %s: %v", r, err)
		}
		if diff := cmp.Diff(want, missing); diff != "" {
			t.Errorf("without %s (-want +got):\n%s", r, diff)
		}
	}
	if n := admin.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("it left %d keys behind", n)
	}
	if got, err := rdb.Time(t.Context()).Result(); err != nil || got.IsZero() {
		t.Errorf("the connection is of no use afterwards: %v", err)
	}
}

func TestRightsAndSlotsOfACluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, false)
	data, besides := documented(t)
	for _, p := range c.Primaries {
		grant(t, p.Client(t), append(data, besides...))
	}
	rdb := client(t, redisconn.Options{URL: address(strings.Replace(c.URL(), "://", "://lamplighter:pw@", 1))})
	missing, err := redisconn.MissingRights(t.Context(), rdb, "lamplighter")
	if err != nil || len(missing) > 0 {
		t.Errorf("the documented user lacks %v, %v", missing, err)
	}
	grant(t, c.Primaries[1].Client(t), append(data, besides...), "+asking", "+hset")
	if missing, err = redisconn.MissingRights(t.Context(), rdb, "lamplighter"); err != nil || !slices.Equal(missing, []string{"+asking", "+hset"}) {
		t.Errorf("one node lacks %v, %v", missing, err)
	}
	if served, all, err := redisconn.CountServedSlots(t.Context(), rdb); err != nil || served != 16384 || all != 16384 {
		t.Errorf("%d of %d slots, %v", served, all, err)
	}
	if err := c.Primaries[2].Client(t).Do(t.Context(), "CLUSTER", "DELSLOTSRANGE", 16000, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	if served, _, err := redisconn.CountServedSlots(t.Context(), rdb); err != nil || served != 16000 {
		t.Errorf("%d slots served after some were taken away, %v", served, err)
	}
	key := ""
	for i := 0; key == ""; i++ { // one of those that this primary still has
		k := fmt.Sprintf("lamplighter:{t%d}:x", i)
		slot, err := c.Slot(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		if slot > 11000 && slot < 16000 {
			key = k
		}
	}
	err = redisconn.Explain(rdb.Set(t.Context(), key, 1, 0).Err())
	if err == nil || !strings.Contains(err.Error(), "does not serve all of its hash slots") {
		t.Errorf("a write to a Cluster that lacks slots: %v", err)
	}
}
