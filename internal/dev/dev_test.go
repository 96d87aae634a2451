package dev_test

import (
	"context"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/dev"
)

const anyPort = "127.0.0.1:0"

// options are what `lamplighter dev` hands over, on free ports.
func options(t *testing.T, out *lines) dev.Options {
	t.Helper()
	l, err := config.Load(config.Sources{
		Defaults: config.DevDefaults(), Flags: map[string]string{"listen": anyPort, "ops-listen": anyPort},
	})
	if err != nil {
		t.Fatal(err)
	}
	return dev.Options{
		Config: l.Config, ReceiverListen: anyPort, DemoServerListen: anyPort, Version: "test",
		Out: out, Log: discard(), Ignored: []string{"redis.url"},
	}
}

// await polls until text shows a pattern.
func await(t *testing.T, within time.Duration, text func() string, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if found := re.FindString(text()); found != "" {
			return found
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("no %s within %v in:\n%s", pattern, within, text())
		}
	}
}

// shell runs a command as a newcomer pastes it.
func shell(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// commands are the lines of the banner that can be pasted.
func commands(banner string) []string {
	var list []string
	for line := range strings.Lines(banner) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "curl ") {
			list = append(list, line)
		}
	}
	return list
}

// TestTheTour pastes every command that dev prints and sees what the banner promises: the pushes
// verified, the mail when the receiver is away, the truth when it is back, and the second mail.
func TestTheTour(t *testing.T) {
	t.Parallel()
	out := &lines{}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx, options(t, out)) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
		if !strings.HasSuffix(out.String(), "\nStopped; all state is gone.\n") {
			t.Error("it does not say that it forgot everything")
		}
	}()
	await(t, 30*time.Second, out.String, `Ctrl-C stops it`)
	for _, want := range []string{"FORGETS EVERYTHING", "Ignored, since the demo brings its own: redis.url"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the banner does not say %q", want)
		}
	}
	// approvals told where each tenant stands, and to nobody who did not approve
	for _, pair := range []string{"demo-erp got Resume of Cust10001", "demo-erp got Resume of Cust10003", "demo-quote got Resume of Cust10002"} {
		await(t, 10*time.Second, out.String, "verified  "+pair)
	}
	pasted := commands(out.String())
	if len(pasted) != 6 {
		t.Fatalf("%d commands in the banner, want 3 to try and 3 to look: %q", len(pasted), pasted)
	}
	report, away, back := pasted[0], pasted[1], pasted[2]
	look := func(n int, want string) {
		t.Helper()
		if got := shell(t, pasted[2+n]); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s\n%s\nwant %s", pasted[2+n], got, want)
		}
	}
	const both = "(?s)demo-%s got %s of Cust10001: Token ok \\(%s, key [0-9A-F]{8}\\), signature ok, in order\n"
	told := func(change string, within time.Duration) {
		t.Helper()
		await(t, within, out.String, sprintf(both, "erp", change, "RS256"))
		await(t, within, out.String, sprintf(both, "quote", change, "ES256"))
	}

	look(3, `^No mail yet`)
	if got := shell(t, report); !strings.Contains(got, `"apps":2`) {
		t.Errorf("the report's answer: %s", got)
	}
	told("Suspend", 10*time.Second)
	look(1, `"State":"Suspended","IsRunning":false`)

	shell(t, away)
	await(t, 5*time.Second, out.String, `receiver  stopped(.|\n)*accepted  a change of Cust10001`)
	await(t, 5*time.Second, out.String, `waiting   demo-erp could not be notified about Cust10001: refused, attempt 1;`)
	look(2, `"waiting":1`)
	for _, mail := range []string{`to erin@erp.example: .*Demo ERP .*failing since`, `to quinn@quote.example: .*Demo Quote .*failing since`} {
		await(t, 30*time.Second, out.String, "mail      "+mail)
	}
	look(3, `(?s)To: erin@erp.example.*it refused the connection`)

	before := len(out.String())
	shell(t, back)
	await(t, 20*time.Second, func() string { return out.String()[before:] }, "demo-erp got Resume of Cust10001: .* signature ok, in order")
	await(t, 20*time.Second, func() string { return out.String()[before:] }, "demo-quote got Resume of Cust10001: .* signature ok, in order")
	await(t, 30*time.Second, out.String, `mail      to erin@erp.example: .*recovered after`)
	await(t, 30*time.Second, out.String, `mail      to quinn@quote.example: .*recovered after`)
	look(1, `"State":"Running","IsRunning":true`)
	look(2, `"waiting":0`)
	look(3, `(?s)mail 4 of 4.*recovered`)
	if got := strings.Count(out.String(), "failing since"); got != 2 {
		t.Errorf("%d mails of opened incidents, want one per app", got)
	}
	ownApp(t, out)
}

