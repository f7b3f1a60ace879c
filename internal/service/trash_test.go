package service_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// pushed uploads a table and runs its flow.
func (f *fixture) pushed(dataset, findability, content string) *registry.Revision {
	f.Helper()
	r := testkit.Must(f.Upload(f.Context(), f.token, specAs(dataset, findability, f.file(content)), ""))(f.T).Revision
	f.run()
	f.await(r, registry.Succeeded)
	return r
}

func (f *fixture) deleted(datasetID string) {
	f.Helper()
	if err := f.Delete(f.Context(), f.token, datasetID); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) erased(datasetID string) {
	f.Helper()
	if done, err := f.Erase(f.Context(), f.token, datasetID); err != nil || !done {
		f.Fatalf("%s is erased: %v, %v", datasetID, done, err)
	}
}

// objects counts the objects of a dataset, by its internal ID; of all where that is empty.
func (f *fixture) objects(internal string) (n int) {
	f.Helper()
	for _, err := range servicetest.Objects(f.Fixture).List(f.Context(), pkgstore.Key(internal, "")[:2+len(internal)]) {
		if err != nil {
			f.Fatal(err)
		}
		n++
	}
	return n
}

func keyOf(address string) string { return strings.TrimPrefix(address, rawBase+"/") }

// has reports whether an uploaded file is there.
func (f *fixture) has(address string) bool {
	f.Helper()
	return testkit.Must(f.Raw.Has(f.Context(), keyOf(address)))(f.T)
}

func TestRestore(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		first, second := f.pushed("a", "published", small), f.pushed("a", "published", "id,name\n2,two\n")
		addresses := []map[string]string{f.addresses("", first), f.addresses("", second)}
		signed := func(c auth.Claims) string { return testkit.Must(f.Issuer.Sign(c, time.Now()))(t) }
		stranger := signed(auth.Claims{UserID: "you", Service: auth.ServiceSource, MaxDatasets: 10})
		poor := signed(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 0})
		refuses := func(what, token string, kind errs.Kind) {
			t.Helper()
			if err := f.Restore(t.Context(), token, "me/a"); !errs.Is(err, kind) {
				t.Errorf("%s: %v", what, err)
			}
		}
		refuses("what is not deleted", f.token, errs.NotFound)
		f.deleted("me/a")
		refuses("a stranger", stranger, errs.NotFound)
		refuses("nobody", "", errs.NotFound)
		refuses("over the limit", poor, errs.Forbidden)
		if err := f.Restore(t.Context(), f.token, "me/a"); err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			f.checkThere("", "nobody", a)
		}
		if r := testkit.Must(f.Registry.Revision(t.Context(), "me/a", "successful", 0))(t); r.Number != 2 {
			t.Errorf("revision %d is released", r.Number)
		}
		refuses("what was restored", f.token, errs.NotFound)

		f.deleted("me/a")
		f.pushed("a", "published", "id,name\n3,three\n")
		refuses("what was pushed again", f.token, errs.Conflict)
		f.deleted("me/a")
		if err := f.Restore(t.Context(), f.token, "me/a"); err != nil {
			t.Errorf("the second of that name: %v", err)
		}
		for i, number := range []string{"1", "2"} {
			if _, err := f.Status(t.Context(), f.token, "me/a", number); !errs.Is(err, errs.NotFound) {
				t.Errorf("revision %s of the first dataset came back: %v", number, err)
			}
			f.checkGone(f.token, "the owner", map[string]string{"an old descriptor": addresses[i]["datapackage.json"]})
		}
		f.erased("me/a")
		refuses("what was erased", f.token, errs.NotFound)
		if r := f.pushed("a", "published", small); r.Number != 4 {
			t.Errorf("the number after an erasure is %d", r.Number)
		}
	})
}

