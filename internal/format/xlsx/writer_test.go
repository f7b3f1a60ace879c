package xlsx_test

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/xlsx"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
	"github.com/datahq/specstore/internal/testkit"
)

// schemaOf makes a schema of fields "name type".
func schemaOf(t testing.TB, fields ...string) *tableschema.Schema {
	t.Helper()
	var list []any
	for _, f := range fields {
		name, kind, _ := strings.Cut(f, " ")
		list = append(list, map[string]any{"name": name, "type": kind})
	}
	return testkit.Must(tableschema.Parse(map[string]any{"fields": list}))(t)
}

// null is a cell without a value in the rows of a test.
const null = "\x00null"

func batchOf(rows ...[]string) *stream.Batch {
	b := &stream.Batch{}
	for i, cells := range rows {
		for _, c := range cells {
			if c == null {
				b.AppendNull()
			} else {
				b.Append([]byte(c))
			}
		}
		b.EndRow(int64(i + 2))
	}
	return b
}

func written(t testing.TB, sheet string, schema *tableschema.Schema, rows ...[]string) (body []byte, notes []string) {
	t.Helper()
	var out bytes.Buffer
	w := testkit.Must(xlsx.NewWriter(&out, sheet, schema))(t)
	if err := w.WriteBatch(batchOf(rows...)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), w.Notes()
}

// TestWriteCells writes a value and reads it again: with its type where Excel can
// hold it, else as its text, and then it is noted.
func TestWriteCells(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, value, want string }{
		{"integer", "12", "integer 12"},
		{"integer", "-007", "integer -7"},
		{"integer", "123456789012345", "integer 123456789012345"},
		{"integer", "1234567890123456", "text 1234567890123456"},
		{"integer", "1000000000000000000000", "integer 1000000000000000000000"},
		{"number", "1.50", "number 1.5"},
		{"number", "1E+3", "integer 1000"},
		{"number", "0.1", "number 0.1"},
		{"number", "0.30000000000000004", "text 0.30000000000000004"},
		{"number", "1E400", "text 1E400"},
		{"number", "-2.5E-300", "text -2.5E-300"},
		{"number", "NaN", "text NaN"},
		{"number", "-INF", "text -INF"},
		{"year", "2020", "integer 2020"},
		{"boolean", "true", "boolean true"},
		{"boolean", "false", "boolean false"},
		{"date", "2020-01-02", "date 2020-01-02"},
		{"date", "1900-03-01", "date 1900-03-01"},
		{"date", "1900-02-28", "text 1900-02-28"},
		{"date", "0001-01-01", "text 0001-01-01"},
		{"date", "9999-12-31", "date 9999-12-31"},
		{"datetime", "2020-01-02T03:04:05", "datetime 2020-01-02T03:04:05"},
		{"datetime", "2020-01-02T03:04:05.678", "datetime 2020-01-02T03:04:05.678"},
		{"datetime", "2020-01-02T03:04:05.6789", "text 2020-01-02T03:04:05.6789"},
		{"datetime", "2020-01-02T03:04:05Z", "text 2020-01-02T03:04:05Z"},
		{"datetime", "9999-12-31T23:59:59.999", "datetime 9999-12-31T23:59:59.999"},
		{"datetime", "1899-12-31T00:00:00", "text 1899-12-31T00:00:00"},
		{"time", "00:00:00", "time 00:00:00"},
		{"time", "23:59:59", "time 23:59:59"},
		{"time", "24:00:00", "text 24:00:00"},
		{"string", "=1+1", "text =1+1"},
		{"string", "12", "text 12"},
		{"string", "", "text"},
		{"string", null, "null"},
		{"string", " a\r\nb\tc\x01_x0041_\uFFFE<&>\"]]> ", "text  a\r\nb\tc\x01_x0041_\uFFFE<&>\"]]> "},
		{"string", "😀é", "text 😀é"},
		{"any", "1", "text 1"},
		{"object", `{"a":1}`, `text {"a":1}`},
		{"duration", "P1D", "text P1D"},
	} {
		t.Run(c.kind+" "+c.value, func(t *testing.T) {
			t.Parallel()
			body, notes := written(t, "x", schemaOf(t, "f "+c.kind, "last string"), []string{c.value, "."})
			header, rows, _, err := read(t, body, xlsx.Options{})
			if err != nil || !slices.Equal(header, []string{"f", "last"}) || len(rows) != 1 || rows[0].cells[0] != c.want {
				t.Fatalf("%q %q (%v), want %q", header, shape(rows), err, c.want)
			}
			lost := strings.HasPrefix(c.want, "text") && c.kind != "string" && c.kind != "any" && c.kind != "object" && c.kind != "duration"
			if (len(notes) == 1) != lost {
				t.Fatalf("notes %q", notes)
			}
		})
	}
}

