package service

import "context"

// hand hands flows over to a dpp-runner.
func (d *dispatcher) hand(context.Context, []*sighting) {}
