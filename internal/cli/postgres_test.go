package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// Several processes share a PostgreSQL database: what one worker that is killed had
// begun another one ends.
func TestWorkersShareADatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	database := "DATABASE_URL=" + testkit.DB(t, sqldb.Postgres)
	s := startServer(t, data, database, "SPECSTORE_WORKERS=0")
	env := []string{database, "SPECSTORE_PUBLIC_URL=" + s.url, "SPECSTORE_WORKERS=1"}
	first := startWorker(t, data, env...)

	// It signs for itself, with the key that the database holds.
	specstore := func(args ...string) (int, string) {
		cmd := exec.Command("specstore", append(args, "--data", data)...)
		cmd.Env = append(os.Environ(), database)
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	if code, out := specstore("push", filepath.Join(testkit.Root(t), "examples", "elements")); code != 0 || !strings.Contains(out, "SUCCEEDED") {
		t.Fatalf("push: %d %s", code, out)
	}
	table(t, filepath.Join(dir, "big"), 400_000)
	if code, out := specstore("push", filepath.Join(dir, "big"), "--no-wait"); code != 0 {
		t.Fatalf("push: %d %s", code, out)
	}
	await := func(state string, patience time.Duration) statusJSON {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			st := s.status("local/big/latest")
			if st.State == state {
				return st
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is %s, not %s", st.ID, st.State, state)
			}
		}
	}
	await("INPROGRESS", 30*time.Second)
	first.Process.Kill()
	first.Wait()
	startWorker(t, data, env...)
	if st := await("SUCCEEDED", time.Minute); st.Attempt != 2 {
		t.Errorf("attempt %d", st.Attempt)
	}
}
