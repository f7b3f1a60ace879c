package standard

import (
	"bytes"
	"context"
	"slices"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/stream"
)

// computedFields adds fields that are computed from others of the row. Null sources
// are left out of a computation; what has no sources left is null.
type computedFields struct {
	resources *matcher
	fields    []computed
}

type computed struct {
	target    map[string]any
	typed     bool
	operation string
	source    []string
	with      any
	format    *python.Format
}

func newComputedFields(p *parameters) Processor {
	s := &computedFields{resources: p.matcher("resources")}
	p.each("fields", func(p *parameters) {
		c := computed{operation: p.required("operation"), source: p.texts("source"), with: p.m["with"]}
		switch v := p.m["target"].(type) {
		case string:
			c.target = map[string]any{"name": v}
		case map[string]any:
			c.target = v
		}
		if nameOf(c.target) == "" {
			p.fail("target", "must be a name or a field")
		}
		if _, ok := c.target["type"]; !ok && p.first("type") != "" {
			c.target["type"] = p.text("", "type")
		}
		_, c.typed = c.target["type"]
		switch c.operation {
		case "sum", "avg", "min", "max", "multiply":
			if len(c.source) == 0 {
				p.fail("source", "must list fields")
			}
		case "join":
			if _, ok := c.with.(string); !ok && c.with != nil {
				p.fail("with", "must be a text")
			}
		case "format":
			f, err := python.ParseFormat(p.required("with"))
			p.wrap("with", err)
			c.format = f
		case "constant":
		default:
			p.fail("operation", "must be one of avg, constant, format, join, max, min, multiply, sum")
		}
		s.fields = append(s.fields, c)
	})
	if len(s.fields) == 0 {
		p.fail("fields", "must list fields")
	}
	return s
}

// typeOf is the type of a field for which none is given.
func (c *computed) typeOf(list []map[string]any) string {
	var types []string
	for _, f := range list {
		if slices.Contains(c.source, nameOf(f)) {
			t, _ := f["type"].(string)
			types = append(types, t)
		}
	}
	switch {
	case slices.Contains(types, "any"):
		return "any"
	case c.operation == "format" || c.operation == "join":
		return "string"
	case c.operation == "avg" || slices.Contains(types, "number"):
		return "number"
	case len(types) > 0:
		return types[0]
	}
	return "any"
}

func (s *computedFields) Process(_ context.Context, _ *Env, p *Package) (*Package, error) {
	chosen := s.resources.selected(p)
	before := map[string]int{}
	for _, r := range chosen {
		list := fields(r)
		before[identity(r)] = len(list)
		for _, c := range s.fields {
			target := clone(c.target)
			if !c.typed {
				target["type"] = c.typeOf(list)
			}
			if slices.ContainsFunc(list, func(f map[string]any) bool { return nameOf(f) == nameOf(target) }) {
				return nil, invalid("parameter %q: resource %q has a field %q already", "fields", nameOf(r), nameOf(target))
			}
			list = append(list, target)
		}
		setFields(r, list)
	}
	expand(p.Descriptor)
	p.Tables = eachTable(p.Tables, func(t *Table) (*Table, error) {
		if !chosen.has(t.Resource) {
			return t, nil
		}
		n := before[identity(t.Resource)]
		row := &lookup{columns: index(t.Columns[:n])}
		made := map[string]int{}
		cells := make([]keyCell, len(s.fields))
		gone := map[string]bool{}
		for i, c := range s.fields {
			made[nameOf(c.target)] = i
			gone[nameOf(c.target)] = true
		}
		return NewTable(t.Resource, eachRow(t.Rows, func(b *stream.Batch, r int, out *stream.Batch) error {
			row.at(b, r)
			for i := range cells {
				cells[i].kind = stream.Absent
			}
			get := func(name string) (stream.Kind, []byte, bool) {
				if i, ok := made[name]; ok && cells[i].kind != stream.Absent {
					return cells[i].kind, cells[i].text, true
				}
				return row.get(name)
			}
			size := 0
			for c := range b.Width(r) {
				size += len(b.Cell(r, c))
			}
			for i, c := range s.fields {
				k, text, err := c.compute(cells[i].text[:0], get)
				if size += len(text); err == nil && size > stream.MaxRowBytes {
					err = invalid("field %q: the row that is made is longer than %d MiB, the limit of a row", nameOf(c.target), stream.MaxRowBytes>>20)
				}
				if err != nil {
					return rowError(t, b.Number(r), err)
				}
				cells[i] = keyCell{k, text}
			}
			copyCells(b, r, 0, n, out)
			for _, cell := range cells {
				out.AppendKind(cell.kind, cell.text)
			}
			if err := row.othersWithout(gone, out); err != nil {
				return err
			}
			out.EndRow(b.Number(r))
			return nil
		})), nil
	})
	return p, nil
}

