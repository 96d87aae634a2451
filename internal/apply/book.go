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

// Book is a file of webhook secrets, one JSON object a line, readable by its owner alone. A line
// without a secret is an intention: it stands there before the service makes the secret, so that a
// run that is killed in between leaves a trace and the next run replaces the secret that nobody
// saw. Close leaves the secrets alone.
type Book struct {
	mu   sync.Mutex
	file *os.File
	// owed are intentions; kept are lines with a secret, as they stand in the file.
	owed map[string]bool
	kept [][]byte
}

type entry struct {
	ClientID string `json:"client_id"`
	Secret   string `json:"webhook_secret,omitempty"`
}

// maxEntry is longer than any line that a Book writes.
const maxEntry = 4096

// OpenBook opens or makes the file, which one run at a time may use.
func OpenBook(name string) (*Book, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // the caller's own argument names the file
	if err != nil {
		return nil, fmt.Errorf("open the file of secrets: %w", err)
	}
	b := &Book{file: f, owed: map[string]bool{}}
	if err := b.load(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("the file of secrets %s: %w", name, err)
	}
	return b, nil
}

func (b *Book) load() error {
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
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.ClientID == "" {
			if last := !lines.Scan(); last && n > 1 { // a run that was killed within a write
				return b.file.Truncate(whole)
			}
			return fmt.Errorf("line %d is not one of ours: name another file", n)
		}
		whole += int64(len(lines.Bytes())) + 1
		if e.Secret == "" {
			b.owed[e.ClientID] = true
			continue
		}
		delete(b.owed, e.ClientID)
		b.kept = append(b.kept, bytes.Clone(lines.Bytes()))
	}
	return lines.Err()
}

// write appends one line in one call, so that a kill leaves whole lines or one half at the end.
func (b *Book) write(e entry) error {
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

// Intend notes that a secret is about to be made.
func (b *Book) Intend(id string) (owed bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.owed[id] {
		return true, nil
	}
	if err := b.write(entry{ClientID: id}); err != nil {
		return false, err
	}
	b.owed[id] = true
	return false, nil
}

// Keep writes a secret down.
func (b *Book) Keep(id, secret string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.write(entry{ClientID: id, Secret: secret}); err != nil {
		return err
	}
	delete(b.owed, id)
	return nil
}

// Forget takes an intention back. A run that is killed now will find it again, and replace a secret
// with a time of grace.
func (b *Book) Forget(id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.owed, id)
	return nil
}

// Owed lists the intentions that nothing came of, in order.
func (b *Book) Owed() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.owed))
}

// Close makes the file durable. When no intention is open it leaves nothing but secrets.
func (b *Book) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	if len(b.owed) == 0 {
		err = b.compact()
	}
	return errors.Join(err, b.file.Sync(), b.file.Close())
}

// compact rewrites the file in place of itself, by way of a neighbour, so that a crash keeps one of
// the two.
func (b *Book) compact() error {
	name := b.file.Name()
	fresh, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // beside the caller's own file
	if err != nil {
		return fmt.Errorf("tidy the file of secrets: %w", err)
	}
	w := bufio.NewWriter(fresh)
	for _, line := range b.kept {
		_, _ = w.Write(line)
		_ = w.WriteByte('\n') // a writer keeps its first error for Flush
	}
	if err := errors.Join(w.Flush(), fresh.Sync(), fresh.Close()); err != nil {
		return fmt.Errorf("tidy the file of secrets: %w", err)
	}
	return os.Rename(name+".new", name)
}

// Printer is Secrets that are written to a stream and not remembered, for callers who want that.
type Printer struct {
	W  io.Writer
	mu sync.Mutex
}

// Intend does nothing: a stream cannot be looked at again.
func (*Printer) Intend(string) (bool, error) { return false, nil }

// Keep prints the secret.
func (p *Printer) Keep(id, secret string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return json.NewEncoder(p.W).Encode(entry{ClientID: id, Secret: secret}) //nolint:gosec // the caller asked for it
}

// Forget does nothing.
func (*Printer) Forget(string) error { return nil }

// Owed is empty.
func (*Printer) Owed() []string { return nil }
