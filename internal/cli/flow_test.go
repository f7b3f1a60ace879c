package cli_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/cli"
	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/tableschema"
	"github.com/datahq/specstore/internal/testkit"
)

// differs names the captured flows whose states are not the original's, and why.
// Where unsaid is set the packages are compared all the same, but for that key of a
// resource.
var differs = map[string]struct {
	exit   int
	why    string
	unsaid string
}{
	"foreign-key": {1, "a broken foreign key fails the table; the original did not look", ""},

	"pk-duplicate":      {1, "a repeated primary key fails the table; the original did not look", ""},
	"ragged-short":      {1, "a short row is an error; the original dropped it and all behind it", ""},
	"name-invalid":      {2, "refused by the planner; the original failed every pipeline", ""},
	"proc-unknown-step": {2, "refused by name; the original left its pipelines queued for ever", ""},
	"schema-invalid":    {1, "a schema that cannot be read fails its table, as with the original", ""},
	"types-all":         {0, "the original fails on words of its own making", ""},
	"client-counters":   {0, "bytes and rows are the files' own; the original added them to what the client said", ""},
	"only-csv":          {0, "run plans all types; the case allows some", ""},
	"xlsx-two-sheets":   {0, "how the source was read is not said of what was made of it", "sheet"},
	"semicolon-plain":   {0, "how the source was read is not said of what was made of it", "delimiter"},
	"tsv":               {0, "quotes are quotes in TSV too, as spreadsheets write them", ""},
	"long-cell":         {0, "a long cell is read; the original's limit was 131,072 characters", ""},
}

// runCase runs a captured flow with `specstore run`.
func runCase(t *testing.T, dir, out string) (code int, result runResult, stderr string) {
	t.Helper()
	var stdout, errs bytes.Buffer
	code = cli.Run(t.Context(), cli.Env{
		Args:   []string{"run", filepath.Join(dir, "input", "spec.yaml"), "--out", out, "--json"},
		Getenv: func(string) string { return "" }, Now: time.Now, Dir: dir,
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &errs,
	})
	if code <= 1 {
		if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
			t.Fatalf("run --json printed no JSON: %v\n%s\n%s", err, stdout.String(), errs.String())
		}
	}
	return code, result, errs.String()
}

type runResult struct {
	FlowID    string `json:"flow_id"`
	State     string `json:"state"`
	Pipelines map[string]struct {
		State  string   `json:"state"`
		Errors []string `json:"errors"`
	} `json:"pipelines"`
}

type capturedCase struct {
	Mode      string `json:"mode"`
	Success   bool   `json:"flow_success"`
	Pipelines map[string]struct {
		Success bool `json:"success"`
	} `json:"pipelines"`
}

// TestCapturedFlows runs what the original ran and compares by meaning.
func TestCapturedFlows(t *testing.T) {
	t.Parallel()
	root := testkit.Shared(t, "cases", "flow")
	cases, err := filepath.Glob(filepath.Join(root, "*", "case.json"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases in %s: %v", root, err)
	}
	held, all, skipped := 0, 0, 0
	for _, file := range cases {
		dir := filepath.Dir(file)
		name := filepath.Base(dir)
		var captured capturedCase
		readJSON(t, file, &captured)
		all++
		if !t.Run(name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Skipped() {
					skipped++
				}
			})
			out := filepath.Join(t.TempDir(), "out")
			code, result, stderr := runCase(t, inputOf(t, dir), out)
			d, ours := differs[name]
			if ours {
				if code != d.exit {
					t.Errorf("exit code %d, want %d: %s\n%s", code, d.exit, d.why, stderr)
				}
				if d.unsaid == "" {
					return
				}
			}
			want := 0
			if !captured.Success {
				want = 1
			}
			if code != want {
				t.Fatalf("exit code %d, want %d\n%s", code, want, stderr)
			}
			for id, p := range captured.Pipelines {
				got, ok := result.Pipelines[id]
				if !ok {
					t.Errorf("pipeline %s is missing", id)
				} else if (got.State == "SUCCEEDED") != p.Success {
					t.Errorf("pipeline %s is %s, want success %v\n%s", id, got.State, p.Success, strings.Join(got.Errors, "\n"))
				}
			}
			if len(result.Pipelines) != len(captured.Pipelines) {
				t.Errorf("%d pipelines, want %d", len(result.Pipelines), len(captured.Pipelines))
			}
			if captured.Success {
				compareFlow(t, dir, out, d.unsaid)
			}
		}) {
			continue
		}
		held++
	}
	t.Logf("%d of %d captured flows hold, %d of them in a way of our own (see differs)", held-skipped, all-skipped, len(differs))
}

// generated is the source of a case that is too large to be kept.
type generated struct {
	Tool  string   `json:"tool"`
	Args  []string `json:"args"`
	Out   string   `json:"out"`
	SHA   string   `json:"sha256"`
	Bytes int64    `json:"bytes"`
}

