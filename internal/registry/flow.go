package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of what is kept of a flow.
const (
	maxErrors        = 100   // of a revision, and of a pipeline
	maxLogs          = 1000  // of a revision
	maxPipelineLogs  = 100   // of a pipeline: the last ones
	maxLine          = 4096  // bytes of a line of a log or of an error
	maxRestarts      = 5     // of an attempt that was interrupted
	maxStats         = 65536 // bytes of stats as JSON
	dependencyPrefix = "Dependency unsuccessful. "
)

// row is a pipeline as the tables keep it: in a row of its own while the flow is
// open, and as an entry of the revision's "pipelines" afterwards. The names are
// those of the original's entries; the others are ours.
type row struct {
	ID           string          `json:"-"`
	Title        string          `json:"title"`
	State        State           `json:"status"`
	Stats        json.RawMessage `json:"stats,omitempty"`
	Errors       textLines       `json:"error_log"`
	ErrorCount   int64           `json:"error_count,omitempty"`
	Position     int64           `json:"position"`
	Dependencies []string        `json:"dependencies,omitempty"`
	Started      int64           `json:"started,omitempty"` // microseconds, 0 for never
	Finished     int64           `json:"finished,omitempty"`
	Progress     json.RawMessage `json:"progress,omitempty"`
	Outputs      json.RawMessage `json:"outputs,omitempty"`
	Reused       string          `json:"reused,omitempty"`
	Logs         textLines       `json:"logs,omitempty"`

	files   []File // that are to be recorded
	changed bool
	logged  bool // Logs were set, else they were not read
}

// textLines reads any JSON as lines of text: the original kept what it was sent.
type textLines []string

func (l *textLines) UnmarshalJSON(b []byte) error {
	*l = parseLines(string(b))
	return nil
}

// flow is an open or ended flow under its row lock, and what an event does to it.
// It does no I/O.
type flow struct {
	id         string
	dataset    string
	internal   string // ID of the dataset
	digest     string // of the content
	number     int64
	runner     Runner
	cause      string // of the revision
	state      State
	attempt    int64
	restarts   int64
	holder     string // empty where nobody runs it
	beat       int64
	seq        int64 // of the last event
	started    int64
	descriptor string
	rows       []*row
	events     []StoredEvent
	now        int64
}

