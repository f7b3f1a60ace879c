package standard_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/processor/standard"
	"github.com/datahq/specstore/internal/processor/wire"
)

func object(t testing.TB, text string) map[string]any {
	t.Helper()
	v, err := python.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

// pipeline makes the steps of a list of [run, parameters].
func pipeline(t testing.TB, steps ...[2]string) []standard.Step {
	t.Helper()
	var out []standard.Step
	for _, s := range steps {
		p, err := standard.New(s[0], object(t, s[1]))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, standard.Step{Run: s[0], Processor: p})
	}
	return out
}

// run gives what the last step of a pipeline writes to the next.
func run(t testing.TB, env *standard.Env, in string, steps ...[2]string) (string, error) {
	t.Helper()
	p, dependencies, err := wire.Read(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	if env.Dependencies == nil {
		env.Dependencies = dependencies
	}
	p, err = standard.Chain(t.Context(), env, p, pipeline(t, steps...))
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = wire.Write(t.Context(), &out, p, nil)
	return out.String(), err
}

// randomTables are a source of many rows and a target, with few and many keys.
func randomTables(rows, keys int) string {
	random := rand.New(rand.NewPCG(3, uint64(rows)))
	var b strings.Builder
	b.WriteString("{}\n" + `{"name": "p", "resources": [
		{"name": "s", "path": "s.csv", "dpp:streaming": true, "schema": {"fields": [{"name": "k", "type": "integer"}, {"name": "v", "type": "number"}, {"name": "w", "type": "string"}], "primaryKey": ["k"]}},
		{"name": "t", "path": "t.csv", "dpp:streaming": true, "schema": {"fields": [{"name": "k", "type": "integer"}]}}]}`)
	text := strings.ReplaceAll(strings.ReplaceAll(b.String(), "\n\t\t", " "), "[ ", "[")
	b.Reset()
	b.WriteString(text + "\n\n")
	for i := range rows {
		fmt.Fprintf(&b, "{\"k\": %d, \"v\": {\"type{decimal}\": \"%d.%d\"}, \"w\": \"w%d\"}\n", random.IntN(keys)-keys/2, random.IntN(100)-50, random.IntN(10), i)
	}
	b.WriteString("\n")
	for range rows {
		fmt.Fprintf(&b, "{\"k\": %d}\n", random.IntN(keys)-keys/2)
	}
	return b.String() + "\n{}\n\n"
}

// TestBudget: what goes to disk for want of memory comes out as what does not.
func TestBudget(t *testing.T) {
	t.Parallel()
	const fields = `"fields": {"n": {"aggregate": "count"}, "sum": {"name": "v", "aggregate": "sum"}, "all": {"name": "w", "aggregate": "array"},
		"first": {"name": "w", "aggregate": "first"}, "mid": {"name": "v", "aggregate": "median"}}`
	steps := map[string][2]string{
		"sort":        {"sort", `{"sort-by": "{v}"}`},
		"reverse":     {"sort", `{"sort-by": ["w"], "reverse": true, "resources": "s"}`},
		"deduplicate": {"deduplicate", `{}`},
		"inner":       {"join", `{"source": {"name": "s", "key": ["k"]}, "target": {"name": "t", "key": ["k"]}, "mode": "inner", ` + fields + `}`},
		"half":        {"join", `{"source": {"name": "s", "key": "{k}", "delete": true}, "target": {"name": "t", "key": "{k}"}, ` + fields + `}`},
		"full":        {"join", `{"source": {"name": "s", "key": ["k"]}, "target": {"name": "t", "key": ["k"]}, "mode": "full-outer", ` + fields + `}`},
		"self":        {"join", `{"source": {"name": "s", "key": ["k"]}, "target": {"name": "s"}, ` + fields + `}`},
	}
	steps["sort"] = [2]string{"sort", `{"sort-by": "{v}", "resources": ["s"]}`}
	for _, keys := range []int{10, 3000} {
		in := randomTables(2500, keys)
		for name, step := range steps {
			want, err := run(t, &standard.Env{Temp: t.TempDir(), Budget: 64 << 20}, in, step)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			env := &standard.Env{Temp: t.TempDir(), Budget: 1}
			got, err := run(t, env, in, step)
			if err != nil || got != want {
				t.Errorf("%s with %d keys: the result is another one on disk (%v)", name, keys, err)
			}
			if left, _ := os.ReadDir(env.Temp); len(left) > 0 {
				t.Errorf("%s: %s is left behind", name, left[0].Name())
			}
		}
	}
}

// TestChain: steps of one pipeline do not see what later ones change in the
// descriptor, although their rows come later.
func TestChain(t *testing.T) {
	t.Parallel()
	const in = "{}\n" + `{"name": "p", "resources": [{"name": "r", "path": "r.csv", "dpp:streaming": true, "schema": {"fields": [{"name": "a", "type": "string"}, {"name": "b", "type": "string"}]}}]}` +
		"\n\n{\"a\": \"1\", \"b\": \"x\"}\n{\"a\": \"2\", \"b\": \"y\"}\n\n{\"up\": 1}\n\n"
	dir := t.TempDir()
	env := &standard.Env{Temp: t.TempDir(), Sources: testDisk{dir}, Places: testDisk{dir}}
	got, err := run(t, env, in,
		[2]string{"set_types", `{"types": {"a": {"type": "integer"}}}`},
		[2]string{"dump_to_path", `{"out-path": "one"}`},
		[2]string{"duplicate", `{"source": "r", "target-name": "c", "duplicate_to_end": true}`},
		[2]string{"delete_fields", `{"fields": ["a"], "resources": "r"}`},
		[2]string{"update_resource", `{"resources": "r", "metadata": {"name": "renamed", "schema": {"fields": [{"name": "z", "type": "string"}, {"name": "b", "type": "string"}]}}}`},
		[2]string{"add_computed_field", `{"resources": "c", "fields": [{"operation": "sum", "source": ["a", "a"], "target": "two"}]}`},
		[2]string{"dump.to_path", `{"out-path": "two", "format": "json", "counters": {"resource-rowcount": "n.rows"}}`},
	)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(got, "\n\n{\"b\": \"x\"}\n{\"b\": \"y\"}\n\n{\"a\": 1, \"b\": \"x\", \"two\": 2}\n{\"a\": 2, \"b\": \"y\", \"two\": 4}\n\n"+got[strings.LastIndex(got, "{\".dpp\""):]) {
		t.Error(got)
	}
	if !strings.Contains(got, `"up": 1`) {
		t.Error("statistics of earlier steps are gone")
	}
	for name, want := range map[string]string{
		"one/r.csv":            "a,b\r\n1,x\r\n2,y\r\n",
		"two/r.json":           `[{"b": "x", "z": null},{"b": "y", "z": null}]`,
		"two/c.json":           `[{"a": 1, "b": "x", "two": 2},{"a": 2, "b": "y", "two": 4}]`,
		"two/datapackage.json": `"n": {"rows": 2}`,
	} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %v\n%s", name, err, b)
		}
	}
}