// TestRoundTrip writes rows by chance, reads them again, casts them by the schema and
// has the same values; and the same rows give the same bytes.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(values ...string) string { return values[random.IntN(len(values))] }
	letters := []rune("aé😀_x0041\r\n\t\x00\x1f<&>\"' =\uFFFF")
	kinds := []struct {
		field string
		value func() string
	}{
		{"s string", func() string {
			text := make([]rune, random.IntN(12))
			for i := range text {
				text[i] = letters[random.IntN(len(letters))]
			}
			return string(text)
		}},
		{"i integer", func() string { return fmt.Sprint(random.Int64() >> random.IntN(64)) }},
		{"n number", func() string {
			return fmt.Sprintf("%d.%dE%d", random.IntN(1000), 1+random.IntN(1e9), random.IntN(40)-20)
		}},
		{"d date", func() string {
			return fmt.Sprintf("%04d-%02d-%02d", 1800+random.IntN(400), 1+random.IntN(12), 1+random.IntN(28))
		}},
		{"m datetime", func() string {
			return fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02d%s", 1890+random.IntN(8000), 1+random.IntN(12), 1+random.IntN(28), random.IntN(24), random.IntN(60), random.IntN(60), pick("", ".123", ".5", "Z"))
		}},
		{"t time", func() string {
			return fmt.Sprintf("%02d:%02d:%02d", random.IntN(24), random.IntN(60), random.IntN(60))
		}},
		{"b boolean", func() string { return pick("true", "false") }},
	}
	var fields []string
	for _, k := range kinds {
		fields = append(fields, k.field)
	}
	schema := schemaOf(t, append(fields, "end string")...)
	var rows [][]string
	for range 3000 {
		var cells []string
		for _, k := range kinds {
			if v := k.value(); random.IntN(8) > 0 && v != "" {
				cells = append(cells, v)
			} else {
				cells = append(cells, null)
			}
		}
		rows = append(rows, append(cells, "."))
	}
	body, _ := written(t, "Round trip", schema, rows...)
	again, _ := written(t, "Round trip", schema, rows...)
	if !bytes.Equal(body, again) {
		t.Fatal("the same rows give other bytes")
	}
	r := testkit.Must(xlsx.NewReader(t.Context(), write(t, body), xlsx.Options{}))(t)
	defer r.Close()
	testkit.Must(r.Header())(t)
	n := 0
	casters := make([]*tableschema.Caster, len(schema.Fields))
	for i := range casters {
		casters[i] = testkit.Must(schema.Caster(i, tableschema.CastOptions{}))(t)
	}
	for {
		b, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Rows() {
			for c, want := range rows[n] {
				if b.Null(i, c) != (want == null) {
					t.Fatalf("row %d, column %d: null is %v of %q", n, c, b.Null(i, c), want)
				}
				if want == null {
					continue
				}
				text, _, cellErr := casters[c].CastKind(b.Kind(i, c), b.Cell(i, c))
				if cellErr != nil {
					t.Fatalf("row %d, column %d: %v", n, c, cellErr)
				}
				got := casters[c].AppendKey(nil, text)
				if key := casters[c].AppendKey(nil, []byte(want)); !bytes.Equal(got, key) {
					t.Fatalf("row %d, column %d: %q, want %q", n, c, text, want)
				}
			}
			n++
		}
		b.Release()
	}
	if n != len(rows) {
		t.Fatalf("%d rows, want %d", n, len(rows))
	}
}

// What Excel cannot hold is refused with the limit.
func TestWriteLimits(t *testing.T) {
	t.Parallel()
	refused := func(err error, want string) {
		t.Helper()
		e, ok := errors.AsType[*format.Error](err)
		if !ok || !strings.Contains(e.Message, want) {
			t.Errorf("error %v, want one that says %s", err, want)
		}
	}
	fields := make([]string, xlsx.MaxColumns)
	for i := range fields {
		fields[i] = fmt.Sprintf("c%d string", i)
	}
	if _, err := xlsx.NewWriter(io.Discard, "x", schemaOf(t, fields...)); err != nil {
		t.Error(err)
	}
	_, err := xlsx.NewWriter(io.Discard, "x", schemaOf(t, strings.Repeat("x", 32768)+" string"))
	refused(err, "32767")

	w := testkit.Must(xlsx.NewWriter(io.Discard, "x", schemaOf(t, "a string")))(t)
	if err := w.WriteBatch(batchOf([]string{strings.Repeat("é", 32767)})); err != nil {
		t.Error(err)
	}
	refused(w.WriteBatch(batchOf([]string{strings.Repeat("😀", 16384)})), "32767")

	w = testkit.Must(xlsx.NewWriter(io.Discard, "x", schemaOf(t, "a string")))(t)
	rows := make([][]string, 1<<14)
	for i := range rows {
		rows[i] = []string{null}
	}
	batch := batchOf(rows...)
	for range xlsx.MaxRows/len(rows) - 1 {
		if err := w.WriteBatch(batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteBatch(batch.Head(len(rows)-1, 0)); err != nil {
		t.Fatal(err)
	}
	refused(w.WriteBatch(batchOf([]string{"1"})), "1048576")
}

// A table that says the same all the time is not taken for a bomb, and reads the same.
func TestWriteRepetition(t *testing.T) {
	t.Parallel()
	same := strings.Repeat("the same text ", 2000)
	rows := make([][]string, 300)
	for i := range rows {
		rows[i] = []string{same}
	}
	body, _ := written(t, "x", schemaOf(t, "a string"), rows...)
	_, got, _, err := read(t, body, xlsx.Options{})
	if err != nil || len(got) != len(rows) || got[len(rows)-1].cells[0] != "text "+same {
		t.Fatalf("%d rows (%v)", len(got), err)
	}
	if ratio := len(rows) * len(same) / len(body); ratio < 20 || ratio > 90 {
		t.Errorf("compressed to one of %d", ratio)
	}
}

func TestSheetName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, want string }{
		{"prices", "prices"},
		{"", "Sheet1"},
		{"a/b:c*?[d]\\", "a_b_c___d__"},
		{"'quoted'", "quoted"},
		{"history", "history_"},
		{strings.Repeat("😀", 20), strings.Repeat("😀", 15)},
		{strings.Repeat("x", 30) + " y", strings.Repeat("x", 30)},
		{`<"&>`, `<"&>`},
		{"a\x00\xff", "a__"},
	} {
		body, _ := written(t, c.name, schemaOf(t, "a string"))
		names, err := xlsx.Sheets(t.Context(), write(t, body))
		if err != nil || !slices.Equal(names, []string{c.want}) {
			t.Errorf("%q: %q (%v), want %q", c.name, names, err, c.want)
		}
	}
}

