package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/datahq/specstore/client"
)

// The kinds of what is recorded.
const (
	pushed    = "push"    // a client begins a push, under a key of its own
	refused   = "refused" // a push was refused for good
	acked     = "ack"     // a server accepted it
	seen      = "status"  // a server answered how a flow stands
	published = "package" // the files of a flow that succeeded were read
	listed    = "list"    // a server answered the revisions of a dataset, after the end
	probed    = "probe"   // a server did not answer /healthz within the limit
	fault     = "fault"   // something was done to a server, the disk or the database
	erased    = "erase"   // a dataset was erased, and what its files answered afterwards
	left      = "left"    // processes or files that are there after the end
)

// record is one line of the history. What is empty does not apply.
type record struct {
	At        time.Duration `json:"at"` // since the start
	Kind      string        `json:"kind"`
	Server    string        `json:"server,omitempty"`
	Dataset   string        `json:"dataset,omitempty"`
	Key       string        `json:"key,omitempty"`  // Idempotency-Key of a push
	Flow      string        `json:"flow,omitempty"` // flow ID
	State     string        `json:"state,omitempty"`
	Attempt   int           `json:"attempt,omitempty"`
	Hostile   bool          `json:"hostile,omitempty"`   // of a push that need not succeed
	Revisions []int         `json:"revisions,omitempty"` // of a list
	Bad       string        `json:"bad,omitempty"`       // what is wrong with what was read
	Text      string        `json:"text,omitempty"`
}

// history is what clients asked and servers answered, in the order in which it came. Any
// number of goroutines may add to it.
type history struct {
	begun time.Time

	mu      sync.Mutex
	out     *json.Encoder
	records []record
	failed  error // of writing
}

func newHistory(out io.Writer) *history {
	return &history{begun: time.Now(), out: json.NewEncoder(out)}
}

func (h *history) add(r record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.At = time.Since(h.begun)
	h.records = append(h.records, r)
	// What cannot be written is checked all the same, and said at the end.
	if err := h.out.Encode(r); err != nil && h.failed == nil {
		h.failed = err
	}
}

// all returns the records until now.
func (h *history) all() []record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.records)
}

// flow is what the history says of one.
type flow struct {
	key     string
	hostile bool
	state   string // as seen last
	attempt int
	reason  string // of a failure
	full    bool   // it failed since the disk was full, which says no more of the service
}

// check returns what of a history must not be, a line each:
// an accepted push that is not there or did not end, two revisions of one push, a state
// that went back, a package that was torn or went away, numbers with holes, a server that
// did not answer whether it lives, and what was left over.
func check(records []record) []string {
	var faults []string
	wrong := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	pushes := map[string]record{} // by key
	flows := map[string]*flow{}
	byKey := map[string]string{}
	turned := map[string]bool{} // hostile pushes that were refused
	keys := map[string]int{}    // pushes of a dataset
	for _, r := range records {
		switch r.Kind {
		case pushed:
			if _, again := pushes[r.Key]; !again {
				keys[r.Dataset]++
			}
			pushes[r.Key] = r
		case refused:
			if r.Hostile {
				turned[r.Key] = true
				keys[r.Dataset]--
				continue
			}
			wrong("%s: the push %s was refused: %s", r.Dataset, r.Key, r.Text)
		case acked:
			if of, ok := byKey[r.Key]; ok && of != r.Flow {
				wrong("the push %s is two revisions: %s and %s", r.Key, of, r.Flow)
			}
			byKey[r.Key] = r.Flow
			if f := flows[r.Flow]; f != nil && f.key != r.Key {
				wrong("%s was answered to two pushes: %s and %s", r.Flow, f.key, r.Key)
			} else if f == nil {
				flows[r.Flow] = &flow{key: r.Key, hostile: pushes[r.Key].Hostile}
			}
		case seen:
			checkState(flows, r, wrong)
		case published, erased:
			if r.Bad != "" {
				wrong("%s%s: %s", r.Flow, r.Dataset, r.Bad)
			}
		case probed:
			wrong("%s did not answer /healthz in time, at %s: %s", r.Server, r.At.Round(time.Millisecond), r.Text)
		case listed:
			for i, n := range r.Revisions {
				if n != i+1 {
					wrong("%s: the revisions are not dense: %d where %d should be", r.Dataset, n, i+1)
					break
				}
			}
			if len(r.Revisions) != keys[r.Dataset] {
				wrong("%s: %d revisions of %d pushes", r.Dataset, len(r.Revisions), keys[r.Dataset])
			}
		case left:
			wrong("left over: %s", r.Text)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(pushes)) {
		if byKey[key] == "" && !turned[key] {
			wrong("%s: the push %s was never accepted", pushes[key].Dataset, key)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(flows)) {
		f := flows[id]
		switch {
		case f.state != client.Succeeded && f.state != client.Failed:
			wrong("%s did not end: it is %q", id, f.state)
		case f.state == client.Failed && !f.hostile && !f.full:
			wrong("%s is good and FAILED: %s", id, f.reason)
		}
	}
	return faults
}

// order is that of the states within an attempt.
var order = map[string]int{client.Queued: 0, client.InProgress: 1, client.Succeeded: 2, client.Failed: 2}

// checkState holds an answer against the one before it.
func checkState(flows map[string]*flow, r record, wrong func(string, ...any)) {
	f := flows[r.Flow]
	rank, known := order[r.State]
	switch {
	case f == nil:
		wrong("%s was seen and never accepted", r.Flow)
		return
	case r.State == "":
		wrong("%s was accepted and is not there: %s", r.Flow, r.Bad)
		return
	case !known:
		wrong("%s has the state %q", r.Flow, r.State)
		return
	case r.Attempt < f.attempt:
		wrong("%s went back from attempt %d to %d", r.Flow, f.attempt, r.Attempt)
	case order[f.state] == 2 && f.state != r.State:
		wrong("%s was %s and is %s", r.Flow, f.state, r.State)
	case r.Attempt == f.attempt && rank < order[f.state]:
		wrong("%s went back from %s to %s in attempt %d", r.Flow, f.state, r.State, r.Attempt)
	}
	f.state, f.attempt, f.reason = r.State, r.Attempt, r.Text
	f.full = strings.Contains(r.Text, "the disk is full") || strings.Contains(r.Text, "the store is full")
}