// TestForms: the same dump in the forms of DPP and in that of flows.
func TestForms(t *testing.T) {
	t.Parallel()
	const in = "{}\n" + `{"name": "p", "resources": [{"name": "r", "path": "r.csv", "dpp:streaming": true, "schema": {"fields": [{"name": "n", "type": "number"}, {"name": "b", "type": "boolean"}, {"name": "d", "type": "datetime"}, {"name": "u", "type": "duration"}]}}]}` +
		"\n\n" + `{"b": true, "d": {"type{datetime}": "2020-01-02 03:04:05"}, "n": {"type{decimal}": "1.50"}, "u": {"type{duration}": "P1D"}}` + "\n\n{}\n\n"
	for _, c := range []struct {
		form         standard.Form
		run          string
		format, want string
	}{
		{standard.DPP, "dump_to_path", "csv", "n,b,d,u\r\n1.50,True,2020-01-02T03:04:05,P1D\r\n"},
		{standard.DPP, "dump.to_path", "csv", "n,b,d,u\r\n1.50,True,2020-01-02 03:04:05,P1D\r\n"},
		{standard.DPP, "dump.to_path", "json", `[{"b": true, "d": "2020-01-02 03:04:05", "n": 1.5, "u": "P1D"}]`},
		{standard.Canonical, "dump.to_path", "csv", "n,b,d,u\r\n1.50,true,2020-01-02T03:04:05,P1D\r\n"},
		{standard.Canonical, "dump.to_path", "json", "[\n{\"n\": 1.50, \"b\": true, \"d\": \"2020-01-02T03:04:05\", \"u\": \"P1D\"}\n]\n"},
	} {
		dir := t.TempDir()
		if _, err := run(t, &standard.Env{Temp: t.TempDir(), Places: testDisk{dir}, Form: c.form}, in, [2]string{c.run, `{"out-path": ".", "format": "` + c.format + `"}`}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "r."+c.format))
		if err != nil || string(b) != c.want {
			t.Errorf("%v %s %s: %v\n%s", c.form, c.run, c.format, err, b)
		}
	}
}

