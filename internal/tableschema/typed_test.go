package tableschema_test

import (
	"testing"

	"github.com/datahq/specstore/internal/tableschema"
)

// TestCastTyped casts values of formats that have types: what a field says of texts
// does not hold for them.
func TestCastTyped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ field, of, value, want string }{
		{`{"name":"f","type":"integer"}`, "integer", "-12", "-12"},
		{`{"name":"f","type":"integer","groupChar":"2"}`, "integer", "12", "12"},
		{`{"name":"f","type":"integer"}`, "number", "1.5", "error"},
		{`{"name":"f","type":"integer"}`, "integer", "x", "error"},
		{`{"name":"f","type":"number","decimalChar":","}`, "number", "1.5", "1.5"},
		{`{"name":"f","type":"number","decimalChar":","}`, "integer", "1", "1"},
		{`{"name":"f","type":"number"}`, "boolean", "true", "error"},
		{`{"name":"f","type":"boolean","trueValues":["yes"]}`, "boolean", "true", "true"},
		{`{"name":"f","type":"boolean"}`, "integer", "1", "true"},
		{`{"name":"f","type":"date","format":"%d/%m/%Y"}`, "date", "2020-01-02", "2020-01-02"},
		{`{"name":"f","type":"date"}`, "datetime", "2020-01-02T00:00:00", "2020-01-02"},
		{`{"name":"f","type":"date"}`, "datetime", "2020-01-02T00:00:01", "error"},
		{`{"name":"f","type":"datetime","format":"any"}`, "datetime", "2020-01-02T03:04:05.5", "2020-01-02T03:04:05.5"},
		{`{"name":"f","type":"time","format":"%H"}`, "time", "03:04:05", "03:04:05"},
		{`{"name":"f","type":"time"}`, "time", "03:04:05.5", "error"},
		{`{"name":"f","type":"year"}`, "integer", "2020", "2020"},
		{`{"name":"f","type":"string"}`, "number", "1.5", "1.5"},
		{`{"name":"f","type":"string"}`, "", "", "null"},
		{`{"name":"f","type":"string"}`, "integer", "99", "99"}, // a missing value is a text
		{`{"name":"f","type":"integer","constraints":{"maximum":5}}`, "integer", "6", "error"},
		{`{"name":"f","type":"integer","constraints":{"required":true}}`, "", "", "error"},
	} {
		s, err := tableschema.Parse(schemaOf(t, `{"fields":[`+c.field+`],"missingValues":["99"]}`))
		if err != nil {
			t.Fatal(err)
		}
		caster, err := s.Caster(0, tableschema.CastOptions{})
		if err != nil {
			t.Fatal(err)
		}
		text, null, cellErr := caster.CastTyped(c.of, []byte(c.value))
		got := string(text)
		switch {
		case cellErr != nil:
			got = "error"
		case null:
			got = "null"
		}
		if got != c.want {
			t.Errorf("%s: %s %q gives %q (%v), want %q", c.field, c.of, c.value, got, cellErr, c.want)
		}
	}
}
