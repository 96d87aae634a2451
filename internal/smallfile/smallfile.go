// Package smallfile reads the files that settings and arguments name: keys, certificates, secrets and the settings
// themselves. It limits their size, so that a wrong name, such as a disk image or /dev/zero, does not fill the
// memory.
package smallfile

import (
	"fmt"
	"io"
	"os"
)

// Most is the largest size of such a file, in bytes.
const Most = 1 << 20

// ReadFile returns the whole content of a file. It fails when the file has more than Most bytes.
func ReadFile(name string) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // the caller's own setting or argument names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, Most+1))
	if err != nil {
		return nil, err
	}
	if len(b) > Most {
		return nil, fmt.Errorf("%s has more than %d bytes: is it the right file?", name, Most)
	}
	return b, nil
}
