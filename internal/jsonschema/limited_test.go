package jsonschema_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/datahq/specstore/internal/jsonschema"
	"github.com/datahq/specstore/internal/pattern"
)

// chain is a schema of so many levels, each of which leads to the next one in a form.
func chain(levels int, form, last string) string {
	var b strings.Builder
	b.WriteString(`{"$ref": "#/$defs/0", "$defs": {`)
	for i := range levels {
		next := fmt.Sprintf(`{"$ref": "#/$defs/%d"}`, i+1)
		fmt.Fprintf(&b, `"%d": %s,`, i, strings.ReplaceAll(form, "NEXT", next))
	}
	fmt.Fprintf(&b, `"%d": %s}}`, levels, last)
	return b.String()
}

func nested(open, last, end string, levels int) string {
	return strings.Repeat(open, levels) + last + strings.Repeat(end, levels)
}

func budget() *pattern.Budget { return pattern.NewBudget(pattern.MaxBytes) }

// TestHostileSchemas: whatever leads to one subschema on several ways ends with an error,
// when the schema is compiled or when a value is checked.
func TestHostileSchemas(t *testing.T) {
	t.Parallel()
	const draft4, draft7, draft2019 = `"$schema": "http://json-schema.org/draft-04/schema#", `, `"$schema": "http://json-schema.org/draft-07/schema#", `, `"$schema": "https://json-schema.org/draft/2019-09/schema", `
	withDraft := func(draft, schema string) string { return "{" + draft + schema[1:] }
	deep := nested("[", "1", ",2]", 60)
	object := nested(`{"a":`, "1", `, "b": 2}`, 60)
	for name, c := range map[string]struct{ schema, value string }{
		"allOf":                 {chain(60, `{"allOf": [NEXT, NEXT]}`, `{}`), `1`},
		"allOf draft 4":         {withDraft(draft4, chain(60, `{"allOf": [NEXT, NEXT]}`, `{"type": "string"}`)), `1`},
		"allOf of a reference":  {chain(60, `{"$ref": "#/$defs/60", "allOf": [NEXT, NEXT]}`, `{}`), `1`},
		"anyOf":                 {chain(60, `{"anyOf": [NEXT, NEXT]}`, `{"type": "string"}`), `1`},
		"oneOf":                 {chain(60, `{"oneOf": [NEXT, NEXT]}`, `{"type": "string"}`), `1`},
		"not":                   {chain(60, `{"allOf": [{"not": NEXT}, {"not": NEXT}]}`, `{"type": "string"}`), `1`},
		"not and anyOf":         {chain(60, `{"not": {"anyOf": [NEXT, NEXT]}}`, `{"type": "string"}`), `1`},
		"if":                    {chain(60, `{"if": NEXT, "then": NEXT, "else": NEXT}`, `{"type": "string"}`), `1`},
		"dependentSchemas":      {chain(60, `{"dependentSchemas": {"a": NEXT, "b": NEXT}}`, `{}`), `{"a": 1, "b": 2}`},
		"dependencies":          {withDraft(draft7, chain(60, `{"dependencies": {"a": NEXT, "b": NEXT}}`, `{"type": "string"}`)), `{"a": 1, "b": 2}`},
		"properties":            {chain(60, `{"properties": {"a": {"allOf": [NEXT, NEXT]}}}`, `{}`), object},
		"pattern properties":    {chain(60, `{"patternProperties": {"a": NEXT, "^a": NEXT}}`, `{}`), object},
		"two kinds of members":  {chain(60, `{"properties": {"a": NEXT}, "patternProperties": {"^a": NEXT}}`, `{}`), object},
		"items":                 {chain(60, `{"items": NEXT, "contains": NEXT}`, `{}`), deep},
		"prefixItems":           {chain(60, `{"prefixItems": [NEXT], "contains": NEXT}`, `{}`), deep},
		"unevaluatedItems":      {chain(60, `{"contains": NEXT, "unevaluatedItems": NEXT}`, `{"type": "string"}`), deep},
		"unevaluatedProperties": {chain(60, `{"allOf": [{"unevaluatedProperties": NEXT}, {"unevaluatedProperties": NEXT}]}`, `{}`), object},
		"recursion":             {`{"items": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}`, deep},
		"recursion that fails":  {`{"items": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "type": "array"}`, deep},
		"recursion of members":  {`{"additionalProperties": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}`, object},
		"recursiveRef":          {withDraft(draft2019, `{"$recursiveAnchor": true, "items": {"allOf": [{"$recursiveRef": "#"}, {"$recursiveRef": "#"}]}}`), deep},
		"dynamicRef":            {`{"$dynamicAnchor": "node", "items": {"allOf": [{"$dynamicRef": "#node"}, {"$dynamicRef": "#node"}]}}`, deep},
		"dynamicRef elsewhere": {`{"$ref": "list", "$defs": {
			"mine": {"$dynamicAnchor": "node", "items": {"allOf": [{"$dynamicRef": "#node"}, {"$dynamicRef": "#node"}]}},
			"list": {"$id": "list", "items": {"$dynamicRef": "#node"}, "$defs": {"default": {"$dynamicAnchor": "node"}}}}}`, deep},
		"itself":            {`{"$ref": "#"}`, `1`},
		"itself by allOf":   {`{"anyOf": [{"type": "string"}, {"$ref": "#"}]}`, `1`},
		"a long text":       {chain(19_000, `{"$ref": "#/$defs/last", "not": NEXT}`, `{}`), `1`},
		"a deep schema":     {nested(`{"not": `, "{}", "}", 5000), `1`},
		"a deep value":      {chain(200, `{"allOf": [NEXT]}`, `{"items": {"$ref": "#/$defs/0"}}`), nested("[", "1", "]", 9000)},
		"many subschemas":   {`{"allOf": [` + strings.Repeat("{},", 300_000) + `{}]}`, `1`},
		"many values":       {`{"items": {"type": "integer"}}`, "[" + strings.Repeat("1,", 3_000_000) + "1]"},
		"a large enum":      {`{"items": {"enum": [` + strings.Repeat(`[1],`, 50_000) + `"x"]}}`, "[" + strings.Repeat("[2],", 1000) + "1]"},
		"a long pattern":    {`{"items": {"pattern": "(x?y?z?){300}q"}}`, `["` + strings.Repeat("xyz", 300_000) + `"]`},
		"patterns of names": {`{"patternProperties": {"(x?y?z?){300}q": {}, "^(x?y?z?){300}r": {}}}`, `{"` + strings.Repeat("xyz", 300_000) + `": 1}`},
		"large patterns":    {`{"allOf": [` + strings.Repeat(`{"pattern": "[\\p{L}\\p{N}]{500}"},`, 1) + `{"pattern": "[\\p{L}\\p{N}]{501}"}, {"pattern": "[\\p{L}\\p{N}]{502}"}, {"pattern": "[\\p{L}\\p{N}]{503}"}, {"patternProperties": {"[\\p{L}\\p{N}]{504}": {}}}]}`, `1`},
		"copies": {func() string {
			var b strings.Builder
			b.WriteString(`{"allOf": [`)
			for i := range 3000 {
				fmt.Fprintf(&b, `{"$ref": "#/x/%d"},`, i)
			}
			return b.String() + `{}], "x": [` + strings.Repeat("{},", 3000) + `{}]}`
		}(), `1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema, err := jsonschema.CompileLimited([]byte(c.schema), budget())
			if err != nil {
				_, isLimit := errors.AsType[*jsonschema.LimitError](err)
				_, isSize := errors.AsType[*pattern.SizeError](err)
				if !isLimit && !isSize {
					t.Fatalf("compile: %v, want an error of a limit", err)
				}
				t.Log(err)
				return
			}
			_, err = schema.ValidText(nil, []byte(c.value))
			if err == nil {
				t.Fatal("the check was finished")
			}
			t.Log(err)
		})
	}
}

// TestStopped: a check ends when it is stopped.
func TestStopped(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.CompileLimited([]byte(`{"items": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}`), budget())
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	close(stop)
	if _, err = schema.ValidText(stop, []byte(nested("[", "1", "]", 60))); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("got %v, want that the check was stopped", err)
	}
	if ok, err := schema.ValidText(stop, []byte(`[[1]]`)); !ok || err != nil {
		t.Errorf("a short check: %v, %v", ok, err)
	}
}

// TestLimitedAgrees: honest schemas give what the plain ones give.
func TestLimitedAgrees(t *testing.T) {
	t.Parallel()
	schemas := []string{
		`true`, `false`, `{}`, `{"type": "object"}`, `{"not": {}}`,
		`{"enum": [1, "a", null, [1], {"a": 1}]}`, `{"const": 1.0}`,
		`{"type": "array", "items": {"type": "integer", "minimum": 0, "multipleOf": 2}, "uniqueItems": true}`,
		`{"prefixItems": [{"type": "string"}], "items": {"type": "integer"}, "contains": {"const": 2}, "minContains": 1}`,
		`{"properties": {"a": {"type": "integer"}}, "patternProperties": {"^b": {"type": "string"}}, "additionalProperties": false, "required": ["a"]}`,
		`{"allOf": [{"properties": {"a": true}}], "unevaluatedProperties": false}`,
		`{"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"maxProperties": 1}}`,
		`{"oneOf": [{"type": "object"}, {"minItems": 2}, {"pattern": "^a"}]}`,
		`{"propertyNames": {"maxLength": 1}, "dependentRequired": {"a": ["b"]}, "dependentSchemas": {"b": {"required": ["a"]}}}`,
		`{"$dynamicAnchor": "node", "type": ["object", "integer"], "properties": {"a": {"$dynamicRef": "#node"}}}`,
		`{"$schema": "http://json-schema.org/draft-07/schema#", "format": "date", "items": [{"format": "regex"}, {"format": "email"}], "additionalItems": false}`,
		`{"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": true, "dependencies": {"a": ["b"], "b": {"required": ["a"]}}}`,
		`{"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveAnchor": true, "items": {"$recursiveRef": "#"}, "type": ["array", "integer"]}`,
		`{"$ref": "https://json-schema.org/draft/2020-12/schema"}`,
		`{"$ref": "http://json-schema.org/draft-07/schema#"}`,
		`{"anyOf": [{"$ref": "#/$defs/point"}, {"$ref": "#/$defs/line"}], "$defs": {"point": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}}, "line": {"type": "array", "items": {"$ref": "#/$defs/point"}}}}`,
	}
	values := []string{
		`1`, `2`, `1.0`, `0.5`, `1e2`, `1e99999999`, `"a"`, `"ab"`, `"2020-02-30"`, `"2020-02-28"`, `null`, `true`, `[]`, `[1]`, `[1,1]`, `[2,4]`, `["a",2]`, `["(",2]`, `["a(", "x@y.z"]`, `["a", "x@y.z", 1]`,
		`{}`, `{"a":1}`, `{"a":1,"b":"x"}`, `{"b":1}`, `{"a":{"a":1}}`, `{"a":{"a":"x"}}`, `{"ab":1}`, `{"c":1,"d":2}`, `[[[1]]]`, `[["a"]]`, `[[1,2],[3,4]]`, `[[1,2],[3]]`, `{"type": 5}`, `{"type": "string"}`, `{"items": {"type": 5}}`, `{`,
	}
	for _, text := range schemas {
		plain, err := jsonschema.Compile([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		limited, err := jsonschema.CompileLimited([]byte(text), budget())
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for _, v := range values {
					var decoded any
					d := json.NewDecoder(strings.NewReader(v))
					d.UseNumber()
					want := d.Decode(&decoded) == nil && plain.Valid(decoded)
					if got, err := limited.ValidText(nil, []byte(v)); got != want || err != nil {
						t.Errorf("%s of %s: %v, %v, want %v", v, text, got, err, want)
					}
				}
			})
		}
		wg.Wait()
	}
}

func BenchmarkLargestSchema(b *testing.B) {
	for name, schema := range map[string]string{
		"wide":  `{"allOf": [` + strings.Repeat(`{"type": "string"},`, 4_900) + `{}]}`,
		"chain": chain(2_000, `{"allOf": [NEXT]}`, `{}`),
		"refs":  `{"$defs": {"a": {}}, "allOf": [` + strings.Repeat(`{"$ref": "#/$defs/a"},`, 4_900) + `{}]}`,
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s, err := jsonschema.CompileLimited([]byte(schema), budget())
				if err != nil {
					b.Fatal(err)
				}
				if ok, err := s.ValidText(nil, []byte(`"a"`)); !ok && err == nil {
					b.Fatal(err)
				}
			}
		})
	}
}
