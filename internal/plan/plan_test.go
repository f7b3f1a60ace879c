package plan_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/testkit"
)

type planCase struct {
	About   string `json:"about"`
	Verdict string `json:"verdict"`
	Input   struct {
		Spec         map[string]any    `json:"spec"`
		UpdateTime   *string           `json:"update_time"`
		CreateTime   *string           `json:"create_time"`
		Revision     any               `json:"revision"`
		AllowedTypes []string          `json:"allowed_types"`
		Env          map[string]string `json:"env"`
		Fixed        struct {
			SigningTime time.Time `json:"signing_time"`
		} `json:"fixed"`
	} `json:"input"`
	Output json.RawMessage `json:"output"`
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (c *planCase) plan() ([]plan.Pipeline, []string, error) {
	spec, problems := flowspec.Check(c.Input.Spec)
	if len(problems) > 0 {
		return nil, flowspec.ProblemLines(problems), nil
	}
	env := c.Input.Env
	out, err := plan.Plan(plan.Input{
		Spec: spec, Revision: fmt.Sprint(c.Input.Revision), AllowedTypes: c.Input.AllowedTypes,
		UpdateTime: text(c.Input.UpdateTime), CreateTime: text(c.Input.CreateTime),
		Settings: plan.Settings{
			Local: env["PLANNER_LOCAL"] != "", Bucket: env["PKGSTORE_BUCKET"], S3Endpoint: env["S3_ENDPOINT_URL"],
			AccessKey: env["AWS_ACCESS_KEY_ID"], SecretKey: env["AWS_SECRET_ACCESS_KEY"], Region: env["AWS_DEFAULT_REGION"],
			SignTime: c.Input.Fixed.SigningTime,
		},
	})
	return out, nil, err
}

// TestPlanCases holds the planner against the captured plans.
func TestPlanCases(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testkit.Shared(t, "cases", "plan"), "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	count := map[string]int{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var c planCase
			d := json.NewDecoder(bytes.NewReader(b))
			d.UseNumber()
			if err := d.Decode(&c); err != nil {
				t.Fatal(err)
			}
			before := datapackage.Clone(c.Input.Spec)
			got, problems, err := c.plan()
			if !reflect.DeepEqual(before, c.Input.Spec) {
				t.Error("the planner altered the spec")
			}
			switch c.Verdict {
			case "equal":
				if err != nil || problems != nil {
					t.Fatalf("%s: refused: %v %v", c.About, problems, err)
				}
				compare(t, c.Output, got)
			case "reject":
				if len(problems) == 0 {
					t.Fatalf("%s: planned", c.About)
				}
				if !regexp.MustCompile(`^/[a-z]`).MatchString(problems[0]) {
					t.Errorf("the message names no field: %s", problems[0])
				}
			case "either":
				decided(t, filepath.Base(file), &c, got, problems)
			}
			if !t.Failed() {
				count[c.Verdict]++
			}
		})
	}
	t.Logf("cases that hold: %v", count)
}

// decisions are what is done with specs that the original took, or failed on, by
// accident: a JSON pointer is where such a spec is refused. "captured" is planned as
// the original did; "ours" is planned in a way of our own, as testdata/either shows.
var decisions = map[string]string{
	"data-inline":                "ours", // the data are a file of their own
	"geojson-schema-null":        "ours", // null is absent: GeoJSON is no table
	"input-no-url":               "ours", // datapackage.json
	"input-resources-null":       "ours", // absent
	"mapping-null":               "ours", // absent
	"meta-key-revision":          "ours", // of no meaning
	"name-ends-original":         "/inputs/0/parameters/descriptor/resources/0/name",
	"name-with-csv-inside":       "captured",
	"out-null":                   "ours", // absent
	"out-zip-no-params":          "ours", // the default file name
	"path-empty":                 "/inputs/0/parameters/descriptor/resources/0/path",
	"path-ftp":                   "/inputs/0/parameters/descriptor/resources/0/path",
	"path-list-empty":            "/inputs/0/parameters/descriptor/resources/0/path",
	"path-list-three":            "ours", // all parts
	"path-starts-with-http-name": "ours", // a path, since it has no scheme
	"proc-null":                  "ours", // absent
	"proc-tabulator-overrides":   "/processing/0/tabulator/name",
	"prop-signed":                "/inputs/0/parameters/descriptor/resources/0/signed",
	"rev-in-resource-name":       "/inputs/0/parameters/descriptor/resources/0/name",
	"schema-null":                "ours", // null is absent: no table
	"sign-prefix-bucket":         "captured",
}