// openDisk counts the files that are open.
type openDisk struct {
	testDisk
	open int
}

func (d *openDisk) Open(ctx context.Context, url string) (io.ReadCloser, error) {
	r, err := d.testDisk.Open(ctx, url)
	if err == nil {
		d.open++
		r = &counted{r, d}
	}
	return r, err
}

type counted struct {
	io.ReadCloser
	disk *openDisk
}

func (c *counted) Close() error {
	c.disk.open--
	return c.ReadCloser.Close()
}

// TestBreak: who stops early closes files and removes temporary ones.
func TestBreak(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString("k,v\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "%d,%d\n", i%7, i)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.csv"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range [][2]string{
		{"filter", `{"out": [{"k": "none"}]}`},
		{"sort", `{"sort-by": "{v}"}`},
		{"duplicate", `{"source": "a"}`},
		{"concatenate", `{"sources": ["a", "b"], "fields": {"k": [], "v": []}}`},
		{"dump_to_path", `{"out-path": "out"}`},
		{"join", `{"source": {"name": "a", "key": ["k"]}, "target": {"name": "b", "key": ["k"]}, "fields": {"v": {"aggregate": "last"}}}`},
		{"dump.to_zip", `{"out-file": "out.zip"}`},
		{"deduplicate", `{}`},
	} {
		disk := &openDisk{testDisk: testDisk{dir}}
		env := &standard.Env{Temp: t.TempDir(), Sources: disk, Places: disk, Budget: 1000}
		for _, tables := range []int{1, 2} {
			p, err := standard.Chain(t.Context(), env, standard.Empty(), pipeline(t,
				[2]string{"load", `{"from": "a.csv", "name": "a", "override_schema": {"primaryKey": ["k"]}}`}, [2]string{"load", `{"from": "a.csv", "name": "b"}`}, step))
			if err != nil {
				t.Fatal(step[0], err)
			}
			n := 0
			for table, err := range p.Tables {
				if err != nil {
					t.Fatal(step[0], err)
				}
				for range table.Rows {
					break
				}
				if n++; n == tables {
					break
				}
			}
			if disk.open != 0 {
				t.Errorf("%s: %d files are open", step[0], disk.open)
			}
			if left, _ := os.ReadDir(env.Temp); len(left) > 0 {
				t.Errorf("%s: %s is left behind", step[0], left[0].Name())
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "out")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a package that was not read to its end was written", step[0])
		}
	}
}

// TestParameters: what is wrong is refused before anything runs, and named.
func TestParameters(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"sort", `{}`, `sort: parameter "sort-by" must be`},
		{"sort", `{"sort-by": "{a", "reverse": 1}`, `"sort-by" is wrong: a { in the format`},
		{"sort", `{"sort-by": "{a}", "reverse": 1}`, `"reverse" must be true or false`},
		{"filter", `{}`, `"in" or parameter "out"`},
		{"filter", `{"in": [1]}`, `"in/0" must be an object`},
		{"find_replace", `{"fields": [{"name": "a", "patterns": [{"find": "(?=x)", "replace": ""}]}]}`, `"fields/0/patterns/0/find" is wrong: the expression "(?=x)" uses look-ahead`},
		{"find_replace", `{"fields": [{"name": "a", "patterns": [{"find": "x", "replace": "\\1"}]}]}`, `"fields/0/patterns/0/replace" is wrong`},
		{"set_types", `{"types": {"a": 1}}`, `"types/a" must be an object, or null`},
		{"set_types", `{"types": {"(": {}}}`, `cannot be read`},
		{"join", `{"source": {"name": "a", "key": "{a}"}, "target": {"name": "b", "key": 1}}`, `"target/key"`},
		{"join", `{"source": {"name": "a", "key": "{a}"}, "target": {"name": "b", "key": "{a}"}, "fields": {"x": {"aggregate": "eval"}}}`, `"fields/x/aggregate" must be one of`},
		{"join", `{"mode": "outer", "source": {"name": "a", "key": "{a}"}, "target": {"name": "b", "key": "{a}"}}`, `"mode" must be`},
		{"add_computed_field", `{"fields": [{"operation": "exec", "target": "x"}]}`, `"fields/0/operation" must be one of`},
		{"add_computed_field", `{"fields": [{"operation": "format", "target": "x", "with": "{a.__class__}"}]}`, `names fields only`},
		{"concatenate", `{"fields": {"a": ["x"], "b": ["x"]}}`, `takes the field "x"`},
		{"unpivot", `{"unpivot": [], "extraKeyFields": []}`, `"extraValueField" must be a field`},
		{"dump_to_path", `{"format": "xml"}`, `"format" must be csv or json`},
		{"dump_to_zip", `{}`, `"out-file" must be a text`},
		{"add_resource", `{"url": "a"}`, `"name" must be a text`},
		{"load_resource", `{"url": "a"}`, `"resource" must say which`},
		{"load", `{"from": "a", "limit_rows": -1}`, `"limit_rows" must be a whole number`},
		{"update_package", `{"resources": []}`, `"resources" cannot be set`},
		{"flow", `{}`, `it runs code`},
		{"assembler.load_preview", `{"limit": 0}`, `"limit" must be a number of rows`},
	} {
		_, err := standard.New(c[0], object(t, c[1]))
		if !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), c[2]) {
			t.Errorf("%s %s: %v, want %s", c[0], c[1], err, c[2])
		}
	}
}

