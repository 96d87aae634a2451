//go:build soak

package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// neverAnswers is how an app behaves that takes a post and never answers.
const neverAnswers = -1

// crowd is one server that answers for many apps, each by an address of its own.
type crowd struct {
	port string
	apps []crowdApp
	// posts counts all that came, fresh those that told an app something new, repeats those that were taken twice.
	posts, fresh, repeats atomic.Int64
	// last is when something new came last.
	last atomic.Int64
	// moody, if any, says how app 0 behaves about a tenant on a connection.
	moody atomic.Pointer[func(tenant int, from string) int32]
}

// crowdApp is one app of a crowd.
type crowdApp struct {
	// mood is 0 for an app that takes everything, else the status it answers with, or neverAnswers.
	mood atomic.Int32
	// told has a bit for each tenant, at is when one was told last.
	told []atomic.Uint32
	at   atomic.Int64
}

func newCrowd(t testing.TB, apps, tenants int) *crowd {
	t.Helper()
	l, err := net.Listen("tcp", ":0") //nolint:gosec // each app has another loopback address
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{port: port, apps: make([]crowdApp, apps)}
	for i := range c.apps {
		c.apps[i].told = make([]atomic.Uint32, tenants/32+1)
	}
	s := &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return c
}

func (c *crowd) url(app int) string {
	return fmt.Sprintf("http://127.1.%d.%d:%s/hook", app/250+1, app%250+1, c.port)
}

// behave makes the apps [from, to) behave alike.
func (c *crowd) behave(from, to int, mood int32) {
	for i := from; i < to; i++ {
		c.apps[i].mood.Store(mood)
	}
}

// forget makes everything news again.
func (c *crowd) forget() {
	for i := range c.apps {
		for j := range c.apps[i].told {
			c.apps[i].told[j].Store(0)
		}
		c.apps[i].at.Store(0)
	}
	c.posts.Store(0)
	c.fresh.Store(0)
	c.repeats.Store(0)
}

// waits are how long after since the apps [from, to) were told, in ascending order; those that were not are left out.
func (c *crowd) waits(from, to int, since time.Time) []time.Duration {
	var out []time.Duration
	for i := from; i < to; i++ {
		if at := c.apps[i].at.Load(); at != 0 {
			out = append(out, time.Unix(0, at).Sub(since))
		}
	}
	slices.Sort(out)
	return out
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Round(time.Millisecond)
}

func (c *crowd) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	local, _ := req.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	ip := local.IP.To4()
	app := &c.apps[(int(ip[2])-1)*250+int(ip[3])-1]
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	c.posts.Add(1)
	mood := app.mood.Load()
	if f := c.moody.Load(); f != nil && app == &c.apps[0] {
		mood = (*f)(numberOf(body), req.RemoteAddr)
	}
	switch {
	case mood == neverAnswers:
		<-req.Context().Done()
		return
	case mood != 0:
		w.WriteHeader(int(mood))
		return
	}
	n := numberOf(body)
	now := time.Now().UnixNano()
	if bit := uint32(1) << (n % 32); app.told[n/32].Or(bit)&bit != 0 {
		c.repeats.Add(1)
		return
	}
	app.at.Store(now)
	c.last.Store(now)
	c.fresh.Add(1)
}

// numberOf reads the number of the tenant that a notification is about.
func numberOf(body []byte) int {
	const mark = `"ContextIdentifier":"Cust`
	i := bytes.Index(body, []byte(mark))
	if i < 0 {
		return 0
	}
	n, _, _ := bytes.Cut(body[i+len(mark):], []byte{'"'})
	number, _ := strconv.Atoi(string(n))
	return number
}
