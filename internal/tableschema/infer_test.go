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
	return n.Type(0)
}

// inferExceptions are captured columns that rules of DESIGN section 9 decide otherwise.
var inferExceptions = map[string]string{
	"int-leading-zero":  "digits with leading zeros are text",
	"zip":               "digits with leading zeros are text",
	"year-0000":         "digits with leading zeros are text",
	"int-then-number-9": "a schema takes every cell: integers and a number are numbers",
	"dash-missing":      "a dash among numbers is proposed as a missing value",
	"int-na":            "NA among numbers is proposed as a missing value",
	"bool-yesno":        "two words are booleans",
	"date-month-name":   "dates with the names of months are dates",
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
		got := infer(c.Cells...)
		holds := got == c.Expect.Type && c.Expect.Format == "default"
		switch reason, known := inferExceptions[c.ID]; {
		case known && holds:
			t.Errorf("%s holds, and is no exception (%s)", c.ID, reason)
		case !known && !holds:
			t.Errorf("%s: %q gives %s, want %s", c.ID, c.Cells, got, c.Expect.Type)
		case holds:
			held++
		}
	}
	t.Logf("%d of %d cases hold; %d exceptions", held, all, len(inferExceptions))
}

// TestInferRules: shares, empty cells, kinds.
func TestInferRules(t *testing.T) {
	t.Parallel()
	many := func(n int, cell string) []string { return slices.Repeat([]string{cell}, n) }
	for _, c := range []struct {
		want  string
		cells []string
	}{
		{"integer", append(many(9, "1"), "x")}, // a mark of a missing value
		{"string", append(many(9, "1"), "xx")},
		{"string", append(append(many(8, ""), "1"), "x")},
		{"any", many(5, "")},
		{"any", nil},
		{"string", append(many(99, ""), " ")}, // nothing says that it is no text
		{"number", append(many(89, "1"), many(11, "1.5")...)},
		{"number", append(many(90, "1"), many(10, "1.5")...)},
		{"boolean", []string{"true", "False", "TRUE"}},
		{"string", []string{"2020-01-01", "2020-01-01T00:00:00"}},
		{"geopoint", []string{" 1 , 2 ", "-180,90"}},
		{"number", []string{"1,2", "-180,90"}},
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
		if got := n.Type(column); got != c.want {
			t.Errorf("%q gives %s, want %s", c.cell, got, c.want)
		}
	}
	n.Add(MaxFields, stream.Text, []byte("x")) // no panic, no memory
	if n.Columns() != 11 {
		t.Errorf("%d columns", n.Columns())
	}
}

// column infers a column whose label is a, with the marks of its missing values.
func column(delimiter string, cells ...string) (Column, map[string]any) {
	n := Inferrer{Delimiter: delimiter}
	for i, c := range cells {
		n.add(0, int64(i+2), stream.Text, []byte(c))
	}
	columns := n.Inferred([]string{"a"})
	return columns[0], n.Schema(columns)
}

