package runner

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"reflect"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
)

const (
	progressEvery = 500 * time.Millisecond
	// softMemory is what the garbage collector of a child aims to stay under, in bytes:
	// what a table takes that is wide or has large cells is mostly waste that is not
	// collected yet. GOMEMLIMIT says otherwise.
	softMemory = 48 << 20
	// garbage is how much may be waste beside what is used, in percent, below softMemory:
	// a child that runs small tables uses a few megabytes, and would collect all the
	// time. GOGC says otherwise.
	garbage = 200
	// idleMemory is what a child may hold while it waits for another flow, in bytes.
	idleMemory = 32 << 20
	// orphanTime is how long a child has to end by itself after its parent has.
	orphanTime = time.Second
)

// Child runs the flows that a parent names, one after the other, until in ends, and
// gives the exit code. in and out are for the parent alone; log gets what an operator
// may want to read. It takes the whole process: it ignores the signals that are meant
// for the parent, and kills itself where in ends while a flow runs.
func Child(in io.Reader, out, log io.Writer) int {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	offer()
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softMemory)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	c := &child{out: &sender{w: out}, in: make(chan message), log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	var reading sync.WaitGroup
	defer reading.Wait()
	reading.Go(func() {
		defer close(c.in)
		for {
			m, _, err := receive(in)
			if err != nil {
				// A flow that cannot be stopped must not outlive its parent.
				time.AfterFunc(orphanTime, killSelf)
				return
			}
			c.in <- m
		}
	})
	defer c.closeStores()
	for m := range c.in {
		if m.Kind != kindJob {
			return 1
		}
		if err := c.serve(m.Job); err != nil {
			c.log.Error("the parent cannot be reached", "error", err)
			return 1
		}
		if held() > idleMemory {
			debug.FreeOSMemory()
		}
	}
	return 0
}

func killSelf() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill()
	}
}

// child is the process that runs flows, from its own side.
type child struct {
	in     chan message // closed when the parent has ended
	out    *sender
	log    *slog.Logger
	places Places // of the open stores
	stores *stores
}

var errOrphan = errors.New("the parent has ended")

func (c *child) closeStores() {
	if c.stores != nil {
		_ = c.stores.free() // it has nothing in the making
		c.stores = nil
	}
}

// open opens the stores of a job; mostly they are those of the one before.
func (c *child) open(p Places) (err error) {
	if c.stores != nil && reflect.DeepEqual(p, c.places) {
		return nil
	}
	c.closeStores()
	c.places = p
	c.stores, err = openStores(p)
	return err
}

// serve reads the rest of what belongs to a job, runs it and sends how it ended.
func (c *child) serve(j *Job) error {
	flow := engine.Flow{Done: map[string]*engine.Result{}, Earlier: map[string][]engine.Earlier{}, Progress: engine.NewProgress(), Log: c.log, Temp: j.Temp, MaxSource: j.Source}
	for {
		m, ok := <-c.in
		switch {
		case !ok:
			return errOrphan
		case m.Kind == kindGo:
			end := message{Kind: kindEnd}
			outcome, err := c.run(j, flow)
			if err != nil {
				end.Failure = failureOf(err)
			} else {
				end.Success = outcome.Success
			}
			return c.out.send(end)
		case m.Kind == kindResult && m.Result != nil:
			result := &engine.Result{}
			if json.Unmarshal(m.Result.Result, result) != nil {
				continue // of another version
			}
			if name := m.Result.Pipeline; m.Result.Flow == "" {
				flow.Done[name] = result
			} else {
				flow.Earlier[name] = append(flow.Earlier[name], engine.Earlier{FlowID: m.Result.Flow, Result: result})
			}
		default:
			return errs.New(errs.Internal, "runner.serve", "a message that does not belong there: %q", m.Kind)
		}
	}
}

func (c *child) run(j *Job, flow engine.Flow) (*engine.Outcome, error) {
	if err := c.open(j.Places); err != nil {
		return nil, err
	}
	var err error
	if flow.Pipelines, err = j.plan(); err != nil {
		return nil, err
	}
	used := &usage{}
	flow.Sink = c.stores.sink(j)
	flow.Sources = &counting{&sources{c.stores, j.Places.RawBases, j.OwnerID}, &used.sources}
	flow.Report = func(_ context.Context, news []engine.Event) error { return c.report(news) }
	ctx, stop := context.WithCancel(context.Background())
	var telling sync.WaitGroup
	telling.Go(func() { c.tell(ctx, flow.Progress, used) })
	defer telling.Wait()
	defer stop()
	return engine.Execute(ctx, flow)
}

// report sends events to the parent and waits until it has them.
func (c *child) report(news []engine.Event) error {
	size := 0
	for _, n := range news {
		if n.Cascaded {
			continue
		}
		e := &Event{
			Pipeline: n.Pipeline, Kind: n.Kind, Success: n.Success, Errors: n.Errors, Log: n.Log, Reused: n.Reused(),
		}
		if n.Result != nil {
			var err error
			if e.Stats, err = json.Marshal(n.Result.Stats); err != nil {
				return err
			}
			if e.Outputs, err = json.Marshal(n.Result); err != nil {
				return err
			}
		}
		if err := c.out.send(message{Kind: kindEvent, Event: e}); err != nil {
			return err
		}
		if size += len(e.Outputs); size > fullReport {
			if err := c.settle(); err != nil {
				return err
			}
			size = 0
		}
	}
	return c.settle()
}

// settle ends a report and waits until the parent has done with it.
func (c *child) settle() error {
	if err := c.out.send(message{Kind: kindReport}); err != nil {
		return err
	}
	if m, ok := <-c.in; !ok || m.Kind != kindAck {
		return errOrphan
	}
	return nil
}

// tell says how far the run has come, until ctx ends.
func (c *child) tell(ctx context.Context, counts *engine.Progress, used *usage) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	var before map[string]engine.Count
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p := &progress{Sources: used.sources.Load(), Memory: held()}
		if now := counts.Snapshot(); !maps.Equal(now, before) {
			p.Counts, before = now, now
		}
		if c.out.send(message{Kind: kindProgress, Progress: p}) != nil {
			return // the parent has ended, or what it waits for says so
		}
	}
}
