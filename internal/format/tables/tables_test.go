package tables_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/datahq/specstore/internal/format/formattest"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/parquet"
	"github.com/datahq/specstore/internal/format/sqlite"
	"github.com/datahq/specstore/internal/format/tables"
	"github.com/datahq/specstore/internal/format/xlsx"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
	"github.com/datahq/specstore/internal/testkit"
)

// read opens a file as a table and gives its rows, cells parted by bars.
func read(t testing.TB, body []byte, resource map[string]any, named string) (labels, rows []string, err error) {
	t.Helper()
	temp := t.TempDir()
	src := tables.Source{Reader: bytes.NewReader(body), Whole: tables.Spool(t.Context(), bytes.NewReader(body), temp)}
	r, err := tables.Open(t.Context(), src, tables.Options{Resource: resource, Format: named, Temp: temp})
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	labels, err = formattest.EachRow(r, func(b *stream.Batch, i int) error {
		var cells []string
		for c := range b.Width(i) {
			cells = append(cells, string(b.Cell(i, c)))
		}
		rows = append(rows, strings.Join(cells, "|"))
		return nil
	})
	return labels, rows, err
}

func gz(t testing.TB, parts ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, part := range parts { // a member each
		w := gzip.NewWriter(&b)
		_, err := w.Write([]byte(part))
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// zipped is an archive of names and bodies.
func zipped(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		f, err := w.Create(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestNamesOfSQLite: a database is known by each of its names, packed as well.
func TestNamesOfSQLite(t *testing.T) {
	t.Parallel()
	body := database(t)
	for _, name := range []string{"sqlite", "sqlite3", "db", "DB"} {
		if !tables.Readable(strings.ToLower(name)) {
			t.Errorf("%s is not readable", name)
		}
		for ending, body := range map[string][]byte{"": body, ".gz": gz(t, string(body)), ".zip": zipped(t, "x."+name, string(body))} {
			labels, rows, err := read(t, body, map[string]any{"path": "x." + name + ending}, name+ending)
			if err != nil || !slices.Equal(labels, []string{"a", "b"}) || !slices.Equal(rows, []string{"1|x"}) {
				t.Errorf("%s%s: %q %q %v", name, ending, labels, rows, err)
			}
		}
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	const csv, js = "a,b\n1,x\n", `[{"a":1,"b":"x"}]`
	random := rand.New(rand.NewPCG(1, 2))
	var long strings.Builder
	for range 20_000 {
		fmt.Fprintf(&long, "%d,%d\n", random.Uint32(), random.Uint32())
	}
	for _, c := range []struct {
		name     string
		body     []byte
		resource m
		named    string
		labels   string
		rows     int
	}{
		{"csv", []byte(csv), m{}, "csv", "a|b", 1},
		{"json", []byte(js), m{}, "json", "a|b", 1},
		{"the format that is declared", []byte(js), m{"format": "JSON"}, "csv", "a|b", 1},
		{"ndjson", []byte(`{"a":1}` + "\n" + `{"a":2}`), m{}, "ndjson", "a", 2},
		{"jsonl", []byte(`{"a":1}`), m{}, "jsonl", "a", 1},
		{"geojson that is declared", []byte(`{"features":[{"properties":{"n":1}}]}`), m{"format": "geojson"}, "", "n|geometry", 1},
		{"geojson with a schema", []byte(`{"features":[{"properties":{"n":1}}]}`), m{"schema": m{}}, "geojson", "n|geometry", 1},
		{"property of the resource", []byte(`{"r":[[1],[2]]}`), m{"property": "r"}, "json", "1", 1},
		{"item keys", []byte(js), m{"dialect": m{"itemKeys": []any{"b"}, "itemType": "object"}}, "json", "b", 1},
		{"no header in arrays", []byte(`[[1],[2]]`), m{"dialect": m{"header": false}}, "json", "", 2},

		{"gzip by its name", gz(t, csv), m{"path": "x.csv.gz"}, "gz", "a|b", 1},
		{"gzip by its format", gz(t, js), m{}, "json.gz", "a|b", 1},
		{"gzip that is declared", gz(t, csv), m{"compression": "gzip", "path": "x.csv"}, "csv", "a|b", 1},
		{"gzip by its bytes", gz(t, csv), m{"path": "x.csv"}, "csv", "a|b", 1},
		{"gzip by its bytes alone", gz(t, csv), m{}, "", "a|b", 1},
		{"a URL", gz(t, js), m{"path": "https://example.com/x.json.gz?a=b.csv#c"}, "", "a|b", 1},
		{"members of gzip", gz(t, "a,b\n1,", "x\n2,y"), m{}, "csv.gz", "a|b", 2},
		{"gzip that packs well", gz(t, "a\n"+strings.Repeat("0\n", 1<<20)), m{}, "csv.gz", "a", 1 << 20},
		{"zip by its name", zipped(t, "x.csv", csv), m{"path": "x.zip"}, "zip", "a|b", 1},
		{"zip of what its file's name says", zipped(t, "d/x.json", js), m{"path": "x.zip"}, "zip", "a|b", 1},
		{"zip that is declared", zipped(t, "x.txt", csv), m{"compression": "zip"}, "csv", "a|b", 1},
		{"zip with clutter", zipped(t, "__MACOSX/._x.csv", "?", "d/", "", "d/.DS_Store", "?", "d/x.csv", csv), m{}, "csv.zip", "a|b", 1},
		{"one of several", zipped(t, "x.csv", "?", "y.csv", csv), m{"dialect": m{"innerpath": "y.csv"}}, "zip", "a|b", 1},
		{"a small one that packs well", zipped(t, "x.csv", "a\n"+strings.Repeat("0\n", 40_000)), m{}, "zip", "a", 40_000},
		{"a large one", zipped(t, "x.csv", "a,b\n"+long.String()), m{}, "zip", "a|b", 20_000},

		{"headers, a number", []byte("junk;1\njunk\na;b\n1;x\n"), m{"headers": 3}, "csv", "a|b", 1},
		{"headers, a text", []byte("junk\na,b\n1,x\n"), m{"headers": "2"}, "csv", "a|b", 1},
		{"headers, two rows", []byte("a,b\nc,d\n1,x\n"), m{"headers": []any{json.Number("1"), 2}}, "csv", "a c|b d", 1},
		{"headers, names", []byte("1,x\n2,y\n"), m{"headers": []any{" a ", "b"}}, "csv", "a|b", 2},
		{"headers, none", []byte("1,x\n2,y\n"), m{"headers": 0}, "csv", "", 2},
		{"rows that are skipped", []byte("junk\n\na;b\n1;x\n"), m{"skip_rows": 2}, "csv", "a|b", 1},
		{"rows that are skipped before the header", []byte("junk\nmore\na;b\n1;x\n"), m{"skip_rows": 1, "headers": 2}, "csv", "a|b", 1},
		{"tabs", []byte("a\tb\n1\tx,y\n"), m{}, "tsv", "a|b", 1},
		{"tabs, and no header", []byte("1\tx,y\n2\tz\n"), m{"dialect": m{"header": false}}, "tsv", "", 2},
		{"tabs and comments", []byte("# a,b\na\tb\n#\n1\tx\n"), m{"dialect": m{"commentChar": "#"}}, "tsv", "a|b", 1},
		{"UTF-16", []byte("\xff\xfea\x00,\x00b\x00\n\x001\x00,\x00x\x00"), m{}, "csv", "a|b", 1},
		{"UTF-16 that is declared", []byte("\x00a\x00;\x00b\x00\n\x001\x00;\x00\xe9"), m{"encoding": "utf-16be"}, "csv", "a|b", 1},
		{"comment rows", []byte("no\na,b\nno,no\n1,x\n"), m{"dialect": m{"commentRows": []any{1, 3}}}, "csv", "a|b", 1},
		{"header rows of the dialect", []byte("a,b\nno\nc,d\n1,x\n"), m{"dialect": m{"headerRows": []any{1, 3}, "headerJoin": "/"}}, "csv", "a/c|b/d", 1},
		{"another quote and escape", []byte("a,b\n'1,2',x\\,y\n"), m{"dialect": m{"quoteChar": "'", "escapeChar": "\\"}}, "csv", "a|b", 1},
		{"labels for a sniffed file", []byte("1;x\n2;y\n"), m{"headers": []any{"a", "b"}}, "csv", "a|b", 2},

		{"another line end", []byte("a,b|1,\"x|\"|2,y\n|"), m{"dialect": m{"lineTerminator": "|"}}, "csv", "a|b", 2},
		{"a comment", []byte("#x\na,b\n#y\n1,x\n"), m{"dialect": m{"commentChar": "#"}}, "csv", "a|b", 1},
		{"several header rows", []byte("a,b\nc,\n1,x\n"), m{"dialect": m{"headerRows": []any{1, 2}, "headerJoin": "-"}}, "csv", "a-c|b", 1},
	} {
		labels, rows, err := read(t, c.body, c.resource, c.named)
		if err != nil || strings.Join(labels, "|") != c.labels || len(rows) != c.rows {
			t.Errorf("%s: %q, %d rows %.100q, %v", c.name, labels, len(rows), rows, err)
		}
	}
}

// manyFiles is an archive of a hundred thousand empty files.
func manyFiles(t testing.TB) []byte {
	t.Helper()
	list := make([]string, 0, 200_000)
	for i := range cap(list) / 2 {
		list = append(list, fmt.Sprintf("%d.csv", i), "")
	}
	return zipped(t, list...)
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	const csv = "a,b\n1,x\n"
	whole := gz(t, csv+strings.Repeat("1,x\n", 1000))
	flipped := slices.Clone(whole)
	flipped[len(flipped)/2] ^= 0xff
	for _, c := range []struct {
		name     string
		body     []byte
		resource m
		named    string
		code     string
		want     string
	}{
		{"an unknown format", nil, m{}, "pdf", format.CodeFormat, `"pdf" cannot be read as a table`},
		{"geojson by its name alone", []byte(`{"features":[]}`), m{}, "geojson", format.CodeFormat, "where the resource says so"},
		{"gzip cut off", whole[:len(whole)-10], m{}, "csv.gz", format.CodeSource, "ends too early"},
		{"gzip that is damaged", flipped, m{}, "csv.gz", format.CodeSource, "damaged"},
		{"no gzip", []byte(csv), m{}, "csv.gz", format.CodeSource, "not in gzip form"},
		{"nothing", nil, m{}, "csv.gz", format.CodeSource, "ends too early"},
		{"gzip twice", gz(t, string(whole)), m{}, "csv.gz", format.CodeSource, "pack it once"},
		{"gzip twice, by its bytes", gz(t, string(whole)), m{}, "csv", format.CodeSource, "pack it once"},
		{"zip in gzip", gz(t, string(zipped(t, "x.csv", csv))), m{}, "csv.gz", format.CodeSource, "pack it once"},
		{"gzip in zip", zipped(t, "x.csv", string(whole)), m{}, "zip", format.CodeSource, "pack it once"},
		{"gzip in zip by its name", zipped(t, "x.csv.gz", string(whole)), m{}, "zip", format.CodeFormat, `"gz"`},
		{"zip that nobody said", zipped(t, "x.csv", csv), m{}, "csv", format.CodeSource, "ZIP archive or a workbook"},
		{"no zip", []byte(csv), m{}, "zip", format.CodeSource, "not a ZIP archive"},
		{"an empty zip", zipped(t), m{}, "zip", format.CodeSource, "is empty"},
		{"several files", zipped(t, "x.csv", csv, "y.csv", csv), m{}, "zip", format.CodeSource, `it has "x.csv", "y.csv"`},
		{"no such file", zipped(t, "x.csv", csv), m{"dialect": m{"innerpath": "y.csv"}}, "zip", format.CodeSource, `no file "y.csv"; it has "x.csv"`},
		{"a bomb", zipped(t, "x.csv", strings.Repeat("0\n", 40<<20)), m{}, "zip", format.CodeSource, "more than 100 times its size"},
		{"files without number", manyFiles(t), m{}, "zip", format.CodeSource, "lists too many files"},
		{"a workbook without bytes", nil, m{}, "xlsx", format.CodeSource, "the file is empty"},
		{"Parquet without bytes", nil, m{}, "parquet", format.CodeSource, "the file is empty"},
		{"a database without bytes", nil, m{}, "sqlite", format.CodeSource, "the file is empty"},
		{"a row without end", []byte("a,b\n1,2\n" + strings.Repeat("1,", 20_000)), m{}, "csv", format.CodeSource, "more than 16384 columns"},
		{"a workbook of another program", zipped(t, "x.csv", csv), m{}, "xlsx", format.CodeFormat, "no XLSX workbook"},
		{"an element that is a bomb", zipped(t, "x.json", `[{"a":`+strings.Repeat("[", 1<<16)), m{}, "zip", format.CodeSource, "100"},
		{"compression", nil, m{"compression": "rar"}, "csv", tables.CodeDialect, "gz, zip or no"},
		{"headers", nil, m{"headers": "x"}, "csv", tables.CodeDialect, "headers"},
		{"headers, mixed", nil, m{"headers": []any{"a", 1}}, "csv", tables.CodeDialect, "headers"},
		{"headers, far down", nil, m{"headers": 5000}, "csv", tables.CodeDialect, "headers"},
		{"property", nil, m{"dialect": m{"property": 1}}, "json", tables.CodeDialect, "dialect/property"},
		{"item type", nil, m{"dialect": m{"itemType": "row"}}, "json", tables.CodeDialect, "itemType"},
		{"item keys", nil, m{"dialect": m{"itemKeys": []any{1}}}, "json", tables.CodeDialect, "itemKeys"},
		{"header", nil, m{"dialect": m{"header": "no"}}, "json", tables.CodeDialect, "dialect/header"},
	} {
		_, _, err := read(t, c.body, c.resource, c.named)
		e, ok := errors.AsType[*format.Error](err)
		if !ok || e.Code != c.code || !strings.Contains(e.Message, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// What breaks off on the way is no fault of the file.
	broken := errors.New("the line broke")
	_, err := tables.Open(t.Context(), tables.Source{Reader: io.MultiReader(bytes.NewReader(whole[:5]), iotest.ErrReader(broken))}, tables.Options{Format: "csv.gz"})
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// TestClean: nothing is left of what was unpacked.
func TestClean(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	body := zipped(t, "x.csv", "a\n1\n")
	file := filepath.Join(t.TempDir(), "x.zip")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := tables.Open(t.Context(), tables.Source{Reader: f, Whole: tables.Spool(t.Context(), f, temp)}, tables.Options{Format: "zip", Temp: temp})
	if err != nil {
		t.Fatal(err)
	}
	if labels, err := r.Header(); err != nil || len(labels) != 1 {
		t.Fatal(labels, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error("the file itself is gone")
	}
}

// TestInferDelimiter: the delimiter of the first rows is held against all rows.
func TestInferDelimiter(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	// The first rows have one comma each, and the whole file semicolons.
	misleading := "a;b,c\n" + strings.Repeat("1;2,3\n", 20_000) + strings.Repeat("1;2\n", 20_000)
	for _, c := range []struct {
		name, body string
		resource   m
		want       string // names and types
		note       string
	}{
		{"commas at first", strings.ReplaceAll(misleading, ";", ","), nil, "a integer, b integer, c integer", "20000 rows are not as wide"},
		{"a better one later", "a|b;c\n" + strings.Repeat("x|1;2\n", 9_000) + strings.Repeat("x|1\n", 9_000), nil, "a string, b;c geopoint or string", `by "|" most rows`},
		{"declared", "a;b\n1;2\n", m{"delimiter": ","}, "a;b string", ""},
		{"one column", "a\n1\n2\n", nil, "a integer", ""},
		{"no header", "1,x\n2,y\n", m{"headers": false}, "field1 integer, field2 string", ""},
		{"ragged", "a,b\n1\n1,2\n", m{"dialect": m{}}, "a integer, b integer", "1 row is not as wide"},
	} {
		found, err := tables.Infer(t.Context(), func() (tables.Source, func(), error) {
			return tables.Source{Reader: strings.NewReader(c.body)}, func() {}, nil
		}, tables.Options{Resource: c.resource, Format: "csv"})
		if err != nil {
			t.Fatal(c.name, err)
		}
		var got []string
		for _, f := range found.Schema["fields"].([]any) {
			field := f.(m)
			got = append(got, fmt.Sprint(field["name"], " ", field["type"]))
		}
		notes := strings.Join(found.Notes, "; ")
		if strings.Join(got, ", ") != strings.ReplaceAll(c.want, "geopoint or ", "") || c.note == "" && notes != "" || !strings.Contains(notes, c.note) {
			t.Errorf("%s: %q, want %q; notes %q", c.name, got, c.want, notes)
		}
	}
}

// FuzzUnpack: whatever a packed file holds, it is read or refused, by an error of
// the file.
func FuzzUnpack(f *testing.F) {
	f.Add(gz(f, "a,b\n1,2\n"), false)
	f.Add(zipped(f, "x.csv", "a,b\n1,2\n"), true)
	f.Add(zipped(f, "x.json", "[]", "y.json", "[]"), true)
	f.Fuzz(func(t *testing.T, body []byte, archive bool) {
		named := "csv.gz"
		if archive {
			named = "zip"
		}
		_, _, err := read(t, body, nil, named)
		if e, ok := errors.AsType[*format.Error](err); err != nil && err != io.EOF && !ok {
			t.Fatalf("%T %v", e, err)
		}
	})
}

// database is a SQLite database with one table.
func database(t testing.TB) []byte {
	t.Helper()
	schema := testkit.Must(tableschema.Parse(map[string]any{"fields": []any{map[string]any{"name": "a", "type": "integer"}, map[string]any{"name": "b"}}}))(t)
	path := filepath.Join(t.TempDir(), "x.db")
	rows := func() iter.Seq2[*stream.Batch, error] {
		return func(yield func(*stream.Batch, error) bool) {
			b := &stream.Batch{}
			b.Append([]byte("1"))
			b.Append([]byte("x"))
			b.EndRow(2)
			yield(b, nil)
		}
	}
	testkit.Must(sqlite.Write(t.Context(), path, "t", schema, rows))(t)
	return testkit.Must(os.ReadFile(path))(t)
}

// TestHeaderLines: what a file has before its first row, by the words of its resource.
func TestHeaderLines(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	for _, c := range []struct {
		resource m
		want     int
	}{
		{m{}, 1},
		{m{"format": "tsv"}, 1},
		{m{"format": "ndjson"}, 0},
		{m{"dialect": m{"header": false}}, 0},
		{m{"dialect": m{"headerRows": []any{2, 4}}}, 4},
		{m{"skip_rows": 2}, 3},
		{m{"skip_rows": 2, "headers": 3}, 5},
		{m{"headers": []any{1, 2}}, 2},
		{m{"headers": []any{"a", "b"}}, 0},
		{m{"headers": []any{"a", "b"}, "skip_rows": 1}, 1},
		{m{"headers": false}, 0},
		{m{"headers": "x"}, 1},
	} {
		if got := tables.HeaderLines(c.resource); got != c.want {
			t.Errorf("%v: %d, want %d", c.resource, got, c.want)
		}
	}
}

// TestHeaderAlone: a table without rows has its labels, in every format.
func TestHeaderAlone(t *testing.T) {
	t.Parallel()
	schema := testkit.Must(tableschema.Parse(map[string]any{"fields": []any{map[string]any{"name": "a", "type": "integer"}, map[string]any{"name": "b"}}}))(t)
	none := func() iter.Seq2[*stream.Batch, error] { return func(func(*stream.Batch, error) bool) {} }
	var column, book bytes.Buffer
	testkit.Must(parquet.Write(t.Context(), &column, schema, none))(t)
	w := testkit.Must(xlsx.NewWriter(&book, "Data", schema))(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.db")
	testkit.Must(sqlite.Write(t.Context(), path, "t", schema, none))(t)
	for name, body := range map[string][]byte{
		"csv": []byte("a,b\n"), "tsv": []byte("a\tb"), "json": []byte(`[["a","b"]]`), "ndjson": []byte(`["a","b"]`),
		"xlsx": book.Bytes(), "parquet": column.Bytes(), "sqlite": testkit.Must(os.ReadFile(path))(t),
	} {
		labels, rows, err := read(t, body, map[string]any{}, name)
		if err != nil || !slices.Equal(labels, []string{"a", "b"}) || len(rows) > 0 {
			t.Errorf("%s: %q, %q, %v", name, labels, rows, err)
		}
	}
}
