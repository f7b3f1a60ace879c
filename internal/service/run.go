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
	"time"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/registry"
)

func text(n int64) string { return strconv.FormatInt(n, 10) }

const (
	beatEvery = time.Second     // with the progress
	beatLost  = 6 * time.Second // without a confirmed beat a run stops itself

	releaseTime = 2 * time.Second // to give a flow back when the server stops

	awayFirst, awayMost = 50 * time.Millisecond, time.Second // between attempts of a run to reach the registry

	insistFirst, insistMost = time.Second, 30 * time.Second // between attempts to write the end of a run
)

var errLost = errors.New("the run has lost its flow")

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
	outcome, err := s.run(ctx, claim)
	switch {
	case err == nil:
		log.InfoContext(ctx, "flow ended", "success", outcome.Success, "ms", s.Now().Sub(begun).Milliseconds())
		return nil
	case ctx.Err() != nil:
		log.InfoContext(ctx, "flow given back: the server stops")
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
		defer cancel()
		return s.release(release, claim)
	case errors.Is(err, errLost):
		log.WarnContext(ctx, "run stopped: another attempt, or its owner, has the flow, or the registry was silent", "error", err)
		// Where the registry was silent nobody else has the flow.
		return s.insist(ctx, log, func() error { return s.release(ctx, claim) })
	}
	log.ErrorContext(ctx, "run broke off", "error", err)
	return s.insist(ctx, log, func() error { return s.giveUp(ctx, claim, err) })
}

// release gives a flow back, unless it has another attempt by now.
func (s *Service) release(ctx context.Context, c *registry.Claim) error {
	err := s.Registry.Release(ctx, c.FlowID, c.Attempt, s.Jobs.Enqueue)
	if err == nil {
		s.Jobs.Wake()
	}
	return err
}

