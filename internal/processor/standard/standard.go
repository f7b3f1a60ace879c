// Package standard is the standard processors of datapackage-pipelines and the
// assembler's: each takes a data package whose tables stream through it, and gives
// one.
//
// The descriptor is known before the first row and what a step changes in it is
// changed then; rows follow table by table, in order, a batch at a time; statistics
// are complete when the rows have been read. Nothing is read before it is asked
// for, who stops early closes everything upstream, and no table is held in memory:
// what must be kept goes to temporary files beyond a budget.
package standard

import (
	"context"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/pattern"
	"github.com/datahq/specstore/internal/stream"
)

// Package is a data package on its way through a processor.
type Package struct {
	// Descriptor is the package's, resources included. Those that have rows say so
	// with `dpp:streaming`.
	Descriptor map[string]any
	// Tables gives the tables of the streaming resources, in order. It may be
	// ranged over once; an error is the last item. The rows of a table must be read
	// before the next table is asked for; those that were not read are dropped.
	Tables iter.Seq2[*Table, error]
	// Stats gives the statistics. They are complete when Tables has ended.
	Stats func() map[string]any
}

// Table is a streaming resource and its rows.
type Table struct {
	// Resource is the descriptor, which is the one in the package's.
	Resource map[string]any
	// Columns are the names of the schema's fields: what the cells of a row are.
	Columns []string
	// Rows gives the rows, once; an error is the last item. A batch is valid until
	// the next one. A row has a cell for every column, of a value as Python had it
	// (an integer, a decimal, a text, …). Where its object had keys that are no
	// columns, one more cell holds them as a JSON object; a column that the object
	// did not have is [stream.Absent].
	Rows iter.Seq2[*stream.Batch, error]
}

// Sources opens what processors read.
type Sources interface {
	// Open gives the bytes behind a path or URL. Its failure says what is wrong in
	// words that the owner may read; NotFound where nothing is there.
	Open(ctx context.Context, url string) (io.ReadCloser, error)
	// Absolute gives a path or URL as it can be opened from anywhere.
	Absolute(url string) string
}

// Places keeps what processors write.
type Places interface {
	// Put takes over a finished file that lies at local, and keeps it as path.
	Put(ctx context.Context, path, local string) error
}

// Form says how values are written by dump steps.
type Form uint8

// The forms.
const (
	// DPP is the form of datapackage-pipelines: True and False, JSON on one line
	// with sorted keys and ASCII, MD5.
	DPP Form = iota
	// Canonical is the form of flows: the default forms of Table Schema, JSON a row
	// a line with keys in the order of the fields, SHA-256.
	Canonical
)

// Env is what processors see of the world.
type Env struct {
	Sources Sources
	Places  Places
	Getenv  func(string) string
	Temp    string // folder for temporary files
	Budget  int    // bytes that a sort or join keeps in memory; 0 is 16 MiB
	Form    Form
	// Dependencies are the URLs of the packages of other pipelines, by ID.
	Dependencies map[string]string
	// Keep is the folder for files that later steps of the pipeline read; empty is
	// Temp.
	Keep string
	// Report gives the validation report over resources as JSON; nil refuses
	// assembler.validate_resource.
	Report func(ctx context.Context, resources []map[string]any) ([]byte, error)
	// Store is the object store of assembler.dump_to_s3; nil refuses it.
	Store Places

	ctx context.Context // of [Chain]; nil outside
}

// context is what ends the work that reading the tables takes.
func (e *Env) context() context.Context {
	if e.ctx == nil {
		return context.Background()
	}
	return e.ctx
}

const defaultBudget = 16 << 20

func (e *Env) budget() int {
	if e.Budget > 0 {
		return e.Budget
	}
	return defaultBudget
}

// Processor is a step with its parameters.
type Processor interface {
	// Process gives the package that the step makes of p. It changes p's descriptor
	// and reads no rows.
	Process(ctx context.Context, env *Env, p *Package) (*Package, error)
}

// processors gives them by the name that a step runs them by.
func processors() map[string]func(*parameters) Processor {
	known := map[string]func(*parameters) Processor{
		"add_computed_field":      newComputedFields,
		"add_metadata":            newAddMetadata,
		"add_resource":            newAddResource,
		"concatenate":             newConcatenate,
		"deduplicate":             newDeduplicate,
		"delete_fields":           newDeleteFields,
		"dump_to_path":            newDumpToPath,
		"dump_to_zip":             newDumpToZip,
		"dump.to_path":            newDumpDotToPath,
		"dump.to_zip":             newDumpDotToZip,
		"duplicate":               newDuplicate,
		"filter":                  newFilter,
		"find_replace":            newFindReplace,
		"join":                    newJoin,
		"load":                    newLoad,
		"load_metadata":           newLoadMetadata,
		"load_resource":           newLoadResource,
		"printer":                 newPrinter,
		"set_types":               newSetTypes,
		"sort":                    newSort,
		"stream_remote_resources": newStreamRemote,
		"unpivot":                 newUnpivot,
		"update_package":          newAddMetadata,
		"update_resource":         newUpdateResource,
	}
	maps.Copy(known, assembler())
	return known
}