// TestRows: rows of a file that do not fit its header are errors, and none is dropped
// silently.
func TestRows(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a,b\n1,2\n\n3,4,,\n": "", "a,b\n1\n": "row 2: the row has 1 cells", "a,b\n1,2,3\n": "row 2: the row has 3 cells",
		",\n1,2\n": "names no column", "a,a\n1,2\n": `has "a" more than once`, "": "it has no header", "a,,b\n1,x,2\n": "",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f.csv"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := run(t, &standard.Env{Temp: t.TempDir(), Sources: testDisk{dir}}, "", [2]string{"load", `{"from": "f.csv", "name": "f", "infer_strategy": "strings"}`})
		if want == "" && (err != nil || strings.Count(got, "{\"a\"") == 0) || want != "" && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q\n%s", text, err, want, got)
		}
	}
}

// TestAssembler runs the shape of a plan: a table, its preview, the archive and the
// package of all.
func TestAssembler(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString("n\n")
	for i := range 30 {
		fmt.Fprintf(&b, "%d\n", i)
	}
	if err := os.WriteFile(filepath.Join(dir, "t.csv"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	disk := testDisk{dir}
	env := &standard.Env{Temp: t.TempDir(), Sources: disk, Places: disk, Dependencies: map[string]string{"d/1/t_csv": "d/t_csv/datapackage.json", "d/1/p": "d/p/datapackage.json"}}
	env.Report = func(_ context.Context, resources []map[string]any) ([]byte, error) {
		return fmt.Appendf(nil, "[%d]", len(resources)), nil
	}
	const counters = `"counters": {"datapackage-rowcount": "datahub.stats.rowcount", "datapackage-bytes": "datahub.stats.bytes", "datapackage-hash": "datahub.hash", "resource-rowcount": "rowcount", "resource-bytes": "bytes", "resource-hash": "hash"}`
	must := func(steps ...[2]string) {
		t.Helper()
		if _, err := run(t, env, "", steps...); err != nil {
			t.Fatal(err)
		}
	}
	add := [2]string{"add_resource", `{"name": "t", "url": "t.csv", "format": "csv", "path": "archive/t.csv", "schema": {"fields": [{"name": "n", "type": "integer"}]}}`}
	must([2]string{"assembler.update_metadata", `{"id": "d", "ownerid": "me", "modified": null}`}, [2]string{"add_metadata", `{"name": "d", "readme": "# D"}`}, add,
		[2]string{"stream_remote_resources", `{}`},
		[2]string{"assembler.update_resource", `{"name": "t", "update": {"name": "t_csv", "path": "data/t_csv.csv", "datahub": {"type": "derived/csv"}}}`},
		[2]string{"dump.to_path", `{"out-path": "d/t_csv", "force-format": false, "handle-non-tabular": true, "add-filehash-to-path": true, "pretty-descriptor": true, ` + counters + `}`})
	made := readJSON(t, dir, "d/t_csv/datapackage.json")
	if datahub := made["datahub"].(map[string]any); fmt.Sprint(datahub["stats"]) != fmt.Sprintf("map[bytes:%d rowcount:30]", b.Len()+31) {
		t.Errorf("%v", made)
	}
	must([2]string{"assembler.load_private_resource", `{"url": "dependency://./d/1/t_csv", "resource": "t_csv", "stream": true, "limit-rows": null}`},
		[2]string{"assembler.load_preview", `{"limit": 20}`},
		[2]string{"assembler.update_resource", `{"name": "t_csv", "update": {"name": "t_csv_preview", "format": "json", "path": "data/t_csv_preview.json"}}`},
		[2]string{"assembler.load_views", `{"limit": 20}`},
		[2]string{"dump.to_path", `{"out-path": "d/p", "force-format": false, ` + counters + `}`})
	preview, err := os.ReadFile(filepath.Join(dir, "d/p/data/t_csv_preview.json"))
	if err != nil || strings.Count(string(preview), "{") != 20 {
		t.Errorf("%v %s", err, preview)
	}
	must([2]string{"add_metadata", `{"name": "d", "readme": "# D"}`},
		[2]string{"assembler.load_private_resource", `{"url": "dependency://./d/1/t_csv", "resource": "t_csv", "stream": false}`},
		[2]string{"assembler.extract_readme", `{}`}, [2]string{"assembler.remove_hash", `{}`},
		[2]string{"dump.to_zip", `{"out-file": "1.d.zip", "force-format": false, "handle-non-tabular": true}`},
		[2]string{"assembler.clear_resources", `{}`},
		[2]string{"add_resource", `{"name": "d_zip", "url": "1.d.zip", "path": "data/d.zip", "format": "zip"}`},
		[2]string{"dump.to_path", `{"out-path": "d/z", "handle-non-tabular": true, "add-filehash-to-path": true, "force-format": false}`})
	z := readJSON(t, dir, "d/z/datapackage.json")["resources"].([]any)[0].(map[string]any)
	zip, err := os.ReadFile(filepath.Join(dir, "d/z", z["path"].(string)))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"data/t_csv.csv", "README.md", "datapackage.json"} {
		if !bytes.Contains(zip, []byte(name)) {
			t.Errorf("the archive lacks %s", name)
		}
	}
	must([2]string{"assembler.load_modified_resources", `{"urls": [{"pipeline": "./d/1/t_csv"}, {"pipeline": "d/1/p"}]}`}, [2]string{"aws.change_acl", `{}`},
		[2]string{"dump.to_path", `{"out-path": "d/1", "handle-non-tabular": false}`})
	final := readJSON(t, dir, "d/1/datapackage.json")
	if len(final["resources"].([]any)) != 2 || len(final["views"].([]any)) != 1 {
		t.Errorf("%v", final)
	}
	must([2]string{"add_metadata", `{"name": "d"}`}, add, [2]string{"assembler.validate_resource", `{}`},
		[2]string{"dump.to_path", `{"out-path": "d/r", "handle-non-tabular": true}`})
	if report, err := os.ReadFile(filepath.Join(dir, "d/r/data/validation_report.json")); err != nil || string(report) != "[1]" {
		t.Errorf("%v %s", err, report)
	}
	if name := readJSON(t, dir, "d/r/datapackage.json")["name"]; name != "d-report" {
		t.Errorf("%v", name)
	}
	if _, err := run(t, env, "", [2]string{"assembler.dump_to_s3", `{"path": "d/x"}`}); !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), "no object store") {
		t.Errorf("%v", err)
	}
}

