package registry

import (
	"strings"

	"github.com/datahq/specstore/internal/errs"
)

// State is how a pipeline or a revision stands. It moves from Queued over Running
// to one of the others, and never back within an attempt.
type State uint8

// The states. The zero value is Queued.
const (
	Queued State = iota
	Running
	Succeeded
	Failed
	Cancelled
)

var states = [...]struct{ api, stored string }{
	{"QUEUED", "pending"}, {"INPROGRESS", "running"}, {"SUCCEEDED", "success"}, {"FAILED", "failed"}, {"CANCELLED", "cancelled"},
}

// String is the state's name in the API.
func (s State) String() string { return states[s].api }

// Stored is the state's name in the tables and in the answers to updates.
func (s State) Stored() string { return states[s].stored }

// Ended reports whether the state is for good.
func (s State) Ended() bool { return s >= Succeeded }

// MarshalText gives the name in the API.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads either name.
func (s *State) UnmarshalText(b []byte) (err error) {
	*s, err = ParseState(string(b))
	return err
}

// ParseState reads either name of a state.
func ParseState(name string) (State, error) {
	for i, s := range states {
		if name == s.api || name == s.stored {
			return State(i), nil
		}
	}
	return 0, errs.New(errs.Invalid, "registry.ParseState", "unknown state %q", name)
}

// derive is a flow's state from those of its pipelines.
func derive(list []*row) State {
	var n [len(states)]int
	for _, p := range list {
		n[p.State]++
	}
	switch ended := n[Succeeded] + n[Failed] + n[Cancelled]; {
	case n[Running] > 0, n[Queued] > 0 && ended > 0:
		return Running
	case n[Queued] > 0, len(list) == 0:
		return Queued
	case n[Failed] > 0:
		return Failed
	case n[Cancelled] > 0:
		return Cancelled
	}
	return Succeeded
}

// Kind is what happened to a pipeline.
type Kind string

// The kinds of events. KindCancel is written by [Store.Cancel] alone.
const (
	KindQueue    Kind = "queue"
	KindStart    Kind = "start"
	KindProgress Kind = "progress"
	KindFinish   Kind = "finish"
	KindCancel   Kind = "cancel"
)

// ParseKind reads the kind of an event that was sent to us.
func ParseKind(name string) (Kind, error) {
	switch k := Kind(name); k {
	case KindQueue, KindStart, KindProgress, KindFinish:
		return k, nil
	default:
		return "", errs.New(errs.Invalid, "registry.ParseKind", "unknown event %q; known are queue, start, progress, finish", name)
	}
}

// FlowOf is the ID of the flow that a pipeline belongs to: the first three parts of
// the pipeline's ID. A leading "./" is dropped.
func FlowOf(pipeline string) string {
	pipeline = strings.TrimPrefix(pipeline, "./")
	rest := pipeline
	for range 3 {
		_, after, ok := strings.Cut(rest, "/")
		if !ok {
			return pipeline
		}
		rest = after
	}
	return pipeline[:len(pipeline)-len(rest)-1]
}
