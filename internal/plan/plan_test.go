package plan_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
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
				t.Logf("%s: %v", c.About, problems)
			}
			count[c.Verdict]++
		})
	}
	t.Logf("cases that hold: %v", count)
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
	if len(numbers) < 10 {
		t.Errorf("20 revisions share %d temporary names", len(numbers))
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

func BenchmarkPlan(b *testing.B) {
	file := filepath.Join(testkit.Shared(b, "cases", "plan"), "basic-two-csv.json")
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	var c planCase
	if err := json.Unmarshal(text, &c); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, problems, err := c.plan(); err != nil || problems != nil {
			b.Fatal(err, problems)
		}
	}
}