func readJSON(t *testing.T, dir, name string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return object(t, string(b))
}

// TestPaths: nothing leaves the package that it belongs to.
func TestPaths(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	body := `{"resources": [{"name": "r", "path": "../secret.csv", "schema": {"fields": [{"name": "a"}]}}]}`
	if err := os.WriteFile(filepath.Join(dir, "datapackage.json"), []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	disk := testDisk{dir}
	env := &standard.Env{Temp: t.TempDir(), Sources: disk, Places: disk}
	if _, err := run(t, env, "", [2]string{"load_resource", `{"url": "datapackage.json", "resource": "r"}`}); !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), "leaves the package") {
		t.Errorf("%v", err)
	}
	const in = "{}\n" + `{"resources": [{"name": "r", "path": "../../r.csv", "dpp:streaming": true, "schema": {"fields": [{"name": "a"}]}}]}` + "\n\n\n{}\n\n"
	if _, err := run(t, env, in, [2]string{"dump_to_path", `{"out-path": "out"}`}); !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), "leaves the package") {
		t.Errorf("%v", err)
	}
}

// FuzzParameters: parameters of strangers make a processor or are refused as
// Invalid; what it makes of a package is one, or an error of theirs.
func FuzzParameters(f *testing.F) {
	names := standard.Names()
	for i, text := range []string{
		`{"sort-by": "{a}"}`, `{"fields": [{"operation": "sum", "source": ["a"], "target": "x"}]}`, `{"in": [{"a": 1}]}`,
		`{"source": {"name": "r", "key": ["a"]}, "target": {"name": "r"}, "fields": {"*": {"aggregate": "set"}}}`, `{"unpivot": [{"name": "(.)", "keys": {"k": "\\1"}}], "extraKeyFields": [{"name": "k"}], "extraValueField": {"name": "v"}}`,
		`{"types": {"a": {"type": "date"}}}`, `{"resources": -1, "metadata": {"schema": 5}}`, `{"fields": {"x": ["a", "b"]}}`,
	} {
		for n := range names {
			f.Add(uint8(n+i), text)
		}
	}
	const in = "{}\n" + `{"name": "p", "resources": [{"name": "r", "path": "r.csv", "dpp:streaming": true, "schema": {"fields": [{"name": "a", "type": "string"}, {"name": "b", "type": "integer"}], "primaryKey": "a"}}, {"name": "q", "readme": 5}]}` +
		"\n\n{\"a\": \"1\", \"b\": 2, \"c\": [1]}\n{\"b\": null}\n\n{}\n\n"
	f.Fuzz(func(t *testing.T, n uint8, text string) {
		v, err := python.ParseJSON([]byte(text))
		m, ok := v.(map[string]any)
		if err != nil || !ok || !json.Valid([]byte(text)) {
			return
		}
		run := names[int(n)%len(names)]
		step, err := standard.New(run, m)
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatal(run, err)
			}
			return
		}
		p, _, err := wire.Read(strings.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		none := nowhere{}
		p, err = standard.Chain(t.Context(), &standard.Env{Temp: t.TempDir(), Sources: none, Places: none}, p, []standard.Step{{Run: run, Processor: step}})
		if err == nil {
			err = wire.Write(t.Context(), io.Discard, p, nil)
		}
		if k := errs.KindOf(err); err != nil && k != errs.Invalid && k != errs.NotFound {
			t.Fatal(run, err)
		}
	})
}

