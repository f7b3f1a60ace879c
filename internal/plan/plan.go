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
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/format/tables"
)

// Version is the planner's. It changes whenever the same input gives another plan;
// earlier versions stay callable (Input.Version).
const Version = "2"

// firstVersion named temporary files by three digits and knew no further outputs.
const firstVersion = "1"

// Input is what a plan is made of.
type Input struct {
	Spec     *flowspec.Spec
	Revision string
	// UpdateTime and CreateTime are when the revision was accepted and the dataset
	// made (RFC 3339); where empty, what the spec's meta says, else null.
	UpdateTime, CreateTime string
	// AllowedTypes are the types of artifacts that are made; nil is [DefaultTypes], an
	// empty list leaves the last pipeline alone. Unknown types have no effect.
	AllowedTypes []string
	// BareNames takes the extensions of addresses, which formats and names of published
	// files have, from before their queries and fragments. These may hold a secret.
	BareNames bool
	// Version is the planner's that first planned the revision; empty is [Version].
	Version  string
	Settings Settings
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
	typeParquet  = "derived/parquet"
	typeXLSX     = "derived/xlsx"
	typeSQLite   = "derived/sqlite"
	typeTabular  = "source/tabular"
	typeOriginal = "original"
)

// DefaultTypes are the types that the original Spec Store allowed, and that a
// datapackage-pipelines service makes.
func DefaultTypes() []string {
	return []string{typeReport, typeCSV, typeJSON, typeZip, typePreview, typeTabular, "source/non-tabular", typeOriginal}
}

// EmbeddedTypes are the types that the embedded engine makes: the default ones, and
// where a spec asks for them, further forms of tables.
func EmbeddedTypes() []string {
	return append(DefaultTypes(), typeParquet, typeXLSX, typeSQLite)
}

// Notes say what a spec asks for that its plan does not make.
func Notes(in Input) []string {
	if len(in.Spec.Outputs) == 0 {
		return nil
	}
	p := newPlanner(in)
	var notes []string
	for _, o := range in.Spec.Outputs {
		if kind := "derived/" + o.Kind; !p.allowed(kind) || kind != typeParquet && kind != typeXLSX && kind != typeSQLite {
			notes = append(notes, fmt.Sprintf("the output %q is not made by this runner: it is ignored", o.Kind))
		}
	}
	return notes
}

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
	types     map[string]bool
	update    Step // of the metadata, in all pipelines
	metadata  Step // the descriptor without its resources, likewise
	dumping   map[string]any
	sources   []*artifact
	made      []*artifact
	pipelines []Pipeline
}

func newPlanner(in Input) *planner {
	if in.UpdateTime == "" {
		in.UpdateTime = in.Spec.UpdateTime
	}
	if in.CreateTime == "" {
		in.CreateTime = in.Spec.CreateTime
	}
	if in.AllowedTypes == nil {
		in.AllowedTypes = DefaultTypes()
	}
	p := &planner{Input: in, flowID: in.Spec.ID() + "/" + in.Revision, types: map[string]bool{}}
	for _, t := range in.AllowedTypes {
		p.types[t] = in.Version != firstVersion || t != typeParquet && t != typeXLSX && t != typeSQLite
	}
	return p
}

func (p *planner) allowed(kind string) bool { return p.types[kind] }

// ReportName is the last part of the ID of the pipeline that makes the validation report,
// and the name of the report.
const ReportName = "validation_report"

