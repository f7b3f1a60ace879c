package objstore_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
)

func open(t *testing.T) (*objstore.Local, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := objstore.OpenLocal(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, dir
}

func read(t *testing.T, s *objstore.Local, key string) string {
	t.Helper()
	o, info, err := s.Open(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	b, err := io.ReadAll(o)
	if err != nil || int64(len(b)) != info.Size {
		t.Fatalf("%d bytes, %d said: %v", len(b), info.Size, err)
	}
	return string(b)
}

func TestObjects(t *testing.T) {
	t.Parallel()
	s, dir := open(t)
	ctx := t.Context()
	w, err := s.Create(ctx, "a/b/ü.txt")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "text")
	if _, err := s.Stat(ctx, "a/b/ü.txt"); !errs.Is(err, errs.NotFound) {
		t.Errorf("an object is there before its commit: %v", err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	w.Cancel()
	if got := read(t, s, "a/b/ü.txt"); got != "text" {
		t.Errorf("%q", got)
	}
	if _, _, err := s.Open(ctx, "a/b"); !errs.Is(err, errs.NotFound) {
		t.Errorf("a folder is an object: %v", err)
	}
	file := filepath.Join(t.TempDir(), "made")
	if err := os.WriteFile(file, []byte("made"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Import(ctx, "a/made", file); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, "a/made"); got != "made" {
		t.Errorf("%q", got)
	}
	for range 2 {
		if err := s.Delete(ctx, "a/made"); err != nil {
			t.Fatal(err)
		}
	}
	w, err = s.Create(ctx, "gone")
	if err != nil {
		t.Fatal(err)
	}
	w.Cancel()
	if left, _ := os.ReadDir(filepath.Join(dir, ".tmp")); len(left) > 0 {
		t.Errorf("%s is left behind", left[0].Name())
	}
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	s, dir := open(t)
	if err := os.Symlink("/etc", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"", ".", "..", "/a", "a/", "a//b", "a/../b", "../x", "a/./b", `a\b`, "a\x00b", ".tmp/x", strings.Repeat("x", 256), "link/passwd"} {
		if _, _, err := s.Open(t.Context(), key); err == nil {
			t.Errorf("%q was opened", key)
		}
		if err := s.Put(t.Context(), key, []byte("x")); err == nil {
			t.Errorf("%q was written", key)
		}
	}
}

// TestRace: readers see one object or another, never a torn one.
func TestRace(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 10 {
				if err := s.Put(t.Context(), "k", []byte(strings.Repeat(fmt.Sprint(i), 50000))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			o, _, err := s.Open(t.Context(), "k")
			if err != nil {
				time.Sleep(time.Millisecond)
				continue
			}
			b, err := io.ReadAll(o)
			o.Close()
			if err != nil || len(b) != 50000 || strings.Trim(string(b), string(b[0])) != "" {
				t.Errorf("a torn object: %d bytes, %v", len(b), err)
			}
		}
	})
	wg.Wait()
}
