package tables

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/jsonrows"
)

// openJSON opens JSON, NDJSON or GeoJSON. Of a dialect count `property`, `itemType`,
// `itemKeys` and `header` (Table Dialect 2), and `keyed` of older tools.
func openJSON(ctx context.Context, r io.Reader, name string, o Options) (format.Reader, error) {
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
	return openRows(ctx, r, options, o)
}

// openRows opens the rows of JSON. The columns of rows that are objects are the fields of
// the resource's schema, else the keys of the whole file, which is read once before. An
// object at the root is looked through for the rows, where the resource does not say where
// they are.
func openRows(ctx context.Context, r io.Reader, options jsonrows.Options, o Options) (format.Reader, error) {
	if options.ItemKeys == nil {
		options.Columns, options.AnyCase = fieldNames(o.Resource), o.AnyCase
	}
	head := bufio.NewReaderSize(r, 64<<10)
	search := !options.Lines && !options.Features && options.Property == "" && beginsObject(head)
	if options.Columns != nil && !search || options.ItemKeys != nil && !search {
		return jsonrows.NewReader(head, options)
	}
	f, err := os.CreateTemp(o.Temp, "json-")
	if err != nil {
		return nil, err
	}
	free := func() { f.Close(); os.Remove(f.Name()) }
	_, err = io.Copy(f, head)
	whole := func() io.Reader { return format.Bound(ctx, io.NewSectionReader(f, 0, 1<<62)) }
	if err == nil && search {
		err = find(whole(), &options)
	}
	if err == nil && options.Columns == nil && options.ItemKeys == nil {
		options.Columns, err = jsonrows.Survey(whole(), options)
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	var rows *jsonrows.Reader
	if err == nil {
		rows, err = jsonrows.NewReader(whole(), options)
	}
	if err != nil {
		free()
		return nil, err
	}
	return &closing{rows, free}, nil
}

// beginsObject reports whether the first character of a file, white space and a mark
// aside, opens an object.
func beginsObject(r *bufio.Reader) bool {
	head, _ := r.Peek(4 << 10) // an error is met again
	for _, c := range head {
		switch c {
		case ' ', '\t', '\r', '\n', 0, 0xEF, 0xBB, 0xBF, 0xFE, 0xFF: // white space, marks, halves of UTF-16
		default:
			return c == '{'
		}
	}
	return false
}

// find has the rows of an object read that it holds alone: the features of GeoJSON, or its
// only array of objects.
func find(r io.Reader, options *jsonrows.Options) error {
	found, err := jsonrows.Find(r, *options)
	if e, ok := errors.AsType[*format.EncodingError](err); ok {
		err = &format.Error{Code: format.CodeEncoding, Message: e.Message}
	}
	switch {
	case err != nil:
		return err
	case found.Features:
		options.Features = true
	case len(found.Arrays) == 1:
		options.Property = found.Arrays[0]
	case len(found.Arrays) > 1:
		quoted := make([]string, len(found.Arrays))
		for i, key := range found.Arrays {
			quoted[i] = fmt.Sprintf("%.100q", key)
		}
		return &format.Error{Code: format.CodeSource, Message: fmt.Sprintf("the file is an object with several arrays of rows, %s: say which with `property` in its dialect (--dialect '{\"property\": %s}')", strings.Join(quoted, ", "), quoted[0])}
	}
	return nil
}

// fieldNames are the names of the fields of a resource's schema; nil where it has none.
func fieldNames(resource map[string]any) []string {
	schema, _ := resource["schema"].(map[string]any)
	fields, ok := schema["fields"].([]any)
	if !ok {
		return nil
	}
	names := make([]string, 0, len(fields))
	for _, v := range fields {
		field, _ := v.(map[string]any)
		name, ok := field["name"].(string)
		if !ok || len(names) == format.MaxColumns {
			return nil
		}
		names = append(names, name)
	}
	return names
}

// ExtraKeys returns keys of the objects of a table that are no columns of it, and whether
// there are more of them. Formats with a header have them there.
func ExtraKeys(r format.Reader) (keys []string, more bool) {
	if rows, ok := innermost(r).(*jsonrows.Reader); ok {
		return rows.Extra()
	}
	return nil, false
}
