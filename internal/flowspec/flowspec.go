// Package flowspec reads and checks Flow-Specs: what an owner uploads to say which
// data are to be published, and how.
//
// The form of a Flow-Spec is a published JSON Schema ([Schema]). [Check] holds a spec
// against it and against what no JSON Schema can say, finds all problems at once, each
// with a JSON pointer, and gives a [Spec] in which what later layers rely on is of the right type, names are
// usable and no two things that a flow makes have one name. What is uploaded is
// never altered and nothing of it is opened or fetched. What a spec makes of itself
// is bounded: a pointer to one schema from many resources is short to write and
// long to plan.
package flowspec

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/datahq/specstore/internal/datapackage"
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

	// URL is the place of the descriptor, which relative paths start from:
	// "datapackage.json" where the spec does not say it.
	URL         string
	Descriptor  map[string]any
	Resources   []Resource
	Processing  []Processing
	ZipFile     string   // file name of the archive
	Outputs     []Output // beside the archive, one of a kind
	Schedule    Schedule
	UpdateTime  string // of `meta`, which the service overrides
	CreateTime  string
	resourceMap map[string]any
}

// Resource is one resource of the descriptor, pointers in it resolved.
type Resource struct {
	Name string
	// Paths are URLs, or relative to the descriptor. There is one, but where the file
	// is in several parts; none where the data are inline.
	Paths      []string
	Inline     *Inline
	Descriptor map[string]any
}

// Inline is data that stand in the descriptor.
type Inline struct {
	Text   []byte
	Format string // what the text is: a file name's ending, or json
}

// Output is a form of the data that the spec asks for.
type Output struct {
	Kind string // one of those of the Flow-Spec's schema, but zip
	File string // of sqlite: the database's file name
}

// The kinds of outputs that are planned where the runner makes them.
const (
	SQLite  = "sqlite"
	Parquet = "parquet"
	XLSX    = "xlsx"
)

// Wants reports whether the spec asks for outputs of a kind.
func (s *Spec) Wants(kind string) bool {
	return slices.ContainsFunc(s.Outputs, func(o Output) bool { return o.Kind == kind })
}

// Mapped gives the address that the spec's resource-mapping has for a path of a
// resource: the entry of the path, else, where it is the only one, of the name. An
// entry that is null hides the other.
func (s *Spec) Mapped(r Resource, path string) (url string, ok bool) {
	v, found := s.resourceMap[path]
	if !found && len(r.Paths) == 1 {
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
	maxInline   = 2 << 20 // bytes of the inline data of all resources
	maxValues   = 1 << 19 // JSON values in the resources and tables of a plan, pointers followed
	maxProblems = 1000    // that are told at once
)

// reservedOwners are the IDs and names that no owner has: routes of the service stand
// in their way, and the stores of files keep _tmp for themselves.
var reservedOwners = []string{
	"source", "source-pipelines", "auth", "rawstore", "pkgstore", "metastore", "resolver", "storage", "badge", "openapi.yaml", "schemas",
	"healthz", "readyz", "metrics", "static", "login", "dashboard", "search", "success", "sitemap.xml", "robots.txt", "llms.txt", "data.json",
	"upload", "update", "plan", "api", "mcp", "iceberg", "oauth", ".well-known", "catalog", "feed", "feeds", "hooks", "doi", "ark", "geo", "tiles", "sql", "log",
	"_tmp",
}

// reservedDatasets are the dataset names that routes of the service stand in the way of.
var reservedDatasets = []string{
	"v", "r", "view", "runs", "upload", "update", "plan", "latest", "successful", "changes", "contract", "review", "draft", "cite", "map", "sql",
}

// CheckOwner returns what is wrong with the ID or the name of an owner, "" where it is
// good. A reserved word is refused in any case, since file systems may not tell them apart.
func CheckOwner(name string) string { return checkUnreserved(name, reservedOwners) }

// CheckDataset returns what is wrong with the name of a dataset, "" where it is good.
func CheckDataset(name string) string { return checkUnreserved(name, reservedDatasets) }

func checkUnreserved(name string, reserved []string) string {
	if wrong := checkName(name); wrong != "" {
		return wrong
	}
	if slices.ContainsFunc(reserved, func(word string) bool { return strings.EqualFold(word, name) }) {
		return fmt.Sprintf("the name %q is reserved", name)
	}
	return ""
}

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
