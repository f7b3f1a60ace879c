package flowspec_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/jsonschema"
	"github.com/datahq/specstore/internal/testkit"
	"go.yaml.in/yaml/v3"
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
      - {name: one, path: [a.csv, ../b.csv]}
      - {name: one, path: a.csv, schema: schema.json, dpp: []}
      - text
processing:
- {input: nothing, output: "", tabulator: {url: "file:///etc/passwd"}, dpp: [{parameters: {}}]}
outputs:
- {kind: mongodb}
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
		d + "/profile", d + "/resources/0/name", d + "/resources/0/path", d + "/resources/1/path/1", d + "/resources/2/name",
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

// TestProblems: a spec that is good but for one change has one problem, with its place
// and words that a publisher understands.
func TestProblems(t *testing.T) {
	t.Parallel()
	file := filepath.Join("testdata", "problems.yaml")
	var cases []struct {
		Name   string
		Change map[string]any // by JSON pointer; null takes a value away
		Want   []string
	}
	if err := yaml.Unmarshal(testkit.Must(os.ReadFile(file))(t), &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			raw, err := flowspec.ParseYAML([]byte(good))
			if err != nil {
				t.Fatal(err)
			}
			for pointer, v := range c.Change {
				change(t, raw, pointer, v)
			}
			_, problems := flowspec.Check(raw)
			if got := flowspec.ProblemLines(problems); !slices.Equal(got, c.Want) {
				t.Errorf("problems\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.Want, "\n"))
			}
		})
	}
}

// change sets what a JSON pointer leads to.
func change(t *testing.T, at any, pointer string, v any) {
	t.Helper()
	parts := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for _, part := range parts[:len(parts)-1] {
		switch in := at.(type) {
		case map[string]any:
			at = in[part]
		case []any:
			at = in[int(part[0]-'0')]
		}
	}
	m, ok := at.(map[string]any)
	if !ok {
		t.Fatalf("%s leads nowhere", pointer)
	}
	if v == nil {
		delete(m, parts[len(parts)-1])
	} else {
		m[parts[len(parts)-1]] = v
	}
}

