package standard

import (
	"bytes"
	"context"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// append adds resources behind the package's, and tables behind its tables.
func (p *Package) append(resources []map[string]any, more []*Table) {
	p.setResources(append(p.resources(), resources...))
	up := p.Tables
	p.Tables = func(yield func(*Table, error) bool) {
		for t, err := range up {
			if !yield(t, err) || err != nil {
				return
			}
		}
		for _, t := range more {
			if !yield(t, nil) {
				return
			}
		}
	}
}

// streamRemote streams the resources that only have an address so far.
type streamRemote struct {
	resources *matcher
	limit     int
	missing   bool // a file that is not there is an empty table
}

func newStreamRemote(p *parameters) Processor {
	return &streamRemote{p.matcher("resources"), p.number("limit-rows"), p.boolean(false, "ignore-missing")}
}

func (s *streamRemote) Process(ctx context.Context, env *Env, p *Package) (*Package, error) {
	all := p.resources()
	made := map[string]*Table{}
	for i, r := range all {
		if streaming(r) {
			continue
		}
		url, _ := r["dpp:streamedFrom"].(string)
		if url == "" || !s.resources.matches(nameOf(r), i, len(all)) {
			continue
		}
		f := &file{env: env, url: url, resource: readerKeys(r), limit: s.limit}
		t, err := s.table(ctx, f, r)
		if err != nil {
			return nil, err
		}
		made[identity(r)] = t
	}
	up := p.Tables
	p.Tables = func(yield func(*Table, error) bool) {
		// New tables stand where their resources do, between those that come.
		at := 0
		own := func(until map[string]any) bool {
			for ; at < len(all); at++ {
				if until != nil && same(all[at], until) {
					at++
					return true
				}
				if t := made[identity(all[at])]; t != nil && !yield(t, nil) {
					return false
				}
			}
			return true
		}
		for t, err := range up {
			if err != nil {
				yield(nil, err)
				return
			}
			if !own(t.Resource) || !yield(t, nil) {
				return
			}
		}
		own(nil)
	}
	return p, nil
}

func (s *streamRemote) table(ctx context.Context, f *file, r map[string]any) (*Table, error) {
	r["dpp:streaming"] = true
	if p, _ := r["path"].(string); p == "" || p == placeholder {
		r["path"] = "data/" + nameOf(r) + ".csv"
	}
	names, _, err := f.header(ctx, 0)
	if err != nil && s.missing && errs.Is(err, errs.NotFound) {
		if r["schema"] == nil {
			r["schema"] = map[string]any{"fields": []any{}}
		}
		return NewTable(r, func(func(*stream.Batch, error) bool) {}), nil
	}
	if err != nil {
		return nil, err
	}
	if len(fields(r)) == 0 {
		var list []map[string]any
		for _, name := range names {
			list = append(list, map[string]any{"name": name, "type": "string"})
		}
		setFields(r, list)
	}
	if n := len(fields(r)); n != len(names) {
		return nil, invalid("%s: the header names %d columns, and the schema %d fields", f.url, len(names), n)
	}
	return castTable(NewTable(r, f.rows(ctx)), func(*caster) bool { return true })
}

// loadMetadata takes over the properties of another package.
type loadMetadata struct{ url string }

func newLoadMetadata(p *parameters) Processor { return &loadMetadata{p.required("url")} }

func (s *loadMetadata) Process(ctx context.Context, env *Env, p *Package) (*Package, error) {
	descriptor, _, err := readPackage(ctx, env, s.url)
	if err != nil {
		return nil, err
	}
	delete(descriptor, "resources")
	maps.Copy(p.Descriptor, descriptor)
	expand(p.Descriptor)
	return p, nil
}

// readPackage reads the descriptor of another package, and gives where it lies.
func readPackage(ctx context.Context, env *Env, url string) (map[string]any, string, error) {
	url, err := fromEnvironment(env, url)
	if err != nil {
		return nil, "", err
	}
	if id, ok := strings.CutPrefix(url, "dependency://"); ok {
		at, ok := dependency(env.Dependencies, id)
		if !ok {
			return nil, "", errs.New(errs.NotFound, "standard", "%s: no pipeline of that name was run before", url)
		}
		url = at
	}
	if env.Sources == nil {
		return nil, "", invalid("%s: no files are read here", url)
	}
	url = strings.TrimPrefix(url, "file://")
	body, err := env.Sources.Open(ctx, url)
	if err != nil {
		return nil, "", err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, datapackage.MaxBytes+1))
	if err != nil {
		return nil, "", err
	}
	descriptor, err := datapackage.Decode(bytes.NewReader(text))
	if err != nil {
		return nil, "", errs.Wrap(err, errs.KindOf(err), "standard", "%s: %s", url, errs.Detail(err))
	}
	return descriptor, url, nil
}

