package service_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// addresses are the public paths of what a revision published, by what they are of: the
// descriptor, every file that it names and the descriptors of the pipelines.
func (f *fixture) addresses(token string, r *registry.Revision) map[string]string {
	f.Helper()
	descriptor := pkgstore.DescriptorPath(r.DatasetID, r.Number)
	found := map[string]string{"datapackage.json": descriptor}
	var d struct {
		Resources []struct{ Name, Path string }
	}
	if err := json.Unmarshal(f.readAs(token, descriptor), &d); err != nil {
		f.Fatal(err)
	}
	for _, res := range d.Resources {
		found[res.Name] = strings.TrimPrefix(res.Path, publicURL+"/pkgstore/")
		found["descriptor of "+res.Name] = fmt.Sprintf("%s/_/%s/datapackage.json", r.ID, res.Name)
	}
	if len(found) != 13 {
		f.Fatalf("%s has %d addresses: %v", r.ID, len(found), found)
	}
	return found
}

func (f *fixture) checkGone(token, who string, addresses map[string]string) {
	f.Helper()
	for name, address := range addresses {
		if file, err := f.PackageFile(f.Context(), token, address); !errs.Is(err, errs.NotFound) {
			f.Errorf("%s still reads %s at %s: %v, %v", who, name, address, file, err)
		}
	}
}

func (f *fixture) checkThere(token, who string, addresses map[string]string) {
	f.Helper()
	for name, address := range addresses {
		if _, err := f.PackageFile(f.Context(), token, address); err != nil {
			f.Errorf("%s does not read %s at %s: %v", who, name, address, err)
			continue
		}
		f.readAs(token, address)
	}
}

// specAs is [spec] with a findability.
func specAs(dataset, findability, address string) []byte {
	return []byte(strings.Replace(string(spec(dataset, address)), `"published"`, `"`+findability+`"`, 1))
}

// TestFilesOfADeletedDataset: what was deleted is gone for everybody, at once and for
// good, although another dataset takes its name.
func TestFilesOfADeletedDataset(t *testing.T) {
	t.Parallel()
	for _, findability := range []string{"published", "unlisted", "private"} {
		each(t, func(t *testing.T, f *fixture) {
			stranger := testkit.Must(f.Issuer.Sign(auth.Claims{UserID: "you", Service: auth.ServiceSource, MaxDatasets: 10}, time.Now()))(t)
			push := func(findability, content string) *registry.Revision {
				r := testkit.Must(f.Upload(t.Context(), f.token, specAs("a", findability, f.file(content)), ""))(t).Revision
				f.run()
				f.await(r, registry.Succeeded)
				return r
			}
			old := f.addresses(f.token, push(findability, small))
			f.checkThere(f.token, "the owner", old)
			if findability == "private" {
				f.checkGone("", "nobody", old)
				f.checkGone(stranger, "a stranger", old)
			}
			if err := f.Delete(t.Context(), f.token, "me/a"); err != nil {
				t.Fatal(err)
			}
			f.checkGone("", "nobody", old)
			f.checkGone(f.token, "the owner", old)
			// Some of the new files have the bytes of the old ones.
			again := push("published", small)
			if again.Number != 2 {
				t.Errorf("the revision made again is %d", again.Number)
			}
			for name, address := range f.addresses("", again) {
				if old[name] == address {
					delete(old, name) // published again by its owner
				}
			}
			other := push("published", "id,name\n9,nine\n")
			f.checkThere("", "nobody", f.addresses("", other))
			for _, name := range []string{"datapackage.json", "descriptor of t_csv"} {
				if old[name] == "" {
					t.Errorf("%s of the deleted dataset was published again", name)
				}
			}
			f.checkGone("", "nobody", old)
			f.checkGone(f.token, "the owner", old)
		})
	}
}

// TestPrivateAgain: a dataset that was deleted as private and pushed again with other data
// shows strangers none of the six files of before.
func TestPrivateAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		push := func(findability, content string) *registry.Revision {
			r := testkit.Must(f.Upload(t.Context(), f.token, specAs("a", findability, f.file(content)), ""))(t).Revision
			f.run()
			f.await(r, registry.Succeeded)
			return r
		}
		secret := f.addresses(f.token, push("private", "id,name\n1,secret\n"))
		if err := f.Delete(t.Context(), f.token, "me/a"); err != nil {
			t.Fatal(err)
		}
		push("published", "id,name\n2,open\n")
		f.checkGone("", "nobody", secret)
		f.checkGone(f.token, "the owner", secret)
	})
}

// TestNamesOfFiles: an address is one that a revision names, whole: its hash under another
// pipeline or with another name is none.
func TestNamesOfFiles(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		r := f.upload("a", f.file(small))
		f.run()
		csv := f.addresses("", r)["t_csv"]
		other := f.upload("b", f.file("id,name\n5,five\n"))
		f.run()
		f.await(other, registry.Succeeded)
		for _, address := range []string{
			strings.Replace(csv, "t_csv.csv", "t_csv.html", 1), strings.Replace(csv, "me/a/t_csv", "me/a/t_json", 1),
			strings.Replace(csv, "/data/", "/archive/", 1), strings.Replace(csv, "me/a/", "me/b/", 1), strings.Replace(csv, "me/a/", "me/none/", 1),
			"me/a/2/_/t_csv/datapackage.json", "me/a/01/datapackage.json", "me/a/1/_/none/datapackage.json", "me/a\x00/1/datapackage.json", "me/a/x/data/" + strings.Repeat("0f", 32) + "/a\xff.csv",
		} {
			if file, err := f.PackageFile(t.Context(), f.token, address); !errs.Is(err, errs.NotFound) {
				t.Errorf("%q: %v, %v", address, file, err)
			}
		}
	})
}

