// Package flowspec reads and checks Flow-Specs: what an owner uploads to say which
// data are to be published, and how.
//
// [Check] finds all problems of a spec at once, each with a JSON pointer, and gives
// a [Spec] in which what later layers rely on is of the right type, names are
// usable and no two things that a flow makes have one name. What is uploaded is
// never altered and nothing of it is opened or fetched. What a spec makes of itself
// is bounded: a pointer to one schema from many resources is short to write and
// long to plan.
package flowspec

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"golang.org/x/text/unicode/norm"
)

// Problem is one thing that is wrong with a spec.
type Problem = datapackage.Problem

// ProblemLines gives each problem as a line of text.
func ProblemLines(problems []Problem) []string {
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.String()
	}
	return lines
}

// Who may find a dataset.
const (
	Published = "published" // everybody
	Unlisted  = "unlisted"  // whoever knows its address
	Private   = "private"   // its owner
)

// Spec is a checked Flow-Spec. What it holds is shared with the uploaded object and
// must not be altered.
type Spec struct {
	Raw map[string]any // as it was uploaded

	OwnerID     string
	Owner       string // the owner's name; empty where it is not said
	Dataset     string
	Findability string // Published where it is not said

	// URL is the place of the descriptor, which relative paths start from.
	URL         string
	Descriptor  map[string]any
	Resources   []Resource
	Processing  []Processing
	ZipFile     string // file name of the archive
	Schedule    Schedule
	UpdateTime  string // of `meta`, which the service overrides
	CreateTime  string
	resourceMap map[string]any
}

// Resource is one resource of the descriptor, pointers in it resolved.
type Resource struct {
	Name       string
	Path       string // a URL, or relative to the descriptor
	Descriptor map[string]any
}

// Mapped gives the address that the spec's resource-mapping has for a resource: the
// entry of its path, else of its name. An entry that is null hides the other.
func (s *Spec) Mapped(r Resource) (url string, ok bool) {
	v, found := s.resourceMap[r.Path]
	if !found {
		v = s.resourceMap[r.Name]
	}
	url, ok = v.(string)
	return url, ok
}

// Processing asks for a resource to be read in another way or processed by steps.
type Processing struct {
	Input, Output string
	Tabulator     map[string]any // reader options
	Schema        map[string]any // nil: the input's
	Steps         []Step
}

// Step is one processor of the owner's with its parameters.
type Step struct {
	Run        string
	Parameters map[string]any
}

// ID is the dataset's: owner ID and name.
func (s *Spec) ID() string { return s.OwnerID + "/" + s.Dataset }

// Limits of a spec.
const (
	maxName     = 100     // characters
	maxTables   = 10_000  // resources, and as many entries of processing
	maxValues   = 1 << 19 // JSON values in the resources and tables of a plan, pointers followed
	maxProblems = 1000    // that are told at once
)

// ReservedOwners are the owner names that routes of the service stand in the way of.
var ReservedOwners = []string{
	"source", "source-pipelines", "auth", "rawstore", "pkgstore", "metastore", "resolver", "storage", "badge", "openapi.yaml",
	"healthz", "readyz", "metrics", "static", "login", "dashboard", "search", "success", "sitemap.xml", "upload", "update", "plan",
}

// ReservedDatasets are the dataset names that routes of the service stand in the way of.
var ReservedDatasets = []string{"v", "r", "view", "runs", "upload", "update", "plan", "latest", "successful"}

// checkName says what is wrong with a name, nothing where it is good: letters and
// digits of any script and . _ -, not all of it dots.
func checkName(name string) string {
	switch {
	case name == "":
		return "must not be empty"
	case len(name) > 4*maxName || len([]rune(name)) > maxName:
		return fmt.Sprintf("must not be longer than %d characters", maxName)
	case !norm.NFC.IsNormalString(name):
		return "must be in Unicode's composed form (NFC)"
	case strings.Trim(name, ".") == "":
		return "must not consist of dots"
	}
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && !strings.ContainsRune("._-", r) {
			return fmt.Sprintf("%q must consist of letters, digits and . _ -", name)
		}
	}
	return ""
}

