package tableschema

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/jsonschema"
)

// prepareJSON reads strict JSON that begins with a bracket.
func prepareJSON(open byte) func(*Caster) error {
	return func(c *Caster) error {
		c.read = func(cell []byte) ([]byte, bool) {
			text := bytes.Trim(cell, " \t\r\n")
			return text, len(text) > 0 && text[0] == open && json.Valid(text)
		}
		return nil
	}
}

// decode reads JSON; of a key that is there twice the last counts.
func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

// jsonLength counts the members of an object or the items of an array.
func jsonLength(_ *Caster, text []byte) int {
	v, err := decode(text)
	if err != nil {
		return 0
	}
	switch v := v.(type) {
	case map[string]any:
		return len(v)
	case []any:
		return len(v)
	}
	return 0
}

// appendJSONKey appends bytes that are equal for equal JSON values.
func appendJSONKey(dst, text []byte) []byte {
	v, err := decode(text)
	if err != nil {
		return append(dst, text...)
	}
	return appendValueKey(dst, v)
}

func appendValueKey(dst []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		dst = append(dst, '{')
		for _, k := range slices.Sorted(maps.Keys(v)) {
			dst = append(AppendJSONString(dst, []byte(k)), ':')
			dst = append(appendValueKey(dst, v[k]), ',')
		}
		return append(dst, '}')
	case []any:
		dst = append(dst, '[')
		for _, item := range v {
			dst = append(appendValueKey(dst, item), ',')
		}
		return append(dst, ']')
	case json.Number:
		return parseDecimal(nil, []byte(v)).appendKey(dst)
	case string:
		return AppendJSONString(dst, []byte(v))
	case bool:
		if v {
			return append(dst, 't')
		}
		return append(dst, 'f')
	}
	return append(dst, '0')
}

// jsonSchemaCheck checks values against a JSON Schema. Nothing is fetched.
func (c *Caster) jsonSchemaCheck(pointer string, v any) (func([]byte) bool, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fault(pointer, "must be a JSON Schema")
	}
	schema, err := jsonschema.CompileLimited(text, c.patterns)
	if err != nil {
		return nil, fault(pointer, "is not a JSON Schema that can be used: %s", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	c.subschemas = schema.Subschemas()
	return func(text []byte) bool {
		valid, err := schema.ValidText(c.stop, text)
		c.unfinished = err
		return !valid
	}, nil
}
