package tables_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/datahq/specstore/internal/format/tables"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
	"github.com/datahq/specstore/internal/testkit"
)

// TestOffices infers tables in the style of statistical offices and cities, of which the
// types and values are known: testdata/offices. Nineteen columns of twenty have the right
// type and values, and no column has a wrong value unless it is said to be doubtful.
func TestOffices(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("testdata", "offices")
	var expect map[string][]struct {
		Name, Type string
		Values     []*string
	}
	if err := json.Unmarshal(testkit.Must(os.ReadFile(filepath.Join(dir, "expect.json")))(t), &expect); err != nil {
		t.Fatal(err)
	}
	right, all := 0, 0
	for name, columns := range expect {
		body := testkit.Must(os.ReadFile(filepath.Join(dir, name+".csv")))(t)
		options := tables.Options{Resource: map[string]any{"name": name, "path": name + ".csv"}, Format: "csv", Temp: t.TempDir()}
		found, err := tables.Infer(t.Context(), func() (tables.Source, func(), error) {
			return tables.Source{Reader: bytes.NewReader(body)}, func() {}, nil
		}, options)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(found.Columns) != len(columns) {
			t.Errorf("%s: %d columns, want %d", name, len(found.Columns), len(columns))
			continue
		}
		values := cast(t, body, options, found.Schema)
		for i, want := range columns {
			got := found.Columns[i]
			all++
			same := len(values[i]) == len(want.Values)
			if got.Type == want.Type {
				same = same && sameValues(got.Type, values[i], want.Values)
			}
			switch {
			case got.Name == want.Name && got.Type == want.Type && same:
				right++
			case got.Type != "string" && got.Type != "any" && !got.Doubtful:
				t.Errorf("%s, %s: %s (%v) with %v, want %s", name, want.Name, got.Type, got.Field, values[i], want.Type)
			default:
				t.Logf("%s, %s: %s, want %s (%s)", name, want.Name, got.Type, want.Type, got.Why)
			}
		}
	}
	const least, of = 19, 20
	if all < 200 || right*of < all*least {
		t.Errorf("%d of %d columns are right", right, all)
	}
	t.Logf("%d of %d columns are right (%.1f %%)", right, all, 100*float64(right)/float64(all))
}

// cast reads a table by a schema, which must take every cell, and gives its values by
// column.
func cast(t *testing.T, body []byte, options tables.Options, descriptor map[string]any) [][]*string {
	t.Helper()
	schema := testkit.Must(tableschema.Parse(descriptor))(t)
	values := make([][]*string, len(schema.Fields))
	casters := make([]*tableschema.Caster, len(schema.Fields))
	for i := range casters {
		casters[i] = testkit.Must(schema.Caster(i, tableschema.CastOptions{}))(t)
	}
	r := testkit.Must(tables.Open(t.Context(), tables.Source{Reader: bytes.NewReader(body)}, options))(t)
	defer r.Close()
	if _, err := r.Header(); err != nil {
		t.Fatal(err)
	}
	var b *stream.Batch
	var err error
	for b, err = r.Next(); err == nil; b, err = r.Next() {
		for row := range b.Rows() {
			for c := range min(b.Width(row), len(casters)) {
				text, null, wrong := casters[c].CastKind(b.Kind(row, c), b.Cell(row, c))
				if wrong != nil {
					t.Errorf("row %d: %v", b.Number(row), wrong)
				}
				var v *string
				if !null {
					s := string(text)
					v = &s
				}
				values[c] = append(values[c], v)
			}
		}
		b.Release()
	}
	return values
}

// sameValues compares values of a type.
func sameValues(fieldType string, a, b []*string) bool {
	schema, err := tableschema.Parse(map[string]any{"fields": []any{map[string]any{"name": "a", "type": fieldType}}})
	if err != nil {
		return false
	}
	caster, err := schema.Caster(0, tableschema.CastOptions{})
	if err != nil {
		return false
	}
	return slices.EqualFunc(a, b, func(a, b *string) bool {
		if a == nil || b == nil {
			return a == b
		}
		return string(caster.AppendKey(nil, []byte(*a))) == string(caster.AppendKey(nil, []byte(*b)))
	})
}
