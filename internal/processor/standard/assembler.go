package standard

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/stream"
)

// assembler gives the assembler's own processors.
func assembler() map[string]func(*parameters) Processor {
	return map[string]func(*parameters) Processor{
		"assembler.clear_resources":         newClearResources,
		"assembler.dump_to_s3":              newDumpToStore,
		"assembler.extract_readme":          newExtractReadme,
		"assembler.load_modified_resources": newLoadModified,
		"assembler.load_preview":            newLoadPreview,
		"assembler.load_private_resource":   newLoadPrivate,
		"assembler.load_views":              newLoadViews,
		"assembler.remove_hash":             newRemoveHash,
		"assembler.update_metadata":         newUpdateMetadata,
		"assembler.update_resource":         newUpdateNamed,
		"assembler.validate_resource":       newValidateResource,
		"aws.change_acl":                    newPrinter, // access is decided by who serves the files
	}
}

// change is a step that changes the descriptor and no rows.
type change func(ctx context.Context, env *Env, p *Package) error

func (f change) Process(ctx context.Context, env *Env, p *Package) (*Package, error) {
	return p, f(ctx, env, p)
}

// newUpdateMetadata sets the package's ID, and replaces `datahub` by the rest.
func newUpdateMetadata(p *parameters) Processor {
	id := p.required("id")
	rest := p.m
	delete(rest, "id")
	return change(func(_ context.Context, _ *Env, p *Package) error {
		p.Descriptor["id"], p.Descriptor["datahub"] = id, clone(rest)
		return nil
	})
}

// newUpdateNamed merges properties into the resources of a name.
func newUpdateNamed(p *parameters) Processor {
	name, update := p.required("name"), p.object("update")
	return change(func(_ context.Context, _ *Env, p *Package) error {
		for _, r := range p.resources() {
			if nameOf(r) == name {
				maps.Copy(r, clone(update))
			}
		}
		return nil
	})
}

// noTables takes away the tables.
func (p *Package) noTables() {
	p.Tables = eachTable(p.Tables, func(*Table) (*Table, error) { return nil, nil })
}

func newClearResources(*parameters) Processor {
	return change(func(_ context.Context, _ *Env, p *Package) error {
		p.setResources(nil)
		p.noTables()
		return nil
	})
}

// KeptFiles is the pattern that the names of files in [Env].Keep begin with.
const KeptFiles = "specstore-kept-*-"

// keep writes a file that a later step reads, and gives its path.
func (e *Env) keep(name string, body []byte) (string, error) {
	dir := e.Keep
	if dir == "" {
		dir = e.Temp
	}
	f, err := os.CreateTemp(dir, KeptFiles+name)
	if err != nil {
		return "", errs.Wrap(err, errs.Internal, "standard.keep", "%s cannot be written", name)
	}
	_, err = f.Write(body)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return "", errs.Wrap(err, errs.Internal, "standard.keep", "%s cannot be written", name)
	}
	return f.Name(), nil
}

// newExtractReadme makes the descriptor's readme a file of the package.
func newExtractReadme(*parameters) Processor {
	return change(func(_ context.Context, env *Env, p *Package) error {
		v, ok := p.Descriptor["readme"]
		delete(p.Descriptor, "readme")
		if !ok || v == nil {
			return nil
		}
		text, ok := v.(string)
		if !ok {
			return invalid("the descriptor's readme must be a text")
		}
		file, err := env.keep("README.md", []byte(text))
		p.setResources(append(p.resources(), map[string]any{
			"name": "readme", "format": "md", "path": "README.md", "dpp:streamedFrom": file,
		}))
		return err
	})
}

// newRemoveHash takes the folder that is named by the hash out of paths.
func newRemoveHash(*parameters) Processor {
	return change(func(_ context.Context, _ *Env, p *Package) error {
		for _, r := range p.resources() {
			file, _ := r["path"].(string)
			sum, _ := r["hash"].(string)
			_, digits, tagged := strings.Cut(sum, ":")
			if !tagged {
				digits = sum
			}
			if digits != "" && path.Base(path.Dir(file)) == digits {
				r["path"] = path.Join(path.Dir(path.Dir(file)), path.Base(file))
			}
		}
		return nil
	})
}

// newValidateResource puts a report over the tables in the place of all resources.
func newValidateResource(*parameters) Processor {
	return change(func(ctx context.Context, env *Env, p *Package) error {
		if env.Report == nil {
			return invalid("tables are not validated here")
		}
		body, err := env.Report(ctx, p.resources())
		if err != nil {
			return err
		}
		const name = "validation_report"
		file, err := env.keep(name+".json", body)
		if err != nil {
			return err
		}
		sum := md5.Sum(body)
		if own, ok := p.Descriptor["name"].(string); ok {
			p.Descriptor["name"] = own + "-report"
		}
		p.setResources([]map[string]any{{
			"name": name, "format": "json", "path": "data/" + name + ".json",
			"datahub": map[string]any{"type": "derived/report"}, "hash": hex.EncodeToString(sum[:]),
			"description": "Validation report for tabular data", "dpp:streamedFrom": file,
		}})
		p.noTables()
		return nil
	})
}

// loadPreview cuts tables of more than so many rows, as their descriptors count
// them; of smaller ones it lets no row pass.
type loadPreview struct{ limit int }

