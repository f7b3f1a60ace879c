package registry_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// original is a database as the original left it, opened in place.
func original(t *testing.T, url string) *fixture {
	t.Helper()
	db := testkit.Must(sqldb.Open(t.Context(), sqldb.Config{URL: url}))(t)
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
		for _, name := range []string{string(db.Dialect()), "rows"} {
			text, err := os.ReadFile(filepath.Join("testdata", "original", name+".sql"))
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, string(text)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	zone := testkit.Must(time.LoadLocation("Europe/London"))(t)
	s := testkit.Must(registry.Open(t.Context(), db, registry.Options{LegacyZone: zone}))(t)
	return &fixture{Store: s, t: t, db: db, url: url}
}

// A database that the original wrote is taken over in place, with everything that
// went wrong in it.
func TestOriginal(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		f := original(t, url)
		r := f.want("me/data/1", registry.Succeeded, "s")
		if string(r.Stats) != `{"bytes": 5}` || len(r.Errors) != 0 || r.Findability != "published" || !slices.Equal(r.Logs, []string{"done"}) ||
			!strings.Contains(string(r.Spec), `"n": 3`) || r.Pipelines[0].Title != "Creating Package" || r.Runner != registry.External {
			t.Errorf("%+v", r)
		}
		// Its times are of the zone, in winter and in summer.
		for id, want := range map[string]string{"me/data/1": "2018-02-19T10:11:12.123456Z", "me/data/3": "2018-07-19T23:00:00.000001Z"} {
			if got := f.flow(id).Created.Format(time.RFC3339Nano); got != want {
				t.Errorf("%s was made at %s, not %s", id, got, want)
			}
		}
		if r := f.want("me/data/2", registry.Succeeded, "s"); len(r.Errors) != 0 || r.Stats != nil {
			t.Errorf("errors %q, stats %s", r.Errors, r.Stats)
		}
		// A flow that was open goes on: its failure reaches what waits for it.
		f.want("me/data/3", registry.Running, "rp")
		if a := f.apply(registry.Event{Pipeline: "./me/data/3/a", Kind: registry.KindFinish, Errors: []string{"x"}}); a.FlowState != registry.Failed {
			t.Errorf("%+v", a)
		}
		f.want("me/data/3", registry.Failed, "ff")

		if r := f.want("you/stuck/1", registry.Failed, ""); len(r.Errors) != 1 || !strings.Contains(r.Errors[0], "push the dataset again") || r.Findability != "private" {
			t.Errorf("%+v", r)
		}
		r = f.want("you/cascade/1", registry.Failed, "fff")
		said := ""
		for _, p := range r.Pipelines {
			said += strings.Join(p.Errors, " ") + "\n"
		}
		if !strings.Contains(said, "row 7 is broken") || !strings.Contains(said, "left unfinished") || r.Findability != "unlisted" {
			t.Errorf("%s %q", r.Findability, said)
		}
		if r := f.want("you/lost/1", registry.Succeeded, "s"); r.Spec != nil || r.Findability != "private" || r.Finished.IsZero() {
			t.Errorf("%+v", r)
		}
		if n := f.count("pipelines"); n != 0 {
			t.Errorf("%d pipelines are left", n)
		}
		if n := f.count("dataset_revision"); n != 6 {
			t.Errorf("%d revisions", n)
		}
		for dataset, want := range map[string]int64{"me/data": 4, "me/empty": 1, "you/stuck": 2} {
			if r := f.push(dataset, registry.External); r.Number != want {
				t.Errorf("the next revision of %s is %d", dataset, r.Number)
			}
		}
		f.again()
		if n := f.count("dataset_revision"); n != 9 {
			t.Errorf("%d revisions after a restart", n)
		}
	})
}
