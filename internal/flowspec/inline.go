package flowspec

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
)

// inlineJSON writes inline data as a JSON file: a list has an entry a line, and the
// keys of rows stand in the order of the schema's fields, then by name.
func inlineJSON(data any, schema map[string]any) []byte {
	rows, ok := data.([]any)
	if !ok {
		return append(appendJSON(nil, data), '\n')
	}
	order := map[string]int{}
	for i, f := range list(schema["fields"]) {
		order[text(object(f)["name"])] = i - maxValues // before those that no field names
	}
	out := []byte{'['}
	for i, v := range rows {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '\n')
		if row, ok := v.(map[string]any); ok {
			out = appendRow(out, row, order)
		} else {
			out = appendJSON(out, v)
		}
	}
	return append(out, "\n]\n"...)
}

func appendRow(out []byte, row map[string]any, order map[string]int) []byte {
	keys := slices.SortedFunc(maps.Keys(row), func(a, b string) int {
		return cmp.Or(cmp.Compare(order[a], order[b]), cmp.Compare(a, b))
	})
	out = append(out, '{')
	for i, key := range keys {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = appendJSON(out, key)
		out = append(out, ": "...)
		out = appendJSON(out, row[key])
	}
	return append(out, '}')
}

// appendJSON appends a value of the JSON value space, which has no error to give.
func appendJSON(out []byte, v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return append(out, "null"...)
	}
	return append(out, bytes.TrimSuffix(b.Bytes(), []byte{'\n'})...)
}
