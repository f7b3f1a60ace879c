package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/runner"
)

func text(n int64) string { return strconv.FormatInt(n, 10) }

const (
	beatEvery = time.Second     // with the progress
	beatLost  = 6 * time.Second // without a confirmed beat a run stops itself
	beatFull  = beatLost / 3    // or of this where the disk of the registry is full

	releaseTime = 2 * time.Second // to give a flow back when the server stops

	awayFirst, awayMost = 50 * time.Millisecond, time.Second // between attempts of a run to reach the registry

	insistFirst, insistMost = time.Second, 30 * time.Second // between attempts to write the end of a run
)

var errLost = errors.New("the run has lost its flow")

// errFull is what a flow ends with that the disk has no room for.
var errFull = errs.New(errs.Unavailable, "service.run", "the disk is full")

// RunNext runs the fairest open flow, if there is one. A flow that ends FAILED is a
// run that succeeded; the error says that the run could not go on.
func (s *Service) RunNext(ctx context.Context) error {
	claim, err := s.Registry.Claim(ctx, s.Holder)
	if err != nil || claim == nil {
		return err
	}
	log := s.Log.With("flow", claim.FlowID, "attempt", claim.Attempt)
	log.InfoContext(ctx, "flow started")
	begun := s.Now()
	success, err := s.run(ctx, claim)
	switch {
	case err == nil:
		log.InfoContext(ctx, "flow ended", "success", success, "ms", s.Now().Sub(begun).Milliseconds())
		return nil
	case errors.Is(err, runner.ErrLimit):
		log.WarnContext(ctx, "run ended: it reached a limit", "reason", errs.Detail(err))
		return s.insist(ctx, log, func(ctx context.Context) error { return s.giveUp(ctx, claim, err) })
	case ctx.Err() != nil:
		log.InfoContext(ctx, "flow given back: the server stops")
		return s.insist(ctx, log, func(ctx context.Context) error { return s.release(ctx, claim) })
	case errors.Is(err, errs.ErrFull):
		// What the run had on the disk is gone by now, so there is room for its end, or will be.
		log.WarnContext(ctx, "run ended: a disk is full", "error", err)
		return s.insist(ctx, log, func(ctx context.Context) error { return s.giveUp(ctx, claim, errFull) })
	case errors.Is(err, errLost):
		log.WarnContext(ctx, "run stopped: another attempt, or its owner, has the flow, or the registry was silent", "error", err)
		// Where the registry was silent nobody else has the flow.
		return s.insist(ctx, log, func(ctx context.Context) error { return s.interrupt(ctx, claim, "the registry could not be reached") })
	case errors.Is(err, runner.ErrDied):
		log.WarnContext(ctx, "flow given back: the process of its run ended", "reason", errs.Detail(err))
		return s.insist(ctx, log, func(ctx context.Context) error { return s.interrupt(ctx, claim, errs.Detail(err)) })
	}
	log.ErrorContext(ctx, "run broke off", "error", err)
	return s.insist(ctx, log, func(ctx context.Context) error { return s.giveUp(ctx, claim, err) })
}

// release gives a flow back, unless it has another attempt by now.
func (s *Service) release(ctx context.Context, c *registry.Claim) error {
	return s.givenBack(s.Registry.Release(ctx, c.FlowID, c.Attempt, s.Jobs.Enqueue))
}

// givenBack is for after a flow was given back. One that was erased meanwhile is no
// failure: there is nothing to give.
func (s *Service) givenBack(err error) error {
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err == nil {
		s.Jobs.Wake()
	}
	return err
}

// interrupt releases a flow whose run did not come to its end, which counts: after
// some of them the flow fails.
func (s *Service) interrupt(ctx context.Context, c *registry.Claim, reason string) error {
	return s.givenBack(s.Registry.Interrupt(ctx, c.FlowID, c.Attempt, reason, s.Jobs.Enqueue))
}

