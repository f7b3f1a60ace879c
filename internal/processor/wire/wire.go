// Package wire reads and writes what passes through a processor of
// datapackage-pipelines on its standard input and output.
//
// A package is, line by line: the dependencies, the descriptor, for each streaming
// resource a blank line and a line per row, then a blank line, the statistics and a
// last blank line. Rows are JSON objects; values that JSON has no form for are
// tagged ({"type{decimal}": "1.50"}). Both directions hold one line at a time, and
// a line has a limit.
package wire

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/processor/standard"
	"github.com/datahq/specstore/internal/stream"
	"github.com/go-json-experiment/json/jsontext"
)

// maxLine bounds a line, in bytes.
const maxLine = 2 * format.MaxCell

func invalid(line int64, format string, args ...any) error {
	return errs.New(errs.Invalid, "wire", "line %d: %s", line, fmt.Sprintf(format, args...))
}

// Read reads a package. Dependencies are the URLs of the packages of other
// pipelines, by ID. An empty stream is the package that the first step of a pipeline
// is given. The error of Read, and of the tables, is Invalid where the stream is
// wrong, with the number of the line.
func Read(r io.Reader) (p *standard.Package, dependencies map[string]string, err error) {
	d := &decoder{r: bufio.NewReaderSize(r, 64<<10)}
	first, err := d.line()
	if errors.Is(err, io.EOF) {
		return standard.Empty(), map[string]string{}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	urls, err := d.object(first)
	if err != nil {
		return nil, nil, err
	}
	dependencies = map[string]string{}
	for id, v := range urls {
		url, ok := v.(string)
		if !ok {
			return nil, nil, invalid(d.n, "the dependencies must be URLs by the ID of their pipeline")
		}
		dependencies[id] = url
	}
	second, err := d.line()
	if err != nil {
		return nil, nil, d.broken(err)
	}
	if len(second) > datapackage.MaxBytes {
		return nil, nil, errs.New(errs.TooLarge, "wire", "line %d: the descriptor is larger than %d MiB", d.n, datapackage.MaxBytes>>20)
	}
	descriptor, err := d.object(second)
	if err != nil {
		return nil, nil, err
	}
	if list, ok := descriptor["resources"].([]any); ok {
		for i, r := range list {
			if _, ok := r.(map[string]any); !ok {
				return nil, nil, invalid(d.n, "/resources/%d must be an object", i)
			}
		}
	} else if descriptor["resources"] != nil {
		return nil, nil, invalid(d.n, "/resources must be a list")
	} else {
		descriptor["resources"] = []any{}
	}
	var tables []*standard.Table
	for _, r := range standard.Streaming(descriptor) {
		tables = append(tables, standard.NewTable(r, nil))
	}
	p = &standard.Package{Descriptor: descriptor, Tables: d.tables(tables), Stats: func() map[string]any { return d.stats }}
	return p, dependencies, nil
}

// decoder reads the lines.
type decoder struct {
	r     *bufio.Reader
	buf   []byte
	n     int64 // of the line
	stats map[string]any
	json  jsontext.Decoder
	src   bytes.Reader
}

// line reads the next line, without its end. It is valid until the next one.
func (d *decoder) line() ([]byte, error) {
	d.n++
	if cap(d.buf) > 1<<20 {
		d.buf = nil
	}
	d.buf = d.buf[:0]
	for {
		part, err := d.r.ReadSlice('\n')
		if err == nil && len(d.buf) == 0 {
			return bytes.TrimRight(part, "\r\n"), nil
		}
		d.buf = append(d.buf, part...)
		if len(d.buf) > maxLine {
			return nil, errs.New(errs.TooLarge, "wire", "line %d: the line is longer than %d MiB", d.n, maxLine>>20)
		}
		switch {
		case err == nil, errors.Is(err, io.EOF) && len(d.buf) > 0:
			return bytes.TrimRight(d.buf, "\r\n"), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

func (d *decoder) broken(err error) error {
	if errors.Is(err, io.EOF) {
		return invalid(d.n, "the stream ends too early: the step before this one failed, or its output is not the protocol of datapackage-pipelines")
	}
	return err
}

func (d *decoder) object(line []byte) (map[string]any, error) {
	v, err := python.ParseJSON(line)
	if err != nil {
		return nil, invalid(d.n, "%s", errs.Detail(err))
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, invalid(d.n, "an object was expected")
	}
	return m, nil
}

// tables gives the tables, and reads the statistics behind them.
func (d *decoder) tables(list []*standard.Table) iter.Seq2[*standard.Table, error] {
	return func(yield func(*standard.Table, error) bool) {
		// The blank line before the first table, or before the statistics.
		if err := d.blank(); err != nil {
			yield(nil, err)
			return
		}
		for _, t := range list {
			rows := &rowReader{decoder: d, columns: map[string]int{}, count: len(t.Columns)}
			for i, name := range t.Columns {
				rows.columns[name] = i
			}
			t.Rows = rows.all
			if !yield(t, nil) {
				return
			}
			for !rows.done { // what nobody read
				if err := rows.next(nil); err != nil {
					yield(nil, err)
					return
				}
			}
		}
		line, err := d.line()
		if err != nil {
			yield(nil, d.broken(err))
			return
		}
		if d.stats, err = d.object(line); err != nil {
			yield(nil, err)
		}
	}
}

func (d *decoder) blank() error {
	line, err := d.line()
	if err != nil {
		return d.broken(err)
	}
	if len(line) > 0 {
		return invalid(d.n, "a blank line was expected")
	}
	return nil
}

// rowReader reads the rows of one table, up to the blank line behind them.
type rowReader struct {
	*decoder
	columns map[string]int
	count   int
	done    bool
	row     int64
	cells   []cell
	scratch []byte
}

type cell struct {
	kind       stream.Kind
	start, end int
}

func (r *rowReader) all(yield func(*stream.Batch, error) bool) {
	b := &stream.Batch{}
	for !r.done {
		b.Reset()
		for !r.done && !b.Full() {
			if err := r.next(b); err != nil {
				yield(nil, err)
				return
			}
		}
		if b.Rows() > 0 && !yield(b, nil) {
			return
		}
	}
}

// next reads a line; the row of it is appended to b, unless that is nil.
func (r *rowReader) next(b *stream.Batch) error {
	line, err := r.line()
	if err != nil {
		r.done = true
		return r.broken(err)
	}
	if len(line) == 0 {
		r.done = true
		return nil
	}
	r.row++
	if b == nil {
		return nil
	}
	if err := r.parse(line, b); err != nil {
		r.done = true
		return invalid(r.n, "%s", errs.Detail(err))
	}
	return nil
}

func (r *rowReader) parse(line []byte, b *stream.Batch) error {
	r.cells = slices.Grow(r.cells[:0], r.count)[:r.count]
	for i := range r.cells {
		r.cells[i] = cell{kind: stream.Absent}
	}
	r.scratch = r.scratch[:0]
	r.src.Reset(line)
	r.json.Reset(&r.src, jsontext.AllowDuplicateNames(true))
	d := &r.json
	t, err := d.ReadToken()
	if err != nil || t.Kind() != '{' {
		return errs.New(errs.Invalid, "wire", "a row must be a JSON object")
	}
	var others map[string]any
	for {
		kind := d.PeekKind()
		if kind == '}' {
			break
		}
		t, err := d.ReadToken()
		if err != nil {
			return notJSON(err)
		}
		c, known := r.columns[t.String()]
		name := ""
		if !known {
			name = t.String()
		}
		v, err := python.ReadValue(d)
		if err != nil {
			return err
		}
		if !known {
			if others == nil {
				others = map[string]any{}
			}
			others[name] = v
			continue
		}
		at := len(r.scratch)
		r.cells[c].kind, r.scratch = standard.CellOf(v, r.scratch)
		r.cells[c].start, r.cells[c].end = at, len(r.scratch)
	}
	if _, err := d.ReadToken(); err != nil {
		return notJSON(err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errs.New(errs.Invalid, "wire", "there is more than one value in the line")
	}
	for _, c := range r.cells {
		b.AppendKind(c.kind, r.scratch[c.start:c.end])
	}
	if others != nil {
		b.AppendKind(stream.JSON, python.JSON{}.Append(nil, others))
	}
	b.EndRow(r.row)
	if _, _, over := b.TooLong(); over {
		return errs.New(errs.Invalid, "wire", "the row is longer than %d MiB, the limit", stream.MaxRowBytes>>20)
	}
	return nil
}

func notJSON(err error) error {
	return errs.Wrap(err, errs.Invalid, "wire", "not JSON: %s", err)
}

// Write writes a package while it reads it. What was written before an error stays
// behind; the other side sees a stream that ends too early.
func Write(ctx context.Context, w io.Writer, p *standard.Package, dependencies map[string]string) error {
	out := bufio.NewWriterSize(w, 64<<10)
	urls := map[string]any{}
	for id, url := range dependencies {
		urls[id] = url
	}
	compact := python.JSON{ASCII: true}
	buf := compact.Append(nil, urls)
	buf = append(compact.Append(append(buf, '\n'), p.Descriptor), '\n')
	if _, err := out.Write(buf); err != nil {
		return err
	}
	if err := out.Flush(); err != nil { // the next step starts while we read
		return err
	}
	for t, err := range p.Tables {
		if err == nil {
			err = writeTable(ctx, out, t)
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
	}
	buf = compact.Append([]byte{'\n'}, p.Stats())
	if _, err := out.Write(append(buf, '\n', '\n')); err != nil {
		return err
	}
	return out.Flush()
}

func writeTable(ctx context.Context, out *bufio.Writer, t *standard.Table) error {
	if err := out.WriteByte('\n'); err != nil {
		return err
	}
	e := newRowWriter(t.Columns)
	for b, err := range t.Rows {
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		for r := range b.Rows() {
			row, err := e.row(b, r)
			if err != nil {
				return err
			}
			if _, err := out.Write(row); err != nil {
				return err
			}
		}
	}
	return nil
}

// rowWriter writes rows with their keys sorted.
type rowWriter struct {
	names []string
	keys  [][]byte // "name":
	order []int
	buf   []byte
}

func newRowWriter(names []string) *rowWriter {
	e := &rowWriter{names: names}
	for i, name := range names {
		e.keys = append(e.keys, append(python.AppendString(nil, name, true), ": "...))
		e.order = append(e.order, i)
	}
	slices.SortFunc(e.order, func(a, b int) int { return strings.Compare(names[a], names[b]) })
	return e
}

func (e *rowWriter) row(b *stream.Batch, r int) ([]byte, error) {
	if b.Width(r) > len(e.names) {
		return e.wide(b, r)
	}
	e.buf = append(e.buf[:0], '{')
	first := true
	for _, c := range e.order {
		k := b.Kind(r, c)
		if k == stream.Absent {
			continue
		}
		if !first {
			e.buf = append(e.buf, ", "...)
		}
		first = false
		e.buf = standard.AppendWire(append(e.buf, e.keys[c]...), k, b.Cell(r, c))
	}
	e.buf = append(e.buf, '}', '\n')
	return e.buf, nil
}

// wide writes a row that has keys beside its columns.
func (e *rowWriter) wide(b *stream.Batch, r int) ([]byte, error) {
	v, err := python.ParseJSON(b.Cell(r, len(e.names)))
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		m = map[string]any{}
	}
	for c, name := range e.names {
		k := b.Kind(r, c)
		if k == stream.Absent {
			continue
		}
		if m[name], err = python.ParseJSON(standard.AppendWire(nil, k, b.Cell(r, c))); err != nil {
			return nil, err
		}
	}
	e.buf = append(python.JSON{ASCII: true}.Append(e.buf[:0], m), '\n')
	return e.buf, nil
}
