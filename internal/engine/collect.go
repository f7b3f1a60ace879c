package engine

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/processor"
	"github.com/datahq/specstore/internal/tableschema"
)

// collect finds out which pipelines read which source, and as which table.
func (r *run) collect() {
	for _, n := range r.nodes {
		if n.pkg == nil || n.ended && !n.success {
			continue
		}
		if err := r.collectFor(n); err != nil {
			r.fail(n, err)
		}
	}
}

func (r *run) collectFor(n *node) error {
	switch pkg := n.pkg; {
	case pkg.Report != nil:
		n.make = func(ctx context.Context) (*Result, error) { return r.report(ctx, n) }
		for _, res := range pkg.Report.Tables {
			t, err := r.table(res)
			if err != nil {
				return err
			}
			n.tables, t.reports = append(n.tables, t), append(t.reports, n)
			t.waiting = append(t.waiting, n)
		}
		return nil
	case pkg.Zip != nil:
		n.make = func(ctx context.Context) (*Result, error) { return r.zip(ctx, n) }
		for _, res := range pkg.Zip.Resources {
			if res.URLs != nil {
				s := r.source(res.URLs)
				s.waiting = append(s.waiting, n)
			}
		}
		return nil
	case pkg.Database != nil:
		n.make = func(ctx context.Context) (*Result, error) { return r.database(ctx, n) }
		for _, res := range pkg.Database.Tables {
			of := r.outputOf(res.Pipeline)
			if of == nil {
				return errs.New(errs.Invalid, "engine.collect", "the pipeline %s makes no table", res.Pipeline)
			}
			if err := of.table.add(&output{node: n, resource: res, of: of, database: true}, pkg); err != nil {
				return err
			}
		}
		return nil
	case pkg.Joined != nil:
		n.make = func(ctx context.Context) (*Result, error) { return r.join(ctx, n) }
		return nil
	}
	if len(n.pkg.Resources) == 1 {
		res := n.pkg.Resources[0]
		switch {
		case res.URLs != nil && res.Streaming:
			t, err := r.table(res)
			if err != nil {
				return err
			}
			return r.publishes(n, t, &output{node: n, resource: res, limit: n.pkg.Preview})
		case res.URLs != nil:
			s := r.source(res.URLs)
			c := &copyOf{n, res}
			s.copies, s.waiting = append(s.copies, c), append(s.waiting, n)
			if o, ok := c.published(); ok {
				s.digest = o.SHA256
			}
			n.make = func(ctx context.Context) (*Result, error) { return r.publishCopy(ctx, c, s) }
			return nil
		case res.Streaming:
			if of := r.outputOf(res.Pipeline); of != nil {
				return r.publishes(n, of.table, &output{node: n, resource: res, limit: n.pkg.Preview, of: of})
			}
		}
	}
	return errs.New(errs.Invalid, "engine.collect", "the engine cannot run these steps together")
}

// publishes has a pipeline publish an output of a table.
func (r *run) publishes(n *node, t *table, o *output) error {
	n.make = func(ctx context.Context) (*Result, error) { return r.publishTable(ctx, o) }
	return t.add(o, n.pkg)
}

// link links the tables by their foreign keys, and has those read that one which
// is read refers to, also where all that is made of them is there already. Of
// several readings of one resource the first stands for it.
func (r *run) link(ctx context.Context) {
	var read []string
	schemas := map[string]*tableschema.Schema{}
	for _, t := range r.tables() {
		if r.named[t.name()] != t {
			continue
		}
		schema, err := parseSchema(t.resource.Added)
		if err != nil {
			schema = nil // the table says so itself when it is read
		}
		schemas[t.name()], t.schema = schema, schema
		if t.wanted() {
			read = append(read, t.name())
		}
	}
	for _, name := range read {
		if schema := schemas[name]; schema != nil {
			for _, key := range schema.ForeignKeys {
				if to := r.named[key.Resource]; to != nil {
					to.referred = true
				}
			}
		}
	}
	r.references = newReferences(ctx, r.Temp, read, schemas)
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
func (r *run) table(res *processor.Resource) (*table, error) {
	s := r.source(res.URLs)
	key, err := json.Marshal(res.Added)
	if err != nil {
		return nil, err
	}
	for _, t := range s.tables {
		if t.key == string(key) {
			return t, nil
		}
	}
	t := &table{key: string(key), source: s, resource: res, problems: &Problems{}}
	s.tables = append(s.tables, t)
	if r.named[t.name()] == nil {
		r.named[t.name()] = t
	}
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
