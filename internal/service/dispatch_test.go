package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/dpp"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/testkit"
)

// fakeDPP does over HTTP what a datapackage-pipelines service does, without running
// anything: it pulls, queues at most four at a time, sends the hooks that a real one
// sent, runs a child when its parents have succeeded, and answers api/raw.
type fakeDPP struct {
	*testing.T
	f *fixture

	mu        sync.Mutex
	hooks     map[string][]json.RawMessage // captured, by "success" and "failure"
	pipelines map[string]*fakePipeline
	refreshes int
	posts     []map[string]json.RawMessage // to a dpp-runner
	runs      map[string]int               // how often a run was asked for

	// What it is like.
	down, mute, stuck bool // does not answer; sends no hooks; ends nothing
	noRefresh, runner bool
	forgets           bool                                      // runs
	send              func([]json.RawMessage) []json.RawMessage // which hooks, in which order
	fails, invalid    string                                    // the suffix of a pipeline
}

type fakePipeline struct {
	id, state string
	details   string // as it last saw them
	parents   []string
	hooks     []string
	ran       string // the steps of its last execution
	errors    []string
	log       string
	stats     json.RawMessage
}

// startDPP makes a service with a fake runner, on one kind of database, and keeps it at
// work.
func startDPP(t *testing.T, database string, silence time.Duration) (*fakeDPP, *lockedLog) {
	t.Helper()
	d, said := newDPP(t, database, silence)
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { d.f.DispatchEvery(ctx, 20*time.Millisecond) })
	t.Cleanup(func() {
		stop()
		done.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	return d, said
}

// newDPP makes a service with a fake runner.
func newDPP(t *testing.T, database string, silence time.Duration) (*fakeDPP, *lockedLog) {
	t.Helper()
	d := &fakeDPP{T: t, pipelines: map[string]*fakePipeline{}, hooks: map[string][]json.RawMessage{}, runs: map[string]int{}}
	for kind, file := range map[string]string{"success": "dpp171-success.json", "failure": "dpp171-failure.json"} {
		var captured struct {
			Posts []struct{ Body json.RawMessage }
		}
		if err := json.Unmarshal(testkit.Must(os.ReadFile(filepath.Join(testkit.Shared(t, "cases", "hooks"), file)))(t), &captured); err != nil {
			t.Fatal(err)
		}
		for _, p := range captured.Posts {
			d.hooks[kind] = append(d.hooks[kind], p.Body)
		}
	}
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	d.f = &fixture{T: t, Fixture: servicetest.New(t, servicetest.Options{
		Database: database, PublicURL: publicURL, Runner: registry.DPP, Silence: silence, DPP: testkit.Must(dpp.New(server.URL, dpp.Auto))(t),
	})}
	d.f.token = testkit.Must(d.f.Issuer.Sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 10}, time.Now()))(t)
	said := &lockedLog{}
	d.f.Service.Log = slog.New(slog.NewTextHandler(said, nil))
	return d, said
}

type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// set changes what the service is like.
func (d *fakeDPP) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *fakeDPP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, raw := strings.CutPrefix(r.URL.Path, "/api/raw/")
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
	switch {
	case d.down:
		panic(http.ErrAbortHandler)
	case d.runner:
		d.serveRunner(w, r)
	case r.URL.Path == "/api/refresh" && !d.noRefresh:
		d.refreshes++
		d.pull()
		answer(map[string]bool{"ok": true})
	case raw:
		p := d.pipelines[id]
		if p == nil {
			http.NotFound(w, r)
			return
		}
		answer(map[string]any{
			"id": "./" + id, "state": p.state, "dirty": p.ran != p.details, "error_log": p.errors, "reason": p.log, "stats": p.stats,
			"pipeline": map[string]any{"hooks": p.hooks},
		})
	default:
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html>the dashboard")
	}
}

