package xlsx_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/formattest"
	"github.com/datahq/specstore/internal/format/xlsx"
	"github.com/datahq/specstore/internal/stream"
)

// odsFile is a spreadsheet with these tables.
func odsFile(t testing.TB, tables string, more ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	content := `<?xml version="1.0"?><office:document-content xmlns:office="o" xmlns:table="t" xmlns:text="x"><office:body><office:spreadsheet>` + tables + `</office:spreadsheet></office:body></office:document-content>`
	for i, name := range append([]string{"mimetype", "application/vnd.oasis.opendocument.spreadsheet", "content.xml", content}, more...) {
		if i%2 == 1 {
			continue
		}
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(append([]string{"mimetype", "", "content.xml", content}, more...)[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "t.ods")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func odsRows(t testing.TB, path string, o xlsx.Options) (header, rows []string, err error) {
	t.Helper()
	r, err := xlsx.NewODSReader(t.Context(), path, o)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	header, err = formattest.EachRow(r, func(b *stream.Batch, i int) error {
		var cells []string
		for c := range b.Width(i) {
			cells = append(cells, fmt.Sprintf("%d %s", b.Kind(i, c), b.Cell(i, c)))
		}
		rows = append(rows, fmt.Sprintf("%d: %s", b.Number(i), strings.Join(cells, " | ")))
		return nil
	})
	return header, rows, err
}

// TestODS: cells of an OpenDocument spreadsheet have the types that the file says.
func TestODS(t *testing.T) {
	t.Parallel()
	cell := func(kind, attrs, text string) string {
		return fmt.Sprintf(`<table:table-cell office:value-type="%s" %s><text:p>%s</text:p></table:table-cell>`, kind, attrs, text)
	}
	s := func(text string) string { return cell("string", "", text) }
	row := func(cells ...string) string {
		return "<table:table-row>" + strings.Join(cells, "") + "</table:table-row>"
	}
	table := func(name string, rows ...string) string {
		return `<table:table table:name="` + name + `">` + strings.Join(rows, "") + `</table:table>`
	}
	head := row(s("a"), s("b"))
	const null, text, integer, number, boolean, date, clock, datetime = stream.Null, stream.Text, stream.Integer, stream.Number, stream.Boolean, stream.Date, stream.Time, stream.Datetime
	is := func(kind stream.Kind, text string) string { return fmt.Sprintf("%d %s", kind, text) }
	for _, c := range []struct {
		name, tables string
		o            xlsx.Options
		header       []string
		rows         []string
	}{
		{"numbers", table("S", head, row(cell("float", `office:value="1"`, "1"), cell("float", `office:value="2.50"`, "2,5")), row(cell("percentage", `office:value="0.5"`, "50%"), cell("currency", `office:value="1234.5"`, "1.234,50 €"))), xlsx.Options{}, []string{"a", "b"}, []string{"2: " + is(integer, "1") + " | " + is(number, "2.5"), "3: " + is(number, "0.5") + " | " + is(number, "1234.5")}},
		{"dates", table("S", head, row(cell("date", `office:date-value="2020-01-02"`, "2.1.20"), cell("date", `office:date-value="2020-01-02T03:04:05"`, "x")), row(cell("time", `office:time-value="PT03H04M05S"`, "x"), cell("time", `office:time-value="PT30H00M00S"`, "x"))), xlsx.Options{}, []string{"a", "b"}, []string{"2: " + is(date, "2020-01-02") + " | " + is(datetime, "2020-01-02T03:04:05"), "3: " + is(clock, "03:04:05") + " | " + is(text, "PT30H")}},
		{"booleans and texts", table("S", head, row(cell("boolean", `office:boolean-value="true"`, "WAHR"), `<table:table-cell office:value-type="string"><text:p>x<text:s text:c="2"/>y</text:p><text:p>z<text:span>!</text:span></text:p></table:table-cell>`)), xlsx.Options{}, []string{"a", "b"}, []string{"2: " + is(boolean, "true") + " | " + is(text, "x  y\nz!")}},
		{"a comment is no text", table("S", head, row(`<table:table-cell office:value-type="string"><office:annotation><text:p>note</text:p></office:annotation><text:p>x</text:p></table:table-cell>`, s("y"))), xlsx.Options{}, []string{"a", "b"}, []string{"2: " + is(text, "x") + " | " + is(text, "y")}},
		{"repeated cells and rows", table("S", head, `<table:table-row table:number-rows-repeated="2"><table:table-cell table:number-columns-repeated="2" office:value-type="float" office:value="7"/></table:table-row>`, `<table:table-row table:number-rows-repeated="3"><table:table-cell table:number-columns-repeated="16384"/></table:table-row>`, row(s("x")), `<table:table-row table:number-rows-repeated="1048000"><table:table-cell/></table:table-row>`), xlsx.Options{}, []string{"a", "b"}, []string{"2: " + is(integer, "7") + " | " + is(integer, "7"), "3: " + is(integer, "7") + " | " + is(integer, "7"), "4: " + is(null, ""), "5: " + is(null, ""), "6: " + is(null, ""), "7: " + is(text, "x") + " | " + is(null, "")}},
		{"merged cells", table("S", head, row(s("x"), `<table:covered-table-cell office:value-type="string"><text:p>hidden</text:p></table:covered-table-cell>`)), xlsx.Options{}, []string{"a", "b"}, []string{"2: " + is(text, "x") + " | " + is(null, "")}},
		{"header rows in an element of their own", table("S", "<table:table-header-rows>"+head+"</table:table-header-rows>", "<table:table-row-group>"+row(s("x"), s("y"))+"</table:table-row-group>"), xlsx.Options{}, []string{"a", "b"}, []string{"2: " + is(text, "x") + " | " + is(text, "y")}},
		{"a sheet by name", table("S", head) + table("T", row(s("c")), row(s("z"))), xlsx.Options{Sheet: "T"}, []string{"c"}, []string{"2: " + is(text, "z")}},
		{"a sheet by number", table("S", head) + table("T", row(s("c")), row(s("z"))), xlsx.Options{Number: 2}, []string{"c"}, []string{"2: " + is(text, "z")}},
		{"a sheet named as a number", table("S", head) + table("U", head) + table("2", row(s("c")), row(s("z"))), xlsx.Options{Sheet: "2"}, []string{"c"}, []string{"2: " + is(text, "z")}},
		{"a title", table("S", row(s("Levels")), row(), head, row(s("x"), cell("float", `office:value="1"`, "1"))), xlsx.Options{Titles: true}, []string{"a", "b"}, []string{"4: " + is(text, "x") + " | " + is(integer, "1")}},
	} {
		header, rows, err := odsRows(t, odsFile(t, c.tables), c.o)
		if err != nil || !slices.Equal(header, c.header) || !slices.Equal(rows, c.rows) {
			t.Errorf("%s: header %q, rows %q (%v), want %q", c.name, header, rows, err, c.rows)
		}
	}
	for _, c := range []struct{ name, path, says string }{
		{"no such sheet", odsFile(t, table("S", head)), `no sheet "X"`},
		{"encrypted", odsFile(t, table("X", head), "META-INF/manifest.xml", `<m><encryption-data/></m>`), "password"},
		{"a document type", odsFile(t, `<!DOCTYPE x>`), "document type"},
		{"rows without bound", odsFile(t, table("X", head, `<table:table-row table:number-rows-repeated="2000000">`+s("x")+`</table:table-row>`)), "1048576 rows"},
		{"columns without bound", odsFile(t, table("X", head, row(`<table:table-cell table:number-columns-repeated="20000" office:value-type="float" office:value="1"/>`))), "16384 columns"},
		{"a negative repetition", odsFile(t, table("X", head, `<table:table-row table:number-rows-repeated="-1">`+s("x")+`</table:table-row>`)), "number of equal rows"},
	} {
		_, _, err := odsRows(t, c.path, xlsx.Options{Sheet: "X"})
		if e, ok := errors.AsType[*format.Error](err); !ok || !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

// FuzzODS: no content ends the process.
func FuzzODS(f *testing.F) {
	for _, s := range []string{
		`<table:table table:name="S"><table:table-row><table:table-cell office:value-type="float" office:value="1"/></table:table-row></table:table>`,
		`<table:table><table:table-row table:number-rows-repeated="3"><table:table-cell table:number-columns-repeated="5"><text:p>x<text:s text:c="3"/></text:p></table:table-cell></table:table-row></table:table>`,
		`<table:table><table:table-row><table:table-cell office:value-type="time" office:time-value="PT1H"/></table:table-row></table:table>`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, tables string) {
		_, _, err := odsRows(t, odsFile(t, tables), xlsx.Options{Titles: true})
		if _, ok := errors.AsType[*format.Error](err); err != nil && !ok && err.Error() != "EOF" {
			t.Fatal(err)
		}
	})
}
