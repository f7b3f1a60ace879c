package cli_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestModesOfDataFolder: in a data folder that others may read, made before with a
// database that others may read, everything that the server has and makes is its
// user's alone, with no umask to help it.
func TestModesOfDataFolder(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	for _, dir := range []string{"", "rawstore", "pkgstore", "pkgstore/_tmp", "tmp"} {
		if err := os.MkdirAll(filepath.Join(data, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	first := startServer(t, data)
	if code, _, stderr := first.specstore("push", elements(t)); code != 0 {
		t.Fatal(stderr)
	}
	first.kill() // the files of the database stay
	for _, name := range []string{"registry.db", "registry.db-wal", "registry.db-shm", "registry.db.lock", "server.json"} {
		if err := os.Chmod(filepath.Join(data, name), 0o666); err != nil {
			t.Error(err)
		}
	}
	for _, dir := range []string{"rawstore", "pkgstore", "tmp"} {
		if err := os.Chmod(filepath.Join(data, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, data: data, cmd: exec.Command("sh", "-c", `umask 0; exec specstore serve --data "$0"`, data)}
	s.start(nil)
	if code, _, stderr := s.specstore("push", elements(t), "--name", "again"); code != 0 {
		t.Fatal(stderr)
	}
	seen := 0
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == data {
			return err
		}
		seen++
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v", strings.TrimPrefix(path, data), info.Mode())
		}
		return err
	})
	if err != nil || seen < 10 {
		t.Errorf("%d files, %v", seen, err)
	}
	s.kill()
	if !strings.Contains(s.log.String(), "other users") || !strings.Contains(s.log.String(), data) || !strings.Contains(s.log.String(), "mode=0755") {
		t.Errorf("no warning of the folder:\n%s", s.log.String())
	}
	if strings.Contains(first.log.String(), "other users") != true {
		t.Errorf("no warning at the first start:\n%s", first.log.String())
	}
}

func elements(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "examples", "elements"))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
