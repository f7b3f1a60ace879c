package objstore_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
	"github.com/datahq/specstore/internal/objstore/objstoretest"
	"github.com/datahq/specstore/internal/testkit"
)

func open(t testing.TB, dir string) *objstore.Local {
	t.Helper()
	l, err := objstore.OpenLocal(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLocal(t *testing.T) {
	t.Parallel()
	objstoretest.Run(t, func(t *testing.T) objstore.Store {
		dir := filepath.Join(t.TempDir(), "not", "there")
		l := open(t, dir)
		t.Cleanup(func() {
			if left, err := os.ReadDir(filepath.Join(dir, "_tmp")); err != nil || len(left) > 0 {
				t.Errorf("temporary files are left: %v, %v", left, err)
			}
		})
		return l
	})
}

func write(l *objstore.Local, t *testing.T, key string) error {
	t.Helper()
	w, err := l.Create(t.Context(), key)
	if err != nil {
		return err
	}
	defer w.Cancel()
	if _, err := io.WriteString(w, "text"); err != nil {
		return err
	}
	return w.Commit()
}

// TestAbandoned: a process that died leaves its temporary files for a day, since
// another one may still be writing them.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, dir)
	old, young := filepath.Join(dir, "_tmp", "old"), filepath.Join(dir, "_tmp", "young")
	for _, f := range []string{old, young} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	yesterday := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(old, yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the abandoned file: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("the young file: %v", err)
	}
}

// TestClear: of the files in the making those with a mark are removed, and nothing else.
func TestClear(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := objstore.Clear(filepath.Join(dir, "nowhere"), "a-"); err != nil {
		t.Errorf("of a store that is not there: %v", err)
	}
	if err := objstore.Clear(dir, "a-"); err != nil {
		t.Errorf("of a store that nobody has opened: %v", err)
	}
	for _, mark := range []string{"a-1-", "a-12-", "b-1-", ""} {
		l := testkit.Must(objstore.OpenLocal(dir))(t)
		defer l.Close()
		l.Mark(mark)
		w := testkit.Must(l.Create(t.Context(), "k/"+mark+"x"))(t)
		if _, err := w.Write([]byte("half")); err != nil {
			t.Fatal(err)
		}
		done := testkit.Must(l.Create(t.Context(), "done/"+mark+"x"))(t)
		if err := done.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		prefix string
		left   int
	}{{"a-1-", 3}, {"a-", 2}, {"c-", 2}, {"b-", 1}} {
		if err := objstore.Clear(dir, c.prefix); err != nil {
			t.Fatal(err)
		}
		if left := testkit.Must(os.ReadDir(filepath.Join(dir, "_tmp")))(t); len(left) != c.left {
			t.Errorf("%s: %d files are left, want %d", c.prefix, len(left), c.left)
		}
	}
	if left := testkit.Must(os.ReadDir(filepath.Join(dir, "done")))(t); len(left) != 4 {
		t.Errorf("%d objects are left, want 4", len(left))
	}
}

func TestObjectAndFolder(t *testing.T) {
	t.Parallel()
	l := open(t, t.TempDir())
	for _, c := range []struct {
		key string
		ok  bool
	}{{"a/b", true}, {"a", false}, {"a/b/c", false}, {"a/b/c/d", false}, {"a/c", true}} {
		err := write(l, t, c.key)
		if c.ok && err != nil || !c.ok && !errs.Is(err, errs.Conflict) {
			t.Errorf("%s: %v", c.key, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Import(t.Context(), "a/b/c", file); !errs.Is(err, errs.Conflict) {
		t.Errorf("import: %v", err)
	}
	if b, err := os.ReadFile(file); string(b) != "text" {
		t.Errorf("a failed import leaves the file %q, %v", b, err)
	}
}

// TestEscape: a symbolic link in the folder leads nowhere outside of it.
func TestEscape(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	l := open(t, dir)
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "out")); err != nil {
		t.Skip(err)
	}
	if o, err := l.Open(t.Context(), "out/secret"); err == nil {
		o.Close()
		t.Error("a file outside is read")
	}
	if err := write(l, t, "out/new"); err == nil {
		t.Error("a file outside is written")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Import(t.Context(), "out/new", file); err == nil {
		t.Error("a file is imported to the outside")
	}
	if left, _ := os.ReadDir(outside); len(left) != 1 {
		t.Errorf("outside: %v", left)
	}
}

func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	if err := write(l, t, "a/b"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := l.Import(t.Context(), "a/c", file); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/b", "a/c"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// TestImportFromElsewhere: a file of another file system is copied.
func TestImportFromElsewhere(t *testing.T) {
	t.Parallel()
	elsewhere, err := os.MkdirTemp("/dev/shm", "objstore-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(elsewhere) })
	l := open(t, t.TempDir())
	file := filepath.Join(elsewhere, "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Import(t.Context(), "a", file); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the file: %v", err)
	}
	if info, err := l.Stat(t.Context(), "a"); err != nil || info.Size != 4 {
		t.Errorf("%+v, %v", info, err)
	}
}

func FuzzCheckKey(f *testing.F) {
	for _, key := range []string{"a/b", "../a", "a/./b", "a\x00", "_tmp/x", "é/ü"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		err := objstore.CheckKey(key)
		if err != nil && !errs.Is(err, errs.Invalid) {
			t.Fatal(err)
		}
		if err == nil && !filepath.IsLocal(key) {
			t.Errorf("%q leads outside", key)
		}
	})
}

func BenchmarkCommit(b *testing.B) {
	l := open(b, b.TempDir())
	for b.Loop() {
		w, err := l.Create(b.Context(), "a/b/c")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.WriteString(w, "text"); err != nil {
			b.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}
