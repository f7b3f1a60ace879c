// Package parquet reads and writes tables in Apache Parquet.
//
// The reader gives cells as text, every digit kept, and holds one page a column and
// the dictionaries, never a row group. Where the pages of all columns together are
// too much, the columns of a row group are put on disk one after the other and read
// side by side from there. It takes nothing on trust that a file says of itself:
// what is allocated was bounded before, and decoding is free of unsafe code. This is
// why it is our own and not the library's, which expands what a file claims.
//
// The writer looks at a table twice, to choose for each column the narrowest type
// that keeps every value exactly, and gives the same bytes for the same table. It
// holds the rows of one row group, as text, and writes them column by column: memory
// does not depend on the number of columns.
package parquet

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/stream"
)

// Options say how a file is read.
type Options struct {
	Pool *stream.Pool // lends the batches; nil: one of its own
	Temp string       // folder for temporary files; empty: the system's
}

const (
	// pageBudget bounds the pages that are held side by side.
	pageBudget = 24 << 20
	// A file may hold so many rows, and so much text, however small it is, and
	// more in the ratio of its size: it can say in a few bytes that a value
	// repeats a billion times.
	freeRows, freeText   = 16 << 20, 1 << 30
	rowRatio, textRatio  = 4096, 4096
	maxRow               = 2 * format.MaxCell // bytes
	firstRow             = 2                  // the header counts as a row
	spoolBuffers         = 8 << 20
	leastBuffer          = 512
	checkRows            = 1024
	magic, encryptedMark = "PAR1", "PARE"
)

// column gives the cells of a top-level column, row by row. The text is appended
// to dst.
type column interface {
	appendCell(dst []byte) ([]byte, stream.Kind, error)
	// end is an error where the column has values behind the last row.
	end() error
}

// Reader gives the rows of a file.
type Reader struct {
	file   *os.File
	data   io.ReaderAt // the file, until the context ends
	size   int64
	meta   *meta
	pool   *stream.Pool
	temp   string
	labels []string
	notes  []string
	budget int64

	d       decompressor
	group   int // the next row group
	left    int64
	row     int64 // physical number of the next row
	text    int64 // bytes given
	columns []column
	spool   *os.File
	scratch []byte
	err     error // what the next call gives
}

// NewReader opens a file. Its error is an [format.Error] where the file is to blame. The
// reader ends with ctx.
func NewReader(ctx context.Context, path string, o Options) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	r := &Reader{file: f, data: format.BoundAt(ctx, f), pool: o.Pool, temp: o.Temp, row: firstRow, budget: pageBudget}
	if r.pool == nil {
		r.pool = &stream.Pool{}
	}
	if err := r.open(); err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

func (r *Reader) open() error {
	info, err := r.file.Stat()
	if err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	r.size = info.Size()
	var head [4]byte
	var tail [8]byte
	if r.size < 12 {
		return unsupported("this is no Parquet file")
	}
	if _, err := r.file.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	if _, err := r.file.ReadAt(tail[:], r.size-8); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	switch end := string(tail[4:]); {
	case string(head[:]) == encryptedMark || end == encryptedMark:
		return unsupported("the Parquet file is encrypted; publish it without encryption")
	case string(head[:]) != magic:
		return unsupported("this is no Parquet file")
	case end != magic:
		return broken("its end is missing")
	}
	length := int64(binary.LittleEndian.Uint32(tail[:4]))
	if length > r.size-12 {
		return broken("its metadata is longer than the file")
	}
	if length > maxFooter {
		return unsupported("the Parquet file has %d bytes of metadata, more than the limit of %d; write larger row groups", length, maxFooter)
	}
	buf := make([]byte, length)
	if _, err := r.file.ReadAt(buf, r.size-8-length); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	if r.meta, err = parseMeta(buf); err != nil {
		return err
	}
	if r.meta.rows > freeRows+rowRatio*r.size {
		return unsupported("the Parquet file says that it has %d rows, too many for its size", r.meta.rows)
	}
	var binaries []string
	for _, n := range r.meta.root.children {
		r.labels = append(r.labels, strings.TrimSpace(n.name))
	}
	for _, n := range r.meta.leaves {
		if n.binary() {
			binaries = append(binaries, n.name)
		}
	}
	if len(binaries) > 0 {
		r.notes = append(r.notes, fmt.Sprintf("the bytes of %s are given as base64, for the file does not say that they are text", list(binaries)))
	}
	return nil
}

