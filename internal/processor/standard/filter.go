package standard

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/stream"
)

// filterRows lets rows pass that meet a condition, any of them: a field equals a
// value of `in`, or differs from one of `out`. Fields of one condition do not belong
// together: that is how datapackage-pipelines reads them.
type filterRows struct {
	resources  *matcher
	conditions []condition
}

type condition struct {
	field string
	value any
	not   bool
}

func newFilter(p *parameters) Processor {
	s := &filterRows{resources: p.matcher("resources")}
	for _, key := range []string{"in", "out"} {
		p.each(key, func(p *parameters) {
			for _, field := range slices.Sorted(maps.Keys(p.m)) {
				s.conditions = append(s.conditions, condition{field, p.m[field], key == "out"})
			}
		})
	}
	if len(s.conditions) == 0 {
		p.fail("in", "or parameter \"out\" must list conditions")
	}
	return s
}

func (s *filterRows) Process(_ context.Context, _ *Env, p *Package) (*Package, error) {
	expand(p.Descriptor)
	chosen := s.resources.selected(p)
	p.Tables = eachTable(p.Tables, func(t *Table) (*Table, error) {
		if !chosen.has(t.Resource) {
			return t, nil
		}
		row := newLookup(t)
		return NewTable(t.Resource, eachRow(t.Rows, func(b *stream.Batch, r int, out *stream.Batch) error {
			row.at(b, r)
			for _, c := range s.conditions {
				k, text, ok := row.get(c.field)
				if !ok {
					return rowError(t, b.Number(r), invalid("there is no field %q", c.field))
				}
				if equal(k, text, c.value) != c.not {
					copyRow(b, r, out)
					return nil
				}
			}
			return nil
		})), nil
	})
	return p, nil
}

// equal reports whether a cell is equal to a value of the parameters, as == of
// Python has it: numbers by value, and a date is no text.
func equal(k stream.Kind, text []byte, v any) bool {
	switch v := v.(type) {
	case nil:
		return k == stream.Null
	case string:
		return k == stream.Text && string(text) == v
	case bool, json.Number, int, int64, float64:
		kind, own := CellOf(asNumber(v), nil)
		a, ok := python.ParseNumber(k, text)
		b, both := python.ParseNumber(kind, own)
		return ok && both && python.Compare(a, b) == 0
	}
	if k != stream.JSON {
		return false
	}
	own, err := python.ParseJSON(text)
	other, same := python.ParseJSON(python.JSON{}.Append(nil, v))
	return err == nil && same == nil && reflect.DeepEqual(own, other)
}

func asNumber(v any) any {
	switch v := v.(type) {
	case int, int64:
		return json.Number(fmt.Sprint(v))
	case float64:
		return json.Number(python.AppendFloat(nil, v))
	}
	return v
}

// findReplace replaces what expressions find in texts, one after the other.
type findReplace struct {
	resources *matcher
	fields    map[string][]*python.Replacement
}

func newFindReplace(p *parameters) Processor {
	s := &findReplace{p.matcher("resources"), map[string][]*python.Replacement{}}
	p.each("fields", func(p *parameters) {
		name := p.required("name")
		p.each("patterns", func(p *parameters) {
			find := p.scalar("find")
			re, err := python.Compile(find, p.patterns)
			p.wrap("find", err)
			if re == nil {
				return
			}
			with, err := re.Replacement(p.scalar("replace"))
			p.wrap("replace", err)
			s.fields[name] = append(s.fields[name], with)
		})
	})
	return s
}

// scalar reads a text or a number that stands for one, as str() does.
func (p *parameters) scalar(key string) string {
	switch v := p.m[key].(type) {
	case string:
		return v
	case json.Number, int, int64, float64, bool:
		k, text := CellOf(asNumber(v), nil)
		return python.Str(k, text)
	}
	p.fail(key, "must be a text")
	return ""
}

