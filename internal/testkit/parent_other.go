//go:build !linux

package testkit

import "syscall"

// endWithParent is for Linux, which can end a process with its parent.
func endWithParent(*syscall.SysProcAttr) {}
