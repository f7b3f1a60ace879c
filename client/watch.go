package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxEvent      = 4 << 20          // bytes of one event
	maxReconnects = 6                // in a row, without news between them
	steady        = 10 * time.Second // a stream that lasted so long did not fail
)

// Event is news of a revision.
type Event struct {
	ID   string          // its number in the flow
	Kind string          // the event field of the stream; "message" where absent
	Data json.RawMessage // as it came
}

// errSilent ends a stream on which nothing, not even a comment, came for long.
var errSilent = errors.New("the stream of events went silent")

// Watch gives the events of a revision, from its first that the server still
// has to its last, and ends when the flow has ended. A stream that breaks is
// taken up after the event that came last (Last-Event-ID of the Server-Sent
// Events, HTML Living Standard, section 9.2), so that no event comes twice and
// none is left out. An error is the last item. A rev such as "latest" stands
// for the revision that it is at the start.
func (c *Client) Watch(ctx context.Context, datasetID, rev string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := &watch{client: c, dataset: datasetID, rev: rev, yield: yield}
		if err := w.run(ctx); err != nil && !w.stopped {
			yield(Event{}, err)
		}
	}
}

type watch struct {
	client       *Client
	dataset, rev string
	yield        func(Event, error) bool
	stopped      bool // the consumer wants no more

	last  string        // ID of the last event
	retry time.Duration // asked for by the server
	news  bool          // the stream that was last open brought an event
}

func (w *watch) run(ctx context.Context) error {
	if _, err := strconv.ParseUint(w.rev, 10, 64); err != nil {
		status, err := w.client.Status(ctx, w.dataset, w.rev)
		if err != nil {
			return err
		}
		w.rev = status.ID[strings.LastIndexByte(status.ID, '/')+1:]
	}
	// The end of a stream may be the end of the flow or of the server. It is
	// the flow's if the flow had ended before the stream was opened.
	ended := false
	for failures := 0; ; {
		began := time.Now()
		w.news = false
		whole, err := w.stream(ctx)
		switch {
		case w.stopped:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && (whole || ended):
			return nil
		}
		if status := StatusCode(err); status >= 300 && status < 500 && status != http.StatusTooManyRequests {
			return err
		}
		if w.news || err == nil && time.Since(began) >= steady {
			failures = 0
		}
		if !ended {
			status, statusErr := w.client.Status(ctx, w.dataset, w.rev)
			switch {
			case statusErr == nil && status.Ended():
				ended = true
				if err == nil {
					continue // what came between the end of the stream and now
				}
			case statusErr != nil && err == nil:
				err = statusErr
			}
		}
		failures++
		if failures > maxReconnects {
			if err == nil {
				err = errors.New("the stream of events ends at once, again and again")
			}
			return err
		}
		wait := max(w.client.first<<(failures-1), w.retry)
		if refusal, ok := errors.AsType[*Error](err); ok {
			wait = max(wait, refusal.RetryAfter)
		}
		if err := sleep(ctx, min(wait, maxWait)); err != nil {
			return err
		}
	}
}

// stream opens the stream once and reads it to its end. It reports whether the
// server says that nothing more will ever come.
func (w *watch) stream(ctx context.Context) (whole bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(w.client.idle, func() { cancel(errSilent) })
	defer silence.Stop()

	path, err := revision(w.dataset, w.rev, "events")
	if err != nil {
		return false, err
	}
	header := http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-store"}}
	if w.last != "" {
		header.Set("Last-Event-ID", w.last)
	}
	answer, err := w.client.send(ctx, call{method: http.MethodGet, path: path, header: header})
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNoContent {
		return true, nil
	}
	if kind := answer.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		return false, &Error{Status: http.StatusNotAcceptable, Message: "the server has no stream of events here"}
	}
	// The time is measured while a line is waited for, not while the consumer
	// is busy with an event.
	lines := &lineReader{
		r:    bufio.NewReader(answer.Body),
		wait: func() { silence.Reset(w.client.idle) },
		done: func() { silence.Stop() },
	}
	err = w.read(lines)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return false, err
}

// read reads events until the stream ends. An event that the stream broke off
// in is dropped, as the standard wants: it comes again.
func (w *watch) read(lines *lineReader) error {
	var event Event
	var data []byte
	size, has, own := 0, false, false // own: the event brings an ID itself
	id := w.last                      // stays for the events after it, until another comes
	for {
		line, err := lines.next(maxEvent)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if line == "" {
			if own && repeated(w.last, id) {
				has, id = false, w.last
			}
			w.last = id
			if has {
				event.ID, event.Data = id, data
				if event.Kind == "" {
					event.Kind = "message"
				}
				w.news = true
				if !w.yield(event, nil) {
					w.stopped = true
					return nil
				}
			}
			event, data, size, has, own = Event{}, nil, 0, false, false
			continue
		}
		if line[0] == ':' {
			continue // a comment, sent to keep the connection open
		}
		if size += len(line); size > maxEvent {
			return fmt.Errorf("an event is larger than %d bytes", maxEvent)
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "data":
			if has {
				data = append(data, '\n')
			}
			data, has = append(data, value...), true
		case "event":
			event.Kind = value
		case "id":
			if !strings.ContainsRune(value, 0) {
				id, own = value, true
			}
		case "retry":
			if ms, err := strconv.ParseUint(value, 10, 31); err == nil {
				w.retry = min(time.Duration(ms)*time.Millisecond, maxWait)
			}
		}
	}
}

// repeated reports whether the event with this number came before: some proxies
// drop Last-Event-ID, and then all events come again. Events whose IDs are not
// numbers are taken as new.
func repeated(last, id string) bool {
	a, errA := strconv.ParseUint(last, 10, 64)
	b, errB := strconv.ParseUint(id, 10, 64)
	return errA == nil && errB == nil && b <= a
}

// lineReader gives the lines of a stream of events, which end in LF, CR or
// both. It gives a line as soon as its end is there, so it never looks past a
// CR to see whether an LF follows.
type lineReader struct {
	r     *bufio.Reader
	wait  func() // called before a line is waited for
	done  func() // called when it is there, or never will be
	begun bool
	wasCR bool
}

func (l *lineReader) next(limit int) (string, error) {
	l.wait()
	defer l.done()
	if !l.begun {
		l.begun = true
		if mark, err := l.r.Peek(3); err == nil && string(mark) == "\ufeff" {
			if _, err := l.r.Discard(3); err != nil {
				return "", err
			}
		}
	}
	var line []byte
	for {
		b, err := l.r.ReadByte()
		if err != nil {
			return "", err // a line without an end is not one
		}
		skip := l.wasCR && b == '\n'
		l.wasCR = b == '\r'
		switch {
		case skip:
		case b == '\n' || b == '\r':
			return string(line), nil
		case len(line) == limit:
			return "", fmt.Errorf("a line is longer than %d bytes", limit)
		default:
			line = append(line, b)
		}
	}
}
