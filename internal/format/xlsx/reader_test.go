package xlsx_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/format/formattest"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/xlsx"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/testkit"
)

// parts are the files of a workbook that a test makes.
type parts map[string]string

const (
	rootRels = `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>`
	bookRels = `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">` +
		`<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/>` +
		`<Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/chartsheet" Target="chartsheets/sheet1.xml"/>` +
		`<Relationship Id="rId3" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="/xl/worksheets/sheet2.xml"/>` +
		`<Relationship Id="rId4" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/>` +
		`<Relationship Id="rId5" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings" Target="sharedStrings.xml"/></Relationships>`
	book = `<?xml version="1.0"?><workbook xmlns:r="r"><workbookPr/><sheets><sheet name="Data" sheetId="1" r:id="rId1"/><sheet name="Chart" sheetId="2" r:id="rId2"/><sheet name="Élan &amp; 2" sheetId="3" state="hidden" r:id="rId3"/></sheets></workbook>`
	// Styles 1 to 6: a date, a date with a clock, a clock, hours beyond a day, a
	// quoted d that is no date, money in a colour.
	styles = `<styleSheet><numFmts count="4"><numFmt numFmtId="164" formatCode="yyyy\-mm\-dd\ hh:mm"/><numFmt numFmtId="165" formatCode="0&quot; days&quot;"/><numFmt numFmtId="166" formatCode="[Red]#,##0.00"/><numFmt numFmtId="167" formatCode="[$-409]d\ mmm\ yy;@"/></numFmts>` +
		`<cellStyleXfs count="1"><xf numFmtId="14"/></cellStyleXfs><cellXfs count="8"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/><xf numFmtId="21"/><xf numFmtId="46"/><xf numFmtId="165"/><xf numFmtId="166"/><xf numFmtId="167"/></cellXfs></styleSheet>`
)

