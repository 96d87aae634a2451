package auditlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/auditlog"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/loop"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// bench is a store whose audit is written out into a file.
type bench struct {
	*testing.T
	store   *registry.Store
	rdb     redis.UniversalClient
	file    string
	reg     *prometheus.Registry
	options auditlog.Options
}

type noKeys struct{ registry.Sealer }

func each(t *testing.T, f func(b *bench)) {
	t.Helper()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		b := &bench{T: t, rdb: rdb, reg: prometheus.NewRegistry(), file: filepath.Join(t.TempDir(), "audit.jsonl")}
		b.store = registry.New(rdb, registry.Options{Keys: keys.New("test"), Keyring: noKeys{}, AuditKeep: 1000})
		b.options = auditlog.Options{
			Store: b.store, Sink: auditlog.File{Name: b.file}, Holder: "a", Metrics: auditlog.NewMetrics(b.reg), Log: slog.New(slog.DiscardHandler),
		}
		f(b)
	})
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// add makes entries of staff and of a partner, by turns.
func (b *bench) add(n int) {
	b.Helper()
	for i := range n {
		e := registry.AuditEntry{Actor: "kim", Role: "admin", Action: "token.create", Subject: fmt.Sprint("t", i), After: `{"a":"<é>"}`}
		if i%2 == 1 {
			e = registry.AuditEntry{Actor: "evil", Role: "partner:evil", RequestID: "r", Action: "app.resync", Subject: "evil", Before: "no JSON"}
		}
		b.ok(b.store.AppendAudit(b.Context(), e))
	}
}

// write runs steps from a place until all is written, and notes that in Redis unless the process dies before.
func (b *bench) write(w *auditlog.Writer, dies bool) {
	b.Helper()
	cursor, err := b.store.LoopCursor(b.Context(), auditlog.LoopName)
	b.ok(err)
	report := loop.Report{Next: cursor}
	for !report.End {
		report, err = w.Step(b.Context(), report.Next)
		b.ok(err)
	}
	if dies {
		return
	}
	for range 2 { // who takes the lease writes nothing yet
		_, err = b.store.TakeLoopLease(b.Context(), auditlog.LoopName, "a", 1<<40, &registry.LoopState{Cursor: report.Next})
		b.ok(err)
	}
}

func (b *bench) verify(with auditlog.AuditReader, files ...string) *auditlog.Findings {
	b.Helper()
	var sources []auditlog.Source
	for _, name := range files {
		sources = append(sources, auditlog.Source{Name: filepath.Base(name), Open: func() (io.ReadCloser, error) { return os.Open(name) }})
	}
	found, err := auditlog.VerifyLines(b.Context(), sources, with)
	b.ok(err)
	return found
}

func (b *bench) lines() [][]byte {
	b.Helper()
	text, err := os.ReadFile(b.file)
	b.ok(err)
	return bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
}

func (b *bench) sound(f *auditlog.Findings, lines, compared int64) {
	b.Helper()
	if f.Wrong > 0 || f.Lines != lines || f.Compared != compared {
		b.Errorf("found %+v, want %d lines, %d compared", f, lines, compared)
	}
}

// TestAuditIsWrittenOut: all entries, once each, in the order of time; also over a crash and a move of the file.
func TestAuditIsWrittenOut(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		w := auditlog.New(b.options)
		b.add(150)
		b.write(w, false)
		b.sound(b.verify(b.store, b.file), 150, 150)
		b.add(50)
		b.write(w, true)
		f, err := os.OpenFile(b.file, os.O_APPEND|os.O_WRONLY, 0)
		b.ok(err)
		_, err = f.WriteString(`{"n":201,"previous":"00`) // the crash came in the middle of a line
		b.ok(errors.Join(err, f.Close()))
		b.add(10)
		b.write(auditlog.New(b.options), false)
		b.sound(b.verify(b.store, b.file), 210, 210)

		b.ok(os.Rename(b.file, b.file+".1"))
		b.add(3)
		b.write(w, false)
		b.sound(b.verify(b.store, b.file, b.file+".1"), 213, 213)
		b.sound(b.verify(nil, b.file), 3, 0)
		if found := b.verify(b.store, b.file); found.Wrong == 0 {
			b.Error("half of the lines agree with all of Redis")
		}
		if n := testutil.ToFloat64(count(b, "lamplighter_audit_lines_total")); n != 213 {
			b.Errorf("%v lines are counted", n)
		}
	})
}

