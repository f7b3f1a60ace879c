package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// children are the processes that a process started and that go on.
func children(t *testing.T, of int) (pids []int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("processes are found in /proc")
	}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", of))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		text, _ := os.ReadFile(list) // a thread may have ended
		for field := range strings.FieldsSeq(string(text)) {
			pids = append(pids, testkit.Must(strconv.Atoi(field))(t))
		}
	}
	return pids
}

// awaitEnd waits until processes have ended.
func awaitEnd(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		for n := 0; !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH); n++ {
			if n == 500 {
				t.Fatalf("process %d goes on", pid)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// TestChild: the process of a run has no secret, ends with its server whatever ends that,
// and nothing of it is left when the server has started again.
func TestChild(t *testing.T) {
	t.Parallel()
	for _, kind := range []sqldb.Dialect{sqldb.SQLite, sqldb.Postgres} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			reading, rest := make(chan struct{}, 10), make(chan struct{})
			goOn := sync.OnceFunc(func() { close(rest) })
			source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "id,name\n"+strings.Repeat("1,one\n", 10_000))
				http.NewResponseController(w).Flush()
				reading <- struct{}{}
				select {
				case <-rest:
				case <-r.Context().Done():
				}
			}))
			t.Cleanup(source.Close)
			t.Cleanup(goOn)
			dir := t.TempDir()
			data, slow := filepath.Join(dir, "data"), filepath.Join(dir, "slow")
			table(t, slow, 1)
			descriptor := fmt.Sprintf(`{"name":"big","resources":[{"name":"t","path":"%s/t.csv","schema":{"fields":[{"name":"id","type":"integer"},{"name":"name"}]}}]}`, source.URL)
			if err := os.WriteFile(filepath.Join(slow, "datapackage.json"), []byte(descriptor), 0o600); err != nil {
				t.Fatal(err)
			}
			const secret = "a-secret-of-the-operator"
			database := "DATABASE_URL=" + testkit.DB(t, kind)
			env := []string{database, "SPECSTORE_FETCH_ALLOW=127.0.0.1", "SPECSTORE_UPDATE_TOKEN=" + secret, "AWS_SECRET_ACCESS_KEY=" + secret}
			s := startServer(t, data, env...)
			push := func() (busy []int) {
				t.Helper()
				cmd := exec.Command("specstore", "push", slow, "--data", data, "--no-wait")
				cmd.Env = append(os.Environ(), database)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("push: %v %s", err, out)
				}
				select {
				case <-reading:
				case <-time.After(time.Minute):
					t.Fatalf("the source is not read: %s", s.log.String())
				}
				if busy = children(t, s.cmd.Process.Pid); len(busy) == 0 {
					t.Fatal("no process runs the flow")
				}
				return busy
			}

			busy := push()
			for _, pid := range busy {
				if environ := testkit.Must(os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)))(t); bytes.Contains(environ, []byte(secret)) || bytes.Contains(environ, []byte("DATABASE")) {
					t.Errorf("the environment is %q", environ)
				}
			}
			temps := testkit.Must(filepath.Glob(filepath.Join(data, "tmp", "*run-*")))(t)
			mark := "alone"
			if kind == sqldb.Postgres {
				temps = testkit.Must(filepath.Glob(filepath.Join(data, "tmp", "process-*", "run-*")))(t)
				mark = filepath.Base(filepath.Dir(temps[0]))
			}
			if len(temps) != 1 {
				t.Fatalf("%q are in the making", temps)
			}
			// As of a child that ended while it moved a file into the store.
			half := filepath.Join(data, "pkgstore", "_tmp", mark+"-1-HALF")
			if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			s.kill()
			awaitEnd(t, busy)

			s = startServer(t, data, env...)
			for _, name := range []string{temps[0], half} {
				if _, err := os.Stat(name); err == nil {
					t.Errorf("%s is left behind", name)
				}
			}
			select {
			case <-reading: // it goes on
			case <-time.After(time.Minute):
				t.Fatalf("the flow does not go on: %s", s.log.String())
			}
			busy = children(t, s.cmd.Process.Pid)
			begun := time.Now()
			if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := s.cmd.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, s.log.String())
			}
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("it stopped after %s", took)
			}
			awaitEnd(t, busy)
			if left := testkit.Must(filepath.Glob(filepath.Join(data, "tmp", "*")))(t); len(left) > 0 {
				t.Errorf("%q are left behind", left)
			}

			s = startServer(t, data, env...)
			<-reading
			goOn()
			for n := 0; s.status("local/big/1").State != "SUCCEEDED"; n++ {
				if n == 1000 {
					t.Fatalf("%+v\n%s", s.status("local/big/1"), s.log.String())
				}
				time.Sleep(20 * time.Millisecond)
			}
			// One interruption and one stop are two further attempts.
			if st := s.status("local/big/1"); st.Attempt != 3 {
				t.Errorf("attempt %d, want 3", st.Attempt)
			}
		})
	}
}

