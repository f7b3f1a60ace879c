// Package processor knows the steps of a plan: what each asks for.
//
// A pipeline is a list of steps. [Compile] walks it once and gives a [Package]:
// the descriptor as the steps leave it, the resources with the places they come
// from, and what is to be done with them. Nothing is opened and no row is read
// here; the engine does that, and may do it for many pipelines at once. The
// meaning of a step is that of datapackage-pipelines and of the assembler's own
// processors, so that a plan means the same to both runners.
package processor

import (
	"maps"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/plan"
)

// Package is what a pipeline asks for.
type Package struct {
	// Descriptor is the package's, without its resources.
	Descriptor map[string]any
	Resources  []*Resource
	// Report asks for the validation report of the resources in its place.
	Report *Report
	// Steps are the owner's own, which the rows of the streaming resource go through.
	Steps []plan.Step
	// Preview is the number of rows after which a table is cut; 0 is no limit.
	Preview int
	// Zip is the archive that was asked for before the resources were cleared.
	Zip *Zip
	// Database is the SQLite database that was asked for, likewise.
	Database *Database
	// Joined names the pipelines whose packages are put together.
	Joined []string
	// Dump says where the result is kept.
	Dump *Dump
}

// Resource is one file of a package on its way through a pipeline.
type Resource struct {
	// Name is the resource's at the end of the pipeline.
	Name string
	// Descriptor is the resource's, without the place it comes from. For one
	// that another pipeline made it holds only what this pipeline changes.
	Descriptor map[string]any
	// Added is the resource as it was added: what it says of its format, dialect,
	// encoding and schema is how the file at URL is read, whatever later steps
	// say of what is made of it.
	Added map[string]any
	// URLs is where the file is read from, one address for each part of it, in order;
	// none where Pipeline is set.
	URLs []string
	// Pipeline is the ID of the pipeline that made the file, Made its name there.
	Pipeline, Made string
	// Streaming says that the file is read as a table.
	Streaming bool
	// Text is the content itself where the descriptor held it.
	Text []byte
}

// Report is a validation report over tables.
type Report struct {
	Name   string
	Tables []*Resource
}

// Zip is an archive of resources and the package that it holds.
type Zip struct {
	// Path is the temporary name that the plan gives it.
	Path       string
	Descriptor map[string]any
	Resources  []*Resource
}

// Database is one SQLite database of all tables.
type Database struct {
	// Path is the temporary name that the plan gives it.
	Path   string
	Tables []*Resource
}

// Dump says where a pipeline's result is kept.
type Dump struct {
	// Path is the folder, `owner ID/dataset/artifact`.
	Path        string
	ContentType string
}

// A processor changes the package that reaches it. Its failure is Invalid: the
// step's parameters are wrong or the package does not suit it.
type processor func(p *Package, parameters map[string]any) error

// processors gives them by the name that a step runs them by.
func processors() map[string]processor {
	return map[string]processor{
		"add_metadata":                      addMetadata,
		"add_resource":                      addResource,
		"stream_remote_resources":           streamRemoteResources,
		"dump.to_path":                      dumpToPath,
		"dump.to_zip":                       dumpToZip,
		"aws.change_acl":                    ignore, // access is decided when a file is asked for
		"assembler.clear_resources":         clearResources,
		"assembler.dump_to_s3":              dumpToS3,
		"assembler.dump_to_sqlite":          dumpToSQLite,
		"assembler.extract_readme":          extractReadme,
		"assembler.load_modified_resources": loadModifiedResources,
		"assembler.load_preview":            loadPreview,
		"assembler.load_private_resource":   loadPrivateResource,
		"assembler.load_views":              loadViews,
		"assembler.remove_hash":             ignore, // inside a package our paths hold no hash
		"assembler.update_metadata":         updateMetadata,
		"assembler.update_resource":         updateResource,
		"assembler.validate_resource":       validateResource,
	}
}

// RowProcessors are the processors of datapackage-pipelines that an owner may name in
// steps of a Flow-Spec: those that make one table of one and touch nothing else.
func RowProcessors() []string {
	return []string{
		"add_computed_field", "concatenate", "deduplicate", "delete_fields", "filter", "find_replace", "set_types", "sort", "unpivot",
	}
}

// Compile walks the steps of a pipeline. It fails with Invalid on a step that
// the engine does not have or whose parameters are wrong.
func Compile(steps []plan.Step) (*Package, error) {
	known := processors()
	p := &Package{Descriptor: map[string]any{}}
	for i, step := range steps {
		run, ok := known[step.Run]
		if slices.Contains(RowProcessors(), step.Run) {
			p.Steps = append(p.Steps, step)
			continue
		}
		if !ok {
			return nil, errs.New(errs.Invalid, "processor.Compile", "step %d: there is no processor %q", i+1, step.Run)
		}
		if err := run(p, step.Parameters); err != nil {
			return nil, errs.Wrap(err, errs.Invalid, "processor.Compile", "step %d, %s: %s", i+1, step.Run, errs.Detail(err))
		}
	}
	return p, nil
}

func ignore(*Package, map[string]any) error { return nil }

func invalid(format string, args ...any) error {
	return errs.New(errs.Invalid, "processor", format, args...)
}

// text reads a required text parameter.
func text(parameters map[string]any, key string) (string, error) {
	s, ok := parameters[key].(string)
	if !ok || s == "" {
		return "", invalid("parameter %q must be a text", key)
	}
	return s, nil
}

// texts reads a required parameter that is a text or a list of them.
func texts(parameters map[string]any, key string) ([]string, error) {
	list, ok := parameters[key].([]any)
	if !ok || len(list) == 0 {
		s, err := text(parameters, key)
		return []string{s}, err
	}
	out := make([]string, len(list))
	for i, v := range list {
		if out[i], ok = v.(string); !ok || out[i] == "" {
			return nil, invalid("parameter %q must be a text or a list of texts", key)
		}
	}
	return out, nil
}

func clone(m map[string]any) map[string]any {
	return datapackage.Clone(m).(map[string]any)
}

// without is a copy of m that lacks some keys.
func without(m map[string]any, keys ...string) map[string]any {
	m = clone(m)
	maps.DeleteFunc(m, func(k string, _ any) bool { return slices.Contains(keys, k) })
	return m
}

// pipelineID cuts what a plan puts before the ID of a pipeline that is depended on.
func pipelineID(ref string) string {
	return strings.TrimPrefix(strings.TrimPrefix(ref, "dependency://"), "./")
}
