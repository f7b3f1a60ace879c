package tables

import (
	"fmt"
	"io"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/jsonrows"
)

// openJSON opens JSON, NDJSON or GeoJSON. Of a dialect count `property`, `itemType`,
// `itemKeys` and `header` (Table Dialect 2), and `keyed` of older tools.
func openJSON(r io.Reader, name string, o Options) (format.Reader, error) {
	options := jsonrows.Options{Lines: name == "ndjson" || name == "jsonl", Features: name == "geojson", Pool: o.Pool}
	options.Encoding, _ = o.Resource["encoding"].(string)
	dialect, _ := o.Resource["dialect"].(map[string]any)
	wrong := func(key, what string) error {
		return &format.Error{Code: CodeDialect, Message: "dialect/" + key + ": must be " + what}
	}
	text := func(v any, key string, to *string) error {
		s, ok := v.(string)
		if v != nil && !ok {
			return wrong(key, "a text")
		}
		if s != "" {
			*to = s
		}
		return nil
	}
	for _, p := range []struct {
		from map[string]any
		key  string
		to   *string
	}{{o.Resource, "property", &options.Property}, {dialect, "property", &options.Property}, {dialect, "itemType", &options.ItemType}} {
		if err := text(p.from[p.key], p.key, p.to); err != nil {
			return nil, err
		}
	}
	switch options.ItemType {
	case "", "array", "object":
	default:
		return nil, wrong("itemType", `"array" or "object"`)
	}
	if v := dialect["itemKeys"]; v != nil {
		list, ok := v.([]any)
		if !ok || len(list) > format.MaxColumns {
			return nil, wrong("itemKeys", fmt.Sprintf("a list of at most %d keys", format.MaxColumns))
		}
		options.ItemKeys = []string{}
		for _, v := range list {
			key, ok := v.(string)
			if !ok {
				return nil, wrong("itemKeys", "a list of keys")
			}
			options.ItemKeys = append(options.ItemKeys, key)
		}
	}
	if v := dialect["keyed"]; v != nil && options.ItemType == "" {
		keyed, ok := v.(bool)
		if !ok {
			return nil, wrong("keyed", "true or false")
		}
		options.ItemType = "array"
		if keyed {
			options.ItemType = "object"
		}
	}
	if v := dialect["header"]; v != nil {
		header, ok := v.(bool)
		if !ok {
			return nil, wrong("header", "true or false")
		}
		options.NoHeader = !header
	}
	return jsonrows.NewReader(r, options)
}
