//go:build unix

package local_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/local"
	"github.com/datahq/specstore/internal/testkit"
)

// TestOpen: what of a folder is opened by what stands in it, and what by the user.
func TestOpen(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	at := func(name string) string { return filepath.Join(top, name) }
	for _, dir := range []string{"p/sub", "q"} {
		if err := os.MkdirAll(at(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"p/t.csv", "p/sub/u.csv", "q/secret", "pq"} {
		if err := os.WriteFile(at(name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"p/in": "sub/u.csv", "p/sub/back": "../t.csv", "p/out": "../q/secret", "p/abs": at("q/secret"), "p/absin": at("p/t.csv"), "p/dir": "../q", "p/loop": "loop", "p/none": "nothing",
		"p/outout": "out", "p/dev": "/dev/zero", "p/round": "../p/t.csv", "link": "q/secret", "folder": "p",
	} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(at("p/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", at("p/s"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, c := range []struct{ path, folder, user string }{ // what the refusal says; empty: it is opened
		{"p/t.csv", "", ""},
		{"p/sub/u.csv", "", ""},
		{"p/sub/../t.csv", "", ""},
		{"p/in", "", ""},
		{"p/sub/back", "", ""},
		{"p/out", "leads out", ""},
		{"p/outout", "leads out", ""},
		{"p/abs", "leads out", ""},
		{"p/dir/secret", "leads out", ""},
		{"q/secret", "outside of", ""},
		{"p/../q/secret", "outside of", ""},
		{"pq", "outside of", ""},
		{"p", "folder", "folder"},
		{"p/sub", "folder", "folder"},
		{"p/fifo", "pipe", "pipe"},
		{"p/s", "socket", "socket"},
		{"p/dev", "leads out", "device"},
		{"p/loop", "loop", "links"},
		{"p/none", "none", "no such file"},
		{"p/nothing", "no such file", "no such file"},
		{"link", "outside of", ""},
	} {
		for _, dir := range []string{"p", "folder", "p/"} {
			f := testkit.Must(local.OpenFolder(at(dir)))(t)
			path := at(c.path)
			if dir == "folder" {
				path = strings.Replace(path, at("p"), at("folder"), 1)
				if c.path == "pq" {
					path = at("pq")
				}
			}
			file, err := f.Open(path)
			check(t, "in the folder: "+c.path, file, err, c.folder)
			if rel, ok := strings.CutPrefix(c.path, "p/"); ok {
				file, err := f.Open(rel)
				check(t, "relative: "+c.path, file, err, c.folder)
			}
			f.Close()
		}
		file, err := local.Open(at(c.path))
		check(t, "by the user: "+c.path, file, err, c.user)
	}
	f := testkit.Must(local.OpenFolder(at("p")))(t)
	defer f.Close()
	file, err := f.Open("/dev/zero")
	check(t, "/dev/zero", file, err, "outside of")
	if _, err := local.OpenFolder(at("none")); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	if _, err := local.ReadAll(testkit.Must(f.Open("t.csv"))(t), 3); !errs.Is(err, errs.TooLarge) {
		t.Error(err)
	}
}

func check(t *testing.T, what string, file fs.File, err error, want string) {
	t.Helper()
	if err == nil {
		file.Close()
	}
	switch {
	case want == "" && err != nil, want != "" && err == nil:
		t.Errorf("%s: %v, want %q", what, err, want)
	case err != nil && (!errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), want) || !strings.Contains(errs.Detail(err), "/")):
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}