// dependency finds the package of another pipeline, with or without the "./" that
// datapackage-pipelines puts before IDs.
func dependency(urls map[string]string, id string) (string, bool) {
	bare := strings.TrimPrefix(id, "./")
	for _, key := range []string{id, bare, "./" + bare} {
		if url, ok := urls[key]; ok {
			return url, true
		}
	}
	return "", false
}

// beside is the address of a file of a package that lies at base.
func beside(env *Env, base, file string) (string, error) {
	if datapackage.IsURL(file) {
		return file, nil
	}
	if !datapackage.SafePath(file) {
		return "", invalid("%s: the path %q leaves the package", base, file)
	}
	dir, _, _ := strings.Cut(base, "?")
	if datapackage.IsURL(base) {
		return dir[:strings.LastIndexByte(dir, '/')+1] + file, nil
	}
	return env.Sources.Absolute(path.Join(path.Dir(base), file)), nil
}

// loadResource loads resources of another package, with their rows.
type loadResource struct {
	url       string
	resources *matcher
	overrides map[string]map[string]any // by name, nil: as they are
	required  bool
	stream    bool
	limit     int
}

func newLoadResource(p *parameters) Processor {
	s := &loadResource{url: p.required("url"), required: p.boolean(true, "required"), stream: p.boolean(true, "stream"), limit: p.number("limit-rows")}
	if list, ok := p.m["resources"].(map[string]any); ok {
		s.overrides = map[string]map[string]any{}
		p.inside("resources", list, func(p *parameters) {
			for name := range list {
				s.overrides[name] = p.object(name)
			}
		})
		return s
	}
	key := p.first("resource", "resources")
	if key == "" {
		key = "resource"
		p.fail(key, "must say which resource")
	}
	s.resources = p.matcher(key)
	return s
}

func (s *loadResource) Process(ctx context.Context, env *Env, p *Package) (*Package, error) {
	descriptor, base, err := readPackage(ctx, env, s.url)
	if err != nil {
		if !s.required && errs.Is(err, errs.NotFound) {
			return p, nil
		}
		return nil, err
	}
	all := (&Package{Descriptor: descriptor}).resources()
	var resources []map[string]any
	var made []*Table
	found := map[string]bool{}
	for i, r := range all {
		overrides, meant := s.overrides[nameOf(r)]
		if s.resources != nil {
			meant = s.resources.matches(nameOf(r), i, len(all))
		}
		if !meant {
			continue
		}
		found[nameOf(r)] = true
		t, err := loaded(ctx, env, base, r, overrides, s.stream, s.limit)
		if err != nil {
			return nil, err
		}
		resources = append(resources, r)
		if t != nil {
			made = append(made, t)
		}
	}
	if s.required && (len(found) == 0 || s.resources == nil && len(found) < len(s.overrides)) {
		missing := s.url
		for _, name := range slices.Sorted(maps.Keys(s.overrides)) {
			if !found[name] {
				missing = name
				break
			}
		}
		return nil, errs.New(errs.NotFound, "standard", "%s: the package has no such resource: %s", s.url, missing)
	}
	p.append(resources, made)
	return p, nil
}

// loaded makes a resource of another package one of this. It gives its table, nil
// where it has none.
func loaded(ctx context.Context, env *Env, base string, r, overrides map[string]any, rows bool, limit int) (*Table, error) {
	file0, ok := r["path"].(string)
	if list, is := r["path"].([]any); is && len(list) > 0 {
		file0, ok = list[0].(string)
	}
	if !ok {
		return nil, invalid("%s: the resource %q has no path", base, nameOf(r))
	}
	url, err := beside(env, base, file0)
	if err != nil {
		return nil, err
	}
	r["dpp:streamedFrom"] = url
	delete(r, "dpp:streaming")
	f := &file{env: env, url: url, resource: readerKeys(r), limit: limit}
	maps.Copy(r, clone(overrides))
	expandResource(r)
	if !rows || len(fields(r)) == 0 {
		return nil, nil
	}
	r["dpp:streaming"] = true
	return castTable(NewTable(r, f.rows(ctx)), func(*caster) bool { return true })
}

// load loads a file as a new resource, whose schema is found out from its first
// rows; or the resources of a package.
type load struct {
	from, name  string
	file        map[string]any // how it is read
	validate    bool
	strings     bool // every field is a text
	deduplicate bool
	limit       int
	resources   *matcher
	fields      map[string]any // overrides
	schema      map[string]any
}

