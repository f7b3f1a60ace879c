package service

import (
	"context"
	"time"

	"github.com/datahq/specstore/internal/registry"
)

const (
	eventsFor  = 24 * time.Hour // after the end of a flow
	pruneEvery = time.Hour
)

// Maintain keeps watch over flows until ctx ends: it takes them back from runs that
// have fallen silent, of whatever process, makes revisions of the datasets that are due
// by their schedules, and forgets events that are old. Every process does so.
func (s *Service) Maintain(ctx context.Context) {
	reaper := s.Registry.NewReaper(s.Jobs.Enqueue)
	tick := time.NewTicker(registry.LookEvery)
	defer tick.Stop()
	var pruned time.Time
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
			err = s.runSchedules(ctx)
		}
		if err == nil && time.Since(pruned) > pruneEvery {
			err = s.Registry.Prune(ctx, s.Now().Add(-eventsFor))
			pruned = time.Now()
		}
		if err != nil && ctx.Err() == nil && !silent {
			s.Log.ErrorContext(ctx, "the registry cannot be watched over", "error", err)
		}
		silent = err != nil
	}
}