// pull reads the list as the plugin does, and queues four of what may run.
func (d *fakeDPP) pull() {
	queued := 0
	if err := d.f.OpenPipelines(d.Context(), func(id string, raw json.RawMessage) error {
		var details struct {
			Hooks        []string
			Pipeline     json.RawMessage
			Dependencies []struct{ Pipeline string }
		}
		if err := json.Unmarshal(raw, &details); err != nil {
			return err
		}
		p := d.pipelines[id]
		if p == nil {
			p = &fakePipeline{id: id, state: "INIT"}
			d.pipelines[id] = p
		}
		p.details, p.hooks, p.parents = string(details.Pipeline), details.Hooks, nil
		for _, dep := range details.Dependencies {
			p.parents = append(p.parents, strings.TrimPrefix(dep.Pipeline, "./"))
		}
		switch {
		case d.invalid != "" && strings.HasSuffix(id, d.invalid):
			p.state, p.errors = "INVALID", []string{"Unresolved processor :Couldn't resolve nothing at /pipelines"}
		case p.ran == p.details || p.state == "RUNNING":
		case !d.ready(p):
			// As a real one keeps it, whatever becomes of the parents.
			p.state, p.errors = "INVALID", []string{
				`Dependency unsuccessful :Cannot run until dependency "./x" is successfully executed`,
				"Dirty dependency :Cannot run until dependency is executed: ./x", "From ./x :Dirty dependency: ./y",
			}
		case queued < 4:
			queued++
			d.execute(p)
		}
		return nil
	}); err != nil && d.Context().Err() == nil {
		d.Error(err)
	}
}

func (d *fakeDPP) ready(p *fakePipeline) bool {
	return !slices.ContainsFunc(p.parents, func(id string) bool { return d.pipelines[id] == nil || d.pipelines[id].state != "SUCCEEDED" })
}

// execute runs a pipeline, and then those that waited for it. The caller locks.
func (d *fakeDPP) execute(p *fakePipeline) {
	p.ran, p.errors = p.details, nil
	kind := "success"
	p.state = "SUCCEEDED"
	if d.fails != "" && strings.HasSuffix(p.id, d.fails) {
		kind, p.state = "failure", "FAILED"
	}
	posts := d.hooks[kind]
	if d.stuck {
		p.state = "RUNNING"
		posts = posts[:2]
	}
	for _, body := range posts {
		var b struct {
			Errors, Log []string
			Stats       json.RawMessage
		}
		if err := json.Unmarshal(body, &b); err != nil {
			d.Error(err)
		}
		if b.Errors != nil {
			p.errors = b.Errors
		}
		if b.Stats != nil {
			p.stats = b.Stats
		}
		if b.Log != nil {
			p.log = strings.Join(b.Log, "\n")
		}
	}
	if d.send != nil {
		posts = d.send(posts)
	}
	hooks := p.hooks
	if !d.mute {
		go func() {
			for _, body := range posts {
				d.hook(hooks[0], p.id, body)
			}
		}()
	}
	for _, child := range d.pipelines {
		if slices.Contains(child.parents, p.id) && child.ran != child.details && d.ready(child) && child.state != "RUNNING" && (d.invalid == "" || !strings.HasSuffix(child.id, d.invalid)) {
			d.execute(child)
		}
	}
}

// hook sends what was captured to an address that was handed out.
func (d *fakeDPP) hook(address, id string, body json.RawMessage) {
	u, err := url.Parse(address)
	attempt, bad := strconv.ParseInt(u.Query().Get("attempt"), 10, 64)
	if err = errors.Join(err, bad); err != nil || !strings.HasPrefix(address, publicURL+"/source/update?") || u.Query().Get("token") != d.f.UpdateToken(registry.FlowOf(registry.Unalias(id))) {
		d.Errorf("%s: %v", address, err)
	}
	var b struct {
		Event       string
		Success     bool
		Errors, Log []string
		Stats       json.RawMessage
	}
	if err := json.Unmarshal(body, &b); err != nil {
		d.Error(err)
	}
	if _, err := d.f.Update(context.WithoutCancel(d.Context()), registry.Event{
		Pipeline: "./" + id, Kind: registry.Kind(b.Event), Success: b.Success, Errors: b.Errors, Log: b.Log, Stats: b.Stats, Outside: attempt,
	}); err != nil && d.Context().Err() == nil {
		d.Errorf("hook: %v", err)
	}
}

