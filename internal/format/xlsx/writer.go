package xlsx

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// Limits that Excel has.
const (
	maxText      = 32767 // UTF-16 units of a cell
	maxSheetName = 31    // UTF-16 units
)

// Writer writes a workbook with one sheet: a header row, then the rows.
//
// A cell is what its field says, where Excel can hold the value: integers, numbers
// and years of at most 15 digits as numbers, booleans, dates and datetimes without a
// zone from 1 March 1900 to the year 9999 and times, to the millisecond, as serial
// numbers with a style. Everything else is text, and so is a value that Excel would
// change; [Writer.Notes] counts these. A null has no cell. There are no formulas: a
// text that begins with "=" is a text.
//
// What Excel cannot hold at all is a [format.Error]: more than 1,048,576 rows, a text
// of more than 32,767 characters. (A schema has no more fields than a sheet has
// columns.) The same rows give the same bytes. The file keeps to the limits that readers set against archives made to do
// harm.
type Writer struct {
	zip    *zip.Writer
	sheet  io.Writer
	schema *tableschema.Schema
	buf    []byte
	row    int64
	texts  []int64 // per field: values that became text

	columns [][]byte // the letters of each column
	digits  []byte
	number  []byte
}

const writeBytes = 64 << 10

// entryTime is the time of every part: the first that ZIP knows.
var entryTime = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// The styles of cells, by their place in stylesXML.
const (
	styleDate     = 1
	styleDatetime = 2
	styleTime     = 3
)

const xmlHead = `<?xml version="1.0" encoding="UTF-8" standalone="yes"?>` + "\n"

const (
	contentTypesXML = xmlHead + `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">` +
		`<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>` +
		`<Default Extension="xml" ContentType="application/xml"/>` +
		`<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>` +
		`<Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>` +
		`<Override PartName="/xl/styles.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml"/>` +
		`</Types>`
	rootRelsXML = xmlHead + `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">` +
		`<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/>` +
		`</Relationships>`
	workbookRelsXML = xmlHead + `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">` +
		`<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/>` +
		`<Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/>` +
		`</Relationships>`
	stylesXML = xmlHead + `<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">` +
		`<numFmts count="3"><numFmt numFmtId="164" formatCode="yyyy\-mm\-dd"/>` +
		`<numFmt numFmtId="165" formatCode="yyyy\-mm\-dd\ hh:mm:ss"/><numFmt numFmtId="166" formatCode="hh:mm:ss"/></numFmts>` +
		`<fonts count="1"><font><sz val="11"/><name val="Calibri"/></font></fonts>` +
		`<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>` +
		`<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>` +
		`<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>` +
		`<cellXfs count="4"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>` +
		`<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>` +
		`<xf numFmtId="165" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>` +
		`<xf numFmtId="166" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs>` +
		`<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>`
	sheetHeadXML = xmlHead + `<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>`
	sheetTailXML = `</sheetData></worksheet>`
)

// NewWriter begins a workbook with one sheet for rows of the schema's fields and
// writes the header. The sheet's name is brought into what Excel allows.
// [Writer.Close] must be called at the end.
func NewWriter(w io.Writer, sheet string, schema *tableschema.Schema) (*Writer, error) {
	xw := &Writer{zip: zip.NewWriter(w), schema: schema, texts: make([]int64, len(schema.Fields))}
	xw.zip.RegisterCompressor(zip.Deflate, newDeflater)
	name := string(appendEscaped(nil, []byte(sheetName(sheet)), true))
	for _, part := range []struct{ name, body string }{
		{"[Content_Types].xml", contentTypesXML},
		{"_rels/.rels", rootRelsXML},
		{"xl/workbook.xml", xmlHead + `<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">` +
			`<sheets><sheet name="` + name + `" sheetId="1" r:id="rId1"/></sheets></workbook>`},
		{"xl/_rels/workbook.xml.rels", workbookRelsXML},
		{"xl/styles.xml", stylesXML},
	} {
		p, err := xw.part(part.name)
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(p, part.body); err != nil {
			return nil, err
		}
	}
	var err error
	if xw.sheet, err = xw.part("xl/worksheets/sheet1.xml"); err != nil {
		return nil, err
	}
	xw.buf = append(xw.buf, sheetHeadXML...)
	for i := range schema.Fields {
		xw.columns = append(xw.columns, appendColumn(nil, i))
	}
	xw.beginRow()
	for i, f := range schema.Fields {
		if err := xw.text(i, []byte(f.Name)); err != nil {
			return nil, err
		}
	}
	return xw, xw.endRow()
}

