package sqldb_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

func open(t *testing.T, path string) *sqldb.DB {
	t.Helper()
	return openURL(t, "sqlite:///"+path)
}

func openURL(t *testing.T, url string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec1(t *testing.T, db *sqldb.DB, query string, args ...any) {
	t.Helper()
	if err := db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
		_, err := tx.Exec(ctx, query, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, db *sqldb.DB, query string) (n int64) {
	t.Helper()
	if err := db.Read(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
		return tx.QueryRow(ctx, query).Scan(&n)
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "specstore.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://host/x", "sqlite:///x?mode=ro",
		"postgresql://user:secret@host:port/db", "postgres://user:secret@host/db?sslmode=odd", "postgresqls://user:secret@host/db", "mysql://h/d",
	} {
		db, err := sqldb.Open(t.Context(), sqldb.Config{URL: url})
		if err == nil {
			_ = db.Close()
		}
		if !errs.Is(err, errs.Invalid) || strings.Contains(errs.Detail(err), "secret") {
			t.Errorf("Open(%q): %v", url, err)
		}
	}
}

// Names with characters that mean something in a URL name that file and no other.
func TestPath(t *testing.T) {
	for _, name := range []string{"plain.db", "a b#c%20d&é.db", "new/folder/x.db"} {
		path := filepath.Join(t.TempDir(), name)
		db := open(t, path)
		exec1(t, db, `CREATE TABLE t (n BIGINT)`)
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	t.Chdir(t.TempDir())
	exec1(t, open(t, "relative.db"), `CREATE TABLE t (n BIGINT)`)
	if _, err := os.Stat("relative.db"); err != nil {
		t.Error(err)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	db := open(t, filepath.Join(t.TempDir(), "x.db"))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
		if err := db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			var got string
			if err := tx.QueryRow(ctx, "PRAGMA "+pragma).Scan(&got); err != nil {
				return err
			}
			if got != want {
				t.Errorf("%s is %s, not %s", pragma, got, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTx(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		db := openURL(t, url)
		exec1(t, db, `CREATE TABLE t (n BIGINT)`)
		refused := errors.New("refused")
		insert := func(ctx context.Context, tx sqldb.Tx) {
			if n, err := tx.Exec(ctx, `INSERT INTO t (n) VALUES ($1)`, 1); err != nil || n != 1 {
				t.Errorf("insert: %d, %v", n, err)
			}
		}
		if err := db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			insert(ctx, tx)
			return refused
		}); !errors.Is(err, refused) {
			t.Errorf("got %v", err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
				insert(ctx, tx)
				panic("fault")
			})
		}()
		ctx, cancel := context.WithCancel(t.Context())
		if err := db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
			insert(ctx, tx)
			cancel()
			return nil
		}); err == nil {
			t.Error("a cancelled transaction was committed")
		}
		if n := number(t, db, `SELECT COUNT(*) FROM t`); n != 0 {
			t.Fatalf("%d rows were left behind", n)
		}
		// A transaction inside another is refused at once instead of waiting for ever.
		if err := db.Tx(t.Context(), func(ctx context.Context, _ sqldb.Tx) error {
			return db.Tx(ctx, func(context.Context, sqldb.Tx) error { return nil })
		}); err == nil {
			t.Error("a transaction inside a transaction was let through")
		}
		if err := db.Read(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO t (n) VALUES (1)`)
			return err
		}); err == nil {
			t.Error("a reader wrote")
		}
		if err := db.Read(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			var n int
			return tx.QueryRow(ctx, `SELECT n FROM t`).Scan(&n)
		}); !errors.Is(err, sqldb.ErrNoRows) {
			t.Errorf("got %v", err)
		}
	})
}

// Reads go on while a transaction writes, and see what was committed before.
func TestReadersDoNotWait(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		db := openURL(t, url)
		exec1(t, db, `CREATE TABLE t (n BIGINT)`)
		if err := db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO t (n) VALUES (1)`); err != nil {
				return err
			}
			if n := number(t, db, `SELECT COUNT(*) FROM t`); n != 0 {
				t.Errorf("saw %d rows that were not committed", n)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n := number(t, db, `SELECT COUNT(*) FROM t`); n != 1 {
			t.Errorf("saw %d rows", n)
		}
	})
}

func TestWritersFollowEachOther(t *testing.T) {
	t.Parallel()
	db := open(t, filepath.Join(t.TempDir(), "x.db"))
	exec1(t, db, `CREATE TABLE t (n BIGINT)`)
	exec1(t, db, `INSERT INTO t (n) VALUES (0)`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := db.Tx(context.Background(), func(ctx context.Context, tx sqldb.Tx) error {
					var n int64
					if err := tx.QueryRow(ctx, `SELECT n FROM t`).Scan(&n); err != nil {
						return err
					}
					_, err := tx.Exec(ctx, `UPDATE t SET n = $1`, n+1)
					return err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := number(t, db, `SELECT n FROM t`); n != 160 {
		t.Errorf("%d of 160 updates are left", n)
	}
}

func TestOneProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path)
	if _, err := sqldb.Open(t.Context(), sqldb.Config{URL: "sqlite:///" + path}); !errs.Is(err, errs.Conflict) {
		t.Fatalf("second Open: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

// A process that is killed leaves what it committed and no lock.
func TestKilled(t *testing.T) {
	if path := os.Getenv("SQLDB_TEST_KILLED"); path != "" {
		db, err := sqldb.Open(context.Background(), sqldb.Config{URL: "sqlite:///" + path})
		if err != nil {
			t.Fatal(err)
		}
		exec1(t, db, `INSERT INTO t (n) VALUES (1)`)
		_ = db.Tx(context.Background(), func(ctx context.Context, tx sqldb.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO t (n) VALUES (2)`); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path+".ready", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			return nil
		})
		return
	}
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path)
	exec1(t, db, `CREATE TABLE t (n BIGINT)`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "SQLDB_TEST_KILLED="+path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 600 {
		if _, err := os.Stat(path + ".ready"); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	db = open(t, path)
	if n := number(t, db, `SELECT SUM(n) FROM t`); n != 1 {
		t.Errorf("the sum is %d: a commit was lost or an open transaction kept", n)
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		db := openURL(t, url)
		folder := string(db.Dialect()) + "/"
		first := &fstest.MapFile{Data: []byte(`CREATE TABLE a (n BIGINT); CREATE INDEX a_n ON a (n);`)}
		second := &fstest.MapFile{Data: []byte(`INSERT INTO a (n) VALUES (10);`)}
		broken := &fstest.MapFile{Data: []byte(`INSERT INTO a (n) VALUES (20); INSERT INTO nothing (n) VALUES (1);`)}
		migrate := func(files fstest.MapFS) error { return db.Migrate(t.Context(), "test", files, nil) }
		one := fstest.MapFS{folder + "0001_a.sql": first}
		two := fstest.MapFS{folder + "0001_a.sql": first, folder + "0002_b.sql": second}
		for _, files := range []fstest.MapFS{one, one, two, two} {
			if err := migrate(files); err != nil {
				t.Fatal(err)
			}
		}
		if err := migrate(fstest.MapFS{folder + "0001_a.sql": first, folder + "0002_b.sql": second, folder + "0003_c.sql": broken}); err == nil {
			t.Error("a broken migration passed")
		}
		if n := number(t, db, `SELECT SUM(n) FROM a`); n != 10 {
			t.Errorf("the sum is %d", n)
		}
		if err := migrate(one); !errs.Is(err, errs.Conflict) {
			t.Errorf("a database of a newer version: %v", err)
		}
		if err := migrate(fstest.MapFS{folder + "0001_a.sql": first, folder + "0002_b.sql": broken}); !errs.Is(err, errs.Conflict) {
			t.Errorf("a changed migration: %v", err)
		}
		if err := db.Migrate(t.Context(), "other", fstest.MapFS{folder + "0001_o.sql": {Data: []byte(`CREATE TABLE o (n BIGINT)`)}}, nil); err != nil {
			t.Errorf("another set: %v", err)
		}
		for name, files := range map[string]fstest.MapFS{
			"empty": {}, "name": {folder + "a.sql": first}, "twice": {folder + "1_a.sql": first, folder + "01_b.sql": second},
		} {
			if err := db.Migrate(t.Context(), name, files, nil); err == nil {
				t.Errorf("%s: passed", name)
			}
		}
	})
}
