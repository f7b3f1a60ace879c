package standard

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/tables"
	"github.com/datahq/specstore/internal/stream"
)

// fromEnvironment puts the value of a variable in the place of env://NAME.
func fromEnvironment(env *Env, url string) (string, error) {
	name, ok := strings.CutPrefix(url, "env://")
	if !ok {
		return url, nil
	}
	value := ""
	if env.Getenv != nil {
		value = env.Getenv(name)
	}
	if value == "" {
		return "", invalid("%s: the environment variable is not set", url)
	}
	return value, nil
}

// file is a table in a file that is read when its rows are asked for.
type file struct {
	env      *Env
	url      string
	resource map[string]any // what it says of the file
	numbered bool           // repeated labels become "a (1)", "a (2)"; else "a", "a_1"
	strict   bool           // repeated labels are refused
	limit    int            // rows, -1: all
}

// formatOf is the file's format and compression.
func (f *file) formatOf() (name, compression string) {
	base := f.url
	if u, _, ok := strings.Cut(base, "?"); ok && strings.Contains(base, "://") {
		base = u
	}
	if _, hint, ok := strings.Cut(base, "#."); ok { // "…/data#.csv" says what it is
		base = "data." + hint
	}
	base = strings.ToLower(path.Base(base))
	compression, _ = f.resource["compression"].(string)
	for _, ending := range []string{"zip", "gz"} {
		if cut, ok := strings.CutSuffix(base, "."+ending); ok {
			base = cut
			if compression == "" {
				compression = ending
			}
		}
	}
	name = strings.TrimPrefix(path.Ext(base), ".")
	if compression != "" && name == "" {
		name = "csv"
	}
	return tables.FormatOf(f.resource, name), compression
}

// opened is a file that is being read.
type opened struct {
	names  []string
	keep   []int // the file's columns that have a name
	reader format.Reader
	closes []func()
}

func (o *opened) close() {
	for _, f := range slices.Backward(o.closes) {
		f()
	}
}

// spooled is a file that may have to be read as a whole: its copy goes with o.
func (o *opened) spooled(ctx context.Context, r io.Reader, temp string) tables.Source {
	whole := tables.Spool(ctx, r, temp)
	return tables.Source{Reader: r, Whole: func() (string, error) {
		p, err := whole()
		if _, own := r.(*os.File); !own && p != "" {
			o.closes = append(o.closes, func() { os.Remove(p) })
		}
		return p, err
	}}
}

// open opens the file and reads its header.
func (f *file) open(ctx context.Context) (_ *opened, err error) {
	o := &opened{}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	url, err := fromEnvironment(f.env, f.url)
	if err != nil {
		return nil, err
	}
	if f.env.Sources == nil {
		return nil, invalid("%s: no files are read here", f.url)
	}
	body, err := f.env.Sources.Open(ctx, strings.TrimPrefix(strings.Split(url, "#.")[0], "file://"))
	if err != nil {
		return nil, err
	}
	o.closes = append(o.closes, func() { body.Close() })
	named, compression := f.formatOf()
	src := o.spooled(ctx, body, f.env.Temp)
	switch compression {
	case "", "no":
	case "gz", "zip":
		inside, err := tables.Unpack(ctx, src, compression, tables.Options{Resource: f.resource, Temp: f.env.Temp, First: true})
		if err != nil {
			return nil, f.problem(err)
		}
		o.closes = append(o.closes, inside.Close)
		src = inside.Source
	default:
		return nil, invalid("%s: the compression %q is not known; zip and gz are", f.url, compression)
	}
	if named == "txt" {
		encoding, _ := f.resource["encoding"].(string)
		text, err := format.NewText(src.Reader, encoding)
		if err != nil {
			return nil, invalid("%s: %s", f.url, err)
		}
		o.reader, o.names, o.keep = &lines{r: bufio.NewReaderSize(text, 64<<10)}, []string{"data"}, []int{0}
		return o, nil
	}
	options, names, err := f.options()
	if err != nil {
		return nil, err
	}
	o.reader, err = tables.Open(ctx, src, tables.Options{Resource: options, Format: named, Temp: f.env.Temp, Sniff: true})
	if err != nil {
		return nil, f.problem(err)
	}
	o.closes = append(o.closes, func() { _ = o.reader.Close() })
	if names == nil {
		if names, err = o.reader.Header(); err != nil || len(names) == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				return nil, invalid("%s: the file is empty: it has no header", f.url)
			}
			return nil, f.problem(err)
		}
	}
	return o, f.label(o, names)
}

