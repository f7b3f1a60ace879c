package service

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/datahq/specstore/internal/dpp"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
)

// DefaultSilence is how long a pipelines service may give no sign of a pipeline.
const DefaultSilence = 30 * time.Minute

const (
	// PollEvery is how often a pipelines service is asked for pipelines that it has
	// told nothing of for as long.
	PollEvery = 15 * time.Second
	// A burst of hooks leads to one look at the registry.
	lookGap = time.Second
	// Time that passed unseen, since the process or the registry stood still, is no
	// silence of the service.
	mostGap = 2 * PollEvery
	// dpp-runner sends nothing, and keeps little.
	runnerEvery = 2 * time.Second
	// Lines of a log that are kept of a pipeline.
	mostLog = 100
)

// news is what the process heard of pipelines that run elsewhere since the last look.
type news struct {
	nudge chan struct{}
	mu    sync.Mutex
	taken map[string]int64 // pipelines that the service queued, and of which attempt
}

func newNews() *news { return &news{nudge: make(chan struct{}, 1), taken: map[string]int64{}} }

// wake asks for a look soon. It never waits.
func (n *news) wake() {
	select {
	case n.nudge <- struct{}{}:
	default: // asked for already
	}
}

// heard notes an update. It never waits: the service stands still until its update is
// answered.
func (n *news) heard(e registry.Event) {
	if e.Kind == registry.KindQueue {
		n.mu.Lock()
		n.taken[registry.Unalias(e.Pipeline)] = e.Outside
		n.mu.Unlock()
	}
	n.wake()
}

// drain gives the pipelines that were queued since the last call.
func (n *news) drain() map[string]int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := n.taken
	n.taken = map[string]int64{}
	return taken
}

// sighting is what is known of a pipeline that the service should be at: it runs, or
// it waits and nothing is in its way.
type sighting struct {
	registry.OpenPipeline
	taken  bool          // the service has queued it
	silent time.Duration // since the last sign of it
	log    int           // bytes that it had logged
	says   string        // the service, when it was last asked
	round  int64
}

// dispatcher keeps a pipelines service at work, and hears what its hooks did not say.
// One goroutine uses it.
type dispatcher struct {
	*Service
	every time.Duration // PollEvery
	seen  map[string]*sighting
	quiet time.Duration // since any sign of the service's work
	round int64
	last  time.Time         // of the look before
	style dpp.Style         // "" where it must be found out
	named dpp.Style         // the one that was logged last
	said  string            // the failure that was logged last
	runs  map[string]string // names of runs, by their note
	// failed is the failure that stands, "" where the service answers.
	failed string
}

// Dispatch tells the pipelines service of flows and asks it for those that it should
// be at, until ctx ends. Every process may do so: what it finds out goes through
// [registry.Store.Apply], as a hook's news does. Without a service it returns at once.
//
// A hook may be lost, and the service may be. It is told again while something could
// run that it has not queued; it is asked for what it told nothing of for [PollEvery];
// and what it gives no sign of for the time that was set fails.
func (s *Service) Dispatch(ctx context.Context) { s.dispatch(ctx, PollEvery) }

func (s *Service) dispatch(ctx context.Context, every time.Duration) {
	if s.DPP == nil {
		return
	}
	d := &dispatcher{Service: s, every: every, seen: map[string]*sighting{}, runs: map[string]string{}}
	tick := time.NewTicker(every)
	defer tick.Stop()
	gap := min(lookGap, every)
	d.look(ctx, true)
	for {
		poll := false
		var soon <-chan time.Time
		if d.style == dpp.Runner && len(d.seen) > 0 {
			soon = time.After(min(runnerEvery, every))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			poll = true
		case <-soon:
		case <-s.news.nudge:
		}
		d.look(ctx, poll)
		select { // news that comes meanwhile is looked at once
		case <-ctx.Done():
			return
		case <-time.After(gap):
		}
	}
}

