package service

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/registry"
)

// detailsFor gives a pipeline as a pipelines service is told it. That runs a pipeline
// again where a step has changed, so the same time and attempt give the same text, and
// a later attempt is named in the first step. Our own uploaded files, which nobody reads
// without leave, are named by addresses that are signed as at that time.
func (s *Service) detailsFor(p plan.Pipeline, attempt int64, at time.Time) (json.RawMessage, error) {
	type step struct {
		plan.Step
		Attempt int64 `json:"attempt,omitempty"`
	}
	details := struct {
		Pipeline []step `json:"pipeline"`
		plan.Details
	}{Details: p.Details}
	for _, planned := range p.Details.Pipeline {
		details.Pipeline = append(details.Pipeline, step{Step: s.readable(planned, at)})
	}
	if attempt > 1 {
		details.Pipeline[0].Attempt = attempt
	}
	return json.Marshal(details)
}

// readable gives a step with addresses that a service elsewhere may read.
func (s *Service) readable(step plan.Step, at time.Time) plan.Step {
	address, _ := step.Parameters["url"].(string)
	key, ok := s.rawKey(address)
	if step.Run != "add_resource" || !ok {
		return step
	}
	signed := s.Raw.PresignAt(s.RawBases[0], key, at)
	if _, hint, ok := strings.Cut(address, "#"); ok {
		signed += "#" + hint
	}
	parameters := make(map[string]any, len(step.Parameters))
	for k, v := range step.Parameters {
		parameters[k] = v
	}
	parameters["url"] = signed
	return plan.Step{Run: step.Run, Parameters: parameters}
}

// hookQuery is the query of a flow's address for updates.
func (s *Service) hookQuery(flowID string, attempt int64) string {
	return "token=" + s.UpdateToken(flowID) + "&attempt=" + text(attempt)
}

// hookOf reports whether one of the addresses for updates is that of an attempt.
func (s *Service) hookOf(hooks []string, flowID string, attempt int64) bool {
	return slices.ContainsFunc(hooks, func(hook string) bool {
		u, err := url.Parse(hook)
		return err == nil && u.RawQuery == s.hookQuery(flowID, attempt)
	})
}

// OpenPipelines calls fn with the ID and the details of each pipeline that a pipelines
// service is to know: those of open flows, parents first, with the address that it
// sends updates to. One is read at a time; an error of fn ends it.
func (s *Service) OpenPipelines(ctx context.Context, fn func(id string, details json.RawMessage) error) error {
	var list []registry.OpenPipeline
	if err := s.Registry.EachOpen(ctx, registry.DPP, func(p registry.OpenPipeline) {
		list = append(list, registry.OpenPipeline{FlowID: p.FlowID, Attempt: p.Attempt, ID: p.ID})
	}); err != nil {
		return err
	}
	for _, p := range list {
		details, err := s.Registry.Details(ctx, p.FlowID, p.ID)
		if err != nil {
			return err
		}
		body, ok := strings.CutPrefix(string(details), "{")
		if !ok {
			continue // the flow has ended
		}
		hooks, err := json.Marshal([]string{s.PublicURL + "/source/update?" + s.hookQuery(p.FlowID, p.Attempt)})
		if err != nil {
			return err
		}
		if err := fn(p.ID, json.RawMessage(`{"hooks":`+string(hooks)+`,`+body)); err != nil {
			return err
		}
	}
	return nil
}

// signedFor is how long addresses that were signed for an attempt serve another one;
// they are good for an hour longer.
const signedFor = 5 * time.Hour

// retryDPP makes a new attempt of a flow that a pipelines service ran.
func (s *Service) retryDPP(ctx context.Context, r *registry.Revision) (bool, error) {
	const op = "service.Retry"
	if s.DPP == nil {
		return false, errs.New(errs.Conflict, op, "%s was run by a pipelines service, and there is none now; push the dataset again", r.ID)
	}
	if r.State == registry.Succeeded {
		return false, nil
	}
	// Nothing that nobody can run is made open.
	if err := s.DPP.Probe(ctx); err != nil {
		return false, err
	}
	raw, err := flowspec.ParseJSON(r.Spec)
	if err != nil {
		return false, err
	}
	spec, err := s.check(raw, registry.DPP)
	if err != nil {
		return false, err
	}
	now := s.Now()
	plans := map[bool]map[string]plan.Pipeline{}
	times := map[bool]time.Time{false: now, true: r.Created}
	if now.Sub(r.Created) > signedFor {
		times[true] = now
	}
	for kept, at := range times {
		in := s.planInput(registry.DPP, r.PlannerVersion, spec, r.Number, r.Created, r.DatasetCreated)
		in.Settings.SignTime = at
		pipelines, err := plan.Plan(in)
		if err != nil {
			return false, err
		}
		plans[kept] = map[string]plan.Pipeline{}
		for _, p := range pipelines {
			plans[kept][p.ID] = p
		}
	}
	done, err := s.Registry.RetryDPP(ctx, r.ID, func(id string, kept bool, attempt int64) (json.RawMessage, error) {
		p, ok := plans[kept][id]
		if !ok {
			return nil, errs.New(errs.Conflict, op, "the pipeline %s is not planned any more; push the dataset again", id)
		}
		if kept {
			attempt = 1
		}
		return s.detailsFor(p, attempt, times[kept])
	})
	if done {
		s.news.wake()
	}
	return done, err
}
