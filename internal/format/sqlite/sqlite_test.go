package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/format/formattest"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/sqlite"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// null stands for a cell without a value.
const null = "\x00null"

func schemaOf(t testing.TB, key any, nameTypes ...string) *tableschema.Schema {
	t.Helper()
	var fields []any
	for _, nt := range nameTypes {
		name, fieldType, _ := strings.Cut(nt, ":")
		fields = append(fields, map[string]any{"name": name, "type": fieldType})
	}
	raw := map[string]any{"fields": fields}
	if key != nil {
		raw["primaryKey"] = key
	}
	s, err := tableschema.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func batches(rows [][]string) func() iter.Seq2[*stream.Batch, error] {
	return func() iter.Seq2[*stream.Batch, error] {
		return func(yield func(*stream.Batch, error) bool) {
			for part := range slices.Chunk(rows, 100) {
				b := &stream.Batch{}
				for i, row := range part {
					for _, cell := range row {
						if cell == null {
							b.AppendNull()
						} else {
							b.Append([]byte(cell))
						}
					}
					b.EndRow(int64(i + 2))
				}
				if !yield(b, nil) {
					return
				}
			}
		}
	}
}

func write(t testing.TB, path, table string, schema *tableschema.Schema, rows [][]string) []string {
	t.Helper()
	notes, err := sqlite.Write(t.Context(), path, table, schema, batches(rows))
	if err != nil {
		t.Fatal(err)
	}
	return notes
}

// cell is what a reader gave.
type cell struct {
	kind stream.Kind
	text string
}

func readAll(path, table string) (labels []string, rows [][]cell, notes []string, err error) {
	r, err := sqlite.NewReader(context.Background(), path, sqlite.Options{Table: table})
	if err != nil {
		return nil, nil, nil, err
	}
	defer r.Close()
	labels, err = formattest.EachRow(r, func(b *stream.Batch, i int) error {
		if b.Number(i) != int64(len(rows)+2) {
			return errors.New("a row has a wrong number")
		}
		var row []cell
		for c := range b.Width(i) {
			row = append(row, cell{b.Kind(i, c), string(b.Cell(i, c))})
		}
		rows = append(rows, row)
		return nil
	})
	return labels, rows, r.Notes(), err
}

// TestSameValues: a table that was written is read again with the same values.
func TestSameValues(t *testing.T) {
	t.Parallel()
	schema := schemaOf(t, nil, "i:integer", "n:number", "b:boolean", "s:string", "d:date", "t:time", "dt:datetime", "y:year", "o:object", "big:integer", "any:any", "ym:yearmonth")
	r := rand.New(rand.NewPCG(1, 2))
	number := func() string {
		switch r.IntN(8) {
		case 0:
			return strconv.FormatFloat(r.NormFloat64(), 'g', -1, 64)
		case 1:
			return fmt.Sprintf("%d.%018d", r.Int64(), r.Int64N(1e18))
		case 2:
			return []string{"NaN", "INF", "-INF", "1e400", "-0", "0.10", "1E+3", ".5", "5.", "1e-400", "9007199254740993"}[r.IntN(11)]
		case 3:
			return strconv.FormatInt(int64(r.Uint64()), 10)
		}
		return fmt.Sprintf("%d.%02d", r.IntN(1e6)-5e5, r.IntN(100))
	}
	var rows [][]string
	for i := range 3000 {
		row := []string{
			strconv.FormatInt(int64(r.Uint64()), 10), number(), strconv.FormatBool(r.IntN(2) == 0),
			[]string{"", "a\x00b", "1", "1.50", "é😀", "0x10", " x "}[r.IntN(7)], fmt.Sprintf("20%02d-01-02", i%100), "03:04:05",
			"2020-01-02T03:04:05.123456789Z", fmt.Sprintf("%04d", i), `{"a": 1.0}`, strconv.Itoa(i) + strings.Repeat("0", r.IntN(30)), "007", "2020-01",
		}
		for c := range row {
			if r.IntN(10) == 0 {
				row[c] = null
			}
		}
		rows = append(rows, row)
	}
	path := filepath.Join(t.TempDir(), "x.db")
	notes := write(t, path, "ta\"ble é", schema, rows)
	if all := strings.Join(notes, ""); len(notes) != 3 || !strings.Contains(all, `"big"`) || !strings.Contains(all, `"n"`) || !strings.Contains(all, `"y"`) {
		t.Errorf("the notes are %q", notes)
	}
	_, got, _, err := readAll(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(rows) {
		t.Fatalf("%d rows, want %d", len(got), len(rows))
	}
	kinds := []stream.Kind{stream.Integer, stream.Text, stream.Boolean, stream.Text, stream.Date, stream.Time, stream.Datetime, stream.Text, stream.Text, stream.Text, stream.Text, stream.Text}
	for c := range schema.Fields {
		caster, err := schema.Caster(c, tableschema.CastOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range rows {
			g := got[i][c]
			if row[c] == null {
				if g.kind != stream.Null {
					t.Fatalf("row %d, %s: %q, want null", i, schema.Fields[c].Name, g.text)
				}
				continue
			}
			text := []byte(g.text)
			if len(text) > 0 { // as the schema reads it again
				var bad *tableschema.CellError
				if text, _, bad = caster.Cast(text); bad != nil {
					t.Fatalf("row %d, %s: %v", i, schema.Fields[c].Name, bad)
				}
			}
			have := string(caster.AppendKey(nil, text))
			if want := string(caster.AppendKey(nil, []byte(row[c]))); have != want {
				t.Fatalf("row %d, %s: %q, want %q", i, schema.Fields[c].Name, g.text, row[c])
			}
			if k := kinds[c]; g.kind != k && k != stream.Text {
				t.Fatalf("row %d, %s: kind %d, want %d", i, schema.Fields[c].Name, g.kind, k)
			}
		}
	}
}

// TestSameBytes: what lay in memory before has no part in the file.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	schema := schemaOf(t, []any{"i"}, "i:integer", "s:string", "n:number")
	var rows [][]string
	for i := range 5000 {
		rows = append(rows, []string{strconv.Itoa(i * 7919 % 5003), strings.Repeat(strconv.Itoa(i), i%3000), strconv.Itoa(i) + ".25"})
	}
	dir := t.TempDir()
	file := func(name string) []byte {
		path := filepath.Join(dir, name)
		write(t, path, "first", schema, rows)
		write(t, path, "second", schema, rows[:100])
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	a := file("a.db")
	slices.Reverse(rows)
	file("between.db")
	slices.Reverse(rows)
	if !bytes.Equal(a, file("b.db")) {
		t.Fatal("the same table gives other bytes")
	}
	if _, got, _, err := readAll(filepath.Join(dir, "a.db"), "first"); err != nil || len(got) != len(rows) || got[3][0].text != rows[3][0] {
		t.Errorf("the rows are not in their order: %v", err)
	}
}

// database makes one with the statements.
func database(t testing.TB, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return path
}

func TestRead(t *testing.T) {
	t.Parallel()
	path := database(t,
		`CREATE TABLE t (a DATE, b DATETIME, c BOOLEAN, d, e JSON, f TIMESTAMP, g AS (a || b), h AS (a || 'x') STORED, i TIME)`,
		`INSERT INTO t (a, b, c, d, e, f, i) VALUES ('2020-01-02', '2020-01-02T03:04:05Z', 1, x'00ff', '{"a":1}', 1577934245, '03:04:05'),
			('02.01.2020', '2020-01-02 03:04:05', 2, 9e999, '1', 'never', '3 pm'), (NULL, NULL, 0, 1.0, '[]', 1.5, NULL)`,
		`CREATE INDEX x ON t (c)`,
	)
	labels, rows, notes, err := readAll(path, "t")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(labels, ","); got != "a,b,c,d,e,f,h,i" {
		t.Errorf("the columns are %s", got)
	}
	want := [][]cell{
		{{stream.Date, "2020-01-02"}, {stream.Datetime, "2020-01-02T03:04:05Z"}, {stream.Boolean, "true"}, {stream.Text, "AP8="}, {stream.JSON, `{"a":1}`}, {stream.Integer, "1577934245"}, {stream.Text, "2020-01-02x"}, {stream.Time, "03:04:05"}},
		{{stream.Text, "02.01.2020"}, {stream.Text, "2020-01-02 03:04:05"}, {stream.Integer, "2"}, {stream.Number, "INF"}, {stream.Integer, "1"}, {stream.Text, "never"}, {stream.Text, "02.01.2020x"}, {stream.Text, "3 pm"}},
		{{stream.Null, ""}, {stream.Null, ""}, {stream.Boolean, "false"}, {stream.Number, "1"}, {stream.JSON, "[]"}, {stream.Number, "1.5"}, {stream.Null, ""}, {stream.Null, ""}},
	}
	for i := range want {
		if !slices.Equal(rows[i], want[i]) {
			t.Errorf("row %d is %v, want %v", i, rows[i], want[i])
		}
	}
	if len(notes) != 2 || !strings.Contains(notes[0], `"g"`) || !strings.Contains(notes[1], "base64") {
		t.Errorf("the notes are %q", notes)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	two := database(t, `CREATE TABLE b (x)`, `CREATE TABLE a (x)`, `CREATE VIEW v AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n`,
		`CREATE VIRTUAL TABLE f USING fts5(x)`)
	text := filepath.Join(t.TempDir(), "text.db")
	if err := os.WriteFile(text, []byte("a,b\n1,2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := database(t, `CREATE TABLE a (x)`, `INSERT INTO a VALUES (CAST(x'ff' AS TEXT))`)
	for _, c := range []struct{ path, table, code, says string }{
		{two, "", format.CodeFormat, `several tables; say which one with the dialect's ` + "`table`" + `: "a", "b"`},
		{two, "c", format.CodeFormat, `no table "c"; it has "a", "b"`},
		{two, "v", format.CodeFormat, "is a view"},
		{two, "f", format.CodeFormat, "is a virtual"},
		{text, "", format.CodeFormat, "no SQLite file"},
		{database(t, `CREATE VIEW v AS SELECT 1`), "", format.CodeFormat, "has no table"},
		{bad, "", format.CodeEncoding, "not UTF-8"},
	} {
		_, _, _, err := readAll(c.path, c.table)
		e, ok := errors.AsType[*format.Error](err)
		if !ok || e.Code != c.code || !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: %v", c.says, err)
		}
	}
}

// TestRowsBeforeTheBreak: rows before one that cannot be read are given, and the error
// has its number.
func TestRowsBeforeTheBreak(t *testing.T) {
	t.Parallel()
	path := database(t, `CREATE TABLE a (x, y)`, `INSERT INTO a VALUES (1, 'b'), (2, 'c'), (3, CAST(x'ff' AS TEXT)), (4, 'd')`)
	_, rows, _, err := readAll(path, "a")
	if e, ok := errors.AsType[*format.Error](err); !ok || e.Row != 4 || len(rows) != 2 || rows[1][1].text != "c" {
		t.Errorf("%v after %d rows", err, len(rows))
	}
}

// TestReadOnly: reading leaves the file and its folder as they are, a database in
// WAL mode too.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	path := database(t, `PRAGMA journal_mode=WAL`, `CREATE TABLE a (x)`, `INSERT INTO a VALUES (1)`)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, rows, _, err := readAll(path, "a"); err != nil || len(rows) != 1 {
		t.Fatalf("%v, %v", rows, err)
	}
	after, err := os.ReadFile(path)
	files, _ := os.ReadDir(filepath.Dir(path))
	if err != nil || !bytes.Equal(before, after) || len(files) != 1 {
		t.Errorf("reading altered the file, or left %d files: %v", len(files), err)
	}
}

func TestWriteRefused(t *testing.T) {
	t.Parallel()
	many := make([]string, 2001)
	for i := range many {
		many[i] = fmt.Sprintf("f%d:string", i)
	}
	path := filepath.Join(t.TempDir(), "x.db")
	for name, c := range map[string]struct {
		table  string
		schema *tableschema.Schema
		rows   [][]string
	}{
		"a name of SQLite's own": {"SQLITE_x", schemaOf(t, nil, "a:string"), nil},
		"no name":                {"", schemaOf(t, nil, "a:string"), nil},
		"no column":              {"t", schemaOf(t, nil), nil},
		"too many columns":       {"t", schemaOf(t, nil, many...), nil},
		"a key twice":            {"t", schemaOf(t, "a", "a:string"), [][]string{{"x"}, {"x"}}},
	} {
		if _, err := sqlite.Write(t.Context(), path, c.table, c.schema, batches(c.rows)); err == nil {
			t.Errorf("%s is written", name)
		}
	}
	twice := filepath.Join(t.TempDir(), "twice.db")
	for i, table := range []string{"tree", "Tree"} {
		_, err := sqlite.Write(t.Context(), twice, table, schemaOf(t, nil, "a:string"), batches([][]string{{"x"}}))
		if i == 0 && err != nil || i == 1 && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `"tree" and "Tree"`)) {
			t.Errorf("the table %s: %v", table, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStop)
	if _, err := sqlite.Write(ctx, path, "t", schemaOf(t, nil, "a:string"), batches([][]string{{"x"}})); !errors.Is(err, errStop) {
		t.Errorf("a write that was ended gives %v", err)
	}
	broken := func() iter.Seq2[*stream.Batch, error] {
		return func(yield func(*stream.Batch, error) bool) { yield(nil, errStop) }
	}
	if _, err := sqlite.Write(t.Context(), path, "t", schemaOf(t, nil, "a:string"), broken); !errors.Is(err, errStop) {
		t.Errorf("rows that cannot be read give %v", err)
	}
}

var errStop = errors.New("stop")

func TestNames(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	schema := schemaOf(t, nil, "id:integer", "ID:integer", "id_2:integer", "Id:integer", "select:string", `q"q:string`, "É:string", "é:string")
	notes := write(t, path, "t", schema, [][]string{{"1", "2", "3", "4", "a", "b", "c", "d"}})
	labels, rows, _, err := readAll(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(labels, ","); got != `id,ID_3,id_2,Id_4,select,q"q,É,é` || len(notes) != 2 {
		t.Errorf("the columns are %s with %q", got, notes)
	}
	if rows[0][3].text != "4" {
		t.Errorf("the row is %v", rows[0])
	}
}

// FuzzReader: whatever a file holds, the reader ends with rows or an error.
func FuzzReader(f *testing.F) {
	for _, statements := range [][]string{
		{`CREATE TABLE a (x, y TEXT, PRIMARY KEY (x)) WITHOUT ROWID`, `INSERT INTO a VALUES (1, 'b'), (2, x'00')`},
		{`PRAGMA page_size=512`, `CREATE TABLE a (x DATE, y AS (x))`, `INSERT INTO a VALUES (zeroblob(3000)), (1.5), ('2020-01-02')`, `CREATE INDEX i ON a (x)`, `CREATE VIEW v AS SELECT * FROM a`},
	} {
		body, err := os.ReadFile(database(f, statements...))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	path := filepath.Join(f.TempDir(), "fuzz.db")
	f.Fuzz(func(t *testing.T, body []byte) {
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, _, err := readAll(path, "")
		if e, ok := errors.AsType[*format.Error](err); err != nil && (!ok || e.Message == "") {
			t.Fatal(err)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	schema := schemaOf(b, nil, "id:integer", "name:string", "amount:number", "day:date", "open:boolean", "note:string")
	var rows [][]string
	size := 0
	for i := range 50000 {
		row := []string{strconv.Itoa(i), "river " + strconv.Itoa(i%100), fmt.Sprintf("%d.%02d", i, i%100), "2020-01-02", "true", "a note of usual length"}
		for _, c := range row {
			size += len(c)
		}
		rows = append(rows, row)
	}
	dir := b.TempDir()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		path := filepath.Join(dir, strconv.Itoa(n))
		write(b, path, "t", schema, rows)
		os.Remove(path)
	}
	b.ReportMetric(float64(b.N*len(rows))/b.Elapsed().Seconds(), "rows/s")
}