// look does once what there is to do. poll says that it is time to ask.
func (d *dispatcher) look(ctx context.Context, poll bool) {
	ready, err := d.see(ctx)
	if err != nil {
		d.last = time.Time{}
		if ctx.Err() == nil {
			d.say(ctx, "the registry cannot be read for the pipelines service", err)
		}
		return
	}
	d.tidy(ctx, ready)
	if len(ready) == 0 {
		d.style, d.failed = "", "" // by the next time it may be another service
		return
	}
	if d.style == "" {
		if d.style, err = d.DPP.Style(ctx); err != nil {
			d.trouble(ctx, err)
			d.expire(ctx, ready)
			return
		}
		if d.style != d.named {
			d.Log.InfoContext(ctx, "the pipelines service is spoken to", "style", d.style)
		}
		if d.style != d.named && d.style == dpp.Poll {
			d.Log.WarnContext(ctx, "the pipelines service has no refresh: it looks for pipelines by itself, once a minute")
		}
		d.named = d.style
	}
	switch d.style {
	case dpp.Runner:
		d.hand(ctx, ready)
	case dpp.Refresh:
		d.tell(ctx, ready)
	case dpp.Poll, dpp.Auto:
	}
	// What is about to be given up is asked for once more.
	if d.style != dpp.Runner && (poll || slices.ContainsFunc(ready, d.late)) {
		d.ask(ctx, ready)
	}
	d.expire(ctx, ready)
}

// see looks what could be at work, and for how long nothing was heard of it.
func (d *dispatcher) see(ctx context.Context) ([]*sighting, error) {
	now, gap := time.Now(), time.Duration(0)
	if !d.last.IsZero() {
		gap = min(now.Sub(d.last), mostGap)
	}
	d.round++
	taken := d.news.drain()
	var ready []*sighting
	sign := false
	states := map[string]registry.State{} // of the flow at hand
	flow := ""
	err := d.Registry.EachOpen(ctx, registry.DPP, func(p registry.OpenPipeline) {
		if p.FlowID != flow {
			flow = p.FlowID
			clear(states)
		}
		states[p.ID] = p.State
		if p.State.Ended() {
			return
		}
		for _, id := range p.Dependencies {
			if states[id] != registry.Succeeded && p.State == registry.Queued {
				return
			}
		}
		s := d.seen[p.ID]
		switch {
		case s == nil || s.Attempt != p.Attempt:
			s = &sighting{}
			d.seen[p.ID] = s
		case s.Updated != p.Updated || s.State != p.State:
			s.silent, sign = 0, true
		default:
			s.silent += gap
		}
		attempt, queued := taken[p.ID]
		queued = queued && (attempt == 0 || attempt == p.Attempt)
		s.OpenPipeline, s.round = p, d.round
		s.taken = s.taken || queued || p.State == registry.Running
		sign = sign || queued
		ready = append(ready, s)
	})
	if err != nil {
		return nil, err
	}
	d.last = now
	d.quiet += gap
	for id, s := range d.seen {
		if s.round != d.round { // it has ended, which is a sign, or its flow has
			delete(d.seen, id)
			sign = true
		}
	}
	if sign {
		d.quiet = 0
	}
	return ready, nil
}

// tell lets the service know while there is something that it has not queued: it takes
// up at most four at a time.
func (d *dispatcher) tell(ctx context.Context, ready []*sighting) {
	for _, s := range ready {
		if s.taken {
			continue
		}
		if err := d.DPP.Refresh(ctx); err != nil {
			d.trouble(ctx, err)
			return
		}
		d.failed, d.said = "", ""
		return
	}
}

// trouble notes that the service does not do as it should, and says so once.
func (d *dispatcher) trouble(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	d.failed = "it cannot be reached"
	d.style = ""
	d.say(ctx, "the pipelines service was not told of its pipelines; it is told again", err)
}

// say logs a failure that was not logged just before.
func (d *dispatcher) say(ctx context.Context, what string, err error) {
	if what != d.said {
		d.Log.WarnContext(ctx, "trouble with the pipelines service", "what", what, "error", err)
	}
	d.said = what
}

// ask asks for the pipelines that the service has told nothing of for long, and makes
// true what it says.
func (d *dispatcher) ask(ctx context.Context, ready []*sighting) {
	for _, s := range ready {
		if s.silent < min(d.every, d.Silence) || ctx.Err() != nil {
			continue
		}
		p, err := d.DPP.Pipeline(ctx, registry.Alias(s.ID, s.Attempt))
		switch {
		case errs.Is(err, errs.NotFound):
			s.says, d.failed = "it does not know the pipeline", ""
			continue
		case err != nil:
			d.trouble(ctx, err)
			return // the others would wait for nothing
		}
		d.failed = ""
		d.hear(ctx, s, p)
	}
}