// TestErase: erasure removes all that only that dataset names, of its files and records.
func TestErase(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		const shared, own, older = small, "id,name\n8,own\n", "id,name\n9,older\n"
		f.pushed("a", "private", older)
		f.deleted("me/a")
		f.pushed("a", "published", shared)
		f.pushed("a", "published", own)
		other := f.pushed("b", "published", shared)
		fails := f.upload("a", f.file("id,name\nx,fails\n"))
		f.run()
		f.await(fails, registry.Failed)
		internal := f.internalID("me/a")
		b := f.objects(f.internalID("me/b"))

		stranger := testkit.Must(f.Issuer.Sign(auth.Claims{UserID: "you", Service: auth.ServiceSource}, time.Now()))(t)
		if _, err := f.Erase(t.Context(), stranger, "me/a"); !errs.Is(err, errs.Forbidden) {
			t.Errorf("a stranger erases: %v", err)
		}
		f.erased("me/a")
		if n := f.objects(internal); n != 0 {
			t.Errorf("%d objects are left", n)
		}
		if n := f.objects(""); n != b {
			t.Errorf("%d objects are left in all, want those of the other dataset, %d", n, b)
		}
		f.checkThere("", "nobody", f.addresses("", other))
		for content, want := range map[string]bool{shared: true, own: false, older: false} {
			if got := f.has(f.rawAddress(content)); got != want {
				t.Errorf("the uploaded file %q is there: %v", content, got)
			}
		}
		for _, table := range []string{
			"dataset_revision WHERE dataset_id = 'me/a'", "pipelines WHERE flow_id LIKE 'me/a/%'", "flow_event WHERE flow_id LIKE 'me/a/%'", "trash",
			"revision_file WHERE dataset = '" + internal + "'", "revision_raw WHERE dataset = '" + internal + "'",
			"dataset WHERE identifier = 'me/a' AND (spec IS NOT NULL OR deleted_at IS NULL OR findability <> 'private' OR internal_id <> '')",
			"file f WHERE NOT EXISTS (SELECT 1 FROM revision_raw r WHERE r.key = f.key)",
		} {
			if n := f.number(`SELECT COUNT(*) FROM ` + table); n != 0 {
				t.Errorf("%d rows are left of %s", n, table)
			}
		}
		if n := f.number(`SELECT COUNT(*) FROM audit WHERE actor = 'me' AND action = 'erase' AND subject = 'me/a' AND body LIKE '%"files":%'`); n != 2 {
			t.Errorf("the audit has %d erasures", n)
		}
		// What is not there, or not any more, is not there to be erased.
		for _, id := range []string{"me/none", "me/a"} {
			if _, err := f.Erase(t.Context(), f.token, id); !errs.Is(err, errs.NotFound) {
				t.Errorf("%s is erased again: %v", id, err)
			}
		}
		if r := f.pushed("a", "published", own); r.Number != 5 {
			t.Errorf("the next number is %d", r.Number)
		}
	})
}

// rawAddress is the address of an uploaded file of the owner.
func (f *fixture) rawAddress(content string) string {
	sum := md5.Sum([]byte(content))
	return rawBase + "/me/" + hex.EncodeToString(sum[:]) + "-" + strconv.Itoa(len(content))
}

