package datapackage

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Inline is the data that stand in a resource's property `data` as the file that they
// are: a text is a file of the resource's `format`, anything else is JSON. The problem,
// which has its place in the resource, says why they cannot be one.
func Inline(resource map[string]any) (text []byte, format string, problem *Problem) {
	format, _ = resource["format"].(string)
	body, isText := resource["data"].(string)
	switch {
	case isText && format == "":
		return nil, "", &Problem{Pointer: "/format", Message: "is required: say what the text in data is, for instance csv"}
	case isText && !plainFormat(format):
		return nil, "", &Problem{Pointer: "/format", Message: "must be letters and digits"}
	case isText:
		return []byte(body), format, nil
	case format != "" && format != "json" && format != "geojson":
		return nil, "", &Problem{Pointer: "/format", Message: fmt.Sprintf("data that are no text are json (or geojson), not %q", format)}
	case format == "":
		format = "json"
	}
	schema, _ := resource["schema"].(map[string]any)
	return inlineJSON(resource["data"], schema), format, nil
}

func plainFormat(format string) bool {
	return len(format) <= 20 && !strings.ContainsFunc(format, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
}

// inlineJSON writes data as a JSON file: a list has an entry a line, and the keys of
// rows stand in the order of the schema's fields, then by name.
func inlineJSON(data any, schema map[string]any) []byte {
	rows, ok := data.([]any)
	if !ok {
		return append(appendJSON(nil, data), '\n')
	}
	order := map[string]int{}
	fields, _ := schema["fields"].([]any)
	for i, f := range fields {
		if f, ok := f.(map[string]any); ok {
			name, _ := f["name"].(string)
			order[name] = i - len(fields) // before those that no field names
		}
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
