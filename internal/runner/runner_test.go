package runner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/fetch"
	"github.com/datahq/specstore/internal/runner"
	"github.com/datahq/specstore/internal/testkit"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == runner.Command {
		os.Exit(runner.Child(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// fixture is a pool with stores of its own, and a source.
type fixture struct {
	*testing.T
	pool   *runner.Pool
	dir    string // the working folder of children
	source *httptest.Server
	begun  chan struct{} // receives when the source is read to where it stops
	goOn   func()
}

func start(t *testing.T, limits runner.Limits) *fixture {
	t.Helper()
	f := &fixture{T: t, dir: t.TempDir(), begun: make(chan struct{}, 100)}
	rest := make(chan struct{})
	f.goOn = sync.OnceFunc(func() { close(rest) })
	f.source = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "id,name\n"+strings.Repeat("1,one\n", 10_000))
		http.NewResponseController(w).Flush()
		f.begun <- struct{}{}
		select {
		case <-rest:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(f.source.Close)
	t.Cleanup(f.goOn)
	f.pool = runner.NewPool(runner.Config{
		Places: runner.Places{
			RawStore: runner.FolderURL(t.TempDir()), Packages: runner.FolderURL(t.TempDir()),
			RawBases: []string{"https://specstore.example/rawstore/o"}, Fetch: fetch.Config{Allow: []string{"127.0.0.1"}}, Mark: "test",
		},
		Limits: limits, Temp: f.dir,
	})
	t.Cleanup(f.pool.Close)
	return f
}

// job is a flow of a table at an address.
func (f *fixture) job(address string) *runner.Job {
	f.Helper()
	return &runner.Job{
		FlowID: "me/d/1", OwnerID: "me", InternalID: "D", Number: 1, Temp: f.TempDir(), Created: time.Unix(0, 0), DatasetCreated: time.Unix(0, 0),
		Spec: fmt.Appendf(nil, `{"meta":{"ownerid":"me","dataset":"d","findability":"published"},"inputs":[{"kind":"datapackage","parameters":{
			"resource-mapping":{"t.csv":%q},"descriptor":{"resources":[{"name":"t","path":"t.csv","schema":{"fields":[
			{"name":"id","type":"integer"},{"name":"name","type":"string"}]}}]}}}]}`, address),
	}
}

// news is what a run reported.
type news struct{ events []runner.Event }

func (n *news) hooks() runner.Hooks {
	return runner.Hooks{Report: func(_ context.Context, events []runner.Event) error {
		n.events = append(n.events, events...)
		return nil
	}}
}

type ended struct {
	success bool
	err     error
}

// begin starts a run and waits until it reads its source.
func (f *fixture) begin(ctx context.Context, h runner.Hooks) <-chan ended {
	f.Helper()
	done := make(chan ended, 1)
	job := f.job(f.source.URL)
	go func() {
		success, err := f.pool.Run(ctx, job, h)
		done <- ended{success, err}
	}()
	select {
	case <-f.begun:
	case e := <-done:
		f.Fatalf("the run ended: %v", e)
	case <-time.After(time.Minute):
		f.Fatal("the source is not read")
	}
	return done
}

func (f *fixture) await(done <-chan ended) ended {
	f.Helper()
	select {
	case e := <-done:
		return e
	case <-time.After(time.Minute):
		f.Fatal("the run goes on")
		return ended{}
	}
}

// child is the process of the run that goes on.
func (f *fixture) child() int {
	f.Helper()
	return testkit.AwaitProcesses(f, f.dir, 1)[0]
}

// TestRun: events come in order and whole, and a child runs one flow after the other.
func TestRun(t *testing.T) {
	t.Parallel()
	f := start(t, runner.Limits{})
	f.goOn()
	first := 0
	for i := range 3 {
		n := &news{}
		if success, err := f.pool.Run(t.Context(), f.job(f.source.URL), n.hooks()); err != nil || !success {
			t.Fatalf("%v, %v", success, err)
		}
		state := map[string]string{}
		for _, e := range n.events {
			if e.Kind == engine.Finish && (state[e.Pipeline] != engine.Start || !e.Success || len(e.Stats) == 0 || len(e.Outputs) == 0) {
				t.Errorf("%s ended after %q: %+v", e.Pipeline, state[e.Pipeline], e)
			}
			state[e.Pipeline] = e.Kind
		}
		last := n.events[len(n.events)-1]
		if len(state) != 7 || last.Pipeline != "me/d/1" || last.Kind != engine.Finish {
			t.Errorf("%d pipelines, the last event is %+v", len(state), last)
		}
		if pid := f.child(); i == 0 {
			first = pid
		} else if pid != first {
			t.Errorf("run %d was in process %d, not %d", i, pid, first)
		}
	}
}

// TestReuse: a child goes on from what an earlier run published.
func TestReuse(t *testing.T) {
	t.Parallel()
	f := start(t, runner.Limits{})
	f.goOn()
	n := &news{}
	if success, err := f.pool.Run(t.Context(), f.job(f.source.URL), n.hooks()); err != nil || !success {
		t.Fatalf("%v, %v", success, err)
	}
	earlier, done := f.job(f.source.URL), f.job(f.source.URL)
	earlier.FlowID, earlier.Number, earlier.Earlier = "me/d/2", 2, map[string][]runner.Earlier{}
	done.Done = map[string]json.RawMessage{"me/d/1/broken": json.RawMessage(`"of another version"`)}
	for _, e := range n.events {
		if e.Kind == engine.Finish && e.Pipeline != "me/d/1" {
			earlier.Earlier[strings.TrimPrefix(e.Pipeline, "me/d/1/")] = []runner.Earlier{{FlowID: "me/d/1", Result: e.Outputs}}
			done.Done[e.Pipeline] = e.Outputs
		}
	}
	again := &news{}
	if success, err := f.pool.Run(t.Context(), earlier, again.hooks()); err != nil || !success {
		t.Fatalf("%v, %v", success, err)
	}
	reused := 0
	for _, e := range again.events {
		if e.Reused == "me/d/1" {
			reused++
		}
	}
	if reused != 6 {
		t.Errorf("%d pipelines were reused, want 6", reused)
	}
	rest := &news{}
	if success, err := f.pool.Run(t.Context(), done, rest.hooks()); err != nil || !success || len(rest.events) != 2 || rest.events[0].Pipeline != "me/d/1" {
		t.Errorf("after an attempt that made all but the package: %v, %v, %+v", success, err, rest.events)
	}
}

// TestWorld: a child has no secret in its environment, no file of its parent's, and is the
// first to go when the machine runs out of memory.
func TestWorld(t *testing.T) {
	// Not parallel, for the environment.
	secrets := []string{"DATABASE_URL", "SPECSTORE_UPDATE_TOKEN", "SPECSTORE_TOKEN", "AWS_SECRET_ACCESS_KEY", "HOME", "ANYTHING_ELSE"}
	for _, name := range secrets {
		t.Setenv(name, "a secret of "+name)
	}
	t.Setenv("TZ", "UTC")
	inherited, err := os.Create(filepath.Join(t.TempDir(), "inherited"))
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	// As one that whoever started the parent had open.
	fd, err := syscall.Dup(int(inherited.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	f := start(t, runner.Limits{})
	done := f.begin(t.Context(), (&news{}).hooks())
	proc := fmt.Sprintf("/proc/%d/", f.child())
	environ, err := os.ReadFile(proc + "environ")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for entry := range strings.SplitSeq(strings.TrimRight(string(environ), "\x00"), "\x00") {
		name, _, _ := strings.Cut(entry, "=")
		names = append(names, name)
	}
	if bytes.Contains(environ, []byte("a secret")) || !slices.Contains(names, "TZ") || !slices.Contains(names, "TMPDIR") {
		t.Errorf("the environment has %q", names)
	}
	if score, err := os.ReadFile(proc + "oom_score_adj"); err != nil || strings.TrimSpace(string(score)) != "1000" {
		t.Errorf("oom_score_adj %q, %v", score, err)
	}
	links, err := filepath.Glob(proc + "fd/*")
	if err != nil || len(links) < 3 {
		t.Fatalf("%v, %v", links, err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == inherited.Name() {
			t.Errorf("%s is open", to)
		}
	}
	if cmdline, err := os.ReadFile(proc + "cmdline"); err != nil || !strings.HasSuffix(string(cmdline), "\x00"+runner.Command+"\x00") {
		t.Errorf("its arguments are %q, %v", cmdline, err)
	}
	f.goOn()
	if e := f.await(done); e.err != nil || !e.success {
		t.Errorf("%+v", e)
	}
}

// TestEnd: whatever ends a run says why, and leaves no child that would run another flow.
func TestEnd(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	for _, c := range []struct {
		name   string
		limits runner.Limits
		end    func(pid int, cancel context.CancelCauseFunc)
		report error
		is     error
		detail string
	}{
		{name: "time", limits: runner.Limits{Time: 50 * time.Millisecond}, is: runner.ErrLimit, detail: "it took longer than 50ms"},
		{name: "memory", limits: runner.Limits{Memory: 4 << 20}, is: runner.ErrLimit, detail: "it used more than 4 MiB of memory"},
		{name: "disk", limits: runner.Limits{Disk: 10_000}, is: runner.ErrLimit, detail: "its temporary files took more than 10000 bytes"},
		{name: "killed", end: signal(syscall.SIGKILL), is: runner.ErrDied, detail: "was killed by signal 9"},
		{name: "aborted", end: signal(syscall.SIGABRT), is: runner.ErrDied, detail: "crashed: SIGABRT: abort"},
		{name: "bus", end: signal(syscall.SIGBUS), is: runner.ErrDied, detail: "crashed: SIGBUS: bus error"},
		{name: "cancelled", end: func(_ int, cancel context.CancelCauseFunc) { cancel(refused) }, is: refused},
		{name: "cancelled while it stands still", end: func(pid int, cancel context.CancelCauseFunc) {
			_ = syscall.Kill(pid, syscall.SIGSTOP)
			cancel(refused)
		}, is: refused},
		{name: "time while it stands still", limits: runner.Limits{Time: time.Second}, end: signal(syscall.SIGSTOP), is: runner.ErrLimit, detail: "it took longer than 1s"},
		{name: "a report is refused", report: refused, is: refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, c.limits)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			done := make(chan ended, 1)
			job := f.job(f.source.URL)
			go func() {
				success, err := f.pool.Run(ctx, job, runner.Hooks{Report: func(context.Context, []runner.Event) error { return c.report }})
				done <- ended{success, err}
			}()
			if c.end != nil {
				<-f.begun
				c.end(f.child(), cancel)
			}
			e := f.await(done)
			if e.success || !errors.Is(e.err, c.is) || !strings.Contains(errs.Detail(e.err), c.detail) {
				t.Errorf("%v with the detail %q, want %v, %q", e.err, errs.Detail(e.err), c.is, c.detail)
			}
			// The next child has not run anything.
			for _, pid := range testkit.AwaitProcesses(t, f.dir, 1) {
				if c.end != nil {
					c.end(pid, func(error) {})
				}
			}
		})
	}
}

func signal(s syscall.Signal) func(int, context.CancelCauseFunc) {
	return func(pid int, _ context.CancelCauseFunc) { _ = syscall.Kill(pid, s) }
}

// TestIdleDeath: a child that was killed while it waited costs no run.
func TestIdleDeath(t *testing.T) {
	t.Parallel()
	f := start(t, runner.Limits{})
	f.goOn()
	f.pool.Warm()
	for range 2 {
		if err := syscall.Kill(f.child(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if success, err := f.pool.Run(t.Context(), f.job(f.source.URL), (&news{}).hooks()); err != nil || !success {
			t.Errorf("%v, %v", success, err)
		}
	}
}

// TestSignals: what asks the parent to stop, and reaches its children as well, is the
// parent's to act on.
func TestSignals(t *testing.T) {
	t.Parallel()
	f := start(t, runner.Limits{})
	done := f.begin(t.Context(), (&news{}).hooks())
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if err := syscall.Kill(f.child(), s); err != nil {
			t.Fatal(err)
		}
	}
	f.goOn()
	if e := f.await(done); e.err != nil || !e.success {
		t.Errorf("%+v", e)
	}
}

// TestSource: a source that is too long fails what is made of it, and not the run.
func TestSource(t *testing.T) {
	t.Parallel()
	f := start(t, runner.Limits{Source: 20_000})
	f.goOn()
	n := &news{}
	success, err := f.pool.Run(t.Context(), f.job(f.source.URL), n.hooks())
	const want = "the source has more than 20000 bytes (SPECSTORE_MAX_SOURCE_BYTES)"
	if err != nil || success || !slices.ContainsFunc(n.events, func(e runner.Event) bool { return strings.Contains(strings.Join(e.Errors, "\n"), want) }) {
		t.Errorf("%v, %v, %+v", success, err, n.events)
	}
}

// TestJob: a job that cannot be run says why, whatever is wrong with it.
func TestJob(t *testing.T) {
	t.Parallel()
	f := start(t, runner.Limits{})
	f.goOn()
	for _, c := range []struct {
		name, want string
		change     func(j *runner.Job)
	}{
		{"no spec", "JSON", func(j *runner.Job) { j.Spec = json.RawMessage(`[]`) }},
		{"wrong spec", "/inputs", func(j *runner.Job) { j.Spec = json.RawMessage(`{"meta":{"ownerid":"me","dataset":"d"}}`) }},
		{"a file of the machine", "sources are read over http and https only", func(j *runner.Job) {
			j.Spec = bytes.ReplaceAll(j.Spec, []byte(f.source.URL), []byte("/etc/passwd"))
		}},
		{"a file of another owner", "the uploaded file is another owner's", func(j *runner.Job) {
			j.Spec = bytes.ReplaceAll(j.Spec, []byte(f.source.URL), []byte("https://specstore.example/rawstore/o/you/"+strings.Repeat("0", 32)+"-1"))
		}},
	} {
		j := f.job(f.source.URL)
		c.change(j)
		n := &news{}
		success, err := f.pool.Run(t.Context(), j, n.hooks())
		said := errs.Detail(err)
		for _, e := range n.events {
			said += strings.Join(e.Errors, "\n")
		}
		if success || !strings.Contains(said, c.want) {
			t.Errorf("%s: %v, %q; want %q", c.name, success, said, c.want)
		}
	}
}
