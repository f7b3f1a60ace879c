package engine_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/engine"
)

// verdict is what a flow makes of one table.
type verdict struct {
	success bool     // its CSV was published
	errors  []string // of its report: row and code
	valid   bool     // as its report says
	notes   []string
	json    string // the rows
}

// flowOf runs a flow of one table and returns its verdict.
func flowOf(t *testing.T, resource map[string]any, file, body string) verdict {
	t.Helper()
	resource = maps.Clone(resource)
	resource["name"], resource["path"] = "a", file
	text, err := json.Marshal(resource)
	if err != nil {
		t.Fatal(err)
	}
	src, sink := good(), &folder{dir: t.TempDir()}
	src.text[file] = body
	out, _, err := observed(t, t.Context(), engine.Flow{Sources: src, Sink: sink, Pipelines: pipelines(t, spec(string(text)))})
	if err != nil {
		t.Fatal(err)
	}
	v := verdict{success: said(out, "a_csv") == "", json: sink.puts["data/a_json.json"]}
	var report []struct {
		Valid    bool
		Warnings []string
		Tables   []struct {
			Errors []struct {
				Code string
				Row  int64 `json:"row-number"`
			}
		}
	}
	if err := json.Unmarshal([]byte(sink.puts["data/validation_report.json"]), &report); err != nil || len(report) != 1 {
		t.Fatalf("%v: %s", err, sink.puts["data/validation_report.json"])
	}
	v.valid, v.notes = report[0].Valid, report[0].Warnings
	for _, e := range report[0].Tables[0].Errors {
		v.errors = append(v.errors, fmt.Sprintf("%d %s", e.Row, e.Code))
	}
	return v
}

// matched is a schema with fieldsMatch.
func matched(schema map[string]any, word any) map[string]any {
	schema = maps.Clone(schema)
	schema["fieldsMatch"] = word
	return schema
}