// list names columns, not too many.
func list(names []string) string {
	const most = 10
	more := ""
	if n := len(names) - most; n > 0 {
		names, more = names[:most], fmt.Sprintf(" and %d more", n)
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(quoted, ", ") + more
}

// Header gives the names of the columns.
func (r *Reader) Header() ([]string, error) { return slices.Clone(r.labels), nil }

// Encoding is empty: the format has one of its own.
func (r *Reader) Encoding() string { return "" }

// Notes say what was read otherwise than it lies in the file.
func (r *Reader) Notes() []string { return r.notes }

// Close closes the file.
func (r *Reader) Close() error {
	r.d.close()
	r.dropSpool()
	return r.file.Close()
}

// Next gives the next rows (see [format.Reader]).
func (r *Reader) Next() (*stream.Batch, error) {
	b := r.pool.Get()
	for r.err == nil && !b.Full() {
		if r.left == 0 {
			r.err = r.nextGroup()
			continue
		}
		if r.err = r.readRow(b); r.err != nil {
			b.DropRow()
		}
	}
	if b.Rows() > 0 {
		return b, nil // the next call gives the error
	}
	b.Release()
	if e, ok := errors.AsType[*format.Error](r.err); ok && e.Row == 0 {
		r.err = &format.Error{Code: e.Code, Row: r.row, Message: e.Message}
	}
	return nil, r.err
}

func (r *Reader) readRow(b *stream.Batch) error {
	size := 0
	for i, c := range r.columns {
		text, kind, err := c.appendCell(r.scratch[:0])
		if err != nil {
			return err
		}
		r.scratch = text
		if len(text) > format.MaxCell {
			return unsupported("column %q has a value of %d bytes, more than the limit of %d", r.labels[i], len(text), format.MaxCell)
		}
		if size += len(text); size > maxRow {
			return unsupported("the row has more than %d bytes", maxRow)
		}
		b.AppendKind(kind, text)
	}
	b.EndRow(r.row)
	r.row++
	r.left--
	if r.text += int64(size); r.text > freeText+textRatio*r.size {
		return unsupported("the Parquet file holds more than %d times its size", textRatio)
	}
	if cap(r.scratch) > stream.MaxBytes {
		r.scratch = nil
	}
	return nil
}

// nextGroup readies the next row group; io.EOF after the last.
func (r *Reader) nextGroup() error {
	for _, c := range r.columns {
		if err := c.end(); err != nil {
			return err
		}
	}
	r.dropSpool()
	r.columns = nil
	if r.group == len(r.meta.groups) {
		if got := r.row - firstRow; got != r.meta.rows {
			return broken("it has %d rows and says that they are %d", got, r.meta.rows)
		}
		return io.EOF
	}
	chunks, rows, err := r.meta.group(r.group, r.size)
	if err != nil {
		return err
	}
	r.group++
	if rows > r.meta.rows-(r.row-firstRow) {
		return broken("row group %d has more rows than the file", r.group)
	}
	if rows == 0 && !slices.ContainsFunc(chunks, func(c chunk) bool { return c.values > 0 }) {
		return nil // whatever it says of its pages
	}
	cursors := make([]*cursor, len(chunks))
	var weight int64
	for i, c := range chunks {
		cursors[i] = newCursor(r.data, r.meta.leaves[i], c, &r.d)
		w, err := cursors[i].weight()
		if err != nil {
			return err
		}
		weight += w
	}
	columns := make([]column, 0, len(r.meta.root.children))
	for _, n := range r.meta.root.children {
		if n.leaf && n.maxRep == 0 {
			columns = append(columns, flat{cursors[n.column]})
			continue
		}
		last := n
		for !last.leaf {
			last = last.children[len(last.children)-1]
		}
		columns = append(columns, &assembler{root: n, cursors: cursors[n.first : last.column+1]})
	}
	r.left = rows
	if weight > r.budget && len(columns) > 1 {
		if columns, err = r.spoolColumns(columns, rows); err != nil {
			return err
		}
	}
	r.columns = columns
	return nil
}

// flat is a column that is not nested.
type flat struct{ c *cursor }

func (f flat) appendCell(dst []byte) ([]byte, stream.Kind, error) {
	v, null, err := f.c.take()
	if err != nil || null || f.c.node.logical == logNull {
		return dst, stream.Null, err
	}
	return f.c.node.appendText(dst, v)
}

func (f flat) end() error { return f.c.ended() }

func (a *assembler) end() error {
	for _, c := range a.cursors {
		if err := c.ended(); err != nil {
			return err
		}
	}
	return nil
}

// ended is an error where values are left.
func (c *cursor) ended() error {
	if c.left > 0 {
		return broken("column %q has more values than rows", c.node.name)
	}
	return nil
}

// spoolColumns writes the cells of a row group to a file, column after column, and
// gives columns that read them from there.
func (r *Reader) spoolColumns(columns []column, rows int64) ([]column, error) {
	f, err := os.CreateTemp(r.temp, "columns-")
	if err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	r.spool = f
	os.Remove(f.Name()) // where the system allows it, nothing stays behind after a crash
	w := bufio.NewWriterSize(f, 256<<10)
	starts := make([]int64, len(columns)+1)
	at := int64(0)
	for i := range columns {
		starts[i] = at
		for row := range rows {
			text, kind, err := columns[i].appendCell(r.scratch[:0])
			if err == nil && len(text) > format.MaxCell {
				err = unsupported("column %q has a value of %d bytes, more than the limit of %d", r.labels[i], len(text), format.MaxCell)
			}
			if err == nil && at > freeText+textRatio*r.size {
				err = unsupported("the Parquet file holds more than %d times its size", textRatio)
			}
			if err != nil {
				if e, ok := errors.AsType[*format.Error](err); ok {
					err = &format.Error{Code: e.Code, Row: r.row + row, Message: e.Message}
				}
				return nil, err
			}
			r.scratch = text
			var head [binary.MaxVarintLen64 + 1]byte
			head[0] = byte(kind)
			n := 1 + binary.PutUvarint(head[1:], uint64(len(text)))
			if _, err := w.Write(head[:n]); err != nil {
				return nil, fmt.Errorf("parquet: %w", err)
			}
			if _, err := w.Write(text); err != nil {
				return nil, fmt.Errorf("parquet: %w", err)
			}
			at += int64(n + len(text))
		}
		if err := columns[i].end(); err != nil {
			return nil, err
		}
		columns[i] = nil // its pages
	}
	starts[len(columns)] = at
	if err := w.Flush(); err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	size := max(leastBuffer, min(64<<10, spoolBuffers/len(columns)))
	for i := range columns {
		columns[i] = &spooled{bufio.NewReaderSize(io.NewSectionReader(f, starts[i], starts[i+1]-starts[i]), size)}
	}
	return columns, nil
}

func (r *Reader) dropSpool() {
	if r.spool != nil {
		r.spool.Close()
		os.Remove(r.spool.Name())
		r.spool = nil
	}
}

// spooled is a column that lies in a temporary file.
type spooled struct{ r *bufio.Reader }

func (s *spooled) end() error { return nil }

func (s *spooled) appendCell(dst []byte) ([]byte, stream.Kind, error) {
	kind, err := s.r.ReadByte()
	if err != nil {
		return dst, stream.Null, fmt.Errorf("parquet: %w", err)
	}
	n, err := binary.ReadUvarint(s.r)
	if err != nil {
		return dst, stream.Null, fmt.Errorf("parquet: %w", err)
	}
	start := len(dst)
	dst = slices.Grow(dst, int(n))[:start+int(n)]
	if _, err := io.ReadFull(s.r, dst[start:]); err != nil {
		return dst, stream.Null, fmt.Errorf("parquet: %w", err)
	}
	return dst, stream.Kind(kind), nil
}
