package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/errs"
)

// Bounds of the bodies of requests. Without a valid token nothing costs much: the token
// is looked at before a body is read further than maxUnknown, and what all bodies take
// in memory, read and parsed, is bounded.
const (
	maxHeader  = 64 << 10 // bytes of the headers of a request, four of the longest tokens
	maxUnknown = 64 << 10 // bytes of a body whose token is not valid

	maxOne   = 96 << 20 // bytes that one body takes when it is parsed
	holdWait = 5 * time.Second
	// The rest of a body that was refused is thrown away, so that its sender, who may look
	// at the answer only then, comes to read it.
	maxLinger  = MaxSpec
	lingerTime = time.Second
)

// room is what bodies take in memory together: their texts, and what is made of them.
// Whoever has room to parse needs no more room for its text, so that nobody waits for
// somebody who waits. All of it is 256 MiB.
type room struct{ texts, parsed pool }

func (a *api) makeRoom() {
	a.known.texts.left, a.known.parsed.left = 116<<20, maxOne
	// Those without a valid token stand in nobody else's way.
	a.unknown.texts.left, a.unknown.parsed.left = 16<<20, 28<<20
}

// Bodies come, and answers are taken, at minRate or more, looked at in windows.
const (
	minRate    = 8 << 10 // bytes a second
	rateWindow = 8 * time.Second
	maxWrite   = minRate * 32 // bytes that are written under one deadline
	writeTime  = maxWrite / minRate * time.Second
)

// errSlow is what reading a body fails with that came more slowly than minRate.
var errSlow = errors.New("httpapi: the body came too slowly")

// pool bounds what is held in memory at the same time. The zero value holds nothing.
type pool struct {
	mu      sync.Mutex
	left    int64
	waiting chan struct{} // closed when something is given back; nil where nobody waits
}

// take takes bytes, and waits for some time where there are none. It fails with
// Unavailable.
func (p *pool) take(ctx context.Context, n int64) error {
	var expired <-chan time.Time
	for {
		p.mu.Lock()
		if p.left >= n {
			p.left -= n
			p.mu.Unlock()
			return nil
		}
		if p.waiting == nil {
			p.waiting = make(chan struct{})
		}
		freed := p.waiting
		p.mu.Unlock()
		if expired == nil {
			t := time.NewTimer(holdWait)
			defer t.Stop()
			expired = t.C
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-expired:
			return errs.New(errs.Unavailable, "httpapi.body", "too many large requests at the same time; try again later")
		}
	}
}

// takeNow takes bytes where they are there, and reports whether they were.
func (p *pool) takeNow(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left < n {
		return false
	}
	p.left -= n
	return true
}

func (p *pool) give(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left += n
	if p.waiting != nil {
		close(p.waiting)
		p.waiting = nil
	}
}

// held is a body in memory. It must be released.
type held struct {
	text         []byte
	room         *room // nil where nothing is held
	read, parsed int64 // bytes taken of it
}

// grow takes bytes for the text.
func (h *held) grow(ctx context.Context, n int64) error {
	if n <= 0 {
		return nil
	}
	err := h.room.texts.take(ctx, n)
	if err == nil {
		h.read += n
	}
	return err
}

// parse takes the bytes that parsing the text needs, in the place of those taken before.
func (h *held) parse(ctx context.Context, n int64) error {
	if n > maxOne {
		return errs.New(errs.TooLarge, "httpapi.body", "the body holds so many values that it would take more than %d MiB of memory", maxOne>>20)
	}
	h.room.parsed.give(h.parsed)
	h.parsed = 0
	err := h.room.parsed.take(ctx, n)
	if err == nil {
		h.parsed = n
	}
	return err
}

// move goes on in another room.
func (h *held) move(ctx context.Context, to *room) error {
	if err := to.texts.take(ctx, h.read); err != nil {
		return err
	}
	h.room.texts.give(h.read)
	h.room = to
	return nil
}

// release returns the memory. It may be called more than once.
func (h *held) release() {
	if h.room != nil {
		h.room.texts.give(h.read)
		h.room.parsed.give(h.parsed)
		*h = held{}
	}
}

// caller says whether a body comes from somebody that is known. Where it does not,
// refusal is why; after the first bytes of the body, which may be looked at once, known
// may still say that it does.
type caller struct {
	refusal error
	known   func(begin []byte) bool // may be nil
}

