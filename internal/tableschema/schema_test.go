package tableschema_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/tableschema"
)

func schemaOf(t testing.TB, text string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return m
}

// TestRefusedSchemas names what is wrong and where.
func TestRefusedSchemas(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ schema, pointer string }{
		{`{}`, "/fields"},
		{`{"fields":{}}`, "/fields"},
		{`{"fields":[1]}`, "/fields/0"},
		{`{"fields":[{}]}`, "/fields/0/name"},
		{`{"fields":[{"name":"a","type":7}]}`, "/fields/0/type"},
		{`{"fields":[{"name":"a","type":"decimal"}]}`, "/fields/0/type"},
		{`{"fields":[{"name":"a"},{"name":"a"}]}`, "/fields/1/name"},
		{`{"fields":[{"name":"a","constraints":[]}]}`, "/fields/0/constraints"},
		{`{"fields":[{"name":"a","constraints":{"minimum":1}}]}`, "/fields/0/constraints/minimum"},
		{`{"fields":[{"name":"a","type":"integer","constraints":{"minimum":"x"}}]}`, "/fields/0/constraints/minimum"},
		{`{"fields":[{"name":"a","type":"integer","constraints":{"enum":[1,"b"]}}]}`, "/fields/0/constraints/enum/1"},
		{`{"fields":[{"name":"a","constraints":{"pattern":"("}}]}`, "/fields/0/constraints/pattern"},
		{`{"fields":[{"name":"a","constraints":{"pattern":"a)|(?:b"}}]}`, "/fields/0/constraints/pattern"},
		{`{"fields":[{"name":"a","constraints":{"required":"yes"}}]}`, "/fields/0/constraints/required"},
		{`{"fields":[{"name":"a","constraints":{"maxLength":-1}}]}`, "/fields/0/constraints/maxLength"},
		{`{"fields":[{"name":"a","type":"object","constraints":{"jsonSchema":{"$ref":"https://example.com/s.json"}}}]}`, "/fields/0/constraints/jsonSchema"},
		{`{"fields":[{"name":"a","type":"list","itemType":"object"}]}`, "/fields/0/itemType"},
		{`{"fields":[{"name":"a","type":"geopoint","format":"pair"}]}`, "/fields/0/format"},
		{`{"fields":[{"name":"a"}],"missingValues":"x"}`, "/missingValues"},
		{`{"fields":[{"name":"a"}],"missingValues":[1]}`, "/missingValues/0"},
		{`{"fields":[{"name":"a"}],"primaryKey":"b"}`, "/primaryKey"},
		{`{"fields":[{"name":"a"}],"primaryKey":["a","a"]}`, "/primaryKey"},
		{`{"fields":[{"name":"a"}],"uniqueKeys":[["b"]]}`, "/uniqueKeys/0"},
		{`{"fields":[{"name":"a"}],"foreignKeys":[{"fields":"a"}]}`, "/foreignKeys/0/reference"},
		{`{"fields":[{"name":"a"}],"foreignKeys":[{"fields":"a","reference":{"resource":"t","fields":["x","y"]}}]}`, "/foreignKeys/0"},
	} {
		problems := tableschema.Check(schemaOf(t, c.schema))
		if len(problems) == 0 {
			t.Errorf("%s is taken", c.schema)
		} else if problems[0].Pointer != c.pointer {
			t.Errorf("%s: problem at %s (%s), want %s", c.schema, problems[0].Pointer, problems[0].Message, c.pointer)
		}
	}
}

