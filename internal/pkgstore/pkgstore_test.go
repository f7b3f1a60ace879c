package pkgstore_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	"github.com/datahq/specstore/internal/testkit"
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

// dataset is an internal ID.
const dataset = "0123456789abcdef0123456789abcdef"

func keyOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return pkgstore.Key(dataset, hex.EncodeToString(sum[:]))
}

func TestFilesLieUnderTheirContent(t *testing.T) {
	t.Parallel()
	s := store(t)
	put := func(revision int64, f engine.File) string {
		key, ref, err := s.Sink(dataset, revision).Put(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		folder, name, _ := strings.Cut(f.Path, "/")
		if want := f.Artifact + "/" + folder + "/" + f.SHA256 + "/" + name; ref != want {
			t.Errorf("the path of %s is %s, want %s", key, ref, want)
		}
		return key
	}
	first := put(1, file(t, "lakes_csv", "data/lakes_csv.csv", "id\n1\n"))
	same := put(2, file(t, "lakes_csv", "data/lakes_csv.csv", "id\n1\n"))
	other := put(2, file(t, "lakes_csv", "data/lakes_csv.csv", "id\n2\n"))
	source := put(1, file(t, "lakes", "archive/lakes.csv", "id\n1\n"))
	if first != same || first == other || first != source || first != keyOf("id\n1\n") {
		t.Errorf("the keys are %q, %q, %q, %q", first, same, other, source)
	}
	if got := read(t, s, first); got != "id\n1\n" {
		t.Errorf("the first revision's file is %q now", got)
	}
	if !s.Has(t.Context(), first, 5) || s.Has(t.Context(), first, 4) || s.Has(t.Context(), first+"x", 5) {
		t.Error("Has does not tell what is there")
	}
	sink := s.Sink(strings.Repeat("f", 32), 1)
	if sink.Has(t.Context(), first, 5) {
		t.Error("a file of one dataset serves another one")
	}
}

// TestTheSameFileAtTheSameTime: whoever reads meanwhile gets the whole file or none.
func TestTheSameFileAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := store(t)
	content := strings.Repeat("id\n", 100_000)
	key := keyOf(content)
	var wg sync.WaitGroup
	for revision := range int64(20) {
		f := file(t, "a", "data/a.csv", content)
		wg.Go(func() {
			if got, _, err := s.Sink(dataset, revision).Put(t.Context(), f); err != nil || got != key {
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
	sink := s.Sink(dataset, 1)
	if _, _, err := sink.Put(t.Context(), gone); err == nil {
		t.Error("a file that is gone was kept")
	}
	if _, err := s.Open(t.Context(), keyOf("id\n")); !errs.Is(err, errs.NotFound) {
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
	// The folders of a path are no part of the address.
	if key, ref, err := sink.Put(t.Context(), file(t, "a", "../../other/b/c.csv", "x")); err != nil || key != keyOf("x") || !strings.HasPrefix(ref, "a/data/") {
		t.Errorf("%q, %q, %v", key, ref, err)
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
	if _, err := s.Sink(dataset, 1).Open(t.Context(), "me/a/none"); !errs.Is(err, errs.NotFound) {
		t.Errorf("what is not there: %v", err)
	}
}

// TestDescriptors: two attempts of one revision, of which the older writes last. Neither
// changes an object of the other, of single pipelines too.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	s := store(t)
	for artifact, want := range map[string]string{"": "3/datapackage.json", "a_csv": "3/_/a_csv/datapackage.json"} {
		older, newer := s.Sink(dataset, 3), s.Sink(dataset, 3)
		put := func(sink *pkgstore.Sink, body string) {
			t.Helper()
			if got, err := sink.PutDescriptor(t.Context(), artifact, []byte(body)); err != nil || got != want {
				t.Errorf("%q is at %q, %v, want %q", artifact, got, err, want)
			}
		}
		put(newer, `{"name":"new"}`)
		put(older, `{"name":"old"}`)
		for _, body := range []string{`{"name":"new"}`, `{"name":"old"}`} {
			if got := read(t, s, keyOf(body)); got != body {
				t.Errorf("the descriptor %s of %q is %s", body, artifact, got)
			}
		}
	}
}

// TestDescriptorAnswers: paths of files of the dataset get the address of today, also
// those that an earlier version kept with the address of its server.
func TestDescriptorAnswers(t *testing.T) {
	t.Parallel()
	s := store(t)
	hash := strings.Repeat("0f", 32)
	here := "https://host/pkgstore/me/a/a_csv/data/" + hash + "/a.csv"
	for kept, want := range map[string]string{
		"a_csv/data/" + hash + "/a.csv":                                           here,
		"http://127.0.0.1:8000/pkgstore/me/a/a_csv/data/" + hash + "/a.csv":       here,
		"http://127.0.0.1:8000/pkgstore/you/a/a_csv/data/" + hash + "/a.csv":      "http://127.0.0.1:8000/pkgstore/you/a/a_csv/data/" + hash + "/a.csv",
		"https://example.org/a.csv":                                               "https://example.org/a.csv",
		"ä b/data/" + hash + "/c?d#e.csv":                                         "https://host/pkgstore/me/a/%C3%A4%20b/data/" + hash + "/c%3Fd%23e.csv",
		"a_csv/data/" + hash + "/../../../../../../you/secret/1/datapackage.json": "a_csv/data/" + hash + "/../../../../../../you/secret/1/datapackage.json",
	} {
		body := testkit.Must(json.Marshal(map[string]any{"resources": []any{map[string]any{"path": kept}, map[string]any{"path": []any{kept}}}}))(t)
		answer, err := s.Descriptor("me/a", body)
		var got struct {
			Resources []struct{ Path any }
		}
		if err == nil {
			err = json.Unmarshal(answer, &got)
		}
		if err != nil || len(got.Resources) != 2 || got.Resources[0].Path != want || got.Resources[1].Path.([]any)[0] != want {
			t.Errorf("%s: %s, %v, want %s", kept, answer, err, want)
		}
	}
	if _, err := s.Descriptor("me/a", []byte("{")); err == nil {
		t.Error("what is no descriptor was answered")
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("0f", 32)
	for name, want := range map[string]pkgstore.Name{
		"me/a/1/datapackage.json":                      {DatasetID: "me/a", Revision: "1"},
		"me/a/latest/datapackage.json":                 {DatasetID: "me/a", Revision: "latest"},
		"me/a/1/_/a_csv/datapackage.json":              {DatasetID: "me/a", Revision: "1", Artifact: "a_csv"},
		"me/a/a_csv/data/" + hash + "/a_csv.csv":       {DatasetID: "me/a", Artifact: "a_csv", Path: "data/a_csv.csv", SHA256: hash},
		"me/a/x/archive/" + hash + "/datapackage.json": {DatasetID: "me/a", Artifact: "x", Path: "archive/datapackage.json", SHA256: hash},
	} {
		if got, err := pkgstore.Parse(name); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
	for _, name := range []string{
		"", "me", "me/a", "me/a/1", "me//1/datapackage.json", "me/a/../b/1", "/me/a/1", "me/a/1/", "me/a/1/_/datapackage.json", "me/a/1/_/a/b/datapackage.json",
		"me/a/x/data/0f/a.csv", "me/a/x/data/" + strings.ToUpper(hash) + "/a.csv", "me/a/x/other/" + hash + "/a.csv", "d/" + dataset + "/" + hash, "me/a/x/data/" + hash + "/b/a.csv",
	} {
		if got, err := pkgstore.Parse(name); !errs.Is(err, errs.NotFound) {
			t.Errorf("%q: %+v, %v", name, got, err)
		}
	}
}

func TestCancelledPutLeavesNothing(t *testing.T) {
	t.Parallel()
	s := store(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := file(t, "a", "data/a.csv", "id\n")
	key, _, err := s.Sink(dataset, 1).Put(ctx, f)
	if err == nil || s.Has(t.Context(), keyOf("id\n"), f.Bytes) {
		t.Errorf("%q, %v", key, err)
	}
}
