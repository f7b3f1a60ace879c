package service_test

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/fetch"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// fixture is a service over the real parts, without workers: a test runs flows itself.
type fixture struct {
	*testing.T
	*servicetest.Fixture
	token string // of the owner "me"
}

const (
	publicURL = "https://specstore.example"
	rawBase   = publicURL + "/rawstore/o"
)

func TestMain(m *testing.M) {
	if code, ok := servicetest.Child(); ok {
		os.Exit(code)
	}
	testkit.Main(m)
}

// each runs a test on a new service on each kind of database.
func each(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		test(t, start(t, url))
	})
}

func start(t *testing.T, database string) *fixture {
	t.Helper()
	return startIn(t, database, t.TempDir())
}

// startIn starts a service whose stores lie in a folder.
func startIn(t *testing.T, database, dir string) *fixture {
	t.Helper()
	f := &fixture{T: t, Fixture: servicetest.New(t, servicetest.Options{Database: database, Data: dir, PublicURL: publicURL, Fetch: fetch.Config{Allow: []string{"127.0.0.1"}}})}
	f.token = testkit.Must(f.Issuer.Sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 10}, time.Now()))(t)
	return f
}

// spec is a Flow-Spec of one table at an address.
func spec(dataset, address string) []byte {
	return fmt.Appendf(nil, `{"meta":{"ownerid":"me","dataset":%q,"findability":"published"},"inputs":[{"kind":"datapackage","parameters":{
		"resource-mapping":{"t.csv":%q},"descriptor":{"resources":[{"name":"t","path":"t.csv","schema":{"primaryKey":"id","fields":[
		{"name":"id","type":"integer"},{"name":"name","type":"string"}]}}]}}}]}`, dataset, address)
}

func (f *fixture) upload(dataset, address string) *registry.Revision {
	f.Helper()
	return testkit.Must(f.Upload(f.Context(), f.token, spec(dataset, address), ""))(f.T).Revision
}

// file keeps an uploaded file of the owner and gives its address.
func (f *fixture) file(content string) string {
	f.Helper()
	return f.fileOf("me", content)
}

func (f *fixture) fileOf(owner, content string) string {
	f.Helper()
	sum := md5.Sum([]byte(content))
	leaves := testkit.Must(f.Raw.Authorize(f.Context(), owner, map[string]rawstore.File{
		"t": {Length: int64(len(content)), MD5: base64.StdEncoding.EncodeToString(sum[:])},
	}, rawBase))(f.T)
	if err := f.Raw.Accept(f.Context(), leaves["t"].Query, strings.NewReader(content)); err != nil {
		f.Fatal(err)
	}
	return rawstore.Address(rawBase, leaves["t"].Query["key"])
}

const (
	small   = "id,name\n1,one\n2,two\n"
	written = "id,name\r\n1,one\r\n2,two\r\n"
)

func (f *fixture) status(r *registry.Revision) *registry.Revision {
	f.Helper()
	return testkit.Must(f.Status(f.Context(), f.token, r.DatasetID, fmt.Sprint(r.Number)))(f.T)
}

