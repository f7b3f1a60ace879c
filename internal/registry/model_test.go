package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
)

// moment is a flow as the model has it after so many events.
type moment struct {
	attempt   int64
	pipelines map[string]registry.State
	flow      registry.State
}

// flowState is the rule by which a flow's state follows from its pipelines'.
func flowState(pipelines map[string]registry.State) registry.State {
	var n [5]int
	for _, s := range pipelines {
		n[s]++
	}
	switch open := n[registry.Queued]; {
	case n[registry.Running] > 0, open > 0 && open < len(pipelines):
		return registry.Running
	case open > 0:
		return registry.Queued
	case n[registry.Failed] > 0:
		return registry.Failed
	case n[registry.Cancelled] > 0:
		return registry.Cancelled
	}
	return registry.Succeeded
}

// replay takes a flow's history through the model, which knows what may follow what,
// and gives how the flow stood after each transaction, by the number of its last event.
func replay(t *testing.T, dependencies map[string][]string, events []registry.StoredEvent) map[int64]moment {
	t.Helper()
	now := moment{attempt: 1, pipelines: map[string]registry.State{}}
	moments := map[int64]moment{}
	for i, e := range events {
		if e.Seq != int64(i+1) {
			t.Fatalf("event %d has the number %d", i, e.Seq)
		}
		var body struct {
			State   registry.State `json:"state"`
			Flow    registry.State `json:"flow_state"`
			Attempt int64          `json:"attempt"`
			Errors  []string       `json:"errors"`
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			t.Fatal(err)
		}
		was, known := now.pipelines[e.Pipeline]
		newer := body.Attempt > now.attempt
		legal := false
		switch e.Kind {
		case registry.KindQueue:
			legal = body.State == registry.Queued && (!known || body.Attempt > 1 && was != registry.Succeeded)
		case registry.KindStart, registry.KindProgress:
			legal = was == registry.Queued && body.State == registry.Running
		case registry.KindFinish:
			legal = !was.Ended() && (body.State == registry.Succeeded || body.State == registry.Failed)
			if len(body.Errors) > 0 && strings.HasPrefix(body.Errors[0], "Dependency unsuccessful") {
				legal = legal && was == registry.Queued && slices.ContainsFunc(dependencies[e.Pipeline], func(d string) bool {
					return now.pipelines[d] == registry.Failed && strings.Contains(body.Errors[0], `"`+d+`"`)
				})
			}
		case registry.KindCancel:
			legal = !was.Ended() && body.State == registry.Cancelled && (newer || now.attempt == body.Attempt)
		}
		if !legal || body.Attempt < now.attempt {
			t.Fatalf("event %d: %s of %s in attempt %d: from %s to %s in attempt %d", e.Seq, e.Kind, e.Pipeline, body.Attempt, was, body.State, now.attempt)
		}
		now.attempt = body.Attempt
		now.pipelines[e.Pipeline] = body.State
		if i+1 < len(events) && events[i+1].At.Equal(e.At) {
			continue // the same transaction
		}
		if now.flow = flowState(now.pipelines); now.flow != body.Flow {
			t.Fatalf("event %d says that the flow is %s, and it is %s", e.Seq, body.Flow, now.flow)
		}
		for id, s := range now.pipelines {
			for _, d := range dependencies[id] {
				if s == registry.Queued && now.pipelines[d] == registry.Failed {
					t.Fatalf("after event %d %s waits for %s, which failed", e.Seq, id, d)
				}
			}
		}
		kept := now
		kept.pipelines = map[string]registry.State{}
		maps.Copy(kept.pipelines, now.pipelines)
		moments[e.Seq] = kept
	}
	return moments
}

// answer is what was said of a flow, some time between two of its events.
type answer struct {
	after, before int64 // numbers of events
	what          string
	fits          func(moment) bool
}

