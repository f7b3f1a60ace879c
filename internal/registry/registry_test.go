package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type fixture struct {
	*registry.Store
	t   *testing.T
	db  *sqldb.DB
	url string
}

// each runs a test on a new registry in each kind of database.
func each(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		test(t, open(t, url))
	})
}

func open(t *testing.T, url string) *fixture {
	t.Helper()
	f := &fixture{t: t, url: url}
	f.start()
	t.Cleanup(func() { _ = f.db.Close() })
	return f
}

func (f *fixture) start() {
	f.t.Helper()
	var err error
	if f.db, err = sqldb.Open(f.t.Context(), sqldb.Config{URL: f.url}); err != nil {
		f.t.Fatal(err)
	}
	if f.Store, err = registry.Open(f.t.Context(), f.db, registry.Options{}); err != nil {
		f.t.Fatal(err)
	}
}

// again is a restart of the service.
func (f *fixture) again() {
	f.t.Helper()
	if err := f.db.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.start()
}

// diamond is a plan of a, b and c that need a, d that needs b, and the last one,
// which needs all.
func diamond(flow string) []registry.PlannedPipeline {
	return []registry.PlannedPipeline{
		{ID: "./" + flow + "/a", Title: "A"},
		{ID: flow + "/b", Title: "B", Dependencies: []string{"./" + flow + "/a"}},
		{ID: flow + "/c", Title: "C", Dependencies: []string{"./" + flow + "/a"}},
		{ID: flow + "/d", Title: "D", Dependencies: []string{flow + "/b"}},
		{ID: flow, Title: "Creating Package", Dependencies: []string{flow + "/a", flow + "/b", flow + "/c", flow + "/d"}},
	}
}

func push(dataset string, runner registry.Runner) registry.New {
	owner, name, _ := strings.Cut(dataset, "/")
	return registry.New{
		OwnerID: owner, Owner: "name-of-" + owner, Dataset: name, Spec: json.RawMessage(`{"meta":{}}`), Runner: runner, MaxDatasets: -1,
		Plan: func(n int64, _ time.Time, _ bool) ([]registry.PlannedPipeline, error) {
			return diamond(fmt.Sprintf("%s/%d", dataset, n)), nil
		},
	}
}

// outputs gives what the pipelines of a flow that have succeeded recorded.
func (f *fixture) outputs(id string) map[string]json.RawMessage {
	f.t.Helper()
	recorded := map[string]json.RawMessage{}
	for _, p := range f.flow(id).Pipelines {
		if p.State == registry.Succeeded {
			recorded[p.ID] = p.Outputs
		}
	}
	return recorded
}

func (f *fixture) push(dataset string, runner registry.Runner) *registry.Revision {
	f.t.Helper()
	r, err := f.CreateRevision(f.t.Context(), push(dataset, runner))
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fixture) apply(ev registry.Event) registry.Applied {
	f.t.Helper()
	a, err := f.Apply(f.t.Context(), ev)
	if err != nil {
		f.t.Fatalf("%+v: %v", ev, err)
	}
	return a
}