// decided holds a case to its decision.
func decided(t *testing.T, file string, c *planCase, got []plan.Pipeline, problems []string) {
	t.Helper()
	decision := decisions[strings.TrimSuffix(file, ".json")]
	switch {
	case strings.HasPrefix(decision, "/"):
		if len(problems) == 0 || !strings.HasPrefix(problems[0], decision+": ") {
			t.Errorf("%s: problems %q, want one at %s first", c.About, problems, decision)
		}
	case problems != nil:
		t.Errorf("%s: refused: %v", c.About, problems)
	case decision == "captured":
		compare(t, c.Output, got)
	case decision == "ours":
		b, err := json.MarshalIndent(got, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		testkit.Golden(t, filepath.Join("testdata", "either", file), append(b, '\n'))
	default:
		t.Errorf("%s: nothing was decided", c.About)
	}
}

// flowTypes are the allowed types of the captured flows that were planned with some
// only, as their descriptions say.
var flowTypes = map[string][]string{"only-csv": {"source/tabular", "derived/csv"}}

// flowRefused are the captured flows that are refused: the original planned them
// and failed them when they ran.
var flowRefused = map[string]string{"name-invalid": "/inputs/0/parameters/descriptor/resources/0/name"}

// TestFlowPlans holds the planner against the plans of the flows that the original
// ran. Where its files lay is written {INPUT} in them.
func TestFlowPlans(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob(filepath.Join(testkit.Shared(t, "cases", "flow"), "*", "expected", "plan.json"))
	if err != nil || len(dirs) == 0 {
		t.Fatal("no cases", err)
	}
	held, refused := 0, 0
	for _, file := range dirs {
		dir := filepath.Dir(filepath.Dir(file))
		t.Run(filepath.Base(dir), func(t *testing.T) {
			var captured struct{ Mode string }
			want := map[string]json.RawMessage{}
			for name, v := range map[string]any{filepath.Join(dir, "case.json"): &captured, file: &want} {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(b, v); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(filepath.Join(dir, "input", "spec.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := flowspec.ParseYAML(text)
			if err != nil {
				t.Fatal(err)
			}
			input := raw["inputs"].([]any)[0].(map[string]any)
			input["url"] = "{INPUT}/" + input["url"].(string)
			if m, ok := input["parameters"].(map[string]any)["resource-mapping"].(map[string]any); ok {
				for k, v := range m {
					m[k] = "{INPUT}/" + v.(string)
				}
			}
			spec, problems := flowspec.Check(raw)
			if pointer, ok := flowRefused[filepath.Base(dir)]; ok {
				if len(problems) != 1 || problems[0].Pointer != pointer {
					t.Errorf("problems %v, want one at %s", problems, pointer)
				}
				refused++
				return
			}
			if problems != nil {
				t.Fatal(problems)
			}
			got, err := plan.Plan(plan.Input{
				Spec: spec, Revision: "1", AllowedTypes: flowTypes[filepath.Base(dir)], UpdateTime: "2018-09-05T10:00:00", CreateTime: "2018-09-01T09:00:00",
				Settings: plan.Settings{Local: captured.Mode == "local", Bucket: "pkgstore.example.org"},
			})
			if err != nil {
				t.Fatal(err)
			}
			// The captured plan is an object without an order.
			list := make([]any, len(got))
			for i, p := range got {
				list[i] = []any{p.ID, want[p.ID]}
			}
			if len(want) != len(got) {
				t.Errorf("%d pipelines, want %d", len(got), len(want))
			}
			ordered, err := json.Marshal(list)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, ordered, got)
			if !t.Failed() {
				held++
			}
		})
	}
	t.Logf("of %d plans of flows %d hold, %d are refused", len(dirs), held, refused)
}

// TestRoundTrip: a plan that is written and read again is the same, numbers digit
// for digit.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	const text = `["a/b/1/c",{"pipeline":[{"run":"x","parameters":{"n":12345678901234567890.10}}],"dependencies":[{"pipeline":"./d"}],"title":"T","update_time":"2020"}]`
	var p plan.Pipeline
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	if got, err := json.Marshal(p); err != nil || string(got) != text {
		t.Errorf("got  %s, %v\nwant %s", got, err, text)
	}
}

// TestSamePlan: planning has no chance in it, and a flow has a temporary file of
// its own.
func TestSamePlan(t *testing.T) {
	t.Parallel()
	file := filepath.Join(testkit.Shared(t, "cases", "plan"), "basic-two-csv.json")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]bool{}
	for revision := range 20 {
		var texts [2]string
		for i := range texts {
			var c planCase
			if err := json.Unmarshal(b, &c); err != nil {
				t.Fatal(err)
			}
			c.Input.Revision = revision + 1
			got, problems, err := c.plan()
			if err != nil || problems != nil {
				t.Fatal(err, problems)
			}
			out, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			texts[i] = string(out)
		}
		if texts[0] != texts[1] {
			t.Fatal("the same input gives two plans")
		}
		numbers[zipNumber.FindString(texts[0])] = true
	}
	if len(numbers) != 20 {
		t.Errorf("20 revisions share %d temporary names", len(numbers))
	}
}

// outputs is a spec that asks for every kind of output.
func outputs(t *testing.T) *flowspec.Spec {
	t.Helper()
	raw, err := flowspec.ParseYAML(testkit.Must(os.ReadFile(filepath.Join("testdata", "outputs.yaml")))(t))
	if err != nil {
		t.Fatal(err)
	}
	spec, problems := flowspec.Check(raw)
	if problems != nil {
		t.Fatal(problems)
	}
	return spec
}

// TestOutputs: further outputs are planned where the spec asks for them and the runner
// makes them; elsewhere they are ignored with a note.
func TestOutputs(t *testing.T) {
	t.Parallel()
	in := plan.Input{Spec: outputs(t), Revision: "1", AllowedTypes: plan.EmbeddedTypes(), Settings: plan.Settings{Local: true}}
	made := func(in plan.Input) []string {
		pipelines, err := plan.Plan(in)
		if err != nil {
			t.Fatal(err)
		}
		names := make([]string, len(pipelines))
		for i, p := range pipelines {
			names[i] = strings.TrimPrefix(p.ID, "me/levels/1/")
		}
		return names
	}
	few := []string{
		"validation_report", "north_csv", "south_csv", "north_json", "south_json", "levels_zip", "north_csv_preview", "south_csv_preview",
		"north", "south", "map", "me/levels/1",
	}
	all := slices.Insert(slices.Clone(few), 8, "north_parquet", "south_parquet", "north_xlsx", "south_xlsx", "levels_db")
	if got := made(in); !slices.Equal(got, all) {
		t.Errorf("the embedded engine makes %v, want %v", got, all)
	}
	if notes := plan.Notes(in); len(notes) != 1 || !strings.Contains(notes[0], "npm") {
		t.Errorf("notes %q, want one of npm", notes)
	}
	pipelines, err := plan.Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(pipelines[8:13], "", " ")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, filepath.Join("testdata", "outputs.json"), append(text, '\n'))

	in.AllowedTypes = nil
	if got := made(in); !slices.Equal(got, few) {
		t.Errorf("by default there are %v, want %v", got, few)
	}
	if notes := plan.Notes(in); len(notes) != 4 {
		t.Errorf("notes %q, want four", notes)
	}
	in.AllowedTypes = []string{"derived/sqlite"}
	if got := made(in); !slices.Equal(got, []string{"me/levels/1"}) {
		t.Errorf("a database without CSVs: %v", got)
	}
	in.AllowedTypes, in.Version = plan.EmbeddedTypes(), "1"
	if got := made(in); !slices.Equal(got, few) {
		t.Errorf("version 1 made %v, want %v", got, few)
	}
}