// serveRunner is dpp-runner 0.0.10: nothing first, then progress, then the end.
func (d *fakeDPP) serveRunner(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	uid := r.URL.Query().Get("uid")
	if r.Method == http.MethodPost {
		spec := map[string]json.RawMessage{}
		if err := json.NewDecoder(r.Body).Decode(&spec); err != nil {
			d.Error(err)
		}
		d.posts = append(d.posts, spec)
		fmt.Fprintf(w, `{"uid": "%032d"}`, len(d.posts))
		return
	}
	n, _ := strconv.Atoi(uid)
	if n == 0 || n > len(d.posts) || d.forgets {
		io.WriteString(w, `{"progress": null, "results": null}`)
		return
	}
	d.runs[uid]++
	progress, results := map[string]any{}, []any{}
	failed := []string{"boom", "Traceback (most recent call last):", "ValueError: deliberate failure"}
	for id, raw := range d.posts[n-1] {
		var details struct{ Dependencies []struct{ Pipeline string } }
		if err := json.Unmarshal(raw, &details); err != nil || bytes.Contains(raw, []byte(`"hooks"`)) {
			d.Errorf("%s: %s, %v", id, raw, err)
		}
		bad := d.fails != "" && strings.HasSuffix(id, d.fails)
		under := d.fails != "" && slices.ContainsFunc(details.Dependencies, func(p struct{ Pipeline string }) bool { return strings.HasSuffix(p.Pipeline, d.fails) })
		switch {
		case under:
			results = append(results, map[string]any{"pipeline_id": "./" + id, "success": false, "stats": map[string]any{}, "errors": []string{"init", "Dependency unsuccessful: Cannot run until dependency \"./x\" is successfully executed"}})
		case bad:
			progress["./"+id] = map[string]any{"done": true, "success": false, "rows": 0, "errors": failed, "stats": nil}
			results = append(results, map[string]any{"pipeline_id": "./" + id, "success": false, "stats": nil, "errors": failed})
		default:
			progress["./"+id] = map[string]any{"done": d.runs[uid] > 3, "success": nil, "rows": d.runs[uid] * 100, "errors": nil, "stats": map[string]any{}}
			if d.runs[uid] > 3 {
				progress["./"+id].(map[string]any)["success"] = true
			}
			results = append(results, map[string]any{"pipeline_id": "./" + id, "success": true, "stats": map[string]any{"count_of_rows": 2}, "errors": nil})
		}
	}
	switch {
	case d.runs[uid] == 1 || d.stuck:
		io.WriteString(w, `{"progress": {}, "results": {}}`)
	case d.runs[uid] < 6:
		json.NewEncoder(w).Encode(map[string]any{"progress": progress, "results": map[string]any{}})
	default:
		json.NewEncoder(w).Encode(map[string]any{"progress": progress, "results": results})
	}
}

func (d *fakeDPP) upload(name string) *registry.Revision {
	d.Helper()
	return d.f.upload(name, "https://example.org/t.csv")
}

// await waits for the end of a flow.
func (d *fakeDPP) await(r *registry.Revision) *registry.Revision {
	d.Helper()
	for range 2000 {
		if now := d.f.status(r); now.State.Ended() {
			return now
		}
		time.Sleep(10 * time.Millisecond)
	}
	now := d.f.status(r)
	for _, p := range now.Pipelines {
		d.Logf("%s %s", p.ID, p.State)
	}
	d.Fatalf("%s does not end", r.ID)
	return nil
}