// TestTrashTime: what was deleted is erased when its time is over, and not before.
func TestTrashTime(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		f.pushed("a", "published", small)
		internal := f.internalID("me/a")
		f.deleted("me/a")
		collect := func() {
			t.Helper()
			if err := f.CollectGarbage(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
		collect()
		if f.objects(internal) == 0 || !f.has(f.rawAddress(small)) {
			t.Error("what was deleted is erased at once")
		}
		week := int64(7 * 24 * time.Hour / time.Microsecond)
		if at, deleted := f.number(`SELECT erase_at FROM trash`), f.number(`SELECT deleted_at FROM trash`); int64(at-deleted) != week {
			t.Errorf("it is erased after %d µs", at-deleted)
		}
		if err := f.DB.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE trash SET erase_at = $1`, time.Now().UnixMicro())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		collect()
		if f.objects(internal) != 0 || f.has(f.rawAddress(small)) {
			t.Error("what was deleted is not erased after its time")
		}
		if err := f.Restore(t.Context(), f.token, "me/a"); !errs.Is(err, errs.NotFound) {
			t.Errorf("what was erased is restored: %v", err)
		}
	})
}

// TestErasedRun: a run of a dataset that is erased is stopped, and what it writes
// afterwards is removed.
func TestErasedRun(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		s := f.source()
		f.upload("a", s.URL)
		internal := f.internalID("me/a")
		done := f.running(t.Context(), s)
		f.erased("me/a")
		late := f.Packages.Sink(internal, 1)
		if _, err := late.PutDescriptor(t.Context(), "t_csv", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		s.letGo()
		f.stops(done, 10*time.Second)
		if err := f.CollectGarbage(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		if n := f.objects(""); n != 0 {
			t.Errorf("%d objects are left", n)
		}
		if n := f.number(`SELECT COUNT(*) FROM dataset_revision`); n != 0 {
			t.Errorf("%d revisions are left", n)
		}
	})
}

// TestUploadsGarbage: uploaded files that nothing names go when nobody wants them, and a
// push that names one that has gone is told so.
func TestUploadsGarbage(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		collect := func(age time.Duration) {
			t.Helper()
			if err := f.CollectGarbage(t.Context(), age); err != nil {
				t.Fatal(err)
			}
		}
		longAgo := func() {
			t.Helper()
			if err := f.DB.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE file SET touched_at = 1`)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		address := f.file(small)
		collect(time.Hour)
		if !f.has(address) {
			t.Fatal("a file that was just uploaded was removed")
		}
		longAgo()
		f.file(small) // exists: true, and so wanted
		collect(time.Hour)
		if !f.has(address) {
			t.Fatal("a file that somebody was told is there was removed")
		}
		longAgo()
		named := f.upload("a", address)
		longAgo()
		collect(0)
		if !f.has(address) {
			t.Fatal("a file that a revision names was removed")
		}
		f.run()
		f.await(named, registry.Succeeded)
		unnamed := f.file("id,name\n7,seven\n")
		longAgo()
		collect(time.Hour)
		if f.has(unnamed) {
			t.Error("a file that nobody wants is there")
		}
		if n := f.number(`SELECT COUNT(*) FROM file`); n != 1 {
			t.Errorf("%d files are known", n)
		}
		_, err := f.Upload(t.Context(), f.token, spec("b", unnamed), "")
		if !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), "upload it again") {
			t.Errorf("a push of what was removed: %v", err)
		}
		if _, err := f.Registry.Revision(t.Context(), "me/b", "latest", 0); !errs.Is(err, errs.NotFound) {
			t.Errorf("a refused push left %v", err)
		}
	})
}

// TestSignedUploads: a signed address of an uploaded file ends with the last dataset that
// names it.
func TestSignedUploads(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		shown := func(step string, want bool) {
			t.Helper()
			err := f.UploadShown(t.Context(), keyOf(f.rawAddress(small)))
			if want && err != nil || !want && !errs.Is(err, errs.NotFound) {
				t.Errorf("%s: %v", step, err)
			}
		}
		f.file(small)
		shown("uploaded", true)
		f.pushed("a", "private", small)
		f.pushed("b", "private", small)
		shown("named by two", true)
		f.deleted("me/a")
		shown("named by one", true)
		f.deleted("me/b")
		shown("named by deleted ones", false)
		if err := f.Restore(t.Context(), f.token, "me/b"); err != nil {
			t.Fatal(err)
		}
		shown("restored", true)
		f.deleted("me/b")
		f.upload("a", f.file(small))
		shown("pushed again", true)
	})
}

