package flowspec

import (
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/jsonschema"
	"github.com/datahq/specstore/internal/tableschema"
)

//go:embed flow-spec.schema.json
var schemaText []byte

// Schema is the JSON Schema (draft 2020-12) of a Flow-Spec.
func Schema() []byte { return slices.Clone(schemaText) }

// compiled is the schema; it is ours, so it compiles.
var compiled = sync.OnceValues(func() (*jsonschema.Schema, error) { return jsonschema.Compile(schemaText) })

// Check checks an uploaded object. The spec is nil where there are problems, of
// which the first thousand are told.
func Check(raw map[string]any) (*Spec, []Problem) {
	schema, err := compiled()
	if err != nil {
		return nil, []Problem{{Pointer: "", Message: err.Error()}}
	}
	c := &checker{problems: schema.Check(raw, maxProblems)}
	s := &Spec{Raw: raw, Findability: Published}
	c.meta(s)
	c.input(s)
	c.processing(s)
	c.outputs(s)
	if v := raw["schedule"]; v != nil {
		schedule, err := ParseSchedule(v)
		if err != nil {
			c.add("/schedule", "%s", errs.Detail(err))
		}
		s.Schedule = schedule
	}
	if len(c.problems) == 0 {
		c.collisions(s)
	}
	if len(c.problems) > 0 {
		slices.SortStableFunc(c.problems, func(a, b Problem) int { return cmp.Compare(section(a), section(b)) })
		return nil, c.problems
	}
	return s, nil
}

// section is the place of the part of a spec that a problem is in, as specs are written.
func section(p Problem) int {
	part, _, _ := strings.Cut(strings.TrimPrefix(p.Pointer, "/"), "/")
	return slices.Index([]string{"meta", "inputs", "processing", "outputs", "schedule"}, part)
}

// checker collects problems beside those that the schema finds: it says nothing of
// what is absent or of the wrong type.
type checker struct {
	problems []Problem
	values   int // of a plan so far
	costs    tableschema.Costs
	inline   int // bytes of inline data so far
}

