package xlsx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/stream"
)

// ODSReader reads the rows of a sheet of an OpenDocument spreadsheet (ODS, ISO/IEC 26300)
// as [Reader] does those of a workbook: cells have the type that the file says, a formula
// is the value that was kept of it, of merged cells all but the first are null. Comments
// are no text. What is said to be repeated is given as often, within the limits.
type ODSReader struct {
	*format.Rows

	book  *container
	part  io.ReadCloser
	x     *xmlReader
	o     Options
	depth int   // of the table
	grown int64 // bytes that repeated cells gave
	most  int64 // and may give

	next    int64 // number of the next row of the file
	pending rowCells
	repeat  int64 // how often it is given yet
	ended   bool
	err     error
	row     int64 // physical number of the last row that was given
	width   int   // cells that a row has at least

	cell    odsCell
	scratch []byte
	buf     []byte
}

// odsCell is a cell that is being read.
type odsCell struct {
	kind  string
	value []byte
	text  []byte
}

const odsContent = "content.xml"

// NewODSReader opens a sheet of the spreadsheet in a file. Its error is a [format.Error]
// where the file or the choice of the sheet is to blame. The caller closes the reader,
// which ends with ctx.
func NewODSReader(ctx context.Context, path string, o Options) (*ODSReader, error) {
	book, err := openContainer(ctx, path, (*container).isODS)
	if err != nil {
		return nil, err
	}
	r := &ODSReader{book: book, o: o, next: 1}
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
	if r.o.MaxColumns == 0 {
		r.o.MaxColumns = MaxColumns
	}
	r.Rows = format.NewRows(r, d, r.o.Pool)
	r.Titles = o.Titles
	r.Headed = func(columns int) { r.width = max(r.width, columns) }
	if err := r.open(); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func (c *container) isODS() error {
	switch {
	case c.has(odsContent):
		return nil
	case c.has("xl/workbook.xml"):
		return formatError("the file is an XLSX workbook: declare its `format`, or name it so")
	}
	return formatError("the file is a ZIP archive and no OpenDocument spreadsheet")
}

// open goes to the sheet.
func (r *ODSReader) open() error {
	info, err := r.book.file.Stat()
	if err != nil {
		return fmt.Errorf("xlsx: %w", err)
	}
	r.most = max(growthFrom, info.Size()*maxGrowth)
	if err := r.book.unlocked(); err != nil {
		return err
	}
	if r.part, err = r.book.open(odsContent, maxPart); err != nil {
		return err
	}
	r.x = newXMLReader(r.part)
	found := &workbook{}
	for {
		kind, err := r.x.next()
		if err == io.EOF {
			_, err = found.find(r.o.Sheet, r.o.Number)
			return err
		}
		if err != nil {
			return inPart(err, odsContent)
		}
		if kind != startTag || r.x.depth() != 4 || string(r.x.name) != "table" {
			continue
		}
		if len(found.sheets) == maxSheets {
			return formatError("the spreadsheet has more than %d sheets, the limit", maxSheets)
		}
		name := string(r.x.attr("name"))
		if len(name) > maxCode || !utf8.ValidString(name) {
			return formatError("the name of sheet %d is no text, or too long", len(found.sheets)+1)
		}
		found.sheets = append(found.sheets, sheet{name: name})
		wanted := r.o.Sheet == name || r.o.Sheet == "" && max(r.o.Number, 1) == len(found.sheets)
		if !wanted && r.o.Sheet != "" { // the name of a sheet further on wins over a number
			if n, err := strconv.Atoi(r.o.Sheet); err == nil && n == len(found.sheets) && !r.named(r.o.Sheet) {
				wanted = true
			}
		}
		if wanted {
			r.depth = r.x.depth()
			return nil
		}
		if err := r.x.skipElement(); err != nil {
			return inPart(err, odsContent)
		}
	}
}

// named reports whether a sheet has a name.
func (r *ODSReader) named(name string) bool {
	found := false
	err := r.book.small(odsContent, func(x *xmlReader) error {
		found = found || x.depth() == 4 && string(x.name) == "table" && string(x.attr("name")) == name
		return nil
	})
	return err == nil && found
}

// unlocked refuses a spreadsheet that is encrypted, which its manifest says.
func (c *container) unlocked() error {
	const manifest = "META-INF/manifest.xml"
	if !c.has(manifest) {
		return nil
	}
	return c.small(manifest, func(x *xmlReader) error {
		if string(x.name) == "encryption-data" {
			return formatError("%s", protected)
		}
		return nil
	})
}

// Encoding is empty: a spreadsheet is no text.
func (r *ODSReader) Encoding() string { return "" }

// Close frees the file.
func (r *ODSReader) Close() error {
	r.Rows.Close()
	if r.part != nil {
		r.part.Close()
		r.part = nil
	}
	return r.book.close()
}

// Row is the physical number of the last row that was given.
func (r *ODSReader) Row() int64 { return r.row }

// Begins reports whether the next row has a first cell that begins with a text.
func (r *ODSReader) Begins(text string) (bool, error) {
	if err := r.ahead(); err != nil {
		return false, err
	}
	p := &r.pending
	if r.repeat == 0 || p.number != r.row+1 || len(p.cells) == 0 || p.cells[0].column != 0 {
		return false, nil
	}
	return strings.HasPrefix(string(p.text[p.cells[0].from:p.cells[0].to]), text), nil
}

// ReadRow appends the next row, also one that holds nothing where others follow.
func (r *ODSReader) ReadRow(b *stream.Batch) error {
	if err := r.ahead(); err != nil {
		return err
	}
	if r.repeat == 0 {
		return io.EOF
	}
	r.row++
	if r.pending.number > r.row {
		b.AppendNull()
		b.EndRow(r.row)
		return nil
	}
	if r.grown += int64(len(r.pending.text)); r.grown > r.most {
		return r.rowError("the texts of the sheet are more than %d times as long as its file", maxGrowth)
	}
	emitCells(b, &r.pending, r.width, r.row)
	if r.repeat--; r.repeat > 0 {
		r.pending.number++
	}
	return nil
}

// ahead makes sure that the next row which holds something was read.
func (r *ODSReader) ahead() error {
	for r.repeat == 0 && !r.ended {
		if r.err == nil {
			r.err = r.readRow()
		}
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

func (r *ODSReader) rowError(message string, args ...any) error {
	return &format.Error{Code: format.CodeFormat, Row: min(r.next, MaxRows), Message: fmt.Sprintf(message, args...)}
}

func (r *ODSReader) broken(err error) error {
	if e, ok := errors.AsType[*xmlError](err); ok {
		return r.rowError("the spreadsheet's part %q %s", odsContent, e.message)
	}
	return err
}

// readRow reads the next row of the file.
func (r *ODSReader) readRow() error {
	for {
		kind, err := r.x.next()
		if err != nil {
			return r.broken(err)
		}
		switch {
		case kind == endTag && r.x.depth() < r.depth:
			r.ended = true
			// The rest says nothing of cells, but it shows damage.
			_, err := io.Copy(io.Discard, r.part)
			return err
		case kind == startTag && string(r.x.name) == "table-row":
			return r.readCells()
		}
	}
}

// repeated reads how often a row or a cell stands there.
func repeated(v []byte) (int64, bool) {
	if v == nil {
		return 1, true
	}
	n, err := strconv.ParseInt(string(v), 10, 32)
	return n, err == nil && n >= 1
}

func (r *ODSReader) readCells() error {
	times, ok := repeated(r.x.attr("number-rows-repeated"))
	if !ok {
		return r.rowError("the sheet says no number of equal rows")
	}
	depth := r.x.depth()
	r.pending.reset(r.next)
	column := 0
	for {
		kind, err := r.x.next()
		if err != nil {
			return r.broken(err)
		}
		switch name := string(r.x.name); {
		case kind == endTag && r.x.depth() < depth:
			blank := r.pending.blank()
			if !blank {
				if r.next+times-1 > MaxRows {
					return r.rowError("the sheet has more than %d rows, the limit", MaxRows)
				}
				r.repeat = times
			}
			r.next += times
			return nil
		case kind == startTag && (name == "table-cell" || name == "covered-table-cell"):
			if column, err = r.readCell(column, name == "covered-table-cell"); err != nil {
				return err
			}
		}
	}
}

// readCell reads the cell whose start tag came last, and returns the column behind it.
func (r *ODSReader) readCell(column int, covered bool) (int, error) {
	times, ok := repeated(r.x.attr("number-columns-repeated"))
	if !ok {
		return 0, r.rowError("the sheet says no number of equal cells")
	}
	c := &r.cell
	c.kind, c.text = string(r.x.attr("value-type")), c.text[:0]
	c.value = c.value[:0]
	for _, key := range []string{"value", "date-value", "time-value", "boolean-value", "string-value"} {
		if v := r.x.attr(key); v != nil && len(c.value) == 0 {
			c.value = append(c.value, v...)
		}
	}
	if err := r.readText(); err != nil {
		return 0, err
	}
	text, kind := r.typed()
	if covered || kind == stream.Null || len(text) == 0 {
		return min(column+int(times), math.MaxInt32), nil
	}
	if column+int(times) > r.o.MaxColumns {
		return 0, r.rowError("the row has more than %d columns, the limit", r.o.MaxColumns)
	}
	for range times {
		if len(r.pending.text)+len(text) > maxRow {
			return 0, r.rowError("the row is longer than the limit of %s", size(maxRow))
		}
		r.pending.add(column, kind, text)
		column++
	}
	return column, nil
}

// readText reads the text of a cell: its paragraphs, a line each.
func (r *ODSReader) readText() error {
	c := &r.cell
	depth := r.x.depth()
	paragraphs, inParagraph := 0, 0
	for {
		kind, err := r.x.next()
		if err != nil {
			return r.broken(err)
		}
		switch {
		case kind == endTag && r.x.depth() < depth:
			if !utf8.Valid(c.text) {
				return r.rowError("a cell is not in UTF-8")
			}
			return nil
		case kind == endTag && r.x.depth() < inParagraph:
			inParagraph = 0
		case kind == charData && inParagraph > 0:
			c.text = append(c.text, r.x.text...)
		case kind == startTag:
			switch string(r.x.name) {
			case "p", "h":
				if paragraphs++; paragraphs > 1 {
					c.text = append(c.text, '\n')
				}
				inParagraph = r.x.depth()
			case "s":
				n, ok := repeated(r.x.attr("c"))
				if !ok || n > maxTag {
					return r.rowError("a cell says no number of blanks")
				}
				c.text = append(c.text, strings.Repeat(" ", int(n))...)
			case "tab":
				c.text = append(c.text, '\t')
			case "line-break":
				c.text = append(c.text, '\n')
			case "annotation", "table", "shapes", "object", "frame":
				if err := r.x.skipElement(); err != nil {
					return r.broken(err)
				}
			}
		}
		if len(c.text) > maxCell {
			return r.rowError("a cell is longer than the limit of %s", size(maxCell))
		}
	}
}

// typed returns the value of the cell that was read, by its type.
func (r *ODSReader) typed() ([]byte, stream.Kind) {
	c := &r.cell
	switch c.kind {
	case "float", "currency", "percentage":
		var kind stream.Kind
		var plain bool
		if r.scratch, kind, plain = appendNumber(r.scratch[:0], r.buf[:0], c.value); plain {
			return r.scratch, kind
		}
	case "boolean":
		switch string(c.value) {
		case "true", "false":
			return c.value, stream.Boolean
		}
	case "date":
		if len(c.value) > 0 {
			return isoMoment(c.value)
		}
	case "time":
		if millis, ok := odsMillis(string(c.value)); ok {
			if millis < millisOfDay {
				r.scratch = appendClock(r.scratch[:0], millis)
				return r.scratch, stream.Time
			}
			r.scratch = appendDuration(r.scratch[:0], millis)
			return r.scratch, stream.Text
		}
	case "string":
		if len(c.text) == 0 && len(c.value) > 0 {
			return c.value, stream.Text
		}
	}
	if len(c.text) == 0 {
		return nil, stream.Null
	}
	return c.text, stream.Text
}

// odsMillis reads a duration of hours, minutes and seconds (PT3H04M05.5S).
func odsMillis(s string) (int64, bool) {
	rest, ok := strings.CutPrefix(s, "PT")
	if !ok || rest == "" {
		return 0, false
	}
	var millis float64
	for _, unit := range []struct {
		mark  string
		scale float64
	}{{"H", 3600e3}, {"M", 60e3}, {"S", 1e3}} {
		number, after, found := strings.Cut(rest, unit.mark)
		if !found {
			continue
		}
		v, err := strconv.ParseFloat(number, 64)
		if err != nil || !(v >= 0 && v < lastSerial*24*3600) {
			return 0, false
		}
		millis += v * unit.scale
		rest = after
	}
	return int64(math.Round(millis)), rest == ""
}
