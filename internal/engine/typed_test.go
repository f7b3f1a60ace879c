package engine_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/datahq/specstore/internal/format/xlsx"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
	"github.com/datahq/specstore/internal/testkit"
)

// TestTypedCells: a cell of a workbook is judged by what it is: nulls are nulls
// whatever the missing values are, dates are dates, rows between have no values.
func TestTypedCells(t *testing.T) {
	t.Parallel()
	field := func(name, kind string) map[string]any { return map[string]any{"name": name, "type": kind} }
	fields := []any{field("d", "date"), field("n", "number"), field("s", "string")}
	schema := testkit.Must(tableschema.Parse(map[string]any{"fields": fields}))(t)
	var b bytes.Buffer
	w := testkit.Must(xlsx.NewWriter(&b, "x", schema))(t)
	batch := &stream.Batch{}
	for i, row := range [][]string{{"2020-01-02", "1.5", "x"}, {"", "", ""}, {"2020-01-02", "", ""}, {"", "2", "NA"}, {"1890-01-01", "1", "z"}} {
		for _, c := range row {
			if c == "" {
				batch.AppendNull()
			} else {
				batch.Append([]byte(c))
			}
		}
		batch.EndRow(int64(i + 2))
	}
	if err := w.WriteBatch(batch); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	required := field("d", "date")
	required["format"] = "%d/%m/%Y" // of texts alone: the last row's is one, as Excel has no such day
	required["constraints"] = map[string]any{"required": true}
	r := validate(t, map[string]any{
		"name": "a", "schema": map[string]any{"fields": []any{required, field("n", "number"), field("s", "string")}, "missingValues": []any{"NA"}},
	}, "xlsx", b.Bytes())
	if got := found(r); !slices.Equal(got, []string{"3 blank-row", "5 constraint-error", "6 type-error"}) || r.Rows != 4 {
		t.Errorf("%q, %d rows", got, r.Rows)
	}
}
