// Package runner runs flows in processes of their own.
//
// A [Pool] belongs to a process that serves: it has the database, the lease of the flow
// and the signing keys, and sends a flow to a child, which is the same program started
// again with the argument [Command] and which runs it with [Child]. The child plans and
// runs the flow and writes the objects. What it needs comes in messages over its
// standard input, and has no database, no key and nothing of the parent's environment
// but what is listed here. Its events come back over its standard output, and it goes
// on after each report only when the parent has acknowledged it.
//
// Whatever a flow does, it does to its child. The parent ends the child by signal where
// the context of the run ends or the run reaches one of its [Limits], and a child ends
// with its parent. A child runs another flow after one that ended by itself; after
// anything else it is replaced.
//
// On Linux the memory of a child is what the system says (its resident set). Elsewhere
// it is what the child itself says that Go holds, so a child that says nothing is bound
// by the time limit alone, and temporary files are counted by their names alone.
package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/fetch"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/objstore"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/processor/standard"
	"github.com/datahq/specstore/internal/rawstore"
)

// Command is the only argument of a child.
const Command = "run-flows"

// ErrDied is the cause of the end of a run whose child ended by itself, or was ended by
// somebody else. Its error has the reason in words as its detail.
var ErrDied = errors.New("the process of the run ended")

// Places say where a run reads and writes.
type Places struct {
	RawStore string // file URL of the store of uploaded files
	Packages string // file URL of the store of packages
	// RawBases are addresses of uploaded files, which specs name them by. An owner's files
	// are found by other addresses too, see [rawstore.OwnKey].
	RawBases []string
	Fetch    fetch.Config // of all other sources
	// Mark names files in the making in the stores, by the process that writes them.
	Mark string
}

// Job is a flow that is to be run.
type Job struct {
	FlowID, OwnerID         string
	InternalID              string // of the dataset
	Number                  int64  // of the revision
	Spec                    json.RawMessage
	PlannerVersion          string
	Created, DatasetCreated time.Time
	// Done and Earlier are what [engine.Flow] has of these names, each result as the
	// events of a run held it ([Event.Outputs]). One that cannot be read is left out.
	Done    map[string]json.RawMessage `json:"-"`
	Earlier map[string][]Earlier       `json:"-"`
	// Temp is an existing folder for files in the making. The caller removes it.
	Temp string
	// Places and Source, the limit of [Limits], are the pool's.
	Places Places
	Source int64
}

// Earlier is what a pipeline published in an earlier flow.
type Earlier struct {
	FlowID string
	Result json.RawMessage
}

// Event is news of a pipeline. Failures that only follow from another one are not told.
type Event struct {
	Pipeline string   `json:"pipeline"`
	Kind     string   `json:"kind"` // engine.Start or engine.Finish
	Success  bool     `json:"success,omitempty"`
	Errors   []string `json:"errors,omitempty"`
	Log      []string `json:"log,omitempty"`
	Reused   string   `json:"reused,omitempty"`
	// Stats are those of a pipeline that succeeded, Outputs its [engine.Result].
	Stats   json.RawMessage `json:"stats,omitempty"`
	Outputs json.RawMessage `json:"outputs,omitempty"`
}

// Hooks are told how a run goes on, from one goroutine.
type Hooks struct {
	// Report is given the events in order, those together that came together. The run
	// goes on when it returns; where it fails the run is ended, with its error.
	Report func(ctx context.Context, events []Event) error
	// Progress is given how far the pipelines have come, about twice a second.
	Progress func(counts map[string]engine.Count)
}

// plan plans the flow: the same plan as when its revision was accepted.
func (j *Job) plan() ([]plan.Pipeline, error) {
	raw, err := flowspec.ParseJSON(j.Spec)
	if err != nil {
		return nil, err
	}
	spec, problems := flowspec.Check(raw)
	if spec != nil {
		problems = standard.CheckSteps(spec)
	}
	if len(problems) > 0 {
		return nil, errs.New(errs.Invalid, "runner.plan", "%s", strings.Join(flowspec.ProblemLines(problems), "\n"))
	}
	return plan.Plan(PlanInput(j.PlannerVersion, spec, j.Number, j.Created, j.DatasetCreated))
}

// PlanInput is what a revision is planned from for the embedded engine, by the planner
// of a version, whoever plans it.
func PlanInput(version string, spec *flowspec.Spec, revision int64, accepted, created time.Time) plan.Input {
	return plan.Input{
		Spec: spec, Revision: fmt.Sprint(revision), UpdateTime: stamp(accepted), CreateTime: stamp(created), Version: version,
		AllowedTypes: plan.EmbeddedTypes(), BareNames: true, Settings: plan.Settings{Local: true},
	}
}

// stamp is a time as RFC 3339 in UTC with microseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// stores are the stores of a run, opened.
type stores struct {
	raw      *rawstore.Store
	packages *pkgstore.Store
	fetch    *fetch.Client
	close    []func() error
}

func openStores(p Places) (*stores, error) {
	s := &stores{}
	var err error
	if s.fetch, err = fetch.New(p.Fetch); err != nil {
		return nil, err
	}
	raw, err := s.open(p.RawStore, p.Mark)
	if err != nil {
		return nil, err
	}
	packages, err := s.open(p.Packages, p.Mark)
	if err != nil {
		return nil, errors.Join(err, s.free())
	}
	// Nothing is signed here: the store makes up a secret that nobody uses.
	s.raw, s.packages = rawstore.New(raw, nil, time.Now), pkgstore.New(packages, "")
	return s, nil
}

// folderOf is the folder of a local store.
func folderOf(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "file" || u.Host != "" {
		return "", errs.New(errs.Internal, "runner.open", "the store of the run is not one that this program opens")
	}
	return u.Path, nil
}

// open opens the store at an address.
func (s *stores) open(address, mark string) (objstore.Store, error) {
	dir, err := folderOf(address)
	if err != nil {
		return nil, err
	}
	l, err := objstore.OpenLocal(dir)
	if err != nil {
		return nil, err
	}
	l.Mark(mark)
	s.close = append(s.close, l.Close)
	return l, nil
}

func (s *stores) free() (err error) {
	for _, f := range s.close {
		err = errors.Join(err, f())
	}
	return err
}

// FolderURL is the address of a folder for [Places].
func FolderURL(dir string) string { return (&url.URL{Scheme: "file", Path: dir}).String() }

// sink keeps what the run of a job publishes.
func (s *stores) sink(j *Job) *pkgstore.Sink { return s.packages.Sink(j.InternalID, j.Number) }