// Plan makes the pipelines. Their parameters share values with each other and with
// the spec, and must not be altered. It fails with Invalid where a source cannot be signed.
func Plan(in Input) ([]Pipeline, error) {
	p := newPlanner(in)
	metadata := maps.Clone(p.Spec.Descriptor)
	delete(metadata, "resources")
	p.metadata = Step{"add_metadata", metadata}
	p.update = Step{"assembler.update_metadata", map[string]any{
		"ownerid": p.Spec.OwnerID, "owner": orNull(p.Spec.Owner), "findability": p.Spec.Findability, "flowid": p.flowID,
		"modified": orNull(p.UpdateTime), "created": orNull(p.CreateTime), "id": p.Spec.ID(),
	}}
	p.dumping = map[string]any{
		"force-format": false, "add-filehash-to-path": true, "pretty-descriptor": true,
		"counters": map[string]any{
			"datapackage-rowcount": "datahub.stats.rowcount", "datapackage-bytes": "datahub.stats.bytes",
			"datapackage-hash": "datahub.hash", "resource-rowcount": "rowcount", "resource-bytes": "bytes", "resource-hash": "hash",
		},
	}
	p.prepare()
	if err := p.sign(); err != nil {
		return nil, err
	}
	p.report()
	p.tables(typeCSV, "csv", "Creating CSV", "text/csv")
	p.tables(typeJSON, "json", "Creating JSON", "application/json")
	p.zip()
	p.previews()
	if p.Spec.Wants(flowspec.Parquet) {
		p.tables(typeParquet, "parquet", "Creating Parquet", "application/vnd.apache.parquet")
	}
	if p.Spec.Wants(flowspec.XLSX) {
		p.tables(typeXLSX, "xlsx", "Creating XLSX", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")
	}
	p.database()
	p.copies()
	p.last()
	return p.pipelines, nil
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
	streamed, other                []*artifact
	steps                          []Step
}

// pipeline puts a pipeline together and notes the artifact that it makes.
func (p *planner) pipeline(n node) *artifact {
	if !p.allowed(n.kind) {
		return nil
	}
	id := p.flowID + "/" + n.name
	steps := make([]Step, 2, 6+2*len(n.streamed)+len(n.other)+len(n.steps))
	steps[0], steps[1] = p.update, p.metadata
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
	remote := false
	for _, a := range n.streamed {
		load(a, true)
		remote = remote || a.source()
	}
	if remote {
		steps = append(steps, Step{"stream_remote_resources", map[string]any{}})
	}
	for _, a := range n.streamed {
		steps = append(steps, a.steps...)
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
	local := make(map[string]any, len(p.dumping)+2)
	maps.Copy(local, p.dumping)
	local["handle-non-tabular"] = nonTabular
	if p.Settings.Local {
		local["out-path"] = path
		return []Step{{"dump.to_path", local}}
	}
	bucket := make(map[string]any, len(local)+4)
	maps.Copy(bucket, local)
	local["out-path"] = path
	bucket["path"], bucket["bucket"], bucket["content_type"], bucket["acl"] = path, p.Settings.Bucket, contentType, "private"
	return []Step{{"dump.to_path", local}, {"assembler.dump_to_s3", bucket}}
}

func (p *planner) report() {
	n := node{
		kind: typeReport, name: ReportName, title: "Validating package contents", contentType: "application/json",
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
		if a := p.pipeline(node{kind: kind, name: name, title: title, contentType: contentType, streamed: []*artifact{s}, steps: []Step{update}}); a != nil {
			a.steps = []Step{update}
		}
	}
}

// temporary is a file that no other flow on a machine has: the flow is in its name,
// as a number, since the original had one there.
func (p *planner) temporary(file string) string {
	if p.Version == firstVersion {
		h := fnv.New32a()
		h.Write([]byte(p.flowID))
		return fmt.Sprintf("/tmp/%d.%s", h.Sum32()%1000, file)
	}
	sum := sha256.Sum256([]byte(p.flowID))
	return fmt.Sprintf("/tmp/%s.%s", new(big.Int).SetBytes(sum[:16]), file)
}

const zipDescription = "Compressed versions of dataset. Includes normalized CSV and JSON data with original data and datapackage.json."

func (p *planner) zip() {
	file := p.Spec.ZipFile
	name := flowspec.ArtifactOf(file)
	temporary := p.temporary(file)
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
		p.pipeline(node{kind: typePreview, name: name, title: "Generating views", contentType: "application/json", streamed: []*artifact{csv}, steps: []Step{
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

const databaseDescription = "All tables of the dataset as one SQLite database."

// database plans one database of all tables, which are read from their CSVs.
func (p *planner) database() {
	i := slices.IndexFunc(p.Spec.Outputs, func(o flowspec.Output) bool { return o.Kind == flowspec.SQLite })
	if i < 0 {
		return
	}
	file := p.Spec.Outputs[i].File
	name := flowspec.ArtifactOf(file)
	temporary := p.temporary(file)
	n := node{kind: typeSQLite, name: name, title: "Creating SQLite", contentType: "application/vnd.sqlite3", steps: []Step{
		{"assembler.dump_to_sqlite", map[string]any{"out-file": temporary}},
		{"assembler.clear_resources", map[string]any{}},
		{"add_resource", map[string]any{
			"url": temporary, "name": name, "format": "sqlite", "path": "data/" + name + ".sqlite",
			"datahub": map[string]any{"type": typeSQLite}, "description": databaseDescription,
		}},
	}}
	for _, a := range p.made {
		if a.kind == typeCSV {
			// What its CSV was made by has been done.
			n.streamed = append(n.streamed, &artifact{kind: a.kind, name: a.name, pipeline: a.pipeline})
		}
	}
	if len(n.streamed) > 0 {
		p.pipeline(n)
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
		p.metadata,
		p.update,
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
		whole := maps.Clone(resource)
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
	m := defaults(r.Descriptor)
	var urls []string
	var extension string
	if r.Inline != nil {
		extension = r.Inline.Format
		urls = []string{DataURL(r.Inline.Text)}
	}
	for i, path := range r.Paths {
		url := path
		if !datapackage.IsURL(path) {
			if folder := strings.LastIndexByte(p.Spec.URL, '/'); folder >= 0 {
				url = strings.TrimRight(p.Spec.URL[:folder], "/") + "/" + path
			}
		}
		if i == 0 {
			extension = p.extension(url)
		}
		if mapped, ok := p.Spec.Mapped(r, path); ok {
			url = mapped
		}
		urls = append(urls, url)
	}
	if _, ok := m["format"]; !ok && extension != "" {
		m["format"] = extension
	}
	// The hint tells a reader the format of an address that does not show it.
	format, ok := m["format"].(string)
	for i, url := range urls {
		if ok && r.Inline == nil && !strings.HasSuffix(url, format) {
			urls[i] += "#." + format
		}
	}
	meant := m["profile"] == "tabular-data-resource" || m["type"] == "table" // to be a table
	if !meant && (m["format"] == "geojson" || len(urls) == 1 && strings.HasSuffix(urls[0], ".geojson")) {
		if schema, ok := m["schema"]; ok {
			m["geojsonSchema"] = schema
			delete(m, "schema")
		}
	}
	m["path"] = "archive/" + r.Name + "." + extension
	m["url"] = urls[0]
	if len(urls) > 1 {
		parts := make([]any, len(urls))
		for i, url := range urls {
			parts[i] = url
		}
		m["url"] = parts
	}
	_, tabular = m["schema"]
	return m, tabular
}

// extension returns the extension of a path or an address. The original's may be a part of
// the query of an address. Where names are bare one in the query counts only if it is a
// format of tables, as in export?file=t.csv, and there is none before it.
func (p *planner) extension(address string) string {
	extension := datapackage.Extension(address)
	i := strings.IndexAny(address, "?#")
	if !p.BareNames || i < 0 || !datapackage.IsURL(address) {
		return extension
	}
	if bare := datapackage.Extension(address[:i]); bare != "" || !tables.Readable(extension) {
		return bare
	}
	return extension
}

// DataURL is an address that holds a text itself (RFC 2397).
func DataURL(text []byte) string {
	return "data:;base64," + base64.StdEncoding.EncodeToString(text)
}

// defaults gives a resource with what the Data Package standard (version 1) has as
// defaults. It shares what it does not alter.
func defaults(resource map[string]any) map[string]any {
	m := make(map[string]any, len(resource)+6)
	maps.Copy(m, resource)
	if _, ok := m["profile"]; !ok {
		m["profile"] = "data-resource"
	}
	if m["profile"] != "tabular-data-resource" {
		return m
	}
	for _, key := range []string{"schema", "dialect"} {
		if v, ok := m[key]; ok {
			m[key] = datapackage.Clone(v)
		}
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
	return m
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
			whole := maps.Clone(a.resource)
			whole["name"] = a.name + "_original"
			out = append(out, &artifact{kind: a.kind, name: a.name + "_original", resource: whole})
		}
		for _, entry := range entries[a.name] {
			resource := maps.Clone(a.resource)
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
	streamed := p.allowed(typeCSV) || p.allowed(typeJSON) ||
		p.allowed(typeParquet) && p.Spec.Wants(flowspec.Parquet) || p.allowed(typeXLSX) && p.Spec.Wants(flowspec.XLSX)
	if !streamed {
		return nil
	}
	for _, a := range p.sources {
		if !a.tabular() {
			continue
		}
		a.resource["signed"] = true
		url, ok := a.resource["url"].(string)
		bucket := p.Settings.Bucket
		if !ok || bucket == "" || !strings.HasPrefix(url, "http") || !strings.Contains(url, "/"+bucket+"/") {
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
