// Package objstoretest says in tests what every object store does.
package objstoretest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
)

// Run holds a store to the contract of [objstore.Store]. open gives a fresh,
// empty store for each test.
func Run(t *testing.T, open func(t *testing.T) objstore.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, objstore.Store)
	}{
		{"write and read", testWriteRead},
		{"whole or not at all", testAtomic},
		{"cancel", testCancel},
		{"ended context", testContext},
		{"missing", testMissing},
		{"hostile keys", testKeys},
		{"odd keys", testOddKeys},
		{"import", testImport},
		{"delete", testDelete},
		{"list", testList},
		{"concurrent", testConcurrent},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, open(t))
		})
	}
}

func put(t *testing.T, s objstore.Store, key, text string) {
	t.Helper()
	w, err := s.Create(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Cancel()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s objstore.Store, key string) string {
	t.Helper()
	o, err := s.Open(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	b, err := io.ReadAll(o)
	if err != nil {
		t.Fatal(err)
	}
	if o.Size() != int64(len(b)) {
		t.Errorf("%s: size %d, read %d", key, o.Size(), len(b))
	}
	return string(b)
}

func list(t *testing.T, s objstore.Store, prefix string) []string {
	t.Helper()
	var keys []string
	for info, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func testWriteRead(t *testing.T, s objstore.Store) {
	put(t, s, "a/b/c.txt", "hello world")
	put(t, s, "empty", "")
	if got := get(t, s, "empty"); got != "" {
		t.Errorf("the empty object holds %q", got)
	}
	o, err := s.Open(t.Context(), "a/b/c.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if _, err := o.Seek(-5, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(o); string(b) != "world" {
		t.Errorf("after seeking: %q, %v", b, err)
	}
	b := make([]byte, 5)
	if n, err := o.ReadAt(b, 0); n != 5 || string(b) != "hello" {
		t.Errorf("ReadAt: %q, %v", b, err)
	}
	info, err := s.Stat(t.Context(), "a/b/c.txt")
	if err != nil || info.Size != 11 || info.Key != "a/b/c.txt" || info.ModTime.IsZero() || !info.ModTime.Equal(o.ModTime()) {
		t.Errorf("Stat: %+v, %v", info, err)
	}
}

func testAtomic(t *testing.T, s objstore.Store) {
	put(t, s, "a/x", "old")
	before, err := s.Open(t.Context(), "a/x")
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	w, err := s.Create(t.Context(), "a/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "new and longer"); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "a/x"); got != "old" {
		t.Errorf("before the commit: %q", got)
	}
	if keys := list(t, s, ""); !slices.Equal(keys, []string{"a/x"}) {
		t.Errorf("before the commit the store lists %q", keys)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := w.Cancel(); err != nil {
		t.Errorf("cancel after commit: %v", err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a write after the commit passes")
	}
	if err := w.Commit(); err == nil {
		t.Error("a second commit passes")
	}
	if got := get(t, s, "a/x"); got != "new and longer" {
		t.Errorf("after the commit: %q", got)
	}
	if b, err := io.ReadAll(before); string(b) != "old" {
		t.Errorf("who reads goes on reading: %q, %v", b, err)
	}
}

func testCancel(t *testing.T, s objstore.Store) {
	w, err := s.Create(t.Context(), "a/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "text"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Cancel(); err != nil {
			t.Error(err)
		}
	}
	if err := w.Commit(); err == nil {
		t.Error("a commit after cancel passes")
	}
	if _, err := s.Stat(t.Context(), "a/x"); !errs.Is(err, errs.NotFound) {
		t.Errorf("a cancelled object: %v", err)
	}
}

func testContext(t *testing.T, s objstore.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	w, err := s.Create(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "te"); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := w.Commit(); err == nil {
		t.Error("a commit passes after the end of its context")
	}
	if keys := list(t, s, ""); len(keys) > 0 {
		t.Errorf("the store lists %q", keys)
	}
	if _, err := s.Open(ctx, "x"); err == nil || errs.Is(err, errs.NotFound) {
		t.Errorf("open with an ended context: %v", err)
	}
}

func testMissing(t *testing.T, s objstore.Store) {
	put(t, s, "a/b", "text")
	for _, key := range []string{"none", "a", "a/none", "a/b/c", "none/none"} {
		if _, err := s.Open(t.Context(), key); !errs.Is(err, errs.NotFound) {
			t.Errorf("open %s: %v", key, err)
		}
		if _, err := s.Stat(t.Context(), key); !errs.Is(err, errs.NotFound) {
			t.Errorf("stat %s: %v", key, err)
		}
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
	}
	if got := get(t, s, "a/b"); got != "text" {
		t.Errorf("a/b: %q", got)
	}
}

func testKeys(t *testing.T, s objstore.Store) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"", "/", "a/", "/a", "a//b", ".", "..", "a/..", "../a", "a/../../b", "a/./b", "a\x00b", "a\\b", "a\nb", "\xff",
		"_tmp", "_tmp/x", "_TMP/x", strings.Repeat("a", 256), strings.Repeat("ab/", 400) + "a",
	} {
		ctx := t.Context()
		if w, err := s.Create(ctx, key); !errs.Is(err, errs.Invalid) {
			t.Errorf("create %.20q: %v", key, err)
			if err == nil {
				w.Cancel()
			}
		}
		if o, err := s.Open(ctx, key); !errs.Is(err, errs.Invalid) {
			t.Errorf("open %.20q: %v", key, err)
			if err == nil {
				o.Close()
			}
		}
		if _, err := s.Stat(ctx, key); !errs.Is(err, errs.Invalid) {
			t.Errorf("stat %.20q: %v", key, err)
		}
		if err := s.Delete(ctx, key); !errs.Is(err, errs.Invalid) {
			t.Errorf("delete %.20q: %v", key, err)
		}
		if err := s.Import(ctx, key, file); !errs.Is(err, errs.Invalid) {
			t.Errorf("import %.20q: %v", key, err)
		}
	}
	for _, prefix := range []string{"/", "../", "a/../", "_tmp/", "a//b"} {
		for info, err := range s.List(t.Context(), prefix) {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("list %q: %v, %v", prefix, info, err)
			}
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("a refused import takes the file: %v", err)
	}
}

func testOddKeys(t *testing.T, s objstore.Store) {
	for i, key := range []string{"ä/ö ü.csv", "a b/c+d%20e", "...", ".hidden/..x", "x/_tmp", "a:b/*?\"<>|", strings.Repeat("é", 127), "-rf", "~"} {
		put(t, s, key, fmt.Sprint(i))
		if got := get(t, s, key); got != fmt.Sprint(i) {
			t.Errorf("%q holds %q", key, got)
		}
		if keys := list(t, s, key); !slices.Equal(keys, []string{key}) {
			t.Errorf("%q is listed as %q", key, keys)
		}
	}
}

func testImport(t *testing.T, s objstore.Store) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"first", "second"} {
		write(text)
		if err := s.Import(t.Context(), "a/b", file); err != nil {
			t.Fatal(err)
		}
		if got := get(t, s, "a/b"); got != text {
			t.Errorf("imported %q, read %q", text, got)
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("the file is still there: %v", err)
		}
	}
	if err := s.Import(t.Context(), "a/b", file); err == nil {
		t.Error("a missing file is imported")
	}
	if err := s.Import(t.Context(), "a/b", dir); err == nil {
		t.Error("a folder is imported")
	}
	write("third")
	link := filepath.Join(dir, "link")
	if os.Symlink(file, link) == nil && s.Import(t.Context(), "a/b", link) == nil {
		t.Error("a symbolic link is imported")
	}
	if got := get(t, s, "a/b"); got != "second" {
		t.Errorf("a failed import leaves %q", got)
	}
	if b, err := os.ReadFile(file); string(b) != "third" {
		t.Errorf("a failed import leaves the file %q, %v", b, err)
	}
}