func pipelineOf(r *registry.Revision, name string) registry.Pipeline {
	for _, p := range r.Pipelines {
		if strings.HasSuffix(p.ID, name) {
			return p
		}
	}
	return registry.Pipeline{}
}

func eachDPP(t *testing.T, silence time.Duration, test func(t *testing.T, d *fakeDPP, said *lockedLog)) {
	t.Helper()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		d, said := startDPP(t, url, silence)
		test(t, d, said)
	})
}

// TestDispatch: whatever becomes of its hooks, a flow ends as the service ended it.
func TestDispatch(t *testing.T) {
	t.Parallel()
	reversed := func(list []json.RawMessage) []json.RawMessage {
		list = slices.Clone(list)
		slices.Reverse(list)
		return list
	}
	for name, prepare := range map[string]func(*fakeDPP){
		"as they come": func(*fakeDPP) {},
		"twice":        func(d *fakeDPP) { d.send = func(l []json.RawMessage) []json.RawMessage { return slices.Repeat(l, 2) } },
		"turned round": func(d *fakeDPP) { d.send = reversed },
		"only some":    func(d *fakeDPP) { d.send = func(l []json.RawMessage) []json.RawMessage { return l[:1] } },
		"none":         func(d *fakeDPP) { d.mute = true },
		"turned round twice": func(d *fakeDPP) {
			d.send = func(l []json.RawMessage) []json.RawMessage { return slices.Repeat(reversed(l), 2) }
		},
	} {
		for _, fails := range []string{"", "/t_csv"} {
			t.Run(name+fails, func(t *testing.T) {
				t.Parallel()
				eachDPP(t, 0, func(t *testing.T, d *fakeDPP, _ *lockedLog) {
					d.set(func() { prepare(d); d.fails = fails })
					r := d.await(d.upload("a"))
					want := registry.Succeeded
					if fails != "" {
						want = registry.Failed
						if p := pipelineOf(r, fails); p.State != registry.Failed || !slices.Contains(p.Errors, "ValueError: deliberate failure") {
							t.Errorf("%s: %s %q", p.ID, p.State, p.Errors)
						}
						if p := pipelineOf(r, "/t_csv_preview"); p.State != registry.Failed || !strings.HasPrefix(p.Errors[0], "Dependency unsuccessful") {
							t.Errorf("%s: %s %q", p.ID, p.State, p.Errors)
						}
					}
					if p := pipelineOf(r, "/t_json"); p.State != registry.Succeeded || !strings.Contains(string(p.Stats), `"count_of_rows"`) {
						t.Errorf("%s: %s %s", p.ID, p.State, p.Stats)
					}
					if r.State != want {
						t.Errorf("%s: %q", r.State, r.Errors)
					}
				})
			})
		}
	}
}

