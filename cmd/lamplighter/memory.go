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

// memoryShare is the share of the available memory, in percent, above which Go collects garbage more often. The rest
// is for memory that Go does not count, and for allocations during a collection.
const memoryShare = 80

// gcPercent lets the heap grow to five times its live size before a collection. The live heap is usually small, tens
// of MB, while a burst of deliveries makes much short-lived garbage. With Go's default of 100, a busy worker spends a
// tenth of its time collecting. With a larger live heap, garbage is limited to mostGarbage; but the percentage is
// never below Go's default.
const (
	gcPercent   = 400
	gcLeast     = 100
	mostGarbage = 192 << 20
)

// computeGCPercent is how far the heap may grow beyond its live size, in percent.
func computeGCPercent(live uint64) int {
	return int(max(gcLeast, min(gcPercent, mostGarbage*100/max(live, 1))))
}

// adjustPercentAfterGC sets the percentage after each collection, in the finalizer of an unreferenced object. Go
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

// tuneGC sets the percentage, and a memory limit by the available memory, unless GOGC or GOMEMLIMIT are set.
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
		log.WarnContext(ctx, "the available memory is unknown: GOMEMLIMIT is not set")
		return
	}
	may = may / 100 * memoryShare
	debug.SetMemoryLimit(may)
	log.InfoContext(ctx, "memory limit set", "limit_bytes", may, "from", from)
}

// readAvailableMemory is the memory available to the process, in bytes: the lowest limit of its cgroup and the
// enclosing ones, or half of the machine's memory without such a limit; 0 when unknown. from names the source.
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

// readCgroupLimit is the lowest memory limit from the process's cgroup up to the visible root, and the file that has
// it; MaxInt64 when there is none. /proc/self/cgroup has lines "0::/path" of version 2 and "4:memory:/path" of
// version 1. In a container the path may be the host's, while the visible root is the container's.
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
			if err == nil && bad == nil && n > 0 && n < least { // "max" is not a number and means no limit
				least, file = n, "/"+at
			}
			if dir == "/" {
				break
			}
		}
	}
	return least, file
}
