package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// stage is a part of the tests.
type stage struct{ name, run, skip string }

// stages are the parts in the order of their cost. What starts servers of its own is left to -real.
func stages(real bool) []stage {
	const world, servers = "TestWorld", "Cluster|MaxMemory|Replicas"
	on := func(server string) string { return "/" + server + "|//" + server } // subtests, of tables too
	out := []stage{
		{"miniredis", "", world + "|" + servers + "|" + on("redis-server")},
		{"world", "TestWorldOf(Known|Fresh)Seeds", ""}, // rapid would shrink what it finds, which takes long
	}
	if real {
		out = append(out, stage{"redis-server", "", world + "|" + on("miniredis")})
	}
	return out
}

// stageTimeout bounds one stage: a fault may leave a test waiting.
const stageTimeout = 90 * time.Second

// binary is a package's compiled tests, with the places of the scripts in it.
type binary struct {
	dir, tmp string
	text     []byte
	sources  map[string]string
	at       map[string]int
}

// build compiles the tests of a package and finds its scripts in them.
func build(ctx context.Context, dir string, sources map[string]string) (*binary, error) {
	tmp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return nil, err
	}
	b := &binary{dir: dir, tmp: tmp, sources: sources, at: map[string]int{}}
	path := filepath.Join(tmp, "whole.test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", path, ".")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("compile the tests: %w", err), os.RemoveAll(tmp))
	}
	if b.text, err = os.ReadFile(path); err != nil {
		return nil, errors.Join(err, os.RemoveAll(tmp))
	}
	for name, src := range sources {
		if bytes.Count(b.text, []byte(src)) != 1 {
			return nil, errors.Join(fmt.Errorf("script %s is not in the test binary exactly once", name), os.RemoveAll(tmp))
		}
		b.at[name] = bytes.Index(b.text, []byte(src))
	}
	return b, nil
}

func (b *binary) close() { _ = os.RemoveAll(b.tmp) }

// try runs the stages with a fault, nil for none, and names the first that notices it.
func (b *binary) try(ctx context.Context, m *mutant, real bool) (by string, err error) {
	path, err := b.write(m)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.Remove(path)) }()
	for _, s := range stages(real) {
		passed, err := b.passes(ctx, path, s)
		if err != nil {
			return "", err
		}
		if !passed {
			return s.name, nil
		}
	}
	return "", nil
}

// write writes the test binary with a fault in one script, which comments left the room for.
func (b *binary) write(m *mutant) (string, error) {
	f, err := os.CreateTemp(b.tmp, "*.test")
	if err != nil {
		return "", err
	}
	text := b.text
	if m != nil {
		room := len(b.sources[m.file]) - len(m.text)
		if room < 0 {
			return "", errors.Join(fmt.Errorf("the script with its fault is %d bytes too long", -room), f.Close())
		}
		text = bytes.Clone(text)
		copy(text[b.at[m.file]:], m.text+strings.Repeat("\n", room))
	}
	_, err = f.Write(text)
	return f.Name(), errors.Join(err, f.Chmod(0o700), f.Close())
}

// passes runs one stage.
func (b *binary) passes(ctx context.Context, path string, s stage) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	args := []string{"-test.failfast", "-test.timeout=80s", "-test.run=" + s.run}
	if s.skip != "" {
		args = append(args, "-test.skip="+s.skip)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = b.dir
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return false, nil
	}
	return err == nil, err
}