// TestRefreshes: at most four pipelines begin for each refresh, so there are more; not
// one for each hook, though, and none when nothing is open.
func TestRefreshes(t *testing.T) {
	t.Parallel()
	eachDPP(t, 0, func(t *testing.T, d *fakeDPP, _ *lockedLog) {
		d.set(func() { d.stuck = true })
		for _, name := range []string{"a", "b", "c"} {
			d.upload(name) // four of each wait for nothing
		}
		running := func() (n int) {
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, p := range d.pipelines {
				if p.state == "RUNNING" {
					n++
				}
			}
			return n
		}
		for range 1000 {
			if running() == 12 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := running(); n != 12 {
			t.Fatalf("%d run", n)
		}
		time.Sleep(200 * time.Millisecond)
		d.mu.Lock()
		before := d.refreshes
		d.mu.Unlock()
		time.Sleep(200 * time.Millisecond)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.refreshes != before || before < 3 {
			t.Errorf("%d refreshes, then %d", before, d.refreshes)
		}
	})
}

// TestInvalid: what the service cannot run sends no hook, and fails with its reason.
func TestInvalid(t *testing.T) {
	t.Parallel()
	eachDPP(t, 0, func(t *testing.T, d *fakeDPP, _ *lockedLog) {
		d.set(func() { d.invalid = "/t_json" })
		r := d.await(d.upload("a"))
		if p := pipelineOf(r, "/t_json"); p.State != registry.Failed || !slices.Equal(p.Errors, []string{"Unresolved processor :Couldn't resolve nothing at /pipelines"}) {
			t.Errorf("%s %q", p.State, p.Errors)
		}
		if p := pipelineOf(r, "/t_csv_preview"); p.State != registry.Succeeded {
			t.Errorf("%s %q", p.State, p.Errors)
		}
	})
}

// TestServiceDies: a service that is gone in mid-run fails the flow after the time that
// was set, a retry is refused while it is away, and then makes an attempt of its own,
// which news of the first one does not reach.
func TestServiceDies(t *testing.T) {
	t.Parallel()
	eachDPP(t, 300*time.Millisecond, func(t *testing.T, d *fakeDPP, said *lockedLog) {
		d.set(func() { d.stuck = true })
		r := d.upload("a")
		for range 500 {
			if d.f.status(r).State == registry.Running {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		details := map[string]string{}
		if err := d.f.OpenPipelines(t.Context(), func(id string, raw json.RawMessage) error { details[id] = string(raw); return nil }); err != nil {
			t.Fatal(err)
		}
		d.set(func() { d.down = true })
		r = d.await(r)
		if want := "The pipelines service has given no sign of this pipeline for 300ms: it cannot be reached"; r.State != registry.Failed || r.Errors[0] != want {
			t.Errorf("%s %q", r.State, r.Errors)
		}
		if n := strings.Count(said.String(), "the pipelines service was not told"); n != 1 {
			t.Errorf("it was said %d times", n)
		}
		if _, err := d.f.Retry(t.Context(), d.f.token, "me/a", "1"); !errs.Is(err, errs.Unavailable) {
			t.Errorf("retry while it is away: %v", err)
		}
		if st := d.f.status(r); st.Attempt != 1 || st.State != registry.Failed {
			t.Errorf("%s, attempt %d", st.State, st.Attempt)
		}
		// Back, it takes what ran for running still.
		d.set(func() { d.down, d.stuck, d.mute = false, false, true })
		if done, err := d.f.Retry(t.Context(), d.f.token, "me/a", "1"); err != nil || !done {
			t.Fatalf("retry: %v %v", done, err)
		}
		for id, raw := range details { // late news of the first attempt
			var hooks struct{ Hooks []string }
			if err := json.Unmarshal([]byte(raw), &hooks); err != nil {
				t.Fatal(err)
			}
			d.hook(hooks.Hooks[0], id, json.RawMessage(`{"event":"finish","success":false,"errors":["late"]}`))
		}
		if r = d.await(r); r.State != registry.Succeeded || r.Attempt != 2 {
			t.Errorf("%s %q in attempt %d", r.State, r.Errors, r.Attempt)
		}
		if done, err := d.f.Retry(t.Context(), d.f.token, "me/a", "1"); err != nil || done {
			t.Errorf("retry of one that succeeded: %v %v", done, err)
		}
	})
}

// TestRetryRunsAll: a new attempt has IDs of its own, since the service remembers what it
// ran by ID, and may take for days what died with it for running.
func TestRetryRunsAll(t *testing.T) {
	t.Parallel()
	eachDPP(t, 0, func(t *testing.T, d *fakeDPP, _ *lockedLog) {
		d.set(func() { d.fails = "/t_csv" })
		d.await(d.upload("a"))
		d.set(func() { d.fails = "" })
		for attempt := int64(2); attempt < 4; attempt++ {
			d.set(func() {
				d.fails = ""
				if attempt == 2 {
					d.fails = "/t_csv~2"
				}
			})
			if _, err := d.f.Retry(t.Context(), d.f.token, "me/a", "1"); err != nil {
				t.Fatal(err)
			}
			r := d.await(testkit.Must(d.f.Registry.Flow(t.Context(), "me/a/1", registry.Whole))(t))
			if (r.State == registry.Succeeded) != (attempt == 3) || r.Attempt != attempt {
				t.Errorf("%s %q in attempt %d", r.State, r.Errors, r.Attempt)
			}
			d.set(func() {
				n := 0
				for id, p := range d.pipelines {
					suffix := fmt.Sprintf("~%d", attempt)
					if !strings.HasSuffix(id, suffix) {
						continue
					}
					n++
					for _, parent := range p.parents {
						if !strings.HasSuffix(parent, suffix) || !strings.Contains(p.details, `"./`+parent+`"`) && !strings.Contains(p.details, `"dependency://./`+parent+`"`) {
							t.Errorf("%s waits for %s: %s", id, parent, p.details)
						}
					}
				}
				if n != len(r.Pipelines) {
					t.Errorf("%d pipelines in attempt %d", n, attempt)
				}
			})
		}
	})
}

// TestNoRefresh: a version that has no refresh is said so of once, and works.
func TestNoRefresh(t *testing.T) {
	t.Parallel()
	eachDPP(t, 0, func(t *testing.T, d *fakeDPP, said *lockedLog) {
		d.set(func() { d.noRefresh = true })
		for _, name := range []string{"a", "b"} {
			r := d.upload(name)
			for range 1000 { // the service's own minute
				if d.f.status(r).State.Ended() {
					break
				}
				d.set(d.pull)
				time.Sleep(10 * time.Millisecond)
			}
			if r = d.await(r); r.State != registry.Succeeded {
				t.Errorf("%s %q", r.State, r.Errors)
			}
		}
		if n := strings.Count(said.String(), "has no refresh"); n != 1 {
			t.Errorf("it was said %d times", n)
		}
	})
}

// TestRunnerStyle: a dpp-runner is handed a flow and asked for it.
func TestRunnerStyle(t *testing.T) {
	t.Parallel()
	eachDPP(t, time.Second, func(t *testing.T, d *fakeDPP, _ *lockedLog) {
		d.set(func() { d.runner = true })
		r := d.await(d.upload("a"))
		if p := pipelineOf(r, "/t_csv"); r.State != registry.Succeeded || p.Started.IsZero() {
			t.Errorf("%s %q", r.State, r.Errors)
		}
		d.set(func() {
			if len(d.posts) != 1 || len(d.posts[0]) != len(r.Pipelines) {
				t.Errorf("%d posts", len(d.posts))
			}
			d.fails = "/t_csv"
		})
		r = d.await(d.upload("a"))
		if p := pipelineOf(r, "/t_csv"); r.State != registry.Failed || p.Errors[0] != "boom" || pipelineOf(r, "/t_json").State != registry.Succeeded {
			t.Errorf("%s %q", r.State, r.Errors)
		}
		// It keeps runs in memory alone.
		d.set(func() { d.fails, d.forgets = "", true })
		if r = d.await(d.upload("a")); r.State != registry.Failed || !strings.Contains(r.Errors[0], "has lost the run") {
			t.Errorf("%s %q", r.State, r.Errors)
		}
		// And says nothing for ever of what it cannot read.
		d.set(func() { d.forgets, d.stuck = false, true })
		if r = d.await(d.upload("a")); r.State != registry.Failed || !strings.Contains(r.Errors[0], "no sign of this pipeline for 1s") {
			t.Errorf("%s %q", r.State, r.Errors)
		}
		d.set(func() { d.stuck = false })
		if _, err := d.f.Retry(t.Context(), d.f.token, "me/a", "4"); err != nil {
			t.Fatal(err)
		}
		if r = d.await(r); r.State != registry.Succeeded || r.Attempt != 2 {
			t.Errorf("%s %q", r.State, r.Errors)
		}
		if n := d.f.rows("setting WHERE name LIKE 'dpp-run %'"); n != 0 {
			time.Sleep(200 * time.Millisecond)
			if n = d.f.rows("setting WHERE name LIKE 'dpp-run %'"); n != 0 {
				t.Errorf("%d notes are left", n)
			}
		}
	})
}

// TestTwoProcesses: each tells and asks for itself, and a flow is handed over once.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		d, _ := startDPP(t, url, 0)
		parts := d.f.Parts
		parts.Holder = "another"
		other := service.New(parts)
		var done sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		done.Go(func() { other.DispatchEvery(ctx, 20*time.Millisecond) })
		t.Cleanup(func() { stop(); done.Wait() })
		if r := d.await(d.upload("a")); r.State != registry.Succeeded {
			t.Errorf("%s %q", r.State, r.Errors)
		}
		d.set(func() { d.runner = true })
		time.Sleep(100 * time.Millisecond) // no flow is open: the style is found out anew
		for range 5 {
			if r := d.await(d.upload("b")); r.State != registry.Succeeded {
				t.Errorf("%s %q", r.State, r.Errors)
			}
		}
		d.set(func() {
			if len(d.posts) != 5 {
				t.Errorf("%d flows were handed over", len(d.posts))
			}
		})
	})
}

