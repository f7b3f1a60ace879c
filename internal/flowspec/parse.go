package flowspec

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"go.yaml.in/yaml/v3"
)

// ParseJSON reads a Flow-Spec as an API takes it: strict JSON, an object, at most
// 16 MiB and 100 levels. Numbers are json.Number.
func ParseJSON(text []byte) (map[string]any, error) {
	return datapackage.Decode(bytes.NewReader(text))
}

// plainTags are those of values that JSON has, and of dates, which stay text.
var plainTags = []string{"!!map", "!!seq", "!!str", "!!null", "!!bool", "!!int", "!!float", "!!timestamp"}

// maxNodes bounds what a YAML document holds when its aliases are followed.
const maxNodes = 1 << 20

// ParseYAML reads a Flow-Spec file into the JSON value space: numbers are
// json.Number, dates stay text, keys are text.
func ParseYAML(text []byte) (map[string]any, error) {
	if len(text) > datapackage.MaxBytes {
		return nil, errs.New(errs.TooLarge, "flowspec.ParseYAML", "the document is larger than %d MiB", datapackage.MaxBytes>>20)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, errs.Wrap(err, errs.Invalid, "flowspec.ParseYAML", "not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 {
		return nil, errs.New(errs.Invalid, "flowspec.ParseYAML", "the document is empty")
	}
	c := &converter{}
	v, err := c.value(doc.Content[0], 1)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errs.New(errs.Invalid, "flowspec.ParseYAML", "the document must be an object")
	}
	return m, nil
}

type converter struct{ nodes int }

func (c *converter) value(n *yaml.Node, depth int) (any, error) {
	refuse := func(format string, args ...any) (any, error) {
		return nil, errs.New(errs.Invalid, "flowspec.ParseYAML", "line %d: "+format, append([]any{n.Line}, args...)...)
	}
	if c.nodes++; c.nodes > maxNodes {
		return refuse("the document holds more than %d values", maxNodes)
	}
	if depth > datapackage.MaxDepth {
		return refuse("the document is nested deeper than %d levels", datapackage.MaxDepth)
	}
	if tag := n.ShortTag(); n.Kind != yaml.AliasNode && !slices.Contains(plainTags, tag) {
		return refuse("the tag %s is not allowed: values are plain YAML", tag)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			v, err := c.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
				return refuse("a key must be a text")
			}
			if _, ok := m[k.Value]; ok {
				return refuse("the key %q is there twice", k.Value)
			}
			v, err := c.value(n.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			m[k.Value] = v
		}
		return m, nil
	}
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return refuse("%q is not a boolean", n.Value)
		}
		return b, nil
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), nil
		}
		var v any
		if err := n.Decode(&v); err != nil {
			return refuse("%q is not a number", n.Value)
		}
		text, err := json.Marshal(v)
		if err != nil {
			return refuse("%q is not a number that JSON knows", n.Value)
		}
		return json.Number(text), nil
	}
	return n.Value, nil
}