// sheetOf is a sheet with the given rows.
func sheetOf(rows string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>` + rows + `</sheetData></worksheet>`
}

func usual(rows string) parts {
	return parts{
		"[Content_Types].xml": "<Types/>", "_rels/.rels": rootRels, "xl/workbook.xml": book, "xl/_rels/workbook.xml.rels": bookRels,
		"xl/styles.xml": styles, "xl/worksheets/sheet1.xml": sheetOf(rows), "xl/worksheets/sheet2.xml": sheetOf(`<row><c><v>2</v></c></row>`),
	}
}

func (p parts) with(name, body string) parts { p[name] = body; return p }

func (p parts) bytes(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	names := make([]string, 0, len(p))
	for name := range p {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		w := testkit.Must(z.Create(name))(t)
		testkit.Must(io.WriteString(w, p[name]))(t)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t testing.TB, body []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "book.xlsx")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// cell is a cell with its kind, as a test writes it: "integer 1", "null".
func cell(k stream.Kind, text string) string {
	names := map[stream.Kind]string{
		stream.Text: "text", stream.Null: "null", stream.Integer: "integer", stream.Number: "number",
		stream.Boolean: "boolean", stream.Date: "date", stream.Time: "time", stream.Datetime: "datetime",
	}
	if text == "" {
		return names[k]
	}
	return names[k] + " " + text
}

type row struct {
	number int64
	cells  []string
}

// readAll reads a table to its end or to an error, and gives what came before it.
func readAll(r format.Reader) (header []string, rows []row, err error) {
	header, err = formattest.EachRow(r, func(b *stream.Batch, i int) error {
		cells := make([]string, b.Width(i))
		for c := range cells {
			cells[c] = cell(b.Kind(i, c), string(b.Cell(i, c)))
		}
		rows = append(rows, row{b.Number(i), cells})
		return nil
	})
	return header, rows, err
}

// read reads a workbook to its end or to an error.
func read(t testing.TB, body []byte, o xlsx.Options) (header []string, rows []row, notes []string, err error) {
	t.Helper()
	if o.Temp == "" {
		o.Temp = t.TempDir()
	}
	r, err := xlsx.NewReader(t.Context(), write(t, body), o)
	if err != nil {
		return nil, nil, nil, err
	}
	header, rows, err = readAll(r)
	notes = r.Notes()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	left := testkit.Must(os.ReadDir(o.Temp))(t)
	if len(left) > 0 {
		t.Fatalf("temporary files stay behind: %v", left)
	}
	return header, rows, notes, err
}

// shape is rows as a test writes them: "2: integer 1 | null".
func shape(rows []row) []string {
	var all []string
	for _, r := range rows {
		all = append(all, fmt.Sprintf("%d: %s", r.number, strings.Join(r.cells, " | ")))
	}
	return all
}

const headerRow = `<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c><c r="B1" t="inlineStr"><is><t> b </t></is></c><c r="C1" t="inlineStr"><is><t/></is></c></row>`

func TestCells(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, cell, want string }{
		{"integer", `<c><v>12</v></c>`, "integer 12"},
		{"whole number", `<c><v>1.0</v></c>`, "integer 1"},
		{"whole number with exponent", `<c><v>1E3</v></c>`, "integer 1000"},
		{"negative zero", `<c><v>-0</v></c>`, "integer 0"},
		{"zeros in front", `<c><v>007</v></c>`, "integer 7"},
		{"long integer", `<c><v>12345678901234567890</v></c>`, "integer 12345678901234567890"},
		{"number", `<c><v>-1.50</v></c>`, "number -1.5"},
		{"small number", `<c><v>1.0000000000000001E-5</v></c>`, "number 0.00001"},
		{"tiny number", `<c><v>4.9E-324</v></c>`, "number 4.9E-324"},
		{"huge number", `<c><v>1.5e300</v></c>`, "number 1.5E300"},
		{"seventeen digits", `<c><v>1.1000000000000001</v></c>`, "number 1.1"},
		{"artefact", `<c><v>0.30000000000000004</v></c>`, "number 0.30000000000000004"},
		{"more digits than a double", `<c><v>0.123456789012345678901</v></c>`, "number 0.123456789012345678901"},
		{"blanks round a number", `<c><v> 1 </v></c>`, "integer 1"},
		{"no number", `<c><v>one</v></c>`, "text one"},
		{"exponent without bound", `<c><v>1E999999999</v></c>`, "text 1E999999999"},
		{"true", `<c t="b"><v>1</v></c>`, "boolean true"},
		{"false", `<c t="b"><v>0</v></c>`, "boolean false"},
		{"error", `<c t="e"><f>1/0</f><v>#DIV/0!</v></c>`, "text #DIV/0!"},
		{"formula", `<c><f>1+1</f><v>2</v></c>`, "integer 2"},
		{"formula with text", `<c t="str"><f>A1&amp;"x"</f><v>ax</v></c>`, "text ax"},
		{"formula without value", `<c><f>1+1</f></c>`, "null"},
		{"empty value", `<c><v/></c>`, "null"},
		{"inline", `<c t="inlineStr"><is><t xml:space="preserve"> x &lt;&#65;&#x42;&quot; </t></is></c>`, `text  x <AB" `},
		{"rich", `<c t="inlineStr"><is><r><rPr><b/></rPr><t>a</t></r><r><t>b</t></r><rPh sb="0" eb="1"><t>c</t></rPh></is></c>`, "text ab"},
		{"cdata", `<c t="inlineStr"><is><t><![CDATA[<&>]]></t></is></c>`, "text <&>"},
		{"comment", `<c t="inlineStr"><is><t>a<!-- - -->b</t></is></c>`, "text ab"},
		{"lines", "<c t=\"inlineStr\"><is><t>a\r\nb\rc_x000D_</t></is></c>", "text a\nb\nc\r"},
		{"escapes", `<c t="inlineStr"><is><t>_x0041__x005F_x0041__xD83D__xDE00__xD83D_</t></is></c>`, "text A_x0041_😀_xD83D_"},
		{"shared", `<c t="s"><v>1</v></c>`, "text shared two"},
		{"date", `<c s="1"><v>43832</v></c>`, "date 2020-01-02"},
		{"date with clock", `<c s="2"><v>43832.12783564815</v></c>`, "datetime 2020-01-02T03:04:05"},
		{"milliseconds", `<c s="2"><v>43832.127841435184</v></c>`, "datetime 2020-01-02T03:04:05.5"},
		{"first day", `<c s="1"><v>1</v></c>`, "date 1900-01-01"},
		{"before the leap day", `<c s="1"><v>59</v></c>`, "date 1900-02-28"},
		{"the day that never was", `<c s="1"><v>60</v></c>`, "integer 60"},
		{"after the leap day", `<c s="1"><v>61</v></c>`, "date 1900-03-01"},
		{"last day", `<c s="1"><v>2958465</v></c>`, "date 9999-12-31"},
		{"beyond the last day", `<c s="1"><v>2958466</v></c>`, "integer 2958466"},
		{"rounded beyond the last day", `<c s="1"><v>2958465.999999999</v></c>`, "number 2958465.999999999"},
		{"negative date", `<c s="1"><v>-1</v></c>`, "integer -1"},
		{"no day", `<c s="1"><v>0</v></c>`, "integer 0"},
		{"time", `<c s="3"><v>0.1278356481481482</v></c>`, "time 03:04:05"},
		{"time of a style with a date", `<c s="2"><v>0.5</v></c>`, "time 12:00:00"},
		{"time beyond a day", `<c s="3"><v>1.5</v></c>`, "datetime 1900-01-01T12:00:00"},
		{"elapsed", `<c s="4"><v>1.0625</v></c>`, "text PT25H30M"},
		{"nothing elapsed", `<c s="4"><v>0</v></c>`, "text PT0S"},
		{"elapsed backwards", `<c s="4"><v>-0.00001157407407</v></c>`, "text -PT1S"},
		{"quoted letters", `<c s="5"><v>3</v></c>`, "integer 3"},
		{"money", `<c s="6"><v>3</v></c>`, "integer 3"},
		{"date of a locale", `<c s="7"><v>43832</v></c>`, "date 2020-01-02"},
		{"unknown style", `<c s="99"><v>43832</v></c>`, "integer 43832"},
		{"ISO date", `<c t="d"><v>2020-01-02</v></c>`, "date 2020-01-02"},
		{"ISO datetime", `<c t="d"><v>2020-01-02T03:04:05.000</v></c>`, "datetime 2020-01-02T03:04:05"},
		{"ISO datetime with a zone", `<c t="d"><v>2020-01-02T03:04:05Z</v></c>`, "datetime 2020-01-02T03:04:05Z"},
		{"ISO time", `<c t="d"><v>03:04:05</v></c>`, "time 03:04:05"},
		{"no ISO date", `<c t="d"><v>yesterday</v></c>`, "text yesterday"},
		{"prefix", `<x:c t="inlineStr"><x:is><x:t>p</x:t></x:is></x:c>`, "text p"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := usual(headerRow+`<row r="2">`+c.cell+`<c r="B2"><v>1</v></c></row>`).
				with("xl/sharedStrings.xml", `<sst><si><t>one</t></si><si><r><t>shared </t></r><r><t>two</t></r></si></sst>`)
			_, rows, _, err := read(t, p.bytes(t), xlsx.Options{})
			if err != nil || len(rows) != 1 || rows[0].cells[0] != c.want {
				t.Fatalf("%q (%v), want %q", shape(rows), err, c.want)
			}
		})
	}
}