// TestLostHooks: once the service has been found to have ended a pipeline of which no hook
// told, what becomes ready after it is asked for at once, down to the end of the plan. A
// look reads the flows alone that there is news of.
func TestLostHooks(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		d, said := newDPP(t, url, 0)
		d.set(func() { d.mute = true })
		l := d.f.NewLooker(time.Millisecond)
		r := d.upload("a")
		other := d.upload("b")
		for range 50 { // until the service is found to have ended one
			l.Look(t.Context(), true)
			time.Sleep(5 * time.Millisecond)
			if p := d.f.status(r).Pipelines; slices.ContainsFunc(p, func(p registry.Pipeline) bool { return p.State.Ended() }) {
				break
			}
		}
		for range 2000 {
			if d.f.status(r).State.Ended() && d.f.status(other).State.Ended() {
				break
			}
			l.Look(t.Context(), false)
			time.Sleep(5 * time.Millisecond)
		}
		if got := d.f.status(r).State; got != registry.Succeeded {
			t.Errorf("without another poll the flow is %s\n%s", got, said)
		}
		l.Look(t.Context(), false)
		if n := l.Flows(); n != 0 {
			t.Errorf("%d flows are watched that have ended", n)
		}
	})
}

// TestLooksReadNews: a look that is no poll reads no flow but those of which there is news.
func TestLooksReadNews(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		d, _ := newDPP(t, url, 0)
		d.set(func() { d.stuck = true })
		l := d.f.NewLooker(time.Hour)
		a := d.upload("a")
		l.Look(t.Context(), false)
		if n := l.Flows(); n != 1 {
			t.Fatalf("%d flows are watched, want the one that was uploaded", n)
		}
		// Another process accepts one.
		d.f.DropNews(func() { d.upload("b") })
		l.Look(t.Context(), false)
		if n := l.Flows(); n != 1 {
			t.Errorf("%d flows are watched: a look without news has read them all", n)
		}
		l.Look(t.Context(), true)
		if n := l.Flows(); n != 2 {
			t.Errorf("%d flows are watched after a poll, want both", n)
		}
		if _, err := d.f.Update(t.Context(), registry.Event{Pipeline: a.ID, Kind: registry.KindFinish, Errors: []string{"x"}}); err != nil {
			t.Fatal(err)
		}
		l.Look(t.Context(), false)
		if n := l.Flows(); n != 2 {
			t.Errorf("%d flows are watched", n)
		}
	})
}
