package flowspec_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
)

const good = `
meta: {ownerid: me, dataset: tides, findability: private}
inputs:
- kind: datapackage
  url: https://example.org/tides/datapackage.json
  parameters:
    descriptor:
      schemas: {levels: {fields: [{name: day, type: date}]}}
      resources:
      - {name: levels, path: levels.csv, schema: '#/schemas/levels'}
      - {name: map, path: map.pdf, schema: null}
schedule: every 2h
`

func TestGoodSpec(t *testing.T) {
	t.Parallel()
	raw, err := flowspec.ParseYAML([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	s, problems := flowspec.Check(raw)
	if len(problems) > 0 {
		t.Fatal(flowspec.ProblemLines(problems))
	}
	if s.ID() != "me/tides" || s.Findability != flowspec.Private || s.ZipFile != "tides.zip" || len(s.Resources) != 2 {
		t.Errorf("%+v", s)
	}
	if _, ok := s.Resources[0].Descriptor["schema"].(map[string]any); !ok {
		t.Error("the pointer to a schema was not followed")
	}
	if _, ok := s.Resources[1].Descriptor["schema"]; ok {
		t.Error("a schema of null was not dropped")
	}
}

// TestAllProblemsAtOnce: each has its place.
func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	raw, err := flowspec.ParseYAML([]byte(`
meta: {ownerid: source, dataset: "a b", findability: secret}
inputs:
- kind: sql
  url: https://example.org/x/datapackage.json
  parameters:
    resource-mapping: {"a/b~c": 1}
    descriptor:
      profile: none
      resources:
      - {name: "2020", path: ../up.csv}
      - {name: one, path: [a.csv, b.csv]}
      - {name: one, path: a.csv, schema: schema.json, dpp: []}
      - text
processing:
- {input: nothing, output: "", tabulator: {url: "file:///etc/passwd"}, dpp: [{parameters: {}}]}
outputs:
- {kind: parquet}
schedule: often
`))
	if err != nil {
		t.Fatal(err)
	}
	_, problems := flowspec.Check(raw)
	var got []string
	for _, p := range problems {
		got = append(got, p.Pointer)
	}
	const d = "/inputs/0/parameters/descriptor"
	for _, want := range []string{
		"/meta/ownerid", "/meta/dataset", "/meta/findability", "/inputs/0/kind", "/inputs/0/parameters/resource-mapping/a~1b~0c",
		d + "/profile", d + "/resources/0/name", d + "/resources/0/path", d + "/resources/1/path", d + "/resources/2/name",
		d + "/resources/2/schema", d + "/resources/2/dpp", d + "/resources/3",
		"/processing/0/input", "/processing/0/output", "/processing/0/tabulator/url", "/processing/0/dpp/0/run", "/outputs/0/kind", "/schedule",
	} {
		i := slices.Index(got, want)
		if i < 0 {
			t.Errorf("no problem at %s", want)
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	if len(got) > 0 {
		t.Errorf("problems that are none: %v", got)
	}
}

func TestParseSchedule(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   any
		want time.Duration
		text string
	}{
		{"every 60s", time.Minute, ""}, {" every  2w ", 14 * 24 * time.Hour, ""}, {"every 1d", 24 * time.Hour, ""}, {"every 090s", 90 * time.Second, ""},
		{5, 0, "Schedule should be a string"},
		{"", 0, "Schedule should start with 'every'"}, {"every", 0, "Schedule should start with 'every'"}, {"everyone 1d", 0, "Schedule should start with 'every'"}, {"Every 1d", 0, "Schedule should start with 'every'"},
		{"every 1y", 0, "Bad time unit for schedule, only s/m/h/d/w are allowed"},
		{"every d", 0, "Failed to parse time number"}, {"every +1d", 0, "Failed to parse time number"}, {"every 1_0d", 0, "Failed to parse time number"},
		{"every 1 0d", 0, "Failed to parse time number"}, {"every ١d", 0, "Failed to parse time number"}, {"every 99999999999999999999d", 0, "Failed to parse time number"},
		{"every 9999999999w", 0, "Failed to parse time number"}, {"every -1d", 0, "Failed to parse time number"},
		{"every 59s", 0, "Can't schedule tasks for less than one minute"}, {"every 0d", 0, "Can't schedule tasks for less than one minute"},
	} {
		got, err := flowspec.ParseSchedule(c.in)
		if got != c.want || c.text != "" && errs.Detail(err) != c.text || c.text == "" && err != nil {
			t.Errorf("%q: %v, %v; want %v, %q", c.in, got, err, c.want, c.text)
		}
	}
}

func TestYAMLRefused(t *testing.T) {
	t.Parallel()
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for _, pair := range []string{"ba", "cb", "dc", "ed", "fe", "gf", "hg"} {
		name, of := pair[:1], pair[1:]
		bomb += name + ": &" + name + " [" + strings.TrimSuffix(strings.Repeat("*"+of+",", 10), ",") + "]\n"
	}
	for name, text := range map[string]string{
		"empty": "", "list": "[1]", "key twice": "a: 1\na: 2", "NaN": "a: .nan", "deep": "a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200),
		"bomb": bomb, "broken": "a: [", "self": "a: &a [*a]",
	} {
		if _, err := flowspec.ParseYAML([]byte(text)); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, text []byte) {
		raw, err := flowspec.ParseYAML(text)
		if err != nil {
			return
		}
		s, problems := flowspec.Check(raw)
		if (s == nil) != (len(problems) > 0) {
			t.Fatal("a spec with problems, or none without")
		}
	})
}
