package registry_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/sqldb"
)

// reaper is one of a process whose clock the test moves.
type reaper struct {
	*registry.Reaper
	f       *fixture
	now     time.Time
	tickets int
}

func (f *fixture) reaper() *reaper {
	r := &reaper{f: f, now: time.Now()}
	r.Reaper = f.NewReaper(func(context.Context, sqldb.Tx) error { r.tickets++; return nil })
	return r
}

// look moves the clock and looks.
func (r *reaper) look(d time.Duration) []string {
	r.f.t.Helper()
	r.now = r.now.Add(d)
	taken, err := r.Look(r.f.t.Context(), r.now)
	if err != nil {
		r.f.t.Fatal(err)
	}
	return taken
}

// A run whose beats do not come is taken over once, however many reapers there are,
// and can write no more; what it had done is kept.
func TestReaper(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.Embedded).ID
		c := f.claim()
		f.apply(registry.Event{Pipeline: id + "/a", Kind: registry.KindFinish, Success: true, Attempt: c.Attempt})
		f.apply(registry.Event{Pipeline: id + "/b", Kind: registry.KindStart, Attempt: c.Attempt})
		one, two := f.reaper(), f.reaper()
		for range 10 { // it beats
			if ok, err := f.Beat(t.Context(), id, c.Attempt, nil); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if taken := slices.Concat(one.look(registry.LookEvery), two.look(registry.LookEvery)); len(taken) > 0 {
				t.Fatalf("took %v", taken)
			}
		}
		for range 3 {
			if taken := slices.Concat(one.look(registry.LookEvery), two.look(registry.LookEvery)); len(taken) > 0 {
				t.Fatalf("took %v too soon", taken)
			}
		}
		if a, b := one.look(registry.LookEvery), two.look(registry.LookEvery); len(a) != 1 || a[0] != id || len(b) != 0 || one.tickets != 1 || two.tickets != 0 {
			t.Errorf("took %v and %v, %d and %d tickets", a, b, one.tickets, two.tickets)
		}
		r := f.want(id, registry.Running, "spppp")
		if r.Attempt != c.Attempt+1 || r.Restarts != 1 {
			t.Errorf("attempt %d, %d restarts", r.Attempt, r.Restarts)
		}
		// The run that was stopped goes on.
		if ok, err := f.Beat(t.Context(), id, c.Attempt, nil); ok || err != nil {
			t.Errorf("beat: %v, %v", ok, err)
		}
		if _, err := f.Apply(t.Context(), registry.Event{Pipeline: id + "/b", Kind: registry.KindFinish, Success: true, Attempt: c.Attempt}); !errs.Is(err, errs.Conflict) {
			t.Errorf("a late write: %v", err)
		}
		if again := f.claim(); again == nil || again.FlowID != id || again.Restarts != 1 {
			t.Errorf("claimed %+v", again)
		}
	})
}

// A reaper whose process stood still, or could not read, does not know what it did
// not see.
func TestReaperStoodStill(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		id := f.push("me/data", registry.Embedded).ID
		f.claim()
		r := f.reaper()
		if taken := slices.Concat(r.look(0), r.look(time.Hour)); len(taken) > 0 {
			t.Errorf("took %v", taken)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Look(gone, r.now); err == nil {
			t.Error("it read nothing and said nothing")
		}
		if taken := slices.Concat(r.look(7*time.Second), r.look(2*time.Second)); len(taken) > 0 {
			t.Errorf("took %v", taken)
		}
		if taken := slices.Concat(r.look(2*time.Second), r.look(2*time.Second)); len(taken) != 1 || taken[0] != id {
			t.Errorf("took %v", taken)
		}
	})
}

// A flow that waits gets another ticket after a while, and rarely.
func TestReaperLostTicket(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		r := f.reaper()
		r.look(0)
		f.push("me/data", registry.Embedded)
		f.push("me/outside", registry.External)
		for range 6 * 60 / 2 {
			if taken := r.look(registry.LookEvery); len(taken) > 0 {
				t.Fatalf("took %v", taken)
			}
		}
		if r.tickets < 1 || r.tickets > 6 {
			t.Errorf("%d tickets in six minutes", r.tickets)
		}
		f.claim()
		before := r.tickets
		for range 3 {
			r.look(registry.LookEvery)
		}
		if r.tickets != before {
			t.Errorf("a ticket for a flow that is held")
		}
	})
}

// A watcher in one process hears of what another one does.
func TestWatchAcross(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		there := f
		if f.db.Dialect() == sqldb.Postgres { // on SQLite there is one process
			there = open(t, f.url)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { f.Listen(ctx); close(ended) }()
		defer func() { cancel(); <-ended }()
		id := f.push("me/data", registry.External).ID
		changes, stop := f.Watch(id)
		defer stop()
		there.apply(registry.Event{Pipeline: id + "/a", Kind: registry.KindFinish, Success: true})
		deadline := time.After(time.Minute)
		for {
			select {
			case <-changes:
			case <-deadline:
				t.Fatal("nothing is heard")
			}
			if r := f.flow(id); r.State == registry.Running {
				return
			}
		}
	})
}
