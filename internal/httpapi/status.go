package httpapi

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/registry"
)

// apiState names a state as the contract has it, and what it leaves out.
func apiState(s registry.State) (state string, outcome *string) {
	if s == registry.Cancelled {
		o := "cancelled"
		return registry.Failed.String(), &o
	}
	return s.String(), nil
}

const stampLayout = "2006-01-02T15:04:05.000000Z"

func stamp(t time.Time) string { return t.UTC().Format(stampLayout) }

func optional(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}

// writer appends JSON. What the registry keeps as JSON goes through as it is: it was
// checked when it was written.
type writer []byte

func (b *writer) raw(s string) { *b = append(*b, s...) }

// text writes a string. The registry's are UTF-8; of others what is not is replaced.
func (b *writer) text(s string) { *b, _ = jsontext.AppendQuote(*b, s) }

func (b *writer) json(v json.RawMessage) {
	if len(v) == 0 {
		b.raw("null")
		return
	}
	*b = append(*b, v...)
}

func (b *writer) number(n int64) { *b = strconv.AppendInt(*b, n, 10) }

// time writes a time, null for none.
func (b *writer) time(t time.Time) {
	if t.IsZero() {
		b.raw("null")
		return
	}
	// As stampLayout, which takes six times as long as a layout that package time knows.
	*b = append(*b, '"')
	*b = t.UTC().AppendFormat(*b, time.RFC3339)
	(*b)[len(*b)-1] = '.' // for the Z
	micros := t.Nanosecond() / 1000
	for digit := 100_000; digit > 0; digit /= 10 {
		*b = append(*b, byte('0'+micros/digit%10))
	}
	b.raw(`Z"`)
}

func (b *writer) lines(list []string) {
	b.raw("[")
	for i, line := range list {
		if i > 0 {
			b.raw(",")
		}
		b.text(line)
	}
	b.raw("]")
}

// status writes how a revision stands, with addresses below a base.
func (b *writer) status(at base, r *registry.Revision) {
	state, outcome := apiState(r.State)
	b.raw(`{"id":`)
	b.text(r.ID)
	b.raw(`,"spec_contents":`)
	b.json(r.Spec)
	b.raw(`,"modified":`)
	b.time(r.Modified)
	b.raw(`,"created":`)
	b.time(r.Created)
	b.raw(`,"state":"` + state + `","logs":`)
	if r.Logs == nil {
		b.raw("null")
	} else {
		b.lines(r.Logs)
	}
	b.raw(`,"error_log":`)
	b.lines(r.Errors)
	b.raw(`,"stats":`)
	b.json(at.completed(r.ID, r.Stats))
	b.raw(`,"pipelines":{`)
	for i := range r.Pipelines {
		p := &r.Pipelines[i]
		if i > 0 {
			b.raw(",")
		}
		b.text(p.ID)
		b.raw(`:{"title":`)
		b.text(p.Title)
		state, _ := apiState(p.State)
		b.raw(`,"status":"` + state + `","stats":`)
		b.json(at.completed(r.ID, p.Stats))
		b.raw(`,"error_log":`)
		b.lines(p.Errors)
		b.raw(`,"started":`)
		b.time(p.Started)
		b.raw(`,"finished":`)
		b.time(p.Finished)
		b.raw(`,"progress":`)
		b.json(p.Progress)
		b.raw(`,"reused":`)
		if p.Reused == "" {
			b.raw("null}")
		} else {
			b.text(p.Reused)
			b.raw("}")
		}
	}
	b.raw(`},"attempt":`)
	b.number(r.Attempt)
	b.raw(`,"trigger":`)
	b.text(r.Cause)
	b.raw(`,"outcome":`)
	if outcome == nil {
		b.raw("null")
	} else {
		b.text(*outcome)
	}
	self := at.source(r.ID)
	b.raw(`,"certified":false,"links":{"self":`)
	b.text(self)
	b.raw(`,"events":`)
	b.text(self + "/events")
	b.raw(`,"page":null,"package":`)
	if r.State == registry.Succeeded && r.DescriptorKey != "" {
		b.text(at.packages() + "/" + escapePath(r.ID) + "/datapackage.json")
	} else {
		b.raw("null")
	}
	b.raw("}}\n")
}