// inputOf gives the folder with the input of a case; a source that is generated is made
// first.
func inputOf(t *testing.T, dir string) string {
	t.Helper()
	recipe := filepath.Join(dir, "input", "generator.json")
	if !fileExists(recipe) {
		return dir
	}
	var g generated
	readJSON(t, recipe, &g)
	if g.Bytes > maxGenerated && os.Getenv("SPECSTORE_TEST_LONG") == "" {
		t.Skipf("a table of %d MB takes long to generate; SPECSTORE_TEST_LONG=1 runs it", g.Bytes>>20)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("the tool that generates the table needs python3")
	}
	work := t.TempDir()
	if err := os.CopyFS(filepath.Join(work, "input"), os.DirFS(filepath.Join(dir, "input"))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(work, "input", g.Out)
	tool := testkit.Shared(t, strings.Split(g.Tool, "/")...)
	if text, err := exec.CommandContext(t.Context(), python, append([]string{tool, "--out", file}, g.Args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	sum := sha256.Sum256(testkit.Must(os.ReadFile(file))(t))
	if got := hex.EncodeToString(sum[:]); got != g.SHA {
		t.Fatalf("the generated table is another one: its SHA-256 is %s, want %s", got, g.SHA)
	}
	return work
}

// maxGenerated is the largest table in bytes that is generated for every run of the tests.
const maxGenerated = 1 << 20

func fileExists(path string) bool { _, err := os.Stat(path); return err == nil }

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func readDescriptor(t *testing.T, path string) map[string]any {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := datapackage.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return d
}

// compareFlow holds the package in out against the one the original published.
func compareFlow(t *testing.T, dir, out, unsaid string) {
	t.Helper()
	finals, err := filepath.Glob(filepath.Join(dir, "expected", "*", "*", "1", "datapackage.json"))
	if err != nil || len(finals) != 1 {
		t.Fatalf("no expected descriptor: %v", err)
	}
	want, got := readDescriptor(t, finals[0]), readDescriptor(t, filepath.Join(out, "datapackage.json"))
	compareKeys(t, "package", want, got)
	for k, v := range want {
		if k != "resources" && k != "datahub" && k != "views" {
			compareJSON(t, "/"+k, v, got[k])
		}
	}
	compareJSON(t, "/views", want["views"], got["views"])
	byName := map[string]map[string]any{}
	for _, r := range resourcesOf(got) {
		byName[fmt.Sprint(r["name"])] = r
	}
	for _, w := range resourcesOf(want) {
		name := fmt.Sprint(w["name"])
		g := byName[name]
		if g == nil {
			t.Errorf("resource %s is missing", name)
			continue
		}
		delete(byName, name)
		if _, said := g[unsaid]; !said {
			delete(w, unsaid)
		}
		compareResource(t, name, w, g)
		compareTable(t, filepath.Dir(filepath.Dir(finals[0])), out, w, g)
	}
	for name, r := range byName {
		// The original lost the previews of small tables and all of empty ones.
		datahub, _ := r["datahub"].(map[string]any)
		kind := fmt.Sprint(datahub["type"])
		if kind != "derived/preview" && fmt.Sprint(r["rowcount"]) != "0" {
			t.Errorf("resource %s (%s) is not the original's", name, kind)
		}
	}
	compareJSON(t, "/datahub/stats/rowcount", want["datahub"].(map[string]any)["stats"].(map[string]any)["rowcount"],
		got["datahub"].(map[string]any)["stats"].(map[string]any)["rowcount"])
}

func resourcesOf(d map[string]any) []map[string]any {
	var out []map[string]any
	list, _ := d["resources"].([]any)
	for _, v := range list {
		out = append(out, v.(map[string]any))
	}
	return out
}

// compareKeys wants the same keys but for those that the original leaked.
func compareKeys(t *testing.T, where string, want, got map[string]any) {
	t.Helper()
	for k := range want {
		if _, ok := got[k]; !ok && k != "dpp:streamedFrom" && k != "signed" {
			t.Errorf("%s lacks %q", where, k)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok && k != "hash" {
			t.Errorf("%s has %q, which the original has not", where, k)
		}
	}
}

func compareResource(t *testing.T, name string, want, got map[string]any) {
	t.Helper()
	compareKeys(t, "resource "+name, want, got)
	preview := want["datahub"].(map[string]any)["type"] == "derived/preview"
	for k, v := range want {
		switch k {
		case "dpp:streamedFrom", "signed", "path", "bytes", "hash", "schema":
		case "rowcount":
			if !preview {
				compareJSON(t, name+"/rowcount", v, got[k])
			}
		default:
			compareJSON(t, name+"/"+k, v, got[k])
		}
	}
	ws, _ := want["schema"].(map[string]any)
	gs, _ := got["schema"].(map[string]any)
	if ws != nil {
		wf, _ := ws["fields"].([]any)
		gf, _ := gs["fields"].([]any)
		if len(wf) != len(gf) {
			t.Errorf("%s: %d fields, want %d", name, len(gf), len(wf))
			return
		}
		for i := range wf {
			w, g := wf[i].(map[string]any), gf[i].(map[string]any)
			for _, k := range []string{"name", "type", "title", "description"} {
				compareJSON(t, fmt.Sprintf("%s/schema/fields/%d/%s", name, i, k), w[k], g[k])
			}
		}
	}
}

func compareJSON(t *testing.T, where string, want, got any) {
	t.Helper()
	w, _ := json.Marshal(want)
	g, _ := json.Marshal(got)
	if !bytes.Equal(w, g) {
		t.Errorf("%s is %.300s, want %.300s", where, g, w)
	}
}

// compareTable compares a published table value by value, each read by its own schema.
func compareTable(t *testing.T, expected, out string, want, got map[string]any) {
	t.Helper()
	kind := fmt.Sprint(want["datahub"].(map[string]any)["type"])
	wantFile := findFile(expected, fmt.Sprint(want["path"]))
	if wantFile == "" {
		return // only its beginning was kept, or it is volatile
	}
	gotFile := filepath.Join(out, fmt.Sprint(got["path"]))
	switch kind {
	case "derived/csv":
		compareRows(t, fmt.Sprint(want["name"]), csvRows(t, wantFile, want), csvRows(t, gotFile, got))
	case "derived/json":
		compareRows(t, fmt.Sprint(want["name"]), jsonRows(t, wantFile, want), jsonRows(t, gotFile, got))
	case "original", "source/tabular", "source/non-tabular":
		w, err := os.ReadFile(wantFile)
		if err != nil {
			t.Fatal(err)
		}
		g, err := os.ReadFile(gotFile)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(w, g) {
			t.Errorf("%s is not a copy of the source", want["name"])
		}
	}
}

// findFile finds a file by its path below one of the pipelines' packages.
func findFile(expected, path string) string {
	found := ""
	filepath.WalkDir(expected, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(filepath.ToSlash(p), "/"+path) {
			found = p
		}
		return nil
	})
	return found
}

func compareRows(t *testing.T, name string, want, got [][]string) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%s has %d rows, want %d", name, len(got), len(want))
		return
	}
	for i := range want {
		if !slices.Equal(want[i], got[i]) {
			t.Errorf("%s row %d is\n%q, want\n%q", name, i+1, got[i], want[i])
			return
		}
	}
}

// keyOf brings a cell into a form that is equal for equal values. Blanks round a
// text and its line ends do not count, nor the zone of a datetime, which the
// original dropped; nor the day of a month, where it took that of its own clock.
func keyOf(t *testing.T, f tableschema.Field, c *tableschema.Caster, cell string) string {
	t.Helper()
	switch f.Type {
	case "string", "any":
		cell = strings.TrimSpace(strings.ReplaceAll(cell, "\r\n", "\n"))
		if cell == "" {
			return "null"
		}
	case "datetime":
		cell = strings.TrimSuffix(cell, "Z")
	}
	text, null, err := c.Cast([]byte(cell))
	if err != nil {
		t.Fatalf("a published cell does not cast: %s", err.Message)
	}
	if null {
		return "null"
	}
	if f.Type == "date" && strings.Contains(t.Name(), "co2-ppm") {
		return "=" + string(text[:7])
	}
	return "=" + string(c.AppendKey(nil, text))
}

func castersOf(t *testing.T, resource map[string]any) ([]tableschema.Field, []*tableschema.Caster) {
	t.Helper()
	s, err := tableschema.Parse(resource["schema"].(map[string]any))
	if err != nil {
		t.Fatal(err)
	}
	casters := make([]*tableschema.Caster, len(s.Fields))
	for i := range s.Fields {
		casters[i], err = s.Caster(i, tableschema.CastOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	return s.Fields, casters
}

func csvRows(t *testing.T, file string, resource map[string]any) [][]string {
	t.Helper()
	fields, casters := castersOf(t, resource)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	rows := records[1:]
	for _, row := range rows {
		for i := range row {
			row[i] = keyOf(t, fields[i], casters[i], row[i])
		}
	}
	return rows
}

func jsonRows(t *testing.T, file string, resource map[string]any) [][]string {
	t.Helper()
	fields, casters := castersOf(t, resource)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var objects []map[string]any
	if err := json.Unmarshal(b, &objects); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var rows [][]string
	for _, o := range objects {
		if len(o) != len(fields) {
			t.Errorf("%s: a row has the keys %v", file, slices.Sorted(maps.Keys(o)))
		}
		row := make([]string, len(fields))
		for i, f := range fields {
			switch v := o[f.Name].(type) {
			case nil:
				row[i] = "null"
			case string:
				row[i] = keyOf(t, f, casters[i], v)
			default: // numbers as the doubles that the original wrote
				j, _ := json.Marshal(v)
				row[i] = string(j)
				if row[i] == "-0" {
					row[i] = "0"
				}
			}
		}
		rows = append(rows, row)
	}
	return rows
}
