package pkgstore_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
	"github.com/datahq/specstore/internal/pkgstore"
)

func store(t *testing.T) *pkgstore.Store {
	t.Helper()
	objects, err := objstore.OpenLocal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = objects.Close() })
	return pkgstore.New(objects, "https://host/pkgstore/")
}

// file writes a file of an artifact as the engine hands it over.
func file(t *testing.T, artifact, name, content string) engine.File {
	t.Helper()
	local := filepath.Join(t.TempDir(), "spool")
	if err := os.WriteFile(local, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(content))
	return engine.File{Artifact: artifact, Path: name, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(content)), Local: local}
}

func read(t *testing.T, s *pkgstore.Store, key string) string {
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
	return string(b)
}

func TestFilesLieUnderTheirContent(t *testing.T) {
	t.Parallel()
	s := store(t)
	put := func(revision int64, f engine.File) string {
		key, ref, err := s.Sink("me/lakes", revision).Put(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if ref != "https://host/pkgstore/"+key {
			t.Errorf("the address of %s is %s", key, ref)
		}
		return key
	}
	first := put(1, file(t, "lakes_csv", "data/lakes_csv.csv", "id\n1\n"))
	same := put(2, file(t, "lakes_csv", "data/lakes_csv.csv", "id\n1\n"))
	other := put(2, file(t, "lakes_csv", "data/lakes_csv.csv", "id\n2\n"))
	source := put(1, file(t, "lakes", "archive/lakes.csv", "id\n1\n"))
	if first != same || first == other || first == source {
		t.Errorf("the keys are %q, %q, %q, %q", first, same, other, source)
	}
	if got := read(t, s, first); got != "id\n1\n" {
		t.Errorf("the first revision's file is %q now", got)
	}
	if !s.Has(t.Context(), first, 5) || s.Has(t.Context(), first, 4) || s.Has(t.Context(), first+"x", 5) {
		t.Error("Has does not tell what is there")
	}
}

// TestTheSameFileAtTheSameTime: whoever reads meanwhile gets the whole file or none.
func TestTheSameFileAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := store(t)
	content := strings.Repeat("id\n", 100_000)
	want := file(t, "a", "data/a.csv", content)
	key := "me/a/a/data/" + want.SHA256 + "/a.csv"
	var wg sync.WaitGroup
	for revision := range int64(20) {
		f := file(t, "a", "data/a.csv", content)
		wg.Go(func() {
			if got, _, err := s.Sink("me/a", revision).Put(t.Context(), f); err != nil || got != key {
				t.Errorf("%q, %v", got, err)
			}
		})
		wg.Go(func() {
			o, err := s.Open(t.Context(), key)
			if errs.Is(err, errs.NotFound) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			defer o.Close()
			if b, err := io.ReadAll(o); err != nil || string(b) != content {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
	}
	wg.Wait()
	if got := read(t, s, key); got != content {
		t.Errorf("%d bytes stay", len(got))
	}
}

// TestPutThatFails: what could not be kept whole is not there, and what is there
// already stays as it is.
func TestPutThatFails(t *testing.T) {
	t.Parallel()
	s := store(t)
	gone := file(t, "a", "data/a.csv", "id\n")
	if err := os.Remove(gone.Local); err != nil {
		t.Fatal(err)
	}
	sink := s.Sink("me/a", 1)
	if _, _, err := sink.Put(t.Context(), gone); err == nil {
		t.Error("a file that is gone was kept")
	}
	if _, err := s.Open(t.Context(), "me/a/a/data/"+gone.SHA256+"/a.csv"); !errs.Is(err, errs.NotFound) {
		t.Errorf("it is there: %v", err)
	}
	key, _, err := sink.Put(t.Context(), file(t, "a", "data/a.csv", "id\n"))
	if err != nil {
		t.Fatal(err)
	}
	if again, _, err := sink.Put(t.Context(), gone); err != nil || again != key || read(t, s, key) != "id\n" {
		t.Errorf("what is there was asked for again: %q, %v", again, err)
	}
	for _, name := range []string{"data/..", "data/a\\b.csv", "data/a\nb.csv", "data/" + strings.Repeat("x", 300)} {
		if key, _, err := sink.Put(t.Context(), file(t, "a", name, "x")); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %q, %v", name, key, err)
		}
	}
	// The folders of a path are no part of the key.
	if key, _, err := sink.Put(t.Context(), file(t, "a", "../../other/b/c.csv", "x")); err != nil || !strings.HasPrefix(key, "me/a/a/data/") {
		t.Errorf("%q, %v", key, err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	s := store(t)
	for key, want := range map[string]string{
		"me/a/1/datapackage.json":   "https://host/pkgstore/me/a/1/datapackage.json",
		"me/ä b/c?d#e/data/0f/f%.g": "https://host/pkgstore/me/%C3%A4%20b/c%3Fd%23e/data/0f/f%25.g",
	} {
		if got := s.Address(key); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	if _, err := s.Sink("me/a", 1).Open(t.Context(), "me/a/none"); !errs.Is(err, errs.NotFound) {
		t.Errorf("what is not there: %v", err)
	}
}

func TestDescriptors(t *testing.T) {
	t.Parallel()
	s := store(t)
	put := func(sink *pkgstore.Sink, artifact, body string) string {
		address, err := sink.PutDescriptor(t.Context(), artifact, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return address
	}
	early, late := s.Sink("me/a", 3), s.Sink("me/a", 3)
	if early.Descriptor() != "" {
		t.Error("there is a descriptor before one was put")
	}
	if got := put(early, "", "{}"); got != "https://host/pkgstore/me/a/3/datapackage.json" {
		t.Errorf("the address is %s", got)
	}
	// A later attempt does not change what an earlier one has written.
	put(late, "", `{"name":"a"}`)
	if got := read(t, s, early.Descriptor()); got != "{}" {
		t.Errorf("the earlier attempt's descriptor is %s", got)
	}
	put(early, "a_csv", "[]")
	if got := read(t, s, early.Descriptor()); got != "{}" {
		t.Errorf("a pipeline's descriptor took the package's place: %s", got)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key, dataset, revision string
		descriptor             bool
	}{
		{"me/a/1/datapackage.json", "me/a", "1", true},
		{"me/a/latest/datapackage.json", "me/a", "latest", true},
		{"me/a/1/_/a_csv/datapackage.json", "me/a", "1", false},
		{"me/a/a_csv/data/0f/a_csv.csv", "me/a", "latest", false},
		{"me/a/x/archive/0f/datapackage.json", "me/a", "latest", false},
	} {
		dataset, revision, descriptor, err := pkgstore.Parse(c.key)
		if err != nil || dataset != c.dataset || revision != c.revision || descriptor != c.descriptor {
			t.Errorf("%s: %q, %q, %v, %v", c.key, dataset, revision, descriptor, err)
		}
	}
	for _, key := range []string{"", "me", "me/a", "me/a/1", "me//1/datapackage.json", "me/a/../b/1", "/me/a/1", "me/a/1/"} {
		if _, _, _, err := pkgstore.Parse(key); !errs.Is(err, errs.NotFound) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestCancelledPutLeavesNothing(t *testing.T) {
	t.Parallel()
	s := store(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := file(t, "a", "data/a.csv", "id\n")
	key, _, err := s.Sink("me/a", 1).Put(ctx, f)
	if err == nil || s.Has(t.Context(), "me/a/a/data/"+f.SHA256+"/a.csv", f.Bytes) {
		t.Errorf("%q, %v", key, err)
	}
}
