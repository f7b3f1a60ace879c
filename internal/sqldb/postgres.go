package sqldb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/datahq/specstore/internal/errs"
)

// Bounds of a session, so that a process that was stopped cannot hold a row for
// longer than its lease. What DATABASE_URL says of them wins.
var sessionBounds = map[string]string{
	"application_name":                    "specstore",
	"lock_timeout":                        "3s",
	"idle_in_transaction_session_timeout": "5s",
}

const (
	connectTimeout = 5 * time.Second
	askLockEvery   = 100 * time.Millisecond
	defaultConns   = 16
)

// postgresConfig reads a URL in SQLAlchemy syntax; the rest of it is libpq's.
func postgresConfig(c Config) (*pgxpool.Config, error) {
	const op = "sqldb.Open"
	_, rest, _ := strings.Cut(c.URL, "://")
	config, err := pgxpool.ParseConfig("postgresql://" + rest)
	if err != nil {
		// The cause is left out: it may show a password.
		return nil, errs.New(errs.Invalid, op, "DATABASE_URL: not a URL of PostgreSQL; write postgresql://user:password@host:5432/database")
	}
	for name, value := range sessionBounds {
		if _, ok := config.ConnConfig.RuntimeParams[name]; !ok {
			config.ConnConfig.RuntimeParams[name] = value
		}
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	config.PingTimeout = answerTime
	switch {
	case c.Conns > 0:
		config.MaxConns = int32(min(c.Conns, 1000))
	case !strings.Contains(rest, "pool_max_conns="):
		config.MaxConns = defaultConns
	}
	return config, nil
}

func openPostgres(ctx context.Context, c Config) (*DB, error) {
	config, err := postgresConfig(c)
	if err != nil {
		return nil, err
	}
	limit := answerTime
	if c.Answer > 0 {
		limit = c.Answer
	}
	db := &DB{trace: c.Trace, wait: c.waitOf(), bounds: newBounds(limit)}
	unbound := config.Copy()
	unbound.MinConns, unbound.MinIdleConns = 0, 0
	config.ConnConfig.DialFunc = db.bounds.dialer(config.ConnConfig.DialFunc)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err == nil {
		if err = pool.Ping(ctx); err != nil {
			pool.Close()
		}
	}
	if err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, "sqldb.Open", "the database cannot be reached: %s", connectReason(err))
	}
	if db.listeners, err = pgxpool.NewWithConfig(ctx, unbound); err != nil {
		pool.Close()
		return nil, fmt.Errorf("sqldb.Open: %w", err)
	}
	db.pg = pool
	return db, nil
}

// connectReason says what an operator must look at, without address or password.
func connectReason(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Message
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return "nobody answers at its address"
	}
	return "look at DATABASE_URL and at the server"
}

// overtaken are the failures of a transaction that was not alone: that it was begun
// again shows it what the other one did. (PostgreSQL, appendix A.)
var overtaken = map[string]bool{
	"40001": true, // serialization_failure
	"40P01": true, // deadlock_detected
	"23505": true, // unique_violation
}

// postgresFull reports whether a failure is one of PostgreSQL for want of room on its disk.
func postgresFull(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "53100" // disk_full
}

// postgresAway reports whether a failure is one of PostgreSQL that passes by itself.
func postgresAway(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(e.Code, "08"), // connection exceptions
			strings.HasPrefix(e.Code, "53"),   // insufficient resources
			strings.HasPrefix(e.Code, "57P0"), // shut down, starting
			e.Code == "55P03",                 // lock_not_available
			e.Code == "25P03",                 // idle_in_transaction_session_timeout
			e.Code == "40P01", e.Code == "40001":
			return true
		}
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, errSilent) || pgconn.SafeToRetry(err) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// lockKey turns a name into the number of an advisory lock, one for each schema.
const lockKey = `hashtextextended(current_schema() || ' specstore ' || $1, 0)`

// alonePostgres runs fn while no other process runs one of that name. Others may take
// long: the wait for them has no bound but ctx. Meanwhile statements have none either.
func (db *DB) alonePostgres(ctx context.Context, name string, fn func(context.Context) error) error {
	conn, err := db.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	for locked := false; !locked; {
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(`+lockKey+`)`, name).Scan(&locked); err != nil {
			return err
		}
		if locked {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(askLockEvery):
		}
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock(`+lockKey+`)`, name); err != nil {
			_ = conn.Conn().Close(ctx) // the lock goes with the session
		}
	}()
	// What is done alone, such as a migration, may be a statement that takes long.
	defer db.bounds.limit.Store(db.bounds.limit.Swap(0))
	return fn(ctx)
}

const (
	heardWithin = 2 * time.Second // a notification of our own
	askEvery    = 500 * time.Millisecond
	listenAgain = time.Second // after a failure
)

// listenPostgres hears until ctx ends. heard gets "" where something may have been
// missed.
func (db *DB) listenPostgres(ctx context.Context, channel string, heard func(payload string)) {
	for ctx.Err() == nil {
		works, _ := db.hear(ctx, channel, heard)
		wait := listenAgain
		if !works {
			wait = askEvery
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		heard("")
	}
}

// hear listens on a connection of its own until that breaks. works says whether
// notifications come through at all: a pooler of transactions swallows them.
func (db *DB) hear(ctx context.Context, channel string, heard func(payload string)) (works bool, err error) {
	config := db.listeners.Config().ConnConfig
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	first, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if _, err := conn.Exec(first, `LISTEN `+pgx.Identifier{channel}.Sanitize()); err != nil {
		return false, err
	}
	if _, err := db.pg.Exec(first, `SELECT pg_notify($1, '')`, channel); err != nil {
		return false, err
	}
	own, cancel := context.WithTimeout(ctx, heardWithin)
	_, err = conn.WaitForNotification(own)
	cancel()
	if err != nil {
		return false, err
	}
	heard("")
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return true, fmt.Errorf("sqldb.Listen: %w", err)
		}
		heard(n.Payload)
	}
}