func (f *flow) find(id string) *row {
	for _, p := range f.rows {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// event notes what happened to a pipeline.
func (f *flow) event(p *row, kind Kind) {
	p.changed = true
	body := eventBody{State: p.State, Errors: p.Errors}
	if p.State.Ended() {
		body.Stats, body.Reused = p.Stats, p.Reused
	}
	f.events = append(f.events, StoredEvent{Pipeline: p.ID, Kind: kind, body: body})
}

// apply is the table of transitions of one pipeline. It never goes back: what
// would is left alone.
func (f *flow) apply(p *row, ev Event) {
	if p.State.Ended() {
		if ev.Attempt != 0 && p.State == Succeeded && ev.Kind == KindFinish && ev.Success && len(ev.Files) > 0 {
			// Its files were gone, and another attempt made them again.
			p.Outputs, p.files, p.changed = ev.Outputs, ev.Files, true
		}
		return
	}
	switch ev.Kind {
	case KindStart, KindProgress:
		changed := f.note(p, ev)
		if p.State == Queued {
			f.start(p)
			f.event(p, ev.Kind)
		} else if changed {
			p.changed = true
		}
	case KindFinish:
		f.note(p, ev)
		f.start(p)
		p.Finished = f.now
		if !ev.Success {
			p.State = Failed
			f.event(p, KindFinish)
			f.cascade(p.ID)
			return
		}
		p.State, p.Errors, p.ErrorCount = Succeeded, nil, 0
		if present(ev.Outputs) {
			p.Outputs = ev.Outputs
		}
		p.Reused, p.files = ev.Reused, ev.Files
		if p.ID == f.id && ev.DescriptorKey != "" {
			f.descriptor, f.digest = ev.DescriptorKey, ev.ContentDigest
		}
		f.event(p, KindFinish)
	case KindQueue, KindCancel: // it is queued, or has started; a flow alone is cancelled
	}
}

func (f *flow) start(p *row) {
	p.State = Running
	if p.Started == 0 {
		p.Started = f.now
	}
	if f.started == 0 {
		f.started = f.now
	}
}

// note keeps what an event says; what it does not say stays.
func (f *flow) note(p *row, ev Event) (changed bool) {
	if lines := clean(ev.Errors); len(lines) > 0 && !slices.Equal(lines, p.Errors) {
		p.ErrorCount = int64(len(lines))
		p.Errors = lines[:min(len(lines), maxErrors)]
		changed = true
	}
	if present(ev.Stats) && string(ev.Stats) != string(p.Stats) {
		p.Stats = ev.Stats
		changed = true
	}
	if lines := clean(ev.Log); len(lines) > 0 {
		p.Logs = lines[max(0, len(lines)-maxPipelineLogs):]
		p.logged, changed = true, true
	}
	return changed
}

// fail ends a pipeline that cannot go on.
func (f *flow) fail(p *row, reason string) {
	p.State, p.Finished = Failed, f.now
	p.Errors, p.ErrorCount = []string{reason}, 1
	f.event(p, KindFinish)
}

// cascade fails the queued pipelines that wait for one that failed, and those that
// wait for them, each after the one that it waits for.
func (f *flow) cascade(failed string) {
	for queue := []string{failed}; len(queue) > 0; queue = queue[1:] {
		for _, p := range f.rows {
			if p.State == Queued && slices.Contains(p.Dependencies, queue[0]) {
				f.fail(p, fmt.Sprintf(dependencyPrefix+"Cannot run until dependency %q is successfully executed", queue[0]))
				queue = append(queue, p.ID)
			}
		}
	}
}

// end fails or cancels what is open.
func (f *flow) end(state State, kind Kind, reason string) {
	for _, p := range f.rows {
		if !p.State.Ended() {
			p.State, p.Finished = state, f.now
			p.Errors, p.ErrorCount = []string{clip(reason)}, 1
			f.event(p, kind)
		}
	}
}

// giveUp fails what is open: what runs with the reason, and what waits for it as
// with any other failure; then the rest with the reason.
func (f *flow) giveUp(reason string) {
	for _, p := range f.rows {
		if p.State == Running {
			f.fail(p, reason)
			f.cascade(p.ID)
		}
	}
	f.end(Failed, KindFinish, reason)
}

// restart is a new attempt: pipelines in one of the given states are queued again,
// the others are kept. One that ran although what it waits for had failed is not
// queued for ever: it fails as it would have.
func (f *flow) restart(again ...State) {
	f.attempt++
	for _, p := range f.rows {
		if slices.Contains(again, p.State) {
			*p = row{ID: p.ID, Title: p.Title, Position: p.Position, Dependencies: p.Dependencies, logged: true}
			f.event(p, KindQueue)
		}
	}
	for _, p := range f.rows {
		if p.State == Failed {
			f.cascade(p.ID)
		}
	}
}

// interrupt is the end of a run that was not at the flow's end: another attempt may
// be claimed, in which what had succeeded is kept. After 5 of them the flow fails. The
// reason of the last interruption may be empty.
func (f *flow) interrupt(reason string) {
	if f.restarts >= maxRestarts {
		f.attempt++
		text := fmt.Sprintf("The run was interrupted %d times and was not started again", f.restarts+1)
		if reason != "" {
			text += ": " + reason
		}
		f.giveUp(text)
		return
	}
	f.restarts++
	f.restart(Running)
}

// cascaded reports whether a pipeline failed because another one did.
func (p *row) cascaded() bool {
	return len(p.Errors) > 0 && strings.HasPrefix(p.Errors[0], dependencyPrefix)
}

// summary is what a revision shows of its pipelines: the errors, root failures
// first, the end of the logs, and the package's stats, which are those of the
// flow's last pipeline.
func summary(flowID string, list []*row) (failures, logs []string, stats json.RawMessage) {
	failures = []string{}
	said := map[string]bool{} // pipelines of one table fail with the same lines
	for _, cascaded := range []bool{false, true} {
		for _, p := range list {
			if p.State == Succeeded || p.cascaded() != cascaded {
				continue
			}
			for _, line := range p.Errors {
				if !said[line] {
					failures = append(failures, line)
				}
				said[line] = true
			}
		}
	}
	for _, p := range list {
		for _, line := range p.Logs {
			logs = append(logs, nameOf(flowID, p.ID)+": "+line)
		}
		if p.ID == flowID && p.State.Ended() {
			stats = p.Stats
		}
	}
	return failures[:min(len(failures), maxErrors)], logs[max(0, len(logs)-maxLogs):], stats
}

// nameOf is a pipeline's short name: what its ID adds to its flow's, and the
// dataset's for the last pipeline, which has the flow's ID.
func nameOf(flowID, id string) string {
	if name, ok := strings.CutPrefix(id, flowID+"/"); ok {
		return name
	}
	parts := strings.Split(flowID, "/")
	return parts[max(0, len(parts)-2)]
}

func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

func clean(lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, line := range lines {
		if line != "" {
			out = append(out, clip(line))
		}
	}
	return out
}

// clip bounds a line and makes it text.
func clip(line string) string {
	if len(line) > maxLine {
		line = line[:maxLine] + "…"
	}
	return strings.ToValidUTF8(line, "\uFFFD")
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
