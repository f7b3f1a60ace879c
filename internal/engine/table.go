package engine

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/csv"
	"github.com/datahq/specstore/internal/format/jsonrows"
	"github.com/datahq/specstore/internal/format/tables"
	"github.com/datahq/specstore/internal/processor"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// table is a source read as rows, with all that is made of them.
type table struct {
	key      string
	source   *source
	resource *processor.Resource
	outputs  []*output
	reports  []*node

	problems *Problems
	schema   *tableschema.Schema
	checker  *checker
	labels   []string
	encoding string
	rows     atomic.Int64
	whole    bool // it was read to its end
}

// output is one form that a table is published in.
type output struct {
	node     *node
	table    *table
	resource *processor.Resource
	of       *output // what a preview is a preview of
	limit    int     // rows; 0 is all

	spool *spool
	rows  int64
	err   error
}

func (t *table) wanted(n *node) { t.source.wanted = t.source.wanted || !n.ended }

func (t *table) close() {
	for _, o := range t.outputs {
		o.spool.close()
	}
	if t.checker != nil {
		t.checker.close()
	}
}

// name is the resource's.
func (t *table) name() string {
	name, _ := t.resource.Added["name"].(string)
	return name
}

// sourceFormat is the format that a table is read as.
func (t *table) sourceFormat() string { return tables.FormatOf(t.resource.Added, "") }

// openTable opens a file as a table and reads its header.
func openTable(ctx context.Context, from tables.Source, options tables.Options) (format.Reader, []string, error) {
	reader, err := tables.Open(ctx, from, options)
	if err != nil {
		return nil, nil, err
	}
	labels, err := reader.Header()
	if err == io.EOF {
		err = &format.Error{Code: codeSource, Message: "the file is empty"}
	}
	if err != nil {
		reader.Close()
		return nil, nil, err
	}
	return reader, labels, nil
}

// readTable reads, checks and writes a table. Its error is one of the source or
// of the machine; what is wrong with the table is in its problems.
func (r *run) readTable(ctx context.Context, t *table, from tables.Source) error {
	var err error
	if t.schema, err = parseSchema(t.resource.Added); err != nil {
		t.problems.add(Problem{Code: codeSchema, Message: strings.Join(errorLines(err), " ")})
		return nil
	}
	t.checker, err = newChecker(t.schema, true, r.Temp, t.problems)
	if err != nil {
		return err
	}
	t.checker.name, t.checker.references = t.name(), r.references
	for _, o := range t.outputs {
		if o.spool, err = newSpool(r.Temp); err != nil {
			return err
		}
	}
	if err := r.pump(ctx, t, from); err != nil {
		if e, ok := errors.AsType[*format.Error](err); ok {
			t.problems.add(Problem{Code: e.Code, Row: e.Row, Message: e.Message})
			return t.checker.finish(ctx)
		}
		return err
	}
	t.whole = true
	return t.checker.finish(ctx)
}

// pump runs the parts of a table at the same time: one goroutine parses, this
// one checks, and one an output writes. It returns when all have ended.
func (r *run) pump(ctx context.Context, t *table, from tables.Source) error {
	pool := &stream.Pool{}
	reader, labels, err := openTable(ctx, from, tables.Options{Resource: t.resource.Added, Pool: pool, Temp: r.Temp})
	if err != nil {
		return err
	}
	defer reader.Close()
	t.labels, t.encoding = labels, reader.Encoding()
	t.checker.header(labels)

	ctx, stop := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop(nil)

	raw := make(chan *stream.Batch, 2)
	var parseErr error
	wg.Go(func() {
		defer close(raw)
		_, parseErr = protect(func() (struct{}, error) {
			for {
				b, err := reader.Next()
				if err == io.EOF {
					return struct{}{}, nil
				}
				if err != nil {
					return struct{}{}, err
				}
				select {
				case raw <- b:
				case <-ctx.Done():
					return struct{}{}, context.Cause(ctx)
				}
			}
		})
	})

	var writers []chan *stream.Batch
	var writing sync.WaitGroup
	for _, o := range t.outputs {
		if o.node.ended {
			continue
		}
		batches := make(chan *stream.Batch, 2)
		writers = append(writers, batches)
		writing.Go(func() {
			_, o.err = protect(func() (struct{}, error) { return struct{}{}, o.write(t.schema, batches) })
			for b := range batches { // a failed writer must not stop the others
				b.Release()
			}
		})
	}
	_, err = protect(func() (struct{}, error) { return struct{}{}, t.checkBatches(pool, raw, writers) })
	for _, w := range writers {
		close(w)
	}
	writing.Wait()
	stop(err)
	for b := range raw {
		b.Release()
	}
	wg.Wait()
	if err == nil {
		err = parseErr
	}
	t.encoding = reader.Encoding()
	t.problems.Notes = append(t.problems.Notes, reader.Notes()...)
	return err
}

