package service

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
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
	flows map[string]bool  // that something happened to
}

func newNews() *news {
	return &news{nudge: make(chan struct{}, 1), taken: map[string]int64{}, flows: map[string]bool{}}
}

// of notes that something happened to a flow, and asks for a look soon. It never waits.
func (n *news) of(flow string) {
	n.mu.Lock()
	n.flows[flow] = true
	n.mu.Unlock()
	n.wake()
}

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
	id := registry.Unalias(e.Pipeline)
	if e.Kind == registry.KindQueue {
		n.mu.Lock()
		n.taken[id] = e.Outside
		n.mu.Unlock()
	}
	n.of(flowOf(id))
}

// flowOf is the ID of a pipeline's flow, which is its first three parts.
func flowOf(pipeline string) string {
	at := 0
	for range 3 {
		next := strings.IndexByte(pipeline[at:], '/')
		if next < 0 {
			return pipeline
		}
		at += next + 1
	}
	return pipeline[:at-1]
}

// drain returns the pipelines that were queued since the last call, and the flows that
// something happened to.
func (n *news) drain() (taken map[string]int64, flows map[string]bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken, flows = n.taken, n.flows
	n.taken, n.flows = map[string]int64{}, map[string]bool{}
	return taken, flows
}

// sighting is what is known of a pipeline that the service should be at: it runs, or
// it waits and nothing is in its way.
type sighting struct {
	registry.OpenPipeline
	taken  bool          // the service has queued it
	silent time.Duration // since the last sign of it
	log    int           // bytes that it had logged
	says   string        // the service, when it was last asked
	// patience is the silence after which it is asked for next, where news of its flow was
	// lost before.
	patience time.Duration
}

// openFlow is what the process saw of a flow when it last read it.
type openFlow struct {
	ready []*sighting
	// deaf says that the service ended a pipeline of it and no hook told so: it is asked
	// for what comes after it at once.
	deaf bool
}