func (f *fixture) await(r *registry.Revision, state registry.State) {
	f.Helper()
	for range 1000 {
		if f.status(r).State == state {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	f.Fatalf("%s is %s, not %s", r.ID, f.status(r).State, state)
}

// run runs the next flow, which must be no fault of the service's.
func (f *fixture) run() {
	f.Helper()
	if err := f.RunNext(f.Context()); err != nil {
		f.Fatal(err)
	}
}

// read reads what is published under a key.
func (f *fixture) read(key string) []byte {
	f.Helper()
	return f.readAs("", key)
}

func (f *fixture) readAs(token, key string) []byte {
	f.Helper()
	file := testkit.Must(f.PackageFile(f.Context(), token, key))(f.T)
	o := testkit.Must(f.Packages.Open(f.Context(), file.Key))(f.T)
	defer o.Close()
	body := testkit.Must(io.ReadAll(o))(f.T)
	if file.DatasetID == "" {
		return body
	}
	return testkit.Must(f.Packages.Descriptor(file.DatasetID, body))(f.T)
}

// checkPublished holds what a revision published against the table that was sent.
func (f *fixture) checkPublished(r *registry.Revision) {
	f.Helper()
	st := f.status(r)
	if st.State != registry.Succeeded || len(st.Errors) != 0 || len(st.Pipelines) != 7 || st.Stats == nil {
		f.Fatalf("%s: %s %q", st.ID, st.State, st.Errors)
	}
	for _, p := range st.Pipelines {
		if p.State != registry.Succeeded || p.Stats == nil || p.Started.IsZero() || p.Finished.Before(p.Started) {
			f.Errorf("%+v", p)
		}
	}
	var d struct {
		Resources []struct{ Name, Path string }
	}
	if err := json.Unmarshal(f.read(pkgstore.DescriptorPath(r.DatasetID, r.Number)), &d); err != nil {
		f.Fatal(err)
	}
	for _, res := range d.Resources {
		key, ok := strings.CutPrefix(res.Path, "https://specstore.example/pkgstore/")
		if !ok {
			f.Fatalf("%s is at %s", res.Name, res.Path)
		}
		if got := string(f.read(key)); res.Name == "t_csv" {
			if got != written {
				f.Errorf("%s holds %q", res.Path, got)
			}
			return
		}
	}
	f.Errorf("there is no CSV in %+v", d.Resources)
}

// checkClean says that a run left no files in the making behind.
func (f *fixture) checkClean() {
	f.Helper()
	if left := testkit.Must(os.ReadDir(f.Temp))(f.T); len(left) > 0 {
		f.Errorf("%s is left behind", left[0].Name())
	}
}

// source serves a table: its head at once, and the rest when it is let go.
type source struct {
	*httptest.Server
	reading chan struct{} // receives when a reader waits for the rest
	letGo   func()
	down    atomic.Bool
}

func (f *fixture) source() *source {
	s := &source{reading: make(chan struct{}, 100)}
	rest := make(chan struct{})
	s.letGo = sync.OnceFunc(func() { close(rest) })
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.down.Load() {
			http.Error(w, "secret of the other server", http.StatusNotFound)
			return
		}
		head, tail := small[:10], small[10:]
		io.WriteString(w, head)
		http.NewResponseController(w).Flush()
		s.reading <- struct{}{}
		select {
		case <-rest:
			io.WriteString(w, tail)
		case <-r.Context().Done():
		}
	}))
	f.Cleanup(s.Close)
	f.Cleanup(s.letGo)
	return s
}

// running starts a run and waits until it reads its source. The channel gives what
// the run ends with.
func (f *fixture) running(ctx context.Context, s *source) <-chan error {
	f.Helper()
	done := make(chan error, 1)
	go func() { done <- f.RunNext(ctx) }()
	select {
	case <-s.reading:
	case err := <-done:
		f.Fatalf("the run ended: %v", err)
	case <-time.After(time.Minute):
		f.Fatal("the source is not read")
	}
	return done
}

// stops waits for a run that must end in a time, without an error.
func (f *fixture) stops(done <-chan error, in time.Duration) {
	f.Helper()
	select {
	case err := <-done:
		if err != nil {
			f.Error(err)
		}
	case <-time.After(in):
		f.Fatalf("the run goes on after %s", in)
	}
	f.checkClean()
}

// TestRun: from an upload to what is published; the same again gives the same bytes.
func TestRun(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		f.run() // nothing to do is no error
		address := f.file(small)
		first := f.upload("a", address)
		if st := f.status(first); st.State != registry.Queued || len(st.Pipelines) != 7 || st.Attempt != 1 {
			t.Errorf("%+v", st)
		}
		if _, err := f.PackageFile(t.Context(), f.token, pkgstore.DescriptorPath("me/a", 1)); !errs.Is(err, errs.NotFound) {
			t.Errorf("before the run there is a package: %v", err)
		}
		f.run()
		f.checkPublished(first)
		f.checkClean()
		second := f.upload("a", address)
		f.run()
		f.checkPublished(second)
		outputs := func(r *registry.Revision) (keys []string) {
			for _, p := range f.status(r).Pipelines {
				var o struct{ Outputs []struct{ Key string } }
				if err := json.Unmarshal(p.Outputs, &o); err != nil {
					t.Fatal(err)
				}
				for _, file := range o.Outputs {
					keys = append(keys, file.Key)
				}
			}
			return keys
		}
		if a, b := outputs(first), outputs(second); len(a) == 0 || !slices.Equal(a, b) {
			t.Errorf("the same file gave %v, then %v", a, b)
		}
	})
}

