package cli_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestTrash: a dataset is deleted, restored and erased by commands.
func TestTrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table(t, filepath.Join(dir, "big"), 10)
	s := startServer(t, filepath.Join(dir, "data"))
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"push " + filepath.Join(dir, "big"), 0, "SUCCEEDED local/big/1"},
		{"rm local/big", 2, "answer yes"},
		{"rm big --yes", 2, "is not OWNER/DATASET"},
		{"restore local/big", 3, "in the trash"},
		{"rm local/big --yes", 0, "DELETED local/big"},
		{"status local/big", 3, "no revision"},
		{"rm local/big --yes", 3, "no revision"},
		{"restore local/big", 0, "RESTORED local/big"},
		{"status local/big", 0, "SUCCEEDED local/big/1"},
		{"rm local/big --yes", 0, "DELETED local/big"},
		{"push " + filepath.Join(dir, "big"), 0, "SUCCEEDED local/big/2"},
		{"restore local/big", 3, "pushed again"},
		{"rm local/big --erase-now --yes", 0, "ERASED local/big"},
		{"restore local/big", 3, "in the trash"},
	} {
		code, stdout, stderr := s.specstore(strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Fatalf("%s: %d, want %d with %q\n%s%s", c.args, code, c.code, c.want, stdout, stderr)
		}
	}
}
