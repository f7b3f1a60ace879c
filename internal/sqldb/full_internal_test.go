package sqldb

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/datahq/specstore/internal/errs"
)

// A database without room is not available, and says why; one that is away for another
// reason is not said to be full.
func TestFull(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), Config{URL: "sqlite:///" + filepath.Join(t.TempDir(), "test.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	insert := func() error {
		return db.Tx(t.Context(), func(ctx context.Context, tx Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO t (text) VALUES ($1)`, strings.Repeat("x", 1<<16))
			return err
		})
	}
	limit := func(pages string) {
		if _, err := db.SQL().ExecContext(t.Context(), `PRAGMA max_page_count = `+pages); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Tx(t.Context(), func(ctx context.Context, tx Tx) error {
		_, err := tx.Exec(ctx, `CREATE TABLE t (text TEXT)`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	limit("10")
	full := insert()
	limit("1000000")
	if err := insert(); err != nil {
		t.Errorf("with room again: %v", err)
	}
	for name, c := range map[string]struct {
		err  error
		full bool
	}{
		"SQLite":                {full, true},
		"PostgreSQL":            {away(&pgconn.PgError{Code: "53100"}), true},
		"PostgreSQL, no memory": {away(&pgconn.PgError{Code: "53200"}), false},
		"PostgreSQL, starting":  {away(&pgconn.PgError{Code: "57P03"}), false},
	} {
		if !errs.Is(c.err, errs.Unavailable) || errors.Is(c.err, errs.ErrFull) != c.full || strings.Contains(errs.Detail(c.err), "is full") != c.full {
			t.Errorf("%s: %v", name, c.err)
		}
	}
}