// read reads a body of a bounded length: of an unknown caller at most maxUnknown, else it
// fails with the caller's refusal. What it refuses it leaves unread, and the connection
// ends. It takes the room that parsing the body needs, too.
func (a *api) read(w http.ResponseWriter, r *http.Request, most int64, from caller, size func([]byte) int64) (_ *held, err error) {
	h := &held{room: &a.known}
	if from.refusal != nil {
		h.room = &a.unknown
	}
	defer func() {
		if err != nil {
			h.release()
			w.Header().Set("Connection", "close")
		}
	}()
	tooLarge := errs.New(errs.TooLarge, "httpapi.body", "the body is larger than %d bytes", most)
	switch {
	case r.ContentLength > most:
		return nil, tooLarge
	case from.refusal != nil && from.known == nil && r.ContentLength > maxUnknown:
		return nil, from.refusal
	case from.refusal == nil && r.ContentLength > 0:
		if err := h.reserve(r.Context(), r.ContentLength+1); err != nil {
			return nil, err
		}
	}
	for {
		limit := most
		if from.refusal != nil {
			limit = min(most, maxUnknown)
		}
		more, err := h.fill(r, limit)
		switch {
		case err != nil:
			return nil, broken(err)
		case more && limit == most:
			return nil, tooLarge
		}
		if from.known != nil && from.known(h.text) {
			from.refusal, from.known = nil, nil
			if err := h.move(r.Context(), &a.known); err != nil {
				return nil, err
			}
		}
		switch {
		case !more:
			return h, h.parse(r.Context(), size(h.text))
		case from.refusal != nil:
			return nil, from.refusal
		}
	}
}

// reserve makes the text as long as it may become.
func (h *held) reserve(ctx context.Context, size int64) error {
	if err := h.grow(ctx, size-int64(cap(h.text))); err != nil {
		return err
	}
	grown := make([]byte, len(h.text), size)
	copy(grown, h.text)
	h.text = grown
	return nil
}

// fill reads on, up to a length and not beyond it. It reports whether there is more.
func (h *held) fill(r *http.Request, limit int64) (more bool, err error) {
	const first = 4 << 10
	for {
		if len(h.text) == cap(h.text) {
			if err := h.reserve(r.Context(), min(max(2*int64(cap(h.text)), first), limit+1)); err != nil {
				return false, err
			}
		}
		n, err := r.Body.Read(h.text[len(h.text):cap(h.text)])
		h.text = h.text[:len(h.text)+n]
		switch {
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		case int64(len(h.text)) > limit:
			return true, nil
		}
	}
}

// broken is the failure to read a body, for its sender.
func broken(err error) error {
	switch {
	case errors.Is(err, errSlow):
		return errs.Wrap(err, errs.Invalid, "httpapi.body", "the body came more slowly than %d KiB a second", minRate>>10)
	case errs.KindOf(err) != errs.Internal:
		return err
	}
	return errs.Wrap(err, errs.Invalid, "httpapi.body", "the body broke off")
}

// What values take in memory at most beside their texts, in bytes: an object with its
// first members, a list, and a further member or element.
const (
	objectSize = 350
	listSize   = 64
	memberSize = 64
)

// jsonSize is what a JSON text takes at most when it is parsed. A text in it that looks
// like more values counts as them.
func jsonSize(text []byte) int64 {
	count := func(c byte) int64 { return int64(bytes.Count(text, []byte{c})) }
	return int64(len(text)) + objectSize*count('{') + listSize*count('[') + memberSize*count(',')
}

// yamlSize is what a YAML text takes at most when it is parsed: wherever a node begins
// stands one of a few characters.
func yamlSize(text []byte) int64 {
	const nodeSize = 400 // with the value that is made of it
	nodes := int64(1)
	for _, c := range text {
		switch c {
		case ',', ':', '-', '?', '[', '{', '\n', '\r', 0x85, 0xa8, 0xa9: // the last three end line breaks beyond ASCII
			nodes++
		}
	}
	return int64(len(text)) + nodeSize*nodes
}

// jsonBody reads a JSON request; of any other content type it is empty.
func (a *api) jsonBody(w http.ResponseWriter, r *http.Request, most int64, from caller) (*held, error) {
	if !isJSON(r.Header.Get("Content-Type")) {
		return &held{}, nil
	}
	h, err := a.read(w, r, most, from, jsonSize)
	if err == nil {
		h.text = bytes.TrimSpace(bytes.TrimPrefix(h.text, []byte("\ufeff")))
	}
	return h, err
}