// insist does again what fails, until the server stops, and then for a moment more: a
// flow that is held and not run would stay open until then. After a start such flows
// go on.
func (s *Service) insist(ctx context.Context, log *slog.Logger, f func(context.Context) error) error {
	attempt := func() error {
		if ctx.Err() == nil {
			return f(ctx)
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
		defer cancel()
		return f(last)
	}
	for wait := insistFirst; ; wait = min(2*wait, insistMost) {
		stopping := ctx.Err() != nil
		err := attempt()
		if err == nil || stopping {
			return err
		}
		log.ErrorContext(ctx, "the registry does not take the end of a run", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// giveUp fails what is still open of a flow that cannot be run.
func (s *Service) giveUp(ctx context.Context, c *registry.Claim, cause error) error {
	r, err := s.Registry.Flow(ctx, c.FlowID, registry.WithPipelines)
	if errs.Is(err, errs.NotFound) {
		return nil // deleted
	}
	if err != nil {
		return err
	}
	for _, p := range r.Pipelines {
		if p.State.Ended() {
			continue
		}
		_, err := s.Registry.Apply(ctx, registry.Event{
			FlowID: c.FlowID, Pipeline: p.ID, Kind: registry.KindFinish, Errors: strings.Split(errs.Detail(cause), "\n"), Attempt: c.Attempt,
		})
		if errs.Is(err, errs.Conflict) {
			return nil // another attempt has it
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// run has a claimed flow run in a process of its own, and keeps its lease meanwhile. It
// reports whether the flow succeeded.
func (s *Service) run(ctx context.Context, c *registry.Claim) (success bool, err error) {
	temp, err := os.MkdirTemp(s.Temp, "run-")
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = errors.Join(errs.ErrFull, err)
	}
	if err != nil {
		return false, fmt.Errorf("service.run: %w", err)
	}
	defer os.RemoveAll(temp) // before the end of the run is recorded
	ctx, stop := context.WithCancelCause(ctx)
	var counts atomic.Pointer[map[string]engine.Count]
	var beats sync.WaitGroup
	beats.Go(func() { s.beat(ctx, c, &counts, stop) })
	defer beats.Wait()
	defer stop(nil)
	defer s.holds(c.FlowID, stop)()
	job, err := s.job(ctx, c, temp)
	if err == nil {
		success, err = s.Runs.Run(ctx, job, runner.Hooks{
			Report: func(ctx context.Context, events []runner.Event) error {
				return whileAway(ctx, func() error { return s.report(ctx, c, events) })
			},
			Progress: func(now map[string]engine.Count) { counts.Store(&now) },
		})
	}
	if cause := context.Cause(ctx); err != nil && (errors.Is(cause, errLost) || errors.Is(cause, errs.ErrFull)) {
		// What broke off because of that may say only that its context is over.
		return false, cause
	}
	return success, err
}

// holding is a flow that runs here.
type holding struct{ stop context.CancelCauseFunc }

// holds records that a flow runs here until the function that it returns is called.
func (s *Service) holds(flowID string, stop context.CancelCauseFunc) (done func()) {
	h := &holding{stop}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[flowID] = h
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.runs[flowID] == h { // else another run of it has begun
			delete(s.runs, flowID)
		}
	}
}

// lose stops the run of a flow that it may not go on with, where it runs here. Elsewhere
// its next beat stops it.
func (s *Service) lose(flowID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.runs[flowID]; h != nil {
		h.stop(errLost)
	}
}

// job returns all that the process of a run needs of the flow.
func (s *Service) job(ctx context.Context, c *registry.Claim, temp string) (*runner.Job, error) {
	j := &runner.Job{
		FlowID: c.FlowID, OwnerID: c.OwnerID, InternalID: c.InternalID, Number: c.Number, Spec: c.Spec, PlannerVersion: c.PlannerVersion,
		Created: c.Created, DatasetCreated: c.DatasetCreated, Temp: temp,
	}
	if err := whileAway(ctx, func() (err error) { j.Done, err = s.done(ctx, c.FlowID); return err }); err != nil {
		return nil, err
	}
	err := whileAway(ctx, func() (err error) { j.Earlier, err = s.earlier(ctx, c); return err })
	return j, err
}

// whileAway does again what fails because the registry is away, until ctx ends, but for want
// of room on its disk, which the run itself may take: an
// event that was taken and not acknowledged changes nothing the second time, and a run
// that stays without the registry for too long is stopped by its beats.
func whileAway(ctx context.Context, f func() error) error {
	for wait := awayFirst; ; wait = min(2*wait, awayMost) {
		err := f()
		if !errs.Is(err, errs.Unavailable) || errors.Is(err, errs.ErrFull) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(wait):
		}
	}
}

// done returns what earlier attempts published. What another runner recorded is no result,
// and is not taken for one where it is read.
func (s *Service) done(ctx context.Context, flowID string) (map[string]json.RawMessage, error) {
	r, err := s.Registry.Flow(ctx, flowID, registry.WithPipelines)
	if err != nil {
		return nil, err
	}
	done := map[string]json.RawMessage{}
	for _, p := range r.Pipelines {
		if p.State == registry.Succeeded {
			done[p.ID] = p.Outputs
		}
	}
	return done, nil
}

// earlier gives what the revision before and the last one that succeeded published.
func (s *Service) earlier(ctx context.Context, c *registry.Claim) (map[string][]runner.Earlier, error) {
	earlier := map[string][]runner.Earlier{}
	seen := map[string]bool{c.FlowID: true}
	for _, which := range []string{text(c.Number - 1), "successful"} {
		// Mostly they are one, and all of it is much to read.
		at, err := s.Registry.Revision(ctx, c.DatasetID, which, 0)
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if seen[at.ID] || !at.State.Ended() || at.Number > c.Number {
			continue
		}
		seen[at.ID] = true
		r, err := s.Registry.Flow(ctx, at.ID, registry.WithPipelines)
		if err != nil {
			return nil, err
		}
		for _, p := range r.Pipelines {
			if p.State == registry.Succeeded && len(p.Outputs) > 0 {
				artifact := strings.TrimPrefix(strings.TrimPrefix(p.ID, r.ID), "/")
				earlier[artifact] = append(earlier[artifact], runner.Earlier{FlowID: r.ID, Result: p.Outputs})
			}
		}
	}
	return earlier, nil
}

// report hands news of a run to the registry. Failures that follow from another are
// the registry's own doing.
func (s *Service) report(ctx context.Context, c *registry.Claim, news []runner.Event) error {
	events := make([]registry.Event, len(news))
	for i, e := range news {
		ev := registry.Event{FlowID: c.FlowID, Pipeline: e.Pipeline, Attempt: c.Attempt, Kind: registry.KindStart}
		if e.Kind == engine.Finish {
			ev.Kind, ev.Success, ev.Errors, ev.Log, ev.Reused = registry.KindFinish, e.Success, e.Errors, e.Log, e.Reused
			ev.Stats, ev.Outputs = e.Stats, e.Outputs
			if err := record(c, &ev); err != nil {
				return err
			}
		}
		events[i] = ev
	}
	_, err := s.Registry.ApplyAll(ctx, events...)
	if errs.Is(err, errs.Conflict) {
		return errors.Join(errLost, err)
	}
	return err
}

// beat tells the registry that the run is alive until its context ends, and stops
// the run when the registry says that it is not, or says nothing for too long.
func (s *Service) beat(ctx context.Context, c *registry.Claim, progress *atomic.Pointer[map[string]engine.Count], stop context.CancelCauseFunc) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	confirmed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		counts := map[string]json.RawMessage{}
		if now := progress.Load(); now != nil {
			for id, n := range *now {
				if b, err := json.Marshal(n); err == nil {
					counts[id] = b
				}
			}
		}
		beatCtx, cancel := context.WithTimeout(ctx, beatLost/2)
		ok, err := s.Registry.Beat(beatCtx, c.FlowID, c.Attempt, counts)
		cancel()
		switch {
		case err == nil && ok:
			confirmed = time.Now()
		case errors.Is(err, errs.ErrFull) && time.Since(confirmed) > beatFull:
			stop(err)
			return
		case err == nil, time.Since(confirmed) > beatLost:
			stop(errLost)
			return
		}
	}
}
