package main

import (
	"bytes"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

func TestAvailableMemory(t *testing.T) {
	t.Parallel()
	const machine = "MemTotal:       16777216 kB\nMemFree: 1 kB\n" // 16 GiB
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
		from  string
	}{
		"Container": {
			map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n"},
			1 << 30, "/sys/fs/cgroup/memory.max",
		},
		"Unit": {
			map[string]string{
				"proc/meminfo": machine, "proc/self/cgroup": "0::/system.slice/lamplighter.service\n",
				"sys/fs/cgroup/system.slice/lamplighter.service/memory.max": "2147483648\n", "sys/fs/cgroup/system.slice/memory.max": "max\n",
			},
			2 << 30, "/sys/fs/cgroup/system.slice/lamplighter.service/memory.max",
		},
		"SliceIsNarrower": {
			map[string]string{
				"proc/meminfo": machine, "proc/self/cgroup": "0::/a.slice/b.service\n",
				"sys/fs/cgroup/a.slice/b.service/memory.max": "2147483648", "sys/fs/cgroup/a.slice/memory.max": "1073741824",
			},
			1 << 30, "/sys/fs/cgroup/a.slice/memory.max",
		},
		"Version1": {
			map[string]string{
				"proc/meminfo": machine, "proc/self/cgroup": "9:name=systemd:/x\n4:memory:/docker/abc\n0::/\n",
				"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "536870912\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			},
			512 << 20, "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
		},
		"Version1InsideOfAContainer": {
			map[string]string{
				"proc/meminfo": machine, "proc/self/cgroup": "4:cpu,memory:/docker/abc\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n",
			},
			512 << 20, "/sys/fs/cgroup/memory/memory.limit_in_bytes",
		},
		"NoLimit": {
			map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"},
			8 << 30, "half of the machine",
		},
		"NoLimitInVersion1": {
			map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"},
			8 << 30, "half of the machine",
		},
		"MoreThanTheMachine": {
			map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "68719476736\n"},
			8 << 30, "half of the machine",
		},
		"NoMachine":    {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824"}, 1 << 30, "/sys/fs/cgroup/memory.max"},
		"NoCgroup":     {map[string]string{"proc/meminfo": machine}, 8 << 30, "half of the machine"},
		"NotLinux":     {nil, 0, ""},
		"Nonsense":     {map[string]string{"proc/meminfo": "MemTotal: much\nMemTotal:\n", "proc/self/cgroup": "\n:\n0::\n4:memory\n", "sys/fs/cgroup/memory.max": "-5\n"}, 0, ""},
		"OutOfTheRoot": {map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/../../etc\n", "etc/memory.max": "5"}, 8 << 30, "half of the machine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if may, from := readAvailableMemory(systemOf(c.files)); may != c.want || from != c.from {
				t.Errorf("%d from %q, want %d from %q", may, from, c.want, c.from)
			}
		})
	}
}

func TestPercentFor(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 400, 10 << 20: 400, 48 << 20: 400, 64 << 20: 300, 96 << 20: 200, 192 << 20: 100, 1 << 40: 100} {
		if got := computeGCPercent(live); got != want {
			t.Errorf("%d MiB live: %d %%, want %d %%", live>>20, got, want)
		}
	}
}

// What is live decides after a collection, and again when it is gone.
func TestPercentFollowsWhatIsLive(t *testing.T) {
	percent := debug.SetGCPercent(gcPercent)
	defer debug.SetGCPercent(percent)
	adjustPercentAfterGC(gcPercent)
	becomes := func(what string, ok func(percent int) bool) {
		t.Helper()
		redistest.Eventually(t, 20*time.Second, what, func() bool {
			runtime.GC()
			now := []metrics.Sample{{Name: "/gc/gogc:percent"}}
			metrics.Read(now)
			return ok(int(now[0].Value.Uint64()))
		})
	}
	held := make([]byte, 128<<20)
	becomes("a large heap is collected more often", func(p int) bool { return p < 160 })
	runtime.KeepAlive(held)
	held = nil
	becomes("a small one as before", func(p int) bool { return p == gcPercent })
	_ = held
}

func systemOf(texts map[string]string) fstest.MapFS {
	system := fstest.MapFS{}
	for name, text := range texts {
		system[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return system
}

// Whoever set GOGC or GOMEMLIMIT has chosen: what they say is left alone. It changes the whole process, and so is
// not parallel.
func TestTuneGC(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(math.MaxInt64)
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}()
	system := systemOf(map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000000000"})
	for name, c := range map[string]struct {
		gogc, set string
		files     fstest.MapFS
		percent   int
		limit     int64
		log       string
	}{
		"Neither":   {"", "", system, 400, 800_000_000, "limit_bytes=800000000"},
		"GOGC":      {"100", "", system, 100, math.MaxInt64, ""},
		"Limit":     {"", "5GiB", system, 400, math.MaxInt64, ""},
		"Both":      {"off", "5GiB", system, 100, math.MaxInt64, ""},
		"NothingIs": {"", "", nil, 400, math.MaxInt64, "level=WARN"},
	} {
		t.Run(name, func(t *testing.T) {
			debug.SetGCPercent(100)
			debug.SetMemoryLimit(math.MaxInt64)
			var log bytes.Buffer
			tuneGC(t.Context(), c.gogc, c.set, c.files, slog.New(slog.NewTextHandler(&log, nil)))
			if got := debug.SetGCPercent(100); got != c.percent {
				t.Errorf("GC percent %d, want %d", got, c.percent)
			}
			if got := debug.SetMemoryLimit(-1); got != c.limit {
				t.Errorf("limit %d, want %d", got, c.limit)
			}
			if !strings.Contains(log.String(), c.log) || c.log == "" && log.Len() > 0 {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}
