package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
)

const (
	maxRuns    = 200       // of a child
	keepMemory = 128 << 20 // resident bytes of a child that is used again

	startAttempts, startWait = 5, time.Second // of a child
)

// Config is what a pool needs.
type Config struct {
	Places Places
	Limits Limits
	// Keep is how many children may wait for a flow; at least 1.
	Keep int
	// Temp is an existing folder in which children work.
	Temp string
	Log  *slog.Logger // nil discards
}

// Pool runs flows in children. Any number of goroutines may use it.
type Pool struct {
	Config

	mu      sync.Mutex
	idle    []*process
	closed  bool
	waiting sync.Cond // for the end of coming
	coming  bool      // a child is being started that is to wait

	starts   chan chan started
	warming  sync.WaitGroup
	starting sync.WaitGroup
}

type started struct {
	process *process
	err     error
}

// NewPool makes a pool, which has no child yet. Close must be called.
func NewPool(c Config) *Pool {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Keep = max(c.Keep, 1)
	p := &Pool{Config: c, starts: make(chan chan started)}
	p.waiting.L = &p.mu
	keepFiles()
	p.starting.Go(p.starter)
	return p
}

// Warm has a child wait for the next flow where none does. It returns before the child
// has started.
func (p *Pool) Warm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 && !p.closed && !p.coming {
		p.coming = true
		p.warming.Go(p.bring)
	}
}

// bring starts the child that is coming.
func (p *Pool) bring() {
	c, err := p.start()
	if err != nil {
		p.Log.Error("no process for runs can be started", "error", err)
	} else {
		p.put(c)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.coming = false
	p.waiting.Broadcast()
}

// starter starts the children, on one thread for as long as there is a pool: on Linux a
// child is killed when the thread that started it ends.
func (p *Pool) starter() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for answer := range p.starts {
		c, err := start(p.Temp)
		answer <- started{c, err}
	}
}

func (p *Pool) start() (*process, error) {
	answer := make(chan started, 1)
	p.starts <- answer
	s := <-answer
	return s.process, s.err
}

// take returns a child, and says whether it is new. Where none can be started it tries for
// a while.
func (p *Pool) take(ctx context.Context) (c *process, fresh bool, err error) {
	p.mu.Lock()
	for len(p.idle) == 0 && p.coming {
		p.waiting.Wait()
	}
	if n := len(p.idle); n > 0 {
		c = p.idle[n-1]
		p.idle = p.idle[:n-1]
	}
	p.mu.Unlock()
	if c != nil {
		return c, false, nil
	}
	for range startAttempts {
		if c, err = p.start(); err == nil {
			return c, true, nil
		}
		select {
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-time.After(startWait):
		}
	}
	return nil, false, errs.Wrap(errors.Join(ErrDied, err), errs.Unavailable, "runner.Run", "the process of the run could not be started")
}

// put has a child wait for another flow, or ends it.
func (p *Pool) put(c *process) {
	p.mu.Lock()
	keep := !p.closed && len(p.idle) < p.Keep
	if keep {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if !keep {
		c.end()
	}
}

// replace ends a child, and has another one wait.
func (p *Pool) replace(c *process) {
	c.end()
	p.Warm()
}

// clear removes what a child that has ended left in the making in the stores.
func (p *Pool) clear(ctx context.Context, at Places) {
	dir, err := folderOf(at.Packages)
	if err == nil {
		err = objstore.Clear(dir, at.Mark)
	}
	if err != nil {
		p.Log.WarnContext(ctx, "files in the making are left in the store of packages", "error", err)
	}
}

// Close ends the children that wait. No flow may be running any more.
func (p *Pool) Close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		c.end()
	}
	p.warming.Wait()
	close(p.starts)
	p.starting.Wait()
}

// Run runs a flow to its end. The error is not nil only where the flow was stopped
// before: by the end of ctx, with its cause; by a limit, an [ErrLimit]; by the end of the
// child, an [ErrDied]; by Report, with its error; or by what the child says of the
// machine. When Run returns, nothing of the run goes on.
func (p *Pool) Run(ctx context.Context, j *Job, h Hooks) (success bool, err error) {
	for {
		c, fresh, err := p.take(ctx)
		if err != nil {
			return false, err
		}
		heard := false
		success, err := p.run(ctx, c, j, h, &heard)
		if errors.Is(err, ErrDied) && !heard && !fresh {
			continue // it had ended while it waited
		}
		return success, err
	}
}

