package tables_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/tables"
	"github.com/datahq/specstore/internal/format/xlsx"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
	"github.com/datahq/specstore/internal/testkit"
)

// TestWorkbook: which sheet is read, and how, a resource says in the words of its
// time.
func TestWorkbook(t *testing.T) {
	t.Parallel()
	schema := testkit.Must(tableschema.Parse(map[string]any{"fields": []any{map[string]any{"name": "a"}, map[string]any{"name": "b"}}}))(t)
	var book bytes.Buffer
	w := testkit.Must(xlsx.NewWriter(&book, "Data", schema))(t)
	b := &stream.Batch{}
	for i, row := range [][2]string{{"c", "d"}, {"1", "2"}} {
		b.Append([]byte(row[0]))
		b.Append([]byte(row[1]))
		b.EndRow(int64(i + 2))
	}
	if err := errors.Join(w.WriteBatch(b), w.Close()); err != nil {
		t.Fatal(err)
	}
	object := func(kv ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1]
		}
		return m
	}
	for _, c := range []struct {
		resource map[string]any
		header   []string
		failure  string
	}{
		{object(), []string{"a", "b"}, ""},
		{object("sheet", 1), []string{"a", "b"}, ""},
		{object("sheet", "data"), []string{"a", "b"}, ""},
		{object("sheet", "Other"), nil, `no sheet "Other"; its sheets are "Data"`},
		{object("sheet", 2), nil, "no sheet number 2"},
		{object("sheet", 0), nil, "sheet must be"},
		{object("sheet", true), nil, "sheet must be"},
		{object("sheet", "Data", "dialect", object("sheetName", "Other")), []string{"a", "b"}, ""},
		{object("dialect", object("sheetName", "Other")), nil, `no sheet "Other"`},
		{object("dialect", object("sheetNumber", 2.0)), nil, "no sheet number 2"},
		{object("dialect", object("excel", object("sheet", "Other"))), nil, `no sheet "Other"`},
		{object("dialect", object("header", false)), nil, ""},
		{object("dialect", object("headerRows", "x")), nil, "headerRows"},
		{object("headers", 2), []string{"c", "d"}, ""},
		{object("headers", []any{1, 2}), []string{"a c", "b d"}, ""},
		{object("headers", []any{"x", "y"}), []string{"x", "y"}, ""},
		{object("headers", "x"), nil, "headers: must be"},
		{object("headers", []any{2, 1}), nil, "headers: must be"},
		{object("skip_rows", 1), []string{"c", "d"}, ""},
		{object("skip_rows", "x"), nil, "skip_rows"},
	} {
		src := tables.Source{Reader: bytes.NewReader(book.Bytes())}
		dir := t.TempDir()
		src.Whole = tables.Spool(t.Context(), src.Reader, dir)
		r, err := tables.Open(t.Context(), src, tables.Options{Resource: c.resource, Format: "xlsx", Temp: dir})
		var header []string
		if err == nil {
			header, err = r.Header()
			r.Close()
		}
		if c.failure != "" {
			if e, ok := errors.AsType[*format.Error](err); !ok || !strings.Contains(e.Message, c.failure) {
				t.Errorf("%v: error %v, want one that says %q", c.resource, err, c.failure)
			}
			continue
		}
		if err != nil || !slices.Equal(header, c.header) || (header == nil) != (c.header == nil) {
			t.Errorf("%v: %q (%v), want %q", c.resource, header, err, c.header)
		}
	}
}