// ownApp follows the desk's own page: an app that a newcomer registers.
func ownApp(t *testing.T, out *lines) {
	t.Helper()
	desk := regexp.MustCompile(`Demo server +(http\S+)`).FindStringSubmatch(out.String())[1]
	token := regexp.MustCompile(`Admin token +(\S+)`).FindStringSubmatch(out.String())[1]
	for _, command := range commands(shell(t, "curl -sS "+desk)) {
		shell(t, "LAMPLIGHTER_TOKEN="+token+"; "+command)
	}
	await(t, 10*time.Second, out.String, `my-app got Resume of Cust10001: Token ok \(RS256, key [0-9A-F]{8}\), signature ok, in order`)
}

func TestRunNamesTheFlagOfATakenAddress(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	addr := taken.Addr().String()
	for flag, set := range map[string]func(*dev.Options){
		"--listen":          func(o *dev.Options) { o.Config.Listen = addr },
		"--ops-listen":      func(o *dev.Options) { o.Config.OpsListen = addr },
		"--public-listen":   func(o *dev.Options) { o.Config.PublicListen = addr },
		"--receiver-listen": func(o *dev.Options) { o.ReceiverListen = addr },
		"--desk-listen":     func(o *dev.Options) { o.DemoServerListen = addr },
	} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			o := options(t, &lines{})
			set(&o)
			err := dev.Run(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), addr+" already") || !strings.Contains(err.Error(), "such as "+flag+" 127.0.0.1:0") {
				t.Errorf("Run = %v", err)
			}
		})
	}
}

func TestRunStopsCleanlyBeforeItStarted(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := dev.Run(ctx, options(t, &lines{})); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestRedisForgetsExpiredKeysByTheWallClock(t *testing.T) {
	t.Parallel()
	m, err := dev.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer rdb.Close()
	if err := rdb.Set(t.Context(), "k", "v", 50*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if rdb.Get(t.Context(), "k").Err() != nil {
		t.Error("the key is gone at once")
	}
	await(t, 10*time.Second, func() string { return rdb.Get(t.Context(), "k").String() }, "redis: nil")
	var now []any
	if now, err = rdb.Eval(t.Context(), "return redis.call('TIME')", nil).Slice(); err != nil {
		t.Fatal(err)
	}
	if got := parseSeconds(t, now[0]); time.Since(got).Abs() > 5*time.Second {
		t.Errorf("TIME in a script is %v", got)
	}
}

func TestBaseURLCanBeDialled(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	for _, addr := range []string{"127.0.0.1:80", ":81", "0.0.0.0:82", "[::]:83", "[::1]:84", "box:85", "nonsense"} {
		got[addr] = dev.BaseURL(addr)
	}
	want := map[string]string{
		"127.0.0.1:80": "http://127.0.0.1:80", ":81": "http://127.0.0.1:81", "0.0.0.0:82": "http://127.0.0.1:82",
		"[::]:83": "http://127.0.0.1:83", "[::1]:84": "http://[::1]:84", "box:85": "http://box:85", "nonsense": "http://nonsense",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReserveRefusesANameThatIsNoAddress(t *testing.T) {
	t.Parallel()
	addr := "127.0.0.1:99999"
	if err := dev.Reserve(t.Context(), "--listen", &addr); err == nil || !strings.Contains(err.Error(), "as --listen says") {
		t.Errorf("Reserve = %v", err)
	}
}
