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

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/private"
)

// lite is a SQLite file: one connection that writes and several that read.
type lite struct {
	write, read *sql.DB
	lock        *os.File      // nil for a reader
	wait        time.Duration // for a connection, at most
}

// SQLTx is the [Tx] of SQLite.
type SQLTx struct{ *liteTx }

type liteTx struct {
	tx  *sql.Tx
	err error // of a statement that was queued
}

// Raw is the transaction beneath, for River, which adds its jobs in it.
func (t *liteTx) Raw() *sql.Tx { return t.tx }

// Queue implements [Tx]. Here a statement has nowhere to travel and runs at once.
func (t *liteTx) Queue(ctx context.Context, scan func(Row) error, query string, args ...any) {
	switch {
	case t.err != nil:
	case scan == nil:
		_, t.err = t.tx.ExecContext(ctx, query, args...)
	default:
		t.err = scan(t.tx.QueryRowContext(ctx, query, args...))
	}
}

// Exec implements [Tx].
func (t *liteTx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	if t.err != nil {
		return 0, t.err
	}
	res, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Query implements [Tx].
func (t *liteTx) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	if t.err != nil {
		return nil, t.err
	}
	rows, err := t.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return sqlRows{rows}, nil
}

// QueryRow implements [Tx].
func (t *liteTx) QueryRow(ctx context.Context, query string, args ...any) Row {
	if t.err != nil {
		return failed{t.err}
	}
	return t.tx.QueryRowContext(ctx, query, args...)
}

// failed is the row of a query that was not made.
type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }

type sqlRows struct{ *sql.Rows }

// Close drops the error, which Err has told.
func (r sqlRows) Close() { _ = r.Rows.Close() }

func openSQLite(ctx context.Context, c Config) (*DB, error) {
	const op = "sqldb.Open"
	path, err := sqlitePath(c.URL)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, errs.Wrap(err, errs.Invalid, op, "DATABASE_URL: the folder of the database cannot be made")
	}
	l := &lite{wait: c.waitOf()}
	if l.lock, err = lockFile(path + ".lock"); err != nil {
		return nil, err
	}
	if err := keepPrivate(path); err != nil {
		return nil, errors.Join(errs.Wrap(err, errs.Invalid, op, "DATABASE_URL: the database's file cannot be made, or is none"), l.close())
	}
	readers := c.Conns
	if readers <= 0 {
		readers = 8
	}
	// In WAL mode synchronous=FULL syncs the log at each commit. The writer takes
	// its lock at BEGIN, so that no transaction fails in the middle of its work.
	if l.write, err = openPool(ctx, path, 1, c.Trace, "immediate", "journal_mode(WAL)", "synchronous(FULL)"); err == nil {
		l.read, err = openPool(ctx, path, readers, c.Trace, "deferred", "query_only(1)")
	}
	if err != nil {
		_ = l.close()
		return nil, errs.Wrap(err, errs.Unavailable, op, "the database cannot be opened")
	}
	return &DB{lite: l}, nil
}

// keepPrivate makes the file of the database before SQLite does, and takes the rights of
// others off it: it holds the signing key. SQLite gives the files beside it its mode.
func keepPrivate(path string) error {
	f, err := private.Open(path)
	if err == nil {
		err = f.Close()
	}
	return errors.Join(err, private.Repair(path+"-wal", path+"-shm", path+"-journal"))
}

func openSQLiteReader(ctx context.Context, c Config) (*DB, error) {
	const op = "sqldb.OpenReader"
	path, err := sqlitePath(c.URL)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, errs.Wrap(err, errs.NotFound, op, "there is no database yet: start the server first")
	}
	l := &lite{wait: c.waitOf()}
	if l.read, err = openPool(ctx, path, 1, c.Trace, "deferred", "query_only(1)"); err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, op, "the database cannot be opened")
	}
	return &DB{lite: l}, nil
}

func openPool(ctx context.Context, path string, size int, trace func(...string), lock string, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_txlock": {lock}, "_pragma": append([]string{"busy_timeout(5000)", "foreign_keys(1)"}, pragmas...)}
	name := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	base, err := sqlite.NewConnector(name.String())
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(preparing{base, trace})
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
	_, rest, _ := strings.Cut(raw, "://")
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

// conn waits for a connection, for no longer than the bound.
func (l *lite) conn(ctx context.Context, pool *sql.DB) (*sql.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for a connection: %w", err)
	}
	return conn, nil
}

func (l *lite) run(ctx context.Context, pool *sql.DB, fn func(context.Context, Tx) error) error {
	conn, err := l.conn(ctx, pool)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it goes back to the pool
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	t := SQLTx{&liteTx{tx: tx}}
	if err := errors.Join(fn(ctx, t), t.err); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (l *lite) close() error {
	var list []error
	for _, pool := range []*sql.DB{l.read, l.write} {
		if pool != nil {
			list = append(list, pool.Close())
		}
	}
	if l.lock == nil { // one that only reads
		return errors.Join(list...)
	}
	// The lock goes last, and with it only the right to serve: the file stays, since
	// taking it away could let two processes hold a lock on two files of one name.
	return errors.Join(append(list, l.lock.Close())...)
}

// sqliteFull reports whether a failure is one of SQLite for want of room on the disk, also
// for the index of its log.
func sqliteFull(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code()&0xff == sqlite3.SQLITE_FULL || e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE)
}

// sqliteAway reports whether a failure is one of SQLite that passes by itself.
func sqliteAway(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return errors.Is(err, context.DeadlineExceeded) // of the wait for a connection
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
		return true
	}
	return false
}
