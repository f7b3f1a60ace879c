package cli_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// startWorker is a `specstore worker` in a process of its own.
func startWorker(t *testing.T, data string, env ...string) *exec.Cmd {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command("specstore", "worker", "--data", data)
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("worker: %s", log.String())
		}
	})
	return cmd
}

// cluster is a server without workers on PostgreSQL, and a dataset that takes a while.
type cluster struct {
	*server
	env []string // of its workers
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	dir := t.TempDir()
	database := "DATABASE_URL=" + testkit.DB(t, sqldb.Postgres)
	s := startServer(t, filepath.Join(dir, "data"), database, "SPECSTORE_WORKERS=0")
	table(t, filepath.Join(dir, "big"), 400_000)
	return &cluster{s, []string{database, "SPECSTORE_PUBLIC_URL=" + s.url, "SPECSTORE_WORKERS=1"}}
}

func (c *cluster) worker() *exec.Cmd { return startWorker(c.t, c.data, c.env...) }

// push signs for itself, with the key that the database holds.
func (c *cluster) push(path string, args ...string) {
	c.t.Helper()
	cmd := exec.Command("specstore", append([]string{"push", path, "--data", c.data}, args...)...)
	cmd.Env = append(os.Environ(), c.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("push: %v %s", err, out)
	}
}

func (c *cluster) pushBig() { c.push(filepath.Join(filepath.Dir(c.data), "big"), "--no-wait") }

// await waits for a state of the big dataset.
func (c *cluster) await(state string) statusJSON {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		st := c.status("local/big/latest")
		if st.State == state {
			return st
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s is %s, not %s", st.ID, st.State, state)
		}
	}
}

// Several processes share a PostgreSQL database: what one worker that is killed had
// begun another one ends.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	first := c.worker()
	c.push(filepath.Join(testkit.Root(t), "examples", "elements"))
	c.pushBig()
	c.await("INPROGRESS")
	first.Process.Kill()
	first.Wait()
	c.worker()
	if st := c.await("SUCCEEDED"); st.Attempt != 2 {
		t.Errorf("attempt %d", st.Attempt)
	}
}

// A worker that stood still past its lease changes nothing when it goes on.
func TestStoppedWorker(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	first := c.worker()
	c.pushBig()
	c.await("INPROGRESS")
	if err := first.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c.worker()
	st := c.await("SUCCEEDED")
	if st.Attempt != 2 {
		t.Errorf("attempt %d", st.Attempt)
	}
	if err := first.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	if again := c.status("local/big/latest"); again.State != st.State || again.Attempt != st.Attempt || again.Links.Package != st.Links.Package || again.Modified != st.Modified {
		t.Errorf("%+v, then %+v", st, again)
	}
	// It works on.
	c.push(filepath.Join(testkit.Root(t), "examples", "elements"))
}

// proxy stands between a server and its database, and can be taken away.
type proxy struct {
	t    *testing.T
	dir  string
	real string

	mu       sync.Mutex
	listener net.Listener
	open     []net.Conn
	wg       sync.WaitGroup
}

func (p *proxy) start() {
	p.t.Helper()
	l, err := net.Listen("unix", filepath.Join(p.dir, ".s.PGSQL.5432"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.listener = l
	p.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", p.real)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.open = append(p.open, in, out)
			p.mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				p.wg.Go(func() {
					io.Copy(pair[0], pair[1])
					pair[0].Close()
				})
			}
		}
	})
}

func (p *proxy) stop() {
	p.listener.Close()
	p.mu.Lock()
	for _, c := range p.open {
		c.Close()
	}
	p.open = nil
	p.mu.Unlock()
	p.wg.Wait()
}

// While the database is away the server says so and when to come again; when it is
// back the server goes on by itself.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	database := testkit.DB(t, sqldb.Postgres)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if !filepath.IsAbs(q.Get("host")) {
		t.Skip("the database that TEST_DATABASE_URL names has no socket that a test can stand before")
	}
	dir, err := os.MkdirTemp("", "pg") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	p := &proxy{t: t, dir: dir, real: filepath.Join(q.Get("host"), ".s.PGSQL.5432")}
	p.start()
	defer p.stop()
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	database = "DATABASE_URL=" + u.String()
	s := startServer(t, filepath.Join(t.TempDir(), "data"), database)
	c := &cluster{s, []string{database}}
	c.push(filepath.Join(testkit.Root(t), "examples", "elements"))
	p.stop()
	res, err := http.Get(s.url + "/source/local/elements/1")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "the database is not available") || strings.Contains(string(body), dir) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	p.start()
	if st := s.status("local/elements/1"); st.State != "SUCCEEDED" {
		t.Errorf("%+v", st)
	}
	c.push(filepath.Join(testkit.Root(t), "examples", "elements"))

	// A run waits for it.
	table(t, filepath.Join(filepath.Dir(s.data), "big"), 400_000)
	c.pushBig()
	c.await("INPROGRESS")
	p.stop()
	time.Sleep(2 * time.Second)
	p.start()
	if st := c.await("SUCCEEDED"); st.Attempt != 1 {
		t.Errorf("attempt %d: %q", st.Attempt, st.ErrorLog)
	}
}

// TestServersStartTogether: servers that start at once on an empty database share its
// tables, its key and its secret.
func TestServersStartTogether(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	database := "DATABASE_URL=" + testkit.DB(t, sqldb.Postgres)
	var wg sync.WaitGroup
	servers := make([]*server, 4)
	for i := range servers {
		wg.Go(func() { servers[i] = startServer(t, filepath.Join(dir, fmt.Sprint("data", i)), database) })
	}
	wg.Wait()
	keys := map[string]bool{}
	for _, s := range servers {
		if s == nil {
			t.Fatal("a server did not start")
		}
		res, err := http.Get(s.url + "/auth/public-key")
		if err != nil {
			t.Fatal(err)
		}
		key, _ := io.ReadAll(res.Body)
		res.Body.Close()
		keys[string(key)] = true
	}
	if len(keys) != 1 {
		t.Errorf("%d keys", len(keys))
	}
}