// decode reads a JSON request of a bounded length into a struct. want says what its
// body must be.
func (a *api) decode(w http.ResponseWriter, r *http.Request, most int64, from caller, into any, want string) error {
	const op = "httpapi.decode"
	b, err := a.jsonBody(w, r, most, from)
	if err != nil {
		return err
	}
	defer b.release()
	switch {
	case len(b.text) == 0:
		return errs.New(errs.Invalid, op, "the body must be %s, with the Content-Type application/json", want)
	case !utf8.Valid(b.text):
		return errs.New(errs.Invalid, op, "the body is not UTF-8")
	}
	if err := json.Unmarshal(b.text, into); err != nil {
		return errs.Wrap(err, errs.Invalid, op, "the body must be %s", want)
	}
	return nil
}

// pacedBody is a body whose sender must keep to minRate. Time in which nobody reads does
// not count.
type pacedBody struct {
	io.ReadCloser
	deadline func(time.Time) error
	missing  int64         // bytes that are still to come in this window,
	left     time.Duration // and the time for them
	err      error         // what reading ended with
}

// Read implements [io.Reader].
func (p *pacedBody) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	if p.missing <= 0 {
		p.missing, p.left = minRate*int64(rateWindow/time.Second), rateWindow
	}
	begun := time.Now()
	_ = p.deadline(begun.Add(p.left)) // a connection of a test may have none
	n, err := p.ReadCloser.Read(b)
	p.missing -= int64(n)
	p.left -= time.Since(begun)
	switch {
	case err == io.EOF:
		// The server reads on to see whether the client goes: that may take any time.
		_ = p.deadline(time.Time{})
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("%w: %w", errSlow, err)
	}
	p.err = err
	return n, err
}

// exchange is an answer whose reader must keep to minRate.
type exchange struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (e *exchange) extend() { _ = e.control.SetWriteDeadline(time.Now().Add(writeTime)) }

// Write implements [io.Writer].
func (e *exchange) Write(b []byte) (n int, err error) {
	for {
		part := b[:min(len(b), maxWrite)]
		e.extend()
		written, err := e.ResponseWriter.Write(part)
		n += written
		if b = b[len(part):]; err != nil || len(b) == 0 {
			return n, err
		}
	}
}

// ReadFrom keeps the way by which the system sends a file itself, in parts.
func (e *exchange) ReadFrom(r io.Reader) (n int64, err error) {
	to, ok := e.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{e}, r)
	}
	left := int64(-1)
	if l, ok := r.(*io.LimitedReader); ok {
		r, left = l.R, l.N
		defer func() { l.N -= n }()
	}
	for left != 0 {
		part := int64(maxWrite)
		if left > 0 {
			part = min(part, left)
		}
		e.extend()
		copied, err := to.ReadFrom(&io.LimitedReader{R: r, N: part})
		n += copied
		if err != nil || copied < part {
			return n, err
		}
		if left > 0 {
			left -= part
		}
	}
	return n, nil
}

// Unwrap is for [http.ResponseController].
func (e *exchange) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// keepRate serves requests whose bodies come, and whose answers are taken, at minRate or
// more.
func keepRate(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := &exchange{ResponseWriter: w, control: http.NewResponseController(w)}
		e.extend() // the one before may be over, and the server itself writes, too
		var body *pacedBody
		if r.Body != nil && r.Body != http.NoBody {
			body = &pacedBody{ReadCloser: r.Body, deadline: e.control.SetReadDeadline}
			// The server reads some of a body that nobody reads, before it answers.
			_ = e.control.SetReadDeadline(time.Now().Add(rateWindow))
			own := *r // the server's is not to be changed
			own.Body = body
			r = &own
		}
		h.ServeHTTP(e, r)
		e.extend() // what is left to write is written after this
		if body == nil || body.err == io.EOF {
			return
		}
		// The server reads some of what is left, to keep the connection.
		_ = e.control.SetReadDeadline(time.Now().Add(lingerTime))
		if e.Header().Get("Connection") == "close" && r.ContentLength <= maxLinger && r.Header.Get("Expect") == "" && e.control.Flush() == nil {
			_, _ = io.CopyN(io.Discard, body.ReadCloser, maxLinger)
		}
	})
}