func (f *file) problem(err error) error {
	if errs.KindOf(err) == errs.Internal {
		return err
	}
	return errs.Wrap(err, errs.KindOf(err), "standard", "%s: %s", f.url, errs.Detail(err))
}

// options turns what the resource says of its file into what tables reads; names are
// the labels where the resource gives them.
func (f *file) options() (resource map[string]any, names []string, err error) {
	resource = clone(f.resource)
	delete(resource, "compression")
	dialect, _ := resource["dialect"].(map[string]any)
	dialect = clone(dialect)
	skip := 0
	switch v := resource["skip_rows"].(type) {
	case nil:
	case []any:
		var rows []any
		for _, one := range v {
			if text, ok := one.(string); ok && text != "" && dialect["commentChar"] == nil {
				dialect["commentChar"] = text
			} else if n, ok := whole(one); ok && n > 0 {
				rows = append(rows, n)
			} else {
				return nil, nil, invalid("%s: skip_rows may list row numbers, from 1, and one text that rows to be skipped begin with", f.url)
			}
		}
		if rows != nil {
			slices.SortFunc(rows, func(a, b any) int { return a.(int) - b.(int) })
			dialect["commentRows"] = slices.Compact(rows)
		}
	default:
		n, ok := whole(v)
		if !ok || n < 0 {
			return nil, nil, invalid("%s: skip_rows must be a number of rows", f.url)
		}
		skip = n
	}
	switch v := resource["headers"].(type) {
	case nil:
	case []any:
		for _, one := range v {
			name, ok := one.(string)
			if !ok {
				return nil, nil, invalid("%s: headers must be the number of a row, from 1, or a list of names", f.url)
			}
			names = append(names, name)
		}
		dialect["header"] = false
	default:
		n, ok := whole(v)
		if !ok || n < 1 {
			return nil, nil, invalid("%s: headers must be the number of a row, from 1, or a list of names", f.url)
		}
		skip += n - 1
	}
	delete(resource, "headers")
	delete(resource, "skip_rows")
	if skip > 0 {
		resource["skip_rows"] = skip
	}
	if len(dialect) > 0 {
		resource["dialect"] = dialect
	} else {
		delete(resource, "dialect")
	}
	return resource, names, nil
}

// label names the columns: blank labels take their column away.
func (f *file) label(o *opened, labels []string) error {
	count := map[string]int{}
	for _, label := range labels {
		count[strings.TrimSpace(label)]++
	}
	seen := map[string]int{}
	for c, label := range labels {
		label = strings.TrimSpace(label)
		if label == "" {
			continue
		}
		if count[label] > 1 {
			if f.strict {
				return invalid("%s: the header has %q more than once; deduplicate_headers tells them apart", f.url, label)
			}
			n := seen[label]
			seen[label]++
			if f.numbered {
				label = fmt.Sprintf("%s (%d)", label, n+1)
			} else if n > 0 {
				label = fmt.Sprintf("%s_%d", label, n)
			}
		}
		o.names = append(o.names, label)
		o.keep = append(o.keep, c)
	}
	if len(o.names) == 0 {
		return invalid("%s: the header names no column", f.url)
	}
	named := map[string]bool{}
	for _, name := range o.names { // a number that was added may be another label's
		if named[name] {
			return invalid("%s: the header has %q more than once", f.url, name)
		}
		named[name] = true
	}
	return nil
}

// maxSample bounds the first rows that a schema is found out from, in bytes; a row may
// take them over it.
const maxSample = 8 << 20

// header gives the names of the columns and the first rows.
func (f *file) header(ctx context.Context, rows int) ([]string, [][]string, error) {
	o, err := f.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer o.close()
	var sample [][]string
	if rows == 0 {
		return o.names, nil, nil
	}
	size := 0
	for b, err := range f.read(o) {
		if err != nil {
			return nil, nil, err
		}
		for r := range b.Rows() {
			var cells []string
			for c := range b.Width(r) {
				cells = append(cells, string(b.Cell(r, c)))
				size += len(b.Cell(r, c))
			}
			if sample = append(sample, cells); len(sample) == rows || size > maxSample {
				return o.names, sample, nil
			}
		}
	}
	return o.names, sample, nil
}

