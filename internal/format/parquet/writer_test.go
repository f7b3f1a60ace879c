package parquet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	lib "github.com/parquet-go/parquet-go"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/parquet"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// null stands for a cell without a value.
const null = "\x00null"

func schemaOf(t testing.TB, nameTypes ...string) *tableschema.Schema {
	t.Helper()
	var fields []any
	for _, nt := range nameTypes {
		i := strings.LastIndexByte(nt, ':')
		fields = append(fields, map[string]any{"name": nt[:i], "type": nt[i+1:]})
	}
	s, err := tableschema.Parse(map[string]any{"fields": fields})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func batches(rows [][]string, size int) func() iter.Seq2[*stream.Batch, error] {
	return func() iter.Seq2[*stream.Batch, error] {
		return func(yield func(*stream.Batch, error) bool) {
			b := &stream.Batch{}
			for part := range slices.Chunk(rows, size) {
				b.Reset()
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

func write(t testing.TB, schema *tableschema.Schema, rows [][]string, size int) (body []byte, notes []string) {
	t.Helper()
	var out bytes.Buffer
	notes, err := parquet.Write(t.Context(), &out, schema, batches(rows, size))
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), notes
}

// again reads a file that was written, and holds it against the rows it was made of:
// the same values, by the schema.
func again(t *testing.T, schema *tableschema.Schema, rows [][]string, body []byte) [][]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.parquet")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	read, _, err := readAll(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(read) != len(rows)+1 {
		t.Fatalf("%d rows, want %d", len(read)-1, len(rows))
	}
	got := make([][]string, len(rows))
	for c, f := range schema.Fields {
		if name := *read[0][c]; name != strings.TrimSpace(f.Name) {
			t.Fatalf("column %d is %q, want %q", c, name, f.Name)
		}
		caster, err := schema.Caster(c, tableschema.CastOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range rows {
			cell := read[i+1][c]
			if cell == nil {
				got[i] = append(got[i], null)
				if row[c] != null {
					t.Fatalf("row %d, %s: null, want %q", i, f.Name, row[c])
				}
				continue
			}
			got[i] = append(got[i], *cell)
			if row[c] == null {
				t.Fatalf("row %d, %s: %q, want null", i, f.Name, *cell)
			}
			text := []byte(*cell)
			if len(text) > 0 && f.Type != "time" { // as the schema reads it again; a fraction needs a pattern
				var bad *tableschema.CellError
				if text, _, bad = caster.Cast(text); bad != nil {
					t.Fatalf("row %d, %s: %v", i, f.Name, bad)
				}
			}
			have := string(caster.AppendKey(nil, text))
			if want := string(caster.AppendKey(nil, []byte(row[c]))); have != want {
				t.Fatalf("row %d, %s: %q, want %q", i, f.Name, *cell, row[c])
			}
		}
	}
	return got
}

func table(r *rand.Rand, n int) [][]string {
	rows := make([][]string, n)
	for i := range rows {
		rows[i] = []string{
			strconv.FormatInt(int64(r.Uint64()), 10),
			"-" + strings.Repeat("9", r.IntN(38)) + "1",
			strings.Repeat("7", r.IntN(60)) + "1",
			fmt.Sprintf("%d.%02d", r.IntN(1e5)-5e4, r.IntN(100)),
			fmt.Sprintf("%d.%04d", r.Int64N(1e12)-5e11, r.IntN(10000)),
			fmt.Sprintf("%d.%018d", r.Int64(), r.Int64N(1e18)),
			strconv.FormatFloat(r.NormFloat64()*1e200, 'g', -1, 64),
			[]string{"NaN", "INF", "-INF", "1.5", "-0"}[r.IntN(5)],
			[]string{"1e400", "0.1", "1E-30", "12345678901234567890.123456789"}[r.IntN(4)],
			strconv.FormatBool(r.IntN(2) == 0),
			fmt.Sprintf("%04d-%02d-%02d", 1+r.IntN(9999), 1+r.IntN(12), 1+r.IntN(28)),
			fmt.Sprintf("%02d:%02d:%02d", r.IntN(24), r.IntN(60), r.IntN(60)),
			fmt.Sprintf("%04d-01-02T03:04:05.%06d", 1+r.IntN(9999), r.IntN(1e6)),
			fmt.Sprintf("2020-01-02T03:04:05%s", []string{"Z", "+02:00", ".25-11:30"}[r.IntN(3)]),
			fmt.Sprintf("2020-01-02T03:04:05.%09dZ", r.IntN(1e9)),
			fmt.Sprintf("2020-01-02T03:04:05%s", []string{"", "Z"}[r.IntN(2)]),
			fmt.Sprintf("%04d", 1000+r.IntN(9000)),
			[]string{`{"a": 1.0}`, `{}`}[r.IntN(2)],
			`[1, "é"]`,
			[]string{"", "a\x00b", "é😀", "x"}[r.IntN(4)] + strings.Repeat("long ", r.IntN(20)),
			"2020-01", "P1Y2M", "any", "10.5, 20",
		}
		for c := range rows[i] {
			if r.IntN(8) == 0 {
				rows[i][c] = null
			}
		}
	}
	return rows
}

var tableFields = []string{
	"i64:integer", "big:integer", "huge:integer", "dec9:number", "dec18:number", "dec38:number", "double:number", "special:number", "text:number", "b:boolean",
	"date:date", "time:time", "naive:datetime", "zoned:datetime", "nanos:datetime", "mixed:datetime", "year:year", "o:object", "a:array", "s:string",
	"ym:yearmonth", "d:duration", "any:any", "geo:geopoint",
}

// TestSameValues: a table that was written is read again with the same values.
func TestSameValues(t *testing.T) {
	t.Parallel()
	schema := schemaOf(t, tableFields...)
	rows := table(rand.New(rand.NewPCG(1, 2)), 2500)
	body, notes := write(t, schema, rows, 100)
	again(t, schema, rows, body)
	var noted []string
	for _, n := range notes {
		noted = append(noted, strings.SplitN(n, `"`, 3)[1])
	}
	if want := []string{"huge", "text", "zoned", "mixed"}; !slices.Equal(noted, want) {
		t.Errorf("the notes are %q, want them for %q", notes, want)
	}
	f, err := lib.OpenFile(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, c := range f.Root().Columns() {
		types = append(types, fmt.Sprintf("%s %s", c.Name(), c.Type()))
	}
	want := []string{
		"i64 INT(64,true)", "big DECIMAL(38,0)", "huge STRING", "dec9 DECIMAL(7,2)", "dec18 DECIMAL(16,4)", "dec38 DECIMAL(37,18)", "double DOUBLE", "special DOUBLE", "text STRING", "b BOOLEAN",
		"date DATE", "time TIME(isAdjustedToUTC=false,unit=MICROS)", "naive TIMESTAMP(isAdjustedToUTC=false,unit=MICROS)", "zoned TIMESTAMP(isAdjustedToUTC=true,unit=MICROS)",
		"nanos TIMESTAMP(isAdjustedToUTC=true,unit=NANOS)", "mixed STRING", "year INT(32,true)", "o JSON", "a JSON", "s STRING", "ym STRING", "d STRING", "any STRING", "geo STRING",
	}
	for i := range want {
		if types[i] != want[i] {
			t.Errorf("the type is %s, want %s", types[i], want[i])
		}
	}
}

// TestOtherReader: another library reads the values that were written, and their
// least and greatest.
func TestOtherReader(t *testing.T) {
	t.Parallel()
	schema := schemaOf(t, "n:integer", "s:string", "note:string", "b:boolean", "d:number")
	const rows = 70000 // more than a page, of some columns
	table := make([][]string, rows)
	for i := range table {
		table[i] = []string{strconv.Itoa(i - 500), []string{"x", "", null, "é"}[i%4], fmt.Sprintf("a note %d", i), strconv.FormatBool(i%3 == 0), "0.50"}
	}
	body, _ := write(t, schema, table, 1000)
	f, err := lib.OpenFile(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	if f.NumRows() != rows {
		t.Fatalf("%d rows", f.NumRows())
	}
	at := 0
	for _, g := range f.RowGroups() {
		r := g.Rows()
		buf := make([]lib.Row, 1000)
		for {
			n, err := r.ReadRows(buf)
			for _, row := range buf[:n] {
				want := table[at]
				at++
				for c, v := range row {
					got := v.String()
					if v.IsNull() {
						got = null
					}
					if w := map[bool]string{true: "50", false: want[c]}[c == 4]; got != w {
						t.Fatalf("row %d, column %d is %q, want %q", at, c, got, w)
					}
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if at != rows {
		t.Errorf("%d rows were read", at)
	}
	first := f.Metadata().RowGroups[0].Columns
	for c, want := range [][2]string{{"\x0c\xfe\xff\xff\xff\xff\xff\xff", ""}, {"", "é"}, {"a note 0", ""}} {
		s := first[c].MetaData.Statistics
		if string(s.MinValue) != want[0] || want[1] != "" && string(s.MaxValue) != want[1] {
			t.Errorf("column %d is between %q and %q", c, s.MinValue, s.MaxValue)
		}
	}
}

// TestRowsBeforeTheBreak: rows before a page that cannot be read are given, and the
// error has the number of the next.
func TestRowsBeforeTheBreak(t *testing.T) {
	t.Parallel()
	var rows [][]string
	for i := range 40000 {
		rows = append(rows, []string{fmt.Sprintf("a text of usual length %d", i)})
	}
	body, _ := write(t, schemaOf(t, "s:string"), rows, 1000)
	f, err := lib.OpenFile(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	c := f.Metadata().RowGroups[0].Columns[0].MetaData
	body[c.DataPageOffset+c.TotalCompressedSize-20] ^= 0xff // in the last page
	path := filepath.Join(t.TempDir(), "x.parquet")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	read, _, err := readAll(path)
	e, ok := errors.AsType[*format.Error](err)
	if !ok || len(read) < 30000 || e.Row != int64(len(read)+1) {
		t.Errorf("%v after %d rows", err, len(read)-1)
	}
}

// TestTypes: the values of a column decide its type, and come back as they were.
func TestTypes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fieldType string
		values    []string
		want      string
		back      []string // nil: as they were
	}{
		{"integer", nil, "INT(64,true)", nil},
		{"integer", []string{null, null}, "INT(64,true)", nil},
		{"integer", []string{"9223372036854775807", "-9223372036854775808"}, "INT(64,true)", nil},
		{"integer", []string{"9223372036854775808", "-1"}, "DECIMAL(19,0)", nil},
		{"integer", []string{"-" + strings.Repeat("9", 38)}, "DECIMAL(38,0)", nil},
		{"integer", []string{strings.Repeat("9", 39), "7"}, "STRING", nil},
		{"integer", []string{"+007", "-0"}, "INT(64,true)", []string{"7", "0"}},
		{"number", nil, "DOUBLE", nil},
		{"number", []string{"19.90", "0.5"}, "DECIMAL(4,2)", []string{"19.90", "0.50"}},
		{"number", []string{"1E+3", ".5", "5.", "-0.25"}, "DECIMAL(6,2)", []string{"1000.00", "0.50", "5.00", "-0.25"}},
		{"number", []string{"0." + strings.Repeat("0", 50), "1.5"}, "DECIMAL(2,1)", []string{"0.0", "1.5"}},
		{"number", []string{"0"}, "DECIMAL(1,0)", nil},
		{"number", []string{"999999999.5"}, "DECIMAL(10,1)", nil},
		{"number", []string{"1e-30", "1e30"}, "DOUBLE", []string{"1e-30", "1e+30"}},
		{"number", []string{"0.1", "NaN", "-INF"}, "DOUBLE", nil},
		{"number", []string{"0.10000000000000000001", "NaN"}, "STRING", nil},
		{"number", []string{"0.1", "1e999"}, "STRING", nil},
		{"number", []string{"1e99999999", "1"}, "STRING", nil},
		{"number", []string{"5e-324", "1e300"}, "DOUBLE", []string{"5e-324", "1e+300"}},
		{"number", []string{"4e-324", "1e300"}, "STRING", nil},
		{"datetime", []string{"0001-01-01T00:00:00", "9999-12-31T23:59:59.999999"}, "TIMESTAMP(isAdjustedToUTC=false,unit=MICROS)", nil},
		{"datetime", []string{"0001-01-01T00:00:00+01:00"}, "STRING", nil},
		{"datetime", []string{"2020-01-02T03:04:05.100000000Z"}, "TIMESTAMP(isAdjustedToUTC=true,unit=MICROS)", []string{"2020-01-02T03:04:05.1Z"}},
		{"datetime", []string{"2020-01-02T03:04:05.123456789"}, "TIMESTAMP(isAdjustedToUTC=false,unit=NANOS)", nil},
		{"datetime", []string{"2020-01-02T03:04:05.123456789", "1600-01-01T00:00:00"}, "STRING", nil},
		{"datetime", []string{"2020-01-02T03:04:05.1234567891"}, "STRING", nil},
		{"time", []string{"23:59:59.123456789", "00:00:00"}, "TIME(isAdjustedToUTC=false,unit=NANOS)", nil},
		{"time", []string{"03:04:05Z"}, "STRING", nil},
		{"date", []string{"0001-01-01", "9999-12-31", "1969-12-31", "2000-02-29"}, "DATE", nil},
		{"year", []string{"2020"}, "INT(32,true)", nil},
		{"year", []string{"2020", "0800"}, "STRING", nil},
		{"geojson", []string{`{"type": "Point", "coordinates": [1.0, 2]}`}, "JSON", nil},
	} {
		schema := schemaOf(t, "x:"+c.fieldType)
		var rows [][]string
		for _, v := range c.values {
			rows = append(rows, []string{v})
		}
		body, notes := write(t, schema, rows, 10)
		f, err := lib.OpenFile(bytes.NewReader(body), int64(len(body)))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Root().Columns()[0].Type().String(); got != c.want {
			t.Errorf("%s %q is %s, want %s", c.fieldType, c.values, got, c.want)
		}
		if kept := c.want == "STRING"; kept != (len(notes) == 1) {
			t.Errorf("%s %q has the notes %q", c.fieldType, c.values, notes)
		}
		want := c.back
		if want == nil {
			want = c.values
		}
		for i, row := range again(t, schema, rows, body) {
			if row[0] != want[i] {
				t.Errorf("%s: %q is read as %q, want %q", c.fieldType, c.values[i], row[0], want[i])
			}
		}
	}
}

// TestSameBytes: neither the batches nor the processors have a part in the file.
func TestSameBytes(t *testing.T) {
	schema := schemaOf(t, tableFields...)
	rows := table(rand.New(rand.NewPCG(3, 4)), 60000)
	a, _ := write(t, schema, rows, 700)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	b, _ := write(t, schema, rows, 1024)
	if !bytes.Equal(a, b) {
		t.Fatal("the same table gives other bytes")
	}
	f, err := lib.OpenFile(bytes.NewReader(a), int64(len(a)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.RowGroups()); n < 2 {
		t.Errorf("the file has %d row groups", n)
	}
	again(t, schema, rows, a)
}

// TestWide: columns whose pages are too many to be held side by side.
func TestWide(t *testing.T) {
	t.Parallel()
	const columns, n = format.MaxColumns, 60
	names := make([]string, columns)
	for i := range names {
		names[i] = fmt.Sprintf("c.%d é:string", i)
	}
	schema := schemaOf(t, names...)
	rows := make([][]string, n)
	for r := range rows {
		rows[r] = make([]string, columns)
		for c := range rows[r] {
			rows[r][c] = fmt.Sprintf("a text of usual length %d", r*c)
		}
	}
	body, _ := write(t, schema, rows, 10)
	again(t, schema, rows, body)
}

var errStop = errors.New("stop")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errStop }

func TestWriteErrors(t *testing.T) {
	t.Parallel()
	schema := schemaOf(t, "a:string")
	rows := batches([][]string{{"x"}}, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStop)
	if _, err := parquet.Write(ctx, io.Discard, schema, rows); !errors.Is(err, errStop) {
		t.Errorf("a write that was ended gives %v", err)
	}
	if _, err := parquet.Write(t.Context(), full{}, schema, rows); !errors.Is(err, errStop) {
		t.Errorf("a full disk gives %v", err)
	}
	broken := func() iter.Seq2[*stream.Batch, error] {
		return func(yield func(*stream.Batch, error) bool) { yield(nil, errStop) }
	}
	if _, err := parquet.Write(t.Context(), io.Discard, schema, broken); !errors.Is(err, errStop) {
		t.Errorf("rows that cannot be read give %v", err)
	}
	if _, err := parquet.Write(t.Context(), io.Discard, schemaOf(t), rows); err == nil {
		t.Error("a table without columns is written")
	}
}

func BenchmarkWrite(b *testing.B) {
	schema := schemaOf(b, "id:integer", "name:string", "amount:number", "day:date", "open:boolean", "note:string", "at:datetime")
	var rows [][]string
	size := 0
	for i := range 100000 {
		row := []string{strconv.Itoa(i), "river " + strconv.Itoa(i%100), fmt.Sprintf("%d.%02d", i, i%100), "2020-01-02", "true", fmt.Sprintf("a note of usual length %d", i), "2020-01-02T03:04:05Z"}
		for _, c := range row {
			size += len(c)
		}
		rows = append(rows, row)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parquet.Write(b.Context(), io.Discard, schema, batches(rows, 1000)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(rows))/b.Elapsed().Seconds(), "rows/s")
}
