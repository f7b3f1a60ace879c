// Package sqldb opens the service's database and runs its transactions.
//
// SQL is written once, for SQLite and PostgreSQL: $1 placeholders, RETURNING, ON
// CONFLICT; times are BIGINT microseconds UTC (see [Micros] and [Time]); a row is
// locked by an UPDATE that changes nothing and returns it. What differs between
// databases stays in this package and in the migrations.
//
// Statements are few round trips: on PostgreSQL a transaction begins with its first
// statement and commits with its last, and what is queued ([Tx].Queue) travels with
// what comes after it. Statements are prepared once for each connection.
//
// What [DB.Tx] has committed survives the end of the process and of the power.
//
// Nothing waits for long: a connection is waited for 5 seconds at most, and a PostgreSQL
// server that sends no byte of an answer to a statement for 4 seconds is not available
// (Unavailable). [Slow] makes that a minute, and [DB.Alone] lifts it while it runs.
//
// On SQLite one process alone serves a file: it holds a lock on a file beside it
// until [DB.Close]. There is one connection that writes, so transactions that write
// follow each other, and several that read: readers see the last commit, wait for
// nobody and nobody waits for them.
//
// On PostgreSQL any number of processes share a database. Transactions that write
// see what is committed when each of their statements begins (READ COMMITTED), so
// they lock the row that they depend on first; those that read see one state
// throughout.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/datahq/specstore/internal/errs"
)

// ErrNoRows is what [Row.Scan] fails with where a query gives no row.
var ErrNoRows = sql.ErrNoRows

// Dialect is a database's kind, and the name of the folder of its migrations.
type Dialect string

// The databases.
const (
	SQLite   Dialect = "sqlite"   // embedded
	Postgres Dialect = "postgres" // a PostgreSQL server, 13 or later
)

// Config says which database to open.
type Config struct {
	// URL is in SQLAlchemy syntax: sqlite:///relative/path, sqlite:////absolute/path,
	// postgresql://user:password@host:port/database with libpq's options after "?"; a
	// driver's name may follow the scheme, as in postgresql+psycopg2.
	URL string
	// Conns is how many connections there are at most (of SQLite: that read). 0 is 8
	// for SQLite, and 16 for PostgreSQL unless the URL has pool_max_conns.
	Conns int
	// Trace is told of each round trip, with the statements that it carries; on SQLite
	// each statement is one. It must not use the database. nil is nobody.
	Trace func(statements ...string)
	// Answer is how long PostgreSQL may leave a statement without an answer, and how long
	// a connection is waited for. 0 is 4 and 5 seconds.
	Answer time.Duration
}

// DB is an open database. It may be used from several goroutines.
type DB struct {
	lite *lite // one of the two
	pg   *pgxpool.Pool
	// Of PostgreSQL: connections that have no bound.
	listeners *pgxpool.Pool
	trace     func(statements ...string) // of PostgreSQL; may be nil
	wait      time.Duration              // for a connection, at most

	bounds *bounds // of PostgreSQL
}

// Rows are the rows of a query. Close may be called more than once.
type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close()
}

// Row is the first row of a query.
type Row interface {
	Scan(dest ...any) error // ErrNoRows where there is none
}

// Tx is a transaction. It ends with the function that it was given to.
type Tx interface {
	// Queue adds a statement that needs no answer now: it runs after those before it
	// and before those after it, at the latest at the commit, and on PostgreSQL it
	// travels with them. scan, which may be nil, is given its row then. What it fails
	// with, the next call or the commit fails with.
	Queue(ctx context.Context, scan func(Row) error, query string, args ...any)
	// Exec gives the number of rows that it changed.
	Exec(ctx context.Context, query string, args ...any) (int64, error)
	Query(ctx context.Context, query string, args ...any) (Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) Row
}

// dialectOf reads the scheme of a URL. Nothing but the scheme is ever shown: the
// rest may hold a password.
func dialectOf(raw string) (Dialect, error) {
	const op = "sqldb.Open"
	const known = "write sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host/database"
	scheme, _, ok := strings.Cut(raw, "://")
	if !ok {
		return "", errs.New(errs.Invalid, op, "DATABASE_URL: not a URL; "+known)
	}
	switch base, _, _ := strings.Cut(scheme, "+"); base {
	case "sqlite":
		return SQLite, nil
	case "postgresql", "postgres":
		return Postgres, nil
	}
	return "", errs.New(errs.Invalid, op, "DATABASE_URL: databases of the kind %q are not supported; "+known, scheme)
}

// Open opens a database. A SQLite file is made where there is none. It fails with
// Invalid for a URL that is not understood, with Conflict where another process
// serves the file, and with Unavailable where the server cannot be reached.
func Open(ctx context.Context, c Config) (*DB, error) {
	dialect, err := dialectOf(c.URL)
	switch {
	case err != nil:
		return nil, err
	case dialect == SQLite:
		return openSQLite(ctx, c)
	}
	return openPostgres(ctx, c)
}

// waitOf is how long a connection is waited for.
func (c Config) waitOf() time.Duration {
	if c.Answer > 0 {
		return c.Answer
	}
	return waitTime
}