// hear makes true what the service says of a pipeline, as if a hook had said it.
func (d *dispatcher) hear(ctx context.Context, s *sighting, p *dpp.Pipeline) {
	// What it last saw may have been an earlier attempt.
	if !d.hookOf(p.Hooks, s.FlowID, s.Attempt) {
		s.says = "it has not taken the pipeline up"
		return
	}
	if says := "it says " + p.State; s.says != says || s.log != len(p.Log) {
		s.silent, d.quiet = 0, 0
		s.says, s.log = says, len(p.Log)
	}
	e := registry.Event{FlowID: s.FlowID, Pipeline: s.ID, Outside: s.Attempt, Log: lastLines(p.Log)}
	switch {
	case p.State == "SUCCEEDED" && !p.Dirty:
		e.Kind, e.Success, e.Stats = registry.KindFinish, true, p.Stats
	case p.State == "FAILED" && !p.Dirty:
		e.Kind, e.Errors = registry.KindFinish, p.ErrorLog
		if len(e.Errors) == 0 {
			e.Errors = []string{"The pipelines service ended the pipeline without a reason"}
		}
	case p.State == "INVALID":
		if e.Errors = invalidFor(p.ErrorLog); len(e.Errors) == 0 {
			return
		}
		e.Kind = registry.KindFinish
	case p.State == "RUNNING":
		if s.taken = true; s.State == registry.Running {
			return
		}
		e.Kind = registry.KindStart
	case p.State == "QUEUED":
		s.taken = true
		return
	default:
		return
	}
	d.Log.InfoContext(ctx, "the pipelines service was asked for a pipeline", "pipeline", s.ID, "state", p.State)
	d.apply(ctx, e)
}

// waits are the kinds of reasons that say of a pipeline that another one is to succeed
// first. The service keeps them from when it first saw the pipeline, also where the
// other one was only queued; of those that failed the registry knows by itself.
var waits = []string{"Dirty dependency", "Dependency unsuccessful", "Invalid dependency"}

// invalidFor gives the reasons for which the service will never run a pipeline.
func invalidFor(lines []string) []string {
	var why []string
	for _, line := range lines {
		kind, _, _ := strings.Cut(line, " :")
		if !strings.HasPrefix(kind, "From ") && !slices.Contains(waits, kind) {
			why = append(why, line)
		}
	}
	return why
}

func lastLines(text string) []string {
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(0, len(lines)-mostLog):]
}

// apply makes news true.
func (d *dispatcher) apply(ctx context.Context, e registry.Event) {
	if len(e.Stats) > 0 && !json.Valid(e.Stats) {
		e.Stats = nil
	}
	a, err := d.Registry.Apply(ctx, e)
	switch {
	case errs.Is(err, errs.NotFound): // deleted
	case err != nil:
		d.Log.WarnContext(ctx, "what the pipelines service says of a pipeline was not recorded", "pipeline", e.Pipeline, "error", err)
	case a.Changed:
		d.news.wake() // for those that waited for it
	}
}

// late reports whether the service has given no sign of a pipeline for too long. One that
// waits has time for as long as the service works at anything.
func (d *dispatcher) late(s *sighting) bool {
	if s.State == registry.Queued {
		return min(s.silent, d.quiet) > d.Silence
	}
	return s.silent > d.Silence
}

// expire fails what the service gives no sign of.
func (d *dispatcher) expire(ctx context.Context, ready []*sighting) {
	for _, s := range ready {
		if !d.late(s) || ctx.Err() != nil {
			continue
		}
		why := d.failed
		if why == "" {
			why = s.says
		}
		reason := fmt.Sprintf("The pipelines service has given no sign of this pipeline for %s", d.Silence)
		if why != "" {
			reason += ": " + why
		}
		d.Log.WarnContext(ctx, "a pipeline is given up", "pipeline", s.ID, "reason", reason)
		d.apply(ctx, registry.Event{FlowID: s.FlowID, Pipeline: s.ID, Outside: s.Attempt, Kind: registry.KindFinish, Errors: []string{reason}})
	}
}