// rows returns the rows as their file has them, texts or values, a cell for each name. Rows that are blank are left
// out; one that lacks cells or has more than the header is an error, blank cells at
// its end apart.
func (f *file) rows(ctx context.Context) iter.Seq2[*stream.Batch, error] {
	return func(yield func(*stream.Batch, error) bool) {
		o, err := f.open(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		defer o.close()
		for b, err := range f.read(o) {
			if err == nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

func (f *file) read(o *opened) iter.Seq2[*stream.Batch, error] {
	return func(yield func(*stream.Batch, error) bool) {
		out := &stream.Batch{}
		left := f.limit
		for left != 0 {
			b, err := o.reader.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, f.problem(err))
				return
			}
			out.Reset()
			for r := 0; err == nil && r < b.Rows() && left != 0; r++ {
				var some bool
				if some, err = f.row(o, b, r, out); some && left > 0 {
					left--
				}
			}
			b.Release()
			if err != nil {
				yield(nil, err)
				return
			}
			if out.Rows() > 0 && !yield(out, nil) {
				return
			}
		}
	}
}

// row appends a row. It is false for one that is blank.
func (f *file) row(o *opened, b *stream.Batch, r int, out *stream.Batch) (bool, error) {
	width := b.Width(r)
	for width > 0 && len(bytes.TrimSpace(b.Cell(r, width-1))) == 0 {
		width--
	}
	if width == 0 {
		return false, nil
	}
	last := o.keep[len(o.keep)-1]
	if width > last+1 || b.Width(r) <= last {
		return false, invalid("%s, row %d: the row has %d cells, and the header names %d columns", f.url, b.Number(r), b.Width(r), len(o.names))
	}
	for _, c := range o.keep {
		if b.Null(r, c) {
			out.AppendNull()
			continue
		}
		out.AppendKind(b.Kind(r, c), b.Cell(r, c))
	}
	out.EndRow(b.Number(r))
	return true, nil
}

// lines reads a text a row a line.
type lines struct {
	r    *bufio.Reader
	pool stream.Pool
	row  int64
	err  error
}

func (*lines) Header() ([]string, error) { return nil, nil }
func (*lines) Encoding() string          { return "utf-8" }
func (*lines) Notes() []string           { return nil }
func (*lines) Close() error              { return nil }

func (l *lines) Next() (*stream.Batch, error) {
	b := l.pool.Get()
	for !b.Full() && l.err == nil {
		if l.err = l.line(b); l.err != nil {
			b.DropRow()
			break
		}
		l.row++
		b.EndRow(l.row)
	}
	if b.Rows() > 0 {
		return b, nil // the next call meets the error
	}
	b.Release()
	return nil, l.err
}

// line appends the next line as a cell, without its end.
func (l *lines) line(b *stream.Batch) error {
	length := 0
	held := false // a CR that may belong to the line's end
	for {
		part, err := l.r.ReadSlice('\n')
		if length += len(part); length > format.MaxCell {
			return &format.Error{Code: format.CodeSource, Row: l.row + 1, Message: fmt.Sprintf("the line is longer than %d MiB", format.MaxCell>>20)}
		}
		if e, ok := errors.AsType[*format.EncodingError](err); ok {
			return &format.Error{Code: format.CodeEncoding, Row: l.row + 1, Message: e.Message}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && (!errors.Is(err, io.EOF) || length == 0) {
			return err
		}
		if held && !bytes.Equal(part, []byte{'\n'}) {
			b.AppendPart([]byte{'\r'})
		}
		if err == nil {
			part = bytes.TrimSuffix(part[:len(part)-1], []byte{'\r'})
		} else if held = bytes.HasSuffix(part, []byte{'\r'}) && !errors.Is(err, io.EOF); held {
			part = part[:len(part)-1]
		}
		b.AppendPart(part)
		if !errors.Is(err, bufio.ErrBufferFull) {
			b.EndCell()
			return nil
		}
	}
}

// readerKeys are the properties of a resource that say how its file is read.
func readerKeys(resource map[string]any) map[string]any {
	out := map[string]any{}
	for _, key := range append(tables.ReaderOptions(), "format", "encoding", "dialect", "property", "keyed") {
		if v, ok := resource[key]; ok {
			out[key] = v
		}
	}
	return out
}
