package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// process is a server or a worker that is killed, stopped and started again.
type process struct {
	name   string
	args   []string
	env    []string
	dir    string
	url    string // of a server; empty of a worker
	binary string

	mu     sync.Mutex
	cmd    *exec.Cmd
	ended  chan struct{}
	up     bool      // it is to answer
	upFrom time.Time // since when
}

const startTime = 30 * time.Second

// freePort returns a port of the loopback that nothing listens on.
func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// start runs the process; where it is a server, it waits until that answers.
func (p *process) start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(p.dir, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.binary, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), p.env...), log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	p.mu.Lock()
	p.cmd, p.ended = cmd, ended
	p.mu.Unlock()
	for end := time.Now().Add(startTime); ; {
		if p.url == "" || healthy(ctx, p.url) == nil {
			p.mu.Lock()
			p.up, p.upFrom = true, time.Now()
			p.mu.Unlock()
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("%s has ended: see %s", p.name, log.Name())
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not answer: see %s", p.name, log.Name())
		}
	}
}

// signal sends a signal; down says that the process is not to answer from here on.
func (p *process) signal(s syscall.Signal, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	if down {
		p.up = false
	}
	_ = p.cmd.Process.Signal(s)
}

// resume lets a stopped process go on.
func (p *process) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	p.up, p.upFrom = true, time.Now()
}

// end sends a signal and waits until the process has ended; it reports whether that took
// no longer than [stopTime].
func (p *process) end(s syscall.Signal) bool {
	p.signal(s, true)
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	if ended == nil {
		return true
	}
	select {
	case <-ended:
		return true
	case <-time.After(stopTime):
		p.signal(syscall.SIGKILL, true)
		<-ended
		return false
	}
}

// answering reports whether the process has been to answer since some time.
func (p *process) answering(since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up && p.upFrom.Before(since)
}

// memory returns the largest resident size that the process has had, in KiB.
func (p *process) memory() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return status(p.cmd.Process.Pid, "VmHWM:")
}

// status reads a number of a process's status, 0 where there is none.
func status(pid int, name string) int {
	f, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	return field(string(f), name)
}

var prober = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}

// healthy asks whether a server lives.
func healthy(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		return err
	}
	res, err := prober.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}