// TestInline: inline data are a file with their rows in order and their digits kept.
func TestInline(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ resource, format, want string }{
		{
			`{"name": "a", "data": [{"n": 1.50, "day": "x"}, {"z": null, "y": "é<", "day": 1}], "schema": {"fields": [{"name": "day"}, {"name": "n"}]}}`,
			"json", "[\n{\"day\": \"x\", \"n\": 1.50},\n{\"day\": 1, \"y\": \"é<\", \"z\": null}\n]\n",
		},
		{`{"name": "a", "data": [["n"], [12345678901234567890]]}`, "json", "[\n[\"n\"],\n[12345678901234567890]\n]\n"},
		{`{"name": "a", "data": []}`, "json", "[\n]\n"},
		{`{"name": "a", "data": {"type": "Point"}, "format": "geojson"}`, "geojson", "{\"type\":\"Point\"}\n"},
		{`{"name": "a", "data": "n\n1\n", "format": "csv"}`, "csv", "n\n1\n"},
	} {
		raw, err := flowspec.ParseJSON([]byte(`{"meta": {"ownerid": "me", "dataset": "d"}, "inputs": [{"kind": "datapackage", "parameters": {"descriptor": {"resources": [` + c.resource + `]}}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		spec, problems := flowspec.Check(raw)
		if problems != nil {
			t.Errorf("%s: %v", c.resource, problems)
			continue
		}
		r := spec.Resources[0]
		if r.Inline == nil || string(r.Inline.Text) != c.want || r.Inline.Format != c.format {
			t.Errorf("%s: %+v, want %s %q", c.resource, r.Inline, c.format, c.want)
		}
		if _, ok := r.Descriptor["data"]; ok {
			t.Errorf("%s: the data are in the descriptor too", c.resource)
		}
	}
}

// TestSchema: the published schema takes what [flowspec.Check] takes.
func TestSchema(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.Compile(flowspec.Schema())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := flowspec.ParseYAML([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if problems := schema.Check(raw, 10); problems != nil {
		t.Error(problems)
	}
	delete(raw, "meta")
	if problems := schema.Check(raw, 10); len(problems) != 1 || problems[0].Pointer != "/meta" {
		t.Errorf("without meta: %v", problems)
	}
}

func TestParseSchedule(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   any
		want time.Duration
		text string
	}{
		{"every 60s", time.Minute, ""},
		{" every  2w ", 14 * 24 * time.Hour, ""},
		{"every 1d", 24 * time.Hour, ""},
		{"every 090s", 90 * time.Second, ""},
		{5, 0, "Schedule should be a string"},
		{"", 0, "Schedule should start with 'every'"},
		{"every", 0, "Schedule should start with 'every'"},
		{"everyone 1d", 0, "Schedule should start with 'every'"},
		{"Every 1d", 0, "Schedule should start with 'every'"},
		{"every 1y", 0, "Bad time unit for schedule, only s/m/h/d/w are allowed"},
		{"every d", 0, "Failed to parse time number"},
		{"every +1d", 0, "Failed to parse time number"},
		{"every 1_0d", 0, "Failed to parse time number"},
		{"every 1 0d", 0, "Failed to parse time number"},
		{"every ١d", 0, "Failed to parse time number"},
		{"every 99999999999999999999d", 0, "Failed to parse time number"},
		{"every 9999999999w", 0, "Failed to parse time number"},
		{"every -1d", 0, "Failed to parse time number"},
		{"every 59s", 0, "Can't schedule tasks for less than one minute"},
		{"every 0d", 0, "Can't schedule tasks for less than one minute"},
	} {
		got, err := flowspec.ParseSchedule(c.in)
		if got.Every != c.want || c.text != "" && errs.Detail(err) != c.text || c.text == "" && err != nil {
			t.Errorf("%q: %v, %v; want %v, %q", c.in, got, err, c.want, c.text)
		}
	}
}

func TestCron(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ cron, zone, want string }{
		{"0 6 * * 1", "Europe/London", ""},
		{" */15  0-6,22 1-31/2 * 0,7 ", "UTC", ""},
		{"0 6 * *", "UTC", "five fields"},
		{"60 6 * * 1", "UTC", "bad minute"},
		{"0 24 * * 1", "UTC", "bad hour"},
		{"0 6 0 * 1", "UTC", "bad day of the month"},
		{"0 6 1 13 1", "UTC", "bad month"},
		{"0 6 1 1 8", "UTC", "bad day of the week"},
		{"5-1 6 * * *", "UTC", "bad minute"},
		{"*/0 * * * *", "UTC", "bad minute"},
		{"0 6 * JAN-mar mon,5-7", "UTC", ""},
		{"1/2 * * * *", "UTC", ""},
		{"1 2 3 4", "UTC", "five fields"},
		{"@daily", "UTC", "five fields"},
		{"TZ=UTC 1 2 3 4", "UTC", "bad minute"},
		{"? * * * *", "UTC", "bad minute"},
		{"1,,2 * * * *", "UTC", "bad minute"},
		{"* * * * 5-8", "UTC", "bad day of the week"},
		{"* * * * 7-5", "UTC", "bad day of the week"},
		{"0 0 30 2 *", "UTC", "never comes"},
		{"0 0 31 4,6,9,11 *", "UTC", "never comes"},
		{"+1 * * * *", "UTC", "bad minute"},
		{", * * * *", "UTC", "bad minute"},
		{"0 6 * * 1", "Mars/Base", "unknown timezone"},
		{"0 6 * * 1", "../../etc/passwd", "unknown timezone"},
		{"0 6 * * 1", "Local", "unknown timezone"},
		{"0 6 * * 1", "", "unknown timezone"},
	} {
		got, err := flowspec.ParseSchedule(map[string]any{"cron": c.cron, "timezone": c.zone})
		if c.want == "" && (err != nil || got.Cron != strings.Join(strings.Fields(c.cron), " ") || got.Timezone != c.zone) {
			t.Errorf("%q: %+v, %v", c.cron, got, err)
		}
		if c.want != "" && (!errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), c.want)) {
			t.Errorf("%q %q: %v, want %q", c.cron, c.zone, err, c.want)
		}
	}
	if got, err := flowspec.ParseSchedule(map[string]any{"cron": "0 6 * * 1"}); err != nil || got.Timezone != "UTC" {
		t.Errorf("without a timezone: %+v, %v", got, err)
	}
	for _, v := range []any{map[string]any{}, map[string]any{"cron": 1}, map[string]any{"cron": "0 6 * * 1", "every": "2d"}, map[string]any{"cron": "0 6 * * 1", "timezone": 1}} {
		if _, err := flowspec.ParseSchedule(v); !errs.Is(err, errs.Invalid) {
			t.Errorf("%v: %v", v, err)
		}
	}
	if got, err := flowspec.ParseSchedule(nil); err != nil || got != (flowspec.Schedule{}) {
		t.Errorf("null: %+v, %v", got, err)
	}
}

// TestMessagesAreForUsers: a problem's text has no name of a function in it.
func TestMessagesAreForUsers(t *testing.T) {
	t.Parallel()
	_, problems := flowspec.Check(map[string]any{"schedule": "often"})
	if lines := flowspec.ProblemLines(problems); !slices.Contains(lines, "/schedule: Schedule should start with 'every'") {
		t.Errorf("%q", lines)
	}
}

// spec is one with the resources and processing that are given.
func spec(descriptor map[string]any, processing ...any) map[string]any {
	return map[string]any{
		"meta": map[string]any{"ownerid": "me", "dataset": "tides"},
		"inputs": []any{map[string]any{
			"kind": "datapackage", "url": "https://example.org/datapackage.json", "parameters": map[string]any{"descriptor": descriptor},
		}},
		"processing": processing,
	}
}

// TestWhatIsShortToWriteAndLongToPlanIsRefused: one schema for many resources, one
// resource as the input of many entries, lists without an end.
func TestWhatIsShortToWriteAndLongToPlanIsRefused(t *testing.T) {
	t.Parallel()
	var fields, pointing, many, entries, bad []any
	for i := range 1000 {
		fields = append(fields, map[string]any{"name": fmt.Sprint("f", i), "type": "string"})
		entries = append(entries, map[string]any{"input": "one", "output": fmt.Sprint("o", i)})
	}
	schema := map[string]any{"fields": fields}
	for i := range 1000 {
		pointing = append(pointing, map[string]any{"name": fmt.Sprint("r", i), "path": "a.csv", "schema": "#/schema"})
	}
	for i := range 10_001 {
		many = append(many, map[string]any{"name": fmt.Sprint("r", i), "path": "a.csv"})
	}
	for range 5000 {
		bad = append(bad, "text")
	}
	one := map[string]any{"name": "one", "path": "a.csv", "schema": schema}
	const at = "/inputs/0/parameters/descriptor/resources"
	for name, c := range map[string]struct {
		raw  map[string]any
		want string
	}{
		"schemas": {spec(map[string]any{"schema": schema, "resources": pointing}), "hold more than"},
		"entries": {spec(map[string]any{"resources": []any{one}}, entries...), "hold more than"},
		"list":    {spec(map[string]any{"resources": many}), at + ": must not have more than"},
	} {
		_, problems := flowspec.Check(c.raw)
		if lines := flowspec.ProblemLines(problems); len(lines) != 1 || !strings.Contains(lines[0], c.want) {
			t.Errorf("%s: %.200q, want %q", name, lines, c.want)
		}
	}
	if _, problems := flowspec.Check(spec(map[string]any{"resources": bad})); len(problems) != 1000 {
		t.Errorf("%d problems are told, want 1000", len(problems))
	}
	// A large spec that is no attack passes.
	if _, problems := flowspec.Check(spec(map[string]any{"resources": many[:10_000]})); problems != nil {
		t.Errorf("10,000 files: %.200q", problems)
	}
}

// TestNamesThatMeet: no two things that a flow makes have one name.
func TestNamesThatMeet(t *testing.T) {
	t.Parallel()
	resource := func(name string, schema bool) any {
		m := map[string]any{"name": name, "path": "a.csv"}
		if schema {
			m["schema"] = map[string]any{}
		}
		return m
	}
	zip := func(file string) map[string]any {
		m := spec(map[string]any{"resources": []any{resource("a", true)}})
		m["outputs"] = []any{map[string]any{"kind": "zip", "parameters": map[string]any{"out-file": file}}}
		return m
	}
	of := func(list ...any) map[string]any { return spec(map[string]any{"resources": list}) }
	for name, c := range map[string]struct {
		raw map[string]any
		ok  bool
	}{
		"report":           {of(resource("validation_report", false)), false},
		"archive":          {of(resource("tides_zip", false)), false},
		"CSV":              {of(resource("a", true), resource("a_csv", false)), false},
		"preview":          {of(resource("a", true), resource("a_csv_preview", false)), false},
		"copy":             {of(resource("a", true), resource("a_original", true)), false},
		"copy of a copy":   {spec(map[string]any{"resources": []any{resource("a", true)}}, map[string]any{"input": "a_original", "output": "a_original_original"}), false},
		"output":           {spec(map[string]any{"resources": []any{resource("a", true), resource("b", true)}}, map[string]any{"input": "a", "output": "b"}), false},
		"output as it was": {spec(map[string]any{"resources": []any{resource("a", true)}}, map[string]any{"input": "a", "output": "a"}), true},
		"zip of a CSV":     {zip("a.csv"), false},
		"zip a number":     {zip("12"), false},
		"zip":              {zip("12.zip"), true},
		"no table":         {of(resource("a", false), resource("a_csv", false)), true},
	} {
		if _, problems := flowspec.Check(c.raw); (problems == nil) != c.ok {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

// TestYAMLValues: into the JSON value space.
func TestYAMLValues(t *testing.T) {
	t.Parallel()
	got, err := flowspec.ParseYAML([]byte("day: 2020-01-02\nbig: 12345678901234567890.120\nhex: 0x1F\nplus: +1\nno: no\ntrue: True\nnull: ~\ntext: '1'\nagain: &a [1]\nalias: *a\n1: one\n"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `map[1:one again:[1] alias:[1] big:12345678901234567890.120 day:2020-01-02 hex:31 no:no null:<nil> plus:1 text:1 true:true]`
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
	if _, ok := got["text"].(string); !ok {
		t.Errorf("a quoted number is %T", got["text"])
	}
	if _, ok := got["day"].(string); !ok {
		t.Errorf("a date is %T", got["day"])
	}
}

func TestYAMLRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": "", "list": "[1]", "key twice": "a: 1\na: 2", "NaN": "a: .nan", "deep": "a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200),
		"broken": "a: [", "self": "a: &a [*a]", "tag": "a: !!python/object:os.system {}", "own tag": "a: !secret x", "binary": "a: !!binary aGk=",
		"merge": "a: &a {b: 1}\nc: {<<: *a}",
	} {
		if _, err := flowspec.ParseYAML([]byte(text)); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("schedule: {cron: '*/5 0 1-3 * 0,7', timezone: UTC}\nmeta: {ownerid: ü, dataset: a}\ninputs: [{kind: datapackage, parameters: {descriptor: {}}}]"))
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

// FuzzParseSchedule: what passes is a minute or more and says the same when it is
// written anew; what does not is refused with a text.
func FuzzParseSchedule(f *testing.F) {
	for _, seed := range []string{"every 1d", " every  2w ", "every 59s", "every +1d", "every ١d", "every 9999999999w", "every 1 0d", "every\t1d", "Every 1d", "every 1d\n"} {
		f.Add(seed, "")
	}
	f.Add("*/5 0 1-3 * 0,7", "UTC")
	f.Add("0 6 * * 1", "Europe/London")
	f.Fuzz(func(t *testing.T, text, zone string) {
		s, err := flowspec.ParseSchedule(text)
		if err == nil {
			again, err := flowspec.ParseSchedule(fmt.Sprintf("every %ds", s.Every/time.Second))
			if s.Every < time.Minute || s.Cron != "" || err != nil || again != s {
				t.Errorf("%q: %+v, and again %+v, %v", text, s, again, err)
			}
			if strings.ContainsAny(text, "+-_.") || strings.ContainsFunc(text, func(r rune) bool { return r > 127 }) {
				t.Errorf("%q passed", text)
			}
		} else if errs.Detail(err) == "" || !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
		c, err := flowspec.ParseSchedule(map[string]any{"cron": text, "timezone": zone})
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("%q, %q: %v", text, zone, err)
			}
			return
		}
		if again, err := flowspec.ParseSchedule(map[string]any{"cron": c.Cron, "timezone": c.Timezone}); err != nil || again != c {
			t.Errorf("%q: %+v, and again %+v, %v", text, c, again, err)
		}
	})
}

// TestCostlySchemas: a spec whose schemas would cost too much is refused, also where each
// of them alone is within the limits.
func TestCostlySchemas(t *testing.T) {
	t.Parallel()
	var chain strings.Builder
	for i := range 60 {
		fmt.Fprintf(&chain, `"%d": {allOf: [{$ref: "#/$defs/%d"}, {$ref: "#/$defs/%d"}]}, `, i, i+1, i+1)
	}
	var several strings.Builder
	for i := range 60 {
		fmt.Fprintf(&several, "      - {name: t%d, path: t.csv, schema: {fields: [{name: a, constraints: {pattern: '\\w{500}%d'}}]}}\n", i, i)
	}
	for name, c := range map[string]struct{ resources, pointer, want string }{
		"a chain":  {"      - {name: t, path: t.csv, schema: {fields: [{name: a, type: object, constraints: {jsonSchema: {$ref: '#/$defs/0', $defs: {" + chain.String() + `"60": {}}}}}]}}`, "/resources/0/schema/fields/0/constraints/jsonSchema", "more than 100000 subschemas"},
		"patterns": {several.String(), "/schema/fields/0/constraints/pattern", "more than 64 MiB"},
	} {
		raw, err := flowspec.ParseYAML([]byte("meta: {ownerid: me, dataset: d}\ninputs:\n- kind: datapackage\n  parameters:\n    descriptor:\n      resources:\n" + c.resources))
		if err != nil {
			t.Fatal(err)
		}
		_, problems := flowspec.Check(raw)
		if !slices.ContainsFunc(problems, func(p flowspec.Problem) bool {
			return strings.Contains(p.Pointer, c.pointer) && strings.Contains(p.Message, c.want)
		}) {
			t.Errorf("%s: %.500s, want %q at %s", name, flowspec.ProblemLines(problems), c.want, c.pointer)
		}
	}
}

// TestYAMLBombs: what aliases make of a document is bounded, in values and in bytes,
// before it is built, and what an alias stands for is there once.
func TestYAMLBombs(t *testing.T) {
	t.Parallel()
	doubled := func(first string) string {
		text := "a: &a " + first + "\n"
		for _, pair := range []string{"ba", "cb", "dc", "ed", "fe", "gf", "hg"} {
			name, of := pair[:1], pair[1:]
			text += name + ": &" + name + " [" + strings.TrimSuffix(strings.Repeat("*"+of+",", 10), ",") + "]\n"
		}
		return text
	}
	long := strings.Repeat("x", 1<<19)
	for name, text := range map[string]string{
		"values":           doubled("[x,x,x,x,x,x,x,x,x,x]"),
		"objects":          doubled("{a: {b: 1}, c: {d: 2}}"),
		"long text":        "a: &a " + long + "\nb: [" + strings.Repeat("*a,", 100_000) + "*a]\n",
		"long key":         "a: &a {? " + long + " : 1}\nb: [" + strings.Repeat("*a,", 100_000) + "*a]\n",
		"key as a value":   "{? &a " + long + " : 1, b: [" + strings.Repeat("*a,", 100_000) + "*a]}\n",
		"escaped text":     "a: [" + strings.Repeat(`"`+strings.Repeat(`\x01`, 1000)+`",`, 3000) + "1]",
		"values, no alias": "a: [" + strings.Repeat("1,", flowspec.MaxValues) + "1]",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := flowspec.ParseYAML([]byte(text))
		runtime.ReadMemStats(&after)
		if !errs.Is(err, errs.TooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 512<<20 {
			t.Errorf("%s: takes %d bytes of memory", name, took)
		}
	}
	if v, err := flowspec.ParseYAML([]byte("&k a: 1\nb: *k\nc: &c {d: *k}\ne: [*c, *c]\n")); err != nil || fmt.Sprint(v) != "map[a:1 b:a c:map[d:a] e:[map[d:a] map[d:a]]]" {
		t.Errorf("got %v, %v", v, err)
	}
}

// TestManyValues: a spec of more values than are read is refused, built or not.
func TestManyValues(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"objects": `{"a":[` + strings.Repeat("{},", flowspec.MaxValues) + `{}]}`,
		"lists":   `{"a":[` + strings.Repeat("[],", flowspec.MaxValues) + `[]]}`,
		"in meta": `{"meta":{"ownerid":"me","a":[` + strings.Repeat("1,", flowspec.MaxValues) + `1]}}`,
	} {
		_, err := flowspec.ParseJSON([]byte(text))
		_, err2 := flowspec.Meta([]byte(text), "ownerid")
		if !errs.Is(err, errs.TooLarge) || !strings.Contains(errs.Detail(err), "line 1, column") || fmt.Sprint(err2) != fmt.Sprint(err) {
			t.Errorf("%s: %v; %v", name, err, err2)
		}
	}
}

// TestMeta: the same texts and the same refusals as of a spec that is built.
func TestMeta(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	for _, text := range []string{
		`{"meta":{"ownerid":"me","dataset":"d"},"x":{"ownerid":"no"}}`, `{"meta":{"ownerid":1}}`, `{"meta":{"ownerid":{"ownerid":"me"}}}`, `{"meta":["ownerid"]}`,
		`{"meta":null}`, `{"a":{"meta":{"ownerid":"no"}}}`, `[{"meta":{"ownerid":"no"}}]`, `"meta"`, `{"m\u0065ta":{"owner\u0069d":"m\u0065"}}`,
		`{"meta":{"ownerid":"a","ownerid":"b"}}`, `{"meta":{},"meta":{}}`, `{"meta":{"ownerid":"a"}} x`, `{"meta":{"ownerid":"a"}`, `{`, ``, "{\"meta\":{\"ownerid\":\"\xff\"}}",
		"\ufeff{\"meta\":{\"ownerid\":\"me\"}}", `{"meta":{"ownerid":"me",}}`, deep(98), deep(99), deep(100), deep(101), `{"a":` + strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 101),
	} {
		raw, want := flowspec.ParseJSON([]byte(text))
		meta, _ := raw["meta"].(map[string]any)
		owner, _ := meta["ownerid"].(string)
		got, err := flowspec.Meta([]byte(text), "ownerid")
		if got["ownerid"] != owner || fmt.Sprint(err) != fmt.Sprint(want) || errs.KindOf(err) != errs.KindOf(want) {
			t.Errorf("%.60s: %q, %v; want %q, %v", text, got, err, owner, want)
		}
	}
}
