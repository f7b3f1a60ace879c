package httpapi_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/datahq/specstore/internal/httpapi"
	"github.com/datahq/specstore/internal/jsonschema"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/testkit"
)

// document is the contract and the routes of the code as one finds them.
var document = sync.OnceValues(func() (*contract, error) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	c := &contract{doc: doc, mux: http.NewServeMux()}
	for _, p := range httpapi.Patterns() {
		c.mux.HandleFunc(p, func(http.ResponseWriter, *http.Request) {})
	}
	return c, doc.Validate(loader.Context)
})

type contract struct {
	doc *openapi3.T
	mux *http.ServeMux

	mu      sync.Mutex
	seen    map[string]bool // operation and status
	answers int
}

// operation names a route as the document does; nil where the code has none.
func (c *contract) operation(method, path string) (string, *openapi3.Operation) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	_, pattern := c.mux.Handler(&http.Request{Method: method, URL: &url.URL{Path: path}})
	verb, place, ok := strings.Cut(pattern, " ")
	if !ok || slices.Contains([]string{"/source/upload", "/source/update", "/source/plan"}, path) && strings.Contains(place, "{owner}") {
		return "", nil
	}
	place = strings.ReplaceAll(place, "...}", "}")
	item := c.doc.Paths.Find(place)
	if item == nil {
		return pattern, &openapi3.Operation{}
	}
	return verb + " " + place, item.GetOperation(verb)
}

// check holds an answer against the document.
func (c *contract) check(t testing.TB, method, path string, a answer) {
	t.Helper()
	u, err := url.Parse(path)
	if err != nil || method == http.MethodOptions || a.status == http.StatusMethodNotAllowed {
		return
	}
	name, op := c.operation(method, u.Path)
	if op == nil || op.Responses == nil {
		if a.status < http.StatusBadRequest {
			t.Errorf("%s %s is not in openapi.yaml", method, path)
		}
		return
	}
	res := op.Responses.Value(strconv.Itoa(a.status))
	if res == nil && a.status == http.StatusNotFound && strings.Contains(a.body, "there is no such route") {
		return // a path in another spelling
	}
	if res == nil {
		t.Errorf("openapi.yaml: %s does not answer %d: %.200s", name, a.status, a.body)
		return
	}
	c.mu.Lock()
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	c.seen[fmt.Sprint(name, " ", a.status)] = true
	c.answers++
	c.mu.Unlock()
	for header, h := range res.Value.Headers {
		if h.Value.Required && a.header.Get(header) == "" {
			t.Errorf("openapi.yaml: %s: %d without %s", name, a.status, header)
		}
	}
	kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	content := res.Value.Content
	switch {
	case len(content) == 0:
		if a.body != "" {
			t.Errorf("openapi.yaml: %s: %d has a body: %.200s", name, a.status, a.body)
		}
		return
	case content["*/*"] == nil && content[kind] == nil:
		t.Errorf("openapi.yaml: %s: %d is %s", name, a.status, kind)
		return
	case kind != "application/json" || content[kind] == nil || method == http.MethodHead:
		return
	}
	var body any
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		t.Errorf("%s: %d is no JSON: %.200s", name, a.status, a.body)
		return
	}
	if err := content[kind].Schema.Value.VisitJSON(body, openapi3.VisitAsResponse()); err != nil {
		t.Errorf("openapi.yaml: %s: %d: %.300s: %v", name, a.status, a.body, err)
	}
}

// unseen are answers that the tests of this package do not make.
var unseen = map[string]string{
	"503": "while a database or an auth server is away: one route for all is tested, and the command line's tests take a database away",
	"500": "what is our own fault is tested on the routes of one table",
}

// TestMain runs the tests, and then wants each answer that openapi.yaml promises to
// have been seen.
func TestMain(m *testing.M) {
	if code, ok := servicetest.Child(); ok {
		os.Exit(code)
	}
	code := testkit.Runner{M: m}.Run()
	all := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.fuzz").Value.String() == "" && flag.Lookup("test.bench").Value.String() == ""
	if c, err := document(); err == nil && code == 0 && all && c.answers > 0 {
		for _, place := range c.doc.Paths.InMatchingOrder() {
			for verb, op := range c.doc.Paths.Find(place).Operations() {
				for status := range op.Responses.Map() {
					if what := verb + " " + place + " " + status; !c.seen[what] && unseen[status] == "" {
						fmt.Println("openapi.yaml promises what no test sees:", what)
						code = 1
					}
				}
			}
		}
		fmt.Println(c.answers, "answers held against openapi.yaml,", len(c.seen), "kinds of them")
	}
	os.Exit(code)
}

// TestOpenAPI: the document is valid, is served, and has the routes of the code.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	c := testkit.Must(document())(t)
	s := start(t, options{})
	a := s.get("/openapi.yaml", "")
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/yaml" || !strings.HasPrefix(a.body, "openapi: 3") {
		t.Errorf("%d %v", a.status, a.header)
	}
	if again := s.do("GET", "/openapi.yaml", "", "If-None-Match: "+a.header.Get("ETag")); again.status != http.StatusNotModified {
		t.Errorf("%d", again.status)
	}
	for _, name := range []string{"flow-spec", "data-package-1", "data-package-2"} {
		a := s.get("/schemas/"+name+".json", "")
		if _, err := jsonschema.Compile([]byte(a.body)); a.status != http.StatusOK || err != nil {
			t.Errorf("%s: %d %v", name, a.status, err)
		}
		if again := s.do("GET", "/schemas/"+name+".json", "", "If-None-Match: "+a.header.Get("ETag")); again.status != http.StatusNotModified {
			t.Errorf("%d", again.status)
		}
	}
	if a := s.get("/schemas/none.json", ""); a.status != http.StatusNotFound {
		t.Errorf("%d", a.status)
	}
	var code, described []string
	for _, p := range httpapi.Patterns() {
		code = append(code, strings.ReplaceAll(p, "...}", "}"))
	}
	for place, item := range c.doc.Paths.Map() {
		for verb, op := range item.Operations() {
			described = append(described, verb+" "+place)
			if op.OperationID == "" || op.Summary == "" {
				t.Errorf("%s %s has no operationId or no summary", verb, place)
			}
			// Every body has bounds.
			for _, status := range []string{"408", "413", "503"} {
				if op.RequestBody != nil && op.Responses.Value(status) == nil {
					t.Errorf("%s %s has a body and does not answer %s", verb, place, status)
				}
			}
			// What is in braces is a parameter, and the other way round.
			named := map[string]bool{}
			for _, p := range slices.Concat(item.Parameters, op.Parameters) {
				if p.Value.In == "path" {
					named[p.Value.Name] = true
				}
			}
			for part := range strings.SplitSeq(place, "/") {
				if name, ok := strings.CutPrefix(part, "{"); ok {
					delete(named, strings.TrimSuffix(name, "}"))
				}
			}
			if len(named) > 0 {
				t.Errorf("%s %s: %v", verb, place, slices.Collect(maps.Keys(named)))
			}
		}
	}
	slices.Sort(code)
	slices.Sort(described)
	if !slices.Equal(code, described) {
		t.Errorf("the code has\n%s\nand openapi.yaml\n%s", strings.Join(code, "\n"), strings.Join(described, "\n"))
	}
}
