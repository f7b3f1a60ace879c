package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datahq/specstore/internal/sqldb"
)

// server is a process that is asked.
type server struct {
	name string
	addr string // host:port
	cmd  *exec.Cmd
	in   io.Closer // its standard input: its end is the server's
}

// cpu is the CPU time that the process has taken until now, by the clock that Linux
// keeps for each process (clock_getcpuclockid).
func (s *server) cpu() (time.Duration, error) {
	var t unix.Timespec
	const processClock = 2 // CPUCLOCK_SCHED
	if err := unix.ClockGettime(int32(^s.cmd.Process.Pid<<3|processClock), &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}

func (s *server) stop() error {
	if s.in != nil {
		s.in.Close()
	} else if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	kill := time.AfterFunc(20*time.Second, func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

const startWithin = 30 * time.Second

// startSpecstore starts specstore without workers, so that what is uploaded waits.
func startSpecstore(ctx context.Context, binary, dir, database, runner string) (*server, error) {
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	_ = os.Remove(filepath.Join(data, "server.json"))
	s := &server{name: "specstore"}
	// The driver stops it by a signal, not the context.
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), binary, "serve", "--no-workers", "--addr", "127.0.0.1:0", "--data", data)
	s.cmd.Env = append(os.Environ(), "DATABASE_URL="+database, "SPECSTORE_RUNNER="+runner, "SPECSTORE_LOG=text")
	log, err := os.Create(filepath.Join(dir, "specstore.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd.Stderr, s.cmd.Stdout = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(startWithin); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(data, "server.json"))
		if err != nil {
			continue
		}
		var info struct{ URL string }
		if json.Unmarshal(text, &info) == nil && info.URL != "" {
			u, err := url.Parse(info.URL)
			if err != nil {
				return nil, err
			}
			s.addr = u.Host
			return s, nil
		}
	}
	return nil, errors.Join(errors.New("specstore does not start"), s.stop())
}

func startFloor(ctx context.Context, binary, database string) (*server, error) {
	s := &server{name: "floor"}
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), binary)
	s.cmd.Env = append(os.Environ(), "DATABASE_URL="+database)
	s.cmd.Stderr = os.Stderr
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the floor does not start: %w", err), s.stop())
	}
	s.addr = strings.TrimPrefix(strings.TrimSpace(line), "http://")
	return s, nil
}

// databases makes databases of a kind.
type databases interface {
	version(ctx context.Context) (string, error)
	create(ctx context.Context, name string) (url string, err error)
	copy(ctx context.Context, from, to string) (url string, err error)
}

type postgresDatabases struct{ url string }

func (p *postgresDatabases) exec(ctx context.Context, fn func(*sqldb.DB) error) error {
	db, err := sqldb.Open(ctx, sqldb.Config{URL: p.url, Conns: 2})
	if err != nil {
		return err
	}
	defer db.Close()
	return fn(db)
}

func (p *postgresDatabases) version(ctx context.Context) (v string, err error) {
	err = p.exec(ctx, func(db *sqldb.DB) error {
		return db.Pool().QueryRow(ctx, `SHOW server_version`).Scan(&v)
	})
	return "PostgreSQL " + v + ", fsync off, over a Unix socket", err
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
	err = db.SQL().QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&v)
	return fmt.Sprintf("SQLite %s, synchronous=FULL; %s", v, s.fsync()), err
}

// fsync measures how long the disk takes.
func (s *sqliteDatabases) fsync() string {
	f, err := os.CreateTemp(s.dir, "fsync")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const times = 50
	begun := time.Now()
	for range times {
		_, _ = f.WriteString(strings.Repeat("x", 4096))
		if err := f.Sync(); err != nil {
			return err.Error()
		}
	}
	return fmt.Sprintf("an fsync of 4 KiB takes %.2f ms", time.Since(begun).Seconds()*1000/times)
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

// machine says what it is measured on.
func machine() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	model := "unknown"
	for line := range strings.SplitSeq(string(text), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%d CPUs (%s), %s/%s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}