func (s *findReplace) Process(_ context.Context, _ *Env, p *Package) (*Package, error) {
	expand(p.Descriptor)
	chosen := s.resources.selected(p)
	p.Tables = eachTable(p.Tables, func(t *Table) (*Table, error) {
		if !chosen.has(t.Resource) {
			return t, nil
		}
		patterns := make([][]*python.Replacement, len(t.Columns))
		for name, list := range s.fields {
			c := slices.Index(t.Columns, name)
			if c < 0 {
				return nil, invalid("resource %q has no field %q", nameOf(t.Resource), name)
			}
			patterns[c] = list
		}
		var a, b2 []byte
		return NewTable(t.Resource, eachRow(t.Rows, func(b *stream.Batch, r int, out *stream.Batch) error {
			for c := range b.Width(r) {
				k, text := b.Kind(r, c), b.Cell(r, c)
				if c >= len(patterns) || patterns[c] == nil || b.Null(r, c) {
					out.AppendKind(k, text)
					continue
				}
				a = append(a[:0], python.Str(k, text)...)
				for _, with := range patterns[c] {
					made, err := with.Append(b2[:0], a)
					if err != nil {
						return rowError(t, b.Number(r), invalid("field %q: %s", t.Columns[c], errs.Detail(err)))
					}
					a, b2 = made, a
				}
				out.Append(a)
			}
			out.EndRow(b.Number(r))
			return nil
		})), nil
	})
	return p, nil
}

// setTypes gives fields other types and casts their values; an expression names the
// fields, null takes them away.
type setTypes struct {
	resources *matcher
	types     []fieldType
}

type fieldType struct {
	pattern string
	match   func(string) bool
	options map[string]any // nil: the field goes
}

func newSetTypes(p *parameters) Processor {
	s := &setTypes{resources: p.matcher("resources")}
	types := p.object("types")
	for _, name := range slices.Sorted(maps.Keys(types)) {
		options, ok := types[name].(map[string]any)
		if !ok && types[name] != nil {
			p.fail("types/"+name, "must be an object, or null")
		}
		if re := p.pattern("types/"+name, name); re != nil {
			s.types = append(s.types, fieldType{name, re.Match, options})
		}
	}
	return s
}

func (s *setTypes) Process(_ context.Context, _ *Env, p *Package) (*Package, error) {
	chosen := s.resources.selected(p)
	for _, one := range s.types {
		found := false
		for _, r := range chosen {
			for _, f := range fields(r) {
				name, _ := f["name"].(string)
				if !one.match(name) {
					continue
				}
				found = true
				maps.Copy(f, clone(one.options))
			}
		}
		if !found {
			return nil, invalid("parameter %q: no field is called %q", "types", one.pattern)
		}
	}
	kept := keepFields(chosen, func(name string) bool {
		return !slices.ContainsFunc(s.types, func(one fieldType) bool { return one.options == nil && one.match(name) })
	})
	expand(p.Descriptor)
	p.Tables = eachTable(p.Tables, func(t *Table) (*Table, error) {
		if !chosen.has(t.Resource) {
			return t, nil
		}
		return castTable(kept.cut(t), func(c *caster) bool {
			return slices.ContainsFunc(s.types, func(one fieldType) bool { return one.match(c.name) })
		})
	})
	return p, nil
}

// castTable brings the cells of some columns to the types of their fields; others
// pass as they are.
func castTable(t *Table, wanted func(*caster) bool) (*Table, error) {
	casts, err := casters(t.Resource)
	if err != nil {
		return nil, invalid("resource %q: the schema is wrong: %s", nameOf(t.Resource), errs.Detail(err))
	}
	on := make([]bool, len(casts))
	for i, c := range casts {
		on[i] = wanted(c)
	}
	return NewTable(t.Resource, eachRow(t.Rows, func(b *stream.Batch, r int, out *stream.Batch) error {
		for c := range b.Width(r) {
			k, text := b.Kind(r, c), b.Cell(r, c)
			if c >= len(on) || !on[c] {
				out.AppendKind(k, text)
				continue
			}
			if err := casts[c].append(out, k, text); err != nil {
				return rowError(t, b.Number(r), err)
			}
		}
		out.EndRow(b.Number(r))
		return nil
	})), nil
}