// count reads one counter without labels.
func count(b *bench, name string) prometheus.Collector {
	b.Helper()
	families, err := b.reg.Gather()
	b.ok(err)
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "x", Help: "x"})
	for _, f := range families {
		if f.GetName() == name {
			c.Add(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	return c
}

// TestAlterationsAreFound: in the file, in its order, and in Redis.
func TestAlterationsAreFound(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		b.add(20)
		b.write(auditlog.New(b.options), false)
		lines := b.lines()
		for name, tc := range map[string]struct {
			alter func() [][]byte
			want  string
		}{
			"Word": {func() [][]byte {
				lines[7] = bytes.Replace(lines[7], []byte(`"action":"`), []byte(`"action":"x`), 1)
				return lines
			}, "was altered"},
			"Left":    {func() [][]byte { return slices.Delete(lines, 5, 6) }, "1 lines are missing before it, from 6 on"},
			"Swapped": {func() [][]byte { lines[3], lines[4] = lines[4], lines[3]; return lines }, "missing"},
			"Twice": {func() [][]byte {
				return slices.Insert(lines, 3, bytes.Replace(lines[2], []byte(`"action":"`), []byte(`"action":"x`), 1))
			}, "differs from the one before"},
			"CutOff":  {func() [][]byte { return lines[:15] }, "15 is the last one here"},
			"Rubbish": {func() [][]byte { return slices.Insert(lines, 3, []byte("x\n")) }, "no line of the audit"},
			"LastOne": {func() [][]byte {
				lines[19] = bytes.Replace(lines[19], []byte(`"action":"`), []byte(`"action":"x`), 1)
				return lines
			}, "not the one that Redis knows"},
		} {
			kept := slices.Clone(lines)
			for i := range lines {
				kept[i] = bytes.Clone(lines[i])
			}
			other := b.file + name
			b.ok(os.WriteFile(other, bytes.Join(tc.alter(), nil), 0o600))
			found := b.verify(b.store, other)
			if found.Wrong == 0 || !strings.Contains(strings.Join(found.Faults, "\n"), tc.want) {
				b.Errorf("%s: found %q", name, found.Faults)
			}
			lines = kept
		}
		b.sound(b.verify(b.store, b.file), 20, 20)

		stream := keys.New("test").Config(keys.ConfigAudit)
		entries := b.rdb.XRange(b.Context(), stream, "-", "+").Val()
		b.ok(b.rdb.XDel(b.Context(), stream, entries[4].ID).Err())
		if found := b.verify(b.store, b.file); found.Wrong != 1 || !strings.Contains(found.Faults[0], "gone from Redis") {
			b.Errorf("an entry that was taken out of Redis: %+v", found)
		}
	})
}

// TestLostEntriesAreCounted: what was pushed out before it was written is told of, by stream.
func TestLostEntriesAreCounted(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		w := auditlog.New(b.options)
		b.add(4)
		b.write(w, false)
		for range 600 {
			b.ok(b.store.AppendAudit(b.Context(), registry.AuditEntry{Actor: "evil", Role: "partner:evil", Action: "app.resync", Subject: "evil"}))
		}
		b.add(2)
		b.ok(b.rdb.XTrimMaxLen(b.Context(), keys.New("test").Config(keys.ConfigAudit), 1).Err())
		b.write(w, false)
		got := map[string]float64{}
		families, err := b.reg.Gather()
		b.ok(err)
		for _, f := range families {
			if f.GetName() == "lamplighter_audit_gaps_total" {
				for _, m := range f.GetMetric() {
					got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
		if got["staff"] != 1 || got["partners"] != 1 {
			b.Errorf("counted %v", got)
		}
		if found := b.verify(nil, b.file); found.Wrong != 1 || !strings.Contains(found.Faults[0], "entries of partners were gone") {
			b.Errorf("found %+v", found)
		}
	})
}

// record is a connection that keeps what it was sent.
type record struct {
	bytes.Buffer
	err error
}

func (r *record) Write(p []byte) (int, error) {
	r.WriteString("<" + string(p) + ">\n")
	return len(p), r.err
}
func (*record) Close() error { return nil }

func TestSyslog(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		sent := &record{}
		b.options.Sink = auditlog.Syslog{Dial: func(string, string) (io.WriteCloser, error) { return sent, nil }}
		b.add(2)
		b.write(auditlog.New(b.options), true)
		b.write(auditlog.New(b.options), false) // twice, and the same
		text := strings.NewReplacer("<{", "{", "}>", "}").Replace(sent.String())
		b.ok(os.WriteFile(b.file, []byte(text), 0o600))
		b.sound(b.verify(b.store, b.file), 2, 2)
		b.add(1)
		sent.err = errors.New("no route")
		report, err := auditlog.New(b.options).Step(b.Context(), "")
		if err == nil || report.End || auditlog.ParsePlace(report.Next).N != 0 {
			b.Errorf("with a syslog that is away: %+v, %v", report, err)
		}
	})
}

func TestParseSink(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]auditlog.Sink{
		"/var/log/audit.jsonl": auditlog.File{Name: "/var/log/audit.jsonl"}, "syslog": auditlog.Syslog{},
		"udp://log.example:514": auditlog.Syslog{Network: "udp", Address: "log.example:514"}, "tcp://[::1]:601": auditlog.Syslog{Network: "tcp", Address: "[::1]:601"},
	} {
		got, err := auditlog.ParseSink(text)
		if s, ok := got.(auditlog.Syslog); ok && err == nil {
			w, _ := want.(auditlog.Syslog)
			if s.Network != w.Network || s.Address != w.Address {
				t.Errorf("%s is %+v", text, got)
			}
		} else if err != nil || got != want {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "audit.jsonl", "http://log.example", "udp://"} {
		if got, err := auditlog.ParseSink(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	p := auditlog.ParsePlace("")
	p.N, p.Staff, p.Count = 7, "5-0", 3
	if got := auditlog.ParsePlace(p.String()); got != p {
		t.Errorf("%+v became %+v", p, got)
	}
	for _, text := range []string{"x", "2 1 2 3 4 5", "1 -1 " + p.Digest + " - - 0", "1 x " + p.Digest + " - - 0"} {
		if got := auditlog.ParsePlace(text); got != auditlog.ParsePlace("") {
			t.Errorf("%q is %+v", text, got)
		}
	}
}
