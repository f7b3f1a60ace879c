package registry_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

func (f *fixture) changes() []registry.Change {
	f.t.Helper()
	return testkit.Must(f.Changes(f.t.Context(), 0, 1_000_000))(f.t)
}

func (f *fixture) pushAs(dataset, findability string) *registry.Revision {
	f.t.Helper()
	n := push(dataset, registry.Embedded)
	n.Findability = findability
	return testkit.Must(f.CreateRevision(f.t.Context(), n))(f.t)
}

// Each change of a dataset stands in the log, with how the dataset stood after it, and
// nothing else does.
func TestChangeLog(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		remove := func() {
			if err := f.Delete(t.Context(), registry.Deletion{DatasetID: "me/lakes", By: "me", Reason: "deleted", Trash: time.Hour}); err != nil {
				t.Fatal(err)
			}
		}
		steps := []struct {
			name string
			do   func()
			want []string
		}{
			{"pushed for the first time", func() { f.pushAs("me/lakes", "published") }, []string{"created 0 published"}},
			{"succeeded", func() { f.ended("me/lakes/1", true) }, []string{"released 1 published"}},
			{"pushed again", func() { f.pushAs("me/lakes", "published") }, nil},
			{"failed", func() { f.ended("me/lakes/2", false) }, nil},
			{"hidden", func() { f.pushAs("me/lakes", "private") }, []string{"findability 1 private"}},
			{"hidden again", func() { f.pushAs("me/lakes", "private") }, nil},
			{"succeeded late", func() { f.ended("me/lakes/4", true) }, []string{"released 4 private"}},
			{"an earlier one later", func() { f.ended("me/lakes/3", true) }, nil},
			{"to be shown", func() { f.pushAs("me/lakes", "unlisted") }, nil},
			{"shown", func() { f.ended("me/lakes/5", true) }, []string{"released 5 unlisted", "findability 5 unlisted"}},
			{"deleted", remove, []string{"deleted 5 unlisted"}},
			{"restored", func() {
				if err := f.Restore(t.Context(), "me/lakes", "me", -1); err != nil {
					t.Fatal(err)
				}
			}, []string{"restored 5 unlisted"}},
			{"deleted again", remove, []string{"deleted 5 unlisted"}},
			{"made again", func() { f.pushAs("me/lakes", "published") }, []string{"created 0 published"}},
			{"erased", func() { f.erase("me/lakes") }, []string{"erased 0 private"}},
			{"nothing is left to erase", func() { f.erase("me/lakes") }, nil},
			{"an upload that is refused", func() {
				n := push("me/rivers", registry.Embedded)
				n.Plan = func(int64, time.Time, bool) ([]registry.PlannedPipeline, error) { return nil, errors.New("refused") }
				if _, err := f.CreateRevision(t.Context(), n); err == nil {
					t.Fatal("it was accepted")
				}
			}, nil},
		}
		last := 0
		for _, step := range steps {
			step.do()
			list := f.changes()
			var got []string
			for _, c := range list[last:] {
				got = append(got, fmt.Sprintf("%s %d %s", c.Kind, c.Revision, c.Findability))
				if c.DatasetID != "me/lakes" || c.OwnerID != "me" || c.InternalID == "" || c.At.IsZero() {
					t.Errorf("%s: %+v", step.name, c)
				}
			}
			last = len(list)
			if !slices.Equal(got, step.want) {
				t.Errorf("%s: %q, want %q", step.name, got, step.want)
			}
		}
		replayChanges(t, f)
	})
}

// A schedule that is paused stands in the log once, whether its runs fail or cannot begin,
// and once more when it is paused again after a push.
func TestChangeLogOfPause(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		paused := func() (n int) {
			for _, c := range f.changes() {
				if c.Kind == registry.ChangeSchedulePaused {
					n++
				}
			}
			return n
		}
		testkit.Must(f.CreateRevision(t.Context(), scheduled("me/lakes", noon)))(t)
		f.ended("me/lakes/1", true)
		at := noon
		for i := range 5 {
			if n := paused(); n != 0 {
				t.Fatalf("%d pauses after %d failures", n, i)
			}
			r := testkit.Must(f.CreateRevision(t.Context(), due("me/lakes", at, at.Add(time.Hour))))(t)
			f.ended(r.ID, false)
			at = at.Add(time.Hour)
		}
		if n := paused(); n != 1 {
			t.Fatalf("%d pauses after five failures", n)
		}
		n := scheduled("me/lakes", at)
		n.CreatedAt = noon
		r := testkit.Must(f.CreateRevision(t.Context(), n))(t)
		f.ended(r.ID, false)
		if n := paused(); n != 1 {
			t.Fatalf("%d pauses after a push", n)
		}
		for range 5 {
			if _, err := f.ScheduleFailed(t.Context(), registry.Due{DatasetID: "me/lakes", At: at}, at.Add(time.Hour), "no"); err != nil {
				t.Fatal(err)
			}
			at = at.Add(time.Hour)
		}
		if n := paused(); n != 2 {
			t.Fatalf("%d pauses after five more", n)
		}
	})
}

