package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/datahq/specstore/bench/measure"
	"github.com/datahq/specstore/internal/sqldb"
)

// startSpecstore starts specstore without workers, so that what is uploaded waits.
func startSpecstore(ctx context.Context, binary, dir, database, runner string) (*measure.Process, error) {
	return measure.Serve(ctx, binary, dir, []string{"DATABASE_URL=" + database, "SPECSTORE_RUNNER=" + runner, "SPECSTORE_ANONYMOUS_UPDATES=loopback"}, "--no-workers")
}

func startFloor(ctx context.Context, binary, database string) (*measure.Process, error) {
	p := &measure.Process{Name: "floor", Cmd: exec.CommandContext(context.WithoutCancel(ctx), binary)}
	p.Cmd.Env = append(os.Environ(), "DATABASE_URL="+database)
	p.Cmd.Stderr = os.Stderr
	var err error
	if p.In, err = p.Cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.Cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.Cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the floor does not start: %w", err), p.Stop())
	}
	p.URL = strings.TrimSpace(line)
	return p, nil
}

// patience is how long the statements that fill a database may take.
const patience = time.Hour

// databases makes databases of a kind.
type databases interface {
	version(ctx context.Context) (string, error)
	create(ctx context.Context, name string) (url string, err error)
	copy(ctx context.Context, from, to string) (url string, err error)
}

type postgresDatabases struct{ url string }

func (p *postgresDatabases) exec(ctx context.Context, fn func(*sqldb.DB) error) error {
	db, err := sqldb.Open(ctx, sqldb.Config{URL: p.url, Conns: 2, Answer: patience})
	if err != nil {
		return err
	}
	defer db.Close()
	return fn(db)
}

func (p *postgresDatabases) version(ctx context.Context) (v string, err error) {
	var fsync string
	err = p.exec(ctx, func(db *sqldb.DB) error {
		return db.Pool().QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('fsync')`).Scan(&v, &fsync)
	})
	return "PostgreSQL " + v + ", fsync " + fsync + ", over a Unix socket", err
}

func (p *postgresDatabases) named(name string) (string, error) {
	u, err := url.Parse(p.url)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

func (p *postgresDatabases) create(ctx context.Context, name string) (string, error) {
	if err := p.exec(ctx, func(db *sqldb.DB) error {
		_, err := db.Pool().Exec(ctx, `CREATE DATABASE `+name)
		return err
	}); err != nil {
		return "", err
	}
	return p.named(name)
}

func (p *postgresDatabases) copy(ctx context.Context, from, to string) (string, error) {
	if _, err := p.create(ctx, to+` TEMPLATE `+from); err != nil {
		return "", err
	}
	return p.named(to)
}

type sqliteDatabases struct{ dir string }

func (s *sqliteDatabases) version(ctx context.Context) (v string, err error) {
	db, err := sqldb.Open(ctx, sqldb.Config{URL: s.url("version")})
	if err != nil {
		return "", err
	}
	defer db.Close()
	if err := db.SQL().QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&v); err != nil {
		return "", err
	}
	sync, err := measure.Fsync(s.dir)
	return fmt.Sprintf("SQLite %s, synchronous=FULL; an fsync of 4 KiB takes %.2f ms", v, float64(sync.Microseconds())/1000), err
}

func (s *sqliteDatabases) path(name string) string { return filepath.Join(s.dir, name+".db") }
func (s *sqliteDatabases) url(name string) string  { return "sqlite:///" + s.path(name) }

func (s *sqliteDatabases) create(_ context.Context, name string) (string, error) {
	return s.url(name), nil
}

func (s *sqliteDatabases) copy(ctx context.Context, from, to string) (string, error) {
	db, err := sqldb.Open(ctx, sqldb.Config{URL: s.url(from)})
	if err != nil {
		return "", err
	}
	defer db.Close()
	_, err = db.SQL().ExecContext(ctx, `VACUUM INTO '`+s.path(to)+`'`)
	return s.url(to), err
}
