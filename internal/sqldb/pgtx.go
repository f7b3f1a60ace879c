package sqldb

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/datahq/specstore/internal/errs"
)

// The statements that begin and end a transaction. Isolation is said, since a session
// may have another one by default.
const (
	beginWrite = `BEGIN READ WRITE, ISOLATION LEVEL READ COMMITTED`
	beginRead  = `BEGIN READ ONLY, ISOLATION LEVEL REPEATABLE READ`
	commit     = `COMMIT`
)

// PgxTx is the [Tx] of PostgreSQL.
type PgxTx struct{ *pgTx }

// pgTx sends as little as it can: the transaction begins with its first statement,
// what is queued goes with the next one, and the commit with the last.
type pgTx struct {
	conn  *pgxpool.Conn
	begin string
	trace func(statements ...string)

	batch *pgx.Batch        // what was not sent yet
	scans []func(Row) error // of each in batch; nil for those whose answer nobody reads
	sent  bool              // something was
	begun bool              // the server has begun the transaction
	ended bool              // the commit was sent
	err   error             // of a statement that was queued
	rows  *pgRows           // that are being read
}

// queue adds a statement to those that were not sent.
func (t *pgTx) queue(scan func(Row) error, query string, args ...any) {
	if t.batch == nil {
		t.batch = &pgx.Batch{}
		if !t.sent {
			t.batch.Queue(t.begin)
			t.scans = append(t.scans, nil)
		}
	}
	t.batch.Queue(query, args...)
	t.scans = append(t.scans, scan)
}

// Queue implements [Tx].
func (t *pgTx) Queue(_ context.Context, scan func(Row) error, query string, args ...any) {
	t.queue(scan, query, args...)
}

// flush sends what was queued but for the last one reads the answers.
// The answer to the last is left to the caller, who closes what flush gives.
func (t *pgTx) flush(ctx context.Context) (pgx.BatchResults, error) {
	t.close()
	if t.err != nil {
		return nil, t.err
	}
	batch, scans := t.batch, t.scans
	t.batch, t.scans = nil, t.scans[:0:0]
	if t.trace != nil {
		texts := make([]string, len(batch.QueuedQueries))
		for i, q := range batch.QueuedQueries {
			texts[i] = q.SQL
		}
		t.trace(texts...)
	}
	t.sent = true
	results := t.conn.SendBatch(ctx, batch)
	for _, scan := range scans[:len(scans)-1] {
		if scan != nil {
			t.err = scan(results.QueryRow())
		} else {
			_, t.err = results.Exec()
		}
		if t.err != nil {
			_ = results.Close() // it repeats the error
			return nil, t.err
		}
		t.begun = true
	}
	return results, nil
}

// close ends the reading of rows that were not read to their end.
func (t *pgTx) close() {
	if t.rows != nil {
		t.rows.Close()
	}
}

func (t *pgTx) exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	t.queue(nil, query, args...)
	results, err := t.flush(ctx)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := results.Exec()
	if closing := results.Close(); err == nil {
		err = closing
	}
	return tag, err
}

// script runs a text that may be several statements, which no batch takes.
func (t *pgTx) script(ctx context.Context, text string) (pgconn.CommandTag, error) {
	if !t.sent || t.batch != nil {
		if _, err := t.exec(ctx, `SELECT 1`); err != nil {
			return pgconn.CommandTag{}, err
		}
	}
	t.close()
	return t.conn.Exec(ctx, text)
}

// Exec implements [Tx].
func (t *pgTx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	do := t.exec
	if len(args) == 0 {
		do = func(ctx context.Context, query string, _ ...any) (pgconn.CommandTag, error) {
			return t.script(ctx, query)
		}
	}
	tag, err := do(ctx, query, args...)
	return tag.RowsAffected(), err
}

// pgRows are rows of the last statement of a batch, which ends with them.
type pgRows struct {
	pgx.Rows
	t       *pgTx
	results pgx.BatchResults
	err     error // of the batch
}

