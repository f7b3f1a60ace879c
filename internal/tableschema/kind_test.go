package tableschema

import (
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/stream"
)

// TestCastKind: what a file says of a cell counts more than how the field writes text.
func TestCastKind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field      map[string]any
		kind       stream.Kind
		cell, want string // ! is an error, "" is null
	}{
		{map[string]any{"type": "number", "decimalChar": ","}, stream.Number, "1.50", "1.50"},
		{map[string]any{"type": "number", "decimalChar": ","}, stream.Text, "1,50", "1.50"},
		{map[string]any{"type": "number", "decimalChar": ","}, stream.Text, "1.50", "!"},
		{map[string]any{"type": "number"}, stream.Number, "1e400", "1e400"},
		{map[string]any{"type": "integer"}, stream.Number, "1e3", "1000"},
		{map[string]any{"type": "integer"}, stream.Number, "-12.0", "-12"},
		{map[string]any{"type": "integer"}, stream.Number, "0.00", "0"},
		{map[string]any{"type": "integer"}, stream.Number, "1.5", "!"},
		{map[string]any{"type": "integer"}, stream.Number, "1e999999999999", "!"},
		{map[string]any{"type": "integer"}, stream.Number, "1e400", "1" + strings.Repeat("0", 400)},
		{map[string]any{"type": "integer"}, stream.Integer, "12345678901234567890", "12345678901234567890"},
		{map[string]any{"type": "integer"}, stream.Text, "1.0", "!"},
		{map[string]any{"type": "integer", "missingValues": []any{"-1"}}, stream.Integer, "-1", "-1"},
		{map[string]any{"type": "integer", "missingValues": []any{"-1"}}, stream.Null, "", ""},
		{map[string]any{"type": "integer", "constraints": map[string]any{"required": true}}, stream.Null, "", "!"},
		{map[string]any{"type": "integer", "constraints": map[string]any{"maximum": 5}}, stream.Number, "6.0", "!"},
		{map[string]any{"type": "boolean", "trueValues": []any{"yes"}, "falseValues": []any{"no"}}, stream.Boolean, "true", "true"},
		{map[string]any{"type": "date", "format": "%d/%m/%Y"}, stream.Date, "2020-01-02", "2020-01-02"},
		{map[string]any{"type": "date"}, stream.Datetime, "2020-01-02T00:00:00", "2020-01-02"},
		{map[string]any{"type": "date"}, stream.Datetime, "2020-01-02T00:00:01", "!"},
		{map[string]any{"type": "datetime", "format": "any"}, stream.Datetime, "2020-01-02T03:04:05.5", "2020-01-02T03:04:05.5"},
		{map[string]any{"type": "time", "format": "%H"}, stream.Time, "03:04:05", "03:04:05"},
		{map[string]any{"type": "time"}, stream.Time, "03:04:05.5", "!"},
		{map[string]any{"type": "time", "format": "%H:%M"}, stream.Time, "03:04:05.5", "!"},
		{map[string]any{"type": "time", "format": "%H:%M:%S.%f"}, stream.Time, "03:04:05.5", "03:04:05.500000"},
		{map[string]any{"type": "time", "format": "%H:%M:%S.%f"}, stream.Time, "03:04:05", "03:04:05"},
		{map[string]any{"type": "year"}, stream.Integer, "2020", "2020"},
		{map[string]any{"type": "boolean"}, stream.Integer, "1", "true"},
		{map[string]any{"type": "number"}, stream.Boolean, "true", "!"},
		{map[string]any{"type": "array"}, stream.JSON, "[1]", "[1]"},
		{map[string]any{"type": "object"}, stream.JSON, "[1]", "!"},
		{map[string]any{"type": "string"}, stream.Integer, "1", "1"},
	} {
		c.field["name"] = "x"
		schema, err := Parse(map[string]any{"fields": []any{c.field}})
		if err != nil {
			t.Fatal(err)
		}
		caster, err := schema.Caster(0, CastOptions{})
		if err != nil {
			t.Fatal(err)
		}
		text, null, cellErr := caster.CastKind(c.kind, []byte(c.cell))
		got := string(text)
		if cellErr != nil {
			got = "!"
		}
		if got != c.want || null != (c.kind == stream.Null) {
			t.Errorf("%v, kind %d, %s: %.50q (null %v), want %.50q", c.field, c.kind, c.cell, got, null, c.want)
		}
	}
}

// TestTimeWithFraction: what a spreadsheet knows and the default format does not is said.
func TestTimeWithFraction(t *testing.T) {
	t.Parallel()
	schema, err := Parse(map[string]any{"fields": []any{map[string]any{"name": "x", "type": "time"}}})
	if err != nil {
		t.Fatal(err)
	}
	caster, err := schema.Caster(0, CastOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, _, bad := caster.CastKind(stream.Time, []byte("03:04:05.5"))
	if bad == nil || bad.Kind != TypeError || !strings.Contains(bad.Message, `"03:04:05.5" has a fraction of a second`) || !strings.Contains(bad.Message, `"%H:%M:%S.%f"`) {
		t.Errorf("%v", bad)
	}
}
