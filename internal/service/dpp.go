package service

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/registry"
)

// detailsFor gives a pipeline as a pipelines service is told it, for an attempt. That
// runs a pipeline again where a step has changed, so the same attempt and time give the
// same text. Pipelines are named as in that attempt, and our own uploaded files, which
// nobody reads without leave, by addresses that are signed as at that time.
func (s *Service) detailsFor(p plan.Pipeline, attempt int64, at time.Time) (json.RawMessage, error) {
	details := p.Details
	owner, _, _ := strings.Cut(strings.TrimPrefix(p.ID, "./"), "/")
	details.Pipeline = make([]plan.Step, len(p.Details.Pipeline))
	for i, step := range p.Details.Pipeline {
		details.Pipeline[i] = ofAttempt(s.readable(step, owner, at), attempt)
	}
	details.Dependencies = make([]plan.Dependency, len(p.Details.Dependencies))
	for i, d := range p.Details.Dependencies {
		details.Dependencies[i].Pipeline = registry.Alias(d.Pipeline, attempt)
	}
	return json.Marshal(details)
}

// ofAttempt gives a step with the names that other pipelines have in an attempt.
func ofAttempt(step plan.Step, attempt int64) plan.Step {
	if attempt <= 1 {
		return step
	}
	parameters := maps.Clone(step.Parameters)
	switch step.Run {
	case "assembler.load_private_resource":
		if address, ok := parameters["url"].(string); ok {
			parameters["url"] = registry.Alias(address, attempt)
		}
	case "assembler.load_modified_resources":
		urls, _ := parameters["urls"].([]any)
		named := make([]any, len(urls))
		for i, u := range urls {
			m, _ := u.(map[string]any)
			id, _ := m["pipeline"].(string)
			named[i] = map[string]any{"pipeline": registry.Alias(id, attempt)}
		}
		parameters["urls"] = named
	}
	return plan.Step{Run: step.Run, Parameters: parameters}
}

// readable returns a step of an owner's with addresses that a service elsewhere may read.
func (s *Service) readable(step plan.Step, owner string, at time.Time) plan.Step {
	address, _ := step.Parameters["url"].(string)
	key, ok := s.rawKey(address)
	if !ok {
		key, ok = rawstore.OwnKey(owner, address)
	}
	if step.Run != "add_resource" || !ok {
		return step
	}
	signed := s.Raw.PresignAt(s.RawBases[0], key, at)
	if _, hint, ok := strings.Cut(address, "#"); ok {
		signed += "#" + hint
	}
	parameters := maps.Clone(step.Parameters)
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

// OpenPipelines calls fn with the ID ([registry.Alias]) and the details of each pipeline
// that a pipelines service is to know: those of open flows, parents first, with the
// address that it sends updates to. One is read at a time; an error of fn ends it.
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
		if err := fn(registry.Alias(p.ID, p.Attempt), json.RawMessage(`{"hooks":`+string(hooks)+`,`+body)); err != nil {
			return err
		}
	}
	return nil
}

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
	if err := s.DPP.ProbeNow(ctx); err != nil {
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
	in := s.planInput(registry.DPP, r.PlannerVersion, spec, r.Number, r.Created, r.DatasetCreated)
	in.Settings.SignTime = s.Now()
	pipelines, err := plan.Plan(in)
	if err != nil {
		return false, err
	}
	done, err := s.Registry.RetryDPP(ctx, r.ID, func(id string, attempt int64) (json.RawMessage, error) {
		i := slices.IndexFunc(pipelines, func(p plan.Pipeline) bool { return p.ID == id })
		if i < 0 {
			return nil, errs.New(errs.Conflict, op, "the pipeline %s is not planned any more; push the dataset again", id)
		}
		return s.detailsFor(pipelines[i], attempt, in.Settings.SignTime)
	})
	if done {
		s.news.of(r.ID)
	}
	return done, err
}
