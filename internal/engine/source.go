package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format/tables"
	"github.com/datahq/specstore/internal/processor"
	"github.com/datahq/specstore/internal/tableschema"
)

// source is a file that a flow reads: once, however many pipelines want it.
type source struct {
	urls   []string // of its parts, mostly one
	info   SourceInfo
	copies []*copyOf
	tables []*table
	// spool holds the bytes as they came, once the source was read.
	spool *spool
	err   error
	// wanted says that something which is not done yet needs the source.
	wanted bool
}

// copyOf is a pipeline that publishes a source as it is.
type copyOf struct {
	node     *node
	resource *processor.Resource
}

func (s *source) close() {
	s.spool.close()
	for _, t := range s.tables {
		t.close()
	}
}

// collect finds out which pipelines read which source, and as which table.
func (r *run) collect() error {
	for _, n := range r.nodes {
		if n.pkg == nil {
			continue
		}
		if n.pkg.Report != nil {
			for _, res := range n.pkg.Report.Tables {
				t, err := r.table(n, res)
				if err != nil {
					return err
				}
				t.reports = append(t.reports, n)
			}
			continue
		}
		if n.pkg.Zip != nil {
			for _, res := range n.pkg.Zip.Resources {
				if res.URLs != nil {
					s := r.source(res.URLs)
					s.wanted = s.wanted || !n.ended
				}
			}
			continue
		}
		if n.pkg.Database != nil {
			for _, res := range n.pkg.Database.Tables {
				if o := r.outputOf(res.Pipeline); o != nil {
					o.table.wanted(n)
					if err := o.table.add(&output{node: n, resource: res, of: o, database: true}, n.pkg); err != nil {
						return err
					}
				}
			}
			continue
		}
		for _, res := range n.pkg.Resources {
			switch {
			case res.URLs != nil && res.Streaming:
				t, err := r.table(n, res)
				if err != nil {
					return err
				}
				if err := t.add(&output{node: n, resource: res, limit: n.pkg.Preview}, n.pkg); err != nil {
					return err
				}
			case res.URLs != nil:
				s := r.source(res.URLs)
				s.wanted = s.wanted || !n.ended
				s.copies = append(s.copies, &copyOf{n, res})
			case res.Pipeline != "" && res.Streaming:
				if o := r.outputOf(res.Pipeline); o != nil {
					o.table.wanted(n)
					if err := o.table.add(&output{node: n, resource: res, limit: n.pkg.Preview, of: o}, n.pkg); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// link links the tables by their foreign keys, and has those read that one which
// is read refers to, also where all that is made of them is there already. Of
// several readings of one resource the first stands for it.
func (r *run) link() {
	var names []string
	schemas := map[string]*tableschema.Schema{}
	tables := map[string]*table{}
	for _, t := range r.tables() {
		if _, ok := schemas[t.name()]; ok {
			continue
		}
		schema, err := parseSchema(t.resource.Added)
		if err != nil {
			schema = nil // the table says so itself when it is read
		}
		names = append(names, t.name())
		schemas[t.name()], tables[t.name()], t.schema = schema, t, schema
	}
	var read []string
	for _, name := range names {
		if tables[name].source.wanted {
			read = append(read, name)
		}
	}
	for _, name := range read {
		if tables[name].refers() {
			for _, key := range schemas[name].ForeignKeys {
				if to := tables[key.Resource]; to != nil {
					to.source.wanted = true
				}
			}
		}
	}
	r.references = newReferences(r.Temp, read, schemas)
}

func (r *run) tables() []*table {
	var all []*table
	for _, s := range r.sources {
		all = append(all, s.tables...)
	}
	return all
}

// refers says whether the table has foreign keys.
func (t *table) refers() bool { return t.schema != nil && len(t.schema.ForeignKeys) > 0 }

// finishReferences looks the foreign keys up when all tables were read, and
// finishes the tables that have some.
func (r *run) finishReferences(ctx context.Context) error {
	for _, t := range r.tables() {
		if !t.refers() || !t.source.wanted {
			continue
		}
		if t.whole {
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
		if err := r.finishTable(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) source(urls []string) *source {
	key := strings.Join(urls, "\n") // which no address holds
	s, ok := r.byURL[key]
	if !ok {
		s = &source{urls: urls}
		r.byURL[key] = s
		r.sources = append(r.sources, s)
	}
	return s
}

// table finds the table that a resource is, or makes it. Two resources are one
// table when they are read from the same place in the same way.
func (r *run) table(n *node, res *processor.Resource) (*table, error) {
	s := r.source(res.URLs)
	key, err := json.Marshal(res.Added)
	if err != nil {
		return nil, err
	}
	for _, t := range s.tables {
		if t.key == string(key) {
			t.wanted(n)
			return t, nil
		}
	}
	t := &table{key: string(key), source: s, resource: res, problems: &Problems{}}
	t.wanted(n)
	s.tables = append(s.tables, t)
	return t, nil
}

// outputOf finds the table output of a pipeline.
func (r *run) outputOf(pipeline string) *output {
	for _, s := range r.sources {
		for _, t := range s.tables {
			for _, o := range t.outputs {
				if o.node.id == pipeline {
					return o
				}
			}
		}
	}
	return nil
}

// readSource reads a source once and finishes what needs nothing else.
func (r *run) readSource(ctx context.Context, s *source) error {
	if !s.wanted {
		return nil
	}
	for _, n := range s.nodes() {
		if err := r.start(ctx, n); err != nil {
			return err
		}
	}
	_, s.err = protect(func() (struct{}, error) { return struct{}{}, r.fill(ctx, s) })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.err != nil {
		r.Log.DebugContext(ctx, "source failed", "source", s.info.Name, "error", s.err)
	}
	for _, t := range s.tables {
		if s.err != nil && t.problems.Total == 0 {
			t.problems.add(Problem{Code: codeSource, Message: strings.Join(errorLines(s.err), " ")})
		}
		if t.refers() {
			continue // its end waits for the tables that it refers to
		}
		if err := r.finishTable(ctx, t); err != nil {
			return err
		}
	}
	for _, c := range s.copies {
		if c.node.ended {
			continue
		}
		result, err := (*Result)(nil), s.err
		if err == nil {
			result, err = r.publishCopy(ctx, c, s)
		}
		if err := r.end(ctx, c.node, result, err); err != nil {
			return err
		}
	}
	return nil
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

// fill reads the bytes of the source into its spool, and the first table from
// them on the way. Further tables are read from the spool.
func (r *run) fill(ctx context.Context, s *source) (err error) {
	body, err := r.open(ctx, s)
	if err != nil {
		return err
	}
	defer body.Close()
	s.spool, err = newSpool(r.Temp)
	if err != nil {
		return err
	}
	in := &counted{r: &bound{ctx, body}, note: func(n int64) {
		r.Progress.set(s.nodes(), Count{Rows: s.rows(), Bytes: n, TotalBytes: s.info.Size})
	}}
	tee := io.TeeReader(in, s.spool)
	for i, t := range s.tables {
		from := tables.Source{Reader: tee, Whole: func() (string, error) {
			_, err := io.Copy(io.Discard, tee)
			return s.spool.file.Name(), err
		}}
		if i > 0 {
			from.Reader = s.spool.reader()
		}
		if err := r.readTable(ctx, t, from); err != nil {
			return err
		}
		if i == 0 {
			// A table may end early; the copy is of all bytes.
			if _, err := io.Copy(io.Discard, tee); err != nil {
				return err
			}
		}
	}
	if len(s.tables) == 0 {
		_, err = io.Copy(s.spool, in)
	}
	return err
}

func (s *source) rows() int64 {
	var rows int64
	for _, t := range s.tables {
		rows += t.rows.Load()
	}
	return rows
}

// bound reads until its context ends.
type bound struct {
	ctx context.Context
	r   io.Reader
}

func (b *bound) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	return b.r.Read(p)
}

// counted tells how far a source was read, and who reads on that it broke off.
type counted struct {
	r        io.Reader
	n, noted int64
	note     func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.n-c.noted > 1<<20 || err != nil {
		c.noted = c.n
		c.note(c.n)
	}
	if err != nil && err != io.EOF && errs.KindOf(err) == errs.Internal {
		err = errs.Wrap(err, errs.Unavailable, "engine.read", "reading the source broke off after %d bytes", c.n)
	}
	return n, err
}
