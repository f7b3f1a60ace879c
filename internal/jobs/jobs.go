// Package jobs starts work in the background. It is the only package that knows
// River.
//
// A job is a ticket, not a flow: it says that there is one more flow to run, and a
// worker that gets it calls Run once, which claims the fairest flow, or none. So
// the order of tickets has no meaning, one too many does no harm, and who runs a
// flow is decided by the registry's lease alone.
//
// A ticket is added in the transaction that makes the work: the ticket exists if
// and only if that commits. River starts a ticket anew only where Run fails or
// panics, or 25 hours after its process was killed; the restart of interrupted
// flows is the registry's matter, which adds tickets of its own.
package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/datahq/specstore/internal/sqldb"
)

const (
	runTimeout  = 24 * time.Hour
	rescueAfter = 25 * time.Hour
	keepFor     = time.Hour // of tickets that are done
	// A ticket of this process is fetched when [Queue.Wake] says so. The poll is
	// for what was left over.
	fetchCooldown = 2 * time.Millisecond
	fetchPoll     = time.Second
	// How long it may take to record what ran, when the queue is stopped the hard way.
	recordTime = 2 * time.Second
)

// Config is what a queue needs.
type Config struct {
	// Workers is how many tickets run at once in this process; at least 1.
	Workers int
	// Run claims a flow and runs it; where there is none it returns nil at once. Its
	// context ends when the queue is stopped the hard way. An error means that it
	// could not do its work, and the ticket is tried again later; a flow that failed
	// is no error.
	Run func(context.Context) error
	// Log gets River's warnings; nil drops them.
	Log *slog.Logger
}

// Queue adds and runs tickets.
type Queue struct {
	client client
	log    *slog.Logger
	runs   *sync.WaitGroup
	insert func(context.Context, sqldb.Tx) error
	wake   func()
}

// client is what is asked of River whatever its transactions are.
type client interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	StopAndCancel(ctx context.Context) error
}

type ticket struct{}

// Kind names tickets in River's tables.
func (ticket) Kind() string { return "run" }

type worker struct {
	river.WorkerDefaults[ticket]
	run  func(context.Context) error
	runs sync.WaitGroup
}

func (w *worker) Work(ctx context.Context, _ *river.Job[ticket]) error {
	w.runs.Add(1)
	defer w.runs.Done()
	return w.run(ctx)
}

func (w *worker) Timeout(*river.Job[ticket]) time.Duration { return runTimeout }

// driver is River's for SQLite with notifications that stay in this process, the only
// one there is. River's own are a table that each ticket writes to and that is read
// every 50 ms, which costs an idle server more than all else.
type driver struct {
	*riversqlite.Driver
	told chan struct{} // that there are new tickets; what is told again meanwhile is one
}

// SupportsListenNotify keeps River from its table.
func (driver) SupportsListenNotify() bool { return false }

// GetListener gives the one that [Queue.Wake] tells.
func (d driver) GetListener(*riverdriver.GetListenenerParams) riverdriver.Listener {
	return listener{d.told}
}

// listener hears of tickets.
type listener struct{ told <-chan struct{} }

// Close implements [riverdriver.Listener], as do all that do nothing.
func (listener) Close(context.Context) error            { return nil }
func (listener) Connect(context.Context) error          { return nil }
func (listener) Listen(context.Context, string) error   { return nil }
func (listener) Ping(context.Context) error             { return nil }
func (listener) Schema() string                         { return "" }
func (listener) SetAfterConnectExec(string)             {}
func (listener) Unlisten(context.Context, string) error { return nil }

// WaitForNotification implements [riverdriver.Listener]. Topic and payload are those of
// River's insertions.
func (l listener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.told:
		return &riverdriver.Notification{Topic: "river_insert", Payload: `{"queue": "` + river.QueueDefault + `"}`}, nil
	}
}

// postgres is River's driver for PostgreSQL, which receives notifications on connections
// that may be silent.
type postgres struct {
	*riverpgxv5.Driver
	listeners *riverpgxv5.Driver
}

// GetListener implements [riverdriver.Driver].
func (d postgres) GetListener(p *riverdriver.GetListenenerParams) riverdriver.Listener {
	return d.listeners.GetListener(p)
}

