// Package xlsx reads and writes XLSX workbooks (ECMA-376, Office Open XML, in its
// transitional and strict forms) as tables, a sheet at a time.
//
// The reader gives every cell what it is: a text, a number, a boolean, a point in
// time. The file is hostile until it is read: the container keeps to the limits of
// Apache POI, the XML to those of the package, and the sheet is read as a stream, so
// that memory is bounded by the longest row. The texts that cells share go to disk
// beyond a budget. The libraries that read XLSX keep all shared texts or the whole
// sheet in memory, or give cells as text alone; hence a reader of our own.
//
// What cells are:
//
//   - A number is given with the digits that the file has, in plain form; one with 16
//     or 17 digits and a point as the shortest number that is the same double. A whole
//     number is an integer, also where it is written 1.0 or 1E3.
//   - A number whose style shows a date is a date, a datetime where the style shows a clock
//     as well or the number has a part of a day, or a time where it is less than a day and
//     the style shows a clock; to the millisecond. One that is no day of
//     the calendar stays a number: 0 as a date, or 29 February 1900. Serial numbers
//     count from 1900 or 1904, as the workbook says. Hours counted beyond a day
//     ([h]:mm) are the text of a duration. A cell of type date is what its text is.
//   - A formula is the value that was kept of it, or null; nothing is computed.
//   - An error such as #N/A is its text: a schema may name it as a missing value.
//   - Of merged cells all but the first are null, unless they hold something or
//     [Options].FillMerged is set.
//
// A row has a cell for every column of the header; cells without a value at its end
// are left out beyond it. Rows between others that hold nothing are given with one
// null; those after the last row that holds something are none.
package xlsx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/stream"
)

// Limits of a sheet: those that Excel has, and how long the text of a cell and of a
// row may be.
const (
	MaxRows    = 1 << 20
	MaxColumns = 1 << 14
	maxCell    = format.MaxCell
	maxRow     = 2 * maxCell
)

// Shared texts and merged cells may make a sheet longer than its file, within reason.
const (
	maxGrowth  = 1000      // times the file
	growthFrom = 256 << 20 // beyond so many bytes
)

// Options say how a workbook is read.
type Options struct {
	// Sheet is the name of the sheet, or its number from 1 where none has that name.
	// Without it Number counts, and without both the first sheet is read.
	Sheet   string
	Number  int
	Dialect *format.Dialect // what it says of header, comments and rows to skip; nil: the first row is the header
	Columns int             // that rows have at least where the table has no header
	Titles  bool            // rows above the header that are a title are left out
	// FillMerged gives every cell of a merged range the value of the first.
	FillMerged bool
	// Shown gives numbers and dates as texts, as the sheet shows them, where their
	// format is a simple one: digits with or without a point and a percent sign
	// (thousands are not parted), or the parts of dates and clocks. Others stay as they
	// are: fractions, exponents, currencies, colours and conditions.
	Shown      bool
	Pool       *stream.Pool // lends the batches; nil: one of its own
	Temp       string       // folder for temporary files
	MaxColumns int          // of a row; 0 is MaxColumns
	// Strings is the budget of shared texts in memory, in bytes; 0 is 8 MiB.
	Strings int
}

// Reader gives the rows of a sheet.
type Reader struct {
	*format.Rows

	book    *workbook
	o       Options
	sheet   sheet
	part    io.ReadCloser
	x       *xmlReader
	strings *sharedStrings
	merged  *merges // nil: not filled
	grown   int64   // bytes that shared texts and merged cells gave
	most    int64   // and may give

	// The next row of the file that holds something.
	pending  rowCells
	has      bool
	ended    bool // there is none
	lastRow  int64
	cell     []byte
	scratch  []byte
	kindBuf  []byte
	styleBuf []byte

	row   int64 // physical number of the last row that was given
	width int   // cells that a row has at least
	err   error
	odd   int64 // dates that are no days
}

// rowCells is a row of the file: its cells that hold something, by column.
type rowCells struct {
	number int64
	cells  []rowCell
	text   []byte
}

type rowCell struct {
	column   int // from 0
	kind     stream.Kind
	from, to int // in text
}

func (r *rowCells) reset(number int64) {
	r.number, r.cells, r.text = number, r.cells[:0], r.text[:0]
	if cap(r.text) > 4<<20 { // one row of huge cells must not stay in memory
		r.text = nil
	}
}

func (r *rowCells) add(column int, kind stream.Kind, text []byte) {
	from := len(r.text)
	r.text = append(r.text, text...)
	r.cells = append(r.cells, rowCell{column, kind, from, len(r.text)})
}

