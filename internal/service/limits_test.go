package service_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/fetch"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/runner"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/testkit"
)

// restarts is how often the run of a flow was interrupted.
func (f *fixture) restarts(r *registry.Revision) (n int) {
	f.Helper()
	return f.number(`SELECT restarts FROM dataset_revision WHERE revision_id = $1`, r.ID)
}

// TestRunLimits: a run that reaches a limit has failed, for the reason that its owner
// reads, and is not run again.
func TestRunLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		limits runner.Limits
		want   string
	}{
		{"time", runner.Limits{Time: 100 * time.Millisecond}, "the run was ended: it took longer than 100ms (SPECSTORE_RUN_TIMEOUT)"},
		{"memory", runner.Limits{Memory: 1 << 20}, "the run was ended: it used more than 1 MiB of memory (SPECSTORE_RUN_MEMORY)"},
		{"disk", runner.Limits{Disk: 1}, "the run was ended: its temporary files took more than 1 bytes (SPECSTORE_RUN_DISK)"},
		{"source", runner.Limits{Source: 1000}, "the source has more than 1000 bytes (SPECSTORE_MAX_SOURCE_BYTES)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			testkit.EachDB(t, func(t *testing.T, url string) {
				t.Parallel()
				f := &fixture{T: t, Fixture: servicetest.New(t, servicetest.Options{
					Database: url, PublicURL: publicURL, Limits: c.limits, Fetch: fetch.Config{Allow: []string{"127.0.0.1"}},
				})}
				f.token = testkit.Must(f.Issuer.Sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 10}, time.Now()))(t)
				endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.WriteString(w, "id,name\n")
					for i := range 100_000 {
						fmt.Fprintf(w, "%d,a name\n", i)
					}
					<-r.Context().Done()
				}))
				t.Cleanup(endless.Close)
				r := f.upload("a", endless.URL)
				done := make(chan error, 1)
				go func() { done <- f.RunNext(t.Context()) }()
				f.stops(done, time.Minute)
				st := f.status(r)
				if st.State != registry.Failed || !slices.ContainsFunc(st.Errors, func(line string) bool { return strings.Contains(line, c.want) }) {
					t.Errorf("%s %q, want %q", st.State, st.Errors, c.want)
				}
				if n := f.restarts(r); n != 0 || st.Attempt != 1 {
					t.Errorf("%d restarts, attempt %d", n, st.Attempt)
				}
				f.run() // there is nothing to do
				if again := f.status(r); again.State != registry.Failed || again.Attempt != 1 {
					t.Errorf("then %s, attempt %d", again.State, again.Attempt)
				}
			})
		})
	}
}

// TestKiller: a flow whose process dies is run again, with what had succeeded, and five
// times at most; then it has failed, for the reason.
func TestKiller(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		want   string
	}{
		{"killed", syscall.SIGKILL, "the process of the run was killed by signal 9 (killed), perhaps because the machine ran out of memory"},
		{"crash", syscall.SIGSEGV, "the process of the run crashed: SIGSEGV: segmentation violation"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, f *fixture) {
				s := f.source()
				r := f.upload("a", s.URL)
				for i := 1; ; i++ {
					done := f.running(t.Context(), s)
					for _, pid := range testkit.AwaitProcesses(t, f.Where, 1) {
						if err := syscall.Kill(pid, c.signal); err != nil {
							t.Fatal(err)
						}
					}
					f.stops(done, time.Minute)
					st := f.status(r)
					if st.State.Ended() {
						if i != 6 {
							t.Errorf("it ended after %d runs", i)
						}
						break
					}
					if n := f.restarts(r); n != i || i > 5 {
						t.Fatalf("%d restarts after %d runs", n, i)
					}
				}
				st := f.status(r)
				if want := "The run was interrupted 6 times and was not started again: " + c.want; st.State != registry.Failed || !slices.ContainsFunc(st.Errors, func(line string) bool { return strings.HasPrefix(line, want) }) {
					t.Errorf("%s %q, want %q", st.State, st.Errors, want)
				}
				f.run() // there is nothing to do
				if len(s.reading) > 0 {
					t.Error("it was run again")
				}
			})
		})
	}
}

// TestStopped: a cancel, and the stop of the server, end a process that does not run, and
// so cannot end by itself.
func TestStopped(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		s := f.source()
		freeze := func() {
			for _, pid := range testkit.AwaitProcesses(t, f.Where, 1) {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
		}
		r := f.upload("a", s.URL)
		done := f.running(t.Context(), s)
		f.await(r, registry.Running)
		freeze()
		if state, err := f.Cancel(t.Context(), f.token, "me/a", "1"); err != nil || state != registry.Cancelled {
			t.Fatalf("%s, %v", state, err)
		}
		f.stops(done, 2*time.Second)

		r = f.upload("a", s.URL)
		ctx, stop := context.WithCancel(t.Context())
		done = f.running(ctx, s)
		f.await(r, registry.Running)
		freeze()
		stop()
		f.stops(done, 2*time.Second)
		// It was given back, and that is no interruption.
		if st, n := f.status(r), f.restarts(r); st.State.Ended() || st.Attempt != 2 || n != 0 {
			t.Errorf("%s, attempt %d, %d restarts", st.State, st.Attempt, n)
		}
		s.letGo()
		f.run()
		f.checkPublished(r)
	})
}