// Whatever comes from many sides at once, every answer and every read is how the flow
// truly stood at one moment between the question and the answer, and the history is
// one that the model allows.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		each(t, func(t *testing.T, f *fixture) {
			runner := registry.External
			if seed%2 == 1 {
				runner = registry.Embedded
			}
			// The clock tells transactions apart.
			var mu sync.Mutex
			clock := time.Now().UTC()
			f.restart(registry.Options{Now: func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				clock = clock.Add(time.Microsecond)
				return clock
			}})
			rnd := rand.New(rand.NewPCG(seed, 2))
			dependencies := map[string][]string{}
			n := push("me/data", runner)
			n.CreatedAt = clock
			n.Plan = func(int64, time.Time, bool) ([]registry.PlannedPipeline, error) {
				var list []registry.PlannedPipeline
				for i := range 3 + rnd.IntN(6) {
					p := registry.PlannedPipeline{ID: fmt.Sprintf("me/data/1/p%d", i)}
					for _, d := range list {
						if rnd.IntN(3) == 0 {
							p.Dependencies = append(p.Dependencies, d.ID)
						}
					}
					dependencies[p.ID] = p.Dependencies
					list = append(list, p)
				}
				return list, nil
			}
			r, err := f.CreateRevision(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			ids := make([]string, len(r.Pipelines))
			for i, p := range r.Pipelines {
				ids[i] = p.ID
			}
			var answers []answer
			say := func(after, before int64, what string, fits func(moment) bool) {
				mu.Lock()
				defer mu.Unlock()
				answers = append(answers, answer{after, before, what, fits})
			}
			var wg sync.WaitGroup
			for i := range 8 {
				own := rand.New(rand.NewPCG(seed, uint64(100+i)))
				wg.Go(func() {
					for range 25 {
						f.act(t, own, r.ID, runner, ids, say)
					}
				})
			}
			wg.Wait()
			moments := replay(t, dependencies, f.history(t, r.ID))
			seqs := make([]int64, 0, len(moments))
			for seq := range moments {
				seqs = append(seqs, seq)
			}
			slices.Sort(seqs)
			for _, a := range answers {
				found := false
				for i, seq := range seqs {
					// It stood so from this event until the next one.
					if seq <= a.before && (i+1 == len(seqs) || seqs[i+1] > a.after) {
						found = found || a.fits(moments[seq])
					}
				}
				if !found {
					t.Fatalf("seed %d: %s was never true between events %d and %d", seed, a.what, a.after, a.before)
				}
			}
			if len(answers) < 100 {
				t.Errorf("%d answers were checked", len(answers))
			}
		})
	}
}

// history is all events of a flow.
func (f *fixture) history(t *testing.T, id string) (all []registry.StoredEvent) {
	t.Helper()
	for {
		var after int64
		if len(all) > 0 {
			after = all[len(all)-1].Seq
		}
		list, err := f.Events(t.Context(), id, after)
		if err != nil {
			t.Error(err)
			return all
		}
		if len(list) == 0 {
			return all
		}
		all = append(all, list...)
	}
}