// TestRunLimits: a run on the command line fails for a limit as one of a server does.
func TestRunLimits(t *testing.T) {
	t.Parallel()
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "id,name\n"+strings.Repeat("1,one\n", 100_000))
		<-r.Context().Done()
	}))
	t.Cleanup(endless.Close)
	dir := t.TempDir()
	table(t, filepath.Join(dir, "big"), 1)
	descriptor := fmt.Sprintf(`{"name":"big","resources":[{"name":"t","path":"%s/t.csv","schema":{"fields":[{"name":"id","type":"integer"},{"name":"name"}]}}]}`, endless.URL)
	if err := os.WriteFile(filepath.Join(dir, "big", "datapackage.json"), []byte(descriptor), 0o600); err != nil {
		t.Fatal(err)
	}
	// A row that cannot be in memory within the limit.
	wide := filepath.Join(dir, "wide")
	table(t, wide, 1)
	cell := strings.Repeat("x", 30<<20)
	if err := os.WriteFile(filepath.Join(wide, "t.csv"), []byte("id,name,price\n1,"+cell+",2\n2,"+cell+",2\n3,"+cell+",2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env, want string
		code      int
	}{
		{"SPECSTORE_RUN_MEMORY=64MiB", "the run was ended: it used more than 64 MiB of memory (SPECSTORE_RUN_MEMORY)", 1},
		{"SPECSTORE_RUN_TIMEOUT=300ms", "the run was ended: it took longer than 300ms (SPECSTORE_RUN_TIMEOUT)", 1},
		{"SPECSTORE_RUN_DISK=1000", "the run was ended: its temporary files took more than 1000 bytes (SPECSTORE_RUN_DISK)", 1},
		{"SPECSTORE_MAX_SOURCE_BYTES=1KiB", "the source has more than 1024 bytes (SPECSTORE_MAX_SOURCE_BYTES)", 1},
		{"SPECSTORE_RUN_TIMEOUT=soon", `SPECSTORE_RUN_TIMEOUT: "soon" is not a time such as 90m or 6h`, 2},
		{"SPECSTORE_RUN_TIMEOUT=-1h", `SPECSTORE_RUN_TIMEOUT: "-1h" is not a time`, 2},
		{"SPECSTORE_RUN_MEMORY=1MiB", `SPECSTORE_RUN_MEMORY: "1MiB" is less than 64 MiB, which the program itself needs`, 2},
		{"SPECSTORE_RUN_DISK=0", `SPECSTORE_RUN_DISK: "0" is not a size such as 512MiB or 1GiB`, 2},
		{"SPECSTORE_MAX_SOURCE_BYTES=much", `SPECSTORE_MAX_SOURCE_BYTES: "much" is not a size`, 2},
	} {
		t.Run(c.env, func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join(dir, "big")
			if strings.Contains(c.env, "MEMORY") {
				folder = wide
			}
			for _, flags := range [][]string{nil, {"--json"}} {
				out := filepath.Join(t.TempDir(), "out")
				cmd := exec.Command("specstore", append([]string{"run", folder, "--out", out}, flags...)...)
				cmd.Env = append(os.Environ(), "SPECSTORE_FETCH_ALLOW=127.0.0.1", c.env)
				said, err := cmd.CombinedOutput()
				if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(said), c.want) {
					t.Errorf("%v %q, exit code %d, want %d, %q", err, said, code, c.code, c.want)
				}
				if _, err := os.Stat(filepath.Join(out, "datapackage.json")); err == nil {
					t.Error("a package was written")
				}
			}
			if c.code == 2 {
				cmd := exec.Command("specstore", "serve", "--data", t.TempDir(), "--addr", "127.0.0.1:0")
				cmd.Env = append(os.Environ(), c.env)
				if said, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(said), c.want) {
					t.Errorf("serve: %v %q, want %q", err, said, c.want)
				}
			}
		})
	}
}
