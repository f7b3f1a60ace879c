package standard

import (
	"context"
	"maps"
	"slices"

	"github.com/datahq/specstore/internal/stream"
)

// addMetadata is add_metadata and update_package: its parameters become properties
// of the package.
type addMetadata struct{ properties map[string]any }

func newAddMetadata(p *parameters) Processor {
	if _, ok := p.m["resources"]; ok {
		p.fail("resources", "cannot be set: resources are added by steps of their own")
	}
	return &addMetadata{p.m}
}

func (s *addMetadata) Process(_ context.Context, _ *Env, p *Package) (*Package, error) {
	maps.Copy(p.Descriptor, clone(s.properties))
	expand(p.Descriptor)
	return p, nil
}

// updateResource merges properties into resources.
type updateResource struct {
	resources *matcher
	metadata  map[string]any
}

func newUpdateResource(p *parameters) Processor {
	return &updateResource{p.matcher("resources"), p.object("metadata")}
}

func (s *updateResource) Process(_ context.Context, _ *Env, p *Package) (*Package, error) {
	for _, r := range s.resources.among(p.resources()) {
		maps.Copy(r, clone(s.metadata))
	}
	expand(p.Descriptor)
	return p, nil
}

// addResource adds a resource that a later step may stream.
type addResource struct {
	url        string
	properties map[string]any
}

func newAddResource(p *parameters) Processor {
	s := &addResource{p.required("url"), p.m}
	p.required("name")
	delete(s.properties, "url")
	return s
}

func (s *addResource) Process(_ context.Context, env *Env, p *Package) (*Package, error) {
	r := clone(s.properties)
	url, err := fromEnvironment(env, s.url)
	if err != nil {
		return nil, err
	}
	r["dpp:streamedFrom"] = url
	setDefault(r, "path", placeholder)
	p.setResources(append(p.resources(), r))
	return p, nil
}

// placeholder is the path of a resource that has none yet.
const placeholder = "_"

// deleteFields removes fields by expressions for their names.
type deleteFields struct {
	resources *matcher
	names     []func(string) bool
}

func newDeleteFields(p *parameters) Processor {
	s := &deleteFields{resources: p.matcher("resources")}
	for _, name := range p.texts("fields") {
		if re := p.pattern("fields", name); re != nil {
			s.names = append(s.names, re.Match)
		}
	}
	if len(s.names) == 0 {
		p.fail("fields", "must name fields")
	}
	return s
}

func (s *deleteFields) Process(_ context.Context, _ *Env, p *Package) (*Package, error) {
	chosen := s.resources.selected(p)
	kept := keepFields(chosen, func(name string) bool {
		return !slices.ContainsFunc(s.names, func(match func(string) bool) bool { return match(name) })
	})
	expand(p.Descriptor)
	p.Tables = eachTable(p.Tables, func(t *Table) (*Table, error) {
		if chosen.has(t.Resource) {
			return kept.cut(t), nil
		}
		return t, nil
	})
	return p, nil
}

// kept says which columns of some resources stay.
type kept map[string]*keptColumns // by the address of the descriptor

type keptColumns struct {
	before []string
	stay   []int
}

// keepFields takes fields out of the schemas of resources.
func keepFields(list []map[string]any, keep func(name string) bool) kept {
	out := kept{}
	for _, r := range list {
		k := &keptColumns{before: columns(r)}
		var stay []map[string]any
		for i, f := range fields(r) {
			if keep(k.before[i]) {
				k.stay = append(k.stay, i)
				stay = append(stay, f)
			}
		}
		setFields(r, stay)
		out[identity(r)] = k
	}
	return out
}

// cut gives a table without the columns that go, nor keys of their names.
func (k kept) cut(t *Table) *Table {
	columns := k[identity(t.Resource)]
	return NewTable(t.Resource, eachRow(t.Rows, columns.row))
}

func (k *keptColumns) row(b *stream.Batch, r int, out *stream.Batch) error {
	for _, c := range k.stay {
		out.AppendKind(b.Kind(r, c), b.Cell(r, c))
	}
	rest(b, r, len(k.before), out)
	out.EndRow(b.Number(r))
	return nil
}
