package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/sqldb"
)

var (
	noon  = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	daily = json.RawMessage(`"every 1d"`)
)

// scheduled is a push with a schedule that is due at a time.
func scheduled(dataset string, at time.Time) registry.New {
	n := push(dataset, registry.Embedded)
	n.CreatedAt, n.Schedule, n.ScheduledFor = noon.Add(-24*time.Hour), daily, at
	return n
}

// due is a revision for a due time.
func due(dataset string, at, next time.Time) registry.New {
	n := push(dataset, registry.Embedded)
	n.CreatedAt, n.Due, n.ScheduledFor = at, at, next
	return n
}

func (f *fixture) schedule(dataset string) *registry.Schedule {
	f.t.Helper()
	s, err := f.Schedule(f.t.Context(), dataset)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// ended runs the last revision of a dataset to an end.
func (f *fixture) ended(flow string, success bool) {
	f.t.Helper()
	attempt := f.flow(flow).Attempt
	if !success {
		f.apply(registry.Event{Pipeline: flow + "/a", Kind: registry.KindFinish, Errors: []string{"the source is away"}, Attempt: attempt})
		return
	}
	for _, name := range []string{"/a", "/b", "/c", "/d", ""} {
		f.apply(registry.Event{Pipeline: flow + name, Kind: registry.KindFinish, Success: true, Attempt: attempt})
	}
}

func (f *fixture) due(at time.Time) []string {
	f.t.Helper()
	list, err := f.DueSchedules(f.t.Context(), at, 10)
	if err != nil {
		f.t.Fatal(err)
	}
	var names []string
	for _, d := range list {
		names = append(names, d.DatasetID+" "+d.At.Format("02T15"))
	}
	return names
}

// TestSchedule: a due time is taken once, not during a run, and what became of it is kept.
func TestSchedule(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		if _, err := f.CreateRevision(ctx, scheduled("me/data", noon)); err != nil {
			t.Fatal(err)
		}
		f.push("me/other", registry.Embedded) // has none
		if got := f.due(noon); got != nil {
			t.Errorf("got %q while the push runs, want nothing", got)
		}
		tomorrow := noon.Add(24 * time.Hour)
		if _, err := f.CreateRevision(ctx, due("me/data", noon, tomorrow)); !errors.Is(err, registry.ErrNotDue) {
			t.Errorf("got %v while the push runs, want ErrNotDue", err)
		}
		f.ended("me/data/1", true)
		if got := fmt.Sprint(f.due(noon.Add(-time.Second)), f.due(noon)); got != "[] [me/data 04T12]" {
			t.Errorf("got %s, want it due at noon", got)
		}
		r, err := f.CreateRevision(ctx, due("me/data", noon, tomorrow))
		if err != nil || r.ID != "me/data/2" || f.flow(r.ID).Cause != registry.CauseSchedule || f.flow("me/data/1").Cause != registry.CausePush {
			t.Fatalf("got %+v, %v", r, err)
		}
		if _, err := f.CreateRevision(ctx, due("me/data", noon, tomorrow)); !errors.Is(err, registry.ErrNotDue) {
			t.Errorf("got %v for a due time that was taken, want ErrNotDue", err)
		}
		if s := f.schedule("me/data"); !s.Next.Equal(tomorrow) || !s.LastDue.Equal(noon) || s.LastRevision != 2 || s.LastState != registry.Queued || string(s.Spec) != string(daily) {
			t.Errorf("got %+v", s)
		}
		f.ended("me/data/2", true)
		if s := f.schedule("me/data"); s.LastState != registry.Succeeded || s.Failures != 0 || s.Paused != "" {
			t.Errorf("got %+v", s)
		}
		if s := f.schedule("me/other"); s.Spec != nil || !s.Next.IsZero() {
			t.Errorf("got %+v, want no schedule", s)
		}
		if _, err := f.Schedule(ctx, "me/none"); !errs.Is(err, errs.NotFound) {
			t.Errorf("got %v, want NotFound", err)
		}
	})
}

// TestScheduleOfPush: a push keeps the rhythm of the schedule that it has again, and
// replaces or clears another one.
func TestScheduleOfPush(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		for i, c := range []struct {
			name     string
			schedule json.RawMessage
			at, want time.Time
		}{
			{"new", daily, noon, noon},
			{"the same again", daily, noon.Add(time.Hour), noon},
			{"another", json.RawMessage(`"every 2d"`), noon.Add(time.Hour), noon.Add(time.Hour)},
			{"none", nil, time.Time{}, time.Time{}},
			{"the first again", daily, noon.Add(2 * time.Hour), noon.Add(2 * time.Hour)},
		} {
			n := scheduled("me/data", c.at)
			n.Schedule = c.schedule
			if _, err := f.CreateRevision(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			f.ended(fmt.Sprintf("me/data/%d", i+1), true)
			if s := f.schedule("me/data"); !s.Next.Equal(c.want) || string(s.Spec) != string(c.schedule) {
				t.Errorf("%s: got %s, %s; want %s, %s", c.name, s.Next, s.Spec, c.want, c.schedule)
			}
		}
		// What was missed is not kept.
		n := scheduled("me/data", noon.Add(72*time.Hour))
		n.CreatedAt = noon.Add(48 * time.Hour)
		if _, err := f.CreateRevision(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if s := f.schedule("me/data"); !s.Next.Equal(n.ScheduledFor) {
			t.Errorf("got %s, want %s", s.Next, n.ScheduledFor)
		}
		if err := f.Delete(t.Context(), registry.Deletion{DatasetID: "me/data"}); err != nil {
			t.Fatal(err)
		}
		if got := f.due(noon.Add(1000 * time.Hour)); got != nil {
			t.Errorf("got %q of a deleted dataset, want nothing", got)
		}
	})
}