// internalID reads the ID that object keys of a dataset use.
func (f *fixture) internalID(datasetID string) (id string) {
	f.Helper()
	if err := f.DB.Select(f.Context(), func(row sqldb.Row) error { return row.Scan(&id) },
		`SELECT internal_id FROM dataset WHERE identifier = $1`, datasetID); err != nil || len(id) != 32 {
		f.Fatalf("the internal ID of %s is %q: %v", datasetID, id, err)
	}
	return id
}

// TestOlderAttemptWritesLast: what an attempt that was superseded writes alters nothing
// that is published.
func TestOlderAttemptWritesLast(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		r := f.upload("a", f.file(small))
		older := testkit.Must(f.Registry.Claim(t.Context(), "stopped"))(t)
		if err := f.Registry.Release(t.Context(), r.ID, older.Attempt, nil); err != nil {
			t.Fatal(err)
		}
		f.run()
		f.await(r, registry.Succeeded)
		addresses := f.addresses("", r)
		before := map[string]string{}
		for name, address := range addresses {
			before[name] = string(f.read(address))
		}
		// The older attempt goes on.
		sink := f.Packages.Sink(older.InternalID, older.Number)
		var news []engine.Event
		for name := range addresses {
			artifact := strings.TrimPrefix(strings.TrimPrefix(name, "descriptor of "), "datapackage.json")
			if _, err := sink.PutDescriptor(t.Context(), artifact, []byte(`{"name":"older"}`)); err != nil {
				t.Fatal(err)
			}
			news = append(news, engine.Event{Pipeline: strings.TrimSuffix(r.ID+"/"+artifact, "/"), Kind: engine.Finish, Success: true})
		}
		for _, e := range news {
			_, err := f.Registry.Apply(t.Context(), registry.Event{
				FlowID: r.ID, Pipeline: e.Pipeline, Kind: registry.KindFinish, Success: true, Attempt: older.Attempt,
				Files: []registry.File{{Artifact: "t_csv", SHA256: strings.Repeat("0", 64)}},
			})
			if !errs.Is(err, errs.Conflict) {
				t.Errorf("an event of the older attempt was taken: %v", err)
			}
		}
		for name, address := range addresses {
			if got := string(f.read(address)); got != before[name] {
				t.Errorf("%s was altered:\n%s\nwas\n%s", name, got, before[name])
			}
		}
	})
}

// TestAnotherAddress: a server of the same database and stores under another address
// answers packages with that, and publishes what did not change again.
func TestAnotherAddress(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		f := start(t, url)
		f.upload("a", f.file(small))
		f.run()
		moved := pkgstore.New(servicetest.Objects(f.Fixture), "https://moved.example/pkgstore")
		f.Packages = moved
		again := f.upload("a", f.file(small))
		f.run()
		reused := 0
		for _, p := range f.status(again).Pipelines {
			if p.Reused != "" {
				reused++
			}
		}
		if reused != 6 {
			t.Errorf("%d pipelines were reused", reused)
		}
		for _, revision := range []int64{1, 2} {
			body := string(f.read(pkgstore.DescriptorPath("me/a", revision)))
			if n := strings.Count(body, `"https://moved.example/pkgstore/me/a/`); n != 6 || strings.Contains(body, publicURL) {
				t.Errorf("revision %d has %d addresses of today:\n%s", revision, n, body)
			}
		}
	})
}

// TestReleased: "successful" and "latest" of package addresses follow the last revision
// that succeeded, and content digests depend on what is held alone.
func TestReleased(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		released := func() (number int64) {
			t.Helper()
			r, err := f.Registry.Revision(t.Context(), "me/a", "successful", registry.Whole)
			if errs.Is(err, errs.NotFound) {
				if _, err := f.PackageFile(t.Context(), "", "me/a/latest/datapackage.json"); !errs.Is(err, errs.NotFound) {
					t.Errorf("latest: %v", err)
				}
				return 0
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, which := range []string{"latest", "successful"} {
				for _, tail := range []string{"/datapackage.json", "/_/t_csv/datapackage.json"} {
					if got, want := f.read("me/a/"+which+tail), f.read(r.ID+tail); string(got) != string(want) {
						t.Errorf("%s%s is %s", which, tail, got)
					}
				}
			}
			return r.Number
		}
		digests := map[int64]string{}
		for i, step := range []struct {
			content  string
			released int64
		}{{small, 1}, {"id,name\nx,one\n", 1}, {small, 3}, {"id,name\n2,two\n", 4}} {
			r := f.upload("a", f.file(step.content))
			if i == 0 && released() != 0 {
				t.Error("a revision is released before its end")
			}
			f.run()
			if got := released(); got != step.released {
				t.Errorf("after %d revision %d is released, want %d", r.Number, got, step.released)
			}
			if err := f.DB.Select(t.Context(), func(row sqldb.Row) error {
				var digest string
				err := row.Scan(&digest)
				digests[r.Number] = digest
				return err
			}, `SELECT COALESCE(content_digest, '') FROM dataset_revision WHERE revision_id = $1`, r.ID); err != nil {
				t.Fatal(err)
			}
		}
		if d := digests; len(d[1]) != 64 || d[1] != d[3] || d[2] != "" || d[4] == d[1] || len(d[4]) != 64 {
			t.Errorf("the digests are %v", digests)
		}
	})
}
