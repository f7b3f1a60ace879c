package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/plan"
)

// spec is a Flow-Spec with resources.
func spec(resources ...string) string {
	return "meta: {ownerid: me, dataset: d}\ninputs:\n- kind: datapackage\n  url: https://example.org/d/datapackage.json\n" +
		"  parameters:\n    descriptor:\n      resources:\n      - " + strings.Join(resources, "\n      - ") + "\n"
}

const (
	pointing = "{name: a, path: a.csv, schema: {fields: [{name: n, type: integer}], foreignKeys: [{fields: n, reference: {resource: b, fields: n}}]}}"
	pointed  = "{name: b, path: b.csv, schema: {fields: [{name: n, type: integer}]}}"
)

// said gives what a flow says of a pipeline that failed.
func said(out *engine.Outcome, id string) string {
	for _, p := range out.Pipelines {
		if p.ID == "me/d/1/"+id {
			return strings.Join(p.Errors, "\n")
		}
	}
	return ""
}

// TestForeignKeysOfABrokenTable: keys that were not read are not missing.
func TestForeignKeysOfABrokenTable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, b, want string }{
		{"whole", "n\n1\n2\n", ""},
		{"without a key", "n\n1\n", "row 3: the value of (n) is not in the field (n)"},
		{"broken off", "n\n9\nx\x00\n1\n2\n", `cannot be looked up: the table "b" cannot be read to its end`},
		{"empty", "", `cannot be looked up: the table "b" cannot be read to its end`},
	} {
		src := good()
		src.text["b.csv"] = c.b
		out, _, err := observed(t, t.Context(), engine.Flow{Pipelines: pipelines(t, spec(pointing, pointed)), Sources: src, Sink: &folder{dir: t.TempDir()}})
		if err != nil {
			t.Fatal(err)
		}
		got := said(out, "a_csv")
		if !strings.Contains(got, c.want) || (c.want == "") != (got == "") || c.want != "" && strings.Count(got, "(foreign-key)") != 1 {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

// TestGoingOnWithForeignKeys: a table that is done already is read for its keys.
func TestGoingOnWithForeignKeys(t *testing.T) {
	t.Parallel()
	raw, err := flowspec.ParseYAML([]byte(spec(pointing, pointed)))
	if err != nil {
		t.Fatal(err)
	}
	s, problems := flowspec.Check(raw)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	list, err := plan.Plan(plan.Input{Spec: s, Revision: "1", AllowedTypes: []string{"derived/csv"}, Settings: plan.Settings{Local: true}})
	if err != nil {
		t.Fatal(err)
	}
	src, sink := good(), &folder{dir: t.TempDir()}
	src.text["b.csv"] = "n\n1\n2\n"
	done := map[string]*engine.Result{}
	stop := errors.New("killed")
	_, _, err = observed(t, t.Context(), engine.Flow{Pipelines: list, Sources: src, Sink: sink, Report: func(_ context.Context, news []engine.Event) error {
		for _, e := range news {
			if e.Kind == engine.Finish && e.Pipeline == "me/d/1/b_csv" {
				done[e.Pipeline] = e.Result
				return stop
			}
		}
		return nil
	}})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	out, _, err := observed(t, t.Context(), engine.Flow{Pipelines: list, Sources: src, Sink: sink, Done: done})
	if err != nil || !out.Success {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestNullSequence: what the dialect writes for no value is published as none.
func TestNullSequence(t *testing.T) {
	t.Parallel()
	src, sink := good(), &folder{dir: t.TempDir()}
	src.text["a.csv"] = "n\n\\N\n1\n"
	out, _, err := observed(t, t.Context(), engine.Flow{Sources: src, Sink: sink, Pipelines: pipelines(t,
		spec(`{name: a, path: a.csv, dialect: {nullSequence: '\N'}, schema: {fields: [{name: n, type: integer}]}}`))})
	if err != nil || !out.Success || sink.puts["data/a_json.json"] != "[\n{\"n\": null},\n{\"n\": 1}\n]\n" {
		t.Errorf("%q, %+v, %v", sink.puts["data/a_json.json"], out, err)
	}
}

// TestPathsStayInside: a step cannot put a file beside the package, in the store,
// in a folder or in the archive.
func TestPathsStayInside(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"../../z.csv", "/z.csv", `..\z.csv`, `C:\z.csv`, "data/../../z.csv"} {
		sink := &folder{dir: t.TempDir()}
		text := twoTables + "processing:\n- {input: a, output: c, dpp: [{run: assembler.update_resource, parameters: {name: c, update: {name: z, path: '" + path + "'}}}]}\n"
		out, ended, err := observed(t, t.Context(), engine.Flow{Pipelines: pipelines(t, text), Sources: good(), Sink: sink})
		if err != nil || out.Success || ended["me/d/1/c_csv"] || !ended["me/d/1/b_csv"] {
			t.Fatalf("%v, %v", ended, err)
		}
		if got := said(out, "c_csv"); !strings.Contains(got, "must be relative and inside the package") {
			t.Errorf("%s: %s", path, got)
		}
		for put := range sink.puts {
			if strings.Contains(put, "z.csv") {
				t.Errorf("%s was kept", put)
			}
		}
	}
}

// TestStopWhilePacking: an archive that is being made is no reason to go on.
func TestStopWhilePacking(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("stopped")
	sink := &folder{dir: t.TempDir()}
	_, ended, err := observed(t, ctx, engine.Flow{
		Pipelines: pipelines(t, twoTables), Sources: good(), Sink: sink,
		Report: func(_ context.Context, news []engine.Event) error {
			for _, e := range news {
				if e.Kind == engine.Start && e.Pipeline == "me/d/1/d_zip" {
					cancel(cause)
				}
			}
			return nil
		},
	})
	if _, there := sink.puts["data/d_zip.zip"]; !errors.Is(err, cause) || ended["me/d/1/d_zip"] || there {
		t.Errorf("%v, %v", ended, err)
	}
}

// TestWhatIsSaid: an error says what is wrong and where.
func TestWhatIsSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ resource, body, want string }{
		{"skip_rows: x", "n\n1\n", "skip_rows must be a whole number"},
		{"skip_rows: 7", "n\n1\n", "ends after row 2"},
		{"dialect: {quoteChar: ab}", "n\n1\n", "dialect/quoteChar"},
		{"encoding: klingon", "n\n1\n", "klingon"},
		{"encoding: utf-8", "n\n1\n\xff\n", "offset 4"},
		{"format: docx", "n\n1\n", `format "docx"`},
		{"title: x", "", "the file is empty"},
		{"title: x", "n\nx\n" + "1\x00\n", `"x" is not an integer`}, // also before a row that cannot be read
		{"title: x", "n\n1\n1\x00\n", "row 3: the file holds a NUL byte"},
		{"title: x", "n\n\"1\n2\n", `row 2: the quote that opens`},
	} {
		src := good()
		src.text["a.csv"] = c.body
		out, _, err := observed(t, t.Context(), engine.Flow{Sources: src, Sink: &folder{dir: t.TempDir()}, Pipelines: pipelines(t,
			spec("{name: a, path: a.csv, schema: {fields: [{name: n, type: integer}]}, "+c.resource+"}"))})
		if err != nil || !strings.Contains(said(out, "a_csv"), c.want) {
			t.Errorf("%s: %q, %v", c.resource, said(out, "a_csv"), err)
		}
	}
	if _, err := engine.Execute(t.Context(), engine.Flow{}); !errs.Is(err, errs.Invalid) {
		t.Errorf("a flow of nothing: %v", err)
	}
}

// TestRowsBeforeTheBreak: what is wrong before a row that cannot be read is found.
func TestRowsBeforeTheBreak(t *testing.T) {
	t.Parallel()
	r := validate(t, map[string]any{
		"name": "a", "schema": map[string]any{"fields": []any{map[string]any{"name": "n", "type": "integer"}}, "primaryKey": "n"},
	}, "csv", []byte("n\n1\nx\n1\n5\x00\n6\n"))
	if got := found(r); !slices.Equal(got, []string{"3 type-error", "4 primary-key", "5 source-error"}) || r.Rows != 3 {
		t.Errorf("%q, %d rows", got, r.Rows)
	}
}

// TestHugeHeader: what is kept of a problem is short however long a cell is.
func TestHugeHeader(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("é", 1<<19)
	r := validate(t, map[string]any{
		"name": "a", "schema": map[string]any{"fields": []any{map[string]any{"name": "n", "type": "integer"}}},
	}, "csv", []byte(label+","+label+"\n"+label+"\n"))
	if len(r.Problems.First) < 4 {
		t.Errorf("%q", found(r))
	}
	for _, p := range r.Problems.First {
		if n := len(fmt.Sprintf("%+v", p)); n > 3000 {
			t.Errorf("a problem of %d bytes: %.300s", n, p.Message)
		}
	}
}
