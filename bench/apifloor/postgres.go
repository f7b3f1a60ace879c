package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

const conns = 16 // as many as specstore's

type postgres struct {
	pool  *pgxpool.Pool
	river *river.Client[pgx.Tx]
}

func openPostgres(ctx context.Context, url string) (*postgres, error) {
	_, rest, _ := strings.Cut(url, "://")
	config, err := pgxpool.ParseConfig("postgresql://" + rest)
	if err != nil {
		return nil, err
	}
	config.MaxConns = conns
	p := &postgres{}
	if p.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	if p.river, err = river.NewClient(riverpgxv5.New(p.pool), &river.Config{Workers: workers()}); err != nil {
		p.pool.Close()
		return nil, err
	}
	return p, nil
}

func (p *postgres) close() { p.pool.Close() }

func (p *postgres) setting(ctx context.Context, name string) (value string, err error) {
	err = p.pool.QueryRow(ctx, sqlSetting, name).Scan(&value)
	return value, err
}

func (p *postgres) status(ctx context.Context, dataset string, number int64) (*revision, error) {
	rows, err := p.pool.Query(ctx, sqlStatus, dataset, number)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return readRevision(rows)
}

// in runs fn in a transaction that was begun by first, and rolls it back where fn fails.
func (p *postgres) in(ctx context.Context, first *pgx.Batch, read func(pgx.BatchResults) error, fn func(pgx.Tx) (*pgx.Batch, error)) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	results := conn.SendBatch(ctx, first)
	_, err = results.Exec() // the begin
	if err == nil {
		err = read(results)
	}
	if closing := results.Close(); err == nil {
		err = closing
	}
	var tx pgx.Tx
	if began, ok := results.(interface{ Tx() pgx.Tx }); ok {
		tx = began.Tx()
	}
	if err == nil {
		var last *pgx.Batch
		if last, err = fn(tx); err == nil {
			last.Queue("COMMIT")
			err = conn.SendBatch(ctx, last).Close()
		}
	}
	if err != nil && tx != nil {
		_ = tx.Rollback(ctx)
	}
	return err
}

func begin() *pgx.Batch {
	b := &pgx.Batch{}
	b.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	return b
}

func (p *postgres) update(ctx context.Context, e event) (state string, err error) {
	first := begin()
	flow := e.flow()
	first.Queue(sqlLock, flow)
	first.Queue(sqlRows, flow)
	var seq, started int64
	var found pipeline
	err = p.in(ctx, first, func(r pgx.BatchResults) error {
		var dataset, internal, runner, holder, descriptor, cause string
		var number, attempt, restarts, beat int64
		var folded []byte
		if err := r.QueryRow().Scan(&dataset, &internal, &number, &state, &runner, &attempt, &restarts, &holder, &beat, &seq, &started, &folded, &descriptor, &cause); err != nil {
			return err
		}
		rows, err := r.Query()
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var one pipeline
			if err := rows.Scan(one.dest()...); err != nil {
				return err
			}
			if one.id == e.Pipeline {
				found = one
			}
		}
		return rows.Err()
	}, func(pgx.Tx) (*pgx.Batch, error) {
		b := &pgx.Batch{}
		for _, s := range changes(e, flow, time.Now().UnixMicro(), started, seq, found) {
			b.Queue(s.text, s.args...)
		}
		b.Queue(sqlNotify, channel, flow)
		return b, nil
	})
	return "running", err
}

func (p *postgres) upload(ctx context.Context, u upload) (number int64, err error) {
	now := time.Now().UnixMicro()
	first := begin()
	first.Queue(sqlOwner, u.owner, u.name)
	first.Queue(sqlCount, u.dataset, u.owner, 1000)
	first.Queue(sqlDataset, u.dataset, u.owner, now, now+86400e6, "published", strings.ToLower(rand.Text()), `"every 1d"`, "push")
	err = p.in(ctx, first, func(r pgx.BatchResults) error {
		var name, findability, logged string
		var count, created int64
		if err := r.QueryRow().Scan(&name); err != nil {
			return err
		}
		if err := r.QueryRow().Scan(&count); err != nil {
			return err
		}
		return r.QueryRow().Scan(&number, &created, &findability, &u.internal, &logged)
	}, func(tx pgx.Tx) (*pgx.Batch, error) {
		if _, err := p.river.InsertTx(ctx, tx, job{}, nil); err != nil {
			return nil, err
		}
		b := &pgx.Batch{}
		for _, s := range additions(u, number, now) {
			b.Queue(s.text, s.args...)
		}
		b.Queue(sqlNotify, channel, fmt.Sprintf("%s/%d", u.dataset, number))
		return b, nil
	})
	return number, err
}
