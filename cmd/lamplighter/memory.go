package main

import (
	"context"
	"io/fs"
	"log/slog"
	"math"
	"path"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// memoryShare is how much of what a process may take, in percent, its Go memory grows to before it is collected
// more often. The rest is for what Go does not count, and for what is allocated while it collects.
const memoryShare = 80

// gcPercent lets the heap grow to five times what is live before it is collected. What is live is usually
// small, tens of MB, while a burst of deliveries makes a lot of short-lived garbage; with Go's default
// of 100 a tenth of a busy worker's time goes into collecting it. Where more is live, the garbage
// may be no more than mostGarbage; but never is collected more often than by Go's default.
const (
	gcPercent   = 400
	gcLeast     = 100
	mostGarbage = 192 << 20
)

// computeGCPercent is how far the heap may grow beyond what is live, in percent.
func computeGCPercent(live uint64) int {
	return int(max(gcLeast, min(gcPercent, mostGarbage*100/max(live, 1))))
}

// adjustPercentAfterGC sets the percentage after each collection, in the finalizer of an object that nothing refers to. Go
// counts goroutines' stacks as live.
func adjustPercentAfterGC(percent int) {
	runtime.SetFinalizer(&struct{ _ [16]byte }{}, func(any) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}}
		metrics.Read(live)
		next := computeGCPercent(live[0].Value.Uint64() + live[1].Value.Uint64())
		if next*10 < percent*9 || next*9 > percent*10 || next == gcPercent && percent != next { // each change stops the world
			debug.SetGCPercent(next)
			percent = next
		}
		adjustPercentAfterGC(percent)
	})
}

// tuneGC sets it, and a memory limit by what the process may take, unless GOGC or GOMEMLIMIT say otherwise.
func tuneGC(ctx context.Context, gogc, limit string, system fs.FS, log *slog.Logger) {
	if gogc == "" {
		debug.SetGCPercent(gcPercent)
		adjustPercentAfterGC(gcPercent)
	}
	if gogc != "" || limit != "" {
		return
	}
	may, from := readAvailableMemory(system)
	if may == 0 {
		log.WarnContext(ctx, "nothing says how much memory the process may take: GOMEMLIMIT is not set")
		return
	}
	may = may / 100 * memoryShare
	debug.SetMemoryLimit(may)
	log.InfoContext(ctx, "memory limit set", "limit_bytes", may, "from", from)
}

// readAvailableMemory is what the process may take, in bytes: the least limit of its cgroup and those around it, or
// half of the machine where none limits it further; 0 where nothing is known. from says where that stands.
func readAvailableMemory(system fs.FS) (may int64, from string) {
	machine := readMachineMemory(system)
	may, from = readCgroupLimit(system)
	switch {
	case machine > 0 && may >= machine:
		return machine / 2, "half of the machine"
	case may < math.MaxInt64:
		return may, from
	default:
		return 0, ""
	}
}

// readMachineMemory reads "MemTotal: 24683720 kB", 0 where there is none.
func readMachineMemory(system fs.FS) int64 {
	text, _ := fs.ReadFile(system, "proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			kb, err := strconv.ParseInt(f[1], 10, 50)
			if err == nil && kb > 0 {
				return kb << 10
			}
		}
	}
	return 0
}

// readCgroupLimit is the least memory limit on the way from the process' cgroup up to the root that it sees, and the
// file that has it; MaxInt64 where there is none. /proc/self/cgroup has lines "0::/path" of version 2 and
// "4:memory:/path" of version 1; within a container the path may be the host's, and the root is its own.
func readCgroupLimit(system fs.FS) (least int64, file string) {
	least = math.MaxInt64
	text, _ := fs.ReadFile(system, "proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		var root, name string
		switch {
		case f[0] == "0" && f[1] == "":
			root, name = "sys/fs/cgroup", "memory.max"
		case f[1] == "memory" || strings.HasPrefix(f[1], "memory,") || strings.HasSuffix(f[1], ",memory") || strings.Contains(f[1], ",memory,"):
			root, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := path.Join("/", f[2]); ; dir = path.Dir(dir) {
			at := path.Join(root, dir, name)
			limit, err := fs.ReadFile(system, at)
			n, bad := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64)
			if err == nil && bad == nil && n > 0 && n < least { // "max" is no number, and none
				least, file = n, "/"+at
			}
			if dir == "/" {
				break
			}
		}
	}
	return least, file
}
