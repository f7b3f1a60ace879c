package engine_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/engine"
)

// generated is a text that is made while it is read: a head, a unit so many times,
// a tail. It counts what was taken of it.
type generated struct {
	head, unit, tail string
	left             int64 // bytes of the units
	taken            int64
}

func (g *generated) Read(p []byte) (int, error) {
	n := copy(p, g.head)
	g.head = g.head[n:]
	for n < len(p) && g.left > 0 {
		k := copy(p[n:], g.unit[:min(int64(len(g.unit)), g.left)])
		g.left -= int64(k)
		n += k
		if g.left > 0 && k < len(g.unit) {
			g.unit = g.unit[k:] + g.unit[:k]
		}
	}
	if g.left == 0 && n < len(p) {
		k := copy(p[n:], g.tail)
		g.tail = g.tail[k:]
		n += k
	}
	g.taken += int64(n)
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (g *generated) Close() error { return nil }

func fields(of ...string) map[string]any {
	list := []any{}
	for i := 0; i < len(of); i += 2 {
		list = append(list, map[string]any{"name": of[i], "type": of[i+1]})
	}
	return map[string]any{"fields": list}
}

func packed(t *testing.T, r io.Reader) string {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(w, r)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestFaultsInData: what is wrong with a file is said with its row and column, files
// that are odd but right are read, and nothing of any size is held in memory.
func TestFaultsInData(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	a, ab := fields("a", "integer"), fields("a", "string", "b", "integer")
	const gigabyte = 1 << 30
	// What may be read of a file before a limit stops it: a row is two cells, and the
	// buffer that holds it grows by its own length.
	const mostRead = 257 << 20
	x := strings.Repeat("x", 4096)
	text := func(s string) *generated { return &generated{head: s} }
	columns := func(open, unit, end string) *generated {
		return &generated{head: open, unit: unit, left: int64(100_000 * len(unit)), tail: end}
	}
	for _, c := range []struct {
		name, format string
		resource     m
		body         *generated
		want         []string // row, column, code
		says         string   // the first message, or a note
		rows         int64
	}{
		{"0 bytes", "csv", m{"schema": a}, text(""), []string{"0:0 source-error"}, "the file is empty", 0},
		{"0 bytes of JSON", "json", m{"schema": a}, text(""), []string{"0:0 source-error"}, "the file is empty", 0},
		{"0 bytes of NDJSON", "ndjson", m{"schema": a}, text(""), []string{"0:0 source-error"}, "the file is empty", 0},
		{"a header alone", "csv", m{"schema": a}, text("a\n"), nil, "", 0},
		{"a header alone in JSON", "json", m{"schema": a}, text(`[["a"]]`), nil, "", 0},
		{"labels twice and blank", "csv", m{"schema": fields("a", "any", "a2", "any", "field3", "any")}, text("a,a,\n1,2,3\n"), []string{"0:2 duplicate-label", "0:3 blank-label"}, "", 1},
		{"labels twice and blank in JSON", "json", m{"schema": fields("a", "any", "a2", "any", "field3", "any")}, text(`[["a","a",null],[1,2,3]]`), []string{"0:2 duplicate-label", "0:3 blank-label"}, "", 1},
		{"ragged rows", "csv", m{"schema": ab}, text("a,b\nx,1\nx\nx,1,2,3\n"), []string{"3:2 missing-cell", "4:3 extra-cell", "4:4 extra-cell"}, "the row has 1 cells, the header 2", 3},
		{"ragged rows in JSON", "json", m{"schema": ab}, text(`[["a","b"],["x",1],["x"],["x",1,2]]`), []string{"3:2 missing-cell", "4:3 extra-cell"}, "", 3},
		{"a quote that is not closed", "csv", m{"schema": ab}, text("a,b\nx,1\n\"y,2\nz,3\n"), []string{"3:0 source-error"}, "column 1 is not closed to the end of the file", 1},
		{"a cell of a megabyte", "csv", m{"schema": ab}, &generated{head: "a,b\n", unit: "x", left: 1 << 20, tail: ",1\ny,z\n"}, []string{"3:2 type-error"}, `"z" is not an integer`, 2},
		{"a cell of a megabyte in JSON", "json", m{"schema": ab}, &generated{head: `[{"a":"`, unit: "x", left: 1 << 20, tail: `","b":1},{"b":"z"}]`}, []string{"3:2 type-error"}, `"z" is not an integer`, 2},
		{"a line of a gigabyte", "csv", m{"schema": ab}, &generated{head: "a,b\ny,1\n", unit: x, left: gigabyte}, []string{"3:0 source-error"}, "longer than the limit of 64 MiB", 1},
		{"a line of a gigabyte with cells", "csv", m{"schema": ab}, &generated{head: "a,b\ny,1\n", unit: strings.Repeat("x", 1<<20) + ",", left: gigabyte}, []string{"3:0 source-error"}, "longer than the limit of 128 MiB", 1},
		{"a quote and a gigabyte", "csv", m{"schema": ab}, &generated{head: "a,b\ny,1\nz,\"", unit: strings.Repeat("x\n", 2048), left: gigabyte}, []string{"3:0 source-error"}, "column 2 is not closed within 64 MiB", 1},
		{"a text of a gigabyte in JSON", "json", m{"schema": ab}, &generated{head: `[{"a":"y","b":1},{"a":"`, unit: x, left: gigabyte}, []string{"3:0 source-error"}, "64 MiB", 1},
		{"a line of a gigabyte in NDJSON", "ndjson", m{"schema": ab}, &generated{head: "{\"a\":\"y\",\"b\":1}\n", unit: strings.Repeat(" ", 4096), left: gigabyte}, []string{"3:0 source-error"}, "128 MiB", 1},
		{"NUL bytes", "csv", m{"schema": a}, text("a\n1\n2\n\x00\n3\n"), []string{"4:0 source-error"}, "NUL byte", 2},
		{"NUL bytes in JSON", "json", m{"schema": a}, text("[{\"a\":1},\x00]"), []string{"3:0 source-error"}, "not JSON", 1},
		{"many columns", "csv", m{"schema": a}, columns("a", ",a", "\n1\n"), []string{"1:0 source-error"}, "more than 16384 columns", 0},
		{"many cells", "csv", m{"schema": a}, columns("a\n1\n2", ",3", "\n"), []string{"3:0 source-error"}, "more than 16384 columns", 1},
		{"many cells in JSON", "json", m{"schema": a}, columns(`[["a"],[1],[0`, ",1", "]]"), []string{"3:0 source-error"}, "more than 16384 columns", 1},
		{"deep JSON", "json", m{"schema": fields("a", "array")}, &generated{head: `[{"a":[]},{"a":`, unit: "[", left: 1 << 20}, []string{"3:0 source-error"}, "100 deep", 1},
		{"a large exponent", "json", m{"schema": fields("a", "number")}, text(`[{"a":1e400},{"a":-1E-400},{"a":"x"}]`), []string{"4:1 type-error"}, "", 3},
		{"integers past 64 bits", "json", m{"schema": a}, text(`[{"a":9223372036854775808},{"a":-99999999999999999999999},{"a":1.5}]`), []string{"4:1 type-error"}, `"1.5" is not an integer`, 3},
		{"latin-1 called UTF-8", "csv", m{"schema": fields("a", "any"), "encoding": "utf-8"}, text("a\nx\n\xe9\n"), []string{"3:0 encoding-error"}, "the byte at offset 4 is not UTF-8", 1},
		{"UTF-8 called latin-1", "csv", m{"schema": fields("a", "any"), "encoding": "latin-1"}, text("a\né\n"), nil, "latin-1 was declared, but the bytes are valid UTF-8", 1},
		{"UTF-8 called latin-1 in JSON", "json", m{"schema": fields("a", "any"), "encoding": "latin-1"}, text(`[{"a":"é"}]`), nil, "latin-1 was declared, but the bytes are valid UTF-8", 1},
		{"keys that come later", "json", m{"schema": a}, text(`[{"a":1},{"b":1,"a":"x"}]`), []string{"0:0 extra-label", "3:1 type-error"}, `no field for the key "b"`, 2},
		{"no value in JSON", "json", m{"schema": m{"missingValues": []any{"-"}, "fields": []any{m{"name": "a", "type": "integer", "constraints": m{"required": true}}, m{"name": "b"}}}}, text(`[{"a":1,"b":"x"},{"a":null,"b":"x"},{"b":"x"},{"a":"-","b":"x"}]`), []string{"3:1 constraint-error", "4:1 constraint-error", "5:1 constraint-error"}, "", 4},
		{"a packed gigabyte", "csv.gz", m{"schema": a}, text(packed(t, &generated{head: "a\n1\n", unit: strings.Repeat("x", 1<<16), left: gigabyte / 4})), []string{"3:0 source-error"}, "64 MiB", 1},
		{"a damaged gzip file", "csv.gz", m{"schema": a}, text(packed(t, strings.NewReader("a\n1\n"))[:24]), []string{"0:0 source-error"}, "ends too early", 1},
	} {
		c.resource["name"] = "t"
		reports, err := engine.Validate(t.Context(), t.TempDir(), []engine.TableInput{{
			Resource: c.resource, Format: c.format,
			Open: func(context.Context, int) (io.ReadCloser, error) { return c.body, nil },
		}})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		r := reports[0]
		var got []string
		said := strings.Join(r.Problems.Notes, "; ")
		for _, p := range r.Problems.First {
			got = append(got, fmt.Sprintf("%d:%d %s", p.Row, p.Column, p.Code))
			said += "; " + p.Message
		}
		if !slices.Equal(got, c.want) || !strings.Contains(said, c.says) || r.Rows != c.rows {
			t.Errorf("%s: %d rows, %q: %.300s; want %d rows, %q: %s", c.name, r.Rows, got, said, c.rows, c.want, c.says)
		}
		if c.body.taken > mostRead {
			t.Errorf("%s: %d MB were read", c.name, c.body.taken>>20)
		}
	}
}
