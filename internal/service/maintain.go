package service

import (
	"context"
	"sync"
	"time"

	"github.com/datahq/specstore/internal/registry"
)

// Maintain keeps watch over flows until ctx ends: it takes them back from runs that
// have fallen silent, of whatever process, makes revisions of the datasets that are due
// by their schedules, and removes what is not wanted any more. Every process does so. A
// database that does not answer ends a look within seconds, and the next one begins anew.
func (s *Service) Maintain(ctx context.Context) {
	var collecting sync.WaitGroup
	defer collecting.Wait()
	collecting.Go(func() { s.collect(ctx) })
	reaper := s.Registry.NewReaper(s.Jobs.Enqueue)
	tick := time.NewTicker(registry.LookEvery)
	defer tick.Stop()
	silent := false // the registry, and it was said
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		taken, err := reaper.Look(ctx, time.Now())
		for _, flow := range taken {
			s.Log.WarnContext(ctx, "flow taken back: its run fell silent", "flow", flow)
		}
		if len(taken) > 0 {
			s.Jobs.Wake()
		}
		if err == nil {
			err = s.makeRoom(ctx)
		}
		if err == nil {
			err = s.runSchedules(ctx)
		}
		if err != nil && ctx.Err() == nil && !silent {
			s.Log.ErrorContext(ctx, "the registry cannot be watched over", "error", err)
		}
		silent = err != nil
	}
}

// waitedFor is how long a flow waits before another owner's makes room for it.
const waitedFor = time.Second

// makeRoom releases flows of an owner that has more than half of all that run while
// another one's waits.
func (s *Service) makeRoom(ctx context.Context) error {
	flow, err := s.Registry.MakeRoom(ctx, s.Now().Add(-waitedFor), s.Jobs.Enqueue)
	if err != nil || flow == "" {
		return err
	}
	s.Log.InfoContext(ctx, "flow given back: its owner has more than half of all that run, and another owner's waits", "flow", flow)
	s.lose(flow)
	s.Jobs.Wake()
	return nil
}
