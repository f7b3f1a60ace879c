// Package pipelinespec reads a pipeline-spec.yaml of datapackage-pipelines and runs
// its pipelines.
//
// All of it is checked before anything runs: a step that is not known, parameters
// that are wrong, a dependency that is not there or that leads in a circle are
// refused by name. No program is ever started, so steps that are code of the
// owner's are refused as well.
package pipelinespec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/pattern"
	"github.com/datahq/specstore/internal/processor/standard"
)

// Spec is a set of pipelines.
type Spec struct {
	// Pipelines stand in the order in which they can run: each behind those that it
	// depends on, and else by ID.
	Pipelines []Pipeline
}

// Pipeline is a list of steps that run as one.
type Pipeline struct {
	ID           string // without the "./" that datapackage-pipelines puts before it
	Title        string
	Steps        []standard.Step
	Dependencies []string // IDs, sorted
}

// Is reports whether a document is a pipeline-spec rather than anything else: an
// object of objects that have steps.
func Is(raw map[string]any) bool {
	if len(raw) == 0 {
		return false
	}
	for _, v := range raw {
		m, ok := v.(map[string]any)
		if _, steps := m["pipeline"].([]any); !ok || !steps {
			return false
		}
	}
	return true
}

// problems collects what is wrong with a spec.
type problems []string

func (p *problems) add(id, format string, args ...any) {
	*p = append(*p, fmt.Sprintf("pipeline %q: ", id)+fmt.Sprintf(format, args...))
}

// Parse checks a spec in the JSON value space. Its error is Invalid and lists all
// that is wrong, a problem a line.
func Parse(raw map[string]any) (*Spec, error) {
	var wrong problems
	all := map[string]Pipeline{}
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		m, ok := raw[key].(map[string]any)
		if !ok {
			wrong.add(key, "must be an object with the list `pipeline`")
			continue
		}
		p := Pipeline{ID: bare(key)}
		if _, twice := all[p.ID]; twice {
			wrong.add(key, "stands there twice")
		}
		p.Title, _ = m["title"].(string)
		p.Steps = parseSteps(key, m["pipeline"], &wrong)
		p.Dependencies = parseDependencies(key, m, &wrong)
		all[p.ID] = p
	}
	spec := &Spec{}
	state := map[string]int{} // 1: on the way, 2: in the list
	var visit func(id string, way []string)
	visit = func(id string, way []string) {
		switch state[id] {
		case 1:
			wrong.add(id, "depends on itself: %s", strings.Join(append(way[slices.Index(way, id):], id), " → "))
			return
		case 2:
			return
		}
		state[id] = 1
		for _, parent := range all[id].Dependencies {
			if _, ok := all[parent]; !ok {
				wrong.add(id, "depends on %q, which is not in this file", parent)
				continue
			}
			visit(parent, append(way, id))
		}
		state[id] = 2
		spec.Pipelines = append(spec.Pipelines, all[id])
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		visit(id, nil)
	}
	if len(wrong) > 0 {
		return nil, errs.New(errs.Invalid, "pipelinespec.Parse", "the pipeline-spec is not valid:\n  %s", strings.Join(wrong, "\n  "))
	}
	if len(spec.Pipelines) == 0 {
		return nil, errs.New(errs.Invalid, "pipelinespec.Parse", "the pipeline-spec has no pipelines")
	}
	return spec, nil
}

func bare(id string) string { return strings.TrimPrefix(id, "./") }

func parseSteps(id string, v any, wrong *problems) []standard.Step {
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		wrong.add(id, "`pipeline` must be a list of steps")
		return nil
	}
	var steps []standard.Step
	patterns := pattern.NewBudget(pattern.MaxBytes)
	for i, v := range list {
		m, _ := v.(map[string]any)
		run, ok := m["run"].(string)
		if _, code := m["flow"]; code {
			wrong.add(id, "step %d: a flow is code, which is not run", i+1)
			continue
		}
		if !ok || run == "" {
			wrong.add(id, "step %d: `run` must name a processor", i+1)
			continue
		}
		params, ok := m["parameters"].(map[string]any)
		if !ok && m["parameters"] != nil {
			wrong.add(id, "step %d, %s: `parameters` must be an object", i+1, run)
			continue
		}
		processor, err := standard.NewWithin(run, params, patterns)
		if err != nil {
			wrong.add(id, "step %d: %s", i+1, errs.Detail(err))
			continue
		}
		steps = append(steps, standard.Step{Run: run, Processor: processor})
	}
	return steps
}

// parseDependencies gives the pipelines that are named as dependencies, and those
// whose packages the steps read.
func parseDependencies(id string, m map[string]any, wrong *problems) []string {
	found := map[string]bool{}
	list, ok := m["dependencies"].([]any)
	if !ok && m["dependencies"] != nil {
		wrong.add(id, "`dependencies` must be a list")
	}
	for i, v := range list {
		d, _ := v.(map[string]any)
		if on, ok := d["pipeline"].(string); ok && on != "" {
			found[bare(on)] = true
		} else if _, ok := d["datapackage"].(string); !ok { // which is there or not when it is read
			wrong.add(id, "dependency %d must name a `pipeline`", i+1)
		}
	}
	read(m["pipeline"], found)
	return slices.Sorted(maps.Keys(found))
}

// read finds the pipelines that a value reads from.
func read(v any, found map[string]bool) {
	switch v := v.(type) {
	case string:
		if id, ok := strings.CutPrefix(v, "dependency://"); ok {
			found[bare(id)] = true
		}
	case []any:
		for _, one := range v {
			read(one, found)
		}
	case map[string]any:
		for _, one := range v {
			read(one, found)
		}
	}
}

// Only gives the part of a spec that a pipeline needs: it and what it depends on.
// Its error is NotFound.
func (s *Spec) Only(id string) (*Spec, error) {
	wanted := map[string]bool{bare(id): true}
	var out []Pipeline
	for _, p := range slices.Backward(s.Pipelines) {
		if !wanted[p.ID] {
			continue
		}
		for _, parent := range p.Dependencies {
			wanted[parent] = true
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		var ids []string
		for _, p := range s.Pipelines {
			ids = append(ids, p.ID)
		}
		return nil, errs.New(errs.NotFound, "pipelinespec.Only", "there is no pipeline %q; those that there are: %s", id, strings.Join(ids, ", "))
	}
	slices.Reverse(out)
	return &Spec{out}, nil
}
