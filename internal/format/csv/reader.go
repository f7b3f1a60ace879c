// Package csv reads and writes delimited text.
//
// The reader takes what people have: any delimiter and line end, quotes or none,
// ragged rows, cells of megabytes. It judges nothing: what a row lacks or has too
// much is for the caller to say. The writer knows one form only (see [Writer]).
// Both keep memory bounded by the longest row, not by the file.
package csv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/stream"
)

// Options say how a file is read.
type Options struct {
	// Dialect says how the file is written. What delimits cells is found out from the
	// first rows where it names no delimiter, or is nil.
	Dialect    *format.Dialect
	Encoding   string       // empty: found out from the bytes
	Pool       *stream.Pool // lends the batches; nil: one of its own
	Titles     bool         // rows above the header that are a title are left out
	MaxColumns int          // of a row; 0 is format.MaxColumns
	MaxCell    int          // bytes of a cell, of which a row may have twice as many; 0 is format.MaxCell
}

const (
	bufferBytes = 256 << 10
	sampleBytes = 64 << 10
	keepBuffer  = 1 << 20 // of a buffer that grew
)

// Reader gives the rows of a file as batches of raw cells.
type Reader struct {
	*format.Rows

	text    *format.Text
	dialect format.Dialect
	sniffed bool
	pool    *stream.Pool
	maxCols int
	maxCell int

	buf      []byte
	pos, end int
	readErr  error
	row      int64 // physical number of the last row that was read
	given    int64 // bytes of text up to pos
	otherRow int64 // of the first character that is not ASCII, once it is known
	cells    int   // of the row that is being read, which are in the batch already
	taken    int   // bytes of the file that they took
	failure  error // of a row

	delim     byte
	delimRest []byte // of a delimiter longer than a byte
	quote     byte   // 0: none
	escape    byte   // 0: none
	special   string // quote and escape, what ends a part of a quoted cell
	term      byte   // ends a row in the place of CR and LF; 0: none
	stop      [256]bool
}

// NewReader prepares a reader. Its error is an [format.Error] for an unknown encoding,
// or one of the underlying reader.
func NewReader(r io.Reader, o Options) (*Reader, error) {
	text, err := format.NewText(r, o.Encoding)
	if err != nil {
		return nil, asError(err, 0)
	}
	rd := &Reader{text: text, pool: o.Pool, maxCols: o.MaxColumns, maxCell: o.MaxCell, buf: make([]byte, bufferBytes)}
	if rd.pool == nil {
		rd.pool = &stream.Pool{}
	}
	if rd.maxCols == 0 {
		rd.maxCols = format.MaxColumns
	}
	if rd.maxCell == 0 {
		rd.maxCell = format.MaxCell
	}
	d := format.Default()
	if o.Dialect != nil {
		d = *o.Dialect
	}
	rd.sniffed = o.Dialect == nil || d.Delimiter == ""
	if said := rd.separatorLine(); said != 0 && len(d.HeaderRows) == 0 && d.SkipRows == 0 {
		if rd.sniffed {
			d.Delimiter, rd.sniffed = string(said), false
		}
	} else {
		rd.pos, rd.row, rd.given = 0, 0, 0
	}
	if rd.sniffed {
		for rd.end < sampleBytes && rd.readErr == nil {
			rd.fill()
		}
		skip := d.SkipRows
		if len(d.HeaderRows) > 0 {
			skip = d.HeaderRows[0] - 1
		}
		d = sniff(rd.buf[:rd.end], rd.readErr != nil, d, skip)
	}
	rd.use(d)
	rd.Rows = format.NewRows(rd, d, rd.pool)
	rd.Titles = o.Titles
	return rd, nil
}

