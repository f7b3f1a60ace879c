package flowspec

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"go.yaml.in/yaml/v3"
)

// MaxValues is how many values a Flow-Spec holds at most, all levels counted; in YAML, also
// where its aliases are followed.
const MaxValues = maxValues

// ParseJSON reads a Flow-Spec as an API takes it: strict JSON, an object, at most
// 16 MiB, 100 levels and [MaxValues]. Numbers are json.Number.
func ParseJSON(text []byte) (map[string]any, error) {
	return datapackage.DecodeText(text, MaxValues)
}

// Meta checks a Flow-Spec as [ParseJSON] does and returns the texts in its member "meta"
// that have some names. It builds nothing else: for a caller that nobody is sure of.
func Meta(text []byte, names ...string) (map[string]string, error) {
	return datapackage.Texts(text, MaxValues, "meta", names...)
}

// plainTags are those of values that JSON has, and of dates, which stay text.
var plainTags = []string{"!!map", "!!seq", "!!str", "!!null", "!!bool", "!!int", "!!float", "!!timestamp"}

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
	c := &converter{anchored: map[*yaml.Node]*converted{}}
	v, err := c.value(doc.Content[0], 1)
	if err != nil {
		return nil, err
	}
	m, ok := v.any.(map[string]any)
	if !ok {
		return nil, errs.New(errs.Invalid, "flowspec.ParseYAML", "the document must be an object")
	}
	return m, nil
}

// converter turns nodes into values. What an alias stands for is one value, however
// often it is named, and is counted as often.
type converter struct {
	values, bytes int // of the JSON text that the document stands for
	anchored      map[*yaml.Node]*converted
}

// converted is a value and what it takes as JSON.
type converted struct {
	any
	values, bytes int
	levels        int // 1 for a scalar
}

// refused says where a document cannot be taken.
func refused(n *yaml.Node, format string, args ...any) error {
	return errs.New(errs.Invalid, "flowspec.ParseYAML", "line %d: "+format, append([]any{n.Line}, args...)...)
}

// count adds to what the document takes, before that is built.
func (c *converter) count(n *yaml.Node, values, bytes int) error {
	c.values += values
	c.bytes += bytes
	switch {
	case c.values > MaxValues:
		return errs.New(errs.TooLarge, "flowspec.ParseYAML", "line %d: the document holds more than %d values, aliases followed", n.Line, MaxValues)
	case c.bytes > datapackage.MaxBytes:
		return errs.New(errs.TooLarge, "flowspec.ParseYAML", "line %d: the document is larger than %d MiB as JSON, aliases followed", n.Line, datapackage.MaxBytes>>20)
	}
	return nil
}

// quoted is how many bytes a text takes as JSON.
func quoted(s string) int {
	n := len(s) + len(`"",`)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"', c == '\\':
			n++
		case c < ' ':
			n += len(`\u0000`) - 1
		}
	}
	return n
}

func (c *converter) value(n *yaml.Node, depth int) (*converted, error) {
	if n.Kind == yaml.AliasNode {
		return c.alias(n, depth)
	}
	if err := c.count(n, 1, 0); err != nil {
		return nil, err
	}
	if depth > datapackage.MaxDepth {
		return nil, refused(n, "the document is nested deeper than %d levels", datapackage.MaxDepth)
	}
	if tag := n.ShortTag(); !slices.Contains(plainTags, tag) {
		return nil, refused(n, "the tag %s is not allowed: values are plain YAML", tag)
	}
	values, bytes := c.values-1, c.bytes
	v := &converted{levels: 1}
	var err error
	switch n.Kind {
	case yaml.SequenceNode:
		v.any, err = c.list(n, v, depth)
	case yaml.MappingNode:
		v.any, err = c.object(n, v, depth)
	case yaml.DocumentNode, yaml.ScalarNode, yaml.AliasNode:
		if err = c.count(n, 0, quoted(n.Value)); err == nil {
			v.any, err = scalar(n)
		}
	}
	if err != nil {
		return nil, err
	}
	v.values, v.bytes = c.values-values, c.bytes-bytes
	if n.Anchor != "" {
		c.anchored[n] = v
	}
	return v, nil
}

// alias is the value that an alias stands for. It was converted before, unless it holds
// the alias itself.
func (c *converter) alias(n *yaml.Node, depth int) (*converted, error) {
	v := c.anchored[n.Alias]
	if v == nil && n.Alias.Kind == yaml.ScalarNode { // a key, which is no value of its own
		return c.value(n.Alias, depth)
	}
	if v == nil {
		return nil, refused(n, "the alias %s stands for a value that it is part of", n.Value)
	}
	if depth+v.levels-1 > datapackage.MaxDepth {
		return nil, refused(n, "the document is nested deeper than %d levels", datapackage.MaxDepth)
	}
	return v, c.count(n, v.values, v.bytes)
}

func (c *converter) list(n *yaml.Node, v *converted, depth int) (any, error) {
	if err := c.count(n, 0, len(`[],`)); err != nil {
		return nil, err
	}
	list := make([]any, 0, len(n.Content))
	for _, item := range n.Content {
		one, err := c.value(item, depth+1)
		if err != nil {
			return nil, err
		}
		v.levels = max(v.levels, one.levels+1)
		list = append(list, one.any)
	}
	return list, nil
}

func (c *converter) object(n *yaml.Node, v *converted, depth int) (any, error) {
	if err := c.count(n, 0, len(`{},`)); err != nil {
		return nil, err
	}
	m := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
			return nil, refused(n, "a key must be a text")
		}
		if _, ok := m[k.Value]; ok {
			return nil, refused(n, "the key %q is there twice", k.Value)
		}
		if err := c.count(k, 0, quoted(k.Value)); err != nil {
			return nil, err
		}
		one, err := c.value(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		v.levels = max(v.levels, one.levels+1)
		m[k.Value] = one.any
	}
	return m, nil
}

func scalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return nil, refused(n, "%q is not a boolean", n.Value)
		}
		return b, nil
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), nil
		}
		var v any
		if err := n.Decode(&v); err != nil {
			return nil, refused(n, "%q is not a number", n.Value)
		}
		text, err := json.Marshal(v)
		if err != nil {
			return nil, refused(n, "%q is not a number that JSON knows", n.Value)
		}
		return json.Number(text), nil
	}
	return n.Value, nil
}