// TestCancel: a cancelled run stops within two seconds and writes no more; a retry
// runs it whole.
func TestCancel(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		s := f.source()
		r := f.upload("a", s.URL)
		done := f.running(t.Context(), s)
		f.await(r, registry.Running)
		if state, err := f.Cancel(t.Context(), f.token, "me/a", "1"); err != nil || state != registry.Cancelled {
			t.Fatalf("%s, %v", state, err)
		}
		f.stops(done, 2*time.Second)
		if st := f.status(r); st.State != registry.Cancelled || !slices.Contains(st.Errors, "Cancelled by its owner") || st.DescriptorKey != "" {
			t.Errorf("%s %q", st.State, st.Errors)
		}
		if _, err := f.Cancel(t.Context(), f.token, "me/a", "latest"); !errs.Is(err, errs.Conflict) {
			t.Errorf("a second cancel: %v", err)
		}
		f.run() // there is nothing to do
		s.letGo()
		if again, err := f.Retry(t.Context(), f.token, "me/a", "1"); err != nil || !again {
			t.Fatalf("%v, %v", again, err)
		}
		f.run()
		f.checkPublished(r)
		if again, err := f.Retry(t.Context(), f.token, "me/a", "1"); err != nil || again {
			t.Errorf("a retry of what succeeded: %v, %v", again, err)
		}
	})
}

// TestLeaseLost: a run whose flow another has taken over stops and writes no more;
// the other one's stands.
func TestLeaseLost(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		s := f.source()
		r := f.upload("a", s.URL)
		old := f.running(t.Context(), s)
		if waiting, err := f.Recover(t.Context()); err != nil || waiting != 1 {
			t.Fatalf("%d, %v", waiting, err)
		}
		other := f.running(t.Context(), s)
		s.letGo() // both could end now
		f.stopsAny(old)
		f.stopsAny(other)
		f.checkClean()
		f.checkPublished(r)
		if st := f.status(r); st.Attempt != 2 || st.Restarts != 1 {
			t.Errorf("attempt %d, %d restarts", st.Attempt, st.Restarts)
		}
		f.run() // the old run has not given the flow back
		if st := f.status(r); st.Attempt != 2 {
			t.Errorf("attempt %d", st.Attempt)
		}
	})
}

// stopsAny waits for a run beside which others go on.
func (f *fixture) stopsAny(done <-chan error) {
	f.Helper()
	select {
	case err := <-done:
		if err != nil {
			f.Error(err)
		}
	case <-time.After(time.Minute):
		f.Fatal("the run goes on")
	}
}

// TestServerStops: a run gives its flow back at once, and that does not count as an
// interruption.
func TestServerStops(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		s := f.source()
		r := f.upload("a", s.URL)
		ctx, stop := context.WithCancel(t.Context())
		done := f.running(ctx, s)
		stop()
		f.stops(done, 2*time.Second)
		if st := f.status(r); st.State != registry.Queued || st.Attempt != 2 || st.Restarts != 0 {
			t.Errorf("%s, attempt %d, %d restarts", st.State, st.Attempt, st.Restarts)
		}
		s.letGo()
		f.run()
		f.checkPublished(r)
	})
}

// TestSilentRegistry: a run that cannot tell the registry that it is alive stops, and
// its flow does not stay open for ever.
func TestSilentRegistry(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until a lease is over")
	}
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		s := f.source()
		r := f.upload("a", s.URL)
		done := f.running(t.Context(), s)
		release, held := make(chan struct{}), make(chan error, 1)
		go func() { // nobody else writes meanwhile
			held <- f.DB.Tx(sqldb.Slow(t.Context()), func(ctx context.Context, tx sqldb.Tx) error {
				if f.DB.Dialect() == sqldb.Postgres { // which ends a session that does nothing
					_, err := tx.Exec(ctx, `UPDATE dataset_revision SET attempt = attempt; SELECT pg_sleep(7.5)`)
					return err
				}
				<-release
				return nil
			})
		}()
		time.AfterFunc(7500*time.Millisecond, func() { close(release) })
		f.stops(done, time.Minute)
		if err := <-held; err != nil {
			t.Fatal(err)
		}
		if st := f.status(r); st.State != registry.Queued || st.Attempt != 2 {
			t.Fatalf("%s, attempt %d, %q", st.State, st.Attempt, st.Errors)
		}
		s.letGo()
		f.run()
		f.checkPublished(r)
	})
}

