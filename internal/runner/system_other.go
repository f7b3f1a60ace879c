//go:build !linux

package runner

import (
	"os"
	"syscall"
)

// program is what a child is started from.
func program() (string, error) { return os.Executable() }

// attributes are for Linux; elsewhere a child ends when its standard input does.
func attributes() *syscall.SysProcAttr { return nil }

// resident is known of this process alone, and there only of what Go holds; a child
// tells its own.
func resident(pid int) (int64, bool) {
	if pid != os.Getpid() {
		return 0, false
	}
	return held(), true
}

func unlinked(int, string) int64 { return 0 }

func offer() {}

func keepFiles() {}