// nowhere has no files and keeps none.
type nowhere struct{}

func (nowhere) Absolute(url string) string { return url }
func (nowhere) Open(context.Context, string) (io.ReadCloser, error) {
	return nil, errs.New(errs.NotFound, "test", "nothing is here")
}
func (nowhere) Put(_ context.Context, _, local string) error { return os.Remove(local) }

// TestLines: a text file is a table of its lines, blank ones left out.
func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64<<10-1) // its CR is the last byte of the reader's buffer
	for _, c := range []struct{ name, body, want, wrong string }{
		{"line ends", "a\r\nb\n\nc", "a|b|c", ""},
		{"a line end over two buffers", long + "\r\nb\n", long + "|b", ""},
		{"a CR at the end of a buffer", long + "\rb\n", long + "\rb", ""},
		{"no bytes", "", "", ""},
		{"another encoding", "a\nb\n\xff\xe9", "", "row 3: the byte at offset 4"},
		{"a long line", "a\n" + strings.Repeat("x", 64<<20+1), "", "row 2: the line is longer than 64 MiB"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x.txt"), []byte(c.body), 0o600); err != nil {
			t.Fatal(err)
		}
		env := &standard.Env{Temp: t.TempDir(), Sources: testDisk{dir}}
		p, err := standard.Chain(t.Context(), env, standard.Empty(), pipeline(t,
			[2]string{"add_resource", `{"name": "x", "url": "x.txt", "encoding": "utf-8"}`}, [2]string{"stream_remote_resources", `{}`}))
		var rows []string
		for table, tableErr := range p.Tables {
			if err = tableErr; err != nil {
				break
			}
			for b, rowErr := range table.Rows {
				if err = rowErr; err != nil {
					break
				}
				for r := range b.Rows() {
					rows = append(rows, string(b.Cell(r, 0)))
				}
			}
		}
		if c.wrong == "" && err != nil || c.wrong != "" && !strings.Contains(errs.Detail(err), c.wrong) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := strings.Join(rows, "|"); got != c.want {
			t.Errorf("%s: %d bytes %.40q, want %d %.40q", c.name, len(got), got, len(c.want), c.want)
		}
	}
}

