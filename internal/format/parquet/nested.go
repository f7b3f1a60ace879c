package parquet

import (
	"encoding/json"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// assembler puts the values of a nested column together again as JSON, by their
// levels (Dremel): a structure is an object, a list an array, a map an object whose
// keys are texts.
type assembler struct {
	root    *node
	cursors []*cursor // of its leaves
	begun   bool      // its first row was looked at
	scratch []byte
}

// appendCell appends the next row's value; null: it has none.
func (a *assembler) appendCell(dst []byte) ([]byte, stream.Kind, error) {
	start := len(dst)
	if !a.begun { // else the end of the row before says that one begins here
		a.begun = true
		if err := a.rowBegins(); err != nil {
			return dst, stream.Null, err
		}
	}
	dst, err := a.field(dst, a.root)
	if err == nil {
		err = a.rowBegins()
	}
	if err != nil {
		return dst, stream.Null, err
	}
	if string(dst[start:]) == "null" {
		return dst[:start], stream.Null, nil
	}
	return dst, stream.JSON, nil
}

// rowBegins checks that what comes next begins a row in each leaf, or that there is
// nothing more.
func (a *assembler) rowBegins() error {
	for _, c := range a.cursors {
		if _, rep, err := c.peek(); err != nil {
			return err
		} else if rep != 0 {
			return c.broken()
		}
	}
	return nil
}

func (a *assembler) first(n *node) *cursor { return a.cursors[n.first-a.root.first] }

// field appends a value of a node, with its repetition.
func (a *assembler) field(dst []byte, n *node) ([]byte, error) {
	def, _, err := a.first(n).peek()
	if err != nil {
		return dst, err
	}
	switch n.repetition {
	case optional:
		if def < n.maxDef {
			return append(dst, "null"...), a.drop(n)
		}
	case repeated:
		return a.list(dst, n, n, def)
	}
	return a.value(dst, n)
}

// list appends the values of a repeated node, each as the value of item.
func (a *assembler) list(dst []byte, n, item *node, def int) ([]byte, error) {
	if def < n.maxDef {
		return append(dst, "[]"...), a.drop(n)
	}
	dst = append(dst, '[')
	err := a.each(n, func(i int) (err error) {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if item == n {
			dst, err = a.value(dst, n)
		} else {
			dst, err = a.field(dst, item)
		}
		if err == nil && len(dst) > format.MaxCell {
			err = unsupported("column %q has a value of more than %d bytes", a.root.name, format.MaxCell)
		}
		return err
	})
	return append(dst, ']'), err
}

// each calls for every value of a repeated node, of which there is one at least.
func (a *assembler) each(n *node, item func(i int) error) error {
	for i := 0; ; i++ {
		if err := item(i); err != nil {
			return err
		}
		if _, rep, err := a.first(n).peek(); err != nil || rep != n.maxRep {
			return err
		}
	}
}

// value appends one value of a node, which is there.
func (a *assembler) value(dst []byte, n *node) ([]byte, error) {
	if n.leaf {
		return a.leaf(dst, n)
	}
	if len(n.children) == 1 && n.children[0].repetition == repeated {
		inner := n.children[0]
		def, _, err := a.first(inner).peek()
		if err != nil {
			return dst, err
		}
		switch {
		case n.logical == logList:
			item := inner
			// Three levels, or two as old writers have them.
			if len(inner.children) == 1 && inner.name != "array" && inner.name != n.name+"_tuple" {
				item = inner.children[0]
			}
			return a.list(dst, inner, item, def)
		case n.logical == logMap && len(inner.children) == 2 && inner.children[0].leaf:
			return a.keyed(dst, inner, def)
		}
	}
	dst = append(dst, '{')
	for i, child := range n.children {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(tableschema.AppendJSONString(dst, []byte(child.name)), ": "...)
		var err error
		if dst, err = a.field(dst, child); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func (a *assembler) keyed(dst []byte, inner *node, def int) ([]byte, error) {
	if def < inner.maxDef {
		return append(dst, "{}"...), a.drop(inner)
	}
	dst = append(dst, '{')
	key := inner.children[0]
	err := a.each(inner, func(i int) error {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		v, null, err := a.first(key).take()
		if err != nil {
			return err
		}
		text := a.scratch[:0]
		if !null {
			if text, _, err = key.appendText(text, v); err != nil {
				return err
			}
		}
		a.scratch = text
		dst = append(tableschema.AppendJSONString(dst, text), ": "...)
		dst, err = a.field(dst, inner.children[1])
		if err == nil && len(dst) > format.MaxCell {
			err = unsupported("column %q has a value of more than %d bytes", a.root.name, format.MaxCell)
		}
		return err
	})
	return append(dst, '}'), err
}

func (a *assembler) leaf(dst []byte, n *node) ([]byte, error) {
	v, null, err := a.first(n).take()
	if err != nil {
		return dst, err
	}
	if null || n.logical == logNull {
		return append(dst, "null"...), nil
	}
	text, kind, err := n.appendText(a.scratch[:0], v)
	if err != nil {
		return dst, err
	}
	a.scratch = text
	raw := false
	switch kind {
	case stream.Integer, stream.Boolean:
		raw = true
	case stream.Number:
		raw = text[len(text)-1] <= '9' // not NaN, INF
	case stream.JSON:
		raw = json.Valid(text)
	default: // of the others there is nothing to say
	}
	if raw {
		return append(dst, text...), nil
	}
	return tableschema.AppendJSONString(dst, text), nil
}

// drop takes the one value that stands in every leaf for a node without any.
func (a *assembler) drop(n *node) error {
	if n.leaf {
		_, _, err := a.first(n).take()
		return err
	}
	for _, child := range n.children {
		if err := a.drop(child); err != nil {
			return err
		}
	}
	return nil
}
