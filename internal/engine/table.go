package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/datahq/specstore/internal/format"
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
	variants []*variant
	reports  []*node
	waiting  []*node // pipelines that wait for its end
	referred bool    // a table that is read refers to it
	read     bool    // it is wanted

	problems *Problems
	schema   *tableschema.Schema
	checker  *checker
	labels   []string
	encoding string
	rows     atomic.Int64
	whole    bool // it was read to its end
	// told is the table's entry in the report of an earlier flow, which holds again.
	told json.RawMessage
}

// wanted says that something which is not done yet needs the table to be read.
func (t *table) wanted() bool {
	return t.referred || t.makes() || t.told == nil && slices.ContainsFunc(t.reports, func(n *node) bool { return !n.ended })
}

// makes says that an output is to be made of the table.
func (t *table) makes() bool {
	return slices.ContainsFunc(t.outputs, func(o *output) bool { return !o.node.ended })
}

func (t *table) close() {
	for _, o := range t.outputs {
		o.spool.close()
	}
	for _, v := range t.variants {
		v.kept.Close()
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
		_ = reader.Close()
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
	t.checker, err = newChecker(ctx, t.schema, true, r.Temp, t.problems)
	if err != nil {
		return err
	}
	t.checker.name, t.checker.references = t.name(), r.references
	for _, o := range t.outputs {
		if o.database || !o.open {
			continue
		}
		if o.spool, err = newSpool(r.Temp); err != nil {
			return err
		}
	}
	if err := r.pump(ctx, t, from); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
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
	reader, labels, err := openTable(ctx, from, tables.Options{AnyCase: true, Resource: t.resource.Added, Pool: pool, Temp: r.Temp, MaxUnpacked: r.MaxSource})
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }()
	t.labels, t.encoding = labels, reader.Encoding()
	t.checker.sparse = tables.Typed(reader)
	t.checker.header(labels)

	ctx, stop := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop(nil)

	raw, done := make(chan *stream.Batch, 2), make(chan struct{}, 1)
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
				large := b.Bytes() > largeBatch
				select {
				case raw <- b:
				case <-ctx.Done():
					return struct{}{}, context.Cause(ctx)
				}
				if !large {
					continue
				}
				select {
				case <-done:
				case <-ctx.Done():
					return struct{}{}, context.Cause(ctx)
				}
			}
		})
	})

	var f fan
	for _, v := range t.variants {
		switch {
		case v.ended():
		case len(v.steps) == 0:
			v.schema = t.schema
			if err := v.feed(&f, r.Temp); err != nil {
				f.close()
				return err
			}
		default:
			f.to(func(batches <-chan *stream.Batch) error { return r.process(ctx, t, v, batches) }, &v.err)
		}
	}
	_, err = protect(func() (struct{}, error) { return struct{}{}, t.checkBatches(ctx, pool, raw, done, &f) })
	f.close()
	stop(err)
	for b := range raw {
		b.Release()
	}
	wg.Wait()
	if err == nil {
		err = parseErr
	}
	if err == nil {
		t.checker.extraKeys(tables.ExtraKeys(reader))
	}
	t.encoding = reader.Encoding()
	t.problems.Notes = append(t.problems.Notes, reader.Notes()...)
	return err
}

// largeBatch is where a batch has rows so large that the next is read when all have let
// this one go.
const largeBatch = 4 << 20

// checkBatches checks what comes and hands it on until something is found that keeps
// the table from being published. Of a large batch it says when it is done.
func (t *table) checkBatches(ctx context.Context, pool *stream.Pool, raw <-chan *stream.Batch, done chan<- struct{}, f *fan) error {
	for in := range raw {
		large := in.Bytes() > largeBatch
		out := pool.Get()
		err := t.checker.check(in, out)
		in.Release()
		t.rows.Store(t.checker.rows)
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil || t.problems.fatal() {
			out.Release()
			if err != nil {
				return err
			}
			if large {
				done <- struct{}{}
			}
			continue
		}
		if !large {
			f.send(out)
			continue
		}
		released := out.Released()
		f.send(out)
		<-released
		done <- struct{}{}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// cleanDescriptor is what an output says of itself: without the reader options
// of its source, which do not hold for it.
func cleanDescriptor(d map[string]any) {
	options := tables.ReaderOptions()
	maps.DeleteFunc(d, func(k string, _ any) bool { return slices.Contains(options, k) })
}