func (w *Writer) part(name string) (io.Writer, error) {
	return w.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: entryTime})
}

// WriteBatch writes the rows of a batch; each has a cell for every field, in the
// default form of its type.
func (w *Writer) WriteBatch(b *stream.Batch) error {
	for r := range b.Rows() {
		if w.row == MaxRows {
			return formatError("the table has more rows than a sheet holds: %d with the header", MaxRows)
		}
		w.beginRow()
		for c := range w.schema.Fields {
			if b.Null(r, c) {
				continue
			}
			err := w.cell(c, b.Cell(r, c))
			if err == nil && len(w.buf) >= writeBytes { // a row may be long
				err = w.flush()
			}
			if err != nil {
				return err
			}
		}
		if err := w.endRow(); err != nil {
			return err
		}
	}
	return nil
}

// Notes say which values are text in the workbook though their field has a type that
// Excel knows.
func (w *Writer) Notes() []string {
	var notes []string
	for i, n := range w.texts {
		if n > 0 {
			f := w.schema.Fields[i]
			notes = append(notes, fmt.Sprintf("%d values of the field %q are written as text, because Excel cannot hold each %s as it is", n, cut(f.Name), f.Type))
		}
	}
	return notes
}

// Close ends the workbook. It does not close what is written to.
func (w *Writer) Close() error {
	w.buf = append(w.buf, sheetTailXML...)
	if err := w.flush(); err != nil {
		return err
	}
	return w.zip.Close()
}

