package testkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"github.com/datahq/specstore/internal/sqldb"
)

// EachDB runs a test on a new, empty database of each kind: a SQLite file and a
// schema of a real PostgreSQL. url is what DATABASE_URL would be.
//
// The PostgreSQL is the one that TEST_DATABASE_URL names; else one that this test
// binary starts for itself, from the machine's server binaries or, where it has
// none, from those that Maven Central has. The package's TestMain must be [Main],
// which stops it. Where none can be had the test is skipped, and in CI it fails.
func EachDB(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	for _, kind := range []sqldb.Dialect{sqldb.SQLite, sqldb.Postgres} {
		t.Run(string(kind), func(t *testing.T) { test(t, DB(t, kind)) })
	}
}

// DB is the URL of a new, empty database of one kind; see [EachDB].
func DB(t testing.TB, kind sqldb.Dialect) string {
	t.Helper()
	if kind == sqldb.SQLite {
		return "sqlite:///" + filepath.Join(t.TempDir(), "test.db")
	}
	server, err := shared.url()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("testkit: no PostgreSQL: %v", err)
		}
		t.Skipf("no PostgreSQL: %v", err)
	}
	schema := fmt.Sprintf("test_%d_%d", os.Getpid(), shared.next())
	execute := func(ctx context.Context, query string) error {
		db, err := sqldb.Open(ctx, sqldb.Config{URL: server, Conns: 1})
		if err != nil {
			return err
		}
		return errors.Join(db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
			_, err := tx.Exec(ctx, query)
			return err
		}), db.Close())
	}
	if err := execute(t.Context(), "CREATE SCHEMA "+schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := execute(context.WithoutCancel(t.Context()), "DROP SCHEMA "+schema+" CASCADE"); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String()
}

// Main is the TestMain of a package whose tests use [EachDB]: it runs the tests and
// stops the server that they started.
func Main(m *testing.M) { os.Exit(Runner{m}.Run()) }

// Runner is [Main] for packages whose TestMain has more to do.
type Runner struct{ M interface{ Run() int } }

// Run runs the tests, stops the server that they started, and gives the exit code.
func (r Runner) Run() int {
	code := r.M.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "testkit:", err)
		code = max(code, 1)
	}
	return code
}

// StartPostgres starts a PostgreSQL that is nobody else's, for programs that measure.
// It does not wait for the disk. stop must be called.
func StartPostgres() (url string, stop func() error, err error) { return startPostgres(&postgres{}) }

// StartDurablePostgres is [StartPostgres] of one whose commits wait for the disk.
func StartDurablePostgres() (url string, stop func() error, err error) {
	return startPostgres(&postgres{durable: true})
}

func startPostgres(p *postgres) (url string, stop func() error, err error) {
	url, err = p.start()
	return url, p.stop, err
}

// shared is the PostgreSQL of all tests of a binary; [Main] owns it.
var shared postgres

type postgres struct {
	durable bool // commits wait for the disk
	mu      sync.Mutex
	schemas int
	tried   bool
	address string
	err     error
	dir     string
	process *os.Process
	ended   chan struct{}
}

func (p *postgres) next() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.schemas++
	return p.schemas
}

func (p *postgres) url() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.tried {
		p.tried = true
		if p.address = os.Getenv("TEST_DATABASE_URL"); p.address == "" {
			p.address, p.err = p.start()
		}
	}
	return p.address, p.err
}

func (p *postgres) stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return nil
	}
	// SIGINT is PostgreSQL's fast shutdown.
	err := p.process.Signal(syscall.SIGINT)
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		err = errors.Join(errors.New("PostgreSQL does not stop"), p.process.Kill())
		<-p.ended
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// start makes a database folder and runs a server on it, as another user where
// this one is root, which PostgreSQL refuses.
func (p *postgres) start() (string, error) {
	bin, err := serverBinaries()
	if err != nil {
		return "", err
	}
	if p.dir, err = os.MkdirTemp("", "pg"); err != nil {
		return "", err
	}
	attr := &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		if attr.Credential, err = otherUser(); err != nil {
			return "", err
		}
		if err := os.Chown(p.dir, int(attr.Credential.Uid), int(attr.Credential.Gid)); err != nil {
			return "", err
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(context.Background(), filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = p.dir, attr
		return cmd
	}
	data := filepath.Join(p.dir, "data")
	if out, err := command("initdb", "-D", data, "-U", "specstore", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	// A socket in the folder is this server's alone; a port might be taken.
	sync := "fsync=off"
	if p.durable {
		sync = "fsync=on"
	}
	server := command("postgres", "-D", data, "-k", p.dir, "-c", "listen_addresses=", "-c", sync, "-c", "max_connections=300")
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	server.Stdout, server.Stderr = log, log
	started := make(chan error, 1)
	p.ended = make(chan struct{})
	go func() {
		defer close(p.ended)
		endWithParent(attr)
		// The signal of the parent's end is bound to the thread that started it.
		runtime.LockOSThread()
		err := server.Start()
		started <- err
		if err == nil {
			_ = server.Wait()
		}
	}()
	if err := <-started; err != nil {
		return "", err
	}
	p.process = server.Process
	address := "postgresql+psycopg2://specstore@/postgres?host=" + url.QueryEscape(p.dir)
	deadline := time.Now().Add(30 * time.Second)
	for {
		db, err := sqldb.Open(context.Background(), sqldb.Config{URL: address, Conns: 1})
		if err == nil {
			return address, db.Close()
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			return "", fmt.Errorf("PostgreSQL does not start: %w: %s", err, text)
		}
		select {
		case <-p.ended:
			text, _ := os.ReadFile(log.Name())
			return "", fmt.Errorf("PostgreSQL has ended: %s", text)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func otherUser() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("root has no other user to run it as: neither postgres nor nobody is there")
}

// serverBinaries finds the folder with initdb and postgres.
func serverBinaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && isFile(filepath.Join(filepath.Dir(path), "postgres")) {
			return filepath.Dir(path), nil
		}
	}
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(debian) > 0 {
		return filepath.Dir(slices.MaxFunc(debian, func(a, b string) int { return len(a) - len(b) })), nil
	}
	return fetchBinaries()
}

func isFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// fetchBinaries unpacks a server from Maven Central where any user can read it.
func fetchBinaries() (string, error) {
	version := embeddedpostgres.V15
	final := filepath.Join(os.TempDir(), "specstore-postgres-"+string(version))
	if isFile(filepath.Join(final, "bin", "initdb")) {
		return filepath.Join(final, "bin"), nil
	}
	dir, err := os.MkdirTemp("", "specstore-postgres")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		return "", err
	}
	unpacked := filepath.Join(dir, "server")
	server := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().Version(version).Port(uint32(port)).Logger(&bytes.Buffer{}).
		CachePath(filepath.Join(dir, "cache")).RuntimePath(filepath.Join(dir, "run")).BinariesPath(unpacked))
	// It starts a server of its own, which root may not: the files are what is wanted.
	if err := server.Start(); err == nil {
		if err := server.Stop(); err != nil {
			return "", err
		}
	} else if !isFile(filepath.Join(unpacked, "bin", "initdb")) {
		return "", fmt.Errorf("the server cannot be fetched: %w", err)
	}
	if err := os.Chmod(unpacked, 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(unpacked, final); err != nil && !isFile(filepath.Join(final, "bin", "initdb")) {
		return "", err
	}
	return filepath.Join(final, "bin"), nil
}
