package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// Processes that start at once migrate once.
func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	url := testkit.DB(t, sqldb.Postgres)
	files := fstest.MapFS{"postgres/0001_a.sql": {Data: []byte(`CREATE TABLE a (n BIGINT); INSERT INTO a VALUES (1)`)}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			db, err := sqldb.Open(t.Context(), sqldb.Config{URL: url, Conns: 2})
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			ran := func(ctx context.Context, tx sqldb.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO a VALUES (10)`)
				return err
			}
			if err := db.Migrate(t.Context(), "test", files, sqldb.After{1: ran}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := number(t, openURL(t, url), `SELECT SUM(n) FROM a`); n != 11 {
		t.Errorf("the sum is %d", n)
	}
}

// A session cannot hold a row for longer than its bounds, whatever happens to its
// process, and who waits for it is told to come again.
func TestSessionBounds(t *testing.T) {
	t.Parallel()
	url := testkit.DB(t, sqldb.Postgres)
	db := openURL(t, strings.Replace(url, "?", "?lock_timeout=100ms&", 1))
	for name, want := range map[string]string{"lock_timeout": "100ms", "idle_in_transaction_session_timeout": "5s", "application_name": "specstore"} {
		if err := db.Read(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			var got string
			if err := tx.QueryRow(ctx, `SHOW `+name).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %q, %v", name, got, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	exec1(t, db, `CREATE TABLE t (n BIGINT)`)
	exec1(t, db, `INSERT INTO t VALUES (1)`)
	update := func(ctx context.Context, tx sqldb.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE t SET n = n + 1`)
		return err
	}
	if err := db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
		if err := update(ctx, tx); err != nil {
			return err
		}
		if err := db.Tx(t.Context(), update); !errs.Is(err, errs.Unavailable) {
			t.Errorf("a row that is held: %v", err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// Transactions that meet are begun again, and both hold.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	db := openURL(t, testkit.DB(t, sqldb.Postgres)+"&deadlock_timeout=5ms")
	exec1(t, db, `CREATE TABLE t (name TEXT PRIMARY KEY, n BIGINT)`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { // the same rows in both orders: deadlocks; and keys that are there already
			for i := range 10 {
				names := []string{"a", "b"}
				if i%2 == 0 {
					slices.Reverse(names)
				}
				if err := db.Tx(context.Background(), func(ctx context.Context, tx sqldb.Tx) error {
					for _, name := range names {
						var there int
						if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM t WHERE name = $1`, name).Scan(&there); err != nil {
							return err
						}
						query := `UPDATE t SET n = n + 1 WHERE name = $1`
						if there == 0 {
							query = `INSERT INTO t VALUES ($1, 1)`
						}
						if _, err := tx.Exec(ctx, query, name); err != nil {
							return err
						}
					}
					return nil
				}); err != nil && !errs.Is(err, errs.Unavailable) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if a, b := number(t, db, `SELECT n FROM t WHERE name = 'a'`), number(t, db, `SELECT n FROM t WHERE name = 'b'`); a != b || a < 20 {
		t.Errorf("%d and %d", a, b)
	}
}

// What one process tells another hears, after the commit alone; and after its
// connection broke it is told that it may have missed something.
func TestListen(t *testing.T) {
	t.Parallel()
	url := testkit.DB(t, sqldb.Postgres)
	listener, teller := openURL(t, url), openURL(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan string, 100)
	var wg sync.WaitGroup
	wg.Go(func() { listener.Listen(ctx, "topic_"+t.Name(), func(payload string) { heard <- payload }) })
	defer wg.Wait()
	defer cancel()
	next := func() string {
		select {
		case s := <-heard:
			return s
		case <-time.After(time.Minute):
			t.Fatal("nothing is heard")
			return ""
		}
	}
	tell := func(payload string, err error) {
		_ = teller.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			teller.Notify(ctx, tx, "topic_"+t.Name(), payload)
			return err
		})
	}
	if s := next(); s != "" {
		t.Errorf("heard %q", s)
	}
	tell("taken back", fmt.Errorf("fault"))
	tell("one", nil)
	if s := next(); s != "one" {
		t.Errorf("heard %q", s)
	}
	exec1(t, teller, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN "topic_`+t.Name()+`"'`)
	if s := next(); s != "" {
		t.Errorf("heard %q", s)
	}
	next() // it listens again
	tell("two", nil)
	for s := next(); s != "two"; s = next() {
		if s != "" {
			t.Fatalf("heard %q", s)
		}
	}
}

// What cannot be reached is said without a password or an address.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgresql://me:secret@127.0.0.1:1/db", "postgres://me:secret@/db?host=" + t.TempDir(), "postgresql+psycopg2://me:secret@127.0.0.1:1/db?sslmode=disable"} {
		db, err := sqldb.Open(t.Context(), sqldb.Config{URL: url})
		if err == nil {
			_ = db.Close()
		}
		if !errs.Is(err, errs.Unavailable) || strings.Contains(errs.Detail(err), "secret") {
			t.Errorf("%s: %v", url, errs.Detail(err))
		}
	}
}

// TestLostCommit: where the answer to a commit is lost, no error says that nothing was
// stored.
func TestLostCommit(t *testing.T) {
	t.Parallel()
	database := testkit.DB(t, sqldb.Postgres)
	direct := openURL(t, database)
	proxy := testkit.NewProxy(t, database)
	db := openURL(t, proxy.URL)
	if err := direct.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
		_, err := tx.Exec(ctx, `CREATE TABLE lost (n BIGINT)`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	store := func(cut bool) error {
		return db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO lost VALUES ($1)`, 1)
			if cut {
				proxy.Cut()
			}
			return err
		})
	}
	if err := store(false); err != nil {
		t.Fatal(err)
	}
	err := store(true)
	if !errors.Is(err, errs.ErrUncertain) || !errs.Is(err, errs.Unavailable) || !strings.Contains(errs.Detail(err), "not known whether the change was stored") {
		t.Errorf("got %v, want that it is not known", err)
	}
	if n := number(t, direct, `SELECT COUNT(*) FROM lost`); n != 2 {
		t.Errorf("got %d rows, want the 2 that were committed", n)
	}
	// A transaction that is refused was certainly not done.
	err = db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
		tx.Queue(ctx, nil, `INSERT INTO lost VALUES (1/$1::bigint)`, 0)
		return nil
	})
	if err == nil || errors.Is(err, errs.ErrUncertain) {
		t.Errorf("got %v, want a refusal that is certain", err)
	}
}

// TestSilentServer: a server that takes bytes and answers nothing is not available, whatever
// is asked of it, and however many ask; and when it answers again it is.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	database := testkit.DB(t, sqldb.Postgres)
	proxy := testkit.NewProxy(t, database)
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: proxy.URL, Conns: 2, Answer: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	exec1(t, db, `CREATE TABLE silent (n BIGINT)`)
	insert := func(ctx context.Context, tx sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO silent VALUES ($1)`, 1)
		return err
	}
	asks := map[string]func(ctx context.Context) error{
		"a transaction": func(ctx context.Context) error { return db.Tx(ctx, insert) },
		"a transaction that reads": func(ctx context.Context) error {
			return db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
				var n int
				return tx.QueryRow(ctx, `SELECT COUNT(*) FROM silent`).Scan(&n)
			})
		},
		"a statement": func(ctx context.Context) error {
			return db.Select(ctx, func(sqldb.Row) error { return nil }, `SELECT n FROM silent`)
		},
		"its pool": func(ctx context.Context) error { // as River asks
			_, err := db.Pool().Exec(ctx, `SELECT 1`)
			return err
		},
		"in the middle of a transaction": func(ctx context.Context) error {
			proxy.Release()
			return db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
				if err := insert(ctx, tx); err != nil {
					proxy.Hold()
					return err
				}
				proxy.Hold()
				return insert(ctx, tx)
			})
		},
	}
	for name, ask := range asks {
		proxy.Hold()
		var wg sync.WaitGroup
		for range 3 { // more than there are connections
			if name == "in the middle of a transaction" {
				continue
			}
			wg.Go(func() {
				if err := ask(t.Context()); err == nil || name != "its pool" && !errs.Is(err, errs.Unavailable) || errors.Is(err, errs.ErrUncertain) {
					t.Errorf("%s: %v, want Unavailable", name, err)
				}
			})
		}
		wg.Wait()
		if name == "in the middle of a transaction" {
			if err := ask(t.Context()); !errs.Is(err, errs.Unavailable) || errors.Is(err, errs.ErrUncertain) {
				t.Errorf("%s: %v, want Unavailable", name, err)
			}
		}
	}
	// Of a commit nobody knows.
	proxy.Release()
	if err := db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
		defer proxy.Hold()
		return insert(ctx, tx)
	}); !errors.Is(err, errs.ErrUncertain) || !errs.Is(err, errs.Unavailable) {
		t.Errorf("a commit: %v, want that it is not known", err)
	}
	proxy.Release()
	if err := db.Tx(t.Context(), insert); err != nil {
		t.Errorf("after it: %v", err)
	}
	// Nor does the end of the process wait for it.
	proxy.Hold()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// TestWaitForConnection: a wait for a connection that others hold ends with Unavailable.
func TestWaitForConnection(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		db, err := sqldb.Open(t.Context(), sqldb.Config{URL: url, Conns: 1, Answer: 100 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		nothing := func(ctx context.Context, tx sqldb.Tx) error {
			_, err := tx.Exec(ctx, `SELECT 1`)
			return err
		}
		if err := db.Tx(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			if err := nothing(ctx, tx); err != nil {
				return err
			}
			if err := db.Tx(context.Background(), nothing); !errs.Is(err, errs.Unavailable) {
				t.Errorf("while the connection is held: %v, want Unavailable", err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if err := db.Tx(t.Context(), nothing); err != nil {
			t.Errorf("after it: %v", err)
		}
	})
}
