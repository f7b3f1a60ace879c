package standard

import (
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/spill"
	"github.com/datahq/specstore/internal/stream"
)

// concatenate puts the rows of tables that stand next to each other into one. A
// field of it takes the value of the source's fields that are listed for it, or of
// its own name.
type concatenate struct {
	sources *matcher
	target  map[string]any
	fields  map[string]string // field of a source to the target's
	names   []string          // the target's fields, sorted
}

func newConcatenate(p *parameters) Processor {
	s := &concatenate{sources: p.matcher("sources"), target: clone(p.object("target")), fields: map[string]string{}}
	list := p.object("fields")
	if len(list) == 0 {
		p.fail("fields", "must name fields")
	}
	s.names = slices.Sorted(maps.Keys(list))
	p.inside("fields", list, func(p *parameters) {
		for _, name := range s.names {
			for _, from := range append([]string{name}, p.texts(name)...) {
				if other, ok := s.fields[from]; ok && other != name {
					p.fail(name, "takes the field %q, which %q takes as well", from, other)
				}
				s.fields[from] = name
			}
		}
	})
	setDefault(s.target, "name", "concat")
	setDefault(s.target, "path", "data/"+nameOf(s.target)+".csv")
	return s
}

func (s *concatenate) Process(_ context.Context, _ *Env, p *Package) (*Package, error) {
	chosen := s.sources.selected(p)
	if len(chosen) == 0 {
		return nil, invalid("parameter %q: no streaming resource is meant", "sources")
	}
	target := clone(s.target)
	setDefault(target, "mediatype", "text/csv")
	setDefault(target, "profile", "tabular-data-resource")
	target["dpp:streaming"] = true
	var list, made []map[string]any
	missing := slices.Clone(s.names)
	place := -1
	for _, r := range p.resources() {
		if !chosen.has(r) {
			list = append(list, r)
			continue
		}
		switch {
		case place < 0:
			place = len(list)
			list = append(list, target)
		case place != len(list)-1:
			return nil, invalid("parameter %q: the sources must stand next to each other, and %q stands apart", "sources", nameOf(r))
		}
		for _, f := range fields(r) {
			name, _ := f["name"].(string)
			to, ok := s.fields[name]
			if i := slices.Index(missing, to); ok && i >= 0 {
				missing = slices.Delete(missing, i, i+1)
				f = clone(f)
				f["name"] = to
				made = append(made, f)
			}
		}
	}
	for _, name := range missing {
		made = append(made, map[string]any{"name": name, "type": "string"})
	}
	setFields(target, made)
	p.setResources(list)
	expand(p.Descriptor)
	names := columns(target)
	up := p.Tables
	p.Tables = func(yield func(*Table, error) bool) {
		next, stop := iter.Pull2(up)
		defer stop()
		t, err, more := next()
		for more {
			if err != nil {
				yield(nil, err)
				return
			}
			if !chosen.has(t.Resource) {
				if !yield(t, nil) {
					return
				}
				t, err, more = next()
				continue
			}
			if !yield(NewTable(target, func(yield func(*stream.Batch, error) bool) {
				for more && err == nil && chosen.has(t.Resource) {
					if !s.rows(t, names, yield) {
						return
					}
					t, err, more = next()
				}
				if err != nil {
					yield(nil, err)
				}
			}), nil) {
				return
			}
			for more && err == nil && chosen.has(t.Resource) { // what was not read
				t, err, more = next()
			}
		}
	}
	return p, nil
}

// rows gives the rows of one source; it is false when nobody wants more.
func (s *concatenate) rows(t *Table, names []string, yield func(*stream.Batch, error) bool) bool {
	from := make([][]int, len(names)) // columns of the source for each of the target
	for c, name := range t.Columns {
		if to, ok := s.fields[name]; ok {
			i := slices.Index(names, to)
			from[i] = append(from[i], c)
		}
	}
	wanted := true
	eachRow(t.Rows, func(b *stream.Batch, r int, out *stream.Batch) error {
		for i := range names {
			at := -1
			for _, c := range from[i] {
				if at < 0 || !b.Null(r, c) {
					at = c
				}
			}
			if at < 0 || b.Null(r, at) {
				out.AppendNull()
				continue
			}
			out.AppendKind(b.Kind(r, at), b.Cell(r, at))
		}
		out.EndRow(b.Number(r))
		return nil
	})(func(b *stream.Batch, err error) bool {
		wanted = yield(b, err) && err == nil
		return wanted
	})
	return wanted
}

// duplicate copies a table, behind it or behind all.
type duplicate struct {
	source, name, path string
	end                bool
}

func newDuplicate(p *parameters) Processor {
	return &duplicate{
		p.text("", "source"), p.text("", "target-name"), p.text("", "target-path"),
		p.boolean(false, "duplicate_to_end", "duplicate-to-end"),
	}
}