// run runs a flow in a child, and has another child wait where that one is spent. heard
// becomes whether the child has said anything.
func (p *Pool) run(ctx context.Context, c *process, j *Job, h Hooks, heard *bool) (bool, error) {
	job := *j
	job.Places, job.Source = p.Places, p.Limits.orDefault().Source
	job.Places.Fetch.MaxBytes = job.Source
	job.Places.Mark = fmt.Sprintf("%s-%d-", p.Places.Mark, c.cmd.Process.Pid)
	limited, stop := context.WithCancelCause(ctx)
	used := &usage{}
	var watching sync.WaitGroup
	watching.Go(func() { p.Limits.watch(limited, c.cmd.Process.Pid, j.Temp, used, stop) })
	whole := context.AfterFunc(limited, c.kill)
	success, err := c.converse(limited, &job, h, used, heard)
	clean := whole() && err == nil
	cause := context.Cause(limited)
	stop(nil)
	watching.Wait()
	if err != nil && cause != nil {
		err = cause
	} else if broken, ok := errors.AsType[*brokenError](err); ok {
		err = c.died()
		p.Log.WarnContext(ctx, "the process of a run ended", "flow", j.FlowID, "pid", c.cmd.Process.Pid, "error", err, "cause", broken.error)
	}
	if text := c.log.take(); text != "" && err == nil {
		p.Log.WarnContext(ctx, "a run wrote to its log", "flow", j.FlowID, "text", text)
	}
	c.runs++
	memory, _ := resident(c.cmd.Process.Pid)
	if clean && c.runs < maxRuns && memory < keepMemory {
		p.put(c)
	} else {
		p.replace(c)
		p.clear(ctx, job.Places)
	}
	return success, err
}

// brokenError says that a child does not speak any more.
type brokenError struct{ error }

// converse sends a child its job and receives what it answers, until the end.
func (c *process) converse(ctx context.Context, j *Job, h Hooks, used *usage, heard *bool) (success bool, err error) {
	if err := c.tell(j); err != nil {
		return false, err
	}
	var events []Event
	size := 0
	for {
		m, n, err := receive(c.from)
		if err != nil {
			return false, &brokenError{err}
		}
		*heard = true
		switch m.Kind {
		case kindEvent:
			if size += n; m.Event == nil || size > fullReport+maxMessage {
				return false, errs.New(errs.TooLarge, "runner.Run", "what the run publishes is described by more than %d MiB at once", (fullReport+maxMessage)>>20)
			}
			events = append(events, *m.Event)
		case kindReport:
			if len(events) > 0 {
				if err := h.Report(ctx, events); err != nil {
					return false, err
				}
			}
			events, size = nil, 0
			if err := c.to.send(message{Kind: kindAck}); err != nil {
				return false, &brokenError{err}
			}
		case kindProgress:
			if m.Progress != nil {
				used.sources.Store(m.Progress.Sources)
				used.memory.Store(m.Progress.Memory)
				if m.Progress.Counts != nil && h.Progress != nil {
					h.Progress(m.Progress.Counts)
				}
			}
		case kindEnd:
			if m.Failure != nil {
				return false, m.Failure.error()
			}
			return m.Success, nil
		default:
			return false, &brokenError{fmt.Errorf("runner: a message that does not belong there: %.20q", m.Kind)}
		}
	}
}

// tell sends a child its job.
func (c *process) tell(j *Job) error {
	send := func(m message) error {
		if err := c.to.send(m); errors.Is(err, errTooLong) {
			return err
		} else if err != nil {
			return &brokenError{err}
		}
		return nil
	}
	if err := send(message{Kind: kindJob, Job: j}); err != nil {
		return err
	}
	give := func(r result) error {
		if len(r.Result) == 0 {
			return nil
		}
		err := send(message{Kind: kindResult, Result: &r})
		if errors.Is(err, errTooLong) {
			return nil // then it is made again
		}
		return err
	}
	for id, r := range j.Done {
		if err := give(result{Pipeline: id, Result: r}); err != nil {
			return err
		}
	}
	for artifact, list := range j.Earlier {
		for _, e := range list {
			if err := give(result{Pipeline: artifact, Flow: e.FlowID, Result: e.Result}); err != nil {
				return err
			}
		}
	}
	return send(message{Kind: kindGo})
}
