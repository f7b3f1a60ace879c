package tableschema_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/tableschema"
)

// chainOf is a JSON Schema of so many levels, each of which refers to the next one twice.
func chainOf(levels int) string {
	var b strings.Builder
	b.WriteString(`{"$ref":"#/$defs/0","$defs":{`)
	for i := range levels {
		fmt.Fprintf(&b, `"%d":{"allOf":[{"$ref":"#/$defs/%d"},{"$ref":"#/$defs/%d"}]},`, i, i+1, i+1)
	}
	fmt.Fprintf(&b, `"%d":{}}}`, levels)
	return b.String()
}

// fieldsOf repeats a field under other names, so that each has a pattern of its own.
func fieldsOf(n int, field string) string {
	list := make([]string, n)
	for i := range list {
		list[i] = strings.ReplaceAll(field, "NUMBER", fmt.Sprint(i))
	}
	return `{"fields":[` + strings.Join(list, ",") + `]}`
}

// TestCosts: schemas that would take much memory or time are refused by the checks of a
// schema and of a spec, and the sum counts.
func TestCosts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schema string
		want   string // in the message; none where the schema is good
	}{
		"one pattern":        {fieldsOf(1, `{"name":"fNUMBER","constraints":{"pattern":"\\w{900}"}}`), ""},
		"the same pattern":   {fieldsOf(60, `{"name":"fNUMBER","constraints":{"pattern":"\\w{900}"}}`), ""},
		"60 patterns":        {fieldsOf(60, `{"name":"fNUMBER","constraints":{"pattern":"\\w{900}NUMBER"}}`), "regular expressions"},
		"500 patterns":       {fieldsOf(500, `{"name":"fNUMBER","constraints":{"pattern":"\\w{900}NUMBER"}}`), "regular expressions"},
		"classes by hand":    {fieldsOf(60, `{"name":"fNUMBER","constraints":{"pattern":"NUMBER`+strings.Repeat(`\\pL`, 900)+`"}}`), "regular expressions"},
		"in JSON Schemas":    {fieldsOf(60, `{"name":"fNUMBER","type":"object","constraints":{"jsonSchema":{"properties":{"a":{"pattern":"\\pL{900}NUMBER"}}}}}`), "regular expressions"},
		"names of members":   {fieldsOf(60, `{"name":"fNUMBER","type":"object","constraints":{"jsonSchema":{"patternProperties":{"\\pL{900}NUMBER":{}}}}}`), "regular expressions"},
		"codes":              {fieldsOf(2000, `{"name":"fNUMBER","constraints":{"pattern":"[A-Z]{2}-\\d{4}NUMBER"}}`), ""},
		"a chain":            {fieldsOf(1, `{"name":"fNUMBER","type":"object","constraints":{"jsonSchema":`+chainOf(60)+`}}`), "more than 100000 subschemas"},
		"a short chain":      {fieldsOf(1, `{"name":"fNUMBER","type":"object","constraints":{"jsonSchema":`+chainOf(3)+`}}`), ""},
		"many JSON Schemas":  {fieldsOf(3000, `{"name":"fNUMBER","type":"object","constraints":{"jsonSchema":{"required":["NUMBER"],"anyOf":[{},{},{},{}]}}}`), "subschemas together"},
		"a few JSON Schemas": {fieldsOf(200, `{"name":"fNUMBER","type":"object","constraints":{"jsonSchema":{"required":["NUMBER"],"anyOf":[{},{},{},{}]}}}`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var raw map[string]any
			if err := json.Unmarshal([]byte(c.schema), &raw); err != nil {
				t.Fatal(err)
			}
			for by, problems := range map[string][]tableschema.Problem{"Check": tableschema.Check(raw), "Costs": new(tableschema.Costs).Add(raw)} {
				switch {
				case c.want == "" && len(problems) > 0:
					t.Errorf("%s: %v, want none", by, problems[0])
				case c.want != "" && (len(problems) == 0 || !strings.Contains(problems[0].Message, c.want)):
					t.Errorf("%s: %.300v, want %q", by, problems, c.want)
				}
			}
		})
	}
}

// TestCostsOfAll: what each schema may have all together may not.
func TestCostsOfAll(t *testing.T) {
	t.Parallel()
	var costs tableschema.Costs
	for i := range 100 {
		raw := schemaOf(t, fmt.Sprintf(`{"fields":[{"name":"a","constraints":{"pattern":"\\w{500}%d"}}]}`, i))
		if problems := costs.Add(raw); len(problems) > 0 {
			if i < 2 {
				t.Errorf("schema %d is refused: %v", i, problems)
			}
			return
		}
	}
	t.Error("100 schemas with large patterns are taken")
}

// TestUnfinishedCheck: a cell whose check is beyond the budget has an error that says so.
func TestUnfinishedCheck(t *testing.T) {
	t.Parallel()
	s, err := tableschema.Parse(schemaOf(t, `{"fields":[{"name":"a","type":"array","constraints":{"jsonSchema":{"items":{"anyOf":[{"$ref":"#"},{"$ref":"#"}]},"type":"array"}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	deep := []byte(strings.Repeat("[", 60) + "1" + strings.Repeat("]", 60))
	stopped := make(chan struct{})
	close(stopped)
	for _, c := range []struct {
		stop <-chan struct{}
		want string
	}{{nil, "the check needs more than"}, {stopped, "the check was stopped"}} {
		caster, err := s.Caster(0, tableschema.CastOptions{Stop: c.stop})
		if err != nil {
			t.Fatal(err)
		}
		_, _, wrong := caster.Cast(deep)
		if wrong == nil || wrong.Kind != tableschema.ConstraintError || !strings.Contains(wrong.Message, c.want) {
			t.Errorf("got %v, want %q", wrong, c.want)
		}
		if _, _, wrong := caster.Cast([]byte(`[[],[]]`)); wrong != nil {
			t.Errorf("the next cell: %v", wrong)
		}
		if _, _, wrong := caster.Cast([]byte(`[1]`)); wrong == nil || strings.Contains(wrong.Message, c.want) {
			t.Errorf("a cell that breaks the schema: %v", wrong)
		}
	}
}