// TestInferForms: how numbers, dates and booleans are written, what marks missing values,
// and what looks like a number and is none. The last row counts as much as the first.
func TestInferForms(t *testing.T) {
	t.Parallel()
	many := func(n int, cell, last string) []string { return append(slices.Repeat([]string{cell}, n), last) }
	for _, c := range []struct {
		want  string // type, and what the field says beside it
		cells []string
	}{
		{`number decimalChar=,`, []string{"21,5", "-3,2", "0,8"}},
		{`number decimalChar=,`, []string{"1,5", "2"}},
		{`number groupChar=,`, []string{"1,034", "12,045", "99,001"}},
		{`number groupChar=,`, []string{"1,034,567", "12"}},
		{`number groupChar=,`, []string{"38,815", "97.5"}},
		{`number decimalChar=, groupChar=.`, []string{"1.234,56", "-20.034,10", "7,25"}},
		{`number decimalChar=, groupChar=.`, []string{"1.234.567", "7"}},
		{`number groupChar= `, []string{"1 234", "56"}},
		{`number decimalChar=, groupChar= `, []string{"1 234,5", "56"}},
		{"number decimalChar=, groupChar=\u00a0", []string{"1\u00a0234,5", "56"}},
		{"number groupChar='", []string{"1'234.50", "56"}},
		{"number groupChar=’", []string{"1’234", "56"}},
		{`string`, []string{"1,5", "1.5"}},
		{`string`, []string{"1,23,456", "1"}},
		{`string`, []string{"12,34", "1,234,567"}},
		{`number decimalChar=,`, []string{"0,123", "0,456"}}, // no group begins with a zero
		{`string`, []string{"1234,567,890"}},
		{`string`, []string{"01067", "10115"}},
		{`string`, many(300, "10115", "04109")},
		{`string`, []string{"-007", "1"}},
		{`integer`, []string{"0", "7", "-0"}},
		{`number`, []string{"0.5", "0", "1.25"}},
		{`string`, []string{"+49301234567", "+4989765432"}},
		{`string`, []string{"+49 301 234 567"}},
		{`integer`, []string{"+5", "-5"}},
		{`string`, []string{"030 123 456"}},
		{`string`, []string{"1.1", "1.2", "1.10"}},
		{`string`, many(500, "1.1", "1.10")},
		{`number`, []string{"1.1", "1.2", "2.10"}},
		{`number`, []string{"1.10", "1.20", "1.10"}},
		{`string`, []string{"1,1", "1,10"}},
		{`number`, many(500, "1", "1.5")},
		{`string`, many(500, "1", "one")},
		{`date format=%d.%m.%Y`, []string{"01.02.2024", "03.04.2024"}},
		{`date format=%d.%m.%Y`, []string{"1.2.2024", "28.2.2024"}},
		{`date format=%d.%m.%y`, []string{"01.02.24", "31.12.99"}},
		{`date format=%m/%d/%Y`, []string{"01/02/2024", "12/31/2024"}},
		{`date format=%d/%m/%Y`, many(300, "01/02/2024", "31/12/2024")},
		{`string`, []string{"01/02/2024", "03/04/2024"}}, // may be either
		{`string`, []string{"31/12/2024", "12/31/2024"}},
		{`date format=%d-%m-%Y`, []string{"31-12-2024", "01-02-2024"}},
		{`date format=%Y/%m/%d`, []string{"2024/01/02"}},
		{`date format=%b %d %Y`, []string{"Jan 1 2000", "Dec 31 1999"}},
		{`date format=%B %d, %Y`, []string{"January 1, 2000", "May 31, 1999"}},
		{`date format=%d %b %Y`, []string{"1 Jan 2020", "2 Feb 2021"}},
		{`date format=%d-%b-%y`, []string{"01-Jan-20", "2-Feb-21"}},
		{`string`, []string{"1.2.3", "1.2.4"}},
		{`string`, []string{"32.01.2024", "01.02.2024"}},
		{`string`, []string{"01.02.2024", "2024-02-01"}},
		{`integer missing=NA`, []string{"1", "NA", "3", "NA"}},
		{`integer missing=-`, []string{"-", "1", "2"}},
		{`number decimalChar=, missing=k.A.`, []string{"1,5", "k.A.", "2,5"}},
		{`number missing=. missing=...`, []string{"1.5", ".", "...", "2.5"}},
		{`integer missing=x`, []string{"1", "x", "2", "3", "4"}},
		{`string`, []string{"1", "x", "2"}},
		{`string`, []string{"x", "x", "2"}},
		{`string`, []string{"2020-01-02", "x"}},
		{`date missing=n/a`, []string{"2020-01-02", "n/a"}},
		{`integer missing= `, []string{"1", " "}},
		{`string`, []string{"NA", "NA"}},
		{`string`, []string{"DE", "NA", "AT"}},
		{`string`, []string{"1", "NA", "p"}},
		{`boolean falseValues=[no] trueValues=[yes]`, []string{"yes", "no", "yes"}},
		{`boolean falseValues=[Nein] trueValues=[Ja]`, []string{"Ja", "Nein"}},
		{`boolean falseValues=[n] missing=NA trueValues=[y]`, []string{"y", "n", "NA"}},
		{`string`, []string{"yes", "yes"}},
		{`string`, []string{"yes", "no", "maybe"}},
		{`string`, many(500, "yes", "no way")},
		{`boolean`, []string{"true", "FALSE"}},
		{`integer`, []string{"0", "1"}},
		{`geopoint`, []string{"1.5,2.5", "10,20"}},
		{`geopoint`, []string{"10, 20"}},
		{`any`, []string{"", ""}},
	} {
		got, schema := column(",", c.cells...)
		said := []string{}
		for key, v := range got.Field {
			switch {
			case key == "format" && v != "default", key == "decimalChar", key == "groupChar", key == "trueValues", key == "falseValues":
				said = append(said, fmt.Sprintf("%s=%v", key, v))
			}
		}
		for _, v := range schema["missingValues"].([]any) {
			if v != "" {
				said = append(said, fmt.Sprintf("missing=%v", v))
			}
		}
		slices.Sort(said)
		if text := strings.TrimSpace(got.Type + " " + strings.Join(said, " ")); text != strings.TrimSpace(c.want) {
			t.Errorf("%.200q gives %q (%s), want %q", c.cells, text, got.Why, c.want)
		}
		accepts(t, schema, c.cells)
	}
}

