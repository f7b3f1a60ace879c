package tableschema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/testkit"
)

func infer(cells ...string) string {
	var n Inferrer
	for _, c := range cells {
		n.Add(0, stream.Text, []byte(c))
	}
	name, _ := n.Type(0)
	return name
}

// TestInferCases holds the types against the captured columns.
func TestInferCases(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(testkit.Shared(t, "cases", "infer", "infer.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	held, all := 0, 0
	for line := range bytes.Lines(b) {
		var c struct {
			ID     string
			Cells  []string
			Expect struct{ Type, Format string }
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		all++
		if got := infer(c.Cells...); got != c.Expect.Type || c.Expect.Format != "default" {
			t.Errorf("%s: %q gives %s, want %s", c.ID, c.Cells, got, c.Expect.Type)
			continue
		}
		held++
	}
	t.Logf("%d of %d cases hold", held, all)
}

// TestInferRules: shares, empty cells, kinds.
func TestInferRules(t *testing.T) {
	t.Parallel()
	many := func(n int, cell string) []string { return slices.Repeat([]string{cell}, n) }
	for _, c := range []struct {
		want  string
		cells []string
	}{
		{"integer", append(many(9, "1"), "x")},
		{"string", append(many(8, "1"), "x")},
		{"integer", append(append(many(8, ""), "1"), "x")},
		{"any", many(5, "")},
		{"any", nil},
		{"string", append(many(99, ""), " ")},
		{"number", append(many(89, "1"), many(11, "1.5")...)},
		{"integer", append(many(90, "1"), many(10, "1.5")...)},
		{"boolean", []string{"true", "False", "TRUE"}},
		{"string", []string{"2020-01-01", "2020-01-01T00:00:00"}},
		{"geopoint", []string{" 1 , 2 ", "-180,90"}},
		{"object", []string{`{"type": "Point"}`}},
		{"geojson", []string{`{"\u0074ype": "Point", "coordinates": [1, 2]}`}},
		{"duration", []string{"P1Y", "-PT5.5S"}},
		{"number", []string{"NaN", "-inf", "1e400"}},
		{"string", []string{"\x00", "a\x00"}},
	} {
		if got := infer(c.cells...); got != c.want {
			t.Errorf("%q gives %s, want %s", c.cells, got, c.want)
		}
	}
	var n Inferrer
	for _, c := range []struct {
		kind stream.Kind
		cell string
		want string
	}{
		{stream.Integer, "1", "integer"},
		{stream.Number, "1.0", "number"},
		{stream.Boolean, "true", "boolean"},
		{stream.Date, "2020-01-02", "date"},
		{stream.Time, "03:04:05", "time"},
		{stream.Datetime, "2020-01-02T03:04:05", "datetime"},
		{stream.JSON, `{"a":1}`, "object"},
		{stream.JSON, `[1]`, "array"},
		{stream.JSON, `{"type":"Point","coordinates":[1,2]}`, "geojson"},
		{stream.Null, "", "any"},
		{stream.Time, "03:04:05.5", "string"}, // for which a time in the default format has no place
	} {
		column := n.Columns()
		n.Add(column, c.kind, []byte(c.cell))
		if got, _ := n.Type(column); got != c.want {
			t.Errorf("%q gives %s, want %s", c.cell, got, c.want)
		}
	}
	n.Add(MaxFields, stream.Text, []byte("x")) // no panic, no memory
	if n.Columns() != 11 {
		t.Errorf("%d columns", n.Columns())
	}
}

func TestFieldNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ labels, want []string }{
		{[]string{"a", "", "b"}, []string{"a", "field2", "b"}},
		{[]string{"a", "a", "a"}, []string{"a", "a2", "a3"}},
		{[]string{"a", "a", "a2"}, []string{"a", "a3", "a2"}},
		{[]string{"field2", ""}, []string{"field2", "field22"}},
		{[]string{"", "field1"}, []string{"field12", "field1"}},
		{nil, []string{}},
	} {
		got := FieldNames(c.labels)
		if !slices.Equal(got, c.want) {
			t.Errorf("%q gives %q, want %q", c.labels, got, c.want)
		}
	}
	long := FieldNames(slices.Repeat([]string{"a"}, MaxFields))
	slices.Sort(long)
	if len(slices.Compact(long)) != MaxFields {
		t.Error("names repeat")
	}
}

// FuzzInfer: a cell is counted for exactly the types that would take it.
func FuzzInfer(f *testing.F) {
	for _, s := range []string{
		"1", "-1", "+1.5e3", " 1 ", "NaN", "-INF", "2020", "2020-01", "2020-01-02", "03:04:05", "24:00:00",
		"2020-01-02T03:04:05Z", "2020-01-02T03:04:05.123456789+01:00", "P1Y", "-PT1.5S", "1,2", " 1 , 2\t", "181,2",
		"true", "FALSE", "0", "{}", "[1]", " {\"a\": 1} ", `{"type":"Point","coordinates":[1,2]}`, "[", "1 2", "é", "1.", ".5", ".",
		"1" + strings.Repeat("0", 100) + " ", "2020-01-02T03:04:05." + strings.Repeat("1", 60), "P", "-", "1,", "\v1\f",
	} {
		f.Add(s)
	}
	var fields []any
	for _, name := range inferredNames() {
		fields = append(fields, map[string]any{"name": name, "type": name})
	}
	schema, err := Parse(map[string]any{"fields": fields})
	if err != nil {
		f.Fatal(err)
	}
	casters := make([]*Caster, len(fields))
	for i := range casters {
		if casters[i], err = schema.Caster(i, CastOptions{}); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, cell string) {
		if cell == "" {
			return
		}
		got := typesOf(stream.Text, []byte(cell))
		for i, name := range inferredNames() {
			_, _, err := casters[i].Cast([]byte(cell))
			if fits := got&(1<<i) != 0; fits != (err == nil) {
				t.Errorf("%q as %s: counted %v, the cast says %v", cell, name, fits, err)
			}
		}
	})
}

func BenchmarkInfer(b *testing.B) {
	for _, cell := range []string{"12345", "1.25", "2020-01-02", "2020-01-02T03:04:05Z", "some text here", "1.5,2.5", `{"a":1}`, `{"type":"Point","coordinates":[1,2]}`, "true"} {
		b.Run(fmt.Sprintf("%.12s", cell), func(b *testing.B) {
			var n Inferrer
			text := []byte(cell)
			b.ReportAllocs()
			for b.Loop() {
				n.Add(0, stream.Text, text)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cells/s")
		})
	}
}
