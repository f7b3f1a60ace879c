package service

import (
	"context"
	"time"
)

// DispatchEvery is [Service.Dispatch] at another pace.
func (s *Service) DispatchEvery(ctx context.Context, every time.Duration) { s.dispatch(ctx, every) }

// RunSchedules is a look of [Service.Maintain].
func (s *Service) RunSchedules(ctx context.Context) error { return s.runSchedules(ctx) }