// checkBatches checks what comes and hands it to the writers until something is
// found that keeps the table from being published.
func (t *table) checkBatches(pool *stream.Pool, raw <-chan *stream.Batch, writers []chan *stream.Batch) error {
	for in := range raw {
		out := pool.Get()
		err := t.checker.check(in, out)
		in.Release()
		t.rows.Store(t.checker.rows)
		if err != nil {
			out.Release()
			return err
		}
		if t.problems.fatal() || len(writers) == 0 || out.Rows() == 0 {
			out.Release()
			continue
		}
		out.Share(len(writers))
		for _, w := range writers {
			w <- out
		}
	}
	return nil
}

// The preview's limit of size; its limit of rows comes from the plan.
const previewBytes = 2 << 20

// write writes the batches in the output's format.
func (o *output) write(schema *tableschema.Schema, batches <-chan *stream.Batch) error {
	names := make([]string, len(schema.Fields))
	for i, f := range schema.Fields {
		names[i] = f.Name
	}
	var w format.Writer
	switch f := o.format(); f {
	case "csv":
		cw := csv.NewWriter(o.spool)
		if err := cw.WriteHeader(names); err != nil {
			return err
		}
		w = cw
	case "json":
		values := make([]func(dst, text []byte) []byte, len(names))
		for i := range names {
			caster, err := schema.Caster(i, tableschema.CastOptions{})
			if err != nil {
				return err
			}
			values[i] = caster.AppendJSON
		}
		w = jsonrows.NewWriter(o.spool, names, values)
	default:
		return errs.New(errs.Invalid, "engine.write", "a table cannot be written as %q", f)
	}
	for b := range batches {
		err := o.writeBatch(w.WriteBatch, b)
		b.Release()
		if err != nil {
			return err
		}
	}
	return w.Close()
}

func (o *output) writeBatch(write func(*stream.Batch) error, b *stream.Batch) error {
	if o.limit == 0 {
		o.rows += int64(b.Rows())
		return write(b)
	}
	room := min(int64(o.limit)-o.rows, int64(b.Rows()))
	if o.spool.bytes >= previewBytes || room <= 0 {
		return nil
	}
	head := b.Head(int(room), int(previewBytes-o.spool.bytes))
	o.rows += int64(head.Rows())
	return write(head)
}

// format is the one that the output's path asks for.
func (o *output) format() string {
	path, _ := o.resource.Descriptor["path"].(string)
	return strings.ToLower(path[strings.LastIndexByte(path, '.')+1:])
}

// finishTable ends the pipelines of a table: first those that stand alone, then
// the previews of them.
func (r *run) finishTable(ctx context.Context, t *table) error {
	for _, o := range t.outputs {
		if o.node.ended {
			continue
		}
		if err := r.start(ctx, o.node); err != nil {
			return err
		}
		err := o.err
		if t.problems.fatal() {
			err = t.problems.lines(t.name())
		}
		var result *Result
		if err == nil {
			result, err = protect(func() (*Result, error) { return r.publishTable(ctx, o) })
		}
		if err := r.end(ctx, o.node, result, err); err != nil {
			return err
		}
		o.spool.close()
		o.spool = nil
	}
	return nil
}

// cleanDescriptor is what an output says of itself: without the reader options
// of its source, which do not hold for it.
func cleanDescriptor(d map[string]any) {
	options := tables.ReaderOptions()
	maps.DeleteFunc(d, func(k string, _ any) bool { return slices.Contains(options, k) })
}
