package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/lamplighter/lamplighter/internal/config"
)

// slack is what a process needs beyond shutdown_timeout before it is killed.
const slack = 10 * time.Second

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// secretFile stands in for the files that the examples name.
func secretFile(name string) ([]byte, error) {
	if strings.HasSuffix(name, "encryption.key") {
		return []byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), nil
	}
	if strings.HasSuffix(name, "redis.url") {
		return []byte("redis://:secret@redis:6379/0"), nil
	}
	return []byte("lmp_0123456789abcdef0123456789"), nil
}

func serves(t *testing.T, what string, src config.Sources) config.Config {
	t.Helper()
	src.ReadFile = secretFile
	l, err := config.Load(src)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if err := l.CheckServe(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return l.Config
}

func TestUnit(t *testing.T) {
	t.Parallel()
	unit := read(t, "systemd/lamplighter.service")
	settings := read(t, "systemd/lamplighter.yaml")
	c := serves(t, "systemd/lamplighter.yaml", config.Sources{FileName: "lamplighter.yaml", File: []byte(settings)})
	m := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`).FindStringSubmatch(unit)
	if m == nil {
		t.Fatal("the unit has no TimeoutStopSec in seconds")
	}
	if stop, err := time.ParseDuration(m[1] + "s"); err != nil || stop < c.ShutdownTimeout+slack {
		t.Errorf("TimeoutStopSec %v is less than shutdown_timeout %v and %v", stop, c.ShutdownTimeout, slack)
	}
	for _, file := range regexp.MustCompile(`/run/credentials/lamplighter.service/([a-z.]+)`).FindAllStringSubmatch(settings, -1) {
		if !strings.Contains(unit, "\nLoadCredential="+file[1]+":") {
			t.Errorf("the settings name the credential %s, which the unit does not load", file[1])
		}
	}
	for _, hardening := range []string{"DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n", "SystemCallFilter=@system-service"} {
		if !strings.Contains(unit, "\n"+hardening) {
			t.Errorf("the unit lacks %s", strings.TrimSpace(hardening))
		}
	}
}

func TestCompose(t *testing.T) {
	t.Parallel()
	var file struct {
		Services map[string]struct {
			Environment map[string]string
			ReadOnly    bool          `yaml:"read_only"`
			Grace       time.Duration `yaml:"stop_grace_period"`
			Command     []string
			Secrets     []string
			Build       string
		}
		Secrets map[string]any
	}
	if err := yaml.Unmarshal([]byte(read(t, "compose/compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"api", "worker"} {
		s := file.Services[name]
		if _, err := os.Stat(filepath.Join("compose", s.Build, "Dockerfile")); err != nil {
			t.Errorf("%s: no Dockerfile where the image is built: %v", name, err)
		}
		var environ []string
		for key, value := range s.Environment {
			environ = append(environ, key+"="+value)
		}
		c := serves(t, name, config.Sources{Environ: environ})
		if len(c.Roles) != 1 || c.Roles[0] != name || !s.ReadOnly || s.Grace < c.ShutdownTimeout+slack {
			t.Errorf("%s: roles %v, read-only %v, killed after %v", name, c.Roles, s.ReadOnly, s.Grace)
		}
		for _, secret := range s.Secrets {
			if file.Secrets[secret] == nil {
				t.Errorf("%s: no file for the secret %s", name, secret)
			}
		}
	}
	if redis := file.Services["redis"]; !slices.Contains(redis.Command, "/run/secrets/redis.conf") || !slices.Contains(redis.Secrets, "redis.conf") {
		t.Errorf("Redis has no password: %v with the secrets %v", redis.Command, redis.Secrets)
	}
	if command := strings.Join(file.Services["redis"].Command, " "); !strings.Contains(command, "--appendonly yes") || !strings.Contains(command, "noeviction") {
		t.Errorf("Redis would lose what was accepted: %s", command)
	}
}