// erase erases what lies in the trash under a name.
func (f *fixture) erase(dataset string) {
	f.t.Helper()
	if err := eraseAll(f.t.Context(), f.Store, dataset); err != nil {
		f.t.Fatal(err)
	}
}

func eraseAll(ctx context.Context, s *registry.Store, dataset string) error {
	if _, err := s.EraseNow(ctx, dataset); err != nil {
		return err
	}
	list, err := s.Erasures(ctx, dataset, 100)
	for _, e := range list {
		err = errors.Join(err, s.EraseRecords(ctx, e))
	}
	return err
}

// replayChanges takes the log through a model of what may follow what, and compares where
// it comes to with the datasets.
func replayChanges(t *testing.T, f *fixture) {
	t.Helper()
	type standing struct {
		id, findability string
		revision        int64
		deleted, erased bool
	}
	model := map[string]*standing{}
	for i, c := range f.changes() {
		if c.Seq != int64(i+1) {
			t.Fatalf("entry %d has the number %d", i+1, c.Seq)
		}
		d, known := model[c.InternalID]
		legal := known && !d.erased
		switch c.Kind {
		case registry.ChangeCreated:
			legal = !known && c.Revision == 0
			d = &standing{id: c.DatasetID, findability: c.Findability}
			model[c.InternalID] = d
		case registry.ChangeReleased:
			legal = legal && c.Revision > d.revision
		case registry.ChangeFindability:
			legal = legal && c.Findability != d.findability
			d.findability = c.Findability
		case registry.ChangeDeleted:
			legal = legal && !d.deleted
			d.deleted = true
		case registry.ChangeRestored:
			legal = legal && d.deleted
			d.deleted = false
		case registry.ChangeErased:
			legal = legal && d.deleted
			d.erased = true
		case registry.ChangeSchedulePaused:
		}
		if !legal || d.id != c.DatasetID {
			t.Fatalf("%+v cannot follow %+v", c, d)
		}
		d.revision = c.Revision
	}
	n := 0
	if err := f.db.Select(t.Context(), func(row sqldb.Row) error {
		n++
		var internal string
		var got standing
		var deleted int
		if err := row.Scan(&internal, &got.id, &got.findability, &got.revision, &deleted); err != nil {
			return err
		}
		got.deleted = deleted == 1
		if want := model[internal]; want == nil || got != *want {
			t.Errorf("%s is %+v, and by the log %+v", internal, got, want)
		}
		return nil
	}, `SELECT internal_id, identifier, findability, COALESCE(released_revision, 0), CASE WHEN deleted_at IS NULL THEN 0 ELSE 1 END
		FROM dataset WHERE internal_id <> ''`); err != nil || n == 0 {
		t.Errorf("%d datasets, %v", n, err)
	}
}

// tail is a reader that is stopped now and then and goes on where it was.
func tail(ctx context.Context, s *registry.Store, random *rand.Rand, until func() int64) (seen []registry.Change, err error) {
	after := int64(0)
	for ctx.Err() == nil && after < until() {
		session, stop := context.WithTimeout(ctx, time.Duration(random.IntN(30))*time.Millisecond)
		err := s.Follow(session, registry.Follower{After: after, Each: func(_ context.Context, c registry.Change) error {
			seen, after = append(seen, c), c.Seq
			if random.IntN(10) == 0 {
				return errStopped
			}
			return nil
		}})
		stop()
		if err != nil && !errors.Is(err, errStopped) && !errs.Is(err, errs.Unavailable) && session.Err() == nil {
			return seen, err
		}
	}
	return seen, ctx.Err()
}

var errStopped = errors.New("stopped")