// castagnoli is the polynomial that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sizeOf is about what a revision and the answer that shows it take in memory, in bytes,
// and at most what all answers may take.
func sizeOf(r *registry.Revision) int64 {
	size := len(r.Spec) + len(r.Stats)
	for _, line := range r.Logs {
		size += len(line)
	}
	for _, line := range r.Errors {
		size += len(line)
	}
	for i := range r.Pipelines {
		p := &r.Pipelines[i]
		size += len(p.ID) + len(p.Title) + len(p.Stats)
		for _, line := range p.Errors {
			size += len(line)
		}
	}
	return min(2*int64(size), maxAnswers)
}

// longStatuses are about how long the statuses of public revisions are that were long, by
// what they were asked for, so that room for one is taken before it is read.
type longStatuses struct {
	mu    sync.Mutex
	sizes map[string]int64
}

// maxLongStatuses is how many are remembered.
const maxLongStatuses = 1000

func (l *longStatuses) size(name string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sizes[name]
}

// note remembers the size of a status; 0 forgets it.
func (l *longStatuses) note(name string, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case size == 0:
		delete(l.sizes, name)
	case len(l.sizes) >= maxLongStatuses, l.sizes == nil:
		l.sizes = map[string]int64{name: size}
	default:
		l.sizes[name] = size
	}
}

// standing finds a revision. Where its status is long it takes room for it, which release
// gives back: who waits for room holds nothing.
func (a *api) standing(r *http.Request, dataset, which string) (rev *registry.Revision, release func(), err error) {
	name := dataset + "/" + which
	room := a.long.size(name)
	release = func() { a.answers.give(room) }
	if err := a.answers.take(r.Context(), room); err != nil {
		return nil, nil, err
	}
	for {
		rev, err = a.Service.Status(r.Context(), auth.FromRequest(r), dataset, which)
		size := int64(0)
		if err == nil {
			size = sizeOf(rev)
		}
		if size <= maxKeptBuffer {
			size = 0
		}
		if noted := a.long.size(name); size != noted && (size == 0 || rev.Findability != flowspec.Private) {
			a.long.note(name, size)
		}
		if err != nil {
			release()
			return nil, nil, err
		}
		if size <= room {
			return rev, release, nil
		}
		if a.answers.takeNow(size - room) {
			room = size
			return rev, release, nil
		}
		release()
		if err := a.answers.take(r.Context(), size); err != nil {
			return nil, nil, err
		}
		room = size
	}
}

// maxKeptBuffer is the largest buffer in bytes that waits for another answer.
const maxKeptBuffer = 256 << 10

// status answers with how a revision stands. One that has ended changes no more, until
// it is tried again: it has a strong entity tag, and who has it is told that it is
// still so. Caches must ask each time, since a dataset may become private.
func (a *api) status(w http.ResponseWriter, r *http.Request) error {
	dataset, which := datasetOf(r)
	rev, release, err := a.standing(r, dataset, which)
	if err != nil {
		return err
	}
	defer release()
	b, _ := a.buffers.Get().(*writer)
	if b == nil {
		b = &writer{}
	}
	defer func() {
		if cap(*b) <= maxKeptBuffer {
			*b = (*b)[:0]
			a.buffers.Put(b)
		}
	}()
	b.status(a.base(r), rev)
	private(w)
	h := w.Header()
	if rev.Findability == flowspec.Private {
		h.Set("Cache-Control", "private, no-cache")
	}
	if rev.State.Ended() {
		// The time and the attempt name the state, the sum its form: which addresses are
		// in it, what was taken out, and what another version of the program writes.
		tag := fmt.Sprintf(`"%x-%x-%08x"`, rev.Modified.UnixMicro(), rev.Attempt, crc32.Checksum(*b, castagnoli))
		h.Set("Etag", tag)
		if matches(r.Header.Values("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(*b)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(*b) // the reader has gone
	return nil
}

// matches reports whether If-None-Match names an entity tag (RFC 9110, section 13.1.2),
// by the weak comparison. Our tags have no commas in them.
func matches(lines []string, tag string) bool {
	for _, line := range lines {
		for one := range strings.SplitSeq(line, ",") {
			one = strings.TrimSpace(one)
			if one == "*" || strings.TrimPrefix(one, "W/") == tag {
				return true
			}
		}
	}
	return false
}
