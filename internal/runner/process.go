package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/datahq/specstore/internal/errs"
)

// passed are the variables that a child gets of its parent's environment, where they are
// set: those of Go itself, of where the system's certificates lie, and of the zone of times.
// None holds a secret.
var passed = []string{
	"GOMEMLIMIT", "GOGC", "GOMAXPROCS", "GODEBUG", "GOTRACEBACK", "GOCOVERDIR", "GORACE", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ", "SYSTEMROOT",
}

const (
	maxLog   = 8 << 10 // bytes of what a child logs that are kept
	waitTime = 2 * time.Second
)

// process is a child from its parent's side. One goroutine at a time talks to it.
type process struct {
	cmd  *exec.Cmd
	to   sender
	in   io.WriteCloser
	from io.Reader
	log  tail
	runs int
	wait func() error // waits for its end
}

// start starts a child. temp is where it would put files that belong to no run.
func start(temp string) (*process, error) {
	path, err := program()
	if err != nil {
		return nil, fmt.Errorf("runner.start: %w", err)
	}
	// It is ended by [process.kill] and not by a context.
	cmd := exec.CommandContext(context.Background(), path, Command)
	cmd.Args[0] = os.Args[0]
	cmd.Env = []string{"TMPDIR=" + temp}
	for _, name := range passed {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Dir = temp
	cmd.SysProcAttr = attributes()
	cmd.WaitDelay = waitTime
	p := &process{cmd: cmd}
	cmd.Stderr = &p.log
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("runner.start: %w", err)
	}
	if p.from, err = cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("runner.start: %w", err)
	}
	p.to.w = p.in
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("runner.start: %w", err)
	}
	p.wait = sync.OnceValue(cmd.Wait)
	return p, nil
}

// end ends a child and waits for it.
func (p *process) end() {
	p.kill()
	_ = p.wait() // it was killed
}

// kill ends the child at once, also one that is stopped.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

// died waits for a child that has broken off and says why in words. Where it had closed
// its output and goes on, it is killed.
func (p *process) died() error {
	// One that ends by itself has a moment to do so, so that its own reason shows.
	late := time.AfterFunc(waitTime, p.kill)
	defer late.Stop()
	err := p.wait()
	log := p.log.String()
	return errs.Wrap(errors.Join(ErrDied, err, errors.New(log)), errs.Unavailable, "runner.Run", "%s", reason(p.cmd.ProcessState, log))
}

// reason is why a process ended, as its owner may read it.
func reason(state *os.ProcessState, log string) string {
	if state == nil {
		return "the process of the run ended for a reason that is not known"
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		text := fmt.Sprintf("the process of the run was killed by signal %d (%s)", int(status.Signal()), status.Signal())
		if status.Signal() == syscall.SIGKILL {
			text += ", perhaps because the machine ran out of memory"
		}
		return text
	}
	for line := range strings.Lines(log) {
		// The texts of fatal errors are Go's own.
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "fatal error: "); ok {
			return "the process of the run crashed: " + cut(text, 200)
		}
		if strings.HasPrefix(line, "SIG") {
			return "the process of the run crashed: " + strings.TrimSpace(cut(line, 200))
		}
		if strings.HasPrefix(line, "panic: ") {
			return "the process of the run crashed: a fault of the program, which the server's log shows"
		}
	}
	return fmt.Sprintf("the process of the run ended by itself (%s)", state)
}

// tail keeps the beginning and the end of what is written to it.
type tail struct {
	mu    sync.Mutex
	first bytes.Buffer // where a crash says its reason
	last  []byte
}

// Write keeps p, and drops what has become too much.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	room := min(max(maxLog/2-t.first.Len(), 0), n)
	t.first.Write(p[:room])
	t.last = append(t.last, p[room:]...)
	if over := len(t.last) - maxLog/2; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return n, nil
}

// String is what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first.String() + string(t.last)
}

// take is what was kept, which is forgotten.
func (t *tail) take() string {
	s := t.String()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.first.Reset()
	t.last = t.last[:0]
	return s
}
