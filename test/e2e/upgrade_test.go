package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// What `make upgrade-test` sets: without it the same version is replaced by itself.
var (
	upgradeFrom   = flag.String("upgrade.from", "", "the binary of an older version, from which TestRollingUpgrade upgrades")
	upgradeDiffer = flag.Bool("upgrade.differ", false, "fail where that version does not write another format of what waits")
	upgradeMixed  = flag.Duration("upgrade.mixed", 700*time.Millisecond, "how long TestRollingUpgrade leaves both versions under load after each process")
	upgradeBack   = flag.Bool("upgrade.back", false, "have TestRollingUpgrade go back to that version, which must know the data's format")
	upgradeRecord = flag.Bool("upgrade.record", false, "have that version make the data of TestDataOfAnOlderFormat anew")
)

// upgrade is a deployment of an API and two workers whose processes are replaced one after another.
type upgrade struct {
	*stack
	api     *process
	workers []*process
	away    *receiver
	seen    map[string]int // format of a waiting change -> how many were seen waiting
	resyncs int
}

// replace stops a process as an operator would and starts another version in its place.
func (u *upgrade) replace(p *process, bin string) {
	u.t.Helper()
	if err := p.terminate(); err != nil {
		u.t.Errorf("%s ended with %v", p.roles, err)
	}
	p.bin = bin
	p.start()
	wait(u.t, *upgradeMixed/2) // both versions under load
	// a newer version allows an app one resync a minute, so this one may be refused
	status, b := u.call(http.MethodPost, "/v1/apps/app2/resync", "application/json", []byte("{}"))
	switch status {
	case http.StatusAccepted:
		u.resyncs++
	case http.StatusTooManyRequests:
	default:
		u.t.Errorf("resync: status %d: %s", status, tail(b, 200))
	}
	wait(u.t, *upgradeMixed/2)
	u.count()
}

// awaitJobs waits until no job runs: an older version does not know jobs, so they end before a way back.
func (u *upgrade) awaitJobs() {
	u.t.Helper()
	redistest.Eventually(u.t, time.Minute, "no job runs", func() bool {
		var page struct{ Items []json.RawMessage }
		u.want(http.StatusOK, &page, http.MethodGet, "/v1/jobs?state=running", "")
		return len(page.Items) == 0
	})
}

// count looks at the formats of what waits for the app that is away.
func (u *upgrade) count() {
	u.t.Helper()
	waiting, err := u.redis.Client(u.t).HVals(u.t.Context(), "lamplighter:{away}:waiting").Result()
	if err != nil {
		u.t.Fatal(err)
	}
	now := map[string]int{}
	for _, entry := range waiting {
		for _, format := range []string{"1", "2"} {
			if strings.Contains(entry, `{"v":`+format+`,`) {
				now[format]++
			}
		}
	}
	for format, n := range now {
		u.seen[format] = max(u.seen[format], n)
	}
}

// TestRollingUpgrade replaces every process under load, in both orders, so that old workers meet a new
// API and new workers an old one. One app is away all the time: what waits for it is of both formats.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	for name, order := range map[string]func(u *upgrade){
		"WorkersFirst": func(u *upgrade) {
			for _, w := range u.workers {
				u.replace(w, u.bin)
			}
			u.replace(u.api, u.bin)
		},
		"APIFirst": func(u *upgrade) {
			u.replace(u.api, u.bin)
			// named tenants are deposited by the API itself: old workers meet what the new version writes
			for _, id := range []string{"app1", "away"} {
				u.want(http.StatusAccepted, nil, http.MethodPost, "/v1/apps/"+id+"/resync", `{"tenants":["`+strings.Join(tenantNames(300), `","`)+`"]}`)
			}
			redistest.Eventually(u.t, 20*time.Second, "what the new version writes waits", func() bool { u.count(); return u.seen["2"] > 0 })
			wait(u.t, 700*time.Millisecond)
			for _, w := range u.workers {
				u.replace(w, u.bin)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { rollingUpgrade(t, name, order) })
	}
}

