// Package sqldb opens the service's database and runs its transactions.
//
// SQL is written once, for SQLite and PostgreSQL: $1 placeholders, RETURNING, ON
// CONFLICT; times are BIGINT microseconds UTC (see [Micros] and [Time]); a row is
// locked by an UPDATE that changes nothing and returns it. What differs between
// databases stays in this package and in the migrations.
//
// Two things always hold. What [DB.Tx] has committed survives the end of the
// process and of the power. And one process alone serves a SQLite file: it holds a
// lock on a file beside it until [DB.Close].
//
// On SQLite there is one connection that writes, so transactions that write follow
// each other, and several that read: readers see the last commit, wait for nobody
// and nobody waits for them.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/datahq/specstore/internal/errs"
)

// ErrNoRows is what [Row.Scan] fails with where a query gives no row.
var ErrNoRows = sql.ErrNoRows

// Dialect is a database's kind, and the name of the folder of its migrations.
type Dialect string

// SQLite is the embedded database.
const SQLite Dialect = "sqlite"

// Config says which database to open.
type Config struct {
	// URL is in SQLAlchemy syntax: sqlite:///relative/path, sqlite:////absolute/path.
	URL string
	// Readers is how many reads may go on at once; 0 is 8.
	Readers int
}

// DB is an open database. It may be used from several goroutines.
type DB struct {
	write, read *sql.DB
	lock        *os.File
	path        string
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
	// Exec gives the number of rows that it changed.
	Exec(ctx context.Context, query string, args ...any) (int64, error)
	Query(ctx context.Context, query string, args ...any) (Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) Row
}

// SQLTx is the [Tx] of SQLite.
type SQLTx struct{ tx *sql.Tx }

// Raw is the transaction beneath, for River, which adds its jobs in it.
func (t SQLTx) Raw() *sql.Tx { return t.tx }

// Exec implements [Tx].
func (t SQLTx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Query implements [Tx].
func (t SQLTx) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	rows, err := t.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return sqlRows{rows}, nil
}

// QueryRow implements [Tx].
func (t SQLTx) QueryRow(ctx context.Context, query string, args ...any) Row {
	return t.tx.QueryRowContext(ctx, query, args...)
}

type sqlRows struct{ *sql.Rows }

// Close drops the error, which Err has told.
func (r sqlRows) Close() { _ = r.Rows.Close() }

// Open opens a database, and makes it where there is none. It fails with Invalid
// for a URL that is not understood and with Conflict where another process serves
// the file.
func Open(ctx context.Context, c Config) (*DB, error) {
	const op = "sqldb.Open"
	path, err := sqlitePath(c.URL)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, errs.Wrap(err, errs.Invalid, op, "DATABASE_URL: the folder of the database cannot be made")
	}
	db := &DB{path: path}
	if db.lock, err = lockFile(path + ".lock"); err != nil {
		return nil, err
	}
	readers := c.Readers
	if readers <= 0 {
		readers = 8
	}
	// In WAL mode synchronous=FULL syncs the log at each commit. The writer takes
	// its lock at BEGIN, so that no transaction fails in the middle of its work.
	if db.write, err = openPool(ctx, path, 1, "immediate", "journal_mode(WAL)", "synchronous(FULL)"); err == nil {
		db.read, err = openPool(ctx, path, readers, "deferred", "query_only(1)")
	}
	if err != nil {
		_ = db.Close()
		return nil, errs.Wrap(err, errs.Unavailable, op, "the database cannot be opened")
	}
	return db, nil
}

func openPool(ctx context.Context, path string, size int, lock string, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_txlock": {lock}, "_pragma": append([]string{"busy_timeout(5000)", "foreign_keys(1)"}, pragmas...)}
	name := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	pool, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(size)
	pool.SetMaxIdleConns(size)
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return pool, nil
}

// sqlitePath is the file that a URL names. As in SQLAlchemy nothing in it is
// percent-decoded.
func sqlitePath(raw string) (string, error) {
	const op = "sqldb.Open"
	scheme, rest, ok := strings.Cut(raw, "://")
	switch base, _, _ := strings.Cut(scheme, "+"); {
	case !ok:
		return "", errs.New(errs.Invalid, op, "DATABASE_URL: not a URL; write sqlite:///relative/path or sqlite:////absolute/path")
	case base != "sqlite":
		// The scheme alone is shown: the rest may hold a password.
		return "", errs.New(errs.Invalid, op, "DATABASE_URL: databases of the kind %q are not supported; write sqlite:///relative/path or sqlite:////absolute/path", scheme)
	}
	path, ok := strings.CutPrefix(rest, "/")
	switch {
	case !ok && rest != "":
		return "", errs.New(errs.Invalid, op, "DATABASE_URL: sqlite has no host; write three slashes before a relative path and four before an absolute one")
	case path == "" || path == ":memory:":
		return "", errs.New(errs.Invalid, op, "DATABASE_URL: a database in memory would be lost; name a file: sqlite:///specstore.db")
	case strings.ContainsAny(path, "?\x00"):
		return "", errs.New(errs.Invalid, op, "DATABASE_URL: options after ? are not supported for sqlite")
	}
	return path, nil
}

// Dialect is the database's kind.
func (db *DB) Dialect() Dialect { return SQLite }

// Single reports whether this process alone serves the database.
func (db *DB) Single() bool { return true }

// SQL is the connection that writes, for River.
func (db *DB) SQL() *sql.DB { return db.write }

type inTx struct{ db *DB }

// Tx runs fn in a transaction that may write: it commits where fn returns nil, and
// else, or where fn panics, leaves nothing behind. fn must use the context that it
// is given. A transaction inside a transaction is refused, since it would wait for
// the outer one for ever.
func (db *DB) Tx(ctx context.Context, fn func(context.Context, Tx) error) error {
	if ctx.Value(inTx{db}) != nil {
		return errors.New("sqldb.Tx: a transaction inside a transaction")
	}
	return run(context.WithValue(ctx, inTx{db}, true), db.write, fn)
}

// Read runs fn in a transaction that sees one state of the database and cannot
// write. It takes no lock.
func (db *DB) Read(ctx context.Context, fn func(context.Context, Tx) error) error {
	return run(ctx, db.read, fn)
}

func run(ctx context.Context, pool *sql.DB, fn func(context.Context, Tx) error) error {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("sqldb: begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if err := fn(ctx, SQLTx{tx}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("sqldb: commit: %w", err)
	}
	return nil
}

// Close closes the database and lets another process serve it. It waits for the
// transactions that run.
func (db *DB) Close() error {
	var list []error
	for _, pool := range []*sql.DB{db.read, db.write} {
		if pool != nil {
			list = append(list, pool.Close())
		}
	}
	if db.lock == nil { // one that only reads
		return errors.Join(list...)
	}
	// The lock goes last, and with it only the right to serve: the file stays, since
	// taking it away could let two processes hold a lock on two files of one name.
	return errors.Join(append(list, db.lock.Close())...)
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