// compute gives the value of the field for a row.
func (c *computed) compute(dst []byte, row python.Lookup) (stream.Kind, []byte, error) {
	switch c.operation {
	case "constant":
		k, text := CellOf(asNumber(c.with), dst)
		return k, text, nil
	case "format":
		text, err := c.format.Append(dst, row)
		return stream.Text, text, err
	case "join":
		with, _ := c.with.(string)
		first := true
		for _, name := range c.source {
			k, text, ok := row(name)
			if !ok || k == stream.Null {
				continue
			}
			if !first {
				dst = append(dst, with...)
			}
			first = false
			if dst = append(dst, python.Str(k, text)...); len(dst) > format.MaxCell {
				return 0, nil, invalid("field %q: the text that is made would be longer than %d MiB, the limit of a cell", nameOf(c.target), format.MaxCell>>20)
			}
		}
		return stream.Text, dst, nil
	}
	a := &aggregate{}
	for _, name := range c.source {
		k, text, ok := row(name)
		if !ok || k == stream.Null {
			continue
		}
		if err := a.add(c.operation, k, text); err != nil {
			return 0, nil, invalid("field %q, %s of %q: %s", nameOf(c.target), c.operation, name, errs.Detail(err))
		}
	}
	k, text := a.value(c.operation, dst)
	return k, text, nil
}

// aggregate gathers values: sum, multiply, avg, min, max.
type aggregate struct {
	n      int64
	number python.Number
	cell   keyCell // of min and max
}

func (a *aggregate) add(operation string, k stream.Kind, text []byte) error {
	switch operation {
	case "min", "max":
		if a.n > 0 {
			order, err := compareCells(k, text, a.cell.kind, a.cell.text)
			if err != nil {
				return err
			}
			if operation == "min" && order >= 0 || operation == "max" && order <= 0 {
				a.n++
				return nil
			}
		}
		a.n++
		a.cell = keyCell{k, append(a.cell.text[:0], text...)}
		return nil
	}
	n, ok := python.ParseNumber(k, text)
	if !ok {
		return invalid("%q is no number", python.Str(k, text))
	}
	switch {
	case a.n == 0:
		a.number = n
		if operation != "multiply" {
			a.number = python.Add(python.Int(0), n)
		}
	case operation == "multiply":
		a.number = python.Multiply(a.number, n)
	default:
		a.number = python.Add(a.number, n)
	}
	a.n++
	return nil
}

// value gives the result, null where nothing was added.
func (a *aggregate) value(operation string, dst []byte) (stream.Kind, []byte) {
	if a.n == 0 {
		return stream.Null, dst
	}
	n := a.number
	switch operation {
	case "min", "max":
		return a.cell.kind, append(dst, a.cell.text...)
	case "avg":
		n = python.Divide(n, a.n)
	}
	return n.Kind(), n.Append(dst)
}

// compareCells orders values of one sort: numbers by value, others by their text,
// which for dates and times is their order.
func compareCells(k stream.Kind, text []byte, other stream.Kind, otherText []byte) (int, error) {
	a, ok := python.ParseNumber(k, text)
	b, both := python.ParseNumber(other, otherText)
	switch {
	case ok && both:
		return python.Compare(a, b), nil
	case ok || both || k != other:
		return 0, invalid("%q and %q cannot be compared", python.Str(k, text), python.Str(other, otherText))
	}
	return bytes.Compare(text, otherText), nil
}
