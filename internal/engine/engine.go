// Package engine runs the pipelines of a flow and says how each of them stands.
//
// It reads each source once. The bytes go to the copy of the source and, where
// it is a table, through one check of every cell into all of its outputs at the
// same time (see package stream). A pipeline has its own state all the same: it
// starts only when what it depends on has succeeded, its failure stops only its
// dependants, and work that ran ahead for it is dropped when it may not start.
//
// The engine knows no database, no server and no clock: the same pipelines over
// the same sources give the same bytes. What it reads comes from [Sources], what
// it publishes goes to a [Sink], and news go to [Flow.Report] from one goroutine,
// in order.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/processor"
)

// Version is the engine's. Outputs are byte-identical for one version, so it
// changes whenever a change here alters a byte of what is published.
const Version = "1"

// Sources opens what a flow reads.
type Sources interface {
	// Open gives the bytes behind a URL of the plan. Its failure says what is
	// wrong with the source in words that the owner may read.
	Open(ctx context.Context, url string) (io.ReadCloser, SourceInfo, error)
}

// SourceInfo is what is known of a source before it is read.
type SourceInfo struct {
	Size   int64  // in bytes, -1 where it is not known
	Name   string // as a report may show it: no secrets, no query
	Scheme string // "file", "https"
}

// Sink keeps what a flow publishes. Nothing that it is given is visible to
// readers before the flow's end; that is the caller's to see to.
type Sink interface {
	// Put takes over a finished file, which lies at f.Local, and gives the key
	// that Open finds it by and the text that descriptors name it by.
	Put(ctx context.Context, f File) (key, ref string, err error)
	// PutDescriptor keeps the descriptor of a pipeline's package, or with an
	// empty artifact that of the whole, and gives the address of it.
	PutDescriptor(ctx context.Context, artifact string, body []byte) (url string, err error)
	// Open reads a file that was put by this attempt or an earlier one.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
}

// File is an output on its way to a [Sink].
type File struct {
	Artifact    string // the name of the pipeline that made it
	Path        string // inside a package: data/levels_csv.csv
	SHA256      string // hexadecimal
	Bytes       int64
	ContentType string
	Local       string // where the file lies now; the sink may move it away
}

// The kinds of news of a pipeline.
const (
	Start  = "start"
	Finish = "finish"
)

// Event is news of a pipeline.
type Event struct {
	Pipeline string
	Kind     string // Start or Finish
	Success  bool
	// Cascaded says that the pipeline failed without a start, because one that
	// it depends on did.
	Cascaded bool
	Errors   []string
	Log      []string
	Result   *Result // of one that succeeded
}

// Result is what a pipeline has published. It holds all that another attempt
// needs to go on from here.
type Result struct {
	Descriptor map[string]any `json:"descriptor"`
	Outputs    []Output       `json:"outputs"`
	Stats      Stats          `json:"stats"`
}

// Output is a published file.
type Output struct {
	Resource string `json:"resource"`
	Path     string `json:"path"` // inside a package
	Key      string `json:"key"`  // in the sink
	SHA256   string `json:"sha256"`
	Bytes    int64  `json:"bytes"`
}

// Stats are the counters of a package.
type Stats struct {
	Bytes       int64  `json:"bytes"`         // of all files, the descriptor included
	CountOfRows *int64 `json:"count_of_rows"` // of its tables; nil where it has none
	DatasetName string `json:"dataset_name"`
	Hash        string `json:"hash"` // sha256:HEX of the descriptor without it
	DPP         struct {
		URL string `json:"out-datapackage-url"`
	} `json:".dpp"`
}

// Flow is what [Execute] runs.
type Flow struct {
	Pipelines []plan.Pipeline
	Sources   Sources
	Sink      Sink
	// Report is given the news. Where it fails the flow stops with its error.
	Report func(ctx context.Context, e Event) error
	// Temp is an existing folder for files in the making; the caller removes it.
	Temp string
	// Done holds what pipelines published in an earlier attempt. They are not
	// run again and no news of them is given.
	Done map[string]*Result
	// Progress counts what is read while the flow runs; nil counts nothing.
	Progress *Progress
	Log      *slog.Logger // nil discards
}

// Outcome is how a flow ended.
type Outcome struct {
	Success   bool
	Pipelines []PipelineOutcome // in the plan's order
}

// PipelineOutcome is how a pipeline ended.
type PipelineOutcome struct {
	ID      string
	Success bool
	Errors  []string
	Result  *Result
}

// node is a pipeline while the flow runs.
type node struct {
	id, artifact string
	title        string
	deps         []*node
	pkg          *processor.Package
	broken       error // why the pipeline cannot be run at all

	started, ended, success bool
	errors                  []string
	log                     []string
	result                  *Result
}

func (n *node) logf(format string, args ...any) {
	n.log = append(n.log, fmt.Sprintf(format, args...))
}

type run struct {
	Flow
	nodes      []*node
	byID       map[string]*node
	sources    []*source
	byURL      map[string]*source
	references references
}