// New brings River's tables up to date and makes a queue. It starts nothing.
func New(ctx context.Context, db *sqldb.DB, c Config) (*Queue, error) {
	const op = "jobs.New"
	if c.Workers < 1 || c.Run == nil {
		return nil, errors.New(op + ": at least one worker, and what it runs, are needed")
	}
	log := slog.New(slog.DiscardHandler)
	if c.Log != nil {
		log = slog.New(warnings{c.Log.Handler()})
	}
	workers := river.NewWorkers()
	w := &worker{run: c.Run}
	if err := river.AddWorkerSafely(workers, w); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	config := &river.Config{
		CompletedJobRetentionPeriod: keepFor,
		FetchCooldown:               fetchCooldown,
		FetchPollInterval:           fetchPoll,
		JobTimeout:                  runTimeout,
		RescueStuckJobsAfter:        rescueAfter,
		Logger:                      log,
		Queues:                      map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: c.Workers}},
		Workers:                     workers,
	}
	if err := Migrate(ctx, db); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	q := &Queue{log: log, runs: &w.runs}
	var err error
	if db.Dialect() == sqldb.SQLite {
		err = q.onSQLite(db, config)
	} else {
		err = q.onPostgres(db, config)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return q, nil
}

func (q *Queue) onSQLite(db *sqldb.DB, config *river.Config) error {
	told := make(chan struct{}, 1)
	c, err := river.NewClient[*sql.Tx](driver{riversqlite.New(db.SQL()), told}, config)
	if err != nil {
		return err
	}
	q.client = c
	q.insert = func(ctx context.Context, tx sqldb.Tx) error {
		t, ok := tx.(sqldb.SQLTx)
		if !ok {
			return fmt.Errorf("a transaction of another kind: %T", tx)
		}
		_, err := c.InsertTx(ctx, t.Raw(), ticket{}, nil)
		return err
	}
	q.wake = func() {
		select {
		case told <- struct{}{}:
		default:
		}
	}
	return nil
}

func (q *Queue) onPostgres(db *sqldb.DB, config *river.Config) error {
	c, err := river.NewClient[pgx.Tx](postgres{riverpgxv5.New(db.Pool()), riverpgxv5.New(db.Listeners())}, config)
	if err != nil {
		return err
	}
	q.client = c
	q.insert = func(ctx context.Context, tx sqldb.Tx) error {
		t, ok := tx.(sqldb.PgxTx)
		if !ok {
			return fmt.Errorf("a transaction of another kind: %T", tx)
		}
		_, err := c.InsertTx(ctx, t.Raw(), ticket{}, nil)
		return err
	}
	q.wake = func() {} // River's notification comes with the commit
	return nil
}

// Migrate brings River's tables up to date. Several processes may do so at once.
func Migrate(ctx context.Context, db *sqldb.DB) error {
	return db.Alone(ctx, "migrate", func(ctx context.Context) error {
		var err error
		if db.Dialect() == sqldb.SQLite {
			err = migrateTo(ctx, riversqlite.New(db.SQL()))
		} else {
			err = migrateTo(ctx, riverpgxv5.New(db.Pool()))
		}
		if err != nil {
			return fmt.Errorf("jobs.Migrate: %w", err)
		}
		return nil
	})
}

func migrateTo[T any](ctx context.Context, d riverdriver.Driver[T]) error {
	// River tells of each step; that they are done is all that matters.
	migrator, err := rivermigrate.New(d, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// Enqueue adds a ticket in a transaction.
func (q *Queue) Enqueue(ctx context.Context, tx sqldb.Tx) error {
	if err := q.insert(ctx, tx); err != nil {
		return fmt.Errorf("jobs.Enqueue: %w", err)
	}
	return nil
}

// Wake makes the workers look for tickets now; it is for after the commit of what
// [Queue.Enqueue] was part of. Nothing is lost where it fails: the ticket is found a
// second later.
func (q *Queue) Wake() { q.wake() }

// Start lets the workers take tickets until [Queue.Stop]; the end of ctx does not
// stop them.
func (q *Queue) Start(ctx context.Context) error {
	if err := q.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("jobs.Start: %w", err)
	}
	return nil
}

// Stop takes no more tickets and waits for those that run. When ctx ends first it
// ends their contexts, and waits for them all the same: after Stop nothing runs. That they
// are done may then be unrecorded, where the database does not answer: a ticket more than
// there are flows does no harm.
func (q *Queue) Stop(ctx context.Context) error {
	err := q.client.Stop(ctx)
	if err == nil {
		return nil
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	hard := q.client.StopAndCancel(last)
	q.runs.Wait()
	if last.Err() != nil {
		q.log.WarnContext(ctx, "the tickets of the last runs stay open: the database does not answer")
		return nil
	}
	if hard != nil {
		return fmt.Errorf("jobs.Stop: %w", hard)
	}
	if errors.Is(err, ctx.Err()) {
		return nil
	}
	return fmt.Errorf("jobs.Stop: %w", err)
}

// warnings drops what is less than a warning.
type warnings struct{ slog.Handler }

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{h.Handler.WithAttrs(attrs)}
}

func (h warnings) WithGroup(name string) slog.Handler { return warnings{h.Handler.WithGroup(name)} }
