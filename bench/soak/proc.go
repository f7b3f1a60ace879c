package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// field reads a number behind a name in the form of /proc/PID/status, 0 where it is not there.
func field(text, name string) int {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			if words := strings.Fields(rest); len(words) > 0 {
				n, _ := strconv.Atoi(words[0])
				return n
			}
		}
	}
	return 0
}

// children returns the processes whose parent is pid.
func children(pid int) []int {
	var list []int
	for _, p := range pids() {
		if status(p, "PPid:") == pid {
			list = append(list, p)
		}
	}
	return list
}

// running returns the processes of a program, by the path of its file.
func running(binary string) []int {
	var list []int
	for _, p := range pids() {
		if exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(p), "exe")); err == nil && exe == binary {
			list = append(list, p)
		}
	}
	return list
}

func pids() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, n)
		}
	}
	return list
}