// blank reports whether no cell of the row holds anything.
func (r *rowCells) blank() bool {
	for _, c := range r.cells {
		if c.to > c.from {
			return false
		}
	}
	return true
}

// NewReader opens a sheet of the workbook in a file. Its error is a [format.Error]
// where the file or the choice of the sheet is to blame. The caller closes the reader,
// which ends with ctx.
func NewReader(ctx context.Context, path string, o Options) (*Reader, error) {
	book, err := openWorkbook(ctx, path)
	if err != nil {
		return nil, err
	}
	r := &Reader{book: book, o: o}
	d := format.Default()
	if o.Dialect != nil {
		d = *o.Dialect
	}
	if !d.Header {
		r.width = o.Columns // else the header decides
	}
	if r.o.Pool == nil {
		r.o.Pool = &stream.Pool{}
	}
	r.Rows = format.NewRows(r, d, r.o.Pool)
	r.Titles = o.Titles
	r.Headed = func(columns int) { r.width = max(r.width, columns) }
	if r.o.MaxColumns == 0 {
		r.o.MaxColumns = MaxColumns
	}
	if r.o.Strings == 0 {
		r.o.Strings = stringBudget
	}
	if err := r.open(); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Reader) open() error {
	var err error
	if r.sheet, err = r.book.find(r.o.Sheet, r.o.Number); err != nil {
		return err
	}
	info, err := r.book.file.Stat()
	if err != nil {
		return fmt.Errorf("xlsx: %w", err)
	}
	r.most = max(growthFrom, info.Size()*maxGrowth)
	if r.o.FillMerged {
		if r.merged, err = r.book.readMerges(r.sheet.part); err != nil {
			return err
		}
	}
	if r.part, err = r.book.open(r.sheet.part, maxPart); err != nil {
		return err
	}
	r.x = newXMLReader(r.part)
	found, err := enterSheetData(r.x)
	if err != nil {
		return inPart(err, r.sheet.part)
	}
	r.ended = !found
	return nil
}

// enterSheetData reads to the start of the rows; false where a sheet has none.
func enterSheetData(x *xmlReader) (bool, error) {
	for {
		kind, err := x.next()
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if kind != startTag {
			continue
		}
		switch {
		case x.depth() == 1 && string(x.name) != "worksheet":
			return false, xmlErrorf("is no sheet with cells")
		case x.depth() == 2 && string(x.name) == "sheetData":
			return true, nil
		}
	}
}

// Encoding is empty: a workbook is no text.
func (r *Reader) Encoding() string { return "" }

// Notes say what was read otherwise than it is shown.
func (r *Reader) Notes() []string {
	if r.odd == 0 {
		return r.Rows.Notes()
	}
	return append(slices.Clip(r.Rows.Notes()), fmt.Sprintf("%d cells with a date format hold a number that is no date; they were read as numbers", r.odd))
}

// Close frees the workbook's file and the temporary ones.
func (r *Reader) Close() error {
	r.Rows.Close()
	r.strings.close()
	if r.part != nil {
		r.part.Close()
		r.part = nil
	}
	return r.book.close()
}

// Row is the physical number of the last row that was given.
func (r *Reader) Row() int64 { return r.row }

// Begins reports whether the next row has a first cell that begins with a text.
func (r *Reader) Begins(text string) (bool, error) {
	if err := r.ahead(); err != nil {
		return false, err
	}
	p := &r.pending
	if !r.has || p.number != r.row+1 || len(p.cells) == 0 || p.cells[0].column != 0 {
		return false, nil
	}
	return strings.HasPrefix(string(p.text[p.cells[0].from:p.cells[0].to]), text), nil
}

// ahead makes sure that the next row which holds something was read.
func (r *Reader) ahead() error {
	for !r.has && !r.ended {
		if r.err == nil {
			r.err = r.readRow()
		}
		if r.err != nil {
			return r.err
		}
		r.has = !r.ended && !r.pending.blank()
	}
	return nil
}

// ReadRow appends the next row, also one that holds nothing where others follow.
func (r *Reader) ReadRow(b *stream.Batch) error {
	if err := r.ahead(); err != nil {
		return err
	}
	here := r.has && r.pending.number == r.row+1
	if !here && !r.has && !r.merged.reaches(r.row+1) {
		return io.EOF
	}
	row := &r.pending
	if !here {
		row = &rowCells{number: r.row + 1}
	}
	r.row++
	if here {
		r.has = false
	}
	if r.merged != nil {
		longer, err := r.merged.fill(row)
		if err == nil {
			err = r.grow(longer, r.row)
		}
		if err != nil {
			return err
		}
	}
	r.emit(b, row)
	return nil
}

// emit appends a row with the cells between those that hold something.
func (r *Reader) emit(b *stream.Batch, row *rowCells) { emitCells(b, row, r.width, r.row) }

