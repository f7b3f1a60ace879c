package runner

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// program is what a child is started from. It is this very program, also where the file
// was replaced since the start.
func program() (string, error) { return "/proc/self/exe", nil }

// attributes make the system kill a child when its parent ends, in whatever way.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// resident is how many bytes of a process lie in memory.
func resident(pid int) (int64, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}

// unlinked is how many bytes the open files of a process take that were in a folder and
// have no name any more.
func unlinked(pid int, dir string) (total int64) {
	fds := "/proc/" + strconv.Itoa(pid) + "/fd"
	entries, err := os.ReadDir(fds)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		name := fds + "/" + e.Name()
		to, err := os.Readlink(name)
		if err != nil || !strings.HasPrefix(to, dir+"/") || !strings.HasSuffix(to, " (deleted)") {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			total += info.Size()
		}
	}
	return total
}

// offer makes this process the first that the system ends when memory runs out.
func offer() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) }

// keepFiles keeps what this process itself was given open by whoever started it from
// the children.
func keepFiles() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}