func rollingUpgrade(t *testing.T, name string, order func(u *upgrade)) {
	s := newStack(t, "everysec")
	from := *upgradeFrom
	if from == "" {
		from = s.bin
	}
	u := &upgrade{stack: s, away: newReceiver(t, "away"), seen: map[string]int{}}
	u.api = s.serveBy(from, "api")
	u.workers = []*process{s.serveBy(from, "worker"), s.serveBy(from, "worker")}
	names := tenantNames(300)
	rs := []*receiver{newReceiver(t, "app1"), newReceiver(t, "app2")}
	for _, r := range rs {
		r.answer = func(notification) int {
			<-time.After(5 * time.Millisecond) // the receiver's own work
			return http.StatusOK
		}
		s.register(r, "ES256", names)
	}
	s.register(u.away, "RS256", names)
	u.away.stop()
	tr := newTruth()
	s.all(tr, "first", names, 2)
	awaitSettled(t, tr, 30*time.Second, rs...)
	redistest.Eventually(t, 20*time.Second, "something waits for the app that is away", func() bool { u.count(); return len(u.seen) > 0 })
	l := s.load(tr, names[:len(names)/2], 2, 20) // the others keep what they got from the old version
	remakes := u.remake(names)
	wait(t, 700*time.Millisecond)
	order(u)
	if *upgradeBack {
		u.back(from)
	}
	l.end(t)
	lives := remakes.end(t)
	last := newTruth()
	for _, truth := range []*truth{tr, last} {
		s.all(truth, "last", names, int(tenant.Resume)) // under one key: reported once
	}
	awaitSettled(t, last, time.Minute, lives[len(lives)-1])
	awaitSettled(t, tr, time.Minute, rs...)
	u.away.start()
	awaitSettled(t, tr, time.Minute, u.away)
	all := append(rs, u.away)
	s.quiet(all...)
	report(t, "rolling upgrade, "+name, tr, l, append(all, lives...))
	s.agree(tr, all...)
	t.Logf("an app made %d times; %d resyncs of all tenants", len(lives), u.resyncs)
	t.Logf("waiting at most: %d changes of format 1, %d of format 2", u.seen["1"], u.seen["2"])
	if *upgradeDiffer && (u.seen["1"] == 0 || u.seen["2"] == 0) {
		t.Error("the two versions do not differ in the format of what waits: name another commit")
	}
}

// back replaces all processes by an older version, in the reverse of the order that docs/upgrade.md advises.
func (u *upgrade) back(bin string) {
	u.t.Helper()
	u.awaitJobs()
	u.replace(u.api, bin)
	for _, w := range u.workers {
		u.replace(w, bin)
	}
}

// remakes is an app that is deleted and made again all the time.
type remakes struct {
	stop  context.CancelFunc
	done  sync.WaitGroup
	error error
	lives []*receiver
}

// remake begins it. Each life of the app has a receiver of its own, and is approved by all tenants.
func (u *upgrade) remake(names []string) *remakes {
	ctx, stop := context.WithCancel(u.t.Context())
	m := &remakes{stop: stop}
	m.done.Go(func() {
		for ctx.Err() == nil && m.error == nil {
			r := newReceiver(u.t, "remade")
			m.lives = append(m.lives, r)
			// a life that was begun is made whole
			m.error = u.makeLife(context.WithoutCancel(ctx), r, names)
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(rand.IntN(2000)) * time.Millisecond):
			}
		}
	})
	return m
}

// makeLife deletes the app, makes it anew with the receiver, and gives it its approvals.
func (u *upgrade) makeLife(ctx context.Context, r *receiver, names []string) error {
	app := "/v1/apps/" + r.id
	if err := u.insist(ctx, http.MethodDelete, app, "", ""); err != nil {
		return err
	}
	err := u.insist(ctx, http.MethodPut, app, "application/json", `{"name":"Remade","technical_contact":{"name":"Kim","email":"kim@remade.example"},`+
		`"endpoints":{"state_change":{"url":"`+r.url+`","enabled":true}}}`)
	if err != nil {
		return err
	}
	return u.insist(ctx, http.MethodPut, app+"/approvals", "application/x-ndjson", `{"tenant":"`+strings.Join(names, "\"}\n{\"tenant\":\"")+"\"}\n")
}

// insist repeats a call until it is carried out: the only API is replaced meanwhile. An app that is not there needs no deletion.
func (u *upgrade) insist(ctx context.Context, method, path, contentType, body string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		status, b, err := u.try(ctx, method, path, contentType, []byte(body))
		switch {
		case err == nil && method == http.MethodDelete && status == http.StatusNotFound:
			return nil
		case err == nil && status < 300 && strings.Count(string(b), `"status":204`) == strings.Count(string(b), `{"line":`):
			return nil
		case err == nil && status < 500 && status >= 300, ctx.Err() != nil:
			return fmt.Errorf("%s %s: status %d: %s: %w", method, path, status, tail(b, 200), errors.Join(err, ctx.Err()))
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// end lets the present life stand, and returns the receivers of all.
func (m *remakes) end(t *testing.T) []*receiver {
	t.Helper()
	m.stop()
	m.done.Wait()
	if m.error != nil {
		t.Fatal(m.error)
	}
	return m.lives
}

// TestNewerDataIsRefused: a version that meets data of a newer one says so and ends, and changes nothing.
func TestNewerDataIsRefused(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	rdb := s.redis.Client(t)
	newer := strconv.Itoa(registry.DataFormat + 1)
	if err := rdb.MSet(t.Context(), "lamplighter:{config}:format", newer, "lamplighter:{config}:environment", "online").Err(); err != nil {
		t.Fatal(err)
	}
	p := &process{stack: s, bin: s.bin, roles: "api,worker", listen: s.api, ops: s.ops}
	if err := p.launch(); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 30*time.Second, "the process ends", p.gone)
	exit, ok := p.exit.(*exec.ExitError) //nolint:errorlint // Wait returns it as it is
	if !ok || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v, want exit code 1", p.exit)
	}
	for _, words := range []string{"has format " + newer, "formats up to " + strconv.Itoa(registry.DataFormat), "restore the copy"} {
		if !strings.Contains(s.logs(), words) {
			t.Errorf("it does not say %q:\n%s", words, s.logs())
		}
	}
	keys, err := rdb.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 2 {
		t.Errorf("keys after the refusal: %v, %v, want the two that were there", keys, err)
	}
}

