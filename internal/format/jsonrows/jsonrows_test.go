package jsonrows_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/format/jsonrows"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// null stands for a cell without a value.
const null = "\x00null"

func batch(rows ...[]string) *stream.Batch {
	b := (&stream.Pool{}).Get()
	for i, row := range rows {
		for _, cell := range row {
			if cell == null {
				b.AppendNull()
			} else {
				b.Append([]byte(cell))
			}
		}
		b.EndRow(int64(i + 2))
	}
	return b
}

func texts(n int) []func(dst, text []byte) []byte {
	values := make([]func(dst, text []byte) []byte, n)
	for i := range values {
		values[i] = tableschema.AppendJSONString
	}
	return values
}

func write(t testing.TB, names []string, batches ...*stream.Batch) string {
	t.Helper()
	var out strings.Builder
	w := jsonrows.NewWriter(&out, names, texts(len(names)))
	for _, b := range batches {
		if err := w.WriteBatch(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		fields     []string
		batches    []*stream.Batch
	}{
		{"no rows", "[]\n", []string{"a"}, nil},
		{"one row", "[\n{\"b\": \"1\", \"a\": null}\n]\n", []string{"b", "a"}, []*stream.Batch{batch([]string{"1", null})}},
		{
			"rows in several batches", "[\n{\"a\": \"1\"},\n{\"a\": \"2\"},\n{\"a\": \"\"}\n]\n",
			[]string{"a"},
			[]*stream.Batch{batch([]string{"1"}, []string{"2"}), batch(), batch([]string{""})},
		},
		{"a key with quotes", "[\n{\"a\\\"b\\n\": \"x\"}\n]\n", []string{"a\"b\n"}, []*stream.Batch{batch([]string{"x"})}},
		{"no fields", "[\n{}\n]\n", nil, []*stream.Batch{batch(nil)}},
	} {
		if got := write(t, c.fields, c.batches...); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// FuzzText: whatever a cell or a header holds, a reader of JSON gets it back.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a", "\"\\\n\r\t", "\u2028</script>", "é😀", "\x00\x1f\x7f"} {
		f.Add(s, s+"x")
	}
	f.Fuzz(func(t *testing.T, name, cell string) {
		name, cell = strings.ToValidUTF8(name, "?"), strings.ToValidUTF8(cell, "?")
		if cell == null {
			t.Skip()
		}
		var rows []map[string]*string
		out := write(t, []string{name}, batch([]string{cell}, []string{null}))
		if err := json.Unmarshal([]byte(out), &rows); err != nil {
			t.Fatalf("%v: %q", err, out)
		}
		if len(rows) != 2 || rows[0][name] == nil || *rows[0][name] != cell || rows[1][name] != nil {
			t.Fatalf("%q", out)
		}
	})
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

var errFull = errors.New("no space left")

func TestWriteError(t *testing.T) {
	t.Parallel()
	w := jsonrows.NewWriter(full{}, []string{"a"}, texts(1))
	if err := errors.Join(w.WriteBatch(batch([]string{strings.Repeat("x", 1<<17)})), w.Close()); !errors.Is(err, errFull) {
		t.Errorf("a failed write gives %v", err)
	}
}

// TestValues: a reader of JSON gets the values that the fields' types have, numbers
// with all their digits.
func TestValues(t *testing.T) {
	t.Parallel()
	types := []string{"integer", "number", "boolean", "string", "date", "datetime", "array", "object", "any"}
	fields := make([]any, len(types))
	for i, fieldType := range types {
		fields[i] = map[string]any{"name": fieldType, "type": fieldType}
	}
	schema, err := tableschema.Parse(map[string]any{"fields": fields})
	if err != nil {
		t.Fatal(err)
	}
	casters := make([]*tableschema.Caster, len(types))
	values := make([]func(dst, text []byte) []byte, len(types))
	for i := range types {
		if casters[i], err = schema.Caster(i, tableschema.CastOptions{}); err != nil {
			t.Fatal(err)
		}
		values[i] = casters[i].AppendJSON
	}
	for _, c := range []struct {
		cells []string
		want  string
	}{
		{
			[]string{"007", "1.10", "True", "1", "2020-01-02", "2020-01-02T03:04:05Z", `[1, "a"]`, `{"b": 1.0}`, "5"},
			`{"integer":7,"number":1.10,"boolean":true,"string":"1","date":"2020-01-02","datetime":"2020-01-02T03:04:05Z","array":[1,"a"],"object":{"b":1.0},"any":"5"}`,
		},
		{
			[]string{"123456789012345678901234567890", "1e400", "0", "null", "", "", "[]", "{}", "true"},
			`{"integer":123456789012345678901234567890,"number":1e400,"boolean":false,"string":"null","date":null,"datetime":null,"array":[],"object":{},"any":"true"}`,
		},
		{
			[]string{"-0", "NaN", "false", "", "", "", "", "", "\t"},
			`{"integer":-0,"number":"NaN","boolean":false,"string":null,"date":null,"datetime":null,"array":null,"object":null,"any":"\t"}`,
		},
		{[]string{"", "-INF", "", "", "", "", "", "", ""}, `{"integer":null,"number":"-INF","boolean":null,"string":null,"date":null,"datetime":null,"array":null,"object":null,"any":null}`},
		{[]string{"", "INF", "", "", "", "", "", "", ""}, `{"integer":null,"number":"INF","boolean":null,"string":null,"date":null,"datetime":null,"array":null,"object":null,"any":null}`},
		{[]string{"", ".5", "", "", "", "", "", "", ""}, `{"integer":null,"number":0.5,"boolean":null,"string":null,"date":null,"datetime":null,"array":null,"object":null,"any":null}`},
		{[]string{"", "+5.", "", "", "", "", "", "", ""}, `{"integer":null,"number":5,"boolean":null,"string":null,"date":null,"datetime":null,"array":null,"object":null,"any":null}`},
	} {
		b := (&stream.Pool{}).Get()
		for i, cell := range c.cells {
			text, missing, err := casters[i].Cast([]byte(cell))
			switch {
			case err != nil:
				t.Fatal(err)
			case missing:
				b.AppendNull()
			default:
				b.Append(text)
			}
		}
		b.EndRow(2)
		var out strings.Builder
		w := jsonrows.NewWriter(&out, types, values)
		if err := errors.Join(w.WriteBatch(b), w.Close()); err != nil {
			t.Fatal(err)
		}
		var got, want bytes.Buffer
		if err := json.Compact(&got, []byte(out.String())); err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
		if err := json.Compact(&want, []byte("["+c.want+"]")); err != nil {
			t.Fatal(err)
		}
		if got.String() != want.String() {
			t.Errorf("%q gives\n%s, want\n%s", c.cells, got.String(), want.String())
		}
	}
}

// TestLargeStrings: strings that are written in pieces have the bytes of those that are
// not.
func TestLargeStrings(t *testing.T) {
	t.Parallel()
	long := func(unit string) string { return strings.Repeat(unit, 300_000/len(unit)+1) }
	row := []string{long("plain"), long(`a "quoted" \ `), long("é\n"), "short", long("\x01")}
	names := []string{"a", "b", "c", "d", "e"}
	want := write(t, names, batch(row, row))
	var out strings.Builder
	w := jsonrows.NewWriter(&out, names, make([]func(dst, text []byte) []byte, len(names)))
	if err := w.WriteBatch(batch(row, row)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Error("the bytes are others")
	}
}
