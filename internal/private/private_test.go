//go:build unix

package private_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/datahq/specstore/internal/private"
)

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

// TestModes: modes are those of the package, with any umask, for what is new and for
// what was there before. It sets the umask of the process, so it runs alone.
func TestModes(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o777 &^ 0o700} {
		old := syscall.Umask(umask)
		func() {
			defer syscall.Umask(old)
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			for name, m := range map[string]fs.FileMode{"old": 0o644, "wide": 0o666, "good": 0o600, "read": 0o440} {
				if err := os.WriteFile(at(name), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(at(name), m); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(at("wide"), at("link")); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(at("fifo"), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"old", "new"} {
				f, err := private.Open(at(name))
				if err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
			if f, err := private.Open(at("fifo")); err == nil {
				t.Error("a pipe was opened")
				f.Close()
			}
			if err := private.Repair(at("wide"), at("good"), at("read"), at("none"), at("fifo"), dir); err != nil {
				t.Error(err)
			}
			for _, name := range []string{"server.json", "link"} {
				if err := private.Write(at(name), []byte("y")); err != nil {
					t.Error(err)
				}
			}
			if err := os.Mkdir(at("folder"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(at("folder"), 0o755); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"folder", "a/b"} {
				if err := private.Folder(at(name)); err != nil {
					t.Error(err)
				}
			}
			for name, want := range map[string]fs.FileMode{
				"old": 0o600, "new": 0o600, "wide": 0o600, "good": 0o600, "read": 0o600, "server.json": 0o600, "link": 0o600,
				"folder": 0o700 | fs.ModeDir, "a": 0o700 | fs.ModeDir, "a/b": 0o700 | fs.ModeDir,
			} {
				if got := mode(t, at(name)); got != want {
					t.Errorf("umask %03o: %s is %v, want %v", umask, name, got, want)
				}
			}
			if b, err := os.ReadFile(at("wide")); string(b) != "x" {
				t.Errorf("a link was written through: %q, %v", b, err)
			}
		}()
	}
}