func TestCanonicalDescriptor(t *testing.T) {
	t.Parallel()
	s, err := tableschema.Parse(schemaOf(t, `{"fields":[
		{"name":"n","type":"number","decimalChar":",","groupChar":".","title":"N","constraints":{"minimum":"1,5","required":true}},
		{"name":"d","type":"date","format":"%d/%m/%Y","constraints":{"enum":["15/06/2020"]}},
		{"name":"b","type":"boolean","trueValues":["ja"],"falseValues":["nein"]},
		{"name":"t","type":"time","format":"%H:%M"},
		{"name":"f","type":"time","format":"%H:%M:%S.%f"}
	],"missingValues":["-"],"primaryKey":"n"}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(s.CanonicalDescriptor())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"fields":[{"constraints":{"minimum":"1.5","required":true},"name":"n","title":"N","type":"number"},` +
		`{"constraints":{"enum":["2020-06-15"]},"format":"default","name":"d","type":"date"},` +
		`{"name":"b","type":"boolean"},{"format":"default","name":"t","type":"time"},{"format":"any","name":"f","type":"time"}],"missingValues":[""],"primaryKey":"n"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestTrim: in a flow blanks round a cell are dropped, but of strings.
func TestTrim(t *testing.T) {
	t.Parallel()
	s, err := tableschema.Parse(schemaOf(t, `{"fields":[{"name":"s"},{"name":"b","type":"boolean"},{"name":"d","type":"date"}],"missingValues":["","-"]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		field int
		cell  string
		text  string
		null  bool
	}{
		{0, " a ", " a ", false},
		{0, " - ", " - ", false},
		{1, " true ", "true", false},
		{1, " - ", "", true},
		{1, "  ", "", true},
		{2, "\t2020-01-02\u00a0", "2020-01-02", false},
	} {
		caster, err := s.Caster(c.field, tableschema.CastOptions{Trim: true})
		if err != nil {
			t.Fatal(err)
		}
		text, null, cellErr := caster.Cast([]byte(c.cell))
		if cellErr != nil || string(text) != c.text || null != c.null {
			t.Errorf("field %d, %q: %q, null %v, %v", c.field, c.cell, text, null, cellErr)
		}
	}
}

// FuzzCast: what is written is read again as the same value, and no text of
// anybody makes a cast panic.
func FuzzCast(f *testing.F) {
	kinds := []string{"any", "string", "number", "integer", "year", "yearmonth", "boolean", "date", "time", "datetime", "duration", "geopoint", "geojson", "object", "array", "list"}
	for i, cell := range []string{"", "a", "-1.50e7", "+01", "2020", "2020-01", "True", "2020-01-02", "24:00:00", "2020-01-02T24:00:00Z", "-P1Y2M3DT4H5M6.7S", "1, 2", `{"type":"Point","coordinates":[1,2]}`, `{"a":1}`, "[1]", "a,b"} {
		f.Add(uint8(i), "default", cell)
	}
	f.Add(uint8(7), "%d/%m/%y", "1/2/99")
	f.Add(uint8(9), "any", "Sat, 01 Feb 2020 10:00:00 GMT")
	f.Add(uint8(9), "%d%d%d%d%d%d%d%d%d", "111111111111111")
	f.Fuzz(func(t *testing.T, kind uint8, format, cell string) {
		s, err := tableschema.Parse(map[string]any{"fields": []any{map[string]any{"name": "f", "type": kinds[int(kind)%len(kinds)], "format": format}}})
		if err != nil {
			return
		}
		c, err := s.Caster(0, tableschema.CastOptions{})
		if err != nil {
			t.Fatal(err)
		}
		text, null, cellErr := c.Cast([]byte(cell))
		if cellErr != nil || null || len(text) == 0 {
			return
		}
		first := string(text)
		key := string(c.AppendKey(nil, []byte(first)))
		out, err := tableschema.Parse(s.CanonicalDescriptor())
		if err != nil {
			t.Fatal(err)
		}
		again, err := out.Caster(0, tableschema.CastOptions{})
		if err != nil {
			t.Fatal(err)
		}
		second, null, cellErr := again.Cast([]byte(first))
		if s.Fields[0].Type == "time" && cellErr != nil {
			return // the default form of a time has no fraction and no zone
		}
		if cellErr != nil || null || string(second) != first {
			t.Fatalf("%q is written as %q and read again as %q (null %v, %v)", cell, first, second, null, cellErr)
		}
		if got := string(again.AppendKey(nil, second)); got != key {
			t.Fatalf("%q: keys %q and %q differ", cell, key, got)
		}
	})
}

func BenchmarkCast(b *testing.B) {
	for _, c := range []struct{ name, field, cell string }{
		{"string", `{"name":"f"}`, "a usual text"},
		{"integer", `{"name":"f","type":"integer"}`, "123456"},
		{"number", `{"name":"f","type":"number"}`, "-1234.5678"},
		{"number-minimum", `{"name":"f","type":"number","constraints":{"minimum":0}}`, "1234.5678"},
		{"date", `{"name":"f","type":"date"}`, "2020-01-02"},
		{"datetime", `{"name":"f","type":"datetime"}`, "2020-01-02T03:04:05Z"},
		{"date-pattern", `{"name":"f","type":"date","format":"%d/%m/%Y"}`, "02/01/2020"},
	} {
		b.Run(c.name, func(b *testing.B) {
			s, err := tableschema.Parse(schemaOf(b, `{"fields":[`+c.field+`]}`))
			if err != nil {
				b.Fatal(err)
			}
			caster, err := s.Caster(0, tableschema.CastOptions{})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			cell := []byte(c.cell)
			for b.Loop() {
				if _, _, err := caster.Cast(cell); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
