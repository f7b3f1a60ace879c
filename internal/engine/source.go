package engine

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/tables"
	"github.com/datahq/specstore/internal/processor"
)

// source is a file that a flow reads: once, however many pipelines want it.
type source struct {
	urls   []string // of its parts, mostly one
	info   SourceInfo
	copies []*copyOf
	tables []*table
	// waiting are the pipelines that wait for its bytes.
	waiting []*node
	// body is the opened source, between that it was opened and read.
	body io.ReadCloser
	// spool holds the bytes as they came, once the source was read.
	spool *spool
	// digest is the SHA-256 of the bytes, where it is known before the tables are read.
	digest string
	err    error
}

// copyOf is a pipeline that publishes a source as it is.
type copyOf struct {
	node     *node
	resource *processor.Resource
}

// published is the copy, where it was made in an earlier attempt or flow.
func (c *copyOf) published() (Output, bool) {
	if c.node.result == nil || len(c.node.result.Outputs) != 1 {
		return Output{}, false
	}
	return c.node.result.Outputs[0], true
}

func (s *source) closeBody() {
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
}

func (s *source) close() {
	s.closeBody()
	s.spool.close()
	for _, t := range s.tables {
		t.close()
	}
}

// wanted says that something which is not done yet needs the source to be read.
func (s *source) wanted() bool {
	return slices.ContainsFunc(s.copies, func(c *copyOf) bool { return !c.node.ended }) || slices.ContainsFunc(s.tables, (*table).wanted)
}

// checkReferences looks the foreign keys up when all tables were read.
func (r *run) checkReferences(ctx context.Context) error {
	for _, t := range r.tables() {
		if !t.refers() || !t.whole {
			continue
		}
		err := r.references.check(ctx, t.name(), t.problems, func(name string) string {
			for _, other := range r.tables() {
				if other.name() == name && !other.whole {
					return fmt.Sprintf("the table %q cannot be read to its end", name)
				}
			}
			return ""
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// read has a source read, and those be made that wait for nothing else then.
func (r *run) read(s *source) {
	r.reading.add(job{
		begin: func() { r.begin(s) },
		work:  func(ctx context.Context) error { return r.fill(ctx, s) },
		then: func(err error) {
			s.err = err
			if err != nil {
				r.Log.Debug("source failed", "source", s.info.Name, "error", err)
			}
			for _, t := range s.tables {
				if err != nil && t.problems.Total == 0 {
					t.problems.add(Problem{Code: codeSource, Message: strings.Join(errorLines(err), " ")})
				}
				if !t.refers() { // else its end waits for the tables that it refers to
					r.settle(t.waiting...)
				}
			}
			r.settle(s.waiting...)
			if r.unread--; r.unread == 0 {
				r.finishReferences()
			}
		},
	})
}

// begin starts the pipelines that begin with a source.
func (r *run) begin(s *source) {
	for _, n := range s.nodes() {
		r.start(n)
	}
}

// finishReferences has the foreign keys looked up, and the pipelines go on that waited
// for it.
func (r *run) finishReferences() {
	r.making.add(job{
		begin: func() {},
		work:  r.checkReferences,
		then: func(err error) {
			r.fault = err
			for _, t := range r.tables() {
				if t.refers() {
					r.settle(t.waiting...)
				}
			}
		},
	})
}

// nodes are the pipelines that begin with the source.
func (s *source) nodes() []*node {
	var nodes []*node
	for _, t := range s.tables {
		for _, o := range t.outputs {
			if o.of == nil {
				nodes = append(nodes, o.node)
			}
		}
	}
	for _, c := range s.copies {
		nodes = append(nodes, c.node)
	}
	return nodes
}

// fill reads the bytes of the source into its spool, and the first table that is
// wanted from them on the way. Further tables are read from the spool.
func (r *run) fill(ctx context.Context, s *source) error {
	var body io.Reader
	if s.spool != nil {
		body = s.spool.reader() // it was read when it was identified
	} else {
		opened, err := r.open(ctx, s)
		if err != nil {
			return err
		}
		defer opened.Close()
		if s.spool, err = newSpool(r.Temp); err != nil {
			return err
		}
		body = io.TeeReader(opened, s.spool)
	}
	in := r.counted(ctx, s, body)
	first := true
	for _, t := range s.tables {
		if !t.read {
			continue
		}
		from := tables.Source{Reader: in, Whole: func() (string, error) {
			_, err := io.Copy(io.Discard, in)
			return s.spool.file.Name(), err
		}}
		if !first {
			from.Reader = s.spool.reader()
		}
		first = false
		if err := r.readTable(ctx, t, from); err != nil {
			return err
		}
		// A table may end early; the copy is of all bytes.
		if _, err := io.Copy(io.Discard, in); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	s.digest = s.spool.sum()
	return nil
}

func (s *source) rows() int64 {
	var rows int64
	for _, t := range s.tables {
		rows += t.rows.Load()
	}
	return rows
}

// counted reads a source and tells how far it has come, until its context ends.
func (r *run) counted(ctx context.Context, s *source, body io.Reader) io.Reader {
	return &counted{r: format.Bound(ctx, body), most: r.MaxSource, note: func(n int64) {
		r.Progress.set(s.nodes(), Count{Rows: s.rows(), Bytes: n, TotalBytes: s.info.Size})
	}}
}

// counted tells how far a source was read, and who reads on that it broke off.
type counted struct {
	r        io.Reader
	n, noted int64
	most     int64 // bytes; 0 is no limit
	note     func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.most > 0 && c.n > c.most {
		return 0, errs.New(errs.Invalid, "engine.read", "the source has more than %d bytes (SPECSTORE_MAX_SOURCE_BYTES)", c.most)
	}
	if c.n-c.noted > 1<<20 || err != nil {
		c.noted = c.n
		c.note(c.n)
	}
	if err != nil && err != io.EOF && errs.KindOf(err) == errs.Internal {
		err = errs.Wrap(err, errs.Unavailable, "engine.read", "reading the source broke off after %d bytes", c.n)
	}
	return n, err
}