// Execute runs a flow to its end. The outcome says how each pipeline ended; the
// error is not nil only where the flow was stopped before its end: by the
// context, by Report, or by a fault of the machine.
func Execute(ctx context.Context, flow Flow) (*Outcome, error) {
	if flow.Log == nil {
		flow.Log = slog.New(slog.DiscardHandler)
	}
	if flow.Progress == nil {
		flow.Progress = NewProgress()
	}
	if len(flow.Pipelines) == 0 {
		return nil, errs.New(errs.Invalid, "engine.Execute", "the flow has no pipelines")
	}
	r := &run{Flow: flow, byID: map[string]*node{}, byURL: map[string]*source{}}
	defer r.close()
	if err := r.compile(ctx); err != nil {
		return nil, err
	}
	if err := r.execute(ctx); err != nil {
		return nil, err
	}
	out := &Outcome{Success: true}
	for _, n := range r.nodes {
		if !n.ended {
			return nil, errs.New(errs.Internal, "engine.Execute", "pipeline %s was not run", n.id)
		}
		out.Success = out.Success && n.success
		out.Pipelines = append(out.Pipelines, PipelineOutcome{n.id, n.success, n.errors, n.result})
	}
	return out, nil
}

// compile makes the nodes. A pipeline with a step that the engine does not have
// fails; the others run.
func (r *run) compile(ctx context.Context) error {
	flowID := r.Pipelines[len(r.Pipelines)-1].ID
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
		if result, ok := r.Done[n.id]; ok && err == nil {
			n.started, n.ended, n.success, n.result = true, true, true, result
			continue
		}
		n.broken = err
	}
	// Only now are all nodes there that fail with one that cannot run.
	for _, n := range r.nodes {
		if n.broken == nil {
			continue
		}
		if err := r.fail(ctx, n, n.broken); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) execute(ctx context.Context) error {
	if err := r.collect(); err != nil {
		return err
	}
	r.link()
	for _, n := range r.nodes {
		if n.pkg != nil && n.pkg.Report != nil {
			if err := r.start(ctx, n); err != nil {
				return err
			}
		}
	}
	for _, s := range r.sources {
		if err := r.readSource(ctx, s); err != nil {
			return err
		}
	}
	if err := r.finishReferences(ctx); err != nil {
		return err
	}
	for _, n := range r.nodes {
		if n.ended {
			continue
		}
		if err := r.start(ctx, n); err != nil {
			return err
		}
		result, err := protect(func() (*Result, error) { return r.assemble(ctx, n) })
		if err := r.end(ctx, n, result, err); err != nil {
			return err
		}
	}
	return nil
}

// assemble makes what is put together from other pipelines' files.
func (r *run) assemble(ctx context.Context, n *node) (*Result, error) {
	switch {
	case n.pkg.Report != nil:
		return r.report(ctx, n)
	case n.pkg.Zip != nil:
		return r.zip(ctx, n)
	case n.pkg.Database != nil:
		return r.database(ctx, n)
	case n.pkg.Joined != nil:
		return r.join(ctx, n)
	}
	return nil, errs.New(errs.Invalid, "engine.assemble", "the engine cannot run these steps together")
}

// start gives news of a start once, and only where all dependencies have succeeded.
func (r *run) start(ctx context.Context, n *node) error {
	if n.started || n.ended || slices.ContainsFunc(n.deps, func(d *node) bool { return !d.success }) {
		return nil
	}
	n.started = true
	r.Log.DebugContext(ctx, "pipeline started", "pipeline", n.id)
	return r.send(ctx, Event{Pipeline: n.id, Kind: Start})
}

// end gives news of how a pipeline ended. A context that is over ends nothing:
// the pipeline stays open for another attempt.
func (r *run) end(ctx context.Context, n *node, result *Result, err error) error {
	if err != nil {
		return r.fail(ctx, n, err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	n.ended, n.success, n.result = true, true, result
	r.Log.DebugContext(ctx, "pipeline ended", "pipeline", n.id, "success", true)
	return r.send(ctx, Event{Pipeline: n.id, Kind: Finish, Success: true, Log: n.log, Result: result})
}

// fail ends a pipeline and all that depend on it.
func (r *run) fail(ctx context.Context, n *node, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if n.ended {
		return nil
	}
	if err := r.start(ctx, n); err != nil {
		return err
	}
	n.ended, n.errors = true, errorLines(err)
	r.Log.DebugContext(ctx, "pipeline ended", "pipeline", n.id, "success", false, "error", err)
	if err := r.send(ctx, Event{Pipeline: n.id, Kind: Finish, Errors: n.errors, Log: n.log}); err != nil {
		return err
	}
	return r.cascade(ctx, n)
}

func (r *run) cascade(ctx context.Context, failed *node) error {
	for _, n := range r.nodes {
		if n.ended || !slices.Contains(n.deps, failed) {
			continue
		}
		n.ended = true
		n.errors = []string{fmt.Sprintf("Dependency unsuccessful. Cannot run until dependency %q is successfully executed", failed.id)}
		if err := r.send(ctx, Event{Pipeline: n.id, Kind: Finish, Cascaded: true, Errors: n.errors}); err != nil {
			return err
		}
		if err := r.cascade(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) send(ctx context.Context, e Event) error {
	if r.Report == nil {
		return nil
	}
	if err := r.Report(ctx, e); err != nil {
		return fmt.Errorf("engine: news of %s: %w", e.Pipeline, err)
	}
	return nil
}

func (r *run) close() {
	r.references.close()
	for _, s := range r.sources {
		s.close()
	}
}

// protect turns a panic into an error: a file that trips our code fails its own
// pipeline and no other.
func protect[T any](f func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &errs.Error{Kind: errs.Internal, Op: "engine", Err: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	return f()
}

// lines is an error that fills several lines of an error log.
type lines []string

func (l lines) Error() string { return strings.Join(l, "\n") }

// errorLines is what the owner reads of a failure.
func errorLines(err error) []string {
	if l, ok := errors.AsType[lines](err); ok {
		return l
	}
	if _, ok := errors.AsType[*errs.Error](err); ok {
		return []string{errs.Detail(err)}
	}
	return []string{errs.Internal.String()}
}
