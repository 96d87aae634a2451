package architecture_test

import (
	"os/exec"
	"testing"
)

// TestReadability holds names, comments and documents to the glossary: functions say verb and object, a word has one
// meaning, and words of a private language are not used. `make readability` shows the figures.
func TestReadability(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "run", "-C", "../../tools/readability", ".", "-check").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