// Whatever changes at the same time, and whatever is broken off in the middle of it, every
// reader reads each entry once and in order, and the log says what has become of the
// datasets.
func TestChangeLogRace(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, address string) {
		t.Parallel()
		if strings.HasPrefix(address, "postgres") {
			u := testkit.Must(url.Parse(address))(t)
			q := u.Query()
			q.Set("application_name", "changes")
			u.RawQuery = q.Encode()
			address = u.String()
		}
		f := open(t, address)
		stores := []*registry.Store{f.Store}
		background, cancel := context.WithCancel(t.Context())
		defer cancel()
		var others, writers, readers sync.WaitGroup
		defer others.Wait()
		if !f.db.Single() {
			second := open(t, address)
			stores = append(stores, second.Store)
			others.Go(func() { second.Listen(background) })
			// Connections are broken off by the server, as those of a process that is killed.
			keeper := testkit.Must(sqldb.Open(t.Context(), sqldb.Config{URL: strings.Replace(address, "application_name=changes", "application_name=keeper", 1)}))(t)
			t.Cleanup(func() { _ = keeper.Close() })
			others.Go(func() {
				for background.Err() == nil {
					_ = keeper.Tx(background, func(ctx context.Context, tx sqldb.Tx) error {
						_, err := tx.Exec(ctx, `
							SELECT pg_terminate_backend(pid) FROM pg_stat_activity
							WHERE application_name = $1 AND state <> 'idle' ORDER BY random() LIMIT 1`, "changes")
						return err
					})
					select {
					case <-background.Done():
					case <-time.After(20 * time.Millisecond):
					}
				}
			})
		}
		others.Go(func() { f.Listen(background) })
		for i := range 6 {
			writers.Go(func() {
				random := rand.New(rand.NewPCG(uint64(i), 7))
				for range 40 {
					ctx, stop := context.WithCancel(t.Context())
					if random.IntN(4) == 0 {
						ctx, stop = context.WithTimeout(t.Context(), time.Duration(random.IntN(3000))*time.Microsecond)
					}
					changeSomething(ctx, stores[i%len(stores)], random)
					stop()
				}
			})
		}
		written := make(chan struct{})
		until := func() int64 {
			select {
			case <-written:
				if n, err := f.LastChange(t.Context()); err == nil {
					return n
				}
			default:
			}
			return 1 << 62
		}
		logs := make([][]registry.Change, 4)
		failures := make([]error, len(logs))
		for i := range logs {
			readers.Go(func() {
				logs[i], failures[i] = tail(t.Context(), stores[i%len(stores)], rand.New(rand.NewPCG(uint64(i), 8)), until)
			})
		}
		writers.Wait()
		close(written)
		readers.Wait()
		cancel()
		others.Wait()
		want := f.changes()
		for i := range logs {
			if failures[i] != nil || !slices.Equal(logs[i], want) {
				t.Errorf("reader %d read %d entries of %d, %v", i, len(logs[i]), len(want), failures[i])
			}
		}
		replayChanges(t, f)
		kinds := map[registry.ChangeKind]int{}
		for _, c := range want {
			kinds[c.Kind]++
		}
		for _, kind := range []registry.ChangeKind{registry.ChangeCreated, registry.ChangeReleased, registry.ChangeFindability, registry.ChangeDeleted} {
			if kinds[kind] == 0 {
				t.Errorf("only %v happened", kinds)
			}
		}
	})
}

// changeSomething does what may change a dataset. What fails is left as it is.
func changeSomething(ctx context.Context, s *registry.Store, random *rand.Rand) {
	dataset := fmt.Sprintf("me/%c", 'a'+random.IntN(3))
	switch random.IntN(10) {
	case 0:
		_ = s.Delete(ctx, registry.Deletion{DatasetID: dataset, By: "me", Trash: time.Hour})
	case 1, 2:
		_ = s.Restore(ctx, dataset, "me", -1)
	case 3:
		_ = eraseAll(ctx, s, dataset)
	default:
		n := push(dataset, registry.External)
		n.Findability = []string{"private", "unlisted", "published"}[random.IntN(3)]
		if n.Findability != "published" && random.IntN(2) == 0 {
			n.Findability = "published"
		}
		r, err := s.CreateRevision(ctx, n)
		if err != nil {
			return
		}
		for _, name := range []string{"/a", "/b", "/c", "/d", ""} {
			_, _ = s.Apply(ctx, registry.Event{Pipeline: r.ID + name, Kind: registry.KindFinish, Success: true})
		}
	}
}

// The log of a database that was there before begins with what it holds.
func TestChangeLogOfEarlier(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		f := original(t, url)
		replayChanges(t, f)
		r := f.pushAs("me/data", "private")
		list := f.changes()
		if last := list[len(list)-1]; last.Kind != registry.ChangeFindability || last.DatasetID != r.DatasetID {
			t.Errorf("the log ends with %+v", last)
		}
	})
}

