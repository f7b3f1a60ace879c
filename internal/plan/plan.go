// Package plan turns a Flow-Spec into the pipelines of its flow.
//
// Planning is pure: the same spec, revision and settings give the same pipelines,
// nothing is fetched and no chance is in it. The pipelines are in the language of
// datapackage-pipelines (pipeline-spec), so that the embedded engine and a
// datapackage-pipelines service can run the same plan. They are listed parents
// first; the last one puts the package together and has the flow's ID.
package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
)

// Version is the planner's. It changes whenever the same input gives another plan.
const Version = "1"

// Input is what a plan is made of.
type Input struct {
	Spec     *flowspec.Spec
	Revision string
	// UpdateTime and CreateTime are when the revision was accepted and the dataset
	// made (RFC 3339); where empty, what the spec's meta says, else null.
	UpdateTime, CreateTime string
	// AllowedTypes are the types of artifacts that are made; nil is all of them, an
	// empty list leaves the last pipeline alone. Unknown types have no effect.
	AllowedTypes []string
	Settings     Settings
}

// Settings are what an operator decides.
type Settings struct {
	// Local leaves out the steps that copy to a bucket.
	Local  bool
	Bucket string
	// S3Endpoint replaces the host of signed URLs.
	S3Endpoint, AccessKey, SecretKey, Region string
	SignTime                                 time.Time
}

// Pipeline is one unit of work. As JSON it is a list of its ID and its details.
type Pipeline struct {
	ID      string
	Details Details
}

// MarshalJSON gives [ID, details].
func (p Pipeline) MarshalJSON() ([]byte, error) { return json.Marshal([]any{p.ID, p.Details}) }

// UnmarshalJSON reads [ID, details]; numbers are json.Number.
func (p *Pipeline) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(&[]any{&p.ID, &p.Details})
}

// Details are a pipeline's steps and what it waits for.
type Details struct {
	Pipeline     []Step       `json:"pipeline"`
	Dependencies []Dependency `json:"dependencies"`
	Title        string       `json:"title"`
	UpdateTime   *Time        `json:"update_time,omitempty"` // of the last pipeline only
}

// Time is a time as text; empty is null.
type Time string

// MarshalJSON gives the text, or null.
func (t Time) MarshalJSON() ([]byte, error) { return json.Marshal(orNull(string(t))) }

// Dependency names a pipeline that must succeed first.
type Dependency struct {
	Pipeline string `json:"pipeline"` // ./ID
}

// Step runs a processor. Its parameters are in the JSON value space.
type Step struct {
	Run        string         `json:"run"`
	Parameters map[string]any `json:"parameters"`
}

// The types of artifacts.
const (
	typeReport   = "derived/report"
	typeCSV      = "derived/csv"
	typeJSON     = "derived/json"
	typeZip      = "derived/zip"
	typePreview  = "derived/preview"
	typeTabular  = "source/tabular"
	typeOriginal = "original"
)

// artifact is a file that a flow reads or makes.
type artifact struct {
	kind, name string
	resource   map[string]any // of a source: the parameters of add_resource
	steps      []Step         // of a source: the owner's; of a CSV: its update
	pipeline   string         // of a derived one: the pipeline that makes it
}

func (a *artifact) source() bool  { return a.pipeline == "" }
func (a *artifact) tabular() bool { return a.kind == typeTabular }

type planner struct {
	Input
	flowID    string
	metadata  map[string]any // the descriptor without its resources, for all pipelines
	sources   []*artifact
	made      []*artifact
	pipelines []Pipeline
}

// Plan makes the pipelines. Their parameters share values with each other and with
// the spec, and must not be altered. It fails with Invalid where a source cannot be signed.
func Plan(in Input) ([]Pipeline, error) {
	if in.UpdateTime == "" {
		in.UpdateTime = in.Spec.UpdateTime
	}
	if in.CreateTime == "" {
		in.CreateTime = in.Spec.CreateTime
	}
	p := &planner{Input: in, flowID: in.Spec.ID() + "/" + in.Revision, metadata: maps.Clone(in.Spec.Descriptor)}
	delete(p.metadata, "resources")
	p.prepare()
	if err := p.sign(); err != nil {
		return nil, err
	}
	p.report()
	p.tables(typeCSV, "csv", "Creating CSV", "text/csv")
	p.tables(typeJSON, "json", "Creating JSON", "application/json")
	p.zip()
	p.previews()
	p.copies()
	p.last()
	return p.pipelines, nil
}

func (p *planner) allowed(kind string) bool {
	return p.AllowedTypes == nil || slices.Contains(p.AllowedTypes, kind)
}

