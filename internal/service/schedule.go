package service

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/registry"
)

// dueAtOnce is how many due datasets one look makes revisions of.
const dueAtOnce = 100

// runSchedules makes revisions of the datasets that are due, from the spec of the last
// one. Every process does so; a due time is taken once.
func (s *Service) runSchedules(ctx context.Context) error {
	due, err := s.Registry.DueSchedules(ctx, s.Now(), dueAtOnce)
	if err != nil {
		return err
	}
	for _, d := range due {
		err := s.runScheduled(ctx, d)
		switch {
		case err == nil, errors.Is(err, registry.ErrNotDue):
		case errs.Is(err, errs.Unavailable), ctx.Err() != nil:
			return err // it stays due
		default:
			// One dataset must not keep the others from their times.
			s.Log.ErrorContext(ctx, "scheduled revision failed", "dataset", d.DatasetID, "due", d.At, "error", err)
		}
	}
	return nil
}

// runScheduled makes the revision of a dataset for a due time. Where the spec cannot be
// run any more that is a failure of the schedule.
func (s *Service) runScheduled(ctx context.Context, d registry.Due) error {
	var text any
	if err := json.Unmarshal(d.Spec, &text); err != nil {
		return err
	}
	schedule, err := flowspec.ParseSchedule(text)
	if err != nil {
		return err
	}
	next := schedule.Next(s.Now(), d.At)
	last, err := s.Registry.Revision(ctx, d.DatasetID, "latest", registry.WithSpec)
	if errs.Is(err, errs.NotFound) {
		return registry.ErrNotDue // deleted
	}
	if err != nil {
		return err
	}
	u, err := s.scheduled(last)
	if err == nil && s.Runner == registry.DPP {
		err = s.DPP.Probe(ctx)
	}
	if err == nil {
		n := u.revision(s)
		// The name was bound when the spec was pushed, and may be another's by now.
		n.Owner, n.Due, n.ScheduledFor, n.MaxDatasets = "", d.At, next, -1
		_, err = s.accept(ctx, u, n)
	}
	if err == nil {
		s.Log.InfoContext(ctx, "scheduled revision made", "dataset", d.DatasetID, "due", d.At, "next", next)
		return nil
	}
	if kind := errs.KindOf(err); kind != errs.Invalid && kind != errs.Forbidden {
		return err
	}
	paused, failed := s.Registry.ScheduleFailed(ctx, d, next, errs.Detail(err))
	if failed != nil {
		return failed
	}
	s.Log.WarnContext(ctx, "scheduled revision refused", "dataset", d.DatasetID, "due", d.At, "paused", paused, "error", err)
	return nil
}

// scheduled is the spec of a revision as if its owner had pushed it again.
func (s *Service) scheduled(r *registry.Revision) (*upload, error) {
	raw, err := flowspec.ParseJSON(r.Spec)
	if err != nil {
		return nil, err
	}
	spec, err := s.check(raw, s.Runner)
	if err != nil {
		return nil, err
	}
	if s.Runner == registry.DPP {
		if err := forDPP(spec); err != nil {
			return nil, err
		}
	}
	return &upload{
		body: r.Spec, ownerID: r.OwnerID, dataset: strings.TrimPrefix(r.DatasetID, r.OwnerID+"/"), at: s.Now(),
		caller: &auth.Token{}, spec: spec, uploads: rawstore.Mentioned(r.OwnerID, raw),
	}, nil
}