// TestFailedSource: what cannot be read fails the flow, in words for its owner, and
// the run itself is no failure.
func TestFailedSource(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		gone := f.source()
		gone.down.Store(true)
		for dataset, c := range map[string]struct{ address, want string }{
			"not-there":      {gone.URL, "404"},
			"not-public":     {"http://10.1.2.3/t.csv", "not public"},
			"not-uploaded":   {f.file("id,name\n0,gone\n"), "the file was not uploaded"},
			"not-a-number":   {f.file("id,name\nx,one\n"), `"x"`},
			"not-one-of-two": {f.file("id,name\n1,one\n1,two\n"), "primary key"},
		} {
			r := f.upload(dataset, c.address)
			if dataset == "not-uploaded" { // as when the store was lost
				if err := f.Raw.Remove(t.Context(), keyOf(c.address)); err != nil {
					t.Fatal(err)
				}
			}
			f.run()
			st := f.status(r)
			said := strings.Join(st.Errors, "\n")
			if st.State != registry.Failed || !strings.Contains(strings.ToLower(said), c.want) {
				t.Errorf("%s: %s %q, want %q", dataset, st.State, said, c.want)
			}
			if strings.Contains(said, "secret") || strings.Contains(said, f.Temp) || strings.HasPrefix(said, "Dependency unsuccessful") {
				t.Errorf("%s: %q", dataset, said)
			}
			if _, err := f.PackageFile(t.Context(), f.token, pkgstore.DescriptorPath(r.DatasetID, 1)); !errs.Is(err, errs.NotFound) {
				t.Errorf("%s has a package: %v", dataset, err)
			}
		}
		f.checkClean()
		gone.down.Store(false)
		gone.letGo()
		if again, err := f.Retry(t.Context(), f.token, "me/not-there", "1"); err != nil || !again {
			t.Fatalf("%v, %v", again, err)
		}
		f.run()
		if st := f.status(&registry.Revision{DatasetID: "me/not-there", Number: 1}); st.State != registry.Succeeded {
			t.Errorf("after the retry: %s %q", st.State, st.Errors)
		}
	})
}

// TestAnothersFile: an address that turns out to be of another owner's file only when
// it is put together is not read.
func TestAnothersFile(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		key := strings.TrimPrefix(f.file(small), rawBase+"/me/")
		body := strings.Replace(string(spec("a", "")), `"resource-mapping":{"t.csv":""},`, "", 1)
		body = strings.Replace(body, `"path":"t.csv"`, `"path":"`+key+`"`, 1)
		body = strings.Replace(body, `"kind":"datapackage"`, `"kind":"datapackage","url":"`+rawBase+`/me/datapackage.json"`, 1)
		body = strings.Replace(body, `"ownerid":"me"`, `"ownerid":"you"`, 1)
		token := testkit.Must(f.Issuer.Sign(auth.Claims{UserID: "you", Service: auth.ServiceSource, MaxDatasets: 1}, time.Now()))(t)
		r := testkit.Must(f.Upload(t.Context(), token, []byte(body), ""))(t).Revision
		f.run()
		if st := f.status(r); st.State != registry.Failed || !slices.Contains(st.Errors, "the uploaded file is another owner's") {
			t.Errorf("%s %q", st.State, st.Errors)
		}
	})
}

// TestBrokenMachine: a run that cannot be done here fails its flow and says no more
// than that, so that nobody waits for it for ever.
func TestBrokenMachine(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		r := f.upload("a", f.file(small))
		if err := os.Remove(f.Temp); err != nil {
			t.Fatal(err)
		}
		f.run()
		if st := f.status(r); st.State != registry.Failed || len(st.Errors) == 0 || st.Errors[0] != "internal error" {
			t.Errorf("%s %q", st.State, st.Errors)
		}
	})
}

// TestKept: what succeeded is kept by another attempt while its files are there.
func TestKept(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		r := f.upload("a", f.file("id,name\nx,one\n"))
		f.run()
		kept := map[string]time.Time{}
		for _, p := range f.status(r).Pipelines {
			if p.State == registry.Succeeded {
				kept[p.ID] = p.Started
			}
		}
		if len(kept) == 0 || len(kept) == 7 {
			t.Fatalf("%d pipelines succeeded", len(kept))
		}
		if again, err := f.Retry(t.Context(), f.token, "me/a", "1"); err != nil || !again {
			t.Fatalf("%v, %v", again, err)
		}
		f.run()
		st := f.status(r)
		if st.State != registry.Failed || st.Attempt != 2 {
			t.Errorf("%s, attempt %d", st.State, st.Attempt)
		}
		for _, p := range st.Pipelines {
			if began, ok := kept[p.ID]; ok && (p.State != registry.Succeeded || !p.Started.Equal(began)) {
				t.Errorf("%s was run again: %s", p.ID, p.State)
			}
		}
	})
}