// accepts holds the cells of a column against the schema that was inferred from them.
func accepts(t *testing.T, schema map[string]any, cells []string) {
	t.Helper()
	s, err := Parse(schema)
	if err != nil {
		t.Fatalf("%v: %v", schema, err)
	}
	caster, err := s.Caster(0, CastOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, cell := range cells {
		if _, _, err := caster.Cast([]byte(cell)); err != nil {
			t.Errorf("%q: %v of %v", cell, err, schema)
		}
	}
}

// TestInferTogether: what one column says of another.
func TestInferTogether(t *testing.T) {
	t.Parallel()
	infer := func(delimiter string, rows ...[]string) ([]Column, map[string]any) {
		n := Inferrer{Delimiter: delimiter}
		for i, row := range rows {
			for c, cell := range row {
				n.add(c, int64(i+2), stream.Text, []byte(cell))
			}
		}
		columns := n.Inferred(make([]string, len(rows[0])))
		return columns, n.Schema(columns)
	}
	// A mark of one column that is a text of another is the field's own.
	columns, schema := infer(",", []string{"1", "NA"}, []string{"NA", "DE"})
	if list := columns[0].Field["missingValues"]; !slices.Equal(list.([]any), []any{"", "NA"}) || columns[1].Field["missingValues"] != nil || len(schema["missingValues"].([]any)) != 1 {
		t.Errorf("%v, %v", columns, schema)
	}
	// Points part thousands beside decimal commas.
	columns, _ = infer(";", []string{"1.034", "1,5"}, []string{"2.500", "2,5"})
	if columns[0].Field["groupChar"] != "." || columns[0].Field["decimalChar"] != "," || !columns[0].Doubtful {
		t.Errorf("%v", columns)
	}
	columns, _ = infer(";", []string{"1.034", "x1"}, []string{"2.500", "2,5"})
	if columns[0].Type != "number" || columns[0].Field["groupChar"] != nil {
		t.Errorf("%v", columns)
	}
	// A comma before three digits, by the other columns, else by what parts cells.
	columns, _ = infer(";", []string{"1,034", "1,5"}, []string{"2,500", "2,5"})
	if columns[0].Field["decimalChar"] != "," {
		t.Errorf("%v", columns)
	}
	columns, _ = infer(";", []string{"1,034", "1.5"}, []string{"2,500", "2.5"})
	if columns[0].Field["groupChar"] != "," {
		t.Errorf("%v", columns)
	}
	columns, _ = infer(";", []string{"1,034"}, []string{"2,500"})
	if columns[0].Field["decimalChar"] != "," || !columns[0].Doubtful {
		t.Errorf("%v", columns)
	}
}

// FuzzInferred: a schema takes the cells that it was inferred from.
func FuzzInferred(f *testing.F) {
	for _, s := range []string{"1\n2\n", "1,5\n2.034,1\n", "01.02.2024\n3.4.1999", "NA\n1\n-", "yes\nno", "1.1\n1.10", "+1234567", "Jan 1 2000\nFeb 2 2001", "1 234\n5", "1, 2\n3,4", " \n1", "1e5\n1.5", "0,5\n1'000", "31/12/99\n1/2/98", "true\n1", "2020-01-01\n-"} {
		f.Add(s, ";")
	}
	f.Fuzz(func(t *testing.T, text, delimiter string) {
		cells := strings.Split(text, "\n")
		_, schema := column(delimiter, cells...)
		accepts(t, schema, cells)
	})
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
