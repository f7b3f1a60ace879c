package jsonschema_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/jsonschema"
)

func value(t *testing.T, text string) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestCheck: all problems are told, each with its place and in words.
func TestCheck(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.Compile([]byte(`{
		"type": "object",
		"required": ["a"],
		"additionalProperties": false,
		"properties": {
			"a": {"type": ["object", "null"], "minProperties": 1},
			"b": {"enum": ["x", "y", null]},
			"c": {"type": "array", "maxItems": 1, "uniqueItems": true, "items": {"$ref": "#/$defs/item"}},
			"d/e": {"type": "boolean"},
			"f": {"not": {}, "errorMessage": "is our own"},
			"g": {"anyOf": [{"type": "object", "required": ["h"], "properties": {"h": {"type": "string"}}}, {"type": "string"}]},
			"i": {"anyOf": [{"type": "integer"}, {"type": "string"}], "errorMessage": "must be a number or a word"},
			"j": {"type": "integer", "minimum": 2, "maximum": 4},
			"k": {"const": "v"},
			"l": {"type": "string", "minLength": 1, "maxLength": 2, "pattern": "^[a-z]*$"}
		},
		"$defs": {"item": {"type": "string", "minLength": 1, "errorMessage": "must be a name"}}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string][]string{
		`{"a": null}`:                          nil,
		`[]`:                                   {": must be an object"},
		`{}`:                                   {"/a: is required"},
		`{"a": 1, "z": 2}`:                     {"/a: must be an object", "/z: is not known here"},
		`{"a": {}}`:                            {"/a: must not be empty"},
		`{"a": null, "b": "z"}`:                {"/b: must be one of x, y"},
		`{"a": null, "c": ["", "x"]}`:          {"/c/0: must be a name", "/c: must not have more than 1 entries"},
		`{"a": null, "c": ["x", "x"]}`:         {"/c: has one entry twice: 0 and 1", "/c: must not have more than 1 entries"},
		`{"a": null, "d/e": 1}`:                {"/d~1e: must be true or false"},
		`{"a": null, "f": 1}`:                  {"/f: is our own"},
		`{"a": null, "g": {"h": 1}}`:           {"/g/h: must be a text"},
		`{"a": null, "i": []}`:                 {"/i: must be a number or a word"},
		`{"a": null, "j": 1.5}`:                {"/j: must be a whole number"},
		`{"a": null, "j": 1}`:                  {"/j: must be at least 2"},
		`{"a": null, "j": 5}`:                  {"/j: must be at most 4"},
		`{"a": null, "k": "w"}`:                {"/k: must be v"},
		`{"a": null, "l": ""}`:                 {"/l: must not be empty"},
		`{"a": null, "l": "ABC"}`:              {"/l: must match the pattern ^[a-z]*$", "/l: must not be longer than 2 characters"},
		`{"a": null, "j": 9e9999}`:             {"/j: must be at most 4"},
		`{"a": null, "c": ["x", 1e-99999999]}`: {"/c/1: the number has an exponent of more than 4 digits"},
	} {
		var got []string
		for _, p := range schema.Check(value(t, in), 10) {
			got = append(got, p.String())
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
		if schema.Valid(value(t, in)) != (want == nil) || schema.ValidText([]byte(in)) != (want == nil) {
			t.Errorf("%s: Valid and Check differ", in)
		}
	}
	if got := schema.Check(value(t, `{"b": 1, "k": 2, "z": 3}`), 2); len(got) != 2 {
		t.Errorf("%d problems are told, want 2", len(got))
	}
}

// TestStandsAlone: nothing is fetched or opened for a schema.
func TestStandsAlone(t *testing.T) {
	t.Parallel()
	for _, ref := range []string{"https://example.org/x.json", "file:///etc/passwd", "other.json"} {
		if _, err := jsonschema.Compile([]byte(`{"$ref": "` + ref + `"}`)); err == nil {
			t.Errorf("%s was taken", ref)
		}
	}
	if _, err := jsonschema.Compile([]byte(`{"type": 5}`)); err == nil {
		t.Error("a schema that is none was taken")
	}
	if _, err := jsonschema.Compile([]byte(`{`)); err == nil {
		t.Error("a broken schema was taken")
	}
}