// TestSchedulePauses: after five failures in a row, of whatever kind, there are no more
// runs until the next push.
func TestSchedulePauses(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		if _, err := f.CreateRevision(ctx, scheduled("me/data", noon)); err != nil {
			t.Fatal(err)
		}
		f.ended("me/data/1", true)
		at, revision := noon, 1
		run := func(end string) {
			t.Helper()
			next := at.Add(24 * time.Hour)
			if end == "refused" {
				if _, err := f.ScheduleFailed(ctx, registry.Due{DatasetID: "me/data", At: at}, next, "the spec is refused"); err != nil {
					t.Fatal(err)
				}
				at = next
				return
			}
			r, err := f.CreateRevision(ctx, due("me/data", at, next))
			if err != nil {
				t.Fatal(err)
			}
			at, revision = next, revision+1
			switch end {
			case "cancelled":
				if _, err := f.Cancel(ctx, r.ID, "no"); err != nil {
					t.Fatal(err)
				}
			default:
				f.ended(r.ID, end == "good")
			}
		}
		for i, c := range []struct {
			end      string
			failures int64
			paused   bool
		}{
			{"bad", 1, false},
			{"refused", 2, false},
			{"cancelled", 2, false},
			{"bad", 3, false},
			{"good", 0, false},
			{"bad", 1, false},
			{"bad", 2, false},
			{"bad", 3, false},
			{"refused", 4, false},
			{"bad", 5, true},
		} {
			run(c.end)
			if s := f.schedule("me/data"); s.Failures != c.failures || (s.Paused != "") != c.paused || s.Next.IsZero() != c.paused || !c.paused && !s.Next.Equal(at) {
				t.Errorf("%d, %s: got %+v; want %d failures, paused %t", i, c.end, s, c.failures, c.paused)
			}
		}
		if s := f.schedule("me/data"); !strings.Contains(s.Paused, "5 scheduled runs in a row") || !strings.Contains(s.Paused, "the source is away") {
			t.Errorf("got %q, want the number and the last reason", s.Paused)
		}
		if got := f.due(noon.Add(1000 * time.Hour)); got != nil {
			t.Errorf("got %q while it is paused, want nothing", got)
		}
		if _, err := f.CreateRevision(ctx, due("me/data", at, at.Add(time.Hour))); !errors.Is(err, registry.ErrNotDue) {
			t.Errorf("got %v while it is paused, want ErrNotDue", err)
		}
		if _, err := f.CreateRevision(ctx, scheduled("me/data", noon)); err != nil {
			t.Fatal(err)
		}
		if s := f.schedule("me/data"); s.Failures != 0 || s.Paused != "" || !s.Next.Equal(noon) {
			t.Errorf("after a push: got %+v", s)
		}
	})
}

// TestScheduleRace: of many who see a due time one takes it.
func TestScheduleRace(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		if _, err := f.CreateRevision(t.Context(), scheduled("me/data", noon)); err != nil {
			t.Fatal(err)
		}
		f.ended("me/data/1", true)
		var made atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := f.CreateRevision(t.Context(), due("me/data", noon, noon.Add(24*time.Hour)))
				switch {
				case err == nil:
					made.Add(1)
				case !errors.Is(err, registry.ErrNotDue):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := made.Load(); n != 1 {
			t.Errorf("got %d revisions, want 1", n)
		}
	})
}

// TestAdoptSchedules: datasets of a database that was there before schedules were run get
// theirs from their specs.
func TestAdoptSchedules(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		specs := map[string]string{
			"every": `{"schedule": "every 1d"}`, "cron": `{"schedule": {"cron": "0 6 * * *", "timezone": "Europe/London"}}`,
			"none": `{}`, "null": `{"schedule": null}`, "odd": `{"schedule": "often"}`, "old": `{"schedule": "every 1d"}`,
		}
		for name, spec := range specs {
			n := push("me/"+name, registry.Embedded)
			n.Spec = json.RawMessage(spec)
			if _, err := f.CreateRevision(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		n := push("me/old", registry.Embedded)
		n.Spec = json.RawMessage(`{}`) // clears it
		if _, err := f.CreateRevision(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if err := f.db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			tx.Queue(ctx, nil, `UPDATE dataset SET schedule = NULL, scheduled_for = $1`, 1)
			return registry.AdoptSchedules(ctx, tx)
		}); err != nil {
			t.Fatal(err)
		}
		for name := range specs {
			s := f.schedule("me/" + name)
			want := name == "every" || name == "cron"
			if (s.Spec != nil) != want || s.Next.IsZero() == want || want && !s.Next.After(time.Now()) {
				t.Errorf("%s: got %+v, want a schedule: %t", name, s, want)
			}
		}
	})
}