func (w *Writer) flush() error {
	_, err := w.sheet.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

func (w *Writer) beginRow() {
	w.row++
	w.digits = strconv.AppendInt(w.digits[:0], w.row, 10)
	w.buf = append(append(append(w.buf, `<row r="`...), w.digits...), `">`...)
}

func (w *Writer) endRow() error {
	w.buf = append(w.buf, `</row>`...)
	if len(w.buf) < writeBytes {
		return nil
	}
	return w.flush()
}

// begin writes the head of a cell up to its attributes.
func (w *Writer) begin(column int) {
	w.buf = append(append(append(w.buf, `<c r="`...), w.columns[column]...), w.digits...)
	w.buf = append(w.buf, '"')
}

func (w *Writer) value(column int, attributes string, v []byte) {
	w.begin(column)
	w.buf = append(append(append(w.buf, attributes...), `><v>`...), v...)
	w.buf = append(w.buf, `</v></c>`...)
}

// cell writes a value that is not null.
func (w *Writer) cell(column int, text []byte) error {
	ok := false
	switch w.schema.Fields[column].Type {
	case "integer", "number", "year":
		var v []byte
		if v, ok = w.appendDouble(text); ok {
			w.value(column, "", v)
		}
	case "boolean":
		ok = true
		if string(text) == "true" {
			w.value(column, ` t="b"`, []byte{'1'})
		} else {
			w.value(column, ` t="b"`, []byte{'0'})
		}
	case "date":
		var day int64
		if day, ok = serialDay(text); ok {
			w.serial(column, styleDate, float64(day))
		}
	case "datetime":
		if day, isDay := serialDay(text[:min(len(text), len("2006-01-02"))]); isDay && len(text) > len("2006-01-02T") && text[len("2006-01-02")] == 'T' {
			var millis int64
			if millis, ok = clockMillis(text[len("2006-01-02T"):]); ok {
				w.serial(column, styleDatetime, float64(day)+float64(millis)/millisOfDay)
			}
		}
	case "time":
		var millis int64
		if millis, ok = clockMillis(text); ok {
			w.serial(column, styleTime, float64(millis)/millisOfDay)
		}
	default:
		return w.text(column, text)
	}
	if ok {
		return nil
	}
	w.texts[column]++
	return w.text(column, text)
}

func (w *Writer) serial(column, style int, v float64) {
	w.number = strconv.AppendFloat(w.number[:0], v, 'f', -1, 64)
	w.value(column, ` s="`+strconv.Itoa(style)+`"`, w.number)
}

// The powers of ten between which a double of 15 digits is exact enough to give them
// back.
const (
	maxPower = 300
	minPower = -290
)

// appendDouble gives a number as Excel holds it, and false where a double of 15
// digits is not that number.
func (w *Writer) appendDouble(text []byte) ([]byte, bool) {
	d, ok := parseDecimal(w.number[:0], text)
	w.number = d.digits[:0]
	if !ok || len(d.digits) > sureDigits {
		return nil, false
	}
	if power := d.exp + len(d.digits); len(d.digits) > 0 && (power > maxPower || power < minPower) {
		return nil, false
	}
	return d.append(nil), true
}

// serialDay is the serial number of a date, from 1 March 1900: before that day Excel
// counts otherwise than the calendar.
func serialDay(text []byte) (int64, bool) {
	t, err := time.Parse(time.DateOnly, string(text))
	day := (t.Unix() - firstDay.Unix()) / (24 * 60 * 60)
	return day, err == nil && day > phantom && day <= lastSerial
}

// clockMillis is the time of a day, which has no zone and nothing finer than a
// millisecond.
func clockMillis(text []byte) (int64, bool) {
	t, err := time.Parse("15:04:05", string(text))
	if err != nil || bytes.IndexByte(text, ',') >= 0 || t.Nanosecond()%1e6 != 0 {
		return 0, false
	}
	return int64(t.Hour()*3600+t.Minute()*60+t.Second())*1000 + int64(t.Nanosecond()/1e6), true
}

// text writes a text.
func (w *Writer) text(column int, text []byte) error {
	if len(text) > maxText && units(text) > maxText {
		return &format.Error{Code: format.CodeFormat, Row: w.row, Message: fmt.Sprintf(
			"the text in column %d has %d characters; a cell of Excel holds at most %d", column+1, units(text), maxText)}
	}
	w.begin(column)
	w.buf = append(w.buf, ` t="inlineStr"><is><t`...)
	if len(text) > 0 && (isSpace(text[0]) || isSpace(text[len(text)-1])) || bytes.ContainsAny(text, "\n\t") || bytes.Contains(text, []byte("  ")) {
		w.buf = append(w.buf, ` xml:space="preserve"`...)
	}
	w.buf = append(w.buf, '>')
	w.buf = appendEscaped(w.buf, text, false)
	w.buf = append(w.buf, `</t></is></c>`...)
	return nil
}

// units counts UTF-16 units.
func units(text []byte) int {
	n := 0
	for _, r := range string(text) {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}

// appendEscaped appends a text in XML. A character that XML cannot hold, a carriage
// return, and an underline that begins what would be read as one of these are
// written as _xHHHH_.
func appendEscaped(dst, text []byte, attribute bool) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(text[i:])
			switch r {
			case '\uFFFE', '\uFFFF':
				dst = appendUnit(dst, uint16(r))
			case utf8.RuneError:
				dst = append(dst, "\uFFFD"...)
			default:
				dst = append(dst, text[i:i+n]...)
			}
			i += n
			continue
		}
		switch {
		case c == '&':
			dst = append(dst, "&amp;"...)
		case c == '<':
			dst = append(dst, "&lt;"...)
		case c == '>':
			dst = append(dst, "&gt;"...)
		case c == '"' && attribute:
			dst = append(dst, "&quot;"...)
		case c == '_':
			// Also without the underline at its end: the next character may be
			// written as one that begins with it.
			if beginsEscape(text[i:]) {
				dst = appendUnit(dst, '_')
			} else {
				dst = append(dst, c)
			}
		case c < ' ' && c != '\n' && c != '\t':
			dst = appendUnit(dst, uint16(c))
		default:
			dst = append(dst, c)
		}
		i++
	}
	return dst
}

func appendUnit(dst []byte, unit uint16) []byte { return fmt.Appendf(dst, "_x%04X_", unit) }

// appendColumn appends the letters of a column, from 0.
func appendColumn(dst []byte, column int) []byte {
	if column >= 26 {
		dst = appendColumn(dst, column/26-1)
	}
	return append(dst, byte('A'+column%26))
}

// sheetName makes a name that Excel allows: at most 31 characters, without : \ / ? *
// [ ] and control characters, no quote at its ends, and not that of the history.
func sheetName(s string) string {
	s = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`:\/?*[]`, r) || r < ' ' || r == '\uFFFE' || r == '\uFFFF' {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
	s = strings.Trim(s, "' ")
	for n := len(s); n > 0 && units([]byte(s)) > maxSheetName; {
		_, last := utf8.DecodeLastRuneInString(s)
		n -= last
		s = strings.TrimRight(s[:n], "' ")
		n = len(s)
	}
	switch {
	case s == "":
		return "Sheet1"
	case strings.EqualFold(s, "History"):
		return s + "_"
	}
	return s
}