// dispatcher keeps a pipelines service at work, and hears what its hooks did not say.
// One goroutine uses it.
type dispatcher struct {
	*Service
	every time.Duration // PollEvery
	gap   time.Duration // lookGap
	flows map[string]*openFlow
	order []string          // of the flows, as they were accepted; some may have ended
	whole bool              // all flows are read at the next look
	quiet time.Duration     // since any sign of the service's work
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
// run that it has not queued; it is asked for what it told nothing of for [PollEvery], and
// at once for what has become ready in a flow whose hooks are lost;
// and what it gives no sign of for the time that was set fails.
func (s *Service) Dispatch(ctx context.Context) { s.dispatch(ctx, PollEvery) }

func (s *Service) dispatch(ctx context.Context, every time.Duration) {
	if s.DPP == nil {
		return
	}
	d := &dispatcher{Service: s, every: every, gap: min(lookGap, every), flows: map[string]*openFlow{}, runs: map[string]string{}}
	tick := time.NewTicker(every)
	defer tick.Stop()
	d.look(ctx, true)
	for {
		poll := false
		var soon <-chan time.Time
		if d.style == dpp.Runner && len(d.flows) > 0 {
			soon = time.After(min(runnerEvery, every))
		} else if d.deaf() {
			soon = time.After(d.gap)
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
		case <-time.After(d.gap):
		}
	}
}

// look does once what there is to do. poll says that it is time to ask.
func (d *dispatcher) look(ctx context.Context, poll bool) {
	ready, err := d.see(ctx, poll)
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
	if d.style != dpp.Runner {
		// What is about to be given up is asked for once more.
		d.ask(ctx, ready, poll || slices.ContainsFunc(ready, d.late))
	}
	d.expire(ctx, ready)
}

// deaf reports whether a flow is open whose hooks were lost.
func (d *dispatcher) deaf() bool {
	for _, f := range d.flows {
		if f.deaf {
			return true
		}
	}
	return false
}

// see looks what could be at work, and for how long nothing was heard of it. It reads the
// flows of which there is news in this process, and where all is set every one: other
// processes hear of the others.
func (d *dispatcher) see(ctx context.Context, all bool) ([]*sighting, error) {
	now, gap := time.Now(), time.Duration(0)
	if !d.last.IsZero() {
		gap = min(now.Sub(d.last), mostGap)
	}
	// A run is handed over once by whichever process is first: all are seen as they stand.
	all = all || d.whole || d.style == dpp.Runner
	taken, changed := d.news.drain()
	r := &reading{d: d, taken: taken, gap: gap, flows: map[string]*openFlow{}}
	var err error
	if all {
		err = d.Registry.EachOpen(ctx, registry.DPP, r.pipeline)
	} else if len(changed) > 0 {
		err = d.Registry.EachOpenOf(ctx, registry.DPP, slices.Sorted(maps.Keys(changed)), r.pipeline)
	}
	if err != nil {
		d.whole = true // what was drained is lost
		return nil, err
	}
	d.whole = false
	for id, before := range d.flows {
		switch after := r.flows[id]; {
		case after == nil && !all && !changed[id]: // it stands as it did
			for _, s := range before.ready {
				s.silent += gap
				r.mark(s)
			}
			continue
		case after == nil:
			r.sign = true // it has ended
			delete(d.flows, id)
		default:
			after.deaf = before.deaf
			r.sign = r.sign || slices.ContainsFunc(before.ready, func(s *sighting) bool { return !slices.Contains(after.ready, s) })
		}
	}
	if all {
		d.order = r.order
	} else {
		d.order = append(d.order, slices.DeleteFunc(r.order, func(id string) bool { return d.flows[id] != nil })...)
	}
	maps.Copy(d.flows, r.flows)
	d.order = slices.DeleteFunc(d.order, func(id string) bool { return d.flows[id] == nil })
	var ready []*sighting
	for _, id := range d.order {
		ready = append(ready, d.flows[id].ready...)
	}
	d.last = now
	if d.quiet += gap; r.sign {
		d.quiet = 0
	}
	return ready, nil
}

// reading is what one look reads of open flows.
type reading struct {
	d     *dispatcher
	taken map[string]int64
	gap   time.Duration
	flows map[string]*openFlow
	order []string
	sign  bool // of the service's work

	flow   string                    // that is looked at
	states map[string]registry.State // of its pipelines
}

// pipeline takes a pipeline of a flow, whose parents came before it.
func (r *reading) pipeline(p registry.OpenPipeline) {
	if r.flow != p.FlowID {
		r.flow, r.states = p.FlowID, map[string]registry.State{}
		r.flows[p.FlowID] = &openFlow{}
		r.order = append(r.order, p.FlowID)
	}
	r.states[p.ID] = p.State
	if p.State.Ended() {
		return
	}
	for _, id := range p.Dependencies {
		if r.states[id] != registry.Succeeded && p.State == registry.Queued {
			return
		}
	}
	s := r.before(p.FlowID, p.ID)
	switch {
	case s == nil || s.Attempt != p.Attempt:
		s = &sighting{}
	case s.Updated != p.Updated || s.State != p.State:
		s.silent, s.patience, r.sign = 0, 0, true
	default:
		s.silent += r.gap
	}
	s.OpenPipeline = p
	r.mark(s)
	r.flows[p.FlowID].ready = append(r.flows[p.FlowID].ready, s)
}

// before returns what was seen of a pipeline the last time.
func (r *reading) before(flow, pipeline string) *sighting {
	f := r.d.flows[flow]
	if f == nil {
		return nil
	}
	i := slices.IndexFunc(f.ready, func(s *sighting) bool { return s.ID == pipeline })
	if i < 0 {
		return nil
	}
	return f.ready[i]
}

// mark notes whether the service has queued a pipeline.
func (r *reading) mark(s *sighting) {
	attempt, queued := r.taken[s.ID]
	queued = queued && (attempt == 0 || attempt == s.Attempt)
	s.taken = s.taken || queued || s.State == registry.Running
	r.sign = r.sign || queued
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

// ask asks for the pipelines that the service has told nothing of for long, where poll is
// set, and for those of flows whose hooks were lost, at once and then ever more rarely. It
// makes true what the service says.
func (d *dispatcher) ask(ctx context.Context, ready []*sighting, poll bool) {
	for _, s := range ready {
		f := d.flows[s.FlowID]
		long := poll && s.silent >= min(d.every, d.Silence)
		soon := f != nil && f.deaf && s.silent >= s.patience
		if !long && !soon || ctx.Err() != nil {
			continue
		}
		s.patience = min(max(2*s.patience, d.gap), d.every)
		if s.patience <= s.silent {
			s.patience = s.silent + s.patience
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
		s.silent, s.patience, d.quiet = 0, d.gap, 0
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
	if f := d.flows[s.FlowID]; f != nil && e.Kind == registry.KindFinish {
		f.deaf = true
	}
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
		d.news.of(e.FlowID) // for those that waited for it
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