func allDigits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// checker collects problems.
type checker struct {
	problems []Problem
	values   int // of a plan so far
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

// tables reads a list of resources or of processing and bounds its length.
func (c *checker) tables(m map[string]any, at, key string) []any {
	list := c.list(m, at, key)
	if len(list) > maxTables {
		c.add(at+"/"+key, "must not have more than %d entries", maxTables)
		return nil
	}
	return list
}

func (c *checker) add(pointer, format string, args ...any) {
	if len(c.problems) >= maxProblems {
		return
	}
	c.problems = append(c.problems, Problem{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
}

// object reads an object; an absent or null one is nil, which is a problem where it
// is required.
func (c *checker) object(m map[string]any, at, key string, required bool) map[string]any {
	v, ok := m[key]
	if !ok || v == nil {
		if required {
			c.add(at+"/"+key, "is required")
		}
		return nil
	}
	o, ok := v.(map[string]any)
	if !ok {
		c.add(at+"/"+key, "must be an object")
	}
	return o
}

// list reads an optional list; null is absent.
func (c *checker) list(m map[string]any, at, key string) []any {
	v, ok := m[key]
	if !ok || v == nil {
		return nil
	}
	l, ok := v.([]any)
	if !ok {
		c.add(at+"/"+key, "must be a list")
	}
	return l
}

// text reads a text; an absent or null one is empty, which is a problem where it is
// required.
func (c *checker) text(m map[string]any, at, key string, required bool) (string, bool) {
	v, ok := m[key]
	if !ok || v == nil {
		if required {
			c.add(at+"/"+key, "is required")
		}
		return "", !required
	}
	s, ok := v.(string)
	if !ok {
		c.add(at+"/"+key, "must be a text")
	}
	return s, ok
}

// Check checks an uploaded object. The spec is nil where there are problems, of
// which the first thousand are told.
func Check(raw map[string]any) (*Spec, []Problem) {
	c := &checker{}
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
		return nil, c.problems
	}
	return s, nil
}

func (c *checker) meta(s *Spec) {
	meta := c.object(s.Raw, "", "meta", true)
	if meta == nil {
		return
	}
	name := func(key string, reserved []string) string {
		v, ok := c.text(meta, "/meta", key, true)
		if ok {
			if wrong := checkName(v); wrong != "" {
				c.add("/meta/"+key, "%s", wrong)
			} else if slices.Contains(reserved, v) {
				c.add("/meta/"+key, "the name %q is reserved", v)
			}
		}
		return v
	}
	s.OwnerID = name("ownerid", ReservedOwners)
	s.Dataset = name("dataset", ReservedDatasets)
	if owner, ok := c.text(meta, "/meta", "owner", false); ok && owner != "" {
		s.Owner = owner
		if wrong := checkName(owner); wrong != "" {
			c.add("/meta/owner", "%s", wrong)
		} else if slices.Contains(ReservedOwners, owner) {
			c.add("/meta/owner", "the name %q is reserved", owner)
		}
	}
	if v, ok := meta["findability"]; ok {
		s.Findability, ok = v.(string)
		if !ok || !slices.Contains([]string{Published, Unlisted, Private}, s.Findability) {
			c.add("/meta/findability", "must be published, unlisted or private")
		}
	}
	// The service sets both; texts of other kinds are of no use to anybody.
	s.UpdateTime, _ = meta["update_time"].(string)
	s.CreateTime, _ = meta["create_time"].(string)
}

func (c *checker) input(s *Spec) {
	list, _ := s.Raw["inputs"].([]any)
	if len(list) != 1 {
		c.add("/inputs", "exactly one input is supported")
		return
	}
	const at = "/inputs/0"
	input, ok := list[0].(map[string]any)
	if !ok {
		c.add(at, "must be an object")
		return
	}
	if kind, ok := c.text(input, at, "kind", true); ok && kind != "datapackage" {
		c.add(at+"/kind", "unsupported input kind %q: it must be datapackage", kind)
	}
	url, urlOK := c.text(input, at, "url", false)
	s.URL = url
	parameters := c.object(input, at, "parameters", true)
	if parameters == nil {
		return
	}
	if m := c.object(parameters, at+"/parameters", "resource-mapping", false); m != nil {
		s.resourceMap = m
		for k, v := range m {
			if _, ok := v.(string); !ok && v != nil {
				c.add(at+"/parameters/resource-mapping"+datapackage.Pointer(k), "must be a text")
			}
		}
	}
	s.Descriptor = c.object(parameters, at+"/parameters", "descriptor", true)
	if s.Descriptor != nil {
		c.descriptor(s, at+"/parameters/descriptor", urlOK && url != "")
	}
}

var (
	packageProfiles  = []string{"data-package", "tabular-data-package", "fiscal-data-package"}
	resourceProfiles = []string{"data-resource", "tabular-data-resource"}
	profiles         = slices.Concat(packageProfiles, resourceProfiles)
	// leaking are the properties of resources that would change what a plan does.
	leaking = []string{"dpp", "resource", "signed", "geojsonSchema"}
)

func (c *checker) profile(m map[string]any, at string) {
	v, ok := m["profile"]
	if !ok {
		return
	}
	if p, ok := v.(string); !ok || !slices.Contains(profiles, p) {
		c.add(at+"/profile", "unknown profile: the known ones are %s", strings.Join(profiles, ", "))
	}
}

func (c *checker) descriptor(s *Spec, at string, hasURL bool) {
	c.profile(s.Descriptor, at)
	if v, ok := s.Descriptor["readme"]; ok && v != nil {
		c.text(s.Descriptor, at, "readme", false)
	}
	seen := map[string]bool{}
	for i, v := range c.tables(s.Descriptor, at, "resources") {
		at := fmt.Sprintf("%s/resources/%d", at, i)
		raw, ok := v.(map[string]any)
		if !ok {
			c.add(at, "must be an object")
			continue
		}
		r := Resource{Descriptor: raw}
		if r.Name, ok = c.text(raw, at, "name", true); ok {
			switch wrong := checkName(r.Name); {
			case wrong != "":
				c.add(at+"/name", "%s", wrong)
			case allDigits(r.Name):
				c.add(at+"/name", "the name must not be a number: packages of revisions have such names")
			case seen[r.Name]:
				c.add(at+"/name", "the name %q was used before", r.Name)
			}
			seen[r.Name] = true
		}
		if v, ok := raw["format"]; ok && v != nil {
			c.text(raw, at, "format", false)
		}
		c.profile(raw, at)
		for _, k := range leaking {
			if _, ok := raw[k]; ok {
				c.add(at+"/"+k, "a resource must not have the property %q", k)
			}
		}
		r.Path, ok = c.path(raw, at)
		if _, mapped := s.Mapped(r); ok && !mapped && !hasURL && !datapackage.IsURL(r.Path) {
			c.add("/inputs/0/url", "is required: the path %q is relative to it", r.Path)
		}
		r.Descriptor = c.resolve(s.Descriptor, raw, at)
		if !c.spend(r.Descriptor) {
			c.add(at, tooManyValues, maxValues)
			return
		}
		s.Resources = append(s.Resources, r)
	}
}

// path reads where a resource lies. The old property `url` wins over `path`.
func (c *checker) path(raw map[string]any, at string) (string, bool) {
	key := "path"
	if raw["url"] != nil {
		key = "url"
	}
	v := raw[key]
	if list, ok := v.([]any); ok {
		if len(list) != 1 {
			c.add(at+"/"+key, "data in several files is not supported: give one path")
			return "", false
		}
		v = list[0]
	}
	if v == nil && raw["data"] != nil {
		c.add(at+"/path", "is required: data inside the descriptor is not supported")
		return "", false
	}
	if v == nil {
		c.add(at+"/path", "is required")
		return "", false
	}
	path, ok := v.(string)
	switch {
	case !ok:
		c.add(at+"/"+key, "must be a text")
		return "", false
	case datapackage.IsURL(path):
	case !datapackage.SafePath(path) || path[0] == '$' || path[0] == '%' && strings.Contains(path[1:], "%"):
		c.add(at+"/"+key, "unsafe path %q: it must be a URL (http, https) or relative and inside the package", path)
		return "", false
	}
	return path, true
}

// resolve gives a resource with what its schema and dialect point at in their
// place, and without a schema or dialect that is null.
func (c *checker) resolve(root, raw map[string]any, at string) map[string]any {
	out := maps.Clone(raw)
	for _, key := range []string{"schema", "dialect"} {
		v, ok := raw[key]
		switch v := v.(type) {
		case nil:
			if ok {
				delete(out, key)
			}
		case map[string]any:
		case string:
			target, ok := lookup(root, v).(map[string]any)
			if !ok {
				c.add(at+"/"+key, "%s must be an object, or a pointer (#/…) to one in the descriptor", key)
				continue
			}
			out[key] = target
		default:
			c.add(at+"/"+key, "%s must be an object, or a pointer (#/…) to one in the descriptor", key)
		}
	}
	return out
}

// lookup follows a JSON pointer of the form #/a/0/b; nil where it leads nowhere.
func lookup(v any, pointer string) any {
	rest, ok := strings.CutPrefix(pointer, "#/")
	if !ok {
		return nil
	}
	for part := range strings.SplitSeq(rest, "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		switch at := v.(type) {
		case map[string]any:
			v = at[part]
		case []any:
			i := -1
			if allDigits(part) && len(part) < 10 {
				i, _ = strconv.Atoi(part) // it is one
			}
			if i < 0 || i >= len(at) {
				return nil
			}
			v = at[i]
		default:
			return nil
		}
	}
	return v
}

// sealed are the properties of a resource that reader options must not replace.
var sealed = []string{"name", "url", "path", "datahub", "schema", "dpp", "resource", "signed", "geojsonSchema", "data"}

func (c *checker) processing(s *Spec) {
	for i, v := range c.tables(s.Raw, "", "processing") {
		at := fmt.Sprintf("/processing/%d", i)
		raw, ok := v.(map[string]any)
		if !ok {
			c.add(at, "must be an object")
			continue
		}
		var p Processing
		p.Input, _ = c.text(raw, at, "input", true)
		if p.Output, ok = c.text(raw, at, "output", true); ok {
			if wrong := checkName(p.Output); wrong != "" {
				c.add(at+"/output", "%s", wrong)
			} else if allDigits(p.Output) {
				c.add(at+"/output", "the name must not be a number: packages of revisions have such names")
			}
		}
		if v, ok := raw["tabulator"]; ok {
			if p.Tabulator, ok = v.(map[string]any); !ok {
				c.add(at+"/tabulator", "must be an object")
			}
			for _, k := range sealed {
				if _, ok := p.Tabulator[k]; ok {
					c.add(at+"/tabulator/"+k, "is no reader option")
				}
			}
			if v, ok := p.Tabulator["format"]; ok && v != nil {
				c.text(p.Tabulator, at+"/tabulator", "format", false)
			}
		}
		p.Schema = c.object(raw, at, "schema", false)
		for j, v := range c.list(raw, at, "dpp") {
			at := fmt.Sprintf("%s/dpp/%d", at, j)
			step, ok := v.(map[string]any)
			if !ok {
				c.add(at, "must be an object")
				continue
			}
			run, _ := c.text(step, at, "run", true)
			if parameters := c.object(step, at, "parameters", false); parameters != nil {
				p.Steps = append(p.Steps, Step{run, parameters})
			} else {
				p.Steps = append(p.Steps, Step{run, map[string]any{}})
			}
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
	for i, v := range c.list(s.Raw, "", "outputs") {
		at := fmt.Sprintf("/outputs/%d", i)
		raw, ok := v.(map[string]any)
		if !ok {
			c.add(at, "must be an object")
			continue
		}
		kind, ok := c.text(raw, at, "kind", true)
		if !ok {
			continue
		}
		switch kind {
		case "zip":
			file := s.Dataset + ".zip"
			if parameters := c.object(raw, at, "parameters", false); parameters != nil && parameters["out-file"] != nil {
				if file, ok = c.text(parameters, at+"/parameters", "out-file", false); ok {
					if wrong := checkName(file); wrong != "" {
						c.add(at+"/parameters/out-file", "%s", wrong)
					} else if allDigits(file) {
						c.add(at+"/parameters/out-file", "the name must not be a number: packages of revisions have such names")
					}
				}
			}
			if s.ZipFile == "" {
				s.ZipFile = file
			}
		case "rdbms", "sqlite", "npm": // known to the original, without an effect there
		default:
			c.add(at+"/kind", "unknown output kind %q", kind)
		}
	}
	if s.ZipFile == "" {
		s.ZipFile = s.Dataset + ".zip"
	}
}

// collisions makes sure that no two things that the flow makes have one name.
func (c *checker) collisions(s *Spec) {
	owners := map[string]string{"validation_report": "the report of the flow"}
	claim := func(name, pointer, what string) {
		if other, ok := owners[name]; ok {
			c.add(pointer, "%s is named %q, and so is %s", what, name, other)
			return
		}
		owners[name] = what + " (" + pointer + ")"
	}
	claim(strings.ReplaceAll(s.ZipFile, ".", "_"), "/outputs", "the archive")
	table := func(name, pointer string) {
		claim(name, pointer, "the resource")
		claim(name+"_csv", pointer, "its CSV")
		claim(name+"_json", pointer, "its JSON")
		claim(name+"_csv_preview", pointer, "its preview")
	}
	inputs := map[string]bool{}
	for _, p := range s.Processing {
		inputs[p.Input] = true
	}
	for i, r := range s.Resources {
		pointer := fmt.Sprintf("/inputs/0/parameters/descriptor/resources/%d/name", i)
		_, tabular := r.Descriptor["schema"]
		processed := inputs[r.Name]
		if inputs[r.Name+"_original"] {
			claim(r.Name+"_original_original", pointer, "the copy of its copy")
		}
		switch {
		case tabular && !processed:
			table(r.Name, pointer)
			claim(r.Name+"_original", pointer, "the copy of it")
		case tabular || processed:
			claim(r.Name+"_original", pointer, "the copy of it")
		default:
			claim(r.Name, pointer, "the resource")
			if strings.HasSuffix(r.Name, "_original") {
				c.add(pointer, "the name must not end in _original")
			}
		}
	}
	for i, p := range s.Processing {
		table(p.Output, fmt.Sprintf("/processing/%d/output", i))
	}
}