// TestVerdicts: what validate refuses a flow does not publish, but where the difference
// is one that docs/flow-spec.md lists, and a flow's report agrees with its state.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	ab := fields("a", "integer", "b", "string")
	key := m{"fields": ab["fields"], "primaryKey": []any{"a", "b"}}
	for _, c := range []struct {
		name, file string
		schema     m
		body       string
		validate   []string // row and code
		flow       []string // row and code of the published report
		rows       string   // the published rows where there are no errors
		note       string
	}{
		// Rows that are longer than the header.
		{"the first", "a.csv", ab, "a,b\n1,x,z\n2,y\n", []string{"2 extra-cell"}, []string{"2 extra-value"}, "", ""},
		{"one in the midst", "a.csv", ab, "a,b\n1,x\n2,y,z\n3,u\n", []string{"3 extra-cell"}, []string{"3 extra-value"}, "", ""},
		{"the last", "a.csv", ab, "a,b\n1,x\n2,y,z", []string{"3 extra-cell"}, []string{"3 extra-value"}, "", ""},
		{"all but the last", "a.csv", ab, "a,b\n1,x,z\n2,y,z\n3,u\n", []string{"2 extra-cell", "3 extra-cell"}, []string{"2 extra-value", "3 extra-value"}, "", ""},
		{"all, not by the same", "a.csv", ab, "a,b\n1,x,z\n2,y,z,z\n", []string{"2 extra-cell", "3 extra-cell", "3 extra-cell"}, []string{"2 extra-value", "3 extra-value", "3 extra-value"}, "", ""},
		{"all, then a short one", "a.csv", ab, "a,b\n1,x,z\n2,y,z\n3\n", []string{"2 extra-cell", "3 extra-cell", "4 missing-cell"}, []string{"2 extra-value", "3 extra-value", "4 missing-value"}, "", ""},
		{"all", "a.csv", ab, "a,b\n1,x,z\n2,y,\n", []string{"2 extra-cell", "3 extra-cell"}, nil, `{"a": 1, "b": "x"},{"a": 2, "b": "y"}`, "column 3 has no header in any row"},
		{"all, by several", "a.csv", ab, "a,b\n1,x,z,u\n2,y,,\n", []string{"2 extra-cell", "2 extra-cell", "3 extra-cell", "3 extra-cell"}, nil, `{"a": 1, "b": "x"},{"a": 2, "b": "y"}`, "columns 3 to 4 have no header"},
		{"all, blank rows aside", "a.csv", ab, "a,b\n\n1,x,z\n\n2,y,\n", []string{"2 blank-row", "3 extra-cell", "4 blank-row", "5 extra-cell"}, nil, `{"a": 1, "b": "x"},{"a": 2, "b": "y"}`, "column 3"},
		{"the only row", "a.csv", ab, "a,b\n1,x,z\n", []string{"2 extra-cell"}, []string{"2 extra-value"}, "", ""},
		{"tabs", "a.tsv", ab, "a\tb\n1\tx\tz\n2\ty\n", []string{"2 extra-cell"}, []string{"2 extra-value"}, "", ""},
		{"arrays of JSON", "a.json", ab, `[["a","b"],[1,"x","z"],[2,"y"]]`, []string{"2 extra-cell"}, []string{"2 extra-value"}, "", ""},
		{"arrays of NDJSON", "a.ndjson", ab, "[\"a\",\"b\"]\n[1,\"x\"]\n[2,\"y\",1]\n", []string{"3 extra-cell"}, []string{"3 extra-value"}, "", ""},
		{"far behind the start", "a.csv", ab, "a,b\n" + strings.Repeat("1,x\n", 5000) + "2,y,z\n", []string{"5002 extra-cell"}, []string{"5002 extra-value"}, "", ""},

		// Rows without any value.
		{"blank lines", "a.csv", ab, "a,b\n1,x\n\n,\n", []string{"3 blank-row", "4 blank-row"}, nil, `{"a": 1, "b": "x"}`, "2 blank rows were skipped"},
		{"nulls of JSON", "a.json", ab, `[{"a":1,"b":"x"},{"a":null,"b":null},{},{"a":2,"b":"y"}]`, nil, nil, `{"a": 1, "b": "x"},{"a": null, "b": null},{"a": null, "b": null},{"a": 2, "b": "y"}`, ""},
		{"nulls of NDJSON", "a.ndjson", ab, "{\"a\":1,\"b\":\"x\"}\n{}\n{\"a\":null}\n", nil, nil, `{"a": 1, "b": "x"},{"a": null, "b": null},{"a": null, "b": null}`, ""},
		{"empty texts of JSON", "a.json", fields("b", "string"), `[{"b":""},{"b":" "},{"b":"x"}]`, nil, nil, `{"b": null},{"b": " "},{"b": "x"}`, ""},
		{"nulls of arrays", "a.json", ab, `[["a","b"],[null,null],[1,"x"]]`, nil, nil, `{"a": null, "b": null},{"a": 1, "b": "x"}`, ""},
		{"arrays without anything", "a.json", ab, `[["a","b"],[],[1,"x"]]`, []string{"2 missing-cell", "2 missing-cell"}, []string{"2 missing-value", "2 missing-value"}, "", ""},

		// Keys with a part that has no value.
		{"a part of a key", "a.csv", key, "a,b\n1,x\n1,\n2,y\n", []string{"3 primary-key"}, []string{"3 unique-constraint"}, "", ""},
		{"the first part of a key", "a.csv", key, "a,b\n1,x\n,y\n", []string{"3 primary-key"}, []string{"3 unique-constraint"}, "", ""},
		{"the same part twice", "a.csv", key, "a,b\n1,\n1,\n", []string{"2 primary-key", "3 primary-key"}, []string{"2 unique-constraint", "3 unique-constraint"}, "", ""},
		{"a null of JSON in a key", "a.json", key, `[{"a":1,"b":"x"},{"a":2}]`, []string{"3 primary-key"}, []string{"3 unique-constraint"}, "", ""},
		{"a missing value in a key", "a.csv", m{"fields": ab["fields"], "primaryKey": []any{"a", "b"}, "missingValues": []any{"NA"}}, "a,b\n1,NA\n2,\n", []string{"2 primary-key"}, []string{"2 unique-constraint"}, "", ""},

		// Labels.
		{"a label twice", "a.csv", fields("a", "integer", "a2", "integer"), "a,a\n1,2\n", []string{"0 duplicate-label"}, nil, `{"a": 1, "a2": 2}`, "was used before"},
		{"a label twice, another field", "a.csv", fields("a", "integer", "b", "integer"), "a,a\n1,2\n", []string{"0 duplicate-label", "0 incorrect-label"}, []string{"0 non-matching-header"}, "", ""},

		// GeoJSON, missing values.
		{"a blank that is a missing value", "a.csv", m{"fields": ab["fields"], "missingValues": []any{" "}}, "a,b\n ,x\n", nil, nil, `{"a": null, "b": "x"}`, ""},
		{"a missing value with blanks round it", "a.csv", m{"fields": ab["fields"], "missingValues": []any{"NA"}}, "a,b\n NA ,x\n", []string{"2 type-error"}, nil, `{"a": null, "b": "x"}`, ""},

		// Keys of JSON.
		{"a key that comes late", "a.json", ab, `[{"a":1},{"b":"x"}]`, nil, nil, `{"a": 1, "b": null},{"a": null, "b": "x"}`, ""},
		{"a key of NDJSON that comes late", "a.ndjson", ab, "{\"b\":\"x\"}\n{\"a\":1}\n", nil, nil, `{"a": null, "b": "x"},{"a": 1, "b": null}`, ""},
		{"a key that never comes", "a.json", ab, `[{"a":1}]`, nil, nil, `{"a": 1, "b": null}`, ""},
		{"a key of no field, first", "a.json", ab, `[{"c":1,"a":1,"b":"x"}]`, []string{"0 extra-label"}, []string{"0 extra-header"}, "", ""},
		{"a key of no field, late", "a.json", ab, `[{"a":1,"b":"x"},{"c":1}]`, []string{"0 extra-label"}, []string{"0 extra-header"}, "", ""},
		{"a key of no field, subset", "a.json", matched(ab, "subset"), `[{"a":1,"b":"x"},{"c":1}]`, nil, nil, `{"a": 1, "b": "x"},{"a": null, "b": null}`, `no field for the key "c"`},
		{"a key in another case", "a.json", ab, `[{"A":1,"b":"x"}]`, []string{"0 extra-label"}, nil, `{"a": 1, "b": "x"}`, ""},
		{"a mark before JSON", "a.json", ab, "\ufeff" + `[{"a":1,"b":"x"}]`, nil, nil, `{"a": 1, "b": "x"}`, ""},
		{"rows in an object", "a.json", ab, `{"note":"x","rows":[{"a":1,"b":"x"}],"n":[1,2]}`, nil, nil, `{"a": 1, "b": "x"}`, ""},
		{"rows in an object, twice", "a.json", ab, `{"r":[{"a":1}],"s":[{"a":1}]}`, []string{"0 source-error"}, []string{"0 source-error"}, "", ""},
		{"features in a .json file", "a.json", fields("n", "integer", "geometry", "geojson"), `{"features":[{"type":"Feature","properties":{"n":1},"geometry":null}],"type":"FeatureCollection"}`, nil, nil, `{"n": 1, "geometry": null}`, ""},

		// How fields and columns belong together.
		{"another order", "a.csv", ab, "b,a\nx,1\n", []string{"0 incorrect-label", "0 incorrect-label", "2 type-error"}, nil, `{"a": 1, "b": "x"}`, ""},
		{"another order, exact", "a.csv", matched(ab, "exact"), "b,a\nx,1\n", []string{"0 incorrect-label", "0 incorrect-label", "2 type-error"}, []string{"0 non-matching-header", "0 non-matching-header", "2 type-or-format-error"}, "", ""},
		{"another order, equal", "a.csv", matched(ab, "equal"), "b,a\nx,1\n", nil, nil, `{"a": 1, "b": "x"}`, ""},
		{"as a list", "a.csv", matched(ab, []any{"equal"}), "b,a\nx,1\n", nil, nil, `{"a": 1, "b": "x"}`, ""},
		{"equal, one lacks", "a.csv", matched(ab, "equal"), "b\nx\n", []string{"0 missing-label"}, []string{"0 missing-header"}, "", ""},
		{"equal, one more", "a.csv", matched(ab, "equal"), "c,b,a\n,x,1\n", []string{"0 extra-label"}, []string{"0 extra-header"}, "", ""},
		{"subset, one more", "a.csv", matched(ab, "subset"), "c,b,a\n9,x,1\n", nil, nil, `{"a": 1, "b": "x"}`, `no field for the header "c"`},
		{"subset, one lacks", "a.csv", matched(ab, "subset"), "c,b\n9,x\n", []string{"0 missing-label"}, []string{"0 missing-header"}, "", ""},
		{"superset, one lacks", "a.csv", matched(ab, "superset"), "b\nx\n", nil, nil, `{"a": null, "b": "x"}`, ""},
		{"superset, one more", "a.csv", matched(ab, "superset"), "b,c\nx,9\n", []string{"0 extra-label"}, []string{"0 extra-header"}, "", ""},
		{"superset, a key lacks", "a.csv", matched(m{"fields": ab["fields"], "primaryKey": "a"}, "superset"), "b\nx\n", []string{"2 primary-key"}, []string{"2 unique-constraint"}, "", ""},
		{"superset, a required field lacks", "a.csv", matched(m{"fields": []any{m{"name": "a", "constraints": m{"required": true}}, m{"name": "b"}}}, "superset"), "b\nx\n", []string{"0 missing-label"}, []string{"0 missing-header"}, "", ""},
		{"partial", "a.csv", matched(ab, "partial"), "c,a\n9,1\n", nil, nil, `{"a": 1, "b": null}`, `"c"`},
		{"partial, nothing in common", "a.csv", matched(ab, "partial"), "c,d\n9,1\n", []string{"0 missing-label"}, []string{"0 missing-header"}, "", ""},
		{"no such word", "a.csv", matched(ab, "similar"), "a,b\n1,x\n", []string{"0 schema-error"}, []string{"0 schema-error"}, "", ""},
		{"a ragged row behind a column more", "a.csv", matched(ab, "subset"), "a,c,b\n1,9\n", []string{"2 missing-cell"}, []string{"2 missing-value"}, "", ""},
		{"without a header", "a.csv", matched(ab, "equal"), "a,b\n1,x\n", nil, nil, `{"a": 1, "b": "x"}`, ""},
	} {
		resource := m{"name": "a", "schema": c.schema}
		_, ending, _ := strings.Cut(c.file, ".")
		if got := found(validate(t, resource, ending, []byte(c.body))); !slices.Equal(got, c.validate) {
			t.Errorf("%s: validate finds %q, want %q", c.name, got, c.validate)
		}
		v := flowOf(t, resource, c.file, c.body)
		slices.Sort(v.errors)
		if !slices.Equal(v.errors, c.flow) {
			t.Errorf("%s: the flow finds %q, want %q", c.name, v.errors, c.flow)
		}
		if v.success != v.valid || v.success != (len(c.flow) == 0) {
			t.Errorf("%s: published %v, and the report says %v", c.name, v.success, v.valid)
		}
		want := ""
		if c.rows != "" {
			want = "[\n" + strings.ReplaceAll(c.rows, "},{", "},\n{") + "\n]\n"
		}
		if v.json != want {
			t.Errorf("%s: %q, want %q", c.name, v.json, want)
		}
		if !strings.Contains(strings.Join(v.notes, "; "), c.note) {
			t.Errorf("%s: notes %q, want %q", c.name, v.notes, c.note)
		}
	}
}