// refused are names of datapackage-pipelines that are known and not run.
func refused() map[string]string {
	return map[string]string{
		"flow":        "it runs code",
		"dump_to_sql": "databases are not written to",
		"dump.to_sql": "databases are not written to",
	}
}

// Names are the processors that [New] knows, sorted.
func Names() []string { return slices.Sorted(maps.Keys(processors())) }

// New makes a processor of a step. It fails with Invalid where there is none of
// that name or its parameters are wrong; parameters that it does not know are
// ignored, as in datapackage-pipelines.
func New(run string, params map[string]any) (Processor, error) {
	return NewWithin(run, params, pattern.NewBudget(pattern.MaxBytes))
}

// NewWithin is [New] where the steps of a pipeline or a spec share the memory that their
// regular expressions may take.
func NewWithin(run string, params map[string]any, patterns *pattern.Budget) (Processor, error) {
	found, ok := processors()[run]
	if !ok {
		if why, known := refused()[run]; known {
			return nil, invalid("the processor %q is not run: %s", run, why)
		}
		return nil, invalid("there is no processor %q; those that there are: %s", run, strings.Join(Names(), ", "))
	}
	p := &parameters{m: clone(params), patterns: patterns}
	step := found(p)
	if p.err != nil {
		return nil, errs.Wrap(p.err, errs.Invalid, "standard.New", "%s: %s", run, errs.Detail(p.err))
	}
	return step, nil
}

func invalid(format string, args ...any) error {
	return errs.New(errs.Invalid, "standard", format, args...)
}

func clone(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return datapackage.Clone(m).(map[string]any)
}

// Empty is the package that the first step of a pipeline is given.
func Empty() *Package {
	return &Package{
		Descriptor: map[string]any{"name": "_", "resources": []any{}},
		Tables:     func(func(*Table, error) bool) {},
		Stats:      func() map[string]any { return map[string]any{} },
	}
}

// NewTable makes the table of a streaming resource.
func NewTable(resource map[string]any, rows iter.Seq2[*stream.Batch, error]) *Table {
	return &Table{Resource: resource, Columns: columns(resource), Rows: bounded(resource, rows)}
}

// columns are the names of a resource's fields.
func columns(resource map[string]any) []string {
	names := []string{}
	for _, f := range fields(resource) {
		name, _ := f["name"].(string)
		names = append(names, name)
	}
	return names
}

// fields are the descriptors of a resource's fields.
func fields(resource map[string]any) []map[string]any {
	schema, _ := resource["schema"].(map[string]any)
	list, _ := schema["fields"].([]any)
	var out []map[string]any
	for _, f := range list {
		m, _ := f.(map[string]any)
		if m == nil {
			m = map[string]any{}
		}
		out = append(out, m)
	}
	return out
}

// setFields gives a resource other fields.
func setFields(resource map[string]any, list []map[string]any) {
	schema, _ := resource["schema"].(map[string]any)
	if schema == nil {
		schema = map[string]any{}
		resource["schema"] = schema
	}
	out := make([]any, len(list))
	for i, f := range list {
		out[i] = f
	}
	schema["fields"] = out
}

// resources are the descriptors of the package's resources.
func (p *Package) resources() []map[string]any {
	list, _ := p.Descriptor["resources"].([]any)
	var out []map[string]any
	for _, r := range list {
		if m, ok := r.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func (p *Package) setResources(list []map[string]any) {
	out := make([]any, len(list))
	for i, r := range list {
		out[i] = r
	}
	p.Descriptor["resources"] = out
}

// streaming reports whether a resource has rows.
func streaming(resource map[string]any) bool {
	on, _ := resource["dpp:streaming"].(bool)
	return on
}

// Streaming are the resources of a descriptor that have rows, in order.
func Streaming(descriptor map[string]any) []map[string]any {
	var out []map[string]any
	for _, r := range (&Package{Descriptor: descriptor}).resources() {
		if streaming(r) {
			out = append(out, r)
		}
	}
	return out
}

func nameOf(resource map[string]any) string {
	name, _ := resource["name"].(string)
	return name
}

// expand writes down the defaults that newer processors of datapackage-pipelines
// leave in a descriptor: profiles, and of tabular resources the fields' too.
func expand(descriptor map[string]any) {
	setDefault(descriptor, "profile", "data-package")
	for _, r := range (&Package{Descriptor: descriptor}).resources() {
		expandResource(r)
	}
}

func expandResource(r map[string]any) {
	setDefault(r, "profile", "data-resource")
	if r["profile"] != "tabular-data-resource" {
		return
	}
	for _, f := range fields(r) {
		setDefault(f, "type", "string")
		setDefault(f, "format", "default")
	}
	if schema, ok := r["schema"].(map[string]any); ok {
		setDefault(schema, "missingValues", []any{""})
	}
}

func setDefault(m map[string]any, key string, v any) {
	if _, ok := m[key]; !ok {
		m[key] = v
	}
}