func emitCells(b *stream.Batch, row *rowCells, width int, number int64) {
	cells := row.cells
	for len(cells) > 0 && cells[len(cells)-1].kind == stream.Text && cells[len(cells)-1].to == cells[len(cells)-1].from && cells[len(cells)-1].column >= width {
		cells = cells[:len(cells)-1] // an empty text names no column, and is no cell too many
	}
	at := 0
	for _, c := range cells {
		for ; at < c.column; at++ {
			b.AppendNull()
		}
		b.AppendKind(c.kind, row.text[c.from:c.to])
		at++
	}
	if at > 0 {
		for ; at < width; at++ {
			b.AppendNull()
		}
	} else {
		b.AppendNull()
	}
	b.EndRow(number)
}

func (r *Reader) rowError(row int64, message string, args ...any) error {
	return &format.Error{Code: format.CodeFormat, Row: row, Message: fmt.Sprintf(message, args...)}
}

// readRow reads the next row of the file into pending.
func (r *Reader) readRow() error {
	for {
		kind, err := r.x.next()
		if err != nil {
			return r.broken(err)
		}
		switch {
		case kind == endTag && r.x.depth() < 2:
			r.ended = true
			// The rest of the part says nothing of cells, but it shows damage.
			if _, err := io.Copy(io.Discard, r.part); err != nil {
				return err
			}
			return nil
		case kind == startTag && r.x.depth() == 3 && string(r.x.name) == "row":
			return r.readCells()
		}
	}
}

func (r *Reader) broken(err error) error {
	if e, ok := errors.AsType[*xmlError](err); ok {
		row := r.lastRow
		if r.x.depth() < 3 { // between rows
			row++
		}
		return r.rowError(row, "the workbook's part %q %s", cut(r.sheet.part), e.message)
	}
	return err
}

func (r *Reader) readCells() error {
	number := r.lastRow + 1
	if v := r.x.attr("r"); v != nil {
		n, err := strconv.ParseUint(string(v), 10, 32)
		if err != nil || int64(n) < number {
			return r.rowError(number, "the sheet's rows are not in order: %q comes after row %d", cut(string(v)), r.lastRow)
		}
		number = int64(n)
	}
	if number > MaxRows {
		return r.rowError(number, "the sheet has more than %d rows, the limit", MaxRows)
	}
	r.lastRow = number
	r.pending.reset(number)
	column := 0
	for {
		kind, err := r.x.next()
		if err != nil {
			return r.broken(err)
		}
		switch {
		case kind == endTag && r.x.depth() < 3:
			return nil
		case kind == startTag && r.x.depth() == 4 && string(r.x.name) == "c":
			if v := r.x.attr("r"); v != nil {
				c, row, ok := parseReference(v)
				if !ok || row != 0 && row != number || c < column {
					return r.rowError(number, "the cell %q stands at a wrong place", cut(string(v)))
				}
				column = c
			}
			if column >= r.o.MaxColumns {
				return r.rowError(number, "the row has more than %d columns, the limit", r.o.MaxColumns)
			}
			if err := r.readCell(column); err != nil {
				return err
			}
			column++
			if len(r.pending.text) > maxRow {
				return r.rowError(number, "the row is longer than the limit of %s", size(maxRow))
			}
		}
	}
}

// parseReference reads the name of a cell: B7, or its column alone. The column is
// from 0, the row from 1 or 0 where there is none.
func parseReference(b []byte) (column int, row int64, ok bool) {
	i := 0
	for ; i < len(b) && i < 4; i++ {
		c := b[i] &^ 0x20
		if c < 'A' || c > 'Z' {
			break
		}
		column = column*26 + int(c-'A') + 1
	}
	if i == 0 || i > 3 {
		return 0, 0, false
	}
	for _, c := range b[i:] {
		if c < '0' || c > '9' || row > MaxRows {
			return 0, 0, false
		}
		row = row*10 + int64(c-'0')
	}
	return column - 1, row, true
}

