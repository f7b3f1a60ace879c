package engine_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/engine"
)

// TestCost bounds what a row costs, in allocations, which do not depend on the machine:
// what a table of 40,000 rows takes beyond one of 20,000. A step that boxes cells, or
// keeps rows, shows here at once. The race detector takes pooled memory away by chance, so
// that under it nothing is bounded.
func TestCost(t *testing.T) {
	for _, c := range []struct {
		outputs string
		most    float64 // allocations a row
	}{
		{"", 0.05},
		{"outputs: [{kind: parquet}]\n", 0.1},
		{"outputs: [{kind: sqlite}]\n", 18},
	} {
		list := pipelines(t, c.outputs+strings.ReplaceAll(twoTables, "{fields: [{name: n, type: integer}]}",
			`{fields: [{name: n, type: integer}, {name: at, type: datetime}, {name: price, type: number}, {name: note, type: string}]}`))
		cost := func(rows int) float64 {
			var text strings.Builder
			text.WriteString("n,at,price,note\n")
			for i := range rows {
				fmt.Fprintf(&text, "%d,2020-01-02T03:04:05Z,%d.95,note %d\n", i, i, i)
			}
			src := good()
			src.text["a.csv"], src.text["b.csv"] = text.String(), "n,at,price,note\n"
			sink := &folder{dir: t.TempDir()}
			temp := t.TempDir()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			out, err := engine.Execute(t.Context(), engine.Flow{Pipelines: list, Sources: src, Sink: sink, Temp: temp})
			runtime.ReadMemStats(&after)
			if err != nil || !out.Success {
				t.Fatalf("%+v, %v", out, err)
			}
			return float64(after.Mallocs - before.Mallocs)
		}
		cost(20_000) // what is made once
		perRow := (cost(40_000) - cost(20_000)) / 20_000
		t.Logf("%q: %.3f allocations a row", c.outputs, perRow)
		if perRow > c.most && !underRace {
			t.Errorf("%q: %.3f allocations a row, at most %.2f are allowed", c.outputs, perRow, c.most)
		}
	}
}