// separatorLine reads over a first line that says to a spreadsheet what delimits the
// cells (sep=;) and returns that; 0 where there is none.
func (r *Reader) separatorLine() byte {
	const longest = len(`"sep=;"` + "\r\n")
	for r.end < longest && r.readErr == nil {
		r.fill()
	}
	line, _, ended := bytes.Cut(r.buf[:min(r.end, longest)], []byte("\n"))
	n := len(line) + 1
	if !ended {
		return 0
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == len(`"sep=;"`) && line[0] == '"' && line[len(line)-1] == '"' {
		line = line[1 : len(line)-1]
	}
	if len(line) != len("sep=;") || !strings.EqualFold(string(line[:4]), "sep=") || line[4] >= utf8.RuneSelf || line[4] == '"' {
		return 0
	}
	r.pos, r.row, r.given = n, 1, int64(n)
	return line[4]
}

// failed is why the text ends before the file does. An error of the encoding may be
// of a character in a row that was given long ago.
func (r *Reader) failed() error {
	row := r.row + 1
	if e, ok := errors.AsType[*format.EncodingError](r.readErr); ok && r.otherRow > 0 && e.Offset == r.text.FirstOther() {
		row = r.otherRow
	}
	return asError(r.readErr, row)
}

func asError(err error, row int64) error {
	if e, ok := errors.AsType[*format.EncodingError](err); ok {
		return &format.Error{Code: format.CodeEncoding, Row: row, Message: e.Message}
	}
	return err
}

func (r *Reader) use(d format.Dialect) {
	r.dialect = d
	r.delim, r.delimRest = d.Delimiter[0], []byte(d.Delimiter[1:])
	if d.QuoteChar != "" {
		r.quote = d.QuoteChar[0]
	}
	if d.EscapeChar != "" {
		r.escape = d.EscapeChar[0]
		r.stop[r.escape] = true
	}
	r.special = string([]byte{r.quote, r.escape})
	r.stop[r.delim], r.stop[0] = true, true
	if t := d.LineTerminator; len(t) == 1 && t != "\r" && t != "\n" {
		r.term = t[0]
		r.stop[r.term] = true
	} else {
		r.stop['\n'], r.stop['\r'] = true, true
	}
}

// Encoding is the one that the file was read in so far.
func (r *Reader) Encoding() string { return r.text.Encoding() }

// Dialect is the one that the file is read by.
func (r *Reader) Dialect() format.Dialect { return r.dialect }

// Sniffed reports whether the dialect was found out from the first rows.
func (r *Reader) Sniffed() bool { return r.sniffed }

// Notes says what was read otherwise than declared, and what was left out.
func (r *Reader) Notes() []string { return append(slices.Clip(r.text.Notes()), r.Rows.Notes()...) }

// Close lets go what was read ahead. A reader holds memory alone.
func (r *Reader) Close() error {
	r.Rows.Close()
	return nil
}

// Row is the physical number of the last row that was read.
func (r *Reader) Row() int64 { return r.row }

// Begins reports whether the next row begins with a text.
func (r *Reader) Begins(text string) (bool, error) {
	for r.end-r.pos < len(text) && r.readErr == nil {
		r.fill()
	}
	return bytes.HasPrefix(r.buf[r.pos:r.end], []byte(text)), nil
}

// ReadRow appends one row; a row that is an empty line has one empty cell. Cells that are
// whole are taken out of the buffer. A cell that the buffer does not hold whole is parsed
// again when there is twice as much of it, so that the work stays in proportion to its
// length however little each read returns.
func (r *Reader) ReadRow(b *stream.Batch) error {
	if r.failure != nil { // the beginning of the row is gone
		return r.failure
	}
	r.cells, r.taken = 0, 0
	for {
		if r.pos == r.end && r.readErr != nil && r.cells == 0 {
			if r.readErr != io.EOF {
				return r.failed()
			}
			return io.EOF
		}
		n, err := r.parse(b)
		if err != nil {
			b.DropRow()
			r.failure = err
			return err
		}
		if n >= 0 {
			r.pos += n
			r.row++
			r.given += int64(r.taken + n)
			if r.otherRow == 0 {
				if first := r.text.FirstOther(); first >= 0 && r.given > first {
					r.otherRow = r.row
				}
			}
			b.EndRow(r.row)
			r.shrink()
			return nil
		}
		b.DropCells(r.cells)
		if r.readErr != nil && r.readErr != io.EOF {
			b.DropRow()
			r.failure = r.failed()
			return r.failure
		}
		if r.taken+r.end-r.pos > 2*r.maxCell {
			b.DropRow()
			r.failure = &format.Error{Code: format.CodeSource, Row: r.row + 1, Message: fmt.Sprintf("the row is longer than the limit of %s", size(2*r.maxCell))}
			return r.failure
		}
		want := 2 * (r.end - r.pos)
		if r.end-r.pos < r.maxCell { // where an open quote is found out, it need not be more
			want = min(want, r.maxCell+bufferBytes)
		}
		for more := true; more; more = r.end-r.pos < want && r.readErr == nil {
			r.fill()
		}
	}
}

// ReadBlank appends the empty lines that the buffer holds next. The last one is left to
// [Reader.ReadRow]: what comes behind a CR is not known there.
func (r *Reader) ReadBlank(b *stream.Batch) int {
	if !r.stop['\n'] || r.delim == '\n' || r.delim == '\r' || r.failure != nil {
		return 0
	}
	buf := r.buf[r.pos:r.end]
	if len(buf) < 2 || buf[0] != '\n' && buf[0] != '\r' {
		return 0
	}
	p, n := 0, 0
	for ; p+1 < len(buf) && n < stream.MaxRows; n++ {
		if buf[p] != '\n' && buf[p] != '\r' {
			break
		}
		if buf[p] == '\r' && buf[p+1] == '\n' {
			p++
		}
		p++
	}
	if most := stream.MaxRows - b.Rows(); n > most { // the batch has no room for all: count again
		n = 0
		for p = 0; n < most; n++ {
			if buf[p] == '\r' && buf[p+1] == '\n' {
				p++
			}
			p++
		}
	}
	n = b.AppendBlankRows(r.row+1, n)
	r.pos += p
	r.given += int64(p)
	r.row += int64(n)
	return n
}

// shrink lets a large buffer go that a row needed.
func (r *Reader) shrink() {
	if n := len(r.buf); n > keepBuffer && r.end-r.pos <= bufferBytes {
		buf := make([]byte, bufferBytes)
		r.end = copy(buf, r.buf[r.pos:r.end])
		r.buf, r.pos = buf, 0
		stream.Freed(n)
	}
}

// size is a limit in words.
func size(bytes int) string {
	if bytes >= 1<<20 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// fill reads more, behind what is not parsed yet.
func (r *Reader) fill() {
	if r.pos > 0 {
		r.end = copy(r.buf, r.buf[r.pos:r.end])
		r.pos = 0
	}
	if n := len(r.buf); r.end == n {
		want, whole := 2*n, r.maxCell+bufferBytes // the longest cell, with what follows it
		if n < whole && want >= r.maxCell {
			want = whole
		}
		buf := make([]byte, want)
		copy(buf, r.buf)
		r.buf = buf
		stream.Freed(n)
	}
	for range 100 {
		n, err := r.text.Read(r.buf[r.end:])
		r.end += n
		r.readErr = err
		if n > 0 || err != nil {
			return
		}
	}
	r.readErr = io.ErrNoProgress
}

// parse appends the cells of the row at pos and gives its length, line end
// included, or -1 where the buffer ends before the row does.
func (r *Reader) parse(b *stream.Batch) (int, error) {
	buf := r.buf[r.pos:r.end]
	last := r.readErr == io.EOF
	p := 0
	for column := r.cells + 1; ; column++ {
		if column > r.maxCols {
			return 0, &format.Error{Code: format.CodeSource, Row: r.row + 1, Message: fmt.Sprintf("the row has more than %d columns, the limit", r.maxCols)}
		}
		if r.dialect.SkipInitialSpace {
			for p < len(buf) && buf[p] == ' ' {
				p++
			}
		}
		start := p
		if p < len(buf) && r.quote != 0 && buf[p] == r.quote {
			n, ok := r.quoted(b, buf[p:], last)
			switch {
			case ok:
			case len(buf)-p > r.maxCell:
				return 0, r.openQuote(column, "is not closed within "+size(r.maxCell)+", the limit of a cell")
			case last:
				return 0, r.openQuote(column, "is not closed to the end of the file")
			default:
				return -1, nil
			}
			if r.swallowed(buf[p:p+n], buf[p+n:]) {
				return 0, r.openQuote(column, "takes further lines in and is closed in the midst of text")
			}
			p += n
		}
		// What follows, up to the delimiter or the end of the row.
		from := p
		for {
			for p < len(buf) && !r.stop[buf[p]] {
				p++
			}
			if p == len(buf) {
				break
			}
			c := buf[p]
			if c == 0 {
				return 0, &format.Error{Code: format.CodeSource, Row: r.row + 1, Message: "the file holds a NUL byte: it is no text, or its encoding must be declared"}
			}
			if c == r.escape && r.escape != 0 {
				if p+1 >= len(buf) {
					if !last {
						return -1, nil
					}
					p++
					break
				}
				b.AppendPart(buf[from:p])
				from = p + 1
				p += 2
				continue
			}
			if c == r.delim && len(r.delimRest) > 0 {
				if len(buf)-p-1 < len(r.delimRest) && !last {
					return -1, nil
				}
				if !bytes.HasPrefix(buf[p+1:], r.delimRest) {
					p++
					continue
				}
			}
			break
		}
		if p-start > r.maxCell {
			return 0, &format.Error{Code: format.CodeSource, Row: r.row + 1, Message: fmt.Sprintf("the cell in column %d is longer than the limit of %s", column, size(r.maxCell))}
		}
		if p == len(buf) && !last {
			return -1, nil
		}
		b.AppendPart(buf[from:min(p, len(buf))])
		b.EndCell()
		if p >= len(buf) {
			return len(buf), nil
		}
		switch c := buf[p]; {
		case c == r.delim:
		case c == '\n', r.term != 0:
			return p + 1, nil
		default:
			if p+1 == len(buf) && !last {
				return -1, nil
			}
			if p+1 < len(buf) && buf[p+1] == '\n' {
				return p + 2, nil
			}
			return p + 1, nil
		}
		p += 1 + len(r.delimRest)
		if p > bufferBytes/2 { // of a long row
			r.pos, r.taken, r.cells = r.pos+p, r.taken+p, column
			buf, p = buf[p:], 0
		}
	}
}

// openQuote is the error of a quote that most likely is no opening one. Its row is that
// of the quote: the rows behind it are within the cell.
func (r *Reader) openQuote(column int, what string) error {
	return &format.Error{Code: format.CodeSource, Row: r.row + 1, Message: fmt.Sprintf("the quote that opens the cell in column %d %s: double it if it belongs to the text, or declare another quoteChar", column, what)}
}

// swallowed reports whether a quoted cell took rows in that are none of it: it goes over
// line ends, and what follows its end is text. Within a line that is how some write a
// quote in a text.
func (r *Reader) swallowed(cell, rest []byte) bool {
	i := 0
	for i < len(rest) && (rest[i] == ' ' || rest[i] == '\t' && r.delim != '\t') {
		i++
	}
	if i == len(rest) || r.stop[rest[i]] {
		return false
	}
	if r.term != 0 {
		return bytes.IndexByte(cell, r.term) >= 0
	}
	return bytes.IndexByte(cell, '\n') >= 0 || bytes.IndexByte(cell, '\r') >= 0
}

// quoted appends the part of a cell between quotes and gives its length, quotes
// included. It is false where the end was not found.
func (r *Reader) quoted(b *stream.Batch, buf []byte, last bool) (int, bool) {
	p := 1
	for {
		from := p
		var i int
		if r.escape == 0 || r.escape == r.quote {
			i = bytes.IndexByte(buf[p:], r.quote)
		} else {
			i = bytes.IndexAny(buf[p:], r.special)
		}
		if i < 0 {
			return 0, false
		}
		p += i
		b.AppendPart(buf[from:p])
		if p+1 >= len(buf) && !last {
			return 0, false
		}
		if buf[p] == r.escape && r.escape != r.quote && p+1 < len(buf) {
			b.AppendPart(buf[p+1 : p+2])
			p += 2
			continue
		}
		if buf[p] != r.quote { // an escape that ends the file
			return 0, false
		}
		if r.dialect.DoubleQuote && p+1 < len(buf) && buf[p+1] == r.quote {
			b.AppendPart(buf[p : p+1])
			p += 2
			continue
		}
		return p + 1, true
	}
}