// act does one thing at random and notes what it was told.
func (f *fixture) act(t *testing.T, rnd *rand.Rand, flow string, runner registry.Runner, ids []string, say func(int64, int64, string, func(moment) bool)) {
	ctx := t.Context()
	last := func() int64 { return int64(len(f.history(t, flow))) }
	after := last()
	apply := func(attempt int64) {
		ev := registry.Event{
			Pipeline: ids[rnd.IntN(len(ids))], Success: rnd.IntN(8) > 0, Attempt: attempt, Errors: []string{"fault"},
			Kind: []registry.Kind{registry.KindQueue, registry.KindStart, registry.KindProgress, registry.KindFinish, registry.KindFinish}[rnd.IntN(5)],
		}
		a, err := f.Apply(ctx, ev)
		if errs.Is(err, errs.Conflict) && attempt != 0 {
			// An attempt passes without an event where nothing had begun.
			if r, err := f.Flow(ctx, flow, registry.Whole); err != nil || r.Attempt <= attempt {
				t.Errorf("attempt %d was refused: %+v, %v", attempt, r, err)
			}
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		say(after, last(), fmt.Sprintf("the answer to %s of %s: %s, flow %s", ev.Kind, ev.Pipeline, a.State, a.FlowState), func(m moment) bool {
			return m.pipelines[ev.Pipeline] == a.State && m.flow == a.FlowState
		})
	}
	read := func() *registry.Revision {
		r, err := f.Revision(ctx, "me/data", "latest", registry.Whole)
		if err != nil {
			t.Error(err)
			return nil
		}
		say(after, last(), fmt.Sprintf("a read of %s in attempt %d", r.State, r.Attempt), func(m moment) bool {
			for _, p := range r.Pipelines {
				if m.pipelines[p.ID] != p.State {
					return false
				}
			}
			return m.flow == r.State && m.attempt <= r.Attempt
		})
		return r
	}
	ok := func(err error, allowed ...errs.Kind) {
		if err != nil && !slices.Contains(allowed, errs.KindOf(err)) {
			t.Error(err)
		}
	}
	switch n := rnd.IntN(40); {
	case n < 12:
		read()
	case n == 12:
		state, err := f.Cancel(ctx, flow, "stopped")
		ok(err)
		say(after, last(), "cancelled: "+state.String(), func(m moment) bool { return m.flow == state && state.Ended() })
	case runner == registry.External:
		apply(0)
	case n < 16:
		_, err := f.Retry(ctx, flow, nil)
		ok(err, errs.Conflict)
	case n < 22:
		_, err := f.Claim(ctx, "holder")
		ok(err)
	case n < 24:
		if r := read(); r != nil {
			ok(f.Release(ctx, flow, r.Attempt, nil))
		}
	case n < 26:
		apply(0) // from outside, which changes nothing
	default:
		if r := read(); r != nil {
			apply(r.Attempt)
		}
	}
}

// restart opens the registry with other options.
func (f *fixture) restart(o registry.Options) {
	f.t.Helper()
	var err error
	if f.Store, err = registry.Open(f.t.Context(), f.db, o); err != nil {
		f.t.Fatal(err)
	}
}

// What was acknowledged is seen by every read that begins later, "latest" and
// "successful" never go back, and the numbers of 100 pushes that race are dense, each
// with its own spec.
func TestLatestAndSuccessful(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		const pushes = 100
		var mu sync.Mutex
		var made, succeeded int64 // the highest acknowledged
		specs := map[int64]string{}
		note := func(p *int64, n int64) {
			mu.Lock()
			defer mu.Unlock()
			*p = max(*p, n)
		}
		acknowledged := func() (int64, int64) {
			mu.Lock()
			defer mu.Unlock()
			return made, succeeded
		}
		var writers, readers sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for range 4 {
			readers.Go(func() {
				var latest, successful int64
				for ctx.Err() == nil {
					leastMade, leastSucceeded := acknowledged()
					for which, last := range map[string]*int64{"latest": &latest, "successful": &successful} {
						r, err := f.Revision(t.Context(), "me/data", which, registry.Whole)
						least := map[string]int64{"latest": leastMade, "successful": leastSucceeded}[which]
						switch {
						case errs.Is(err, errs.NotFound) && least == 0 && *last == 0:
						case err != nil:
							t.Errorf("%s: %v", which, err)
							return
						case r.Number < least || r.Number < *last:
							t.Errorf("%s is %d after %d was acknowledged and %d seen", which, r.Number, least, *last)
							return
						case which == "successful" && r.State != registry.Succeeded:
							t.Errorf("%s is %s", r.ID, r.State)
							return
						default:
							*last = r.Number
						}
					}
				}
			})
		}
		slots := make(chan struct{}, 20)
		for i := range pushes {
			writers.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				n := push("me/data", registry.External)
				n.Spec = json.RawMessage(fmt.Sprintf(`{"push":%d}`, i))
				r, err := f.CreateRevision(t.Context(), n)
				if err != nil {
					t.Error(err)
					return
				}
				note(&made, r.Number)
				mu.Lock()
				specs[r.Number] = string(n.Spec)
				mu.Unlock()
				if i%2 == 0 {
					return
				}
				for _, p := range r.Pipelines {
					if _, err := f.Apply(t.Context(), registry.Event{Pipeline: p.ID, Kind: registry.KindFinish, Success: true}); err != nil {
						t.Error(err)
						return
					}
				}
				note(&succeeded, r.Number)
			})
		}
		writers.Wait()
		cancel()
		readers.Wait()
		for number := int64(1); number <= pushes; number++ {
			r, err := f.Revision(t.Context(), "me/data", fmt.Sprint(number), registry.Whole)
			if err != nil || string(r.Spec) != specs[number] {
				t.Fatalf("revision %d: %+v, %v; want %s", number, r, err, specs[number])
			}
		}
	})
}

