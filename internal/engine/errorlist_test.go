package engine_test

import (
	"encoding/csv"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/engine"
)

// TestErrorsOfReport: a published report as CSV names the places of its errors, and no
// cell of a stranger's is a formula in it.
func TestErrorsOfReport(t *testing.T) {
	t.Parallel()
	src, sink := good(), &folder{dir: t.TempDir()}
	src.text["a.csv"] = "n\n1\n=1+1\n" + strings.Repeat("x\n", 1500)
	if _, _, err := observed(t, t.Context(), engine.Flow{Pipelines: pipelines(t, twoTables), Sources: src, Sink: sink}); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := engine.ErrorsOfReport(&b, strings.NewReader(sink.puts["data/validation_report.json"])); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil || len(rows) != 1002 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if want := []string{"a", "3", "1", "n", "type-or-format-error", `field "n": "=1+1" is not an integer`, "'=1+1"}; !slices.Equal(rows[1], want) {
		t.Errorf("%q, want %q", rows[1], want)
	}
	if last := rows[1001]; last[4] != "note" || !strings.Contains(last[5], "first 1,000") {
		t.Errorf("%q", last)
	}
	for _, broken := range []string{"", "[", `[{"tables": 1}]`, "{"} {
		if err := engine.ErrorsOfReport(&b, strings.NewReader(broken)); err == nil {
			t.Errorf("%q: no error", broken)
		}
	}
}
