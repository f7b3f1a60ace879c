package service_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// scheduled is a spec with a schedule.
func scheduled(dataset, address, schedule string) []byte {
	return []byte(strings.Replace(string(spec(dataset, address)), "{", `{"schedule":`+schedule+`,`, 1))
}

// clock sets the service's time.
func (f *fixture) clock(at time.Time) { f.Now = func() time.Time { return at } }

func (f *fixture) look() {
	f.Helper()
	if err := f.RunSchedules(f.Context()); err != nil {
		f.Error(err)
	}
}

func (f *fixture) schedule(dataset string) (revisions int, s *registry.Schedule) {
	f.Helper()
	list, s, err := f.Revisions(f.Context(), f.token, dataset, 0, 1000)
	if err != nil {
		f.Fatal(err)
	}
	return len(list), s
}

// TestSchedules: a dataset is made again when it is due, from the same spec, once whatever
// was missed; unchanged data make no new files.
func TestSchedules(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		begun := time.Now().UTC().Truncate(time.Second)
		f.clock(begun)
		address := f.file(small)
		if _, err := f.Upload(t.Context(), f.token, scheduled("data", address, `"every 1h"`), ""); err != nil {
			t.Fatal(err)
		}
		f.look()
		f.run()
		for i, c := range []struct {
			name      string
			at        time.Duration // since the push
			revisions int
			next      time.Duration
		}{
			{"before", 59 * time.Minute, 1, time.Hour},
			{"in time", time.Hour, 2, 2 * time.Hour},
			{"soon after", time.Hour + time.Minute, 2, 2 * time.Hour},
			{"after ten that were missed", 12*time.Hour + time.Minute, 3, 13 * time.Hour},
			{"the clock went back", 11 * time.Hour, 3, 13 * time.Hour},
			{"and forth", 14 * time.Hour, 4, 15 * time.Hour},
		} {
			f.clock(begun.Add(c.at))
			f.look()
			f.look()
			f.run()
			n, s := f.schedule("me/data")
			if n != c.revisions || !s.Next.Equal(begun.Add(c.next)) {
				t.Errorf("%d, %s: got %d revisions, next %s; want %d, %s", i, c.name, n, s.Next.Sub(begun), c.revisions, c.next)
			}
		}
		r := testkit.Must(f.Status(t.Context(), f.token, "me/data", "4"))(t)
		if r.State != registry.Succeeded || r.Cause != registry.CauseSchedule || string(r.Spec) != string(scheduled("data", address, `"every 1h"`)) {
			t.Errorf("got %s, %s: %q", r.State, r.Cause, r.Errors)
		}
		for _, p := range r.Pipelines {
			if p.Reused == "" && p.ID != r.ID {
				t.Errorf("%s was made anew of unchanged data", p.ID)
			}
		}
	})
}

// TestScheduleWaits: there are never two runs of a dataset at once.
func TestScheduleWaits(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		begun := time.Now().UTC().Truncate(time.Second)
		f.clock(begun)
		if _, err := f.Upload(t.Context(), f.token, scheduled("data", f.file(small), `"every 1m"`), ""); err != nil {
			t.Fatal(err)
		}
		f.clock(begun.Add(10 * time.Minute))
		f.look()
		if n, _ := f.schedule("me/data"); n != 1 {
			t.Fatalf("got %d revisions while the first is open, want 1", n)
		}
		f.run()
		f.look()
		if n, _ := f.schedule("me/data"); n != 2 {
			t.Fatalf("got %d revisions after its end, want 2", n)
		}
	})
}

// TestScheduleOfTwoServers: of servers that look at the same time one takes the time.
func TestScheduleOfTwoServers(t *testing.T) {
	t.Parallel()
	url := testkit.DB(t, sqldb.Postgres)
	servers := []*fixture{start(t, url), start(t, url)}
	begun := time.Now().UTC()
	for _, f := range servers {
		f.clock(begun)
	}
	if _, err := servers[0].Upload(t.Context(), servers[0].token, scheduled("data", "http://127.0.0.1:1/t.csv", `"every 1m"`), ""); err != nil {
		t.Fatal(err)
	}
	servers[0].run()
	for round := 1; round <= 5; round++ {
		var wg sync.WaitGroup
		for _, f := range servers {
			f.clock(begun.Add(time.Duration(round) * time.Minute))
			wg.Go(func() {
				for range 3 {
					f.look()
				}
			})
		}
		wg.Wait()
		if n, _ := servers[1].schedule("me/data"); n != round+1 {
			t.Fatalf("round %d: got %d revisions, want %d", round, n, round+1)
		}
		servers[1].run()
	}
	// Its source is not there: that was the fifth failure.
	_, s := servers[0].schedule("me/data")
	if s.Paused == "" || !s.Next.IsZero() || s.Failures != 5 {
		t.Errorf("got %+v, want it paused", s)
	}
	for _, f := range servers {
		f.clock(begun.Add(time.Hour))
		f.look()
	}
	if n, _ := servers[0].schedule("me/data"); n != 6 {
		t.Errorf("got %d revisions of a paused schedule, want 6", n)
	}
}

// TestScheduleRefused: a spec that cannot be run any more is a failure of the schedule of
// its dataset, and others go on.
func TestScheduleRefused(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		begun := time.Now().UTC()
		f.clock(begun)
		for _, name := range []string{"a-bad", "b-good"} {
			if _, err := f.Upload(t.Context(), f.token, scheduled(name, f.file(small), `"every 1m"`), ""); err != nil {
				t.Fatal(err)
			}
			f.run()
		}
		if err := f.DB.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE dataset_revision SET spec = $1 WHERE dataset_id = $2`, `{"meta":{"ownerid":"me"}}`, "me/a-bad")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		f.clock(begun.Add(time.Minute))
		f.look()
		f.run()
		n, s := f.schedule("me/a-bad")
		if n != 1 || s.Failures != 1 || s.LastDue.IsZero() || s.LastRevision != 0 || !s.Next.After(begun.Add(time.Minute)) {
			t.Errorf("got %d revisions, %+v; want a failure without a revision", n, s)
		}
		if n, s := f.schedule("me/b-good"); n != 2 || s.Failures != 0 || s.LastRevision != 2 {
			t.Errorf("got %d revisions, %+v; want a second one", n, s)
		}
	})
}
