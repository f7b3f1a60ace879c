package standard_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/processor/standard"
	"github.com/datahq/specstore/internal/stream"
)

// TestMadeRows: a row that steps make has a limit, whichever step makes it long, and not
// only its cells. The message names step, row and field.
func TestMadeRows(t *testing.T) {
	t.Parallel()
	times := func(n int, text string) string {
		return strings.TrimSuffix(strings.Repeat(text+", ", n), ", ")
	}
	numbered := func(n int, form string) string {
		list := make([]string, n)
		for i := range list {
			list[i] = strings.ReplaceAll(form, "N", fmt.Sprint(i))
		}
		return strings.Join(list, ", ")
	}
	joined := `{"operation": "join", "target": "j", "with": "", "source": [` + times(700, `"a"`) + `]}`
	for name, c := range map[string]struct {
		steps [][2]string
		want  []string
	}{
		"copies of a joined cell": {[][2]string{{"add_computed_field", `{"fields": [` + joined + `, ` + numbered(40, `{"operation": "join", "target": "cN", "with": "", "source": ["j"]}`) + `]}`}}, []string{"step 1, add_computed_field", `field "c2"`, "row 1"}},
		"copies in steps": {[][2]string{
			{"add_computed_field", `{"fields": [` + joined + `]}`},
			{"add_computed_field", `{"fields": [{"operation": "format", "target": "x", "with": "{j}"}]}`},
			{"add_computed_field", `{"fields": [{"operation": "max", "target": "y", "source": ["j"]}, {"operation": "format", "target": "z", "with": "{j}"}]}`},
		}, []string{"step 3, add_computed_field", `field "z"`, "row 1"}},
		"constants": {[][2]string{{"add_computed_field", `{"fields": [` + numbered(3, `{"operation": "constant", "target": "cN", "with": "`+strings.Repeat("x", 45<<20)+`"}`) + `]}`}}, []string{`field "c2"`, "row 1"}},
		"replaced": {[][2]string{
			{"add_computed_field", `{"fields": [` + numbered(40, `{"operation": "join", "target": "cN", "with": "", "source": [`+times(30, `"a"`)+`]}`) + `]}`},
			{"find_replace", `{"fields": [` + numbered(40, `{"name": "cN", "patterns": [{"find": "^.*$", "replace": "\\g<0>\\g<0>\\g<0>"}]}`) + `]}`},
		}, []string{"step 2, find_replace", `field "c`, "row 1"}},
		"keys of unpivot": {[][2]string{{"unpivot", `{"extraKeyFields": [` + numbered(3, `{"name": "kN", "type": "string"}`) + `], "extraValueField": {"name": "v", "type": "string"}, "unpivot": [{"name": "b", "keys": {` + numbered(3, `"kN": "`+strings.Repeat("x", 45<<20)+`"`) + `}}]}`}}, []string{"step 1, unpivot", `field "k2"`, "row 1"}},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: they take memory
			in := "{}\n" + `{"name": "p", "resources": [{"name": "r", "path": "r.csv", "dpp:streaming": true, "schema": {"fields": [{"name": "a", "type": "string"}, {"name": "b", "type": "string"}]}}]}` +
				"\n\n{\"a\": \"" + strings.Repeat("x", 60_000) + "\", \"b\": \"1\"}\n\n{}\n\n"
			_, err := run(t, &standard.Env{Temp: t.TempDir()}, in, c.steps...)
			if !errs.Is(err, errs.Invalid) {
				t.Fatalf("got %v, want an Invalid error", err)
			}
			text := errs.Detail(err)
			for _, want := range append(c.want, "128 MiB") {
				if !strings.Contains(text, want) {
					t.Errorf("got %q, want %q in it", text, want)
				}
			}
		})
	}
}

// TestJoinedRows: what a join gathers from many rows counts as well.
func TestJoinedRows(t *testing.T) {
	t.Parallel()
	var fields, aggregates []string
	for i := range 40 {
		fields = append(fields, fmt.Sprintf(`{"name": "f%d", "type": "string"}`, i))
		aggregates = append(aggregates, fmt.Sprintf(`"g%d": {"name": "f%d", "aggregate": "array"}`, i, i))
	}
	head := "{}\n" + `{"name": "p", "resources": [{"name": "s", "path": "s.csv", "dpp:streaming": true, "schema": {"fields": [{"name": "k", "type": "string"}, ` + strings.Join(fields, ", ") + `]}}, {"name": "t", "path": "t.csv", "dpp:streaming": true, "schema": {"fields": [{"name": "k", "type": "string"}]}}]}` + "\n\n"
	row := `{"k": "a"`
	for i := range 40 {
		row += fmt.Sprintf(`, "f%d": "%s"`, i, strings.Repeat("x", 50_000))
	}
	row += "}\n"
	in := io.MultiReader(strings.NewReader(head), strings.NewReader(strings.Repeat(row, 80)), strings.NewReader("\n{\"k\": \"a\"}\n\n{}\n\n"))
	text, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	_, err = run(t, &standard.Env{Temp: t.TempDir()}, string(text), [2]string{"join", `{"source": {"name": "s", "key": ["k"], "delete": true}, "target": {"name": "t", "key": ["k"]}, "fields": {` + strings.Join(aggregates, ", ") + `}}`})
	if err == nil || !strings.Contains(errs.Detail(err), `field "g`) || !strings.Contains(errs.Detail(err), "MiB") {
		t.Errorf("got %v, want an error of a limit", err)
	}
}

// TestTooLong: a batch does not take a row beyond the limit, and says which cell.
func TestTooLong(t *testing.T) {
	t.Parallel()
	b := &stream.Batch{}
	b.Append([]byte("first"))
	b.EndRow(1)
	cell := make([]byte, 50<<20)
	for range 3 {
		b.Append(cell)
	}
	b.EndRow(2)
	if row, at, over := b.TooLong(); !over || row != 1 || at != 2 {
		t.Errorf("row %d, cell %d, %v; want row 1, cell 2", row, at, over)
	}
	if b.Bytes() > stream.MaxRowBytes+stream.MaxBytes || b.Width(1) != 3 || string(b.Cell(0, 0)) != "first" {
		t.Errorf("%d bytes, %d cells", b.Bytes(), b.Width(1))
	}
	b.Reset()
	b.Append(cell)
	b.EndRow(1)
	if _, _, over := b.TooLong(); over || len(b.Cell(0, 0)) != len(cell) {
		t.Error("an emptied batch still has no room")
	}
}
