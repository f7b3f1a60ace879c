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
	t.Logf("%v", count)
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