func (s *duplicate) Process(_ context.Context, env *Env, p *Package) (*Package, error) {
	var source, copied map[string]any
	var list []map[string]any
	for _, r := range p.resources() {
		list = append(list, r)
		if source != nil || !streaming(r) || s.source != "" && nameOf(r) != s.source {
			continue
		}
		source, copied = r, clone(r)
		copied["name"], copied["path"] = s.name, s.path
		if s.name == "" {
			copied["name"] = nameOf(r) + "_copy"
		}
		if s.path == "" {
			copied["path"] = nameOf(copied) + ".csv"
		}
		if !s.end {
			list = append(list, copied)
		}
	}
	if source == nil {
		return nil, invalid("parameter %q: there is no streaming resource %q", "source", s.source)
	}
	if s.end {
		list = append(list, copied)
	}
	p.setResources(list)
	expand(p.Descriptor)
	up := p.Tables
	p.Tables = func(yield func(*Table, error) bool) {
		kept, err := spill.NewTable(env.Temp)
		if err != nil {
			yield(nil, err)
			return
		}
		defer kept.Close()
		again := NewTable(copied, kept.Rows())
		for t, err := range up {
			if err != nil || !same(t.Resource, source) {
				if !yield(t, err) || err != nil {
					return
				}
				continue
			}
			more, err := passOn(t, yield, func(b *stream.Batch) (*stream.Batch, error) { return b, kept.WriteBatch(b) })
			if err != nil {
				yield(nil, err)
			}
			if err != nil || !more {
				return
			}
			if !s.end && !yield(again, nil) {
				return
			}
		}
		if s.end {
			yield(again, nil)
		}
	}
	return p, nil
}

// unpivot turns columns into rows: one for each column that an expression matches,
// with keys that say which.
type unpivot struct {
	resources *matcher
	columns   []unpivoted
	keys      []map[string]any
	value     map[string]any
}

type unpivoted struct {
	name  *python.Regexp
	match *python.Regexp // the same, for the whole name
	keys  map[string]any
}

func newUnpivot(p *parameters) Processor {
	s := &unpivot{resources: p.matcher("resources"), value: p.object("extraValueField")}
	if name, _ := s.value["name"].(string); name == "" {
		p.fail("extraValueField", "must be a field")
	}
	p.each("extraKeyFields", func(p *parameters) {
		p.required("name")
		s.keys = append(s.keys, p.m)
	})
	p.each("unpivot", func(p *parameters) {
		name := p.required("name")
		re, err := python.Compile(name, p.patterns)
		p.wrap("name", err)
		u := unpivoted{re, p.pattern("name", name), p.object("keys")}
		for key, v := range u.keys {
			if text, ok := v.(string); ok && re != nil {
				_, err := re.Replacement(text)
				p.wrap("keys/"+key, err)
			}
		}
		s.columns = append(s.columns, u)
	})
	return s
}

// unpivotedColumn is a column and the cells of the keys that stand for it.
type unpivotedColumn struct {
	column int
	keys   []keyCell
}

type keyCell struct {
	kind stream.Kind
	text []byte
}

func (s *unpivot) Process(_ context.Context, _ *Env, p *Package) (*Package, error) {
	chosen := s.resources.selected(p)
	found := map[string][]unpivotedColumn{}
	stay := map[string][]int{}
	before := map[string]int{}
	for _, r := range chosen {
		id, names := identity(r), columns(r)
		before[id] = len(names)
		gone := map[int]bool{}
		for _, u := range s.columns {
			for c, name := range names {
				if !u.match.Match(name) {
					continue
				}
				gone[c] = true
				col := unpivotedColumn{column: c}
				for _, key := range s.keys {
					cell := keyCell{kind: stream.Null}
					v, ok := u.keys[nameOf(key)]
					if text, is := v.(string); is {
						with, err := u.name.Replacement(text)
						if err != nil {
							return nil, err
						}
						key, err := with.Append(nil, []byte(name))
						if err != nil {
							return nil, err
						}
						cell = keyCell{stream.Text, key}
					} else if ok {
						cell.kind, cell.text = CellOf(asNumber(v), nil)
					}
					col.keys = append(col.keys, cell)
				}
				found[id] = append(found[id], col)
			}
		}
		var list []map[string]any
		for c, f := range fields(r) {
			if !gone[c] {
				stay[id] = append(stay[id], c)
				list = append(list, f)
			}
		}
		for _, key := range append(slices.Clone(s.keys), s.value) {
			list = append(list, clone(key))
		}
		setFields(r, list)
	}
	expand(p.Descriptor)
	p.Tables = eachTable(p.Tables, func(t *Table) (*Table, error) {
		if !chosen.has(t.Resource) {
			return t, nil
		}
		id := identity(t.Resource)
		return NewTable(t.Resource, eachRowTimes(t.Rows, len(found[id]), func(b *stream.Batch, r, i int, out *stream.Batch) error {
			col := found[id][i]
			for _, c := range stay[id] {
				out.AppendKind(b.Kind(r, c), b.Cell(r, c))
			}
			for _, key := range col.keys {
				out.AppendKind(key.kind, key.text)
			}
			out.AppendKind(b.Kind(r, col.column), b.Cell(r, col.column))
			rest(b, r, before[id], out)
			out.EndRow(b.Number(r))
			return nil
		})), nil
	})
	return p, nil
}
