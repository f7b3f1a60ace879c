package testkit

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// Processes are the IDs of those processes whose working folder is dir. Where the system
// does not say it the test is skipped.
func Processes(t testing.TB, dir string) (pids []int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("processes are found in /proc")
	}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if at, err := os.Readlink(link); err != nil || at != dir {
			continue // of another user, or it has ended
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// AwaitProcesses waits until so many processes work in a folder, and returns them.
func AwaitProcesses(t testing.TB, dir string, n int) (pids []int) {
	t.Helper()
	for range 1000 {
		if pids = Processes(t, dir); len(pids) == n {
			return pids
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%d processes work in %s, want %d", len(pids), dir, n)
	return nil
}
