package commoncause_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/commoncause"
)

var (
	t0    = time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
	rules = commoncause.Rules{Within: 2 * time.Minute}
)

// world is some processes that share reports each time it is asked, with a clock of its own.
type world struct {
	*testing.T

	now     time.Time
	workers []*commoncause.ReachRecord
	// left are the last reports of processes that ended.
	left    []commoncause.Report
	episode commoncause.Episode
	hosts   int
}

func newWorld(t *testing.T, workers int) *world {
	t.Helper()
	w := &world{T: t, now: t0}
	for range workers {
		w.workers = append(w.workers, commoncause.NewReachRecord())
	}
	return w
}

// share lets all processes share what they saw, through what is stored.
func (w *world) share() {
	w.Helper()
	all := append([]commoncause.Report{}, w.left...)
	for _, r := range w.workers {
		report := r.MakeReport(w.now, rules.Within)
		read, err := commoncause.DecodeReport(report.Encode())
		if err != nil {
			w.Fatal(err)
		}
		all = append(all, read)
	}
	v := commoncause.MergeReports(all...)
	for _, r := range w.workers {
		r.MergeView(v)
	}
	next, hosts := rules.NextEpisode(w.episode, v, w.now)
	read, err := commoncause.DecodeEpisode(next.Encode())
	if err != nil {
		w.Fatal(err)
	}
	w.episode, w.hosts = read, hosts
}

// hostOf is the n-th host of a network.
func hostOf(network, n int) string { return fmt.Sprintf("h%d.n%d.example", n, network) }

// dial has a worker dial the n-th host of a network.
func (w *world) dial(worker, network, n int) {
	w.workers[worker].NoteAddress(hostOf(network, n), netip.AddrFrom4([4]byte{203, byte(network), 0, byte(n)}))
}

func (w *world) fail(worker, network, n int) {
	w.workers[worker].NoteFailure(hostOf(network, n), w.now)
}

func (w *world) answer(worker, network, n int) {
	w.workers[worker].NoteAnswer(hostOf(network, n), w.now)
}

// cut has each worker fail with each of hosts in each of networks for so long, every 10 s, sharing every 5 s.
func (w *world) cut(hosts, networks int, spell time.Duration) {
	w.Helper()
	begin := w.now
	for ; w.now.Sub(begin) < spell; w.now = w.now.Add(5 * time.Second) {
		if w.now.Sub(begin)%(10*time.Second) == 0 {
			for i := range w.workers {
				for n := range hosts {
					w.fail(i, n%networks, n)
				}
			}
		}
		w.share()
	}
}

func (w *world) want(what string, lasts bool) {
	w.Helper()
	if w.episode.IsOngoing() != lasts {
		w.Errorf("%s, at %v: episode %v to %v with %d hosts", what, w.now.Sub(t0), w.episode.Since.Sub(t0), w.episode.Until.Sub(t0), w.hosts)
	}
}

func TestWhatIsCommon(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		hosts, networks int
		spell           time.Duration
		common          bool
	}{
		"FiveInThree":           {5, 3, time.Minute, true},
		"Many":                  {2000, 50, time.Minute, true},
		"One":                   {1, 1, time.Hour, false},
		"Four":                  {4, 4, time.Hour, false},
		"FiveInTwo":             {5, 2, time.Hour, false},
		"ManyInTwo":             {500, 2, time.Hour, false},
		"TooShort":              {5, 3, 30 * time.Second, false},
		"AsSoonAsItIsLongAgain": {5, 3, 35 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			for n := range tc.hosts {
				w.dial(0, n%tc.networks, n)
				w.answer(0, n%tc.networks, n)
			}
			w.now = w.now.Add(10 * time.Second)
			cut := w.now
			w.cut(tc.hosts, tc.networks, tc.spell)
			w.want("cut", tc.common)
			if tc.common && (!w.episode.Since.Equal(cut) || w.hosts != tc.hosts) {
				t.Errorf("since %v, %d hosts; cut since %v", w.episode.Since, w.hosts, cut)
			}
		})
	}
}

// Each process sees less than what makes a common cause, all together see it; so does one that calls nobody.
func TestManyProcessesSeeTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	for range 12 {
		for n := range 6 {
			w.dial(n%3, n%3, n)
			w.fail(n%3, n%3, n)
		}
		w.share()
		w.now = w.now.Add(5 * time.Second)
	}
	w.want("three that see two hosts each, and one that sees none", true)
	w.answer(2, 9, 9)
	w.share()
	w.want("one of them is answered", false)
}

