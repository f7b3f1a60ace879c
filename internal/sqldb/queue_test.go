package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// Statements run in the order in which they were given, whether they were queued or
// not, and where one fails, so does the transaction.
func TestQueue(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		db := openURL(t, url)
		exec1(t, db, `CREATE TABLE t (n BIGINT NOT NULL PRIMARY KEY, said TEXT)`)
		var seen []int64
		note := func(row sqldb.Row) error {
			var n int64
			err := row.Scan(&n)
			seen = append(seen, n)
			return err
		}
		if err := db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			tx.Queue(ctx, nil, `INSERT INTO t (n) VALUES ($1)`, 1)
			tx.Queue(ctx, note, `SELECT COUNT(*) + $1 FROM t`, 0)
			tx.Queue(ctx, note, `INSERT INTO t (n) VALUES ($1) RETURNING n + 10`, 2)
			if n, err := tx.Exec(ctx, `UPDATE t SET said = $1`, "x"); err != nil || n != 2 {
				return fmt.Errorf("%d rows, %w", n, err)
			}
			tx.Queue(ctx, nil, `DELETE FROM t WHERE n = $1`, 1)
			rows, err := tx.Query(ctx, `SELECT n FROM t WHERE said = $1`, "x")
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				if err := note(rows); err != nil {
					return err
				}
			}
			tx.Queue(ctx, nil, `INSERT INTO t (n) VALUES ($1)`, 3)
			return rows.Err()
		}); err != nil {
			t.Fatal(err)
		}
		if want := []int64{1, 12, 2}; !slices.Equal(seen, want) {
			t.Errorf("seen %v, want %v", seen, want)
		}
		if n := number(t, db, `SELECT SUM(n) FROM t`); n != 5 {
			t.Errorf("the sum is %d", n)
		}

		fault := errors.New("fault")
		for name, fn := range map[string]func(context.Context, sqldb.Tx) error{
			"at the commit": func(ctx context.Context, tx sqldb.Tx) error {
				tx.Queue(ctx, nil, `INSERT INTO t (n) VALUES ($1)`, 4)
				tx.Queue(ctx, nil, `INSERT INTO t (n) VALUES ($1)`, nil)
				return nil
			},
			"with the next": func(ctx context.Context, tx sqldb.Tx) error {
				tx.Queue(ctx, nil, `INSERT INTO t (n) VALUES ($1)`, 4)
				tx.Queue(ctx, func(sqldb.Row) error { return fault }, `SELECT n FROM t WHERE n = $1`, 4)
				var n int
				if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM t WHERE n > $1`, 0).Scan(&n); !errors.Is(err, fault) {
					return fmt.Errorf("got %w", err)
				}
				return nil
			},
			"of the function": func(ctx context.Context, tx sqldb.Tx) error {
				tx.Queue(ctx, nil, `INSERT INTO t (n) VALUES ($1)`, 4)
				return fault
			},
		} {
			if err := db.Tx(t.Context(), fn); err == nil || strings.HasPrefix(err.Error(), "sqldb: got") {
				t.Errorf("%s: %v", name, err)
			}
			if n := number(t, db, `SELECT COUNT(*) FROM t`); n != 2 {
				t.Fatalf("%s: %d rows", name, n)
			}
		}
		if err := db.Tx(t.Context(), func(context.Context, sqldb.Tx) error { return nil }); err != nil {
			t.Errorf("a transaction of nothing: %v", err)
		}
	})
}

// A statement by itself gives its rows, and fails as its reader does.
func TestSelect(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		db := openURL(t, url)
		exec1(t, db, `CREATE TABLE t (n BIGINT)`)
		exec1(t, db, `INSERT INTO t (n) VALUES (1), (2), (3)`)
		for range 2 {
			var sum, n int64
			if err := db.Select(t.Context(), func(row sqldb.Row) error {
				defer func() { sum += n }()
				return row.Scan(&n)
			}, `SELECT n FROM t WHERE n > $1`, 1); err != nil || sum != 5 {
				t.Errorf("the sum is %d: %v", sum, err)
			}
		}
		fault := errors.New("fault")
		if err := db.Select(t.Context(), func(sqldb.Row) error { return fault }, `SELECT n FROM t`); !errors.Is(err, fault) {
			t.Errorf("got %v", err)
		}
		if err := db.Select(t.Context(), func(sqldb.Row) error { return nil }, `SELECT nothing FROM t`); err == nil {
			t.Error("a statement that is none passed")
		}
		if n := number(t, db, `SELECT COUNT(*) FROM t`); n != 3 {
			t.Errorf("%d rows", n)
		}
	})
}

// Whatever way of pgx's a URL asks for, as one behind a pooler may, a transaction is one.
func TestModes(t *testing.T) {
	t.Parallel()
	url := testkit.DB(t, sqldb.Postgres)
	exec1(t, openURL(t, url), `CREATE TABLE t (n BIGINT NOT NULL PRIMARY KEY)`)
	for i, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		db := openURL(t, url+"&default_query_exec_mode="+mode)
		add := func(n ...any) error {
			return db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
				for _, n := range n {
					tx.Queue(ctx, nil, `INSERT INTO t (n) VALUES ($1)`, n)
				}
				var sum int64
				return tx.QueryRow(ctx, `SELECT SUM(n) + $1::bigint FROM t`, 1).Scan(&sum)
			})
		}
		if err := add(2*i, 2*i+1); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		if err := add(100, nil); err == nil {
			t.Errorf("%s: a row without a number passed", mode)
		}
		if n := number(t, db, `SELECT COUNT(*) FROM t`); n != int64(2*i+2) {
			t.Errorf("%s: %d rows", mode, n)
		}
	}
}

// Connections that the server ended while nobody used them are no failure.
func TestConnectionsEnd(t *testing.T) {
	t.Parallel()
	url := testkit.DB(t, sqldb.Postgres)
	other := openURL(t, url)
	db := openURL(t, url+"&application_name=ended")
	end := func() {
		exec1(t, other, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ended'`)
	}
	exec1(t, db, `CREATE TABLE t (n BIGINT)`)
	for range 3 {
		end()
		exec1(t, db, `INSERT INTO t (n) VALUES ($1)`, 1)
		end()
		if err := db.Select(t.Context(), func(row sqldb.Row) error { var n int64; return row.Scan(&n) }, `SELECT n FROM t WHERE n > $1`, 0); err != nil {
			t.Error(err)
		}
	}
	if n := number(t, db, `SELECT COUNT(*) FROM t`); n != 3 {
		t.Errorf("%d rows", n)
	}
}
