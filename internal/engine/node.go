package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/processor"
)

// node is a pipeline while the flow runs. Its state belongs to the flow's goroutine.
type node struct {
	id, artifact string
	title        string
	deps         []*node
	pkg          *processor.Package // nil where it cannot be run at all
	// make makes what the pipeline publishes, once nothing is waited for.
	make   func(ctx context.Context) (*Result, error)
	tables []*table // of a report
	waits  int      // inputs that are not there yet, and one while the graph is made
	next   []*node  // those that depend on it and have not ended

	started, ended, success bool
	errors                  []string
	log, notes              []string
	result                  *Result
	inputs                  string            // see [Result]
	parts                   map[string]string // likewise
}

func (n *node) logf(format string, args ...any) {
	n.log = append(n.log, fmt.Sprintf(format, args...))
}

// compile makes the nodes. A pipeline with a step that the engine does not have
// fails; the others run.
func (r *run) compile(ctx context.Context) error {
	flowID := r.Pipelines[len(r.Pipelines)-1].ID
	broken := map[*node]error{}
	for _, p := range r.Pipelines {
		n := &node{id: p.ID, title: p.Details.Title, artifact: strings.TrimPrefix(strings.TrimPrefix(p.ID, flowID), "/")}
		for _, d := range p.Details.Dependencies {
			dep, ok := r.byID[strings.TrimPrefix(d.Pipeline, "./")]
			if !ok {
				return errs.New(errs.Invalid, "engine.compile", "pipeline %s depends on %s, which is not before it", p.ID, d.Pipeline)
			}
			n.deps = append(n.deps, dep)
		}
		r.nodes = append(r.nodes, n)
		r.byID[n.id] = n
		pkg, err := processor.Compile(p.Details.Pipeline)
		n.pkg = pkg
		if err == nil && pkg.Dump == nil {
			err = errs.New(errs.Invalid, "engine.compile", "the pipeline keeps nothing: it has no dump step")
		}
		if err != nil {
			broken[n] = err
			continue
		}
		if result := r.Done[n.id]; result != nil && r.there(ctx, result) {
			n.started, n.ended, n.success, n.result, n.inputs = true, true, true, result, result.Inputs
		}
	}
	// Only now are all nodes there that fail with one that cannot run.
	for _, n := range r.nodes {
		if err := broken[n]; err != nil {
			r.fail(n, err)
		}
	}
	return nil
}

// start gives news of a start once, and only where all dependencies have succeeded.
func (r *run) start(n *node) {
	if n.started || n.ended || slices.ContainsFunc(n.deps, func(d *node) bool { return !d.success }) {
		return
	}
	n.started = true
	r.Log.Debug("pipeline started", "pipeline", n.id)
	r.send(Event{Pipeline: n.id, Kind: Start})
}

// end gives news of how a pipeline ended, and sees to those that wait for it.
func (r *run) end(n *node, result *Result, err error) {
	if err != nil {
		r.fail(n, err)
		return
	}
	if n.inputs == "" {
		n.inputs = r.inputsOf(n)
	}
	result.Inputs, result.Parts = n.inputs, n.parts
	n.ended, n.success, n.result = true, true, result
	r.Log.Debug("pipeline ended", "pipeline", n.id, "success", true)
	r.send(Event{Pipeline: n.id, Kind: Finish, Success: true, Log: n.log, Result: result})
	r.settle(n.next...)
}

// fail ends a pipeline and all that depend on it.
func (r *run) fail(n *node, err error) {
	if n.ended {
		return
	}
	r.start(n)
	n.ended, n.errors = true, errorLines(err)
	r.Log.Debug("pipeline ended", "pipeline", n.id, "success", false, "error", err)
	r.send(Event{Pipeline: n.id, Kind: Finish, Errors: n.errors, Log: n.log})
	r.cascade(n)
}

func (r *run) cascade(failed *node) {
	for _, n := range r.nodes {
		if n.ended || !slices.Contains(n.deps, failed) {
			continue
		}
		n.ended = true
		n.errors = []string{fmt.Sprintf("Dependency unsuccessful. Cannot run until dependency %q is successfully executed", failed.id)}
		r.send(Event{Pipeline: n.id, Kind: Finish, Cascaded: true, Errors: n.errors})
		r.cascade(n)
	}
}

func (r *run) send(e Event) { r.news = append(r.news, e) }

// tell gives news out that have come together.
func (r *run) tell(ctx context.Context, news []Event) error {
	if r.Report == nil {
		return nil
	}
	if err := r.Report(ctx, news); err != nil {
		return fmt.Errorf("engine: news of %s: %w", news[0].Pipeline, err)
	}
	return nil
}
