package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/config"
)

func TestDialable(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		":9464":          "127.0.0.1:9464",
		"0.0.0.0:9464":   "127.0.0.1:9464",
		"[::]:9464":      "[::1]:9464",
		"10.0.0.7:9464":  "10.0.0.7:9464",
		"localhost:9464": "localhost:9464",
		"[fd00::1]:9464": "[fd00::1]:9464",
	} {
		if got := deriveDialAddress(listen); got != want {
			t.Errorf("dialable(%q) = %q, want %q", listen, got, want)
		}
	}
}

// TestEverySettingHasItsFlag parses each flag of the table through the real command line.
func TestEverySettingHasItsFlag(t *testing.T) {
	t.Parallel()
	var help bytes.Buffer
	if code := run([]string{"config", "print", "--help"}, &help, &help); code != exitDone {
		t.Fatalf("help exits with %d", code)
	}
	for _, s := range config.AllSettings() {
		for _, name := range []string{s.Flag(), s.FileFlag()} {
			if name != "" && !strings.Contains(help.String(), "--"+name) {
				t.Errorf("%s: no flag --%s", s.Key, name)
			}
		}
		if s.Flag() == "" && strings.Contains(help.String(), "--"+strings.TrimSuffix(s.FileFlag(), "-file")+"=") {
			t.Errorf("%s: a secret can be given on the command line", s.Key)
		}
	}
}

func TestReadBuildPrefersTheLinkersVersion(t *testing.T) {
	t.Parallel()
	if got := readBuildInfo("1.2.3").Version; got != "1.2.3" {
		t.Errorf("version = %q", got)
	}
	if got := readBuildInfo("").Version; got == "" {
		t.Error("no version at all")
	}
}

func TestColoursAreForTerminalsAlone(t *testing.T) {
	t.Parallel()
	// a character device, as terminals are
	device, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	file, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, got := range map[string]bool{
		"device":         wantsColour(device, nil) && wantsColour(device, []string{"NO_COLOR=", "TERM=xterm"}),
		"not a file":     !wantsColour(&bytes.Buffer{}, nil),
		"a regular file": !wantsColour(file, nil),
		"NO_COLOR":       !wantsColour(device, []string{"NO_COLOR=1"}),
		"dumb":           !wantsColour(device, []string{"TERM=dumb"}),
	} {
		if !got {
			t.Errorf("%s: wrong", name)
		}
	}
}