// Next implements [Rows].
func (r *pgRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

// Close implements [Rows].
func (r *pgRows) Close() {
	r.Rows.Close()
	if r.results != nil {
		r.err = r.results.Close()
		r.results, r.t.rows = nil, nil
	}
}

// Err implements [Rows].
func (r *pgRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

func (t *pgTx) query(ctx context.Context, query string, args ...any) (*pgRows, error) {
	t.queue(nil, query, args...)
	results, err := t.flush(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		_ = results.Close() // it repeats the error
		return nil, err
	}
	t.rows = &pgRows{Rows: rows, t: t, results: results}
	return t.rows, nil
}

// Query implements [Tx].
func (t *pgTx) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	rows, err := t.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// QueryRow implements [Tx].
func (t *pgTx) QueryRow(ctx context.Context, query string, args ...any) Row {
	rows, err := t.query(ctx, query, args...)
	if err != nil {
		return failed{err}
	}
	return oneRow{rows}
}

type oneRow struct{ rows *pgRows }

// Scan implements [Row].
func (r oneRow) Scan(dest ...any) error {
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

func (t *pgTx) commit(ctx context.Context) error {
	if !t.sent && t.batch == nil {
		return t.err // nothing was done
	}
	if !t.begun {
		// What may have been done is never done again: the commit goes by itself, so
		// that until then nothing was.
		if _, err := t.exec(ctx, `SELECT 1`); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t.ended = true
	// Who asked may go away: a commit that was sent is waited for all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTime)
	defer cancel()
	tag, err := t.exec(ctx, commit)
	if err == nil && tag.String() != commit {
		return pgx.ErrTxCommitRollback
	}
	if err != nil && t.err == nil && unanswered(err) {
		return errs.Wrap(errors.Join(errs.ErrUncertain, err), errs.Unavailable, "sqldb.commit",
			"the answer of the database was lost: it is not known whether the change was stored; look whether it was, or repeat it with the same Idempotency-Key")
	}
	return err
}

// commitTime bounds the wait for the answer to a commit.
const commitTime = answerTime

// unanswered reports whether a statement failed without the server's word that it was not
// done. A server that is shut down may have done it.
func unanswered(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return !ok || e.SeverityUnlocalized == "FATAL" || strings.HasPrefix(e.Code, "57P0")
}

// tries is how often a transaction is begun that another one, which committed in
// between, made impossible.
const tries = 5

// runPostgres runs fn in a transaction. Connections that broke while nobody used them
// are found out with the first statement, one after the other, when nothing was done
// on them yet.
func (db *DB) runPostgres(ctx context.Context, begin string, fn func(context.Context, Tx) error) error {
	var err error
	broken := int32(0)
	for range tries {
		for {
			var lost bool
			if lost, err = db.oncePostgres(ctx, begin, fn); !lost || broken > db.pg.Stat().MaxConns() {
				break
			}
			broken++
		}
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || !overtaken[e.Code] {
			return err
		}
	}
	return err
}

// oncePostgres runs fn once. lost says that the connection was not there any more.
func (db *DB) oncePostgres(ctx context.Context, begin string, fn func(context.Context, Tx) error) (lost bool, err error) {
	conn, err := db.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	defer allow(ctx, conn)()
	t := &pgTx{conn: conn, begin: begin, trace: db.trace}
	defer func() {
		t.close()
		if !t.sent || conn.Conn().IsClosed() || conn.Conn().PgConn().TxStatus() == 'I' {
			return
		}
		// After a failure, a panic, or the end of ctx nothing is left.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, _ = conn.Exec(ctx, `ROLLBACK`) // else the pool drops the connection
	}()
	if err = fn(ctx, PgxTx{t}); err == nil {
		err = t.commit(ctx)
	}
	lost = err != nil && t.sent && !t.begun && !t.ended && ctx.Err() == nil && isGone(conn, err)
	return lost, err
}

// acquire waits for a connection, for no longer than the bound.
func (db *DB) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, db.wait)
	defer cancel()
	return db.pg.Acquire(ctx)
}

// isGone reports whether a statement failed because its connection had ended. Of one whose
// server is silent another connection would be as silent.
func isGone(conn *pgxpool.Conn, err error) bool {
	if errors.Is(err, errSilent) {
		return false
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.SeverityUnlocalized == "FATAL" && postgresAway(err)
	}
	return conn.Conn().IsClosed() && postgresAway(err)
}

// selectPostgres runs a statement by itself.
func (db *DB) selectPostgres(ctx context.Context, each func(Row) error, query string, args ...any) error {
	for broken := int32(0); ; broken++ {
		if db.trace != nil {
			db.trace(query)
		}
		conn, err := db.acquire(ctx)
		if err != nil {
			return err
		}
		seen := false
		err = func() error {
			rows, err := conn.Query(ctx, query, args...)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				seen = true
				if err := each(rows); err != nil {
					return err
				}
			}
			return rows.Err()
		}()
		lost := err != nil && !seen && ctx.Err() == nil && isGone(conn, err)
		conn.Release()
		if !lost || broken > db.pg.Stat().MaxConns() {
			return err
		}
	}
}

// Raw is the transaction beneath, for River, which adds its jobs in it. It can neither
// be ended nor nested.
func (t *pgTx) Raw() pgx.Tx { return rawTx{t} }

type rawTx struct{ t *pgTx }

var errRaw = errors.New("sqldb: a transaction is ended by who began it")

// Begin implements [pgx.Tx].
func (r rawTx) Begin(context.Context) (pgx.Tx, error) { return nil, errRaw }

// Commit implements [pgx.Tx].
func (r rawTx) Commit(context.Context) error { return errRaw }

// Rollback implements [pgx.Tx].
func (r rawTx) Rollback(context.Context) error { return errRaw }

// sync sends what was queued.
func (r rawTx) sync(ctx context.Context) error {
	_, err := r.t.exec(ctx, `SELECT 1`)
	return err
}

// CopyFrom implements [pgx.Tx].
func (r rawTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if err := r.sync(ctx); err != nil {
		return 0, err
	}
	return r.t.conn.Conn().CopyFrom(ctx, table, columns, source)
}

// SendBatch implements [pgx.Tx].
func (r rawTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := r.sync(ctx); err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	return r.t.conn.Conn().SendBatch(ctx, b)
}

// LargeObjects implements [pgx.Tx].
func (r rawTx) LargeObjects() pgx.LargeObjects { return pgx.LargeObjects{} }

// Prepare implements [pgx.Tx].
func (r rawTx) Prepare(ctx context.Context, name, text string) (*pgconn.StatementDescription, error) {
	if err := r.sync(ctx); err != nil {
		return nil, err
	}
	return r.t.conn.Conn().Prepare(ctx, name, text)
}

// Exec implements [pgx.Tx].
func (r rawTx) Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	if len(args) == 0 {
		return r.t.script(ctx, query)
	}
	return r.t.exec(ctx, query, args...)
}

// Query implements [pgx.Tx].
func (r rawTx) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	rows, err := r.t.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// QueryRow implements [pgx.Tx].
func (r rawTx) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	return r.t.QueryRow(ctx, query, args...)
}

// Conn implements [pgx.Tx].
func (r rawTx) Conn() *pgx.Conn { return r.t.conn.Conn() }
