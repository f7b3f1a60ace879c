package processor_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/processor"
)

// steps reads a list of steps as a stored plan holds them.
func steps(t *testing.T, text string) []plan.Step {
	t.Helper()
	var list []plan.Step
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&list); err != nil {
		t.Fatal(err)
	}
	return list
}

func compile(t *testing.T, text string) *processor.Package {
	t.Helper()
	p, err := processor.Compile(steps(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// object reads a JSON object.
func object(t *testing.T, text string) map[string]any {
	t.Helper()
	return steps(t, `[{"run": "", "parameters": `+text+`}]`)[0].Parameters
}

func same(t *testing.T, what string, got map[string]any, want string) {
	t.Helper()
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(object(t, string(b)), object(t, want)) {
		t.Errorf("%s is %v, want %s", what, got, want)
	}
}

const source = `{"run": "add_resource", "parameters": {"name": "a", "url": "https://example.org/a.csv", "format": "csv", "path": "archive/a.csv"}}`

// The query of an address is neither a format nor published.
func TestQuery(t *testing.T) {
	t.Parallel()
	const step = `[{"run": "add_resource", "parameters": {"name": "a", "url": "https://example.org/a.csv?token=secret",
		"format": "csv?token=secret", "path": "archive/a.csv?token=secret"}}]`
	r := compile(t, step).Resources[0]
	for _, d := range []map[string]any{r.Descriptor, r.Added} {
		same(t, "the descriptor", d, `{"name": "a", "format": "csv", "path": "archive/a.csv"}`)
	}
	if !slices.Equal(r.URLs, []string{"https://example.org/a.csv?token=secret"}) {
		t.Errorf("the address is %s", r.URLs)
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	const update = `{"run": "assembler.update_metadata", "parameters": {"id": "me/d", "ownerid": "me", "modified": null}}`
	const add = `{"run": "add_metadata", "parameters": {"name": "d", "id": "mine", "datahub": {"x": 1}, "unknown": [1]}}`
	same(t, "what was added last", compile(t, "["+update+","+add+"]").Descriptor,
		`{"name": "d", "id": "mine", "datahub": {"x": 1}, "unknown": [1]}`)
	same(t, "what was updated last", compile(t, "["+add+","+update+"]").Descriptor,
		`{"name": "d", "id": "me/d", "datahub": {"ownerid": "me", "modified": null}, "unknown": [1]}`)
}

func TestTable(t *testing.T) {
	t.Parallel()
	p := compile(t, `[`+source+`,
		{"run": "stream_remote_resources", "parameters": {}},
		{"run": "assembler.update_resource", "parameters": {"name": "a", "update": {"name": "a_csv", "path": "data/a_csv.csv"}}},
		{"run": "assembler.update_resource", "parameters": {"name": "a", "update": {"path": "nobody has this name now"}}},
		{"run": "dump.to_path", "parameters": {"out-path": "me/d/a_csv"}},
		{"run": "assembler.dump_to_s3", "parameters": {"path": "me/d/a_csv", "content_type": "text/csv"}}]`)
	if len(p.Resources) != 1 {
		t.Fatalf("%d resources", len(p.Resources))
	}
	r := p.Resources[0]
	if r.Name != "a_csv" || !slices.Equal(r.URLs, []string{"https://example.org/a.csv"}) || !r.Streaming {
		t.Errorf("%+v", r)
	}
	same(t, "what is made", r.Descriptor, `{"name": "a_csv", "format": "csv", "path": "data/a_csv.csv"}`)
	same(t, "how it is read", r.Added, `{"name": "a", "format": "csv", "path": "archive/a.csv"}`)
	if *p.Dump != (processor.Dump{Path: "me/d/a_csv", ContentType: "text/csv"}) {
		t.Errorf("%+v", p.Dump)
	}
}

func TestPreview(t *testing.T) {
	t.Parallel()
	p := compile(t, `[
		{"run": "assembler.load_private_resource", "parameters": {"url": "dependency://./me/d/1/a_csv", "resource": "a_csv", "stream": true, "limit-rows": null}},
		{"run": "assembler.load_private_resource", "parameters": {"url": "dependency://./me/d/1/doc", "resource": "doc", "stream": false}},
		{"run": "assembler.update_resource", "parameters": {"name": "a_csv", "update": {"name": "a_csv_preview"}}},
		{"run": "assembler.load_preview", "parameters": {"limit": 2000}},
		{"run": "assembler.load_views", "parameters": {"limit": 2000}}]`)
	r := p.Resources[0]
	if r.Name != "a_csv_preview" || r.Made != "a_csv" || r.Pipeline != "me/d/1/a_csv" || !r.Streaming || r.URLs != nil || p.Preview != 2000 {
		t.Errorf("%+v, %d rows", r, p.Preview)
	}
	same(t, "the view", map[string]any{"views": p.Descriptor["views"]}, `{"views": [{"name": "datahub-preview-a_csv_preview", "specType": "table",
		"datahub": {"type": "preview"}, "transform": {"limit": 2000}, "resources": ["a"]}]}`)
}

func TestZip(t *testing.T) {
	t.Parallel()
	p := compile(t, `[{"run": "add_metadata", "parameters": {"name": "d", "readme": "# D"}}, `+source+`,
		{"run": "assembler.extract_readme", "parameters": {}},
		{"run": "assembler.remove_hash", "parameters": {}},
		{"run": "dump.to_zip", "parameters": {"out-file": "/tmp/1.d.zip"}},
		{"run": "add_metadata", "parameters": {"name": "later"}},
		{"run": "assembler.clear_resources", "parameters": {}},
		{"run": "add_resource", "parameters": {"name": "d_zip", "url": "/tmp/1.d.zip"}}]`)
	if p.Zip == nil || p.Zip.Path != "/tmp/1.d.zip" || len(p.Zip.Resources) != 2 || len(p.Resources) != 1 || p.Resources[0].Name != "d_zip" {
		t.Fatalf("%+v", p)
	}
	same(t, "the archive's descriptor", p.Zip.Descriptor, `{"name": "d"}`)
	if readme := p.Zip.Resources[1]; string(readme.Text) != "# D" || readme.Descriptor["path"] != "README.md" {
		t.Errorf("%+v", readme)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	p := compile(t, `[{"run": "add_metadata", "parameters": {"name": "d"}}, `+source+`, {"run": "assembler.validate_resource", "parameters": {}}]`)
	if p.Report == nil || len(p.Report.Tables) != 1 || p.Report.Tables[0].Name != "a" || len(p.Resources) != 1 ||
		p.Resources[0].Name != "validation_report" || p.Descriptor["name"] != "d-report" {
		t.Errorf("%+v", p)
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	p := compile(t, `[{"run": "assembler.load_modified_resources", "parameters": {"urls": [{"pipeline": "./me/d/1/a"}, {"pipeline": "me/d/1/b"}]}}]`)
	if fmt.Sprint(p.Joined) != "[me/d/1/a me/d/1/b]" {
		t.Errorf("%q", p.Joined)
	}
	// A package of nothing is asked for all the same.
	if p = compile(t, `[{"run": "assembler.load_modified_resources", "parameters": {"urls": []}}]`); p.Joined == nil {
		t.Error("an empty list asks for no package")
	}
}

// TestParametersStay: a plan's pipelines share their parameters, so no step may
// change them.
func TestParametersStay(t *testing.T) {
	t.Parallel()
	const text = `[{"run": "add_metadata", "parameters": {"views": [{"name": "v"}], "datahub": {"x": [1]}}}, ` + source + `,
		{"run": "stream_remote_resources", "parameters": {}},
		{"run": "assembler.update_resource", "parameters": {"name": "a", "update": {"datahub": {"type": "t"}}}},
		{"run": "assembler.load_views", "parameters": {"limit": 10}}]`
	list := steps(t, text)
	p, err := processor.Compile(list)
	if err != nil {
		t.Fatal(err)
	}
	p.Descriptor["datahub"].(map[string]any)["x"] = "changed"
	p.Descriptor["views"].([]any)[0].(map[string]any)["name"] = "changed"
	p.Resources[0].Descriptor["datahub"].(map[string]any)["type"] = "changed"
	if !reflect.DeepEqual(list, steps(t, text)) {
		t.Errorf("the parameters are now %v", list)
	}
}

// TestProblems: a refusal says which step is wrong, in what, and what was expected.
func TestProblems(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ run, parameters, want string }{
		{"make_coffee", `{}`, `"make_coffee"`},
		{"add_resource", `{"url": "u"}`, `"name" must be a text`},
		{"add_resource", `{"name": "a", "url": 1}`, `"url" must be a text`},
		{"add_resource", `null`, `"name" must be a text`},
		{"assembler.load_private_resource", `{"resource": "a", "url": "https://x"}`, "dependency://PIPELINE"},
		{"assembler.update_resource", `{"name": "a", "update": []}`, `"update" must be an object`},
		{"assembler.update_metadata", `{}`, `"id" must be a text`},
		{"assembler.load_preview", `{}`, "number of rows"},
		{"assembler.load_preview", `{"limit": 0}`, "number of rows"},
		{"assembler.load_preview", `{"limit": -1}`, "number of rows"},
		{"assembler.load_preview", `{"limit": 1.5}`, "number of rows"},
		{"assembler.load_preview", `{"limit": 99999999999}`, "number of rows"},
		{"assembler.load_views", `{"limit": "x"}`, "number of rows"},
		{"assembler.load_modified_resources", `{"urls": {}}`, `"urls" must be a list`},
		{"assembler.load_modified_resources", `{"urls": ["x"]}`, `"pipeline" must be a text`},
		{"dump.to_path", `{}`, `"out-path" must be a text`},
		{"dump.to_zip", `{}`, `"out-file" must be a text`},
		{"assembler.dump_to_s3", `{}`, `"path" must be a text`},
	} {
		_, err := processor.Compile(steps(t, `[{"run": "add_metadata", "parameters": {}}, {"run": "`+c.run+`", "parameters": `+c.parameters+`}]`))
		if detail := errs.Detail(err); !errs.Is(err, errs.Invalid) || !strings.Contains(detail, "step 2") || !strings.Contains(detail, c.want) {
			t.Errorf("%s %s: %v", c.run, c.parameters, detail)
		}
	}
	if _, err := processor.Compile(steps(t, `[{"run": "add_metadata", "parameters": {"readme": 1}}, {"run": "assembler.extract_readme", "parameters": {}}]`)); !errs.Is(err, errs.Invalid) {
		t.Errorf("a readme that is no text: %v", err)
	}
}