var (
	zipNumber = regexp.MustCompile(`/tmp/\d+\.`)
	query     = regexp.MustCompile(`\?X-Amz-[^"]*`)
)

// compare compares the plans, but for what chance and time put into them.
func compare(t *testing.T, want json.RawMessage, pipelines []plan.Pipeline) {
	t.Helper()
	got, err := json.Marshal(pipelines)
	if err != nil {
		t.Fatal(err)
	}
	tidy := func(b []byte) (out []any) {
		b = query.ReplaceAll(zipNumber.ReplaceAll(b, []byte("/tmp/0.")), nil)
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(&out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	w, g := tidy(want), tidy(bytes.ReplaceAll(got, []byte(`\u0026`), []byte("&")))
	if len(w) != len(g) {
		t.Errorf("%d pipelines, want %d", len(g), len(w))
	}
	for i := range min(len(w), len(g)) {
		if reflect.DeepEqual(w[i], g[i]) {
			continue
		}
		a, _ := json.MarshalIndent(w[i], "", " ")
		b, _ := json.MarshalIndent(g[i], "", " ")
		t.Errorf("pipeline %d: %s", i, firstDifference(string(a), string(b)))
		return
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d is\n%s\nwant\n%s", i, strings.Join(g[i:min(i+4, len(g))], "\n"), strings.Join(w[i:min(i+4, len(w))], "\n"))
		}
	}
	return "one is longer"
}

// wide is a spec of many tables.
func wide(resources int) map[string]any {
	list := make([]any, resources)
	for i := range list {
		fields := make([]any, 10)
		for f := range fields {
			fields[f] = map[string]any{"name": fmt.Sprintf("column_%d", f), "type": "number", "title": "A column"}
		}
		name := fmt.Sprintf("table-%d", i)
		list[i] = map[string]any{"name": name, "path": "data/" + name + ".csv", "title": "A table", "schema": map[string]any{"fields": fields}}
	}
	return map[string]any{
		"meta": map[string]any{"ownerid": "me", "owner": "me", "dataset": "wide"},
		"inputs": []any{map[string]any{"kind": "datapackage", "url": "https://example.org/wide/datapackage.json", "parameters": map[string]any{
			"descriptor": map[string]any{"name": "wide", "resources": list},
		}}},
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, resources := range []int{1, 40, 1000} {
		b.Run(fmt.Sprintf("resources=%d", resources), func(b *testing.B) {
			raw := wide(resources)
			b.ReportAllocs()
			for b.Loop() {
				if _, problems := flowspec.Check(raw); problems != nil {
					b.Fatal(problems)
				}
			}
		})
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, resources := range []int{1, 40, 1000} {
		b.Run(fmt.Sprintf("resources=%d", resources), func(b *testing.B) {
			spec, problems := flowspec.Check(wide(resources))
			if problems != nil {
				b.Fatal(problems)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := plan.Plan(plan.Input{Spec: spec, Revision: "1", UpdateTime: "2020-01-02T03:04:05Z"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
