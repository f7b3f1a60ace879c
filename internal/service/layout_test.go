package service_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// upTo is the migrations up to a number.
type upTo struct {
	fs.FS
	last string
}

func (u upTo) Glob(pattern string) ([]string, error) {
	names, err := fs.Glob(u.FS, pattern)
	var kept []string
	for _, name := range names {
		if filepath.Base(name) < u.last {
			kept = append(kept, name)
		}
	}
	return kept, err
}

// oldDatabase fills a database as a server of the first layout left it.
func oldDatabase(t *testing.T, url string) {
	t.Helper()
	db := testkit.Must(sqldb.Open(t.Context(), sqldb.Config{URL: url}))(t)
	defer db.Close()
	files := os.DirFS(filepath.Join(testkit.Root(t), "internal", "registry", "migrations"))
	if err := db.Migrate(t.Context(), "registry", upTo{files, "0003"}, sqldb.After{1: func(ctx context.Context, tx sqldb.Tx) error {
		for _, table := range []string{"dataset", "dataset_revision", "pipelines"} {
			if _, err := tx.Exec(ctx, `DROP TABLE original_`+table); err != nil {
				return err
			}
		}
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	rows := testkit.Must(os.ReadFile(filepath.Join("testdata", "layout1", "rows.sql")))(t)
	if err := db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
		for line := range strings.Lines(string(rows)) {
			if strings.HasPrefix(line, "INSERT") {
				if _, err := tx.Exec(ctx, line); err != nil {
					return fmt.Errorf("%.200s: %w", line, err)
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// oldStores unpacks the stores of the first layout into a folder.
func oldStores(t *testing.T, dir string) {
	t.Helper()
	f := testkit.Must(os.Open(filepath.Join("testdata", "layout1", "stores.tar.gz")))(t)
	defer f.Close()
	for r := tar.NewReader(testkit.Must(gzip.NewReader(f))(t)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(name, 0o700)
		} else if err = os.MkdirAll(filepath.Dir(name), 0o700); err == nil {
			err = os.WriteFile(name, testkit.Must(io.ReadAll(r))(t), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

var errKilled = errors.New("killed")

// mortal is a store whose process ends after a number of changes.
type mortal struct {
	objstore.Store
	left *atomic.Int64
}

func (m mortal) step() error {
	if m.left.Add(-1) < 0 {
		return errKilled
	}
	return nil
}

func (m mortal) Create(ctx context.Context, key string) (objstore.Writer, error) {
	if err := m.step(); err != nil {
		return nil, err
	}
	return m.Store.Create(ctx, key)
}

func (m mortal) Delete(ctx context.Context, key string) error {
	if err := m.step(); err != nil {
		return err
	}
	return m.Store.Delete(ctx, key)
}

// checkMoved holds what a server answers after the move against what the old one did.
func checkMoved(t *testing.T, f *fixture, objects objstore.Store) {
	t.Helper()
	const lakes = "id,name\r\n1,one\r\n2,two\r\n"
	for _, revision := range []int64{1, 2, 3} {
		r := testkit.Must(f.Status(t.Context(), "", "me/lakes", fmt.Sprint(revision)))(t)
		addresses := f.addresses("", r)
		f.checkThere("", "nobody", addresses)
		want := lakes
		if revision == 1 {
			want = "id,name\r\n1,one\r\n"
		}
		if got := string(f.read(addresses["t_csv"])); got != want {
			t.Errorf("revision %d holds %q", revision, got)
		}
	}
	// An address that the old server gave out.
	if got := string(f.read("me/lakes/t_csv/data/1624020fb93aa005e8d12eebf0bd786a329a9c415d23bbcd89c70c2ae08ded4b/t_csv.csv")); got != lakes {
		t.Errorf("the old address gives %q", got)
	}
	// The report of a revision that failed, and what it could publish.
	if _, err := f.Report(t.Context(), "", "me/lakes", "4"); err != nil {
		t.Errorf("the report of the failed revision: %v", err)
	}
	if r := testkit.Must(f.Registry.Revision(t.Context(), "me/lakes", "successful", 0))(t); r.Number != 3 {
		t.Errorf("revision %d is released", r.Number)
	}
	f.checkGone("", "nobody", map[string]string{
		"a deleted private file": "me/again/t_csv/data/88c062814b022cdf27dacafceabe0b530103a0d029bd33948e18d7dbb243c00d/t_csv.csv",
		"a deleted descriptor":   "me/again/1/datapackage.json",
		"a deleted dataset":      "me/gone/1/datapackage.json",
	})
	f.checkThere("", "nobody", map[string]string{
		"the file published since": "me/again/t_csv/data/815493595fb3a3fb5da1ee11cf66e6efd4961c034397a0f12c0c22b0eaff6623/t_csv.csv",
	})
	for info, err := range objects.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if parts := strings.Split(info.Key, "/"); len(parts) != 3 || parts[0] != "d" || len(parts[1]) != 32 || len(parts[2]) != 64 {
			t.Errorf("the object %s was left", info.Key)
		}
	}
	// Nothing that is named is garbage, uploaded files neither; what the trash names can be
	// restored.
	if err := f.CollectGarbage(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for _, revision := range []int64{1, 2, 3} {
		f.checkThere("", "nobody", f.addresses("", testkit.Must(f.Status(t.Context(), "", "me/lakes", fmt.Sprint(revision)))(t)))
	}
	if n := f.number(`SELECT COUNT(*) FROM file`); n != 6 {
		t.Errorf("%d uploaded files are known", n)
	}
	if err := f.Restore(t.Context(), f.token, "me/gone"); err != nil {
		t.Error(err)
	}
	f.checkThere("", "nobody", f.addresses("", testkit.Must(f.Status(t.Context(), "", "me/gone", "1"))(t)))
	f.erased("me/gone")
	f.erased("me/again")
	if n := f.number(`SELECT COUNT(*) FROM file`); n != 3 || f.has(f.rawAddress("id,name\n1,secret\n2,open\n")) {
		t.Errorf("%d uploaded files are left", n)
	}
	// What is pushed again is published, and the next time reused.
	for range 2 {
		f.upload("lakes", f.file(small))
		f.run()
	}
	r := testkit.Must(f.Registry.Revision(t.Context(), "me/lakes", "latest", registry.Whole))(t)
	if r.Number != 6 || r.State != registry.Succeeded || r.Pipelines[1].Reused != "me/lakes/5" {
		t.Errorf("%s is %s, reused from %q", r.ID, r.State, r.Pipelines[1].Reused)
	}
}

// TestOldLayout: a database and stores of the first layout are moved, however often the
// process is killed meanwhile and however many there are at once, and old addresses go on
// to answer.
func TestOldLayout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		steps int64 // changes of the store after which the process ends; 0 never
	}{{"at once", 0}, {"killed after each", 1}, {"killed after some", 7}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			testkit.EachDB(t, func(t *testing.T, url string) {
				t.Parallel()
				dir := t.TempDir()
				oldDatabase(t, url)
				oldStores(t, dir)
				f := startIn(t, url, dir)
				objects := servicetest.Objects(f.Fixture)
				kills := 0
				for c.steps > 0 {
					left := &atomic.Int64{}
					left.Store(c.steps)
					parts := f.Parts
					parts.Packages = pkgstore.New(mortal{objects, left}, publicURL+"/pkgstore")
					err := service.New(parts).MovePackages(t.Context())
					if err == nil {
						break
					}
					if kills++; !errors.Is(err, errKilled) || kills > 1000 {
						t.Fatal(err)
					}
				}
				if c.steps > 0 && kills < 10 {
					t.Errorf("the process was killed %d times only", kills)
				}
				var processes sync.WaitGroup
				several := 1 // on SQLite there is one process
				if !f.DB.Single() {
					several = 3
				}
				for range several {
					processes.Go(func() {
						if err := f.MovePackages(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				processes.Wait()
				checkMoved(t, f, objects)
			})
		})
	}
}

// TestNoOldLayout: objects that no dataset of the database can have written stay.
func TestNoOldLayout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	oldStores(t, dir)
	f := startIn(t, testkit.DB(t, sqldb.SQLite), dir)
	if err := f.MovePackages(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range servicetest.Objects(f.Fixture).List(t.Context(), "me/lakes/") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n == 0 {
		t.Error("the objects of another database were removed")
	}
	if _, err := f.PackageFile(t.Context(), "", "me/lakes/1/datapackage.json"); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
}