func newLoadPreview(p *parameters) Processor { return &loadPreview{p.rows()} }

// rows reads the limit of a preview.
func (p *parameters) rows() int {
	n := p.number("limit")
	if n < 1 {
		p.fail("limit", "must be a number of rows, from 1")
	}
	return n
}

func (s *loadPreview) Process(_ context.Context, _ *Env, p *Package) (*Package, error) {
	counts := map[string]int{}
	for _, r := range p.resources() {
		counts[identity(r)], _ = whole(r["rowcount"])
	}
	p.Tables = eachTable(p.Tables, func(t *Table) (*Table, error) {
		left := 0
		if counts[identity(t.Resource)] > s.limit {
			left = s.limit
		}
		return NewTable(t.Resource, func(yield func(*stream.Batch, error) bool) {
			if left == 0 {
				return
			}
			for b, err := range t.Rows {
				if err == nil {
					b = b.Head(left, 1<<31-1)
					left -= b.Rows()
				}
				if !yield(b, err) || left == 0 {
					return
				}
			}
		}), nil
	})
	return p, nil
}

// newLoadViews appends a view of the preview of each table.
func newLoadViews(p *parameters) Processor {
	limit := p.rows()
	return change(func(_ context.Context, _ *Env, p *Package) error {
		views, _ := p.Descriptor["views"].([]any)
		for _, r := range p.resources() {
			views = append(views, map[string]any{
				"name": "datahub-preview-" + nameOf(r), "specType": "table",
				"datahub":   map[string]any{"type": "preview"},
				"transform": map[string]any{"limit": json.Number(strconv.Itoa(limit))},
				"resources": []any{strings.ReplaceAll(nameOf(r), "_csv_preview", "")},
			})
		}
		p.Descriptor["views"] = views
		return nil
	})
}

// loadPrivate loads a resource that another pipeline wrote, counters included.
type loadPrivate struct {
	url, name string
	stream    bool
	limit     int
}

func newLoadPrivate(p *parameters) Processor {
	return &loadPrivate{p.required("url"), p.required("resource"), p.boolean(false, "stream"), p.number("limit-rows")}
}

func (s *loadPrivate) Process(ctx context.Context, env *Env, p *Package) (*Package, error) {
	descriptor, base, err := readPackage(ctx, env, s.url)
	if err != nil {
		return nil, err
	}
	for _, r := range (&Package{Descriptor: descriptor}).resources() {
		if nameOf(r) != s.name {
			continue
		}
		t, err := loaded(ctx, env, base, r, nil, s.stream, s.limit)
		if err != nil {
			return nil, err
		}
		var tables []*Table
		if t != nil {
			tables = append(tables, t)
		}
		p.append([]map[string]any{r}, tables)
		return p, nil
	}
	return nil, errs.New(errs.NotFound, "standard", "%s: the package has no resource %q", s.url, s.name)
}

// newLoadModified puts the packages of other pipelines together: their resources,
// but for those of empty tables, their views and their counts.
func newLoadModified(p *parameters) Processor {
	var ids []string
	p.each("urls", func(p *parameters) { ids = append(ids, p.required("pipeline")) })
	return change(func(ctx context.Context, env *Env, p *Package) error {
		views, _ := p.Descriptor["views"].([]any)
		var rows, size int
		list := p.resources()
		for _, id := range ids {
			descriptor, base, err := readPackage(ctx, env, "dependency://"+strings.TrimPrefix(id, "dependency://"))
			if err != nil {
				return err
			}
			more, _ := descriptor["views"].([]any)
			for _, v := range more {
				view, _ := v.(map[string]any)
				if !slices.ContainsFunc(views, func(v any) bool {
					m, _ := v.(map[string]any)
					return nameOf(m) == nameOf(view)
				}) {
					views = append(views, v)
				}
			}
			datahub, _ := descriptor["datahub"].(map[string]any)
			stats, _ := datahub["stats"].(map[string]any)
			if n, ok := whole(stats["rowcount"]); ok && n == 0 {
				continue
			}
			for _, r := range (&Package{Descriptor: descriptor}).resources() {
				file, _ := r["path"].(string)
				if r["dpp:streamedFrom"], err = beside(env, base, file); err != nil {
					return err
				}
				delete(r, "dpp:streaming")
				n, _ := whole(r["bytes"])
				size += n
				if own, _ := r["datahub"].(map[string]any); own["type"] == "derived/csv" {
					n, _ = whole(r["rowcount"])
					rows += n
				}
				list = append(list, r)
			}
		}
		p.setResources(list)
		p.Descriptor["views"] = views
		datahub, _ := p.Descriptor["datahub"].(map[string]any)
		datahub = clone(datahub)
		datahub["stats"] = map[string]any{"rowcount": json.Number(strconv.Itoa(rows)), "bytes": json.Number(strconv.Itoa(size))}
		p.Descriptor["datahub"] = datahub
		if views == nil {
			p.Descriptor["views"] = []any{}
		}
		return nil
	})
}

// newDumpToStore writes into the object store.
func newDumpToStore(p *parameters) Processor {
	s := newDump(p)
	s.old, s.store = true, true
	s.counters["resource-rowcount"] = "count_of_rows"
	s.out = p.required("path")
	return s.names(p)
}