func testDelete(t *testing.T, s objstore.Store) {
	put(t, s, "a/b", "text")
	put(t, s, "a/c", "text")
	for range 2 {
		if err := s.Delete(t.Context(), "a/b"); err != nil {
			t.Error(err)
		}
	}
	if keys := list(t, s, ""); !slices.Equal(keys, []string{"a/c"}) {
		t.Errorf("left: %q", keys)
	}
	put(t, s, "a/b", "again")
	if got := get(t, s, "a/b"); got != "again" {
		t.Errorf("made again: %q", got)
	}
}

func testList(t *testing.T, s objstore.Store) {
	all := []string{"a-b", "a/b/c", "a/b/d", "a/b-c", "a/c", "a0", "ab/c", "b"}
	slices.Sort(all)
	for _, key := range all {
		put(t, s, key, key)
	}
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "a/b/c", "a/b/cc", "none", "none/", "b", "b/"} {
		var want []string
		for _, key := range all {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		if got := list(t, s, prefix); !slices.Equal(got, want) {
			t.Errorf("list %q: %q, want %q", prefix, got, want)
		}
	}
	for info, err := range s.List(t.Context(), "") {
		if err != nil || info.Size != int64(len(info.Key)) {
			t.Errorf("%+v, %v", info, err)
		}
		break // ends the listing
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := 0
	for _, err := range s.List(ctx, "") {
		if n++; err == nil {
			t.Error("a listing goes on after the end of its context")
		}
	}
	if n != 1 {
		t.Errorf("an ended listing gave %d items", n)
	}
}

// testConcurrent: many write one key and read it meanwhile; each reader sees one
// writer's object whole.
func testConcurrent(t *testing.T, s objstore.Store) {
	ctx := t.Context()
	body := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 10000+i) }
	write := func(i int) error {
		w, err := s.Create(ctx, "x/y/z")
		if err != nil {
			return err
		}
		defer w.Cancel()
		for chunk := range slices.Chunk(body(i), 999) {
			if _, err := w.Write(chunk); err != nil {
				return err
			}
		}
		return w.Commit()
	}
	read := func() error {
		o, err := s.Open(ctx, "x/y/z")
		if errs.Is(err, errs.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		defer o.Close()
		b, err := io.ReadAll(o)
		if err == nil && (len(b) < 10000 || !bytes.Equal(b, body(int(b[0]-'a')))) {
			err = fmt.Errorf("torn: %d bytes", len(b))
		}
		return err
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				if err := write(i); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 20 {
				if err := read(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if keys := list(t, s, ""); !slices.Equal(keys, []string{"x/y/z"}) {
		t.Errorf("left: %q", keys)
	}
}