func (p *planner) update() map[string]any {
	return map[string]any{
		"ownerid": p.Spec.OwnerID, "owner": orNull(p.Spec.Owner), "findability": p.Spec.Findability, "flowid": p.flowID,
		"modified": orNull(p.UpdateTime), "created": orNull(p.CreateTime), "id": p.Spec.ID(),
	}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// node is a pipeline to be put together.
type node struct {
	kind, name, title, contentType string
	streamed                       *artifact
	other                          []*artifact
	steps                          []Step
}

// pipeline puts a pipeline together and notes the artifact that it makes.
func (p *planner) pipeline(n node) *artifact {
	if !p.allowed(n.kind) {
		return nil
	}
	id := p.flowID + "/" + n.name
	steps := []Step{{"assembler.update_metadata", p.update()}, {"add_metadata", p.metadata}}
	dependencies := []Dependency{}
	load := func(a *artifact, stream bool) {
		if a.source() {
			steps = append(steps, Step{"add_resource", a.resource})
			return
		}
		dependencies = append(dependencies, Dependency{"./" + a.pipeline})
		parameters := map[string]any{"url": "dependency://./" + a.pipeline, "resource": a.name, "stream": stream}
		if stream {
			parameters["limit-rows"] = nil
		}
		steps = append(steps, Step{"assembler.load_private_resource", parameters})
	}
	if n.streamed != nil {
		load(n.streamed, true)
		if n.streamed.source() {
			steps = append(steps, Step{"stream_remote_resources", map[string]any{}})
		}
		steps = append(steps, n.streamed.steps...)
	}
	for _, a := range n.other {
		load(a, false)
	}
	steps = append(steps, n.steps...)
	// The dump's folder is the pipeline's ID without the revision, wherever it stands.
	path := strings.ReplaceAll(id, "/"+p.Revision+"/", "/")
	steps = append(steps, p.dump(path, n.contentType, true)...)
	p.pipelines = append(p.pipelines, Pipeline{id, Details{Pipeline: steps, Dependencies: dependencies, Title: n.title}})
	a := &artifact{kind: n.kind, name: n.name, pipeline: id}
	p.made = append(p.made, a)
	return a
}

// dump keeps the result, in a bucket too where one is used.
func (p *planner) dump(path, contentType string, nonTabular bool) []Step {
	common := func(more map[string]any) map[string]any {
		maps.Copy(more, map[string]any{
			"force-format": false, "handle-non-tabular": nonTabular, "add-filehash-to-path": true, "pretty-descriptor": true,
			"counters": map[string]any{
				"datapackage-rowcount": "datahub.stats.rowcount", "datapackage-bytes": "datahub.stats.bytes",
				"datapackage-hash": "datahub.hash", "resource-rowcount": "rowcount", "resource-bytes": "bytes", "resource-hash": "hash",
			},
		})
		return more
	}
	steps := []Step{{"dump.to_path", common(map[string]any{"out-path": path})}}
	if !p.Settings.Local {
		steps = append(steps, Step{"assembler.dump_to_s3", common(map[string]any{
			"path": path, "bucket": p.Settings.Bucket, "content_type": contentType, "acl": "private",
		})})
	}
	return steps
}

func (p *planner) report() {
	n := node{
		kind: typeReport, name: "validation_report", title: "Validating package contents", contentType: "application/json",
		steps: []Step{{"assembler.validate_resource", map[string]any{}}},
	}
	for _, s := range p.sources {
		if s.tabular() {
			n.other = append(n.other, s)
		}
	}
	p.pipeline(n)
}

// tables plans one form of every table.
func (p *planner) tables(kind, format, title, contentType string) {
	for _, s := range p.sources {
		if !s.tabular() {
			continue
		}
		name := s.name + "_" + format
		update := Step{"assembler.update_resource", map[string]any{"name": s.name, "update": map[string]any{
			"name": name, "format": format, "path": "data/" + name + "." + format,
			"datahub": map[string]any{"type": kind, "derivedFrom": []any{s.name}},
		}}}
		if a := p.pipeline(node{kind: kind, name: name, title: title, contentType: contentType, streamed: s, steps: []Step{update}}); a != nil {
			a.steps = []Step{update}
		}
	}
}

const zipDescription = "Compressed versions of dataset. Includes normalized CSV and JSON data with original data and datapackage.json."

func (p *planner) zip() {
	file := p.Spec.ZipFile
	name := strings.ReplaceAll(file, ".", "_")
	// Two runners on one machine must not share a file, so the flow is in its name.
	h := fnv.New32a()
	h.Write([]byte(p.flowID))
	temporary := fmt.Sprintf("/tmp/%d.%s", h.Sum32()%1000, file)
	n := node{kind: typeZip, name: name, title: "Creating ZIP", contentType: "application/zip", steps: []Step{
		{"assembler.extract_readme", map[string]any{}},
		{"assembler.remove_hash", map[string]any{}},
		{"dump.to_zip", map[string]any{"out-file": temporary, "force-format": false, "handle-non-tabular": true, "pretty-descriptor": true}},
		{"assembler.clear_resources", map[string]any{}},
		{"add_resource", map[string]any{
			"url": temporary, "name": name, "format": "zip", "path": "data/" + name + ".zip",
			"datahub": map[string]any{"type": typeZip}, "description": zipDescription,
		}},
	}}
	for _, s := range p.sources {
		if !s.tabular() {
			n.other = append(n.other, s)
		}
	}
	n.other = append(n.other, p.made...)
	p.pipeline(n)
}

// PreviewRows is the most rows that a preview has.
const PreviewRows = 2000

func (p *planner) previews() {
	for _, csv := range slices.Clone(p.made) {
		if csv.kind != typeCSV {
			continue
		}
		name := csv.name + "_preview"
		p.pipeline(node{kind: typePreview, name: name, title: "Generating views", contentType: "application/json", streamed: csv, steps: []Step{
			{"assembler.update_resource", map[string]any{"name": csv.name, "update": map[string]any{
				"name": name, "format": "json", "path": "data/" + name + ".json",
				"datahub": map[string]any{"type": typePreview, "derivedFrom": []any{strings.ReplaceAll(csv.name, "_csv", "")}},
				"forView": []any{"datahub-preview-" + name},
			}}},
			{"assembler.load_preview", map[string]any{"limit": PreviewRows}},
			{"assembler.load_views", map[string]any{"limit": PreviewRows}},
		}})
	}
}

func (p *planner) copies() {
	for _, s := range p.sources {
		if !s.tabular() && strings.HasSuffix(s.name, "_original") {
			continue
		}
		p.pipeline(node{kind: s.kind, name: s.name, title: "Copying source data", contentType: "application/octet-stream", other: []*artifact{s}, steps: []Step{
			{"assembler.update_resource", map[string]any{"name": s.name, "update": map[string]any{
				"name": s.name, "datahub": map[string]any{"type": s.kind},
			}}},
		}})
	}
}

// last plans the pipeline that puts the package together.
func (p *planner) last() {
	dependencies := make([]Dependency, len(p.pipelines))
	urls := make([]any, len(p.pipelines))
	for i, d := range p.pipelines {
		dependencies[i] = Dependency{"./" + d.ID}
		urls[i] = map[string]any{"pipeline": "./" + d.ID}
	}
	steps := []Step{
		{"add_metadata", p.metadata},
		{"assembler.update_metadata", p.update()},
		{"assembler.load_modified_resources", map[string]any{"urls": urls}},
	}
	steps = append(steps, p.dump(p.flowID, "application/json", false)...)
	if !p.Settings.Local {
		acl := "public-read"
		if p.Spec.Findability == flowspec.Private {
			acl = "private"
		}
		steps = append(steps, Step{"aws.change_acl", map[string]any{"bucket": p.Settings.Bucket, "path": p.Spec.ID(), "acl": acl}})
	}
	at := Time(p.UpdateTime)
	p.pipelines = append(p.pipelines, Pipeline{p.flowID, Details{Pipeline: steps, Dependencies: dependencies, Title: "Creating Package", UpdateTime: &at}})
}

// prepare makes the sources of the resources.
func (p *planner) prepare() {
	var originals []*artifact
	for _, r := range p.Spec.Resources {
		resource, tabular := p.resource(r)
		a := &artifact{kind: typeOriginal, name: r.Name, resource: resource}
		setType(resource, typeOriginal)
		p.sources = append(p.sources, a)
		if !tabular {
			continue
		}
		whole := datapackage.Clone(resource).(map[string]any)
		whole["name"] = r.Name + "_original"
		originals = append(originals, &artifact{kind: typeOriginal, name: r.Name + "_original", resource: whole})
		a.kind = typeTabular
		setType(resource, typeTabular)
	}
	p.sources = append(p.sources, originals...)
	p.process()
}

func setType(resource map[string]any, kind string) {
	resource["datahub"] = map[string]any{"type": kind}
}

// resource prepares one resource: its address, format and place in the archive.
func (p *planner) resource(r flowspec.Resource) (resource map[string]any, tabular bool) {
	m := datapackage.Clone(r.Descriptor).(map[string]any)
	defaults(m)
	url := r.Path
	if !datapackage.IsURL(r.Path) {
		if folder := strings.LastIndexByte(p.Spec.URL, '/'); folder >= 0 {
			url = strings.TrimRight(p.Spec.URL[:folder], "/") + "/" + r.Path
		}
	}
	extension := extensionOf(url)
	if _, ok := m["format"]; !ok && extension != "" {
		m["format"] = extension
	}
	if mapped, ok := p.Spec.Mapped(r); ok {
		url = mapped
	}
	// The hint tells a reader the format of an address that does not show it.
	if format, ok := m["format"].(string); ok && !strings.HasSuffix(url, format) {
		url += "#." + format
	}
	if m["format"] == "geojson" || strings.HasSuffix(url, ".geojson") {
		if schema, ok := m["schema"]; ok {
			m["geojsonSchema"] = schema
			delete(m, "schema")
		}
	}
	m["path"] = "archive/" + r.Name + "." + extension
	m["url"] = url
	_, tabular = m["schema"]
	return m, tabular
}

// extensionOf is what stands after the last dot of the last segment, leading dots
// left out.
func extensionOf(url string) string {
	segment := strings.TrimLeft(url[strings.LastIndexByte(url, '/')+1:], ".")
	dot := strings.LastIndexByte(segment, '.')
	if dot < 0 {
		return ""
	}
	return segment[dot+1:]
}

// defaults fills in what the Data Package standard (version 1) has as defaults.
func defaults(m map[string]any) {
	if _, ok := m["profile"]; !ok {
		m["profile"] = "data-resource"
	}
	if m["profile"] != "tabular-data-resource" {
		return
	}
	absent := func(m map[string]any, key string, v any) {
		if _, ok := m[key]; !ok {
			m[key] = v
		}
	}
	if schema, ok := m["schema"].(map[string]any); ok {
		fields, _ := schema["fields"].([]any)
		for _, f := range fields {
			if f, ok := f.(map[string]any); ok {
				absent(f, "type", "string")
				absent(f, "format", "default")
			}
		}
		absent(schema, "missingValues", []any{""})
	}
	if dialect, ok := m["dialect"].(map[string]any); ok {
		absent(dialect, "delimiter", ",")
		absent(dialect, "doubleQuote", true)
		absent(dialect, "lineTerminator", "\r\n")
		absent(dialect, "quoteChar", `"`)
		absent(dialect, "skipInitialSpace", true)
		absent(dialect, "header", true)
		absent(dialect, "caseSensitiveHeader", false)
	}
}

// process puts the outputs of the spec's processing in the place of their inputs.
func (p *planner) process() {
	entries := map[string][]flowspec.Processing{}
	for _, entry := range p.Spec.Processing {
		entries[entry.Input] = append(entries[entry.Input], entry)
	}
	var out []*artifact
	for _, a := range p.sources {
		if len(entries[a.name]) == 0 {
			out = append(out, a)
			continue
		}
		if !a.tabular() {
			whole := datapackage.Clone(a.resource).(map[string]any)
			whole["name"] = a.name + "_original"
			out = append(out, &artifact{kind: a.kind, name: a.name + "_original", resource: whole})
		}
		for _, entry := range entries[a.name] {
			resource := datapackage.Clone(a.resource).(map[string]any)
			maps.Copy(resource, entry.Tabulator)
			if entry.Schema != nil {
				resource["schema"] = entry.Schema
			}
			resource["name"] = entry.Output
			setType(resource, typeTabular)
			made := &artifact{kind: typeTabular, name: entry.Output, resource: resource}
			for _, s := range entry.Steps {
				made.steps = append(made.steps, Step(s))
			}
			out = append(out, made)
		}
	}
	p.sources = out
}

// sign marks the sources that are read as tables and signs those that lie in the
// bucket.
func (p *planner) sign() error {
	if !p.allowed(typeCSV) && !p.allowed(typeJSON) {
		return nil
	}
	for _, a := range p.sources {
		if !a.tabular() {
			continue
		}
		a.resource["signed"] = true
		url := a.resource["url"].(string)
		bucket := p.Settings.Bucket
		if bucket == "" || !strings.HasPrefix(url, "http") || !strings.Contains(url, "/"+bucket+"/") {
			continue
		}
		if p.Settings.AccessKey == "" || p.Settings.SecretKey == "" {
			return errs.New(errs.Invalid, "plan.sign", "the source %s lies in the bucket, and there are no credentials to sign its address", a.name)
		}
		signed, err := p.Settings.presign(url)
		if err != nil {
			return err
		}
		a.resource["url"] = signed
	}
	return nil
}