// The whole table of transitions: what an event makes of a pipeline, and what the flow
// is then.
func TestTransitions(t *testing.T) {
	t.Parallel()
	const (
		start, finish, fail = "start", "finish", "fail"
	)
	each(t, func(t *testing.T, f *fixture) {
		for _, c := range []struct {
			before string // of the pipeline a, that nobody waits for
			event  string
			after  registry.State
		}{
			{"", "queue", registry.Queued},
			{"", start, registry.Running},
			{"", "progress", registry.Running},
			{"", finish, registry.Succeeded},
			{"", fail, registry.Failed},
			{start, "queue", registry.Running},
			{start, start, registry.Running},
			{start, "progress", registry.Running},
			{start, finish, registry.Succeeded},
			{start, fail, registry.Failed},
			{finish, "queue", registry.Succeeded},
			{finish, start, registry.Succeeded},
			{finish, "progress", registry.Succeeded},
			{finish, finish, registry.Succeeded},
			{finish, fail, registry.Succeeded},
			{fail, "queue", registry.Failed},
			{fail, start, registry.Failed},
			{fail, "progress", registry.Failed},
			{fail, finish, registry.Failed},
			{fail, fail, registry.Failed},
			{"cancel", "queue", registry.Cancelled},
			{"cancel", start, registry.Cancelled},
			{"cancel", "progress", registry.Cancelled},
			{"cancel", finish, registry.Cancelled},
			{"cancel", fail, registry.Cancelled},
		} {
			// The other pipeline ends in each of the ways there are, or not at all.
			for _, other := range []string{"", start, finish, fail} {
				if c.before == "cancel" && other != finish && other != fail {
					continue // both are cancelled then
				}
				n := push("me/data", registry.External)
				n.Plan = func(number int64, _ time.Time, _ bool) ([]registry.PlannedPipeline, error) {
					flow := fmt.Sprintf("me/data/%d", number)
					return []registry.PlannedPipeline{{ID: flow + "/a"}, {ID: flow + "/b"}}, nil
				}
				r, err := f.CreateRevision(t.Context(), n)
				if err != nil {
					t.Fatal(err)
				}
				do := func(name, event string) (a registry.Applied) {
					switch event {
					case "":
					case "cancel":
						if _, err := f.Cancel(t.Context(), r.ID, "stopped"); err != nil {
							t.Fatal(err)
						}
					case fail:
						a = f.apply(registry.Event{Pipeline: r.ID + "/" + name, Kind: registry.KindFinish, Errors: []string{"x"}})
					default:
						a = f.apply(registry.Event{Pipeline: r.ID + "/" + name, Kind: registry.Kind(event), Success: true})
					}
					return a
				}
				do("b", other)
				do("a", c.before)
				a := do("a", c.event)
				b := map[string]registry.State{"": registry.Queued, start: registry.Running, finish: registry.Succeeded, fail: registry.Failed}[other]
				want := flowState(map[string]registry.State{"a": c.after, "b": b})
				name := fmt.Sprintf("%q then %q beside %q", c.before, c.event, other)
				if a.State != c.after || a.FlowState != want {
					t.Errorf("%s: %+v, want %s and %s", name, a, c.after, want)
				}
				if got := f.flow(r.ID); got.State != want || got.Pipelines[0].State != c.after || got.Pipelines[1].State != b {
					t.Errorf("%s: read %s %s", name, got.State, states(got))
				}
			}
		}
	})
}
