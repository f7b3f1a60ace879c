package runner

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
)

const (
	maxMessage = 64 << 20 // bytes of a message
	// What is reported together is held by the parent: a report ends with the event that
	// makes it longer than this many bytes.
	fullReport = 8 << 20
	maxCause   = 4 << 10 // bytes of the cause of a failure
)

// The kinds of messages. A parent sends a job, the results that it may go on from, and
// then go; after that an acknowledgement of each report.
const (
	kindJob    = "job"
	kindResult = "result"
	kindGo     = "go"
	kindAck    = "ack"
)

// A child sends events, after those that belong together a report, how far it has come,
// and at last the end.
const (
	kindEvent    = "event"
	kindReport   = "report"
	kindProgress = "progress"
	kindEnd      = "end"
)

// message is what parent and child send each other: its length in four bytes, the
// highest first, and JSON.
type message struct {
	Kind     string    `json:"kind"`
	Job      *Job      `json:"job,omitempty"`
	Result   *result   `json:"result,omitempty"`
	Event    *Event    `json:"event,omitempty"`
	Progress *progress `json:"progress,omitempty"`
	Success  bool      `json:"success,omitempty"`
	Failure  *failure  `json:"failure,omitempty"` // why there is no outcome
}

// result is what a pipeline published before: in an earlier attempt of the flow, by its
// ID, or in an earlier flow, by the last part of the ID.
type result struct {
	Pipeline string          `json:"pipeline"`
	Flow     string          `json:"flow,omitempty"` // empty: this one
	Result   json.RawMessage `json:"result"`
}

type progress struct {
	Counts  map[string]engine.Count `json:"counts"`
	Sources int64                   `json:"sources"` // bytes that were read of them
	Memory  int64                   `json:"memory"`  // bytes that the process says that it uses
}

// failure is an error of a child's on its way to the parent.
type failure struct {
	Kind   errs.Kind `json:"kind"`
	Detail string    `json:"detail"`
	Cause  string    `json:"cause"`
}

func failureOf(err error) *failure {
	return &failure{errs.KindOf(err), errs.Detail(err), cut(err.Error(), maxCause)}
}

func (f *failure) error() error {
	return errs.Wrap(errors.New(f.Cause), f.Kind, "runner.Run", "%s", f.Detail)
}

func cut(s string, most int) string { return s[:min(len(s), most)] }

var errTooLong = errs.New(errs.TooLarge, "runner.send", "what the run publishes of one pipeline is described by more than %d MiB", maxMessage>>20)

// sender writes messages, for several goroutines.
type sender struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *sender) send(m message) error {
	var b bytes.Buffer
	b.Write(make([]byte, 4))
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return fmt.Errorf("runner.send: %w", err)
	}
	n := b.Len() - 4
	if n > maxMessage {
		return errTooLong
	}
	binary.BigEndian.PutUint32(b.Bytes(), uint32(n))
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.w.Write(b.Bytes())
	return err
}

// receive reads a message and returns it with its size in bytes.
func receive(r io.Reader) (m message, size int, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, 0, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return m, 0, fmt.Errorf("runner.receive: a message of %d bytes", n)
	}
	var b bytes.Buffer // grows with what comes, not with what is announced
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		return m, 0, err
	}
	return m, int(n), json.Unmarshal(b.Bytes(), &m)
}
