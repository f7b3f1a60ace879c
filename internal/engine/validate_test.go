package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/testkit"
)

// cases reads a file of captured cases, a JSON object a line.
func cases(t *testing.T, elem ...string) []map[string]any {
	t.Helper()
	b, err := os.ReadFile(testkit.Shared(t, append([]string{"cases"}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]any
	for line := range bytes.Lines(b) {
		c, err := datapackage.Decode(bytes.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func validate(t *testing.T, resource map[string]any, format string, body []byte) *engine.TableReport {
	t.Helper()
	reports, err := engine.Validate(t.Context(), t.TempDir(), []engine.TableInput{{
		Resource: resource, Format: format,
		Open: func(context.Context, int) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	return reports[0]
}

// found lists what a report says: row and code.
func found(r *engine.TableReport) []string {
	var out []string
	for _, p := range r.Problems.First {
		out = append(out, fmt.Sprintf("%d %s", p.Row, p.Code))
	}
	slices.Sort(out)
	return out
}

// TestUniqueCases holds keys against the captured tables.
func TestUniqueCases(t *testing.T) {
	t.Parallel()
	// A row of one empty cell is a blank row in a file; the cases cast cells alone.
	// A primary key with one null part is an error (DESIGN section 9), and none in primarykey-05.
	skip := []string{"unique-11", "unique-13", "primarykey-05"}
	for _, c := range cases(t, "cast", "unique.jsonl") {
		id := c["id"].(string)
		if slices.Contains(skip, id) {
			continue
		}
		schema, ok := c["schema"].(map[string]any)
		if !ok {
			schema = map[string]any{"fields": []any{c["field"]}}
		}
		if m, ok := c["missingValues"]; ok {
			schema["missingValues"] = m
		}
		var rows [][]any
		if list, ok := c["rows"].([]any); ok {
			for _, r := range list {
				rows = append(rows, r.([]any))
			}
		} else {
			for _, cell := range c["cells"].([]any) {
				rows = append(rows, []any{cell})
			}
		}
		var b bytes.Buffer
		line := func(cells []any) {
			for i, cell := range cells {
				if i > 0 {
					b.WriteByte(',')
				}
				fmt.Fprintf(&b, `"%s"`, strings.ReplaceAll(cell.(string), `"`, `""`))
			}
			b.WriteByte('\n')
		}
		var names []any
		for _, f := range schema["fields"].([]any) {
			names = append(names, f.(map[string]any)["name"])
		}
		line(names)
		for _, r := range rows {
			line(r)
		}
		var want []string
		for _, e := range c["expect"].(map[string]any)["errors"].([]any) {
			m := e.(map[string]any)
			n, err := m["row"].(json.Number).Int64()
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprintf("%d %s", n+1, m["error"])) // the header is row 1
		}
		slices.Sort(want)
		got := found(validate(t, map[string]any{"name": "t", "dialect": map[string]any{}, "schema": schema}, "csv", b.Bytes()))
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
}

// TestExactCounts: beyond a thousand errors are counted and not kept.
func TestExactCounts(t *testing.T) {
	t.Parallel()
	body := []byte("n\n" + strings.Repeat("x\n", 5000))
	r := validate(t, map[string]any{"name": "t", "schema": map[string]any{"fields": []any{map[string]any{"name": "n", "type": "integer"}}}}, "csv", body)
	if len(r.Problems.First) != 1000 || r.Problems.Total != 5000 || r.Problems.Counts["type-error"] != 5000 || r.Rows != 5000 {
		t.Errorf("%d kept, %d counted, %v, %d rows", len(r.Problems.First), r.Problems.Total, r.Problems.Counts, r.Rows)
	}
}
