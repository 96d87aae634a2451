package auditlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// File appends lines to a file. It opens the file for each write, so that the file may be moved away; it is then
// created again.
type File struct{ Name string }

// tail is how much of a file's end is searched for lines that were written and not recorded: a step writes less.
const tail = 1 << 20

// LastPlace implements Sink. A partial line at the end was never recorded: it is cut off.
func (f File) LastPlace(p Place) (Place, error) {
	file, err := os.OpenFile(f.Name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	defer func() { _ = file.Close() }()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return p, err
	}
	begin := max(size-tail, 0)
	text := make([]byte, size-begin)
	if _, err := file.ReadAt(text, begin); err != nil && !errors.Is(err, io.EOF) {
		return p, err
	}
	whole := bytes.LastIndexByte(text, '\n') + 1
	if whole < len(text) {
		if whole == 0 && begin > 0 {
			return p, fmt.Errorf("%s: %w", f.Name, errLine)
		}
		if err := file.Truncate(begin + int64(whole)); err != nil {
			return p, err
		}
	}
	text = text[:whole]
	if last, err := parseLine(text[bytes.LastIndexByte(text[:max(whole-1, 0)], '\n')+1:]); err == nil && last.N <= p.N {
		return p, nil // the usual case: everything written is recorded
	}
	if begin > 0 { // the first line in the searched part may be incomplete
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	for one := range bytes.SplitSeq(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
		if len(one) == 0 {
			continue
		}
		l, err := parseLine(one)
		if err != nil {
			return p, fmt.Errorf("%s: %w", f.Name, err)
		}
		if l.N > p.N {
			p = p.advancePast(l, one)
		}
	}
	return p, nil
}

// Write implements Sink.
func (f File) Write(lines [][]byte) error {
	file, err := os.OpenFile(f.Name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(bytes.Join(lines, nil))
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
