package csv_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/datahq/specstore/internal/format"
	ours "github.com/datahq/specstore/internal/format/csv"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
	"github.com/datahq/specstore/internal/testkit"
)

func write(t testing.TB, labels []string, rows ...[]string) string {
	t.Helper()
	var out bytes.Buffer
	w := ours.NewWriter(&out)
	if err := w.WriteHeader(labels); err != nil {
		t.Fatal(err)
	}
	b := (&stream.Pool{}).Get()
	for i, row := range rows {
		for _, cell := range row {
			b.Append([]byte(cell))
		}
		b.EndRow(int64(i + 2))
	}
	if err := errors.Join(w.WriteBatch(b), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestWriter(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		want   string
		labels []string
		rows   [][]string
	}{
		{"a,b\r\n", []string{"a", "b"}, nil},
		{"a,b\r\n1,\r\n,é\r\n", []string{"a", "b"}, [][]string{{"1", ""}, {"", "é"}}},
		{"\"a,b\"\r\n\"x\"\"y\"\r\n\"1\n2\"\r\n\"3\r4\"\r\n", []string{"a,b"}, [][]string{{`x"y`}, {"1\n2"}, {"3\r4"}}},
		{"a\r\n" + long + "\r\n1\r\n", []string{"a"}, [][]string{{long}, {"1"}}},
		{"\"\"\r\n\"\"\r\n", []string{""}, [][]string{{""}}},
		{"\"\uFEFFa\"\r\n\"\x00\"\r\n x \r\n", []string{"\uFEFFa"}, [][]string{{"\x00"}, {" x "}}},
	} {
		if got := write(t, c.labels, c.rows...); got != c.want {
			t.Errorf("%.200q, want %.200q", got, c.want)
		}
	}
}

// FuzzRoundTrip: what the writer writes, the reader reads, by the dialect that the
// descriptor of such a file declares.
func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{"", "a", `"`, "\"\"", ",", "\r", "\n", "\r\n", " x ", "\x00", "\uFEFF", "é😀"} {
		f.Add(s, "b", "")
		f.Add("a", s, s)
	}
	d, problems := format.ParseDialect(ours.Canonical())
	if len(problems) > 0 {
		f.Fatal(problems)
	}
	f.Fuzz(func(t *testing.T, label, first, second string) {
		label, first, second = strings.ToValidUTF8(label, "?"), strings.ToValidUTF8(first, "?"), strings.ToValidUTF8(second, "?")
		for _, want := range [][]string{{first, second}, {first}, {second, first, second}} {
			if len(want) == 1 && label == "" {
				continue // a blank line above a header is none; columns that are written have names
			}
			labels := slices.Repeat([]string{label}, len(want))
			out := write(t, labels, want, want)
			header, rows, err := readAll([]byte(out), ours.Options{Dialect: &d})
			if err != nil || len(rows) != 2 || !slices.Equal(rows[0].cells, want) || !slices.Equal(rows[1].cells, want) {
				t.Fatalf("%q gives %v, %v", out, rows, err)
			}
			for i := range labels {
				labels[i] = strings.TrimSpace(label)
			}
			if !slices.Equal(header, labels) {
				t.Fatalf("%q: header %q", out, header)
			}
		}
	})
}

// TestOddFiles reads what people have.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	rows := func(rows ...[]string) [][]string { return rows }
	big := strings.Repeat("é", 1<<19)
	for _, c := range []struct {
		name, body string
		header     []string
		rows       [][]string
	}{
		{"header alone", "a,b", []string{"a", "b"}, nil},
		{"a mark and CR LF", "\xef\xbb\xbfa,b\r\n1,2\r\n", []string{"a", "b"}, rows([]string{"1", "2"})},
		{"CR", "a,b\r1,2\r3,4", []string{"a", "b"}, rows([]string{"1", "2"}, []string{"3", "4"})},
		{"all line ends", "a,b\n1,2\r3,4\r\n5,6", []string{"a", "b"}, rows([]string{"1", "2"}, []string{"3", "4"}, []string{"5", "6"})},
		{"a quoted header", "\"a\nb\",\" c \"\n1,2\n", []string{"a\nb", "c"}, rows([]string{"1", "2"})},
		{"labels twice and blank", "a,a,\n1,2,3\n", []string{"a", "a", ""}, rows([]string{"1", "2", "3"})},
		{"quotes inside", "a,b\n1 \"x\",y\"\n", []string{"a", "b"}, rows([]string{`1 "x"`, `y"`})},
		{"text after a quote", "a,b\n\"x\"y,2\n", []string{"a", "b"}, rows([]string{"xy", "2"})},
		{"ragged rows", "a,b\n1\n1,2,3\n\n", []string{"a", "b"}, rows([]string{"1"}, []string{"1", "2", "3"}, []string{""})},
		{"a cell of a megabyte", "a,b\n" + big + ",\"" + big + "\"\n3,4\n", []string{"a", "b"}, rows([]string{big, big}, []string{"3", "4"})},
	} {
		for _, r := range []io.Reader{strings.NewReader(c.body), iotest.HalfReader(strings.NewReader(c.body)), iotest.DataErrReader(strings.NewReader(c.body))} {
			header, got, err := readFrom(r, ours.Options{})
			if err != nil || !slices.Equal(header, c.header) || len(got) != len(c.rows) {
				t.Errorf("%s: %q, %.200s, %v", c.name, header, fmt.Sprint(got), err)
				continue
			}
			for i := range got {
				if !slices.Equal(got[i].cells, c.rows[i]) {
					t.Errorf("%s: row %d is %.200q", c.name, got[i].number, got[i].cells)
				}
			}
		}
	}
	if _, _, err := readAll(nil, ours.Options{}); err != io.EOF {
		t.Errorf("an empty file gives %v", err)
	}
}