// One answer anywhere ends it; where nothing more comes, it goes on as the same episode.
func TestFlapping(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.cut(20, 5, 12*time.Minute)
	w.want("cut", true)
	since := w.episode.Since
	for range 5 {
		w.answer(1, 0, 0)
		w.now = w.now.Add(time.Second)
		w.share()
		w.want("one answer", false)
		w.cut(20, 5, 20*time.Second)
		w.want("not for 30 s yet", false)
		w.cut(20, 5, 6*time.Minute)
		w.want("and again none", true)
	}
	if !w.episode.Since.Equal(since) {
		t.Errorf("it goes on since %v, not %v", w.episode.Since, since)
	}
	mend := func() {
		for n := range 20 {
			w.answer(0, n%5, n)
			w.answer(1, n%5, n)
		}
		w.share()
	}
	mend()
	w.now = w.now.Add(11 * time.Minute)
	mend()
	w.now = w.now.Add(10 * time.Second)
	w.cut(20, 5, time.Minute)
	w.want("another one", true)
	if !w.episode.Since.After(since.Add(40 * time.Minute)) {
		t.Errorf("another episode is since %v, the first one is %v", w.episode.Since, since)
	}
}

// What fails while others answer is its own fault, also in a night in which nobody else is called, and also for processes
// that began in it.
func TestTheDeadAreNoCommonCause(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	for range 40 { // ten dead hosts while one answers
		for n := range 10 {
			w.fail(0, n, n)
		}
		w.answer(1, 99, 99)
		w.now = w.now.Add(10 * time.Second)
		w.share()
	}
	w.cut(10, 10, time.Hour)
	w.want("a quiet night", false)
	for _, r := range w.workers {
		w.left = append(w.left, r.MakeReport(w.now, rules.Within))
	}
	w.workers = []*commoncause.ReachRecord{commoncause.NewReachRecord(), commoncause.NewReachRecord()}
	w.cut(10, 10, 9*time.Minute)
	w.left = nil
	w.cut(10, 10, time.Hour)
	w.want("new processes in it", false)
	w.answer(0, 99, 99)
	w.now = w.now.Add(10 * time.Second)
	w.cut(30, 10, time.Minute)
	w.want("the others fail, too", true)
}

// Processes that begin in the middle of it know nothing, but what those before them left, and the episode goes on.
func TestRestartInTheMiddle(t *testing.T) {
	t.Parallel()
	for name, reports := range map[string]bool{"ReportsAreLeft": true, "NothingIsLeft": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2)
			w.answer(0, 0, 0)
			w.now = w.now.Add(10 * time.Second)
			w.cut(20, 5, 10*time.Minute)
			since := w.episode.Since
			if reports {
				for _, r := range w.workers {
					w.left = append(w.left, r.MakeReport(w.now, rules.Within))
				}
			}
			w.workers = []*commoncause.ReachRecord{commoncause.NewReachRecord()}
			w.share()
			w.want("at once, where reports are left", reports)
			w.cut(20, 5, time.Minute)
			w.want("a minute later", true)
			if !w.episode.Since.Equal(since) {
				t.Errorf("since %v, want %v", w.episode.Since, since)
			}
			w.answer(0, 0, 3)
			w.share()
			w.want("one answer", false)
		})
	}
}

// A name that nobody can resolve any more counts for the network that it was dialled at, else for the end of the name.
func TestNamesStandForNetworks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		hosts  []string
		dialed bool
		common bool
	}{
		"ManyOfOneZone":        {hosts: []string{"a.partner.example", "b.partner.example", "c.x.partner.example", "d.partner.example", "partner.example"}},
		"OfThreeZones":         {hosts: []string{"a.one.example", "b.one.example", "a.two.example", "b.two.example", "three.example"}, common: true},
		"SecondLevelCountries": {hosts: []string{"a.one.co.uk", "b.one.co.uk", "two.co.uk", "b.two.co.uk", "three.com.au"}, common: true},
		"OneOfThem":            {hosts: []string{"a.one.co.uk", "b.one.co.uk", "c.one.co.uk", "d.one.co.uk", "e.one.co.uk"}},
		"OneZoneManyNetworks":  {hosts: []string{"a.one.example", "b.one.example", "c.one.example", "d.one.example", "e.one.example"}, dialed: true, common: true},
		"Addresses":            {hosts: []string{"203.0.113.1", "198.51.100.1", "192.0.2.1", "203.0.113.2", "203.0.113.3"}, common: true},
		"AddressesOfOne":       {hosts: []string{"203.0.113.1", "203.0.114.1", "203.0.1.1", "203.0.113.2", "203.0.113.3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			for range 10 {
				for i, h := range tc.hosts {
					if tc.dialed {
						w.workers[0].NoteAddress(h, netip.AddrFrom4([4]byte{203, byte(i), 0, 1}))
					}
					w.workers[0].NoteFailure(h, w.now)
				}
				w.share()
				w.now = w.now.Add(5 * time.Second)
			}
			w.want("none resolves", tc.common)
		})
	}
}

