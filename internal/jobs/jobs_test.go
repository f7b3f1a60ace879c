package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/jobs"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { testkit.Main(m) }

func open(t *testing.T, url string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func queue(t *testing.T, db *sqldb.DB, workers int, run func(context.Context) error) *jobs.Queue {
	t.Helper()
	q, err := jobs.New(t.Context(), db, jobs.Config{Workers: workers, Run: run})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func start(t *testing.T, q *jobs.Queue) {
	t.Helper()
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func enqueue(t *testing.T, db *sqldb.DB, q *jobs.Queue, after error) {
	t.Helper()
	if err := db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
		if err := q.Enqueue(ctx, tx); err != nil {
			return err
		}
		return after
	}); !errors.Is(err, after) {
		t.Fatal(err)
	}
}

func wait(t *testing.T, c <-chan time.Time) time.Time {
	t.Helper()
	select {
	case at := <-c:
		return at
	case <-time.After(patience):
		t.Fatal("no ticket was run")
		return time.Time{}
	}
}

func TestCommitAndRollback(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		db := open(t, url)
		ran := make(chan time.Time, 100)
		run := func(context.Context) error { ran <- time.Now(); return nil }
		q := queue(t, db, 2, run)
		enqueue(t, db, q, errors.New("refused"))
		enqueue(t, db, q, nil)
		// What was committed is there after the process has gone.
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = open(t, url)
		q = queue(t, db, 2, run)
		start(t, q)
		wait(t, ran)
		enqueue(t, db, q, errors.New("refused"))
		enqueue(t, db, q, nil)
		wait(t, ran)
		time.Sleep(300 * time.Millisecond)
		if len(ran) != 0 {
			t.Errorf("%d tickets were run that were never committed, or twice", len(ran))
		}
		var n int
		if err := db.Read(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			return tx.QueryRow(ctx, `SELECT COUNT(*) FROM river_job`).Scan(&n)
		}); err != nil || n != 2 {
			t.Errorf("%d tickets, %v", n, err)
		}
	})
}

// BenchmarkWake takes the time from a commit to the run.
func BenchmarkWake(b *testing.B) {
	db, err := sqldb.Open(b.Context(), sqldb.Config{URL: testkit.DB(b, sqldb.SQLite)})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	ran := make(chan struct{}, 2)
	q, err := jobs.New(b.Context(), db, jobs.Config{Workers: 2, Run: func(context.Context) error { ran <- struct{}{}; return nil }})
	if err != nil {
		b.Fatal(err)
	}
	if err := q.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := db.Tx(b.Context(), q.Enqueue); err != nil {
			b.Fatal(err)
		}
		q.Wake()
		<-ran
		<-ran // the ticket that woke the workers
	}
	if err := q.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
}

func TestWorkers(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		db := open(t, url)
		var now, most atomic.Int64
		ran := make(chan time.Time, 100)
		q := queue(t, db, 2, func(context.Context) error {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(100 * time.Millisecond)
			now.Add(-1)
			ran <- time.Now()
			return nil
		})
		for range 6 {
			enqueue(t, db, q, nil)
		}
		start(t, q)
		for range 6 {
			wait(t, ran)
		}
		if most.Load() != 2 {
			t.Errorf("%d of 2 workers ran at once", most.Load())
		}
	})
}

// A run that fails or panics is tried again, and the log tells of it and of
// nothing less.
func TestAgain(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		db := open(t, url)
		var log bytes.Buffer // slog's handlers write one at a time
		ran := make(chan time.Time, 10)
		var runs atomic.Int64
		q, err := jobs.New(t.Context(), db, jobs.Config{Workers: 2, Log: slog.New(slog.NewTextHandler(&log, nil)), Run: func(context.Context) error {
			switch runs.Add(1) {
			case 1:
				return errors.New("fault")
			case 2:
				panic("fault")
			}
			ran <- time.Now()
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		enqueue(t, db, q, nil)
		enqueue(t, db, q, nil)
		wait(t, ran)
		wait(t, ran)
		if err := q.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := log.String(); !strings.Contains(s, "fault") || strings.Contains(s, "level=INFO") {
			t.Errorf("the log is %s", s)
		}
	})
}

// Stop waits for what runs, and for a cancelled run to notice.
func TestStop(t *testing.T) {
	t.Parallel()
	for _, hard := range []bool{false, true} {
		testkit.EachDB(t, func(t *testing.T, url string) {
			t.Parallel()
			db := open(t, url)
			began := make(chan time.Time, 1)
			release := make(chan struct{})
			var ended, cancelled atomic.Bool
			q := queue(t, db, 1, func(ctx context.Context) error {
				began <- time.Now()
				select {
				case <-release:
				case <-ctx.Done():
					cancelled.Store(true)
					time.Sleep(50 * time.Millisecond)
				}
				ended.Store(true)
				return ctx.Err()
			})
			// The end of the context that Start gets is not the end of the work.
			ctx, cancel := context.WithCancel(t.Context())
			if err := q.Start(ctx); err != nil {
				t.Fatal(err)
			}
			cancel()
			enqueue(t, db, q, nil)
			wait(t, began)
			patient, cancel := context.WithTimeout(t.Context(), patience)
			if hard {
				patient, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
			} else {
				time.AfterFunc(50*time.Millisecond, func() { close(release) })
			}
			err := q.Stop(patient)
			cancel()
			if err != nil || !ended.Load() || cancelled.Load() != hard {
				t.Errorf("hard %v: ended %v, cancelled %v, %v", hard, ended.Load(), cancelled.Load(), err)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	db := open(t, testkit.DB(t, sqldb.SQLite))
	for _, c := range []jobs.Config{{}, {Workers: 1}, {Run: func(context.Context) error { return nil }}} {
		if _, err := jobs.New(t.Context(), db, c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

// TestQuietDatabase: a queue that receives nothing for longer than PostgreSQL may leave a
// statement unanswered has no failure to report, and receives the next ticket.
func TestQuietDatabase(t *testing.T) {
	t.Parallel()
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: testkit.DB(t, sqldb.Postgres), Answer: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	var said bytes.Buffer
	ran := make(chan time.Time, 1)
	q, err := jobs.New(t.Context(), db, jobs.Config{
		Workers: 1, Log: slog.New(slog.NewTextHandler(&said, nil)), Run: func(context.Context) error { ran <- time.Now(); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	enqueue(t, db, q, nil)
	wait(t, ran)
	if err := q.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	if strings.Contains(said.String(), "does not answer") {
		t.Errorf("the queue says\n%s", said.String())
	}
}