// TestErrors: the rows before the one that cannot be read are given, then an error
// that says where and why.
func TestErrors(t *testing.T) {
	t.Parallel()
	skip := format.Default()
	skip.SkipRows = 9
	for _, c := range []struct {
		name, body, want string
		options          ours.Options
		rows             int
		row              int64
	}{
		{"a NUL byte", "a\n1\n2\nx\x00\n3\n", "NUL", ours.Options{}, 2, 4},
		{"broken UTF-8", "a\n1\n\xff\n", "offset 4", ours.Options{Encoding: "utf-8"}, 1, 3},
		{"a long cell", "a,b\n1,2\n1," + strings.Repeat("x", 2000) + "\n", "column 2 is longer than the limit of 1000 bytes", ours.Options{MaxCell: 1000}, 1, 3},
		{"a long cell without an end", "a,b\n1,2\n1," + strings.Repeat("x", 1<<20), "column 2", ours.Options{MaxCell: 1000}, 1, 3},
		{"an open quote", "a,b\n1,2\n1,\"" + strings.Repeat("x\n", 1<<20), "quote that opens the cell in column 2", ours.Options{MaxCell: 1000}, 1, 3},
		{"many columns", "a\n1\n" + strings.Repeat("1,", 50) + "\n", "more than 20 columns", ours.Options{MaxColumns: 20}, 1, 3},
		{"a long row", "a\n1\n" + strings.Repeat(strings.Repeat("1", 900)+",", 1000) + "\n", "row is longer", ours.Options{MaxCell: 1000}, 1, 3},
		{"fewer rows than are skipped", "a\n1\n", "ends after row 2", ours.Options{Dialect: &skip}, 0, 0},
		{"an unknown encoding", "a\n", "klingon", ours.Options{Encoding: "klingon"}, 0, 0},
	} {
		_, rows, err := readAll([]byte(c.body), c.options)
		e, ok := errors.AsType[*format.Error](err)
		if !ok || len(rows) != c.rows || e.Row != c.row || !strings.Contains(e.Message, c.want) {
			t.Errorf("%s: %d rows, then %v", c.name, len(rows), err)
		}
	}
	broken := errors.New("the line broke")
	_, rows, err := readFrom(io.MultiReader(strings.NewReader("a\n1\n2"), iotest.ErrReader(broken)), ours.Options{})
	if !errors.Is(err, broken) || len(rows) != 1 {
		t.Errorf("%d rows, then %v", len(rows), err)
	}
}

// BenchmarkPipe is the way of a table from a file to a file: reader, casts, writer.
func BenchmarkPipe(b *testing.B) {
	names := []string{"id:integer", "name:string", "n:integer", "amount:number", "day:date", "at:datetime", "open:boolean", "note:string"}
	var fields []any
	for _, nt := range names {
		name, kind, _ := strings.Cut(nt, ":")
		fields = append(fields, map[string]any{"name": name, "type": kind})
	}
	schema := testkit.Must(tableschema.Parse(map[string]any{"fields": fields}))(b)
	var body bytes.Buffer
	body.WriteString("id,name,n,amount,day,at,open,note\n")
	const rows = 50_000
	for i := range rows {
		fmt.Fprintf(&body, "%d,river %d,42,%d.95,2020-01-02,2020-01-02T03:04:05Z,true,\"a note, of usual length\"\n", i, i%100, i%1000)
	}
	b.SetBytes(int64(body.Len()))
	b.ReportAllocs()
	for b.Loop() {
		pool := &stream.Pool{}
		r := testkit.Must(ours.NewReader(bytes.NewReader(body.Bytes()), ours.Options{Pool: pool}))(b)
		testkit.Must(r.Header())(b)
		var casts []*tableschema.Caster
		for c := range names {
			casts = append(casts, testkit.Must(schema.Caster(c, tableschema.CastOptions{Trim: true}))(b))
		}
		w := ours.NewWriter(io.Discard)
		for {
			in, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			out := pool.Get()
			for i := range in.Rows() {
				for c, cast := range casts {
					text, _, bad := cast.CastKind(in.Kind(i, c), in.Cell(i, c))
					if bad != nil {
						b.Fatal(bad)
					}
					out.Append(text)
				}
				out.EndRow(in.Number(i))
			}
			if err := w.WriteBatch(out); err != nil {
				b.Fatal(err)
			}
			in.Release()
			out.Release()
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*rows)/b.Elapsed().Seconds(), "rows/s")
}