// oldData is what a version before format 2 left behind, without its tokens: a paused app, for which a
// change of each of 20 tenants waits in format 1. It was made by
//
//	make upgrade-test UPGRADEFLAGS=-upgrade.record
const oldData = "testdata/format1.rdb"

// recordOldData lets the older version make it.
func recordOldData(t *testing.T, encryption string, names []string) {
	t.Helper()
	s := newStack(t, "everysec", encryption)
	p := s.serveBy(*upgradeFrom, "api,worker")
	r := newReceiver(t, "app1")
	s.register(r, "ES256", names)
	s.want(http.StatusOK, nil, http.MethodPost, "/v1/apps/app1/pause", "")
	tr := newTruth()
	s.all(tr, "old", names, 2)
	rdb := s.redis.Client(t)
	redistest.Eventually(t, 20*time.Second, "every change waits", func() bool {
		return rdb.HLen(t.Context(), "lamplighter:{app1}:waiting").Val() == int64(len(names))
	})
	if err := p.terminate(); err != nil {
		t.Fatal(err)
	}
	// a token in it would end one day, and keep the test's own from becoming the first
	for _, key := range []string{"tokens", "token_hashes", "token_uses"} {
		if err := rdb.Del(t.Context(), "lamplighter:{config}:"+key).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.redis.Snapshot(t.Context(), oldData); err != nil {
		t.Fatal(err)
	}
}

// TestDataOfAnOlderFormat starts on a copy of Redis that an older version left behind: the apps get what
// waited, in the old format, and what comes then, in the new one.
func TestDataOfAnOlderFormat(t *testing.T) {
	t.Parallel()
	const encryption = "LAMPLIGHTER_ENCRYPTION_KEY=b2xkIGRhdGEgb2xkIGRhdGEgb2xkIGRhdGEgb2xkISE=" // that of the copy
	names := tenantNames(20)
	if *upgradeRecord {
		recordOldData(t, encryption, names)
	}
	server := redistest.StartOn(t, oldData)
	s := newStackOn(t, "redis://"+server.Addr+"/0", encryption)
	s.redis = server
	rdb := server.Client(t)
	waiting, err := rdb.HVals(t.Context(), "lamplighter:{app1}:waiting").Result()
	if err != nil || len(waiting) != len(names) || !strings.Contains(waiting[0], `{"v":1,`) {
		t.Fatalf("%d entries wait in the copy, want %d of format 1: %v, %v", len(waiting), len(names), waiting, err)
	}
	s.serve("api,worker")
	r := newReceiver(t, "app1")
	keys := s.keys()
	r.jwks = func() *jose.JSONWebKeySet { return keys }
	s.want(http.StatusOK, nil, http.MethodPatch, "/v1/apps/app1/endpoints/state_change", `{"url":"`+r.url+`"}`)
	var rotated struct {
		Secret string `json:"webhook_secret"`
	}
	s.want(http.StatusOK, &rotated, http.MethodPost, "/v1/apps/app1/secrets", "") // opens the sealed one of the copy
	r.secret = rotated.Secret
	s.want(http.StatusOK, nil, http.MethodPost, "/v1/apps/app1/resume", "")
	tr := newTruth()
	for _, name := range names {
		var st struct {
			Sequence int64 `json:"sequence"`
		}
		s.want(http.StatusOK, &st, http.MethodGet, "/v1/tenants/"+name, "")
		tr.accepted(name, 2, st.Sequence)
	}
	awaitSettled(t, tr, 30*time.Second, r)
	s.all(tr, "after", names, 3)
	awaitSettled(t, tr, 30*time.Second, r)
	s.quiet(r)
	s.agree(tr, r)
	r.healthy()
	if format := rdb.Get(t.Context(), "lamplighter:{config}:format").Val(); format != strconv.Itoa(registry.DataFormat) {
		t.Errorf("format after the start: %q", format)
	}
}
