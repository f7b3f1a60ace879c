package cli_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
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

// While the database is away the server says so and when to come again; when it is
// back the server goes on by itself.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.DB(t, sqldb.Postgres))
	database := "DATABASE_URL=" + p.URL
	s := startServer(t, filepath.Join(t.TempDir(), "data"), database)
	c := &cluster{s, []string{database}}
	c.push(filepath.Join(testkit.Root(t), "examples", "elements"))
	p.Stop()
	res, err := http.Get(s.url + "/source/local/elements/1")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "the database is not available") || strings.Contains(string(body), "/pg") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	p.Start()
	if st := s.status("local/elements/1"); st.State != "SUCCEEDED" {
		t.Errorf("%+v", st)
	}
	c.push(filepath.Join(testkit.Root(t), "examples", "elements"))

	// A run waits for it.
	table(t, filepath.Join(filepath.Dir(s.data), "big"), 400_000)
	c.pushBig()
	c.await("INPROGRESS")
	p.Stop()
	time.Sleep(2 * time.Second)
	p.Start()
	if st := c.await("SUCCEEDED"); st.Attempt != 1 {
		t.Errorf("attempt %d: %q", st.Attempt, st.ErrorLog)
	}
}

// TestDatabaseSilent: while the database takes bytes and answers nothing the server says so
// too, within its bound, and it stops on SIGTERM.
func TestDatabaseSilent(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.DB(t, sqldb.Postgres))
	database := "DATABASE_URL=" + p.URL
	s := startServer(t, filepath.Join(t.TempDir(), "data"), database)
	c := &cluster{s, []string{database}}
	c.push(filepath.Join(testkit.Root(t), "examples", "elements"))
	p.Hold()
	var wg sync.WaitGroup
	for range 40 { // more than there are connections
		wg.Go(func() {
			res, err := (&http.Client{Timeout: 20 * time.Second}).Get(s.url + "/source/local/elements/1")
			if err != nil {
				t.Error(err)
				return
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
				t.Errorf("%d %s", res.StatusCode, body)
			}
		})
	}
	wg.Wait()
	s.answers("/readyz", http.StatusServiceUnavailable)
	s.answers("/healthz", http.StatusOK)
	p.Release()
	time.Sleep(time.Second) // for which an answer holds
	s.answers("/readyz", http.StatusOK)
	if st := s.status("local/elements/1"); st.State != "SUCCEEDED" {
		t.Errorf("%+v", st)
	}
	c.push(filepath.Join(testkit.Root(t), "examples", "elements"))
	p.Hold()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { s.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the server does not end")
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

// answers holds the status of an answer.
func (s *server) answers(path string, status int) {
	s.t.Helper()
	res, err := (&http.Client{Timeout: 20 * time.Second}).Get(s.url + path)
	if err != nil {
		s.t.Error(err)
		return
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != status {
		s.t.Errorf("%s: %d %s, want %d", path, res.StatusCode, body, status)
	}
}
