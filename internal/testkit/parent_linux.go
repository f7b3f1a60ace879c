package testkit

import "syscall"

// endWithParent makes a process end when the test binary is killed.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }
