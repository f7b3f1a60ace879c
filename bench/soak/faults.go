package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// faults does to servers, disk and database what happens to them, one thing after the
// other, until ctx ends; then all of it is undone.
func (s *soak) faults(ctx context.Context) {
	random := rand.New(rand.NewPCG(s.seed, 1))
	for ctx.Err() == nil {
		pause(ctx, 2*time.Second+time.Duration(random.Int64N(int64(6*time.Second))))
		if ctx.Err() != nil {
			return
		}
		p := s.processes[random.IntN(len(s.processes))]
		long := time.Second + time.Duration(random.Int64N(int64(11*time.Second)))
		switch n := random.IntN(10); {
		case n < 3:
			s.restart(ctx, p, syscall.SIGKILL)
		case n < 5:
			s.restart(ctx, p, syscall.SIGTERM)
		case n < 7:
			s.did("stopped for "+long.Round(time.Second).String(), p.name)
			p.signal(syscall.SIGSTOP, true)
			pause(ctx, long)
			p.resume()
		case n < 8 && s.disk != "":
			s.fillDisk(ctx, long)
		case n < 9 && s.proxy != nil:
			mode := []int32{hanging, refusing}[random.IntN(2)]
			s.did(fmt.Sprintf("the database is away (%s) for %s", modes[mode], long.Round(time.Second)), "")
			s.proxy.set(mode)
			pause(ctx, long)
			s.proxy.set(passing)
		default:
			s.killRun(p)
		}
	}
}

func (s *soak) did(what, server string) {
	s.counts.add(what[:min(len(what), 12)])
	s.history.add(record{Kind: fault, Server: server, Text: what})
}

// restart ends a process by a signal and starts it again.
func (s *soak) restart(ctx context.Context, p *process, by syscall.Signal) {
	s.did(by.String(), p.name)
	if !p.end(by) {
		s.history.add(record{Kind: left, Server: p.name, Text: fmt.Sprintf("%s did not end within %s of %s", p.name, stopTime, by)})
	}
	pause(ctx, 500*time.Millisecond)
	s.again(context.WithoutCancel(ctx), p)
}

// again starts a process until it answers: its database or disk may be away.
func (s *soak) again(ctx context.Context, p *process) {
	for {
		err := p.start(ctx)
		if err == nil {
			return
		}
		s.history.add(record{Kind: fault, Server: p.name, Text: "start: " + err.Error()})
		p.end(syscall.SIGKILL)
		pause(ctx, time.Second)
		if s.over.Load() {
			return
		}
	}
}

// killRun kills the child processes of a process, in which flows run.
func (s *soak) killRun(p *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	for _, pid := range children(p.cmd.Process.Pid) {
		s.did("run killed", p.name)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// fillDisk takes all room of the disk for a time.
func (s *soak) fillDisk(ctx context.Context, long time.Duration) {
	s.did("disk full for "+long.Round(time.Second).String(), "")
	ballast := filepath.Join(s.disk, "ballast")
	defer os.Remove(ballast)
	f, err := os.Create(ballast)
	if err != nil {
		return
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for end := time.Now().Add(long); time.Now().Before(end) && ctx.Err() == nil; {
		if _, err := f.Write(block); err != nil {
			// What others free in the meantime is taken, too.
			pause(ctx, 50*time.Millisecond)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// What a proxy does with connections.
const (
	passing  int32 = iota
	hanging        // bytes are not passed on
	refusing       // connections end
)

var modes = map[int32]string{hanging: "hanging", refusing: "refusing"}

// proxy stands between servers and a PostgreSQL, both on sockets of this machine.
type proxy struct {
	database string // its socket
	listener net.Listener
	mode     atomic.Int32

	mu   sync.Mutex
	open map[net.Conn]bool
	wg   sync.WaitGroup
}

func newProxy(ctx context.Context, socket, database string) (*proxy, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	p := &proxy{database: database, listener: l, open: map[net.Conn]bool{}}
	p.wg.Go(func() { p.accept(context.WithoutCancel(ctx)) })
	return p, nil
}

func (p *proxy) accept(ctx context.Context) {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := (&net.Dialer{}).DialContext(ctx, "unix", p.database)
		if err != nil || p.mode.Load() == refusing {
			_ = in.Close() // as a server that has gone
			if err == nil {
				_ = out.Close()
			}
			continue
		}
		p.mu.Lock()
		p.open[in], p.open[out] = true, true
		p.mu.Unlock()
		p.wg.Go(func() { p.pass(in, out) })
		p.wg.Go(func() { p.pass(out, in) })
	}
}

// pass copies one direction of a connection while the mode allows.
func (p *proxy) pass(from, to net.Conn) {
	defer func() {
		_ = from.Close() // either end may have gone
		_ = to.Close()
		p.mu.Lock()
		delete(p.open, from)
		delete(p.open, to)
		p.mu.Unlock()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		for p.mode.Load() == hanging {
			time.Sleep(10 * time.Millisecond)
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) set(mode int32) {
	p.mode.Store(mode)
	if mode != refusing {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close() // either end may have gone
	}
}

func (p *proxy) close() {
	_ = p.listener.Close() // it ends all the same
	p.set(refusing)
	p.wg.Wait()
}
