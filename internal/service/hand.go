package service

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
)

// pending stands in the note of a flow while it is handed over.
const pending = "handed over by "

// hand hands flows over to a dpp-runner and hears of their runs. The name that it gives
// a run is noted in the registry, so that a restart of ours does not lose the run, and
// one of several processes hands a flow over.
func (d *dispatcher) hand(ctx context.Context, ready []*sighting) {
	flows := map[string][]*sighting{}
	var order []string
	for _, s := range ready {
		if flows[s.FlowID] == nil {
			order = append(order, s.FlowID)
		}
		flows[s.FlowID] = append(flows[s.FlowID], s)
	}
	for _, id := range order {
		if err := d.handFlow(ctx, flows[id]); err != nil {
			d.trouble(ctx, err)
			return
		}
	}
}

// tidy takes away the notes of runs whose flows have ended.
func (d *dispatcher) tidy(ctx context.Context, ready []*sighting) {
	for name, uid := range d.runs {
		flow := flowOfNote(name)
		if slices.ContainsFunc(ready, func(s *sighting) bool { return s.FlowID == flow }) {
			continue
		}
		if err := d.Registry.Renote(ctx, name, uid, ""); err == nil {
			delete(d.runs, name)
		}
	}
}

// noteOf names the note of a flow's run.
func noteOf(flow string, attempt int64) string { return "dpp-run " + flow + " " + text(attempt) }

func flowOfNote(name string) string { return strings.Fields(name)[1] }

func (d *dispatcher) handFlow(ctx context.Context, ready []*sighting) error {
	flow, attempt := ready[0].FlowID, ready[0].Attempt
	name, mine := noteOf(flow, attempt), pending+d.Holder
	uid, err := d.Registry.Note(ctx, name, mine)
	if err != nil {
		return err
	}
	if uid == mine {
		spec, err := d.pipelineSpec(ctx, flow)
		if err != nil {
			return err
		}
		if spec == nil { // another process has brought it to its end
			return d.Registry.Renote(ctx, name, mine, "")
		}
		if uid, err = d.DPP.Post(ctx, spec); err != nil {
			return err
		}
		d.failed = ""
		return d.Registry.Renote(ctx, name, mine, uid)
	}
	if strings.HasPrefix(uid, pending) {
		return nil // by another process; if that has died the flow falls silent
	}
	run, err := d.DPP.Run(ctx, uid)
	switch {
	case errs.Is(err, errs.NotFound):
		d.fail(ctx, ready, "The pipelines service has lost the run: it was started anew")
		return d.Registry.Renote(ctx, name, uid, "")
	case err != nil:
		return err
	}
	d.failed, d.runs[name] = "", uid
	seen := map[string]*sighting{}
	for _, s := range ready {
		seen[s.ID] = s
	}
	for id, p := range run.Progress {
		s := seen[registry.Unalias(id)]
		if s == nil {
			continue // it has ended, or what it waits for is heard of first
		}
		if p.Rows != nil && int(*p.Rows) != s.log {
			s.log, s.silent, d.quiet = int(*p.Rows), 0, 0
		}
		e := registry.Event{FlowID: flow, Pipeline: s.ID, Outside: attempt, Kind: registry.KindStart}
		if p.Done {
			e.Kind, e.Success, e.Errors, e.Stats = registry.KindFinish, p.Success != nil && *p.Success, p.Errors, p.Stats
		} else if s.State == registry.Running {
			continue
		}
		d.apply(ctx, e)
	}
	if run.Results == nil {
		return nil
	}
	for _, r := range run.Results {
		lines := r.Errors
		// What was not run has this in the place of a step.
		if len(lines) > 1 && lines[0] == "init" {
			lines = lines[1:]
		}
		if !r.Success && len(lines) == 0 {
			lines = []string{"The pipelines service ended the pipeline without a reason"}
		}
		d.apply(ctx, registry.Event{
			FlowID: flow, Pipeline: r.ID, Outside: attempt, Kind: registry.KindFinish,
			Success: r.Success, Errors: lines, Stats: r.Stats,
		})
	}
	// All is over: what it does not name it did not run.
	d.fail(ctx, ready, "The pipelines service ended the run without this pipeline")
	return d.Registry.Renote(ctx, name, uid, "")
}

// fail fails what is still open of the pipelines that could run.
func (d *dispatcher) fail(ctx context.Context, ready []*sighting, reason string) {
	for _, s := range ready {
		d.apply(ctx, registry.Event{FlowID: s.FlowID, Pipeline: s.ID, Outside: s.Attempt, Kind: registry.KindFinish, Errors: []string{reason}})
	}
}

// pipelineSpec is an open flow as a pipeline-spec; nil where it has ended. JSON is YAML.
func (d *dispatcher) pipelineSpec(ctx context.Context, flow string) ([]byte, error) {
	var ids []string
	var attempt int64
	if err := d.Registry.EachOpenOf(ctx, registry.DPP, []string{flow}, func(p registry.OpenPipeline) {
		ids, attempt = append(ids, p.ID), p.Attempt
	}); err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, nil
	}
	spec := map[string]json.RawMessage{}
	for _, id := range ids {
		details, err := d.Registry.Details(ctx, flow, id)
		if err != nil {
			return nil, err
		}
		if details == nil {
			return nil, nil
		}
		spec[registry.Alias(id, attempt)] = details
	}
	return json.Marshal(spec)
}
