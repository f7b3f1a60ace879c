package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/plan"
)

// BenchmarkReport measures what the report costs over plain conversion to CSV and JSON:
// the flow with its report and without it take turns, and the metric is the median of
// their ratios. Of the spoiled table every row has an error.
func BenchmarkReport(b *testing.B) {
	const rows = 300_000
	schema := `{fields: [{name: id, type: integer}, {name: at, type: datetime}, {name: price, type: number}, {name: note, type: string}]}`
	all := pipelines(b, strings.ReplaceAll(twoTables, "{fields: [{name: n, type: integer}]}", schema))
	flow := func(artifacts ...string) []plan.Pipeline {
		return slices.DeleteFunc(slices.Clone(all), func(p plan.Pipeline) bool {
			return !slices.Contains(artifacts, strings.TrimPrefix(p.ID, "me/d/1/"))
		})
	}
	plain, reported := flow("a_csv", "a_json"), flow("validation_report", "a_csv", "a_json")
	for _, c := range []struct{ name, price string }{{"clean", "19.95"}, {"spoiled", "1O.95"}} {
		b.Run(c.name, func(b *testing.B) {
			var text strings.Builder
			text.WriteString("id,at,price,note\n")
			for i := range rows {
				fmt.Fprintf(&text, "%d,2020-01-02T03:04:05Z,%s,a note of usual length\n", i, c.price)
			}
			src := good()
			src.text["a.csv"], src.text["b.csv"] = text.String(), "id,at,price,note\n"
			once := func(list []plan.Pipeline) float64 {
				begun := time.Now()
				if _, err := engine.Execute(b.Context(), engine.Flow{Pipelines: list, Sources: src, Sink: &folder{dir: b.TempDir()}, Temp: b.TempDir()}); err != nil {
					b.Fatal(err)
				}
				return float64(time.Since(begun))
			}
			var ratios []float64
			for b.Loop() {
				ratios = append(ratios, once(reported)/once(plain))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "report/plain")
		})
	}
}