// TestPacked: what a pipeline loads may be packed, and what is wrong with the packing
// is said by the name of the file.
func TestPacked(t *testing.T) {
	t.Parallel()
	var gz, archive bytes.Buffer
	w := gzip.NewWriter(&gz)
	fmt.Fprint(w, "a\n1\n")
	z := zip.NewWriter(&archive)
	for _, name := range []string{"x.csv", "y.csv"} {
		f, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, "a\n%s\n", name)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, body := range map[string][]byte{"x.csv.gz": gz.Bytes(), "x.zip": archive.Bytes(), "cut.csv.gz": gz.Bytes()[:20], "no.zip": []byte("a\n1\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"x.csv.gz": `{"a": "1"}`, "x.zip": `{"a": "x.csv"}`, "cut.csv.gz": "cut.csv.gz: the gzip file ends too early", "no.zip": "no.zip: the file is not a ZIP archive"} {
		env := &standard.Env{Temp: t.TempDir(), Sources: testDisk{dir}}
		got, err := run(t, env, "", [2]string{"load", `{"from": "` + name + `", "name": "x", "infer_strategy": "strings"}`})
		if err != nil {
			got = errs.Detail(err)
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if left, _ := os.ReadDir(env.Temp); len(left) > 0 {
			t.Errorf("%s: %s is left behind", name, left[0].Name())
		}
	}
}

// TestDescriptorBetweenSteps: each step of a pipeline refuses what is no data package,
// and one of a flow does not look.
func TestDescriptorBetweenSteps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		metadata, want string
		form           standard.Form
	}{
		{`{"name": "ok"}`, "", standard.DPP},
		{`{"name": "Not OK"}`, "step 2, printer: the descriptor is none of a data package: /name must consist of small letters", standard.DPP},
		{`{"licenses": [{}]}`, "step 2, printer: the descriptor is none of a data package: /licenses/0", standard.DPP},
		{`{"name": "Not OK"}`, "", standard.Canonical},
	} {
		_, err := standard.Chain(t.Context(), &standard.Env{Form: c.form}, standard.Empty(), pipeline(t, [2]string{"add_metadata", c.metadata}, [2]string{"printer", `{}`}))
		if c.want == "" && err != nil || c.want != "" && (!errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), c.want)) {
			t.Errorf("%s: %v", c.metadata, err)
		}
	}
}