// readCell reads the cell whose start tag came last.
func (r *Reader) readCell(column int) error {
	r.kindBuf = append(r.kindBuf[:0], r.x.attr("t")...)
	style := -1
	if v := r.x.attr("s"); v != nil {
		if n, err := strconv.Atoi(string(v)); err == nil && n >= 0 && n < len(r.book.styles) {
			style = n
		}
	} else if len(r.book.styles) > 0 {
		style = 0
	}
	r.cell = r.cell[:0]
	if cap(r.cell) > 4<<20 {
		r.cell = nil
	}
	some, inValue := false, false
	for {
		kind, err := r.x.next()
		if err != nil {
			return r.broken(err)
		}
		switch depth := r.x.depth(); {
		case kind == endTag && depth < 4:
			if !some {
				return nil
			}
			return r.addCell(column, style)
		case kind == startTag && depth == 5 && string(r.x.name) == "v":
			some, inValue = true, true
			r.cell = r.cell[:0]
		case kind == startTag && depth == 5 && string(r.x.name) == "is":
			if r.cell, err = readRichText(r.x, r.cell[:0], maxCell); err != nil {
				return r.broken(err)
			}
			some = true
		case kind == endTag && depth == 4:
			inValue = false
		case kind == charData && inValue && depth == 5:
			if len(r.cell)+len(r.x.text) > maxCell {
				return r.rowError(r.pending.number, "the cell in column %d is longer than the limit of %s", column+1, size(maxCell))
			}
			r.cell = append(r.cell, r.x.text...)
		}
	}
}

// addCell adds the cell whose value was read, by its type.
func (r *Reader) addCell(column, style int) error {
	p := &r.pending
	if !utf8.Valid(r.cell) {
		return r.rowError(p.number, "the cell in column %d is not in UTF-8", column+1)
	}
	switch string(r.kindBuf) {
	case "s":
		return r.addShared(column)
	case "inlineStr":
		p.add(column, stream.Text, r.cell)
	case "str":
		p.add(column, stream.Text, unescape(r.cell))
	case "e":
		p.add(column, stream.Text, r.cell)
	case "b":
		switch {
		case isTrue(r.cell):
			p.add(column, stream.Boolean, []byte("true"))
		case len(r.cell) > 0:
			p.add(column, stream.Boolean, []byte("false"))
		}
	case "d":
		text, kind := isoMoment(r.cell)
		if len(text) > 0 {
			p.add(column, kind, text)
		}
	default:
		r.addNumber(column, style)
	}
	return nil
}

func (r *Reader) addShared(column int) error {
	p := &r.pending
	if len(r.cell) == 0 {
		return nil // an index that is left away: the cell is empty
	}
	if r.strings == nil {
		if err := r.loadStrings(); err != nil {
			return err
		}
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(r.cell)), 10, 63)
	if err == nil {
		from := len(p.text)
		var ok bool
		p.text, ok, err = r.strings.appendText(p.text, n)
		if err != nil {
			return err
		}
		if ok {
			p.cells = append(p.cells, rowCell{column, stream.Text, from, len(p.text)})
			return r.grow(len(p.text)-from, p.number)
		}
	}
	return r.rowError(p.number, "the cell in column %d refers to the shared text %q, which the workbook lacks", column+1, cut(string(r.cell)))
}

// grow notes bytes that the sheet itself does not hold.
func (r *Reader) grow(n int, row int64) error {
	if r.grown += int64(n); r.grown > r.most {
		return r.rowError(row, "the texts of the sheet are more than %d times as long as its file", maxGrowth)
	}
	return nil
}

func (r *Reader) loadStrings() error {
	if r.book.strings == "" || !r.book.has(r.book.strings) {
		r.strings = &sharedStrings{}
		return nil
	}
	part, err := r.book.open(r.book.strings, maxPart)
	if err != nil {
		return err
	}
	defer part.Close()
	r.strings, err = readStrings(part, r.o.Temp, r.o.Strings)
	return inPart(err, r.book.strings)
}

// addNumber adds a number, or what its style makes of it.
func (r *Reader) addNumber(column, style int) {
	p := &r.pending
	text := r.cell
	for len(text) > 0 && isSpace(text[0]) {
		text = text[1:]
	}
	for len(text) > 0 && isSpace(text[len(text)-1]) {
		text = text[:len(text)-1]
	}
	if len(text) == 0 {
		return
	}
	var plain bool
	var kind stream.Kind
	r.scratch, kind, plain = appendNumber(r.scratch[:0], r.styleBuf[:0], text)
	if !plain {
		p.add(column, stream.Text, text)
		return
	}
	if style >= 0 {
		f := &r.book.styles[style]
		if f.isTime() || r.o.Shown {
			v, err := strconv.ParseFloat(string(text), 64)
			if err != nil || math.IsInf(v, 0) {
				v = -1
			}
			if r.o.Shown {
				if shown, ok := f.appendShown(nil, v, r.book.date1904); ok {
					p.add(column, stream.Text, shown)
					return
				}
			}
			if f.isTime() {
				moment, k, ok := f.appendMoment(r.styleBuf[:0], v, r.book.date1904)
				r.styleBuf = moment
				if ok {
					p.add(column, k, moment)
					return
				}
				r.odd++
			}
		}
	}
	p.add(column, kind, r.scratch)
}