// insist does again what fails, until the server stops: a flow that is held and not
// run would stay open until then. After a start such flows go on.
func (s *Service) insist(ctx context.Context, log *slog.Logger, f func() error) error {
	for wait := insistFirst; ; wait = min(2*wait, insistMost) {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		log.ErrorContext(ctx, "the registry does not take the end of a run", "error", err)
		select {
		case <-ctx.Done():
			return err
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

func (s *Service) run(ctx context.Context, c *registry.Claim) (*engine.Outcome, error) {
	raw, err := flowspec.ParseJSON(c.Spec)
	if err != nil {
		return nil, err
	}
	spec, err := s.check(raw, registry.Embedded)
	if err != nil {
		return nil, err
	}
	pipelines, err := plan.Plan(s.planInput(registry.Embedded, c.PlannerVersion, spec, c.Number, c.Created, c.DatasetCreated))
	if err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp(s.Temp, "run-")
	if err != nil {
		return nil, fmt.Errorf("service.run: %w", err)
	}
	defer os.RemoveAll(temp)
	progress := engine.NewProgress()
	ctx, stop := context.WithCancelCause(ctx)
	var beats sync.WaitGroup
	beats.Go(func() { s.beat(ctx, c, progress, stop) })
	defer beats.Wait()
	defer stop(nil)
	outcome, err := s.execute(ctx, c, pipelines, temp, progress)
	if err != nil && errors.Is(context.Cause(ctx), errLost) {
		// What broke off because of that may say only that its context is over.
		return nil, errLost
	}
	return outcome, err
}

func (s *Service) execute(ctx context.Context, c *registry.Claim, pipelines []plan.Pipeline, temp string, progress *engine.Progress) (*engine.Outcome, error) {
	var done map[string]*engine.Result
	if err := whileAway(ctx, func() (err error) { done, err = s.done(ctx, c.FlowID); return err }); err != nil {
		return nil, err
	}
	var earlier map[string][]engine.Earlier
	if err := whileAway(ctx, func() (err error) { earlier, err = s.earlier(ctx, c); return err }); err != nil {
		return nil, err
	}
	sink := s.Packages.Sink(c.DatasetID, c.Number)
	return engine.Execute(ctx, engine.Flow{
		Pipelines: pipelines,
		Sources:   &sources{s, c.OwnerID},
		Sink:      sink,
		Temp:      temp,
		Done:      done,
		Earlier:   earlier,
		Progress:  progress,
		Log:       s.Log,
		Report: func(ctx context.Context, news []engine.Event) error {
			return whileAway(ctx, func() error { return s.report(ctx, c, pipelines, sink, news) })
		},
	})
}

// whileAway does again what fails because the registry is away, until ctx ends: an
// event that was taken and not acknowledged changes nothing the second time, and a run
// that stays without the registry for too long is stopped by its beats.
func whileAway(ctx context.Context, f func() error) error {
	for wait := awayFirst; ; wait = min(2*wait, awayMost) {
		err := f()
		if !errs.Is(err, errs.Unavailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(wait):
		}
	}
}

// published is what a pipeline that succeeded recorded; nil where it did not, or where
// another runner or version did, whose records are others.
func published(p registry.Pipeline) *engine.Result {
	result := &engine.Result{}
	if p.State != registry.Succeeded || json.Unmarshal(p.Outputs, result) != nil {
		return nil
	}
	return result
}

// done gives what earlier attempts published.
func (s *Service) done(ctx context.Context, flowID string) (map[string]*engine.Result, error) {
	r, err := s.Registry.Flow(ctx, flowID, registry.WithPipelines)
	if err != nil {
		return nil, err
	}
	done := map[string]*engine.Result{}
	for _, p := range r.Pipelines {
		if result := published(p); result != nil {
			done[p.ID] = result
		}
	}
	return done, nil
}

// earlier gives what the revision before and the last one that succeeded published.
func (s *Service) earlier(ctx context.Context, c *registry.Claim) (map[string][]engine.Earlier, error) {
	earlier := map[string][]engine.Earlier{}
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
			if result := published(p); result != nil {
				artifact := strings.TrimPrefix(strings.TrimPrefix(p.ID, r.ID), "/")
				earlier[artifact] = append(earlier[artifact], engine.Earlier{FlowID: r.ID, Result: result})
			}
		}
	}
	return earlier, nil
}

// report hands news of the engine to the registry. Failures that follow from
// another are the registry's own doing.
func (s *Service) report(ctx context.Context, c *registry.Claim, pipelines []plan.Pipeline, sink *pkgstore.Sink, news []engine.Event) error {
	var events []registry.Event
	for _, e := range news {
		if e.Cascaded {
			continue
		}
		ev := registry.Event{FlowID: c.FlowID, Pipeline: e.Pipeline, Attempt: c.Attempt, Kind: registry.KindStart}
		if e.Kind == engine.Finish {
			ev.Kind, ev.Success, ev.Errors, ev.Log, ev.Reused = registry.KindFinish, e.Success, e.Errors, e.Log, e.Reused()
			if e.Result != nil {
				var err error
				if ev.Stats, err = json.Marshal(e.Result.Stats); err != nil {
					return err
				}
				if ev.Outputs, err = json.Marshal(e.Result); err != nil {
					return err
				}
			}
			if e.Pipeline == pipelines[len(pipelines)-1].ID {
				ev.DescriptorKey = sink.Descriptor()
			}
		}
		events = append(events, ev)
	}
	_, err := s.Registry.ApplyAll(ctx, events...)
	if errs.Is(err, errs.Conflict) {
		return errors.Join(errLost, err)
	}
	return err
}

// beat tells the registry that the run is alive until its context ends, and stops
// the run when the registry says that it is not, or says nothing for too long.
func (s *Service) beat(ctx context.Context, c *registry.Claim, progress *engine.Progress, stop context.CancelCauseFunc) {
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
		for id, n := range progress.Snapshot() {
			if b, err := json.Marshal(n); err == nil {
				counts[id] = b
			}
		}
		beatCtx, cancel := context.WithTimeout(ctx, beatLost/2)
		ok, err := s.Registry.Beat(beatCtx, c.FlowID, c.Attempt, counts)
		cancel()
		switch {
		case err == nil && ok:
			confirmed = time.Now()
		case err == nil, time.Since(confirmed) > beatLost:
			stop(errLost)
			return
		}
	}
}