// TestLargeCells: cells that are written in pieces are read as they were.
func TestLargeCells(t *testing.T) {
	t.Parallel()
	long := func(unit string) string { return strings.Repeat(unit, 300_000/len(unit)+1) }
	rows := [][]string{
		{long("plain"), "1", long("é")},
		{long(`a "quoted" `), long("\""), long(",\r\n")},
		{"2", long("x") + "\"", ""},
		{long("x"), long("y"), ""},
	}
	body := write(t, []string{"a", "b", "c"}, rows...)
	body = strings.TrimSuffix(body, "\r\n") // the last cell, an empty one, ends with the file
	for _, r := range []io.Reader{strings.NewReader(body), iotest.HalfReader(strings.NewReader(body)), iotest.DataErrReader(strings.NewReader(body))} {
		_, got, err := readFrom(r, ours.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range rows {
			if i >= len(got) || !slices.Equal(got[i].cells, row) {
				t.Fatalf("row %d is another one", i+1)
			}
		}
	}
}

// TestLongRowFails: an error in the midst of a long row is given again, and the row that
// was begun is not.
func TestLongRowFails(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]string{"NUL": "a\x00b", "long cell": strings.Repeat("y", 1_100_000)} {
		body := "a,b,c,d\n1,2,3,4\n" + strings.Repeat("x", 400_000) + "," + strings.Repeat("x", 400_000) + "," + bad + ",1\n5,6,7,8\n"
		r, err := ours.NewReader(strings.NewReader(body), ours.Options{MaxCell: 1_000_000})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Header(); err != nil {
			t.Fatal(err)
		}
		b, err := r.Next()
		if err != nil || b.Rows() != 1 {
			t.Fatalf("%s: %v", name, err)
		}
		for range 3 {
			if _, err := r.Next(); err == nil || !strings.Contains(err.Error(), "row 3") {
				t.Errorf("%s: got %v, want an error of row 3", name, err)
			}
		}
	}
}

// TestBlankLines: empty lines are rows of one empty cell, whatever ends them and however
// they come.
func TestBlankLines(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"\n", "\r\n", "\r"} {
		for _, lines := range []int{1, 2, 1023, 1024, 1025, 5000} {
			body := "a" + end + strings.Repeat(end, lines) + "b" + end + strings.Repeat(end, lines)
			for i, r := range []io.Reader{strings.NewReader(body), iotest.OneByteReader(strings.NewReader(body))} {
				_, got, err := readFrom(r, ours.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if len(got) != 2*lines+1 {
					t.Fatalf("%q, %d lines, reader %d: %d rows", end, lines, i, len(got))
				}
				for j, row := range got {
					want := ""
					if j == lines {
						want = "b"
					}
					if row.number != int64(j+2) || len(row.cells) != 1 || row.cells[0] != want {
						t.Fatalf("%q, %d lines, reader %d: row %d is %v", end, lines, i, j, row)
					}
				}
			}
		}
	}
}

// TestMixedBlankLines: line ends of all kinds in any order are what they are one by one.
func TestMixedBlankLines(t *testing.T) {
	t.Parallel()
	for n := range 243 {
		body := "a\n"
		want := 0
		for k, left := 0, n; k < 5; k, left = k+1, left/3 {
			body += []string{"\n", "\r", "\r\n"}[left%3]
		}
		for s := strings.TrimPrefix(body, "a\n"); s != ""; want++ {
			if rest, ok := strings.CutPrefix(s, "\r\n"); ok {
				s = rest
			} else {
				s = s[1:]
			}
		}
		_, got, err := readFrom(strings.NewReader(body), ours.Options{})
		if err != nil || len(got) != want {
			t.Errorf("%q: %d rows, want %d (%v)", body, len(got), want, err)
		}
	}
}
