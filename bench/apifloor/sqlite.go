package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// sqlite has one connection that writes and several that read, as specstore.
type sqlite struct {
	read, write *sql.DB
	statements  map[string]*sql.Stmt
	river       *river.Client[*sql.Tx]
}

// quiet is River's driver without the table of its notifications, as specstore's.
type quiet struct{ *riversqlite.Driver }

// SupportsListenNotify keeps River from its table.
func (quiet) SupportsListenNotify() bool { return false }

func openSQLite(ctx context.Context, path string) (*sqlite, error) {
	pool := func(size int, lock string, pragmas ...string) (*sql.DB, error) {
		q := url.Values{"_txlock": {lock}, "_pragma": append([]string{"busy_timeout(5000)", "foreign_keys(1)"}, pragmas...)}
		db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String())
		if err == nil {
			db.SetMaxOpenConns(size)
			db.SetMaxIdleConns(size)
		}
		return db, err
	}
	s := &sqlite{statements: map[string]*sql.Stmt{}}
	var err error
	if s.write, err = pool(1, "immediate", "journal_mode(WAL)", "synchronous(FULL)"); err != nil {
		return nil, err
	}
	if s.read, err = pool(8, "deferred", "query_only(1)"); err != nil {
		return nil, err
	}
	prepare := func(db *sql.DB, texts ...string) {
		for _, text := range texts {
			if err == nil {
				s.statements[text], err = db.PrepareContext(ctx, text)
			}
		}
	}
	prepare(s.read, sqlStatus)
	prepare(s.write, sqlLock, sqlRows, sqlPipeline, sqlLogged, sqlRevision, sqlOwner, sqlCount, sqlDataset, sqlNew)
	for _, n := range []int{1, 2, 4} {
		prepare(s.write, sqlQueued[n], sqlEvents[n])
	}
	if err != nil {
		return nil, err
	}
	s.river, err = river.NewClient[*sql.Tx](quiet{riversqlite.New(s.write)}, &river.Config{Workers: workers()})
	return s, err
}

func (s *sqlite) close() {
	_ = s.read.Close()
	_ = s.write.Close()
}

func (s *sqlite) setting(ctx context.Context, name string) (value string, err error) {
	err = s.read.QueryRowContext(ctx, sqlSetting, name).Scan(&value)
	return value, err
}

func (s *sqlite) status(ctx context.Context, dataset string, number int64) (*revision, error) {
	rows, err := s.statements[sqlStatus].QueryContext(ctx, dataset, number)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	return readRevision(rows)
}

func (s *sqlite) in(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

func (s *sqlite) all(ctx context.Context, tx *sql.Tx, list []statement) error {
	for _, one := range list {
		if _, err := tx.StmtContext(ctx, s.statements[one.text]).ExecContext(ctx, one.args...); err != nil {
			return err
		}
	}
	return nil
}

func (s *sqlite) update(ctx context.Context, e event) (state string, err error) {
	flow := e.flow()
	err = s.in(ctx, func(tx *sql.Tx) error {
		var dataset, internal, runner, holder, descriptor, cause string
		var number, attempt, restarts, beat, seq, started int64
		var folded []byte
		if err := tx.StmtContext(ctx, s.statements[sqlLock]).QueryRowContext(ctx, flow).
			Scan(&dataset, &internal, &number, &state, &runner, &attempt, &restarts, &holder, &beat, &seq, &started, &folded, &descriptor, &cause); err != nil {
			return err
		}
		rows, err := tx.StmtContext(ctx, s.statements[sqlRows]).QueryContext(ctx, flow)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		var found pipeline
		for rows.Next() {
			var one pipeline
			if err := rows.Scan(one.dest()...); err != nil {
				return err
			}
			if one.id == e.Pipeline {
				found = one
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		return s.all(ctx, tx, changes(e, flow, time.Now().UnixMicro(), started, seq, found))
	})
	return "running", err
}

func (s *sqlite) upload(ctx context.Context, u upload) (number int64, err error) {
	now := time.Now().UnixMicro()
	err = s.in(ctx, func(tx *sql.Tx) error {
		var name, findability, logged string
		var count, created int64
		if err := tx.StmtContext(ctx, s.statements[sqlOwner]).QueryRowContext(ctx, u.owner, u.name).Scan(&name); err != nil {
			return err
		}
		if err := tx.StmtContext(ctx, s.statements[sqlCount]).QueryRowContext(ctx, u.dataset, u.owner, 1000).Scan(&count); err != nil {
			return err
		}
		if err := tx.StmtContext(ctx, s.statements[sqlDataset]).QueryRowContext(ctx, u.dataset, u.owner, now, now+86400e6, "published", strings.ToLower(rand.Text()), `"every 1d"`, "push").
			Scan(&number, &created, &findability, &u.internal, &logged); err != nil {
			return err
		}
		if err := s.all(ctx, tx, additions(u, number, now)); err != nil {
			return fmt.Errorf("add: %w", err)
		}
		_, err := s.river.InsertTx(ctx, tx, job{}, nil)
		return err
	})
	return number, err
}