func (c *checker) add(pointer, format string, args ...any) {
	if len(c.problems) >= maxProblems {
		return
	}
	c.problems = append(c.problems, Problem{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
}

// spend counts the values of a part of the plan, and says whether they are still
// within the limit. Counting ends there.
func (c *checker) spend(v any) bool {
	if c.values++; c.values > maxValues {
		return false
	}
	switch v := v.(type) {
	case map[string]any:
		for _, item := range v {
			if !c.spend(item) {
				return false
			}
		}
	case []any:
		for _, item := range v {
			if !c.spend(item) {
				return false
			}
		}
	}
	return true
}

const tooManyValues = "the resources and tables hold more than %d values, schemas counted wherever they are used"

// name checks a name that is not absent.
func (c *checker) name(pointer, name string, check func(name string) (wrong string)) {
	if name == "" {
		return
	}
	if wrong := check(name); wrong != "" {
		c.add(pointer, "%s", wrong)
	}
}

// artifact checks the name of something that is published, which is a part of keys
// that numbers have a meaning in.
func (c *checker) artifact(pointer, name string) {
	c.name(pointer, name, checkName)
	if allDigits(name) {
		c.add(pointer, "the name must not be a number: packages of revisions have such names")
	}
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func text(v any) string {
	t, _ := v.(string)
	return t
}

func (c *checker) meta(s *Spec) {
	meta := object(s.Raw["meta"])
	s.OwnerID, s.Dataset, s.Owner = text(meta["ownerid"]), text(meta["dataset"]), text(meta["owner"])
	c.name("/meta/ownerid", s.OwnerID, CheckOwner)
	c.name("/meta/dataset", s.Dataset, CheckDataset)
	c.name("/meta/owner", s.Owner, CheckOwner)
	if v, ok := meta["findability"].(string); ok {
		s.Findability = v
	}
	// The service sets both; texts of other kinds are of no use to anybody.
	s.UpdateTime, s.CreateTime = text(meta["update_time"]), text(meta["create_time"])
}

func (c *checker) input(s *Spec) {
	inputs := list(s.Raw["inputs"])
	if len(inputs) != 1 {
		return
	}
	input := object(inputs[0])
	s.URL = text(input["url"])
	if s.URL == "" {
		s.URL = "datapackage.json"
	}
	parameters := object(input["parameters"])
	s.resourceMap = object(parameters["resource-mapping"])
	if s.Descriptor = object(parameters["descriptor"]); s.Descriptor == nil {
		return
	}
	const at = "/inputs/0/parameters/descriptor"
	seen := map[string]bool{}
	for i, v := range list(s.Descriptor["resources"]) {
		at := fmt.Sprintf("%s/resources/%d", at, i)
		raw := object(v)
		if raw == nil {
			continue
		}
		r := Resource{Name: text(raw["name"])}
		if r.Name == "" && raw["name"] != nil {
			c.add(at+"/name", "must not be empty")
		}
		c.artifact(at+"/name", r.Name)
		if seen[r.Name] && r.Name != "" {
			c.add(at+"/name", "the name %q was used before", r.Name)
		}
		seen[r.Name] = true
		var problems []Problem
		r.Descriptor, problems = datapackage.Resolve(s.Descriptor, raw)
		for _, p := range problems {
			c.add(at+p.Pointer, "%s", p.Message)
		}
		c.place(&r, raw, at)
		if !c.spend(r.Descriptor) {
			c.add(at, tooManyValues, maxValues)
			return
		}
		if !c.schema(at+"/schema", object(r.Descriptor["schema"])) {
			return
		}
		s.Resources = append(s.Resources, r)
	}
}

// schema holds a Table Schema against what all of them may cost, and reports whether it
// is within. What is wrong with it is reported where the table is read.
func (c *checker) schema(at string, schema map[string]any) bool {
	problems := c.costs.Add(schema)
	for _, p := range problems {
		c.add(at+p.Pointer, "%s", p.Message)
	}
	return len(problems) == 0
}

// place reads where a resource lies. The old property `url` wins over `path`, and
// both over data.
func (c *checker) place(r *Resource, raw map[string]any, at string) {
	key := "path"
	if raw["url"] != nil {
		key = "url"
	}
	switch v := raw[key].(type) {
	case nil:
		if raw["data"] != nil {
			c.data(r, at)
			return
		}
		c.add(at+"/"+key, "is required")
	case string:
		if c.path(at+"/"+key, v) {
			r.Paths = []string{v}
		}
	case []any:
		if len(v) == 0 {
			c.add(at+"/"+key, "must not be empty")
		}
		for i, part := range v {
			if p, ok := part.(string); ok && c.path(fmt.Sprintf("%s/%s/%d", at, key, i), p) {
				r.Paths = append(r.Paths, p)
			}
		}
		if format := formatOf(r); len(r.Paths) > 1 && r.Descriptor["schema"] != nil && !slices.Contains(inParts, format) {
			c.add(at+"/"+key, "a table in several files must be of a format that has a row a line (%s), and this one is %q", strings.Join(inParts, ", "), format)
		}
	}
}

// inParts are the formats of tables whose files can be read one after the other.
var inParts = []string{"csv", "tsv", "txt", "ndjson", "jsonl"}

func formatOf(r *Resource) string {
	format := text(r.Descriptor["format"])
	if format == "" && len(r.Paths) > 0 {
		path := r.Paths[0]
		if i := strings.IndexAny(path, "?#"); i >= 0 && datapackage.IsURL(path) {
			path = path[:i]
		}
		format = datapackage.Extension(path)
	}
	return strings.ToLower(format)
}

func (c *checker) path(pointer, path string) bool {
	if datapackage.IsURL(path) {
		return true
	}
	if !datapackage.SafePath(path) || path[0] == '$' || path[0] == '%' && strings.Contains(path[1:], "%") {
		c.add(pointer, "unsafe path %q: it must be a URL (http, https) or relative and inside the package", path)
		return false
	}
	return true
}

// data reads inline data.
func (c *checker) data(r *Resource, at string) {
	text, format, problem := datapackage.Inline(r.Descriptor)
	if problem != nil {
		c.add(at+problem.Pointer, "%s", problem.Message)
		return
	}
	r.Inline = &Inline{Text: text, Format: format}
	if c.inline += len(text); c.inline > maxInline {
		c.add(at+"/data", "the inline data of a spec have %d MiB at most: put larger data into files", maxInline>>20)
	}
	delete(r.Descriptor, "data") // Resolve made the object
}

func (c *checker) processing(s *Spec) {
	for i, v := range list(s.Raw["processing"]) {
		at := fmt.Sprintf("/processing/%d", i)
		raw := object(v)
		if raw == nil {
			continue
		}
		p := Processing{Input: text(raw["input"]), Output: text(raw["output"]), Tabulator: object(raw["tabulator"]), Schema: object(raw["schema"])}
		c.artifact(at+"/output", p.Output)
		for _, v := range list(raw["dpp"]) {
			step := object(v)
			parameters := object(step["parameters"])
			if parameters == nil {
				parameters = map[string]any{}
			}
			p.Steps = append(p.Steps, Step{text(step["run"]), parameters})
		}
		if !c.schema(at+"/schema", p.Schema) {
			return
		}
		s.Processing = append(s.Processing, p)
	}
	if s.Descriptor == nil {
		return
	}
	// The original ignored an input that is the output of another entry; so do we,
	// since old specs have such.
	inputs, outputs := map[string]Resource{}, map[string]bool{}
	for _, r := range s.Resources {
		inputs[r.Name], inputs[r.Name+"_original"] = r, r
	}
	for _, p := range s.Processing {
		outputs[p.Output] = true
	}
	for i, p := range s.Processing {
		r, known := inputs[p.Input]
		if p.Input != "" && !known && !outputs[p.Input] {
			c.add(fmt.Sprintf("/processing/%d/input", i), "there is no resource %q", p.Input)
		}
		// Every entry makes a copy of its input.
		if known && (!c.spend(r.Descriptor) || !c.spend(p.Tabulator)) {
			c.add(fmt.Sprintf("/processing/%d", i), tooManyValues, maxValues)
			return
		}
	}
}

func (c *checker) outputs(s *Spec) {
	for i, v := range list(s.Raw["outputs"]) {
		raw := object(v)
		o := Output{Kind: text(raw["kind"])}
		if o.Kind == "zip" || o.Kind == SQLite {
			o.File = text(object(raw["parameters"])["out-file"])
			c.artifact(fmt.Sprintf("/outputs/%d/parameters/out-file", i), o.File)
			if o.File == "" {
				o.File = s.Dataset + "." + o.Kind
			}
		}
		switch {
		case o.Kind != "zip" && !s.Wants(o.Kind):
			s.Outputs = append(s.Outputs, o)
		case o.Kind == "zip" && s.ZipFile == "":
			s.ZipFile = o.File
		}
	}
	if s.ZipFile == "" {
		s.ZipFile = s.Dataset + ".zip"
	}
}
