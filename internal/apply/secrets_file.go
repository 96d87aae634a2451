package apply

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
)

// SecretsFile is a file of webhook secrets, one JSON object per line, readable only by its owner. A line without a
// secret is an intent. It is written before the service makes the secret. When a run is killed in between, the next
// run finds the intent and replaces the secret, which was never saved. Close keeps the secrets.
type SecretsFile struct {
	mu   sync.Mutex
	file *os.File
	// intents are open intents; kept are the lines with a secret, unchanged.
	intents map[string]bool
	kept    [][]byte
}

type secretEntry struct {
	ClientID string `json:"client_id"`
	Secret   string `json:"webhook_secret,omitempty"`
}

// maxEntry is longer than any line of a SecretsFile.
const maxEntry = 4096

// OpenSecretsFile opens or creates the file and locks it for one run.
func OpenSecretsFile(name string) (*SecretsFile, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // the caller's own argument names the file
	if err != nil {
		return nil, fmt.Errorf("open the file of secrets: %w", err)
	}
	b := &SecretsFile{file: f, intents: map[string]bool{}}
	if err := b.load(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("the file of secrets %s: %w", name, err)
	}
	return b, nil
}

func (b *SecretsFile) load() error {
	info, err := b.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a plain file")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return errors.New("others may read it: chmod 600 it first")
	}
	lines := bufio.NewScanner(b.file)
	lines.Buffer(make([]byte, 0, maxEntry), maxEntry)
	whole := int64(0)
	for n := 1; lines.Scan(); n++ {
		var e secretEntry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.ClientID == "" {
			if last := !lines.Scan(); last && n > 1 { // the line of a run that was killed while writing
				return b.file.Truncate(whole)
			}
			return fmt.Errorf("line %d is not a line of secrets: name another file", n)
		}
		whole += int64(len(lines.Bytes())) + 1
		if e.Secret == "" {
			b.intents[e.ClientID] = true
			continue
		}
		delete(b.intents, e.ClientID)
		b.kept = append(b.kept, bytes.Clone(lines.Bytes()))
	}
	return lines.Err()
}

// appendEntry appends one line in one call, so that a kill leaves at most one partial line at the end.
func (b *SecretsFile) appendEntry(e secretEntry) error {
	line, err := json.Marshal(e) //nolint:gosec // this file is where the caller wants the secret
	if err != nil {
		return err
	}
	if _, err := b.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write the file of secrets: %w", err)
	}
	if e.Secret != "" {
		b.kept = append(b.kept, line)
	}
	return nil
}

// RecordIntent writes an intent before a secret is made.
func (b *SecretsFile) RecordIntent(id string) (owed bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.intents[id] {
		return true, nil
	}
	if err := b.appendEntry(secretEntry{ClientID: id}); err != nil {
		return false, err
	}
	b.intents[id] = true
	return false, nil
}

// SaveSecret writes a secret.
func (b *SecretsFile) SaveSecret(id, secret string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.appendEntry(secretEntry{ClientID: id, Secret: secret}); err != nil {
		return err
	}
	delete(b.intents, id)
	return nil
}

// DropIntent removes an intent from memory. If the run is killed now, the next run still finds it and replaces a
// secret, with the grace period.
func (b *SecretsFile) DropIntent(id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.intents, id)
	return nil
}

// OpenIntents lists the open intents, sorted.
func (b *SecretsFile) OpenIntents() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.intents))
}

// Close syncs the file to disk. When no intent is open, the file then has only secrets.
func (b *SecretsFile) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	if len(b.intents) == 0 {
		err = b.compact()
	}
	return errors.Join(err, b.file.Sync(), b.file.Close())
}

// compact rewrites the file by way of a second one, so that a crash leaves one of the two.
func (b *SecretsFile) compact() error {
	name := b.file.Name()
	fresh, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // beside the caller's own file
	if err != nil {
		return fmt.Errorf("rewrite the file of secrets: %w", err)
	}
	w := bufio.NewWriter(fresh)
	for _, line := range b.kept {
		_, _ = w.Write(line)
		_ = w.WriteByte('\n') // a writer keeps its first error for Flush
	}
	if err := errors.Join(w.Flush(), fresh.Sync(), fresh.Close()); err != nil {
		return fmt.Errorf("rewrite the file of secrets: %w", err)
	}
	return os.Rename(name+".new", name)
}

// SecretsPrinter writes secrets to a stream and keeps none, for callers who want that.
type SecretsPrinter struct {
	W  io.Writer
	mu sync.Mutex
}

// RecordIntent does nothing: a stream cannot be read again.
func (*SecretsPrinter) RecordIntent(string) (bool, error) { return false, nil }

// SaveSecret prints the secret.
func (p *SecretsPrinter) SaveSecret(id, secret string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return json.NewEncoder(p.W).Encode(secretEntry{ClientID: id, Secret: secret}) //nolint:gosec // the caller asked for it
}

// DropIntent does nothing.
func (*SecretsPrinter) DropIntent(string) error { return nil }

// OpenIntents is empty.
func (*SecretsPrinter) OpenIntents() []string { return nil }