// TestRowsThatGrow: what becomes of a row or of a key is bounded, so that parameters
// cannot make a small table large in memory.
func TestRowsThatGrow(t *testing.T) {
	t.Parallel()
	cell := strings.Repeat("x", 1<<20)
	var names, cells []string
	for i := range 200 {
		names, cells = append(names, fmt.Sprintf(`{"name": "c%d", "type": "string"}`, i)), append(cells, fmt.Sprintf(`"c%d": "%d"`, i, i))
	}
	in := "{}\n" + `{"name": "p", "resources": [{"name": "r", "path": "r.csv", "dpp:streaming": true, "schema": {"fields": [{"name": "a", "type": "string"}, ` + strings.Join(names, ", ") + "]}}]}" +
		"\n\n" + `{"a": "` + cell + `", ` + strings.Join(cells, ", ") + "}\n\n{}\n\n"
	for _, c := range []struct{ step, parameters, want string }{
		{"add_computed_field", `{"fields": [{"operation": "format", "target": "b", "with": "` + strings.Repeat("{a}", 100) + `"}]}`, "longer than 64 MiB"},
		{"add_computed_field", `{"fields": [{"operation": "join", "target": "b", "with": "", "source": [` + strings.TrimSuffix(strings.Repeat(`"a", `, 100), ", ") + `]}]}`, "longer than 64 MiB"},
		{"find_replace", `{"fields": [{"name": "a", "patterns": [` + strings.TrimSuffix(strings.Repeat(`{"find": "^.*$", "replace": "\\g<0>\\g<0>"}, `, 10), ", ") + `]}]}`, "longer than 64 MiB"},
	} {
		_, err := run(t, &standard.Env{Temp: t.TempDir()}, in, [2]string{c.step, c.parameters})
		if !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), c.want) {
			t.Errorf("%s: %v", c.step, err)
		}
	}
	// A row that becomes many is handed on as they come.
	p, _, err := wire.Read(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	p, err = standard.Chain(t.Context(), &standard.Env{Temp: t.TempDir()}, p, pipeline(t, [2]string{
		"unpivot",
		`{"unpivot": [{"name": "c([0-9]+)", "keys": {"k": "\\1"}}], "extraKeyFields": [{"name": "k", "type": "string"}], "extraValueField": {"name": "v", "type": "string"}}`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	rows, most := 0, 0
	for table, err := range p.Tables {
		if err != nil {
			t.Fatal(err)
		}
		for b, err := range table.Rows {
			if err != nil {
				t.Fatal(err)
			}
			rows += b.Rows()
			most = max(most, b.Bytes())
		}
	}
	if rows != 200 || most > 2<<20 {
		t.Errorf("%d rows, in batches of up to %d bytes", rows, most)
	}
}

// TestDelimiterIsFound: what else is said of a file does not settle its delimiter.
func TestDelimiterIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, options, want string }{
		{"1;x\n2;y\n", `"headers": ["p", "q"]`, `{"p": "1", "q": "x"}`},
		{"# no\np;q\n1;x\n", `"skip_rows": ["#"]`, `{"p": "1", "q": "x"}`},
		{"no\np;q\n1;x\n", `"headers": 2`, `{"p": "1", "q": "x"}`},
		{"p;q\n1,2;x\n", `"delimiter": ","`, `{"p;q": "1"`},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x.csv"), []byte(c.body), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := run(t, &standard.Env{Temp: t.TempDir(), Sources: testDisk{dir}}, "", [2]string{"load", `{"from": "x.csv", "name": "x", "infer_strategy": "strings", ` + c.options + `}`})
		if strings.Contains(c.want, ";") {
			if err == nil {
				t.Errorf("%s: %s", c.options, got)
			}
			continue
		}
		if err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s: %v\n%s", c.options, err, got)
		}
	}
}