func (f *fixture) flow(id string) *registry.Revision {
	f.t.Helper()
	r, err := f.Flow(f.t.Context(), id, registry.Whole)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fixture) claim() *registry.Claim {
	f.t.Helper()
	c, err := f.Claim(f.t.Context(), "holder")
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func (f *fixture) recover() int {
	f.t.Helper()
	tickets := 0
	n, err := f.Recover(f.t.Context(), func(context.Context, sqldb.Tx) error { tickets++; return nil })
	if err != nil {
		f.t.Fatal(err)
	}
	if n != tickets {
		f.t.Fatalf("%d flows wait and %d tickets were added", n, tickets)
	}
	return n
}

func states(r *registry.Revision) string {
	var b strings.Builder
	for _, p := range r.Pipelines {
		b.WriteString(p.State.Stored()[:1])
	}
	return b.String()
}

func (f *fixture) want(id string, state registry.State, pipelines string) *registry.Revision {
	f.t.Helper()
	r := f.flow(id)
	if r.State != state || states(r) != pipelines {
		f.t.Fatalf("%s is %s with %s, not %s with %s", id, r.State, states(r), state, pipelines)
	}
	return r
}

func (f *fixture) count(table string) (n int) {
	f.t.Helper()
	if err := f.db.Read(f.t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT COUNT(*) FROM `+table).Scan(&n)
	}); err != nil {
		f.t.Fatal(err)
	}
	return n
}

func TestCreate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		n := push("me/data", registry.External)
		n.CreatedAt = time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)
		n.Findability = "published"
		jobs := 0
		n.Enqueue = func(context.Context, sqldb.Tx) error { jobs++; return nil }
		plan := n.Plan
		n.Plan = func(number int64, created time.Time, isNew bool) ([]registry.PlannedPipeline, error) {
			if number != 1 || !isNew || created.Format(time.RFC3339Nano) != "2026-01-02T03:04:05.123456Z" {
				t.Errorf("plan of %d, %v, %v", number, created, isNew)
			}
			return plan(number, created, isNew)
		}
		r, err := f.CreateRevision(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if r.ID != "me/data/1" || r.Number != 1 || r.State != registry.Queued || r.Owner != "name-of-me" || r.OwnerID != "me" ||
			r.Findability != "published" || string(r.Spec) != `{"meta":{}}` || states(r) != "ppppp" || jobs != 1 || r.Errors == nil || r.Attempt != 1 {
			t.Errorf("%+v, %d jobs", r, jobs)
		}
		if p := r.Pipelines[0]; p.ID != "me/data/1/a" || p.Title != "A" || !p.Started.IsZero() || p.Errors == nil {
			t.Errorf("%+v", p)
		}
		events, err := f.Events(t.Context(), r.ID, 0)
		if err != nil || len(events) != 5 || events[0].Seq != 1 || events[0].Kind != registry.KindQueue || events[0].Pipeline != "me/data/1/a" ||
			string(events[0].Body) != `{"state":"QUEUED","flow_state":"QUEUED","attempt":1}` {
			t.Errorf("%+v, %v", events, err)
		}
		second := push("me/data", registry.External)
		second.Spec = json.RawMessage(`{"second":true}`)
		if r, err = f.CreateRevision(t.Context(), second); err != nil || r.ID != "me/data/2" {
			t.Fatalf("%v, %v", r, err)
		}
		for which, want := range map[string]string{
			"1": "me/data/1", "2": "me/data/2", "latest": "me/data/2", "successful": "", "3": "", "0": "", "01": "", "+1": "", "-1": "", " 1": "",
			"1.0": "", "Latest": "", "": "", "٣": "", "99999999999999999999": "",
		} {
			r, err := f.Revision(t.Context(), "me/data", which, registry.Whole)
			switch {
			case want == "" && !errs.Is(err, errs.NotFound):
				t.Errorf("%q: %v, %v", which, r, err)
			case want != "" && (err != nil || r.ID != want):
				t.Errorf("%q: %v, %v", which, r, err)
			}
		}
		if r := f.flow("me/data/1"); string(r.Spec) != `{"meta":{}}` {
			t.Errorf("the first revision's spec is %s", r.Spec)
		}
		if list, err := f.Revisions(t.Context(), "me/data", 0, 10); err != nil || len(list) != 2 || list[0].Number != 2 {
			t.Errorf("%+v, %v", list, err)
		}
		if list, err := f.Datasets(t.Context(), registry.DatasetPage{OwnerID: "me", Limit: 10}); err != nil || len(list) != 1 || list[0].ID != "me/data" || list[0].LastRevision != 2 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// A refusal, wherever it comes from, leaves nothing behind and uses no number.
// A dataset hides at once what a push wants hidden, and shows more only when the push
// has succeeded and nothing that was accepted later wants less.
func TestFindability(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, steps, want string }{
		{"a new dataset", "+published", "published"},
		{"hidden at once", "+published +private", "private"},
		{"hidden a little", "+published +unlisted", "unlisted"},
		{"not shown before success", "+private +published", "private"},
		{"not shown by a failure", "+private +published 2:failed", "private"},
		{"shown by success", "+private +published 2:success", "published"},
		{"shown a little", "+private +unlisted 2:success", "unlisted"},
		{"an early push succeeds late", "+private +published +private 2:success", "private"},
		{"an early push succeeds last", "+private +published +published 3:success 1:success", "published"},
		{"a later push that fails wants it too", "+private +published +published 3:failed 2:success", "published"},
		{"a later push wants less", "+private +published +unlisted 2:success", "unlisted"},
		{"the first success of a hidden one", "+private 1:success", "private"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, f *fixture) {
				for step := range strings.FieldsSeq(c.steps) {
					if findability, ok := strings.CutPrefix(step, "+"); ok {
						n := push("me/data", registry.External)
						n.Findability = findability
						if _, err := f.CreateRevision(t.Context(), n); err != nil {
							t.Fatal(err)
						}
						continue
					}
					number, outcome, _ := strings.Cut(step, ":")
					for _, p := range f.flow("me/data/" + number).Pipelines {
						f.apply(registry.Event{Pipeline: p.ID, Kind: registry.KindFinish, Success: outcome == "success", Errors: []string{"x"}})
					}
				}
				if got := f.flow("me/data/1").Findability; got != c.want {
					t.Errorf("%s: %s, want %s", c.steps, got, c.want)
				}
			})
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		f.push("me/first", registry.External)
		tables := []string{"owner", "dataset", "dataset_revision", "pipelines", "flow_event"}
		var before []int
		for _, table := range tables {
			before = append(before, f.count(table))
		}
		fault := errors.New("fault")
		for name, change := range map[string]func(*registry.New){
			"limit": func(n *registry.New) { n.MaxDatasets = 1 },
			"zero":  func(n *registry.New) { n.MaxDatasets = 0 },
			"plan": func(n *registry.New) {
				n.Plan = func(int64, time.Time, bool) ([]registry.PlannedPipeline, error) { return nil, fault }
			},
			"nothing": func(n *registry.New) {
				n.Plan = func(int64, time.Time, bool) ([]registry.PlannedPipeline, error) { return nil, nil }
			},
			"job": func(n *registry.New) { n.Enqueue = func(context.Context, sqldb.Tx) error { return fault } },
		} {
			n := push("me/second", registry.External)
			change(&n)
			_, err := f.CreateRevision(t.Context(), n)
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
			if name == "limit" && (!errs.Is(err, errs.Forbidden) || errs.Detail(err) != "Max datasets for user exceeded plan limit (1)") {
				t.Errorf("%s: %v", name, err)
			}
			for i, table := range tables {
				if n := f.count(table); n != before[i] {
					t.Errorf("%s: %d rows of %s instead of %d", name, n, table, before[i])
				}
			}
		}
		// At the limit a dataset that is there gets new revisions.
		n := push("me/first", registry.External)
		n.MaxDatasets = 1
		if r, err := f.CreateRevision(t.Context(), n); err != nil || r.Number != 2 {
			t.Errorf("%v, %v", r, err)
		}
	})
}

// TestNames: a name is taken from whoever has it, also where pushes race, and an owner
// without a new name keeps the old one.
func TestNames(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		name := func(owner, want string) {
			t.Helper()
			list, err := f.Datasets(t.Context(), registry.DatasetPage{OwnerID: owner, Limit: 1})
			if err != nil || len(list) != 1 || list[0].Owner != want {
				t.Errorf("%s: %+v, %v; want the name %q", owner, list, err, want)
			}
		}
		create := func(owner, name string) {
			n := push(owner+"/data", registry.External)
			n.Owner = name
			if r, err := f.CreateRevision(t.Context(), n); err != nil || name != "" && r.Owner != name {
				t.Errorf("%s as %q: %+v, %v", owner, name, r, err)
			}
		}
		create("squatter", "ann")
		create("squatter", "")
		name("squatter", "ann")
		create("ann-id", "ann")
		name("ann-id", "ann")
		name("squatter", "")
		create("squatter", "other")
		create("ann-id", "")
		name("ann-id", "ann")
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() { create(fmt.Sprintf("racer%d", i%4), fmt.Sprintf("name%d", i%3)) })
		}
		wg.Wait()
		seen := map[string]int{}
		for i := range 4 {
			list, err := f.Datasets(t.Context(), registry.DatasetPage{OwnerID: fmt.Sprintf("racer%d", i), Limit: 1})
			if err != nil || len(list) != 1 || list[0].LastRevision != 3 {
				t.Fatalf("%+v, %v", list, err)
			}
			if list[0].Owner != "" {
				seen[list[0].Owner]++
			}
		}
		for name, n := range seen {
			if n != 1 {
				t.Errorf("%d owners are called %q", n, name)
			}
		}
		if len(seen) == 0 {
			t.Error("nobody has a name after a race")
		}
	})
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		now := time.Now()
		create := func(dataset, hash string, at time.Time) (*registry.Revision, error) {
			n := push(dataset, registry.External)
			n.IdempotencyKey, n.IdempotencyHash, n.CreatedAt = "key", hash, at
			return f.CreateRevision(t.Context(), n)
		}
		for i, at := range []time.Time{now, now.Add(time.Hour)} {
			if r, err := create("me/data", "x", at); err != nil || r.Number != 1 {
				t.Errorf("%d: %v, %v", i, r, err)
			}
		}
		if _, err := create("me/data", "y", now); !errs.Is(err, errs.Conflict) {
			t.Errorf("another body: %v", err)
		}
		if r, err := create("you/data", "y", now); err != nil || r.Number != 1 {
			t.Errorf("another owner: %v, %v", r, err)
		}
		if r, err := create("me/data", "y", now.Add(25*time.Hour)); err != nil || r.Number != 2 {
			t.Errorf("a day later: %v, %v", r, err)
		}
	})
}

// Repeats that race are one, as those that follow each other.
func TestIdempotencyRace(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				n := push("me/data", registry.External)
				n.IdempotencyKey, n.IdempotencyHash = "key", "x"
				if r, err := f.CreateRevision(t.Context(), n); err != nil || r.Number != 1 {
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
		wg.Wait()
		if n := f.count("dataset_revision"); n != 1 {
			t.Errorf("%d revisions", n)
		}
	})
}

// Pushes that race get dense numbers, and the limit holds.
func TestRace(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var numbers []int64
		accepted := 0
		for i := range 24 {
			wg.Go(func() {
				r, err := f.CreateRevision(t.Context(), push("me/data", registry.External))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
				numbers = append(numbers, r.Number)
			})
			wg.Go(func() {
				n := push(fmt.Sprintf("you/data%d", i), registry.External)
				n.MaxDatasets = 3
				_, err := f.CreateRevision(t.Context(), n)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					accepted++
				} else if !errs.Is(err, errs.Forbidden) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		slices.Sort(numbers)
		for i, n := range numbers {
			if n != int64(i+1) {
				t.Fatalf("numbers %v", numbers)
			}
		}
		if len(numbers) != 24 || accepted != 3 {
			t.Errorf("%d revisions, %d datasets over a limit of 3", len(numbers), accepted)
		}
	})
}

func TestSuccess(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.External).ID
		if a := f.apply(registry.Event{Pipeline: "./" + id + "/a", Kind: registry.KindStart}); a.FlowID != id || a.State != registry.Running || a.FlowState != registry.Running || !a.Changed {
			t.Errorf("%+v", a)
		}
		f.want(id, registry.Running, "rpppp")
		for _, name := range []string{"/a", "/b", "/c", "/d", ""} {
			a := f.apply(registry.Event{
				Pipeline: id + name, Kind: registry.KindFinish, Success: true, Errors: []string{"a warning"}, Log: []string{"one", "two"},
				Stats: json.RawMessage(`{"bytes":` + strconv.Itoa(len(name)) + `}`), Outputs: json.RawMessage(`["out` + name + `"]`), DescriptorKey: "key" + name,
			})
			if want := registry.Running; name != "" && a.FlowState != want {
				t.Errorf("%q: %+v", name, a)
			}
			if r := f.flow(id); name != "" && r.Stats != nil {
				t.Errorf("stats %s before the end", r.Stats)
			}
		}
		r := f.want(id, registry.Succeeded, "sssss")
		if string(r.Stats) != `{"bytes":0}` || len(r.Errors) != 0 || len(r.Logs) != 10 || r.Logs[0] != "a: one" || r.Logs[9] != "data: two" ||
			r.DescriptorKey != "key" || r.Finished.IsZero() || r.Started.IsZero() || f.count("pipelines") != 0 {
			t.Errorf("%+v", r)
		}
		if p := r.Pipelines[1]; p.ID != id+"/b" || p.Title != "B" || len(p.Errors) != 0 || len(p.Log) != 2 || p.Finished.IsZero() || string(p.Stats) != `{"bytes":2}` {
			t.Errorf("%+v", p)
		}
		done := f.outputs(id)
		if len(done) != 5 || string(done[id+"/c"]) != `["out/c"]` {
			t.Errorf("%s", done)
		}
		// Later events answer with the state that stands.
		for _, kind := range []registry.Kind{registry.KindQueue, registry.KindStart, registry.KindProgress, registry.KindFinish} {
			a := f.apply(registry.Event{Pipeline: id + "/a", Kind: kind, Errors: []string{"late"}})
			if a.State != registry.Succeeded || a.FlowState != registry.Succeeded || a.Changed {
				t.Errorf("%s: %+v", kind, a)
			}
		}
		if s, err := f.Revision(t.Context(), "me/data", "successful", registry.Whole); err != nil || s.ID != id {
			t.Errorf("%v, %v", s, err)
		}
	})
}

func TestCascade(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.External).ID
		f.apply(registry.Event{Pipeline: id + "/a", Kind: registry.KindFinish, Success: true})
		f.apply(registry.Event{Pipeline: id + "/c", Kind: registry.KindStart})
		a := f.apply(registry.Event{Pipeline: id + "/b", Kind: registry.KindFinish, Errors: []string{"bad row", "bad again"}, Stats: json.RawMessage(`null`)})
		if a.State != registry.Failed || a.FlowState != registry.Running {
			t.Errorf("%+v", a)
		}
		f.want(id, registry.Running, "sfrff")
		a = f.apply(registry.Event{Pipeline: id + "/c", Kind: registry.KindFinish, Success: true})
		if a.FlowState != registry.Failed {
			t.Errorf("the answer is %+v", a)
		}
		r := f.want(id, registry.Failed, "sfsff")
		waits := func(on string) string {
			return `Dependency unsuccessful. Cannot run until dependency "` + id + on + `" is successfully executed`
		}
		if want := []string{"bad row", "bad again", waits("/b")}; !slices.Equal(r.Errors, want) {
			t.Errorf("errors %q", r.Errors)
		}
		if r.Stats != nil {
			t.Errorf("stats %s", r.Stats)
		}
		// One failure of the first ends everything, and the answer shows it.
		id = f.push("me/data", registry.External).ID
		if a := f.apply(registry.Event{Pipeline: id + "/a", Kind: registry.KindFinish, Errors: []string{"x"}}); a.FlowState != registry.Failed {
			t.Errorf("%+v", a)
		}
		r = f.want(id, registry.Failed, "fffff")
		if p := r.Pipelines[3]; p.Errors[0] != waits("/b") {
			t.Errorf("%q", p.Errors)
		}
		events, err := f.Events(t.Context(), id, 5)
		if err != nil || len(events) != 5 || events[0].Pipeline != id+"/a" || events[0].Seq != 6 {
			t.Errorf("%+v, %v", events, err)
		}
	})
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.External).ID
		for name, c := range map[string]struct {
			ev   registry.Event
			kind errs.Kind
		}{
			"pipeline": {registry.Event{Pipeline: id + "/x", Kind: registry.KindStart}, errs.NotFound},
			"flow":     {registry.Event{Pipeline: "me/other/1/a", Kind: registry.KindStart}, errs.NotFound},
			"short":    {registry.Event{Pipeline: "x", Kind: registry.KindStart}, errs.NotFound},
			"kind":     {registry.Event{Pipeline: id, Kind: "explode"}, errs.Invalid},
			"cancel":   {registry.Event{Pipeline: id, Kind: registry.KindCancel}, errs.Invalid},
			"stats":    {registry.Event{Pipeline: id, Kind: registry.KindFinish, Stats: json.RawMessage(`{`)}, errs.Invalid},
			"attempt":  {registry.Event{Pipeline: id, Kind: registry.KindStart, Attempt: 2}, errs.Conflict},
		} {
			if _, err := f.Apply(t.Context(), c.ev); !errs.Is(err, c.kind) {
				t.Errorf("%s: %v", name, err)
			}
		}
		f.want(id, registry.Queued, "ppppp")
		// The embedded runner's flows are not moved from outside.
		id = f.push("me/data", registry.Embedded).ID
		if a := f.apply(registry.Event{Pipeline: id + "/a", Kind: registry.KindStart}); a.State != registry.Queued || a.Changed {
			t.Errorf("%+v", a)
		}
	})
}

// Bounds: what is kept of a hostile event is bounded and is text.
func TestBounds(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.External).ID
		many := make([]string, 5000)
		for i := range many {
			many[i] = strings.Repeat("\xff", 20) + strconv.Itoa(i)
		}
		f.apply(registry.Event{Pipeline: id + "/a", Kind: registry.KindFinish, Errors: append([]string{strings.Repeat("x", 1<<20)}, many...), Log: many})
		r := f.flow(id)
		if p := r.Pipelines[0]; len(p.Errors) != 100 || p.ErrorCount != 5001 || len(p.Errors[0]) > 5000 || len(p.Log) != 100 || !strings.HasSuffix(p.Log[99], "4999") {
			t.Errorf("%d errors of %d, %d lines", len(p.Errors), p.ErrorCount, len(p.Log))
		}
		if len(r.Errors) != 100 {
			t.Errorf("%d errors", len(r.Errors))
		}
	})
}

// wanted is a revision's state from those of its pipelines, as the design has it.
func wanted(r *registry.Revision) registry.State {
	has := map[registry.State]bool{}
	for _, p := range r.Pipelines {
		has[p.State] = true
	}
	ended := has[registry.Succeeded] || has[registry.Failed] || has[registry.Cancelled]
	switch {
	case has[registry.Running], has[registry.Queued] && ended:
		return registry.Running
	case has[registry.Queued]:
		return registry.Queued
	case has[registry.Failed]:
		return registry.Failed
	case has[registry.Cancelled]:
		return registry.Cancelled
	}
	return registry.Succeeded
}

// Whatever events come, no state goes back, the revision's follows from its
// pipelines', a repeated event answers as before and changes nothing, and the
// events count without a gap.
func TestProperties(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		kinds := []registry.Kind{registry.KindQueue, registry.KindStart, registry.KindProgress, registry.KindFinish}
		for seed := range uint64(25) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			n := push("me/data", registry.External)
			n.Plan = func(number int64, _ time.Time, _ bool) ([]registry.PlannedPipeline, error) {
				flow := fmt.Sprintf("me/data/%d", number)
				var list []registry.PlannedPipeline
				for i := range 2 + rnd.IntN(6) {
					p := registry.PlannedPipeline{ID: fmt.Sprintf("%s/p%d", flow, i)}
					for j := range i {
						if rnd.IntN(3) == 0 {
							p.Dependencies = append(p.Dependencies, fmt.Sprintf("%s/p%d", flow, j))
						}
					}
					list = append(list, p)
				}
				return list, nil
			}
			before, err := f.CreateRevision(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			for range 40 {
				p := before.Pipelines[rnd.IntN(len(before.Pipelines))]
				ev := registry.Event{Pipeline: p.ID, Kind: kinds[rnd.IntN(4)], Success: rnd.IntN(4) > 0, Stats: json.RawMessage(`{"n":1}`)}
				if rnd.IntN(60) == 0 {
					if _, err := f.Cancel(t.Context(), before.ID, "stopped"); err != nil {
						t.Fatal(err)
					}
				}
				a := f.apply(ev)
				after := f.flow(before.ID)
				if after.State != wanted(after) || a.FlowState != after.State {
					t.Fatalf("seed %d: %+v: answer %+v, state %s, pipelines %s", seed, ev, a, after.State, states(after))
				}
				if after.State < before.State || before.State.Ended() && after.State != before.State {
					t.Fatalf("seed %d: the revision went from %s to %s", seed, before.State, after.State)
				}
				for i, p := range after.Pipelines {
					was := before.Pipelines[i]
					if p.ID != was.ID || p.State < was.State || was.State.Ended() && p.State != was.State {
						t.Fatalf("seed %d: %s went from %s to %s", seed, p.ID, was.State, p.State)
					}
					for _, d := range p.Dependencies {
						j := slices.IndexFunc(after.Pipelines, func(x registry.Pipeline) bool { return x.ID == d })
						if after.Pipelines[j].State == registry.Failed && p.State == registry.Queued {
							t.Fatalf("seed %d: %s waits for %s, which failed", seed, p.ID, d)
						}
					}
				}
				if repeated := f.apply(ev); repeated.Changed || repeated.State != a.State || repeated.FlowState != a.FlowState {
					t.Fatalf("seed %d: %+v answered %+v, then %+v", seed, ev, a, repeated)
				}
				before = after
			}
			events, err := f.Events(t.Context(), before.ID, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range events {
				if e.Seq != int64(i+1) {
					t.Fatalf("seed %d: event %d has the number %d", seed, i, e.Seq)
				}
			}
		}
	})
}

// Finishes of all pipelines at once lose nothing.
func TestApplyRace(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.External).ID
		var wg sync.WaitGroup
		for _, name := range []string{"/a", "/b", "/c", "/d", ""} {
			for range 3 {
				wg.Go(func() {
					if _, err := f.Apply(t.Context(), registry.Event{Pipeline: id + name, Kind: registry.KindFinish, Success: true, Log: []string{"done" + name}}); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if r := f.want(id, registry.Succeeded, "sssss"); len(r.Logs) != 5 {
			t.Errorf("logs %q", r.Logs)
		}
		if n := f.count("flow_event"); n != 10 {
			t.Errorf("%d events", n)
		}
	})
}

func TestClaimIsFair(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		for _, d := range []string{"busy/1", "busy/2", "busy/3", "idle/1", "other/1"} {
			f.push(d, registry.Embedded)
		}
		f.push("first/external", registry.External)
		for _, want := range []string{"busy/1/1", "idle/1/1", "other/1/1", "busy/2/1", "busy/3/1"} {
			c := f.claim()
			if c == nil || c.FlowID != want {
				t.Fatalf("got %+v, not %s", c, want)
			}
			if c.Attempt != 1 || c.OwnerID+"/"+c.FlowID[len(c.OwnerID)+1:] != want || c.Owner != "name-of-"+c.OwnerID || string(c.Spec) != `{"meta":{}}` || c.Number != 1 {
				t.Errorf("%+v", c)
			}
		}
		if c := f.claim(); c != nil {
			t.Errorf("claimed %+v", c)
		}
	})
}

// Claims that race give each flow once.
func TestClaimRace(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		for i := range 8 {
			f.push(fmt.Sprintf("me/d%d", i), registry.Embedded)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[string]int{}
		for range 16 {
			wg.Go(func() {
				c, err := f.Claim(t.Context(), "x")
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				} else if c != nil {
					got[c.FlowID]++
				}
			})
		}
		wg.Wait()
		for id, n := range got {
			if n != 1 {
				t.Errorf("%s was claimed %d times", id, n)
			}
		}
		if len(got) != 8 {
			t.Errorf("%d flows were claimed", len(got))
		}
	})
}

// TestRelease: a run that is stopped on purpose gives its flow back, and that is no
// interruption however often it happens.
func TestRelease(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.Embedded).ID
		for n := range 8 {
			c := f.claim()
			if c == nil || c.FlowID != id {
				t.Fatalf("round %d: %+v", n, c)
			}
			start := registry.Event{FlowID: id, Pipeline: id + "/a", Kind: registry.KindStart, Attempt: c.Attempt}
			f.apply(start)
			tickets := 0
			enqueue := func(context.Context, sqldb.Tx) error { tickets++; return nil }
			if err := f.Release(t.Context(), id, c.Attempt-1, enqueue); err != nil || tickets != 0 {
				t.Fatalf("an old attempt gave the flow back: %v, %d tickets", err, tickets)
			}
			if err := f.Release(t.Context(), id, c.Attempt, enqueue); err != nil || tickets != 1 {
				t.Fatalf("%v, %d tickets", err, tickets)
			}
			if r := f.want(id, registry.Queued, "ppppp"); r.Restarts != 0 {
				t.Fatalf("%d restarts are counted", r.Restarts)
			}
			if _, err := f.Apply(t.Context(), start); !errs.Is(err, errs.Conflict) {
				t.Fatalf("the attempt that was given back writes: %v", err)
			}
		}
	})
}

// TestInterrupt: a run that could not go on counts, whatever interrupts it; after five of
// them the flow has failed with the last reason, and no run of an old attempt changes that.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.Embedded).ID
		tickets := 0
		enqueue := func(context.Context, sqldb.Tx) error { tickets++; return nil }
		for n := range 6 {
			c := f.claim()
			if c == nil || c.FlowID != id || c.Restarts != int64(n) {
				t.Fatalf("round %d: %+v", n, c)
			}
			f.apply(registry.Event{FlowID: id, Pipeline: id + "/a", Kind: registry.KindStart, Attempt: c.Attempt})
			for _, attempt := range []int64{c.Attempt - 1, c.Attempt, c.Attempt, c.Attempt + 2} {
				if err := f.Interrupt(t.Context(), id, attempt, fmt.Sprintf("reason %d", n), enqueue); err != nil {
					t.Fatal(err)
				}
			}
			if tickets != min(n+1, 5) {
				t.Fatalf("round %d: %d tickets", n, tickets)
			}
		}
		r := f.want(id, registry.Failed, "fffff")
		const want = "The run was interrupted 6 times and was not started again: reason 5"
		if r.Restarts != 5 || len(r.Errors) == 0 || r.Errors[0] != want {
			t.Errorf("%d restarts, %q, want %q", r.Restarts, r.Errors, want)
		}
		if c := f.claim(); c != nil {
			t.Errorf("it is run again: %+v", c)
		}
	})
}

// A pipeline that ran although what it waits for had failed does not wait in the next
// attempt for ever.
func TestReleaseOfWhatRanTooSoon(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.Embedded).ID
		c := f.claim()
		for _, name := range []string{"/b", "/c"} {
			f.apply(registry.Event{Pipeline: id + name, Kind: registry.KindStart, Attempt: c.Attempt})
		}
		f.apply(registry.Event{Pipeline: id + "/a", Kind: registry.KindFinish, Errors: []string{"x"}, Attempt: c.Attempt})
		f.want(id, registry.Running, "frrpf")
		if err := f.Release(t.Context(), id, c.Attempt, nil); err != nil {
			t.Fatal(err)
		}
		f.want(id, registry.Failed, "fffff")
	})
}

func TestRecover(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.Embedded).ID
		f.push("me/newer", registry.Embedded)
		c := f.claim()
		event := func(name string, kind registry.Kind) registry.Event {
			return registry.Event{FlowID: id, Pipeline: id + name, Kind: kind, Success: true, Attempt: c.Attempt, Outputs: json.RawMessage(`{"k":1}`), Log: []string{"x"}}
		}
		f.apply(event("/a", registry.KindFinish))
		f.apply(event("/b", registry.KindStart))
		if ok, err := f.Beat(t.Context(), id, c.Attempt, map[string]json.RawMessage{id + "/b": json.RawMessage(`{"rows":7}`)}); err != nil || !ok {
			t.Fatal(ok, err)
		}
		if p := f.flow(id).Pipelines[1]; string(p.Progress) != `{"rows":7}` {
			t.Errorf("progress %s", p.Progress)
		}
		f.again()
		if n := f.recover(); n != 2 {
			t.Errorf("%d flows wait", n)
		}
		r := f.want(id, registry.Running, "spppp")
		if r.Attempt != 2 || r.Restarts != 1 || r.Pipelines[1].Progress != nil {
			t.Errorf("%+v", r)
		}
		// The run of the old attempt, were it still there, is refused.
		if ok, err := f.Beat(t.Context(), id, c.Attempt, nil); err != nil || ok {
			t.Errorf("a beat of the old attempt: %v, %v", ok, err)
		}
		if _, err := f.Apply(t.Context(), event("/b", registry.KindFinish)); !errs.Is(err, errs.Conflict) {
			t.Errorf("an event of the old attempt: %v", err)
		}
		// Interrupted flows go before new ones.
		if c = f.claim(); c.FlowID != id || c.Attempt != 2 || c.Restarts != 1 {
			t.Fatalf("claimed %+v", c)
		}
		done := f.outputs(id)
		if len(done) != 1 || string(done[id+"/a"]) != `{"k":1}` {
			t.Errorf("%s", done)
		}
		for _, name := range []string{"/b", "/c", "/d", ""} {
			f.apply(event(name, registry.KindStart))
			f.apply(event(name, registry.KindFinish))
		}
		f.want(id, registry.Succeeded, "sssss")
		if ok, err := f.Beat(t.Context(), id, c.Attempt, nil); err != nil || ok {
			t.Errorf("a beat after the end: %v, %v", ok, err)
		}
		// A start with nothing interrupted changes nothing.
		f.again()
		if n := f.recover(); n != 1 {
			t.Errorf("%d flows wait", n)
		}
		if r := f.flow("me/newer/1"); r.Attempt != 1 || r.Restarts != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// A flow that ends the process each time it runs fails in the end, also where it
// never came to an event.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	for _, begun := range []bool{true, false} {
		each(t, func(t *testing.T, f *fixture) {
			id := f.push("me/data", registry.Embedded).ID
			for i := range 6 {
				c := f.claim()
				if c == nil || c.FlowID != id || c.Attempt != int64(i+1) || c.Restarts != int64(i) {
					t.Fatalf("round %d: claimed %+v", i, c)
				}
				if begun {
					f.apply(registry.Event{Pipeline: id + "/a", Kind: registry.KindStart, Attempt: c.Attempt})
				}
				f.again()
				f.recover()
			}
			r := f.want(id, registry.Failed, "fffff")
			if !strings.Contains(r.Errors[0], "interrupted 6 times") || r.Attempt != 7 {
				t.Errorf("%q, attempt %d", r.Errors, r.Attempt)
			}
			if c := f.claim(); c != nil {
				t.Errorf("claimed %+v", c)
			}
		})
	}
}

func TestCancelAndRetry(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.Embedded).ID
		c := f.claim()
		f.apply(registry.Event{Pipeline: id + "/a", Kind: registry.KindFinish, Success: true, Attempt: c.Attempt, Outputs: json.RawMessage(`"kept"`)})
		f.apply(registry.Event{Pipeline: id + "/b", Kind: registry.KindStart, Attempt: c.Attempt})
		if _, err := f.Retry(t.Context(), id, nil); !errs.Is(err, errs.Conflict) {
			t.Errorf("retry of an open flow: %v", err)
		}
		for range 2 {
			if state, err := f.Cancel(t.Context(), id, "stopped by me"); err != nil || state != registry.Cancelled {
				t.Fatal(state, err)
			}
		}
		r := f.want(id, registry.Cancelled, "scccc")
		if r.Attempt != 2 || r.Errors[0] != "stopped by me" || f.count("pipelines") != 0 {
			t.Errorf("%+v", r)
		}
		if _, err := f.Apply(t.Context(), registry.Event{Pipeline: id + "/b", Kind: registry.KindFinish, Success: true, Attempt: c.Attempt}); !errs.Is(err, errs.Conflict) {
			t.Errorf("an event of the cancelled run: %v", err)
		}
		tickets := 0
		if done, err := f.Retry(t.Context(), id, func(context.Context, sqldb.Tx) error { tickets++; return nil }); err != nil || !done || tickets != 1 {
			t.Fatal(done, err, tickets)
		}
		if r = f.want(id, registry.Running, "spppp"); r.Attempt != 3 || len(r.Errors) != 0 || !r.Finished.IsZero() {
			t.Errorf("%+v", r)
		}
		if kept := f.outputs(id); string(kept[id+"/a"]) != `"kept"` {
			t.Errorf("%s", kept)
		}
		if c = f.claim(); c == nil || c.FlowID != id || c.Attempt != 3 {
			t.Fatalf("%+v", c)
		}
		for _, name := range []string{"/b", "/c", "/d", ""} {
			f.apply(registry.Event{Pipeline: id + name, Kind: registry.KindFinish, Success: true, Attempt: 3})
		}
		f.want(id, registry.Succeeded, "sssss")
		if done, err := f.Retry(t.Context(), id, nil); err != nil || done {
			t.Errorf("retry of a success: %v, %v", done, err)
		}
		if _, err := f.Cancel(t.Context(), "no/such/1", ""); !errs.Is(err, errs.NotFound) {
			t.Error(err)
		}
	})
}

func TestWatch(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.External).ID
		changes, cancel := f.Watch(id)
		other, cancelOther := f.Watch("me/other/1")
		defer cancelOther()
		start := registry.Event{Pipeline: id + "/a", Kind: registry.KindStart}
		told := func() bool {
			select {
			case <-changes:
				return true
			default:
				return false
			}
		}
		f.apply(start)
		f.apply(registry.Event{Pipeline: id + "/b", Kind: registry.KindStart})
		if !told() || told() {
			t.Error("two changes were not told once")
		}
		if f.apply(start); told() {
			t.Error("a repeated event was told")
		}
		cancel()
		if f.apply(registry.Event{Pipeline: id + "/c", Kind: registry.KindStart}); told() || len(other) != 0 {
			t.Error("told after the end, or of another flow")
		}
	})
}

func TestPrune(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		ended, running := f.push("me/data", registry.External).ID, f.push("me/data", registry.External).ID
		f.apply(registry.Event{Pipeline: ended + "/a", Kind: registry.KindFinish})
		if err := f.Prune(t.Context(), time.Now().Add(-time.Hour)); err != nil || f.count("flow_event") != 15 {
			t.Errorf("%v, %d events", err, f.count("flow_event"))
		}
		if err := f.Prune(t.Context(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if events, err := f.Events(t.Context(), running, 0); err != nil || len(events) != 5 || f.count("flow_event") != 5 {
			t.Errorf("%d events, %v", len(events), err)
		}
	})
}

func TestSetting(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		var wg sync.WaitGroup
		values := make([]string, 8)
		for i := range values {
			wg.Go(func() {
				var err error
				if values[i], err = f.Setting(t.Context(), "secret", func() (string, error) { return strconv.Itoa(i), nil }); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(slices.Compact(values)) != 1 || values[0] == "" {
			t.Errorf("values %q", values)
		}
		f.again()
		if v, err := f.Setting(t.Context(), "secret", func() (string, error) { return "new", nil }); err != nil || v != values[0] {
			t.Errorf("%q, %v", v, err)
		}
	})
}

func TestState(t *testing.T) {
	t.Parallel()
	for s, names := range map[registry.State][2]string{
		registry.Queued: {"QUEUED", "pending"}, registry.Running: {"INPROGRESS", "running"}, registry.Succeeded: {"SUCCEEDED", "success"},
		registry.Failed: {"FAILED", "failed"}, registry.Cancelled: {"CANCELLED", "cancelled"},
	} {
		for _, name := range names {
			if got, err := registry.ParseState(name); err != nil || got != s {
				t.Errorf("%q: %v, %v", name, got, err)
			}
		}
		if s.String() != names[0] || s.Stored() != names[1] {
			t.Errorf("%s, %s", s, s.Stored())
		}
	}
	if _, err := registry.ParseState("odd"); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	for id, want := range map[string]string{"./a/b/1/c/d": "a/b/1", "a/b/1": "a/b/1", "a/b": "a/b", "": ""} {
		if got := registry.FlowOf(id); got != want {
			t.Errorf("FlowOf(%q) is %q", id, got)
		}
	}
}

// Texts that no database keeps name nothing, on every way in.
func TestNamesThatCannotBeKept(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		f.push("me/data", registry.External)
		for _, bad := range []string{"\x00", "me/data\x00", "me/\xff", "\xff"} {
			_, err1 := f.Revision(t.Context(), bad, "latest", registry.Whole)
			_, err2 := f.Flow(t.Context(), bad+"/1", registry.Whole)
			_, err3 := f.Apply(t.Context(), registry.Event{Pipeline: bad + "/1/a", Kind: registry.KindStart})
			_, err4 := f.Apply(t.Context(), registry.Event{FlowID: "me/data/1", Pipeline: bad, Kind: registry.KindStart})
			_, err5 := f.Owner(t.Context(), bad)
			_, err6 := f.Cancel(t.Context(), bad, "x")
			for i, err := range []error{err1, err2, err3, err4, err5, err6, f.Delete(t.Context(), registry.Deletion{DatasetID: bad}), f.Restore(t.Context(), bad, "me", -1)} {
				if !errs.Is(err, errs.NotFound) {
					t.Errorf("%q: %d: %v", bad, i, err)
				}
			}
			list, err := f.Datasets(t.Context(), registry.DatasetPage{OwnerID: bad, After: bad, Limit: 1})
			if err != nil || len(list) != 0 {
				t.Errorf("%q: %v, %v", bad, list, err)
			}
			revisions, err := f.Revisions(t.Context(), bad, 0, 1)
			if err != nil || len(revisions) != 0 {
				t.Errorf("%q: %v, %v", bad, revisions, err)
			}
			// What comes from outside as text is kept as far as it can be.
			if _, err := f.Apply(t.Context(), registry.Event{
				Pipeline: "me/data/1/a", Kind: registry.KindProgress, Errors: []string{bad}, Log: []string{bad}, Stats: json.RawMessage(`{"x":"\u0000"}`),
			}); err != nil {
				t.Errorf("%q: %v", bad, err)
			}
			n := push("me/other", registry.External)
			n.IdempotencyKey = bad
			if _, err := f.CreateRevision(t.Context(), n); !errs.Is(err, errs.Invalid) {
				t.Errorf("%q: %v", bad, err)
			}
			refusal := errors.New("refused")
			n = push("me/other", registry.External)
			n.OwnerID, n.Dataset, n.Owner = bad, bad, bad
			n.Plan = func(int64, time.Time, bool) ([]registry.PlannedPipeline, error) { return nil, refusal }
			if _, err := f.CreateRevision(t.Context(), n); !errors.Is(err, refusal) {
				t.Errorf("%q: %v", bad, err)
			}
		}
	})
}
