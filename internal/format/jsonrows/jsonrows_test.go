package jsonrows_test

import (
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