// TestRandomTrash: pushes, deletions, restorations, erasures and collections of garbage in
// any order and at the same time never lose a file that a live revision names, and nothing
// of what was erased stays.
func TestRandomTrash(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		each(t, func(t *testing.T, f *fixture) { randomTrash(t, f, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func randomTrash(t *testing.T, f *fixture, r *rand.Rand) {
	ctx, stop := context.WithCancel(t.Context())
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	for range 2 { // as two processes
		background.Go(func() {
			for ctx.Err() == nil {
				if err := f.CollectGarbage(ctx, 0); err != nil && ctx.Err() == nil && !errs.Is(err, errs.Unavailable) {
					t.Errorf("collecting: %v", err)
				}
				time.Sleep(5 * time.Millisecond) // leaves the processors to the others
			}
		})
	}
	background.Go(func() {
		for ctx.Err() == nil {
			if err := f.RunNext(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("running: %v", err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	datasets, contents := []string{"a", "b"}, []string{small, "id,name\n2,two\n", "id,name\n3,three\n", "id,name\nx,fails\n"}
	// push uploads until the file stays long enough for its push, as clients do.
	push := func(dataset, content string) {
		for range 50 {
			_, err := f.Upload(ctx, f.token, spec(dataset, f.file(content)), "")
			if err == nil {
				return
			}
			if !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), "upload it again") {
				t.Errorf("push: %v", err)
				return
			}
		}
		t.Error("a file is removed again and again")
	}
	for range 40 {
		dataset := datasets[r.IntN(len(datasets))]
		var err error
		switch n := r.IntN(10); {
		case n < 5:
			push(dataset, contents[r.IntN(len(contents))])
		case n < 7:
			err = f.Delete(ctx, f.token, "me/"+dataset)
		case n < 9:
			err = f.Restore(ctx, f.token, "me/"+dataset)
		default:
			_, err = f.Erase(ctx, f.token, "me/"+dataset)
		}
		if err != nil && !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v", dataset, err)
		}
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		checkNamed(t, f)
	}
	for f.number(`SELECT COUNT(*) FROM dataset_revision WHERE status IN ('pending', 'running')`) > 0 && !t.Failed() {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	background.Wait()
	checkNamed(t, f)
	for _, dataset := range datasets {
		if _, err := f.Erase(t.Context(), f.token, "me/"+dataset); err != nil && !errs.Is(err, errs.NotFound) {
			t.Error(err)
		}
	}
	if err := f.CollectGarbage(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if n := f.objects(""); n != 0 {
		t.Errorf("%d objects are left of erased datasets", n)
	}
	for _, content := range contents {
		if f.has(f.rawAddress(content)) {
			t.Errorf("the uploaded file %q is left", content)
		}
	}
	for _, table := range []string{"dataset_revision", "pipelines", "flow_event", "revision_file", "revision_raw", "trash", "file"} {
		if n := f.number(`SELECT COUNT(*) FROM ` + table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
}

// checkNamed holds the stores against what live revisions name.
func checkNamed(t *testing.T, f *fixture) {
	t.Helper()
	type named struct {
		dataset, sum string
		size         int64
	}
	list := func() (files []named, uploads []string) {
		t.Helper()
		if err := f.DB.Select(t.Context(), func(row sqldb.Row) error {
			var n named
			err := row.Scan(&n.dataset, &n.sum, &n.size)
			files = append(files, n)
			return err
		}, `SELECT DISTINCT f.dataset, f.sha256, f.bytes FROM revision_file f JOIN dataset d ON d.internal_id = f.dataset WHERE d.deleted_at IS NULL`); err != nil {
			t.Fatal(err)
		}
		if err := f.DB.Select(t.Context(), func(row sqldb.Row) error {
			uploads = append(uploads, "")
			return row.Scan(&uploads[len(uploads)-1])
		}, `SELECT DISTINCT r.key FROM revision_raw r JOIN dataset d ON d.internal_id = r.dataset WHERE d.deleted_at IS NULL`); err != nil {
			t.Fatal(err)
		}
		return files, uploads
	}
	files, uploads := list()
	for _, n := range files {
		if !f.Packages.Has(t.Context(), pkgstore.Key(n.dataset, n.sum), n.size) {
			t.Errorf("the object %s of %s is missing", n.sum, n.dataset)
		}
	}
	for _, key := range uploads {
		if has, err := f.Raw.Has(t.Context(), key); err != nil || !has {
			t.Errorf("the uploaded file %s is missing: %v", key, err)
		}
	}
}