func newLoad(p *parameters) Processor {
	s := &load{
		from: p.required("from"), name: p.text("", "name"), validate: p.boolean(false, "validate"),
		deduplicate: p.boolean(false, "deduplicate_headers", "deduplicate-headers"),
		limit:       p.number("limit_rows", "limit-rows"), resources: p.matcher("resources"),
		fields: p.object("override_fields"), schema: p.object("override_schema"), file: readerKeys(p.m),
	}
	delete(s.file, "dialect")
	switch v := p.text("full", "infer_strategy"); v {
	case "full", "pytypes":
	case "strings":
		s.strings = true
	default:
		p.fail("infer_strategy", "must be full, pytypes or strings")
	}
	switch v := p.text("", "cast_strategy"); v {
	case "":
	case "schema":
		s.validate = true
	case "nothing", "strings":
		s.validate = false
	default:
		p.fail("cast_strategy", "must be schema, strings or nothing")
	}
	return s
}

const sampleRows = 100

func (s *load) Process(ctx context.Context, env *Env, p *Package) (*Package, error) {
	if path.Base(s.from) == "datapackage.json" {
		all := &loadResource{url: s.from, resources: s.resources, required: true, stream: true, limit: s.limit}
		p, err := all.Process(ctx, env, p)
		if err == nil {
			expand(p.Descriptor)
		}
		return p, err
	}
	f := &file{env: env, url: s.from, resource: s.file, limit: s.limit, numbered: true, strict: !s.deduplicate}
	url, err := fromEnvironment(env, s.from)
	if err != nil {
		return nil, err
	}
	name := s.name
	if name == "" {
		name = strings.ToLower(strings.TrimSuffix(path.Base(url), path.Ext(url)))
	}
	named, _ := (&file{url: url, resource: s.file}).formatOf()
	if named == "" {
		named = "csv"
	}
	names, sample, err := f.header(ctx, sampleRows)
	if err != nil {
		return nil, err
	}
	r := map[string]any{
		"name": name, "path": name + "." + named, "format": named, "profile": "tabular-data-resource",
		"dpp:streamedFrom": s.from, "dpp:streaming": true,
	}
	list, err := s.describe(names, sample)
	if err != nil {
		return nil, err
	}
	setFields(r, list)
	maps.Copy(r["schema"].(map[string]any), clone(s.schema))
	t := NewTable(r, f.rows(ctx))
	if s.validate {
		if t, err = castTable(t, func(*caster) bool { return true }); err != nil {
			return nil, err
		}
	}
	p.append([]map[string]any{r}, []*Table{t})
	expand(p.Descriptor)
	return p, nil
}

// describe gives the fields of a file.
func (s *load) describe(names []string, sample [][]string) ([]map[string]any, error) {
	g, err := newGuesser()
	if err != nil {
		return nil, err
	}
	var list []map[string]any
	for c, name := range names {
		field := map[string]any{"name": name, "type": "string", "format": "default"}
		if !s.strings {
			maps.Copy(field, g.guess(sample, c))
		}
		if more, ok := s.fields[name].(map[string]any); ok {
			maps.Copy(field, clone(more))
		}
		list = append(list, field)
	}
	return list, nil
}

// guesser finds out the types of columns from their first cells.
type guesser struct{ casts []*tableschema.Caster }

// guessed are the types that datapackage-pipelines tries, in its order. A file's own
// inference (tableschema.Inferrer) has another order, and leave for cells that do not fit.
var guessed = []string{"duration", "geojson", "geopoint", "object", "array", "datetime", "time", "date", "integer", "number", "boolean"}

func newGuesser() (*guesser, error) {
	var list []any
	for _, kind := range guessed {
		list = append(list, map[string]any{"name": kind, "type": kind})
	}
	schema, err := tableschema.Parse(map[string]any{"fields": list})
	if err != nil {
		return nil, err
	}
	g := &guesser{}
	for i := range guessed {
		cast, err := schema.Caster(i, tableschema.CastOptions{Trim: true})
		if err != nil {
			return nil, err
		}
		g.casts = append(g.casts, cast)
	}
	return g, nil
}

// guess gives what the field of a column says of its type: the first one that all cells
// are of, those without text apart. It is nil where there is none.
func (g *guesser) guess(sample [][]string, c int) map[string]any {
	if !slices.ContainsFunc(sample, func(row []string) bool { return row[c] != "" }) {
		return nil
	}
	for i, cast := range g.casts {
		if slices.ContainsFunc(sample, func(row []string) bool {
			_, _, wrong := cast.Cast([]byte(row[c]))
			return wrong != nil
		}) {
			continue
		}
		if guessed[i] == "date" {
			return map[string]any{"type": "date", "format": datePattern}
		}
		return map[string]any{"type": guessed[i]}
	}
	return nil
}

// printer lets everything pass: what datapackage-pipelines shows of the rows is for
// a person who waits for it.
type printer struct{}

func newPrinter(*parameters) Processor { return printer{} }

func (printer) Process(_ context.Context, _ *Env, p *Package) (*Package, error) { return p, nil }
