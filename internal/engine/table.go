package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/csv"
	"github.com/datahq/specstore/internal/format/jsonrows"
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

// tabulatorKeys are the reader options that stand in a resource itself, as the
// `tabulator` of a processing entry puts them there.
var tabulatorKeys = []string{
	"delimiter", "quotechar", "escapechar", "doublequote", "skipinitialspace", "skip_rows", "headers",
	"lineterminator", "quoting", "sheet", "sample_size", "scheme", "force_strings", "force_parse", "allow_html", "compression",
}

// readerOptions turns what a resource says of its file into the options of the
// CSV reader. A resource without any is sniffed.
func readerOptions(descriptor map[string]any, sourceFormat string) (csv.Options, error) {
	o := csv.Options{}
	o.Encoding, _ = descriptor["encoding"].(string)
	dialect := map[string]any{}
	if d, ok := descriptor["dialect"].(map[string]any); ok {
		maps.Copy(dialect, d)
	}
	for from, to := range map[string]string{
		"delimiter": "delimiter", "quotechar": "quoteChar", "escapechar": "escapeChar",
		"doublequote": "doubleQuote", "skipinitialspace": "skipInitialSpace", "lineterminator": "lineTerminator",
	} {
		if v, ok := descriptor[from]; ok && v != nil {
			dialect[to] = v
		}
	}
	skip, err := wholeNumber("skip_rows", descriptor["skip_rows"])
	if err != nil {
		return o, err
	}
	if len(dialect) == 0 && skip == 0 {
		if sourceFormat == "tsv" {
			dialect["delimiter"] = "\t"
		} else {
			return o, nil
		}
	}
	d, problems := format.ParseDialect(dialect)
	if len(problems) > 0 {
		return o, errs.New(errs.Invalid, "engine.readerOptions", "dialect%s: %s", problems[0].Pointer, problems[0].Message)
	}
	d.SkipRows += skip
	o.Dialect = &d
	return o, nil
}

func wholeNumber(key string, v any) (int, error) {
	if v == nil {
		return 0, nil
	}
	n, err := strconv.Atoi(fmt.Sprint(v))
	if err != nil || n < 0 {
		return 0, errs.New(errs.Invalid, "engine.readerOptions", "%s must be a whole number, from 0", key)
	}
	return n, nil
}

// name is the resource's.
func (t *table) name() string {
	name, _ := t.resource.Added["name"].(string)
	return name
}

// sourceFormat is the format that a table is read as.
func (t *table) sourceFormat() string {
	f, _ := t.resource.Added["format"].(string)
	return strings.ToLower(f)
}

// reading finds out how a resource is read as a table. What keeps it from being
// read goes into the problems.
func reading(resource map[string]any, sourceFormat string, p *Problems) (schema *tableschema.Schema, options csv.Options, ok bool) {
	schema, err := parseSchema(resource)
	if err != nil {
		p.add(Problem{Code: codeSchema, Message: strings.Join(errorLines(err), " ")})
		return nil, options, false
	}
	if !readable(sourceFormat) {
		p.add(unreadable(sourceFormat))
		return schema, options, false
	}
	options, err = readerOptions(resource, sourceFormat)
	if err != nil {
		p.add(Problem{Code: codeDialect, Message: strings.Join(errorLines(err), " ")})
		return schema, options, false
	}
	options.Pool = &stream.Pool{}
	return schema, options, true
}

// openTable opens a file as a table and reads its header.
func openTable(from io.Reader, options csv.Options) (*csv.Reader, []string, error) {
	reader, err := csv.NewReader(from, options)
	if err != nil {
		return nil, nil, err
	}
	labels, err := reader.Header()
	if err == io.EOF {
		err = &csv.Error{Code: codeSource, Message: "the file is empty"}
	}
	return reader, labels, err
}

// readTable reads, checks and writes a table. Its error is one of the source or
// of the machine; what is wrong with the table is in its problems.
func (r *run) readTable(ctx context.Context, t *table, from io.Reader) error {
	schema, options, ok := reading(t.resource.Added, t.sourceFormat(), t.problems)
	t.schema = schema
	if !ok {
		return nil
	}
	var err error
	t.checker, err = newChecker(schema, true, r.Temp, t.problems)
	if err != nil {
		return err
	}
	t.checker.name, t.checker.references = t.name(), r.references
	for _, o := range t.outputs {
		if o.spool, err = newSpool(r.Temp); err != nil {
			return err
		}
	}
	if err := r.pump(ctx, t, from, options); err != nil {
		if e, ok := errors.AsType[*csv.Error](err); ok {
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
func (r *run) pump(ctx context.Context, t *table, from io.Reader, options csv.Options) error {
	reader, labels, err := openTable(from, options)
	if err != nil {
		return err
	}
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
	_, err = protect(func() (struct{}, error) { return struct{}{}, t.checkBatches(options.Pool, raw, writers) })
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
	var w interface {
		WriteBatch(*stream.Batch) error
		Close() error
	}
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
	maps.DeleteFunc(d, func(k string, _ any) bool { return slices.Contains(tabulatorKeys, k) })
}