func TestNetworkOf(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"203.0.113.7": "203.0.0.0/16", "::ffff:203.0.113.7": "203.0.0.0/16", "10.1.2.3": "10.1.2.0/24", "127.1.2.3": "127.1.2.0/24",
		"100.64.3.4": "100.64.3.0/24", "2a00:1450:4001:80b::200e": "2a00:1450::/32", "fd00:1:2:3::4": "fd00:1:2:3::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := commoncause.NetworkOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is of %s, want %s", addr, got, want)
		}
	}
	if got := commoncause.NetworkOf(netip.Addr{}); got != "" {
		t.Errorf("no address is of %s", got)
	}
}

// Memory and reports are bounded, and a report of very many hosts shows many networks.
func TestBounds(t *testing.T) {
	t.Parallel()
	r := commoncause.NewReachRecord()
	for i := range 60_000 {
		h := fmt.Sprintf("host%d.%s.example", i, strings.Repeat("long", 40))
		r.NoteAddress(h, netip.AddrFrom4([4]byte{20, byte(i >> 9), byte(i >> 8), byte(i)}))
		r.NoteAnswer(h, t0)
	}
	for i := range 30_000 {
		r.NoteFailure(fmt.Sprintf("%d.example", i), t0.Add(time.Second))
	}
	report := r.MakeReport(t0.Add(2*time.Second), rules.Within)
	if report.Hosts != 10_000 || len(report.Failing) != 24 {
		t.Errorf("%d of %d hosts listed", len(report.Failing), report.Hosts)
	}
	networks := map[string]bool{}
	for _, h := range report.Failing {
		networks[h.Network] = true
	}
	if text := report.Encode(); len(networks) != 24 || len(text) > 3<<10 {
		t.Errorf("%d networks in %d bytes", len(networks), len(text))
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	host := `{"k":"a","n":"b","b":1,"l":2}`
	for name, text := range map[string]string{
		"None": "", "NotJSON": "x", "OtherFormat": `{"v":2}`, "NoFormat": `{}`, "NegativeCount": `{"v":1,"hosts":-1}`,
		"NoKey": `{"v":1,"failing":[{"n":"b","b":1,"l":2}]}`, "NoNetwork": `{"v":1,"failing":[{"k":"a","b":1,"l":2}]}`,
		"NoBegin": `{"v":1,"failing":[{"k":"a","n":"b","l":2}]}`, "LastBeforeBegin": `{"v":1,"failing":[{"k":"a","n":"b","b":3,"l":2}]}`,
		"LongKey": `{"v":1,"failing":[{"k":"` + strings.Repeat("a", 400) + `","n":"b","b":1,"l":2}]}`,
		"TooMany": `{"v":1,"failing":[` + strings.Repeat(host+",", 200) + host + `]}`, "TooLong": `{"v":1}` + strings.Repeat(" ", 40<<10),
	} {
		if _, err := commoncause.DecodeReport(text); err == nil {
			t.Errorf("%s: a report was read", name)
		}
	}
	for name, text := range map[string]string{
		"NotJSON": "x", "OtherFormat": `{"v":2,"since":1}`, "NoBegin": `{"v":1,"until":1}`, "EndsBefore": `{"v":1,"since":2,"until":1}`,
	} {
		if _, err := commoncause.DecodeEpisode(text); err == nil {
			t.Errorf("%s: an episode was read", name)
		}
	}
	if e, err := commoncause.DecodeEpisode(""); err != nil || e != (commoncause.Episode{}) || e.Encode() != "" {
		t.Errorf("no episode is %v, %v", e, err)
	}
}
