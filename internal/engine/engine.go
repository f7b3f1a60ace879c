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
//
// A flow is a graph, and what waits for nothing runs at the same time: some sources
// are read, some pipelines are made. What an earlier flow of the same dataset made of
// the same inputs is not made again ([Flow.Earlier]).
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/plan"
)

// Version is the engine's. Outputs are byte-identical for one version, so it
// changes whenever a change here alters a byte of what is published.
const Version = "5"

// Sources opens what a flow reads, for several goroutines.
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
	// SHA256 is that of the bytes, hexadecimal, where it is known before they are
	// read; else empty.
	SHA256 string
}

// Sink keeps what a flow publishes, for several goroutines. Nothing that it is given
// is visible to readers before the flow's end; that is the caller's to see to.
type Sink interface {
	// Put takes over a finished file, which lies at f.Local, and gives the key
	// that Open finds it by and the path that descriptors name it by. The path does
	// not depend on the server's address.
	Put(ctx context.Context, f File) (key, ref string, err error)
	// PutDescriptor keeps the descriptor of a pipeline's package, or with an
	// empty artifact that of the whole, and gives the address of it.
	PutDescriptor(ctx context.Context, artifact string, body []byte) (url string, err error)
	// Open reads a file that was put by this attempt or an earlier one.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
	// Has reports whether a file that was put earlier is still there with its size.
	Has(ctx context.Context, key string, size int64) bool
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

// Reused is the ID of the flow that made what a pipeline publishes, where that is
// another one: then the pipeline may end without a start.
func (e Event) Reused() string {
	if e.Result == nil {
		return ""
	}
	return e.Result.Reused
}

// Result is what a pipeline has published. It holds all that another attempt
// needs to go on from here.
type Result struct {
	Descriptor map[string]any `json:"descriptor"`
	Outputs    []Output       `json:"outputs"`
	Stats      Stats          `json:"stats"`
	// Sealed is the descriptor as it was kept.
	Sealed Sealed `json:"sealed"`
	// Inputs is a hash of all that the outputs were made from; empty where they are
	// made in every flow.
	Inputs string `json:"inputs,omitempty"`
	// Parts are the hashes of what parts of an output were made from: of a report by
	// table, of an archive by path.
	Parts map[string]string `json:"parts,omitempty"`
	// Reused is the ID of the flow that made the outputs, where that is another one.
	Reused string `json:"reused,omitempty"`
}

// Output is a published file.
type Output struct {
	Resource string `json:"resource"`
	Path     string `json:"path"` // inside a package
	Key      string `json:"key"`  // in the sink
	SHA256   string `json:"sha256"`
	Bytes    int64  `json:"bytes"`
}

// Sealed names a descriptor that was kept.
type Sealed struct {
	SHA256 string `json:"sha256"` // hexadecimal
	Bytes  int64  `json:"bytes"`
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
	// Report is given the news, those together that came together, in order. Where it
	// fails the flow stops with its error.
	Report func(ctx context.Context, news []Event) error
	// MaxSource is how many bytes of one source are read, all parts of it together, and
	// how many it may unpack to; 0 is no limit for the one and 64 GiB for the other.
	// What is longer fails what is made of the source.
	MaxSource int64
	// Temp is an existing folder for files in the making; the caller removes it.
	Temp string
	// Done holds what pipelines published in an earlier attempt. Those whose files
	// are still there are not run again and no news of them is given.
	Done map[string]*Result
	// Earlier holds what earlier flows of the dataset published, by the last part of
	// the pipeline's ID, the newest first. What was made of the same inputs is
	// published again as it is.
	Earlier map[string][]Earlier
	// Progress counts what is read while the flow runs; nil counts nothing.
	Progress *Progress
	Log      *slog.Logger // nil discards
}

// Earlier is what a pipeline published in an earlier flow.
type Earlier struct {
	FlowID string
	Result *Result
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
	Notes   []string // of the report: what was read otherwise than declared, by table
}

type run struct {
	Flow
	nodes      []*node
	byID       map[string]*node
	sources    []*source
	byURL      map[string]*source
	named      map[string]*table // the first of each name
	references references
	unread     int // sources that are to be read still

	reading, making lane
	news            []Event
	fault           error // of the machine, which stops the flow
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
	r := &run{Flow: flow, byID: map[string]*node{}, byURL: map[string]*source{}, named: map[string]*table{}}
	r.reading.limit, r.making.limit = sourcesAtOnce, pipelinesAtOnce()
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
		out.Pipelines = append(out.Pipelines, PipelineOutcome{n.id, n.success, n.errors, n.result, n.notes})
	}
	return out, nil
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