// OpenReader opens a database that is there for reading alone, also while another
// process serves it. It fails as [Open] does, and with NotFound where there is no file.
func OpenReader(ctx context.Context, c Config) (*DB, error) {
	dialect, err := dialectOf(c.URL)
	switch {
	case err != nil:
		return nil, err
	case dialect == SQLite:
		return openSQLiteReader(ctx, c)
	}
	return openPostgres(ctx, c)
}

// Dialect is the database's kind.
func (db *DB) Dialect() Dialect {
	if db.pg != nil {
		return Postgres
	}
	return SQLite
}

// Single reports whether this process alone serves the database.
func (db *DB) Single() bool { return db.pg == nil }

// SQL is the connection that writes to SQLite, for River; nil for PostgreSQL.
func (db *DB) SQL() *sql.DB {
	if db.lite == nil {
		return nil
	}
	return db.lite.write
}

// Pool is the connections to PostgreSQL, for River; nil for SQLite.
func (db *DB) Pool() *pgxpool.Pool { return db.pg }

// Listeners is connections to PostgreSQL on which the server may be silent for long, for
// River's notifications; nil for SQLite. There are none but those that are asked for.
func (db *DB) Listeners() *pgxpool.Pool { return db.listeners }

type inTx struct{ db *DB }

// Tx runs fn in a transaction that may write: it commits where fn returns nil, and
// else, or where fn panics, leaves nothing behind. fn must use the context that it
// is given. On PostgreSQL fn is called again where another transaction came in
// between, so it must begin anew each time. A transaction inside a transaction is
// refused, since it would wait for the outer one for ever. What cannot be done now
// fails with Unavailable; where the answer to a commit was lost, [errs.ErrUncertain] is
// in the chain.
func (db *DB) Tx(ctx context.Context, fn func(context.Context, Tx) error) error {
	if ctx.Value(inTx{db}) != nil {
		return errors.New("sqldb.Tx: a transaction inside a transaction")
	}
	ctx = context.WithValue(ctx, inTx{db}, true)
	if db.pg != nil {
		return away(db.runPostgres(ctx, beginWrite, fn))
	}
	return away(db.lite.run(ctx, db.lite.write, fn))
}

// Read runs fn in a transaction that sees one state of the database and cannot
// write. It takes no lock.
func (db *DB) Read(ctx context.Context, fn func(context.Context, Tx) error) error {
	if db.pg != nil {
		return away(db.runPostgres(ctx, beginRead, fn))
	}
	return away(db.lite.run(ctx, db.lite.read, fn))
}

// Select runs one statement that reads, which sees one state of the database without
// a transaction, and calls each for its rows in turn.
func (db *DB) Select(ctx context.Context, each func(Row) error, query string, args ...any) error {
	if db.pg != nil {
		return away(db.selectPostgres(ctx, each, query, args...))
	}
	conn, err := db.lite.conn(ctx, db.lite.read)
	if err != nil {
		return away(err)
	}
	defer func() { _ = conn.Close() }() // it goes back to the pool
	rows, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return away(err)
	}
	defer func() { _ = rows.Close() }() // Err tells
	for rows.Next() {
		if err := each(rows); err != nil {
			return away(err)
		}
	}
	return away(rows.Err())
}

// away gives failures of the database that pass by themselves the kind Unavailable.
func away(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if _, ok := errors.AsType[*errs.Error](err); ok {
		return err
	}
	if sqliteFull(err) || postgresFull(err) {
		return errs.Wrap(errors.Join(errs.ErrFull, err), errs.Unavailable, "sqldb", "the disk of the database is full; try again later")
	}
	if sqliteAway(err) || postgresAway(err) {
		return errs.Wrap(err, errs.Unavailable, "sqldb", "the database is not available; try again later")
	}
	return fmt.Errorf("sqldb: %w", err)
}

// Alone runs fn while no other process that uses the database runs one of that name.
func (db *DB) Alone(ctx context.Context, name string, fn func(context.Context) error) error {
	if db.pg != nil {
		return db.alonePostgres(ctx, name, fn)
	}
	return fn(ctx) // the only process
}

// Notify tells every process that listens, when tx has committed. On SQLite there
// is only this one, and it does nothing.
func (db *DB) Notify(ctx context.Context, tx Tx, channel, payload string) {
	if db.pg == nil {
		return
	}
	tx.Queue(ctx, nil, `SELECT pg_notify($1, $2)`, channel, payload)
}

// Listen calls heard for what [DB.Notify] told until ctx ends; with an empty payload
// where something may have been missed, and twice a second where notifications do
// not come through. On SQLite it returns at once.
func (db *DB) Listen(ctx context.Context, channel string, heard func(payload string)) {
	if db.pg != nil {
		db.listenPostgres(ctx, channel, heard)
	}
}

// Close closes the database and lets another process serve it. It waits for the
// transactions that run, on PostgreSQL for a second.
func (db *DB) Close() error {
	if db.pg != nil {
		late := time.AfterFunc(closeTime, db.bounds.close)
		defer late.Stop()
		db.listeners.Close()
		db.pg.Close()
		return nil
	}
	return db.lite.close()
}

// Micros is a time as it is stored: microseconds since 1970 UTC; nil for the zero time.
func Micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// Time is the time that [Micros] stored; the zero time for NULL.
func Time(v sql.NullInt64) time.Time {
	if !v.Valid {
		return time.Time{}
	}
	return time.UnixMicro(v.Int64).UTC()
}