// Every part is XML that another reader takes, has no time and no formula.
func TestWriteParts(t *testing.T) {
	t.Parallel()
	body, _ := written(t, "x", schemaOf(t, "a string", "d date"), []string{"=HYPERLINK(\"x\")", "2020-01-02"}, []string{"a\x02b", null})
	z := testkit.Must(zip.NewReader(bytes.NewReader(body), int64(len(body))))(t)
	for _, f := range z.File {
		if !f.Modified.Equal(f.Modified.UTC()) || f.Modified.Year() != 1980 {
			t.Errorf("%s is of %v", f.Name, f.Modified)
		}
		r := testkit.Must(f.Open())(t)
		d := xml.NewDecoder(r)
		for {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "f" {
				t.Errorf("%s has a formula", f.Name)
			}
		}
		r.Close()
	}
}

// FuzzText wants every text that a cell can hold to come back.
func FuzzText(f *testing.F) {
	f.Add("a\r\n_x000D_ ")
	f.Add("_x005F_x0041_")
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "?")
		body, _ := written(t, "x", schemaOf(t, "a string", "b string"), []string{text, "."})
		_, rows, _, err := read(t, body, xlsx.Options{})
		want := cell(stream.Text, text)
		if err != nil || len(rows) != 1 || rows[0].cells[0] != want {
			t.Fatalf("%q (%v), want %q", shape(rows), err, want)
		}
	})
}

// benchRows are rows as tables have them.
func benchBook(b *testing.B, rows int) []byte {
	b.Helper()
	var out bytes.Buffer
	w := testkit.Must(xlsx.NewWriter(&out, "x", schemaOf(b, "id integer", "name string", "price number", "day date", "ok boolean")))(b)
	batch := make([][]string, 1000)
	for from := 0; from < rows; from += len(batch) {
		for i := range batch {
			n := from + i
			batch[i] = []string{fmt.Sprint(n), fmt.Sprintf("name %d", n*7919%10007), fmt.Sprintf("%d.%02d", n%1000, n%100), fmt.Sprintf("2020-%02d-%02d", 1+n%12, 1+n%28), "true"}
		}
		if err := w.WriteBatch(batchOf(batch...)); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// sheetBytes is the length of the sheet's XML.
func sheetBytes(b *testing.B, body []byte) (*zip.File, int64) {
	b.Helper()
	z := testkit.Must(zip.NewReader(bytes.NewReader(body), int64(len(body))))(b)
	f := z.File[len(z.File)-1]
	return f, int64(f.UncompressedSize64)
}

func BenchmarkRead(b *testing.B) {
	const rows = 20000
	body := benchBook(b, rows)
	path := write(b, body)
	_, n := sheetBytes(b, body)
	b.SetBytes(n)
	b.ReportAllocs()
	for b.Loop() {
		r := testkit.Must(xlsx.NewReader(b.Context(), path, xlsx.Options{}))(b)
		for {
			batch, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			batch.Release()
		}
		r.Close()
	}
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkXMLDecoder reads the tokens of the same sheet with encoding/xml, and makes
// nothing of them.
func BenchmarkXMLDecoder(b *testing.B) {
	body := benchBook(b, 20000)
	f, n := sheetBytes(b, body)
	b.SetBytes(n)
	b.ReportAllocs()
	for b.Loop() {
		r := testkit.Must(f.Open())(b)
		d := xml.NewDecoder(r)
		for {
			if _, err := d.RawToken(); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
		r.Close()
	}
}

func BenchmarkWrite(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		benchBook(b, 20000)
	}
	b.ReportMetric(float64(b.N)*20000/b.Elapsed().Seconds(), "rows/s")
}
