package xlsx_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/tables"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/testkit"
)

type readCase struct {
	ID       string         `json:"id"`
	Path     string         `json:"path"`
	Resource map[string]any `json:"resource"`
	Base64   string         `json:"base64"`
	Expect   struct {
		Header []string `json:"header"`
		Rows   []struct {
			Row   int64 `json:"row"`
			Cells []any `json:"cells"`
		} `json:"rows"`
		Error string `json:"error"`
	} `json:"expect"`
}

// cell is a cell with its kind, as a test writes it: "integer 1", "null".
func cell(k stream.Kind, text string) string {
	names := map[stream.Kind]string{
		stream.Text: "text", stream.Null: "null", stream.Integer: "integer", stream.Number: "number",
		stream.Boolean: "boolean", stream.Date: "date", stream.Time: "time", stream.Datetime: "datetime",
	}
	if text == "" {
		return names[k]
	}
	return names[k] + " " + text
}

// wantCell is the cell that a case describes.
func wantCell(t *testing.T, v any) string {
	t.Helper()
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "text " + v
	case json.Number:
		return "integer " + v.String()
	case bool:
		b, _ := json.Marshal(v)
		return "boolean " + string(b)
	case map[string]any:
		for k, text := range v {
			return strings.TrimPrefix(k, "$") + " " + text.(string)
		}
	}
	t.Fatalf("what is %v", v)
	return ""
}

type row struct {
	number int64
	cells  []string
}

// readAll reads a table to its end or to an error, and gives what came before it.
func readAll(r format.Reader) (header []string, rows []row, err error) {
	header, err = r.Header()
	if err != nil {
		return nil, nil, err
	}
	for {
		b, err := r.Next()
		if err == io.EOF {
			return header, rows, nil
		}
		if err != nil {
			return header, rows, err
		}
		for i := range b.Rows() {
			cells := make([]string, b.Width(i))
			for c := range cells {
				cells[c] = cell(b.Kind(i, c), string(b.Cell(i, c)))
			}
			rows = append(rows, row{b.Number(i), cells})
		}
		b.Release()
	}
}

// TestReadCases holds the reader against the captured files, as a resource is opened.
func TestReadCases(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(testkit.Shared(t, "cases", "read"), "read.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for line := range bytes.Lines(b) {
		var c readCase
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&c); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(c.Path, ".xlsx") {
			continue
		}
		t.Run(c.ID, func(t *testing.T) {
			body, err := base64.StdEncoding.DecodeString(c.Base64)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), c.Path)
			if err := os.WriteFile(path, body, 0o600); err != nil {
				t.Fatal(err)
			}
			src := tables.Source{Whole: func() (string, error) { return path, nil }}
			r, err := tables.Open(context.Background(), src, tables.Options{Resource: c.Resource, Format: "xlsx", Temp: t.TempDir()})
			if c.Expect.Error != "" {
				e, ok := errors.AsType[*format.Error](err)
				if !ok || e.Code != c.Expect.Error {
					t.Fatalf("error %v, want %s", err, c.Expect.Error)
				}
				held++
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			header, rows, err := readAll(r)
			if err != nil || !slices.Equal(header, c.Expect.Header) {
				t.Fatalf("header %q (%v), want %q", header, err, c.Expect.Header)
			}
			if len(rows) != len(c.Expect.Rows) {
				t.Fatalf("%d rows, want %d: %v", len(rows), len(c.Expect.Rows), rows)
			}
			for i, want := range c.Expect.Rows {
				var cells []string
				for _, v := range want.Cells {
					cells = append(cells, wantCell(t, v))
				}
				if rows[i].number != want.Row || !slices.Equal(rows[i].cells, cells) {
					t.Fatalf("row %d: %q, want row %d: %q", rows[i].number, rows[i].cells, want.Row, cells)
				}
			}
			held++
		})
	}
	const want = 12
	if held != want && !t.Failed() {
		t.Fatalf("%d cases were read, want %d", held, want)
	}
	t.Logf("%d cases hold", held)
}
