package smallfile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/lamplighter/lamplighter/internal/smallfile"
)

func TestRead(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	for _, test := range []struct {
		size int
		good bool
	}{{0, true}, {1, true}, {smallfile.Most, true}, {smallfile.Most + 1, false}} {
		content := bytes.Repeat([]byte("x"), test.size)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := smallfile.ReadFile(name)
		if (err == nil) != test.good || test.good && !bytes.Equal(got, content) {
			t.Errorf("%d bytes: %d read, %v", test.size, len(got), err)
		}
	}
	if _, err := smallfile.ReadFile(name + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := os.Stat("/dev/zero"); err == nil {
		if _, err := smallfile.ReadFile("/dev/zero"); err == nil {
			t.Error("a file without an end was read")
		}
	}
}