// Since 1904 is another first day, and no leap day is too many.
func TestDates1904(t *testing.T) {
	t.Parallel()
	p := usual(headerRow+`<row r="2"><c s="1"><v>0</v></c><c s="2"><v>42370.5</v></c><c s="3"><v>0.5</v></c><c s="1"><v>60</v></c></row>`).
		with("xl/workbook.xml", strings.Replace(book, "<workbookPr/>", `<workbookPr date1904="true"/>`, 1))
	_, rows, _, err := read(t, p.bytes(t), xlsx.Options{})
	want := []string{"2: date 1904-01-01 | datetime 2020-01-02T12:00:00 | time 12:00:00 | date 1904-03-01"}
	if err != nil || !slices.Equal(shape(rows), want) {
		t.Fatalf("%q (%v), want %q", shape(rows), err, want)
	}
}

// Numbers that a style shows as a date and that are none are told of.
func TestNotes(t *testing.T) {
	t.Parallel()
	_, _, notes, err := read(t, usual(headerRow+`<row><c s="1"><v>60</v></c></row>`).bytes(t), xlsx.Options{})
	if err != nil || len(notes) != 1 || !strings.HasPrefix(notes[0], "1 cells") {
		t.Fatalf("%q (%v)", notes, err)
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	dialect := func(change func(*format.Dialect)) *format.Dialect {
		d := format.Default()
		change(&d)
		return &d
	}
	text := func(ref, s string) string { return `<c r="` + ref + `" t="inlineStr"><is><t>` + s + `</t></is></c>` }
	merge := func(rows, refs string) string {
		return rows + `</sheetData><mergeCells>` + refs + `</mergeCells><sheetData>`
	}
	for _, c := range []struct {
		name   string
		rows   string
		o      xlsx.Options
		header []string
		want   []string
	}{
		{"padded to the header", headerRow + `<row r="2"><c r="A2"><v>1</v></c></row>`, xlsx.Options{}, []string{"a", "b"}, []string{"2: integer 1 | null"}},
		{"empty cells beyond the header", headerRow + `<row r="2"><c r="A2"><v>1</v></c><c r="D2" s="1"/><c r="E2" t="inlineStr"><is><t></t></is></c></row>`, xlsx.Options{}, []string{"a", "b"}, []string{"2: integer 1 | null"}},
		{"a cell too many", headerRow + `<row r="2"><c r="D2"><v>1</v></c></row>`, xlsx.Options{}, []string{"a", "b"}, []string{"2: null | null | null | integer 1"}},
		{"gaps keep their numbers", headerRow + `<row r="3"><c r="B3"><v>1</v></c></row><row r="4"/><row r="6"><c r="A6"><v>2</v></c></row><row r="7"><c r="A7" s="1"/></row>`, xlsx.Options{}, []string{"a", "b"}, []string{"2: null", "3: null | integer 1", "4: null", "5: null", "6: integer 2 | null"}},
		{"without references", headerRow + `<row><c><v>1</v></c><c><v>2</v></c></row><row><c r="B3"><v>3</v></c></row>`, xlsx.Options{}, []string{"a", "b"}, []string{"2: integer 1 | integer 2", "3: null | integer 3"}},
		{"an empty first row", `<row r="2">` + text("A2", "a") + `</row><row r="3"><c><v>1</v></c></row>`, xlsx.Options{}, []string{"a"}, []string{"3: integer 1"}},
		{"a title", `<row r="1">` + text("A1", "Levels") + `</row><row r="3">` + text("A3", "a") + text("B3", "b") + `</row><row r="4"><c><v>1</v></c></row><row r="5"><c><v>2</v></c><c><v>3</v></c></row>`, xlsx.Options{Titles: true}, []string{"a", "b"}, []string{"4: integer 1 | null", "5: integer 2 | integer 3"}},
		{"a blank label", `<row r="1">` + text("B1", "b") + `</row>`, xlsx.Options{}, []string{"", "b"}, nil},
		{"labels of other types", `<row r="1"><c><v>2020</v></c><c s="1"><v>43832</v></c><c t="b"><v>1</v></c></row>`, xlsx.Options{}, []string{"2020", "2020-01-02 00:00:00", "true"}, nil},
		{"no header", `<row r="1"><c r="B1"><v>1</v></c></row><row r="2"><c r="A2"><v>2</v></c></row>`, xlsx.Options{Dialect: dialect(func(d *format.Dialect) { d.Header = false })}, nil, []string{"1: null | integer 1", "2: integer 2 | null"}},
		{"no header, known columns", `<row r="1"><c r="A1"><v>1</v></c></row>`, xlsx.Options{Columns: 3, Dialect: dialect(func(d *format.Dialect) { d.Header = false })}, nil, []string{"1: integer 1 | null | null"}},
		{"skipped rows", `<row r="1">` + text("A1", "title") + `</row><row r="3">` + text("A3", "a") + `</row><row r="4"><c><v>1</v></c></row>`, xlsx.Options{Dialect: dialect(func(d *format.Dialect) { d.SkipRows = 2 })}, []string{"a"}, []string{"4: integer 1"}},
		{"several header rows", `<row r="1">` + text("A1", "a") + text("B1", "b") + `</row><row r="2">` + text("B2", "x") + `</row><row r="3"><c><v>1</v></c></row>`, xlsx.Options{Dialect: dialect(func(d *format.Dialect) { d.HeaderRows = []int{1, 2} })}, []string{"a", "b x"}, []string{"3: integer 1 | null"}},
		{"comments", headerRow + `<row r="2">` + text("A2", "# no") + `</row><row r="3"><c r="A3"><v>1</v></c></row><row r="4"><c r="A4"><v>2</v></c></row><row r="5"><c r="A5"><v>3</v></c></row>`, xlsx.Options{Dialect: dialect(func(d *format.Dialect) { d.CommentChar, d.CommentRows = "#", []int{4} })}, []string{"a", "b"}, []string{"3: integer 1 | null", "5: integer 3 | null"}},
		{"merged", merge(headerRow+`<row r="2"><c r="A2"><v>1</v></c><c r="B2" s="1"/></row>`, `<mergeCell ref="A2:B3"/>`), xlsx.Options{}, []string{"a", "b"}, []string{"2: integer 1 | null"}},
		{"merged and filled", merge(headerRow+`<row r="2"><c r="A2"><v>1</v></c></row><row r="5"><c r="A5"><v>5</v></c><c r="B5"><v>6</v></c></row>`, `<mergeCell ref="B5:B6"/><mergeCell ref="A2:B3"/>`), xlsx.Options{FillMerged: true}, []string{"a", "b"}, []string{"2: integer 1 | integer 1", "3: integer 1 | integer 1", "4: null", "5: integer 5 | integer 6", "6: null | integer 6"}},
		{"as shown", headerRow + `<row r="2"><c s="1"><v>43832</v></c><c s="3"><v>0.1278356481481482</v></c><c s="7"><v>43832</v></c><c s="5"><v>3</v></c><c s="2"><v>43832.5</v></c></row>`, xlsx.Options{Shown: true}, []string{"a", "b"}, []string{"2: text 01-02-20 | text 3:04:05 | text 2 Jan 20 | integer 3 | text 2020-01-02 12:00"}},
		{"by number", "", xlsx.Options{Number: 2, Dialect: dialect(func(d *format.Dialect) { d.Header = false })}, nil, []string{"1: integer 2"}},
		{"by name", "", xlsx.Options{Sheet: "élan & 2", Dialect: dialect(func(d *format.Dialect) { d.Header = false })}, nil, []string{"1: integer 2"}},
		{"by a name that is a number", "", xlsx.Options{Sheet: "2", Dialect: dialect(func(d *format.Dialect) { d.Header = false })}, nil, []string{"1: integer 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			header, rows, _, err := read(t, usual(c.rows).bytes(t), c.o)
			if err != nil || !slices.Equal(header, c.header) || (header == nil) != (c.header == nil) || !slices.Equal(shape(rows), c.want) {
				t.Fatalf("header %q, rows %q (%v)\nwant %q, %q", header, shape(rows), err, c.header, c.want)
			}
		})
	}
}

// Texts that do not fit the budget are read from disk, each at its place.
func TestSharedTextsOnDisk(t *testing.T) {
	t.Parallel()
	const n = 5000
	var texts, rows strings.Builder
	rows.WriteString(headerRow)
	for i := range n {
		fmt.Fprintf(&texts, "<si><t>text %d%s</t></si>", i, strings.Repeat("ü", i%97))
		fmt.Fprintf(&rows, `<row r="%d"><c t="s"><v>%d</v></c><c t="s"><v>%d</v></c></row>`, i+2, i, (i*7919)%n)
	}
	p := usual(rows.String()).with("xl/sharedStrings.xml", "<sst>"+texts.String()+"</sst>")
	for _, budget := range []int{1, 1000, 1 << 20} {
		_, got, _, err := read(t, p.bytes(t), xlsx.Options{Strings: budget})
		if err != nil || len(got) != n {
			t.Fatalf("budget %d: %d rows (%v)", budget, len(got), err)
		}
		for i, r := range got {
			for c, k := range []int{i, (i * 7919) % n} {
				if want := "text " + fmt.Sprintf("text %d%s", k, strings.Repeat("ü", k%97)); r.cells[c] != want {
					t.Fatalf("budget %d, row %d: %q, want %q", budget, i, r.cells[c], want)
				}
			}
		}
	}
}

// What is wrong with a file is said so that its owner knows what to do.
func TestRefused(t *testing.T) {
	t.Parallel()
	zipOf := func(p parts) []byte { return p.bytes(t) }
	compound := func(name string) []byte {
		b := make([]byte, 2000)
		copy(b, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1")
		for i, c := range []byte(name) {
			binary.LittleEndian.PutUint16(b[1024+2*i:], uint16(c))
		}
		return b
	}
	many := parts{}
	for i := range 10001 {
		many[fmt.Sprintf("p%d", i)] = ""
	}
	tooMany := parts{}
	for i := range 30000 {
		tooMany[fmt.Sprintf("%s%d", strings.Repeat("p", 300), i)] = ""
	}
	ok := headerRow + `<row r="2"><c r="A2"><v>1</v></c></row>`
	encrypted := zipOf(usual(ok))
	for i := range len(encrypted) - 4 { // the flag, in the directory
		if string(encrypted[i:i+4]) == "PK\x01\x02" {
			encrypted[i+8] |= 1
		}
	}
	damaged := zipOf(usual(ok))
	at := bytes.Index(damaged, []byte("xl/worksheets/sheet1.xml"))
	damaged[at+60] ^= 0xff
	whole := zipOf(usual(ok))
	for _, c := range []struct {
		name string
		body []byte
		o    xlsx.Options
		want string
	}{
		{"CSV", []byte("a,b\n1,2\n"), xlsx.Options{}, "no XLSX workbook"},
		{"cut off", whole[:len(whole)/2], xlsx.Options{}, "damaged or incomplete"},
		{"damaged", damaged, xlsx.Options{}, "damaged"},
		{"another ZIP", zipOf(parts{"a.csv": "a"}), xlsx.Options{}, "ZIP archive and no XLSX"},
		{"ODS", zipOf(parts{"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": "<x/>"}), xlsx.Options{}, "OpenDocument"},
		{"XLS", compound("Workbook"), xlsx.Options{}, "Excel 97-2003"},
		{"password", compound("EncryptedPackage"), xlsx.Options{}, "protected by a password"},
		{"encrypted entries", encrypted, xlsx.Options{}, "protected by a password"},
		{"XLSB", zipOf(usual(ok).with("_rels/.rels", strings.Replace(rootRels, "workbook.xml", "workbook.bin", 1))), xlsx.Options{}, "XLSB"},
		{"document", zipOf(usual(ok).with("xl/workbook.xml", "<document/>")), xlsx.Options{}, "no workbook"},
		{"no sheets", zipOf(usual(ok).with("xl/workbook.xml", "<workbook/>")), xlsx.Options{}, "no sheet with cells"},
		{"sheet without its part", zipOf(usual(ok).with("xl/_rels/workbook.xml.rels", strings.Replace(bookRels, "sheet1", "sheet9", 1))), xlsx.Options{}, "lacks its part"},
		{"missing sheet", whole, xlsx.Options{Sheet: "Other"}, `no sheet "Other"; its sheets are "Data", "Élan & 2"`},
		{"missing number", whole, xlsx.Options{Number: 3}, `no sheet number 3; its sheets are "Data", "Élan & 2"`},
		{"too many parts", zipOf(many), xlsx.Options{}, "10001 parts, the limit is 10000"},
		{"a directory without bound", zipOf(tooMany), xlsx.Options{}, "list of parts is longer"},
		{"bomb", zipOf(usual(headerRow + strings.Repeat(" ", 80<<20))), xlsx.Options{}, "hundredth"},
		{"bomb of shared texts", zipOf(usual(headerRow+`<row><c t="s"><v>0</v></c></row>`).with("xl/sharedStrings.xml", "<sst>"+strings.Repeat("<si/>", 16<<20)+"</sst>")), xlsx.Options{}, "hundredth"},
		{"document type", zipOf(usual("").with("xl/worksheets/sheet1.xml", `<!DOCTYPE x [<!ENTITY a "b">]><worksheet/>`)), xlsx.Options{}, "document type"},
		{"laughs in the strings", zipOf(usual(headerRow+`<row><c t="s"><v>0</v></c></row>`).with("xl/sharedStrings.xml", `<!DOCTYPE l [<!ENTITY l "lol"><!ENTITY m "&l;&l;">]><sst><si><t>&m;</t></si></sst>`)), xlsx.Options{}, "document type"},
		{"unknown entity", zipOf(usual(headerRow + `<row><c><v>&x;</v></c></row>`)), xlsx.Options{}, "unknown entity"},
		{"depth", zipOf(usual(headerRow + strings.Repeat("<a>", 100))), xlsx.Options{}, "nests more than"},
		{"crossed elements", zipOf(usual(headerRow + `<row><c></row></c>`)), xlsx.Options{}, "not open"},
		{"no end", zipOf(usual("").with("xl/worksheets/sheet1.xml", `<worksheet><sheetData>`+headerRow)), xlsx.Options{}, "ends before"},
		{"long tag", zipOf(usual(headerRow + `<row a="` + longText(1<<20) + `"/>`)), xlsx.Options{}, "has a tag of more than"},
		{"rows out of order", zipOf(usual(headerRow + `<row r="3"/><row r="2"/>`)), xlsx.Options{}, "not in order"},
		{"cells out of order", zipOf(usual(headerRow + `<row r="2"><c r="B2"/><c r="A2"/></row>`)), xlsx.Options{}, "wrong place"},
		{"a cell of another row", zipOf(usual(headerRow + `<row r="2"><c r="B3"/></row>`)), xlsx.Options{}, "wrong place"},
		{"too many rows", zipOf(usual(headerRow + `<row r="1048577"><c><v>1</v></c></row>`)), xlsx.Options{}, "1048576 rows"},
		{"too many columns", zipOf(usual(headerRow + `<row r="2"><c r="XFE2"><v>1</v></c></row>`)), xlsx.Options{}, "16384 columns"},
		{"no such text", zipOf(usual(headerRow + `<row r="2"><c t="s"><v>5</v></c></row>`)), xlsx.Options{}, `shared text "5"`},
		{"bad UTF-8", zipOf(usual(headerRow + "<row r=\"2\"><c><v>\xff</v></c></row>")), xlsx.Options{}, "UTF-8"},
		{"merged cells that overlap", zipOf(usual(headerRow + `<row r="2"><c><v>1</v></c><c><v>1</v></c></row></sheetData><mergeCells><mergeCell ref="A2:B2"/><mergeCell ref="B2:C2"/></mergeCells><sheetData>`)), xlsx.Options{FillMerged: true}, "overlap"},
		{"merged cells without bound", zipOf(usual(headerRow + `<row r="2"><c t="inlineStr"><is><t>` + longText(10000) + `</t></is></c></row></sheetData><mergeCells><mergeCell ref="A2:XFD9"/></mergeCells><sheetData>`)), xlsx.Options{FillMerged: true}, "merged cells are filled"},
		{"shared texts without bound", zipOf(usual(headerRow+strings.Repeat(`<row>`+strings.Repeat(`<c t="s"><v>0</v></c>`, 900)+longComment+`</row>`, 3)).with("xl/sharedStrings.xml", "<sst><si><t>"+longText(1<<17)+"</t></si></sst>")), xlsx.Options{}, "1000 times"},
		{"two parts of one name", twice(t), xlsx.Options{}, "two parts"},
		{"overlapping entries", overlapping(t), xlsx.Options{}, "overlap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, _, err := read(t, c.body, c.o)
			e, ok := errors.AsType[*format.Error](err)
			if !ok || e.Code != format.CodeFormat || !strings.Contains(e.Message, c.want) {
				t.Fatalf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}

// longComment keeps a sheet that says the same all the time from being a bomb.
var longComment = "<!--" + longText(100) + "-->"

// longText is text that does not compress well.
func longText(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = 'a' + byte(x>>24)%26
	}
	return string(b)
}

func twice(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	testkit.Must(z.Create("_rels/.rels"))(t)
	testkit.Must(z.Create("_RELS/.rels"))(t)
	z.Close()
	return b.Bytes()
}

// overlapping is an archive of which two entries begin at the same byte.
func overlapping(t *testing.T) []byte {
	t.Helper()
	b := usual("").with("xl/worksheets/sheet2.xml", sheetOf("")).bytes(t)
	var offsets []int
	for i := range len(b) - 4 {
		if string(b[i:i+4]) == "PK\x01\x02" {
			offsets = append(offsets, i+42)
		}
	}
	last, before := offsets[len(offsets)-1], offsets[len(offsets)-2] // the two sheets: names of one length
	copy(b[last:last+4], b[before:before+4])
	return b
}

// A sheet without any row is a file without a row.
func TestEmptySheet(t *testing.T) {
	t.Parallel()
	for _, sheet := range []string{sheetOf(""), sheetOf(`<row r="5" ht="20"/>`), `<worksheet><sheetData/></worksheet>`, `<worksheet/>`} {
		_, _, _, err := read(t, usual("").with("xl/worksheets/sheet1.xml", sheet).bytes(t), xlsx.Options{})
		if err != io.EOF {
			t.Errorf("%s: %v, want EOF", sheet, err)
		}
	}
	_, _, _, err := read(t, nil, xlsx.Options{})
	if e, ok := errors.AsType[*format.Error](err); !ok || e.Code != format.CodeSource {
		t.Errorf("an empty file: %v", err)
	}
}

// The text of a part may be in UTF-16.
func TestUTF16(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("\xFF\xFE")
	for _, r := range sheetOf(headerRow + `<row><c t="inlineStr"><is><t>é</t></is></c></row>`) {
		b.WriteByte(byte(r))
		b.WriteByte(byte(r >> 8))
	}
	_, rows, _, err := read(t, usual("").with("xl/worksheets/sheet1.xml", b.String()).bytes(t), xlsx.Options{})
	if err != nil || len(rows) != 1 || rows[0].cells[0] != "text é" {
		t.Fatalf("%q (%v)", shape(rows), err)
	}
}

// Rows before one that cannot be read are given.
func TestRowsBeforeAnError(t *testing.T) {
	t.Parallel()
	_, rows, _, err := read(t, usual(headerRow+`<row r="2"><c><v>1</v></c></row><row r="3"><c t="s"><v>1</v></c></row>`).bytes(t), xlsx.Options{})
	e, ok := errors.AsType[*format.Error](err)
	if len(rows) != 1 || !ok || e.Row != 3 {
		t.Fatalf("%q (%v)", shape(rows), err)
	}
}

// TestSheets reads a workbook that a spreadsheet library wrote.
func TestSheets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testkit.Shared(t, "cases", "flow", "xlsx-two-sheets", "input"), "book.xlsx")
	names, err := xlsx.Sheets(t.Context(), path)
	if err != nil || !slices.Equal(names, []string{"One", "Two"}) {
		t.Fatalf("%q (%v)", names, err)
	}
	r := testkit.Must(xlsx.NewReader(t.Context(), path, xlsx.Options{Number: 2}))(t)
	defer r.Close()
	header, rows, err := readAll(r)
	if want := []string{"2: text p | number 1.5", "3: text q | integer 2"}; err != nil || !slices.Equal(header, []string{"c", "d"}) || !slices.Equal(shape(rows), want) {
		t.Fatalf("%q %q (%v)", header, shape(rows), err)
	}
}

// FuzzReader wants no panic, no endless file and rows that are in order, whatever
// the sheet and the shared texts are.
func FuzzReader(f *testing.F) {
	f.Add([]byte(sheetOf(headerRow+`<row r="2"><c r="A2" s="2"><v>1.5</v></c><c t="s"><v>0</v></c></row>`)), []byte(`<sst><si><t>x</t></si></sst>`), true)
	f.Add([]byte(`<worksheet><sheetData><row><c t="d"><v>2020-01-02</v></c></row></sheetData><mergeCells><mergeCell ref="A1:B2"/></mergeCells></worksheet>`), []byte(""), false)
	f.Fuzz(func(t *testing.T, sheet, texts []byte, shown bool) {
		p := usual("").with("xl/worksheets/sheet1.xml", string(sheet)).with("xl/sharedStrings.xml", string(texts))
		r, err := xlsx.NewReader(t.Context(), write(t, p.bytes(t)), xlsx.Options{Temp: t.TempDir(), FillMerged: true, Shown: shown, Strings: 16})
		if err != nil {
			if _, ok := errors.AsType[*format.Error](err); !ok {
				t.Fatal(err)
			}
			return
		}
		defer r.Close()
		_, err = r.Header()
		last := int64(0)
		for err == nil {
			b, nextErr := r.Next()
			if err = nextErr; err != nil {
				break
			}
			for i := range b.Rows() {
				if b.Number(i) <= last || b.Number(i) > xlsx.MaxRows || b.Width(i) > xlsx.MaxColumns {
					t.Fatalf("row %d after %d", b.Number(i), last)
				}
				last = b.Number(i)
			}
			b.Release()
		}
		if _, ok := errors.AsType[*format.Error](err); err != io.EOF && !ok {
			t.Fatal(err)
		}
	})
}

// FuzzContainer wants no panic for any file.
func FuzzContainer(f *testing.F) {
	f.Add(usual(headerRow).bytes(f))
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := xlsx.Sheets(t.Context(), write(t, body))
		if _, ok := errors.AsType[*format.Error](err); err != nil && !ok {
			t.Fatal(err)
		}
	})
}
