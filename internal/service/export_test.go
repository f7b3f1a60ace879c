package service

import (
	"context"
	"time"
)

// DispatchEvery is [Service.Dispatch] at another pace.
func (s *Service) DispatchEvery(ctx context.Context, every time.Duration) { s.dispatch(ctx, every) }

// RunSchedules is a look of [Service.Maintain].
func (s *Service) RunSchedules(ctx context.Context) error { return s.runSchedules(ctx) }

// Looker looks as [Service.Dispatch] does, when it is called.
type Looker struct{ d *dispatcher }

// NewLooker makes one. every is the silence after which a poll asks for a pipeline.
func (s *Service) NewLooker(every time.Duration) *Looker {
	return &Looker{&dispatcher{Service: s, every: every, gap: min(lookGap, every), flows: map[string]*openFlow{}, runs: map[string]string{}}}
}

// Look looks once.
func (l *Looker) Look(ctx context.Context, poll bool) { l.d.look(ctx, poll) }

// Flows is how many flows are watched.
func (l *Looker) Flows() int { return len(l.d.flows) }

// DropNews does what another process does: this one receives nothing of it.
func (s *Service) DropNews(do func()) {
	do()
	s.news.drain()
}

// BareAddresses is what strangers see of a spec.
func BareAddresses(spec []byte) []byte { return bareAddresses(spec) }