// publish makes a revision with a file.
func (f *fixture) publish(findability string) {
	f.t.Helper()
	r := f.pushAs("me/lakes", findability)
	for _, name := range []string{"/a", "/b", "/c", "/d", ""} {
		ev := registry.Event{Pipeline: r.ID + name, Kind: registry.KindFinish, Success: true, Attempt: 1}
		if name == "/a" {
			ev.Files = []registry.File{{Artifact: "a", Path: "data/x/a.csv", SHA256: "x", Rows: -1}}
		}
		f.apply(ev)
	}
}

func (f *fixture) file() (*registry.NamedFile, error) {
	return f.File(f.t.Context(), "me/lakes", "a", "data/x/a.csv", "x")
}

// A file that everybody may read is found without a statement from the second time on, and
// its end is seen by the next look of the same process.
func TestFilesAreKept(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		if !f.db.Single() {
			t.Skip("on SQLite no other process writes; see TestFilesOfTwoProcesses")
		}
		find := func(step, want string) {
			t.Helper()
			for range 3 {
				found, err := f.file()
				switch {
				case want == "" && !errs.Is(err, errs.NotFound):
					t.Fatalf("%s: %+v, %v", step, found, err)
				case want != "" && (err != nil || found.Findability != want):
					t.Fatalf("%s: %+v, %v; want %s", step, found, err, want)
				}
			}
		}
		find("before", "")
		f.publish("published")
		find("published", "published")
		f.pushAs("me/lakes", "private")
		find("hidden", "private")
		f.publish("unlisted")
		find("shown", "unlisted")
		if err := f.Delete(t.Context(), registry.Deletion{DatasetID: "me/lakes", By: "me", Trash: time.Hour}); err != nil {
			t.Fatal(err)
		}
		find("deleted", "")
		if err := f.Restore(t.Context(), "me/lakes", "me", -1); err != nil {
			t.Fatal(err)
		}
		find("restored", "unlisted")
	})
}

// What one process makes private another one shows for no longer than a second.
func TestFilesOfTwoProcesses(t *testing.T) {
	t.Parallel()
	url := testkit.DB(t, sqldb.Postgres)
	f, other := open(t, url), open(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	var listening sync.WaitGroup
	defer listening.Wait()
	defer cancel()
	listening.Go(func() { f.Listen(ctx) })
	listening.Go(func() { other.Listen(ctx) })
	hidden := func(step string, change func(), is func(*registry.NamedFile, error) bool) {
		t.Helper()
		// Until it is kept, which Kept counts.
		for other.Kept() == 0 {
			if _, err := other.file(); err != nil {
				t.Fatalf("%s: %v", step, err)
			}
		}
		change()
		for begun := time.Now(); ; {
			asked := time.Now()
			found, err := other.file()
			if is(found, err) {
				break
			}
			if asked.Sub(begun) > time.Second {
				t.Fatalf("%s: a second later it is %+v, %v", step, found, err)
			}
		}
		if n := other.Kept(); n != 0 {
			t.Errorf("%s: %d files are kept", step, n)
		}
	}
	f.publish("published")
	hidden("deleted", func() {
		if err := f.Delete(t.Context(), registry.Deletion{DatasetID: "me/lakes", By: "me", Trash: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}, func(_ *registry.NamedFile, err error) bool { return errs.Is(err, errs.NotFound) })
	if err := f.Restore(t.Context(), "me/lakes", "me", -1); err != nil {
		t.Fatal(err)
	}
	hidden("made private", func() { f.pushAs("me/lakes", "private") },
		func(found *registry.NamedFile, err error) bool { return err == nil && found.Findability == "private" })
}

// Of many reads of a public file hardly any asks the database.
func TestReadsOfFiles(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		var asked atomic.Int64
		db := testkit.Must(sqldb.Open(t.Context(), sqldb.Config{URL: url, Trace: func(statements ...string) {
			for _, text := range statements {
				if strings.Contains(text, "JOIN revision_file") {
					asked.Add(1)
				}
			}
		}}))(t)
		t.Cleanup(func() { _ = db.Close() })
		f := &fixture{Store: testkit.Must(registry.Open(t.Context(), db, registry.Options{}))(t), t: t, db: db, url: url}
		ctx, cancel := context.WithCancel(t.Context())
		var listening sync.WaitGroup
		defer listening.Wait()
		defer cancel()
		listening.Go(func() { f.Listen(ctx) })
		f.publish("published")
		for f.Kept() == 0 {
			testkit.Must(f.file())(t)
		}
		asked.Store(0)
		const reads = 1000
		for range reads {
			testkit.Must(f.file())(t)
		}
		if n := asked.Load(); n > reads/4 || db.Single() && n != 0 {
			t.Errorf("%d of %d reads asked the database", n, reads)
		}
	})
}
