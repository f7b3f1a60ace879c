package csv_test

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/format"
	ours "github.com/datahq/specstore/internal/format/csv"
	"github.com/datahq/specstore/internal/testkit"
)

type readCase struct {
	ID       string `json:"id"`
	Path     string `json:"path"`
	Resource struct {
		Encoding string         `json:"encoding"`
		Dialect  map[string]any `json:"dialect"`
	} `json:"resource"`
	Text   string `json:"text"`
	Base64 string `json:"base64"`
	Parts  []struct {
		Text   string `json:"text"`
		Repeat []any  `json:"repeat"`
	} `json:"parts"`
	Expect struct {
		Header []string `json:"header"`
		Rows   []struct {
			Row   int64             `json:"row"`
			Cells []json.RawMessage `json:"cells"`
		} `json:"rows"`
		Error string `json:"error"`
	} `json:"expect"`
}

func (c *readCase) body(t *testing.T) []byte {
	t.Helper()
	switch {
	case c.Base64 != "":
		b, err := base64.StdEncoding.DecodeString(c.Base64)
		if err != nil {
			t.Fatal(err)
		}
		return b
	case len(c.Parts) > 0:
		var b bytes.Buffer
		for _, p := range c.Parts {
			b.WriteString(p.Text)
			if len(p.Repeat) == 2 {
				b.WriteString(strings.Repeat(p.Repeat[0].(string), int(p.Repeat[1].(float64))))
			}
		}
		return b.Bytes()
	}
	return []byte(c.Text)
}

// cell is a cell of the cases: text, or a text repeated.
func cell(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var r struct {
		Repeat []any `json:"$repeat"`
	}
	if err := json.Unmarshal(raw, &r); err != nil || len(r.Repeat) != 2 {
		t.Fatalf("what is %s", raw)
	}
	return strings.Repeat(r.Repeat[0].(string), int(r.Repeat[1].(float64)))
}

type row struct {
	number int64
	cells  []string
}

func readAll(body []byte, o ours.Options) (header []string, rows []row, err error) {
	return readFrom(bytes.NewReader(body), o)
}

// readFrom reads a file to its end or to an error, and gives what came before it.
func readFrom(from io.Reader, o ours.Options) (header []string, rows []row, err error) {
	r, err := ours.NewReader(from, o)
	if err != nil {
		return nil, nil, err
	}
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
				cells[c] = string(b.Cell(i, c))
			}
			rows = append(rows, row{b.Number(i), cells})
		}
		b.Release()
	}
}

// TestReadCases holds the reader against the captured files.
func TestReadCases(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(testkit.Shared(t, "cases", "read"), "read.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for line := range bytes.Lines(b) {
		var c readCase
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		if ext := filepath.Ext(c.Path); ext != ".csv" && ext != ".tsv" {
			continue
		}
		held++
		t.Run(c.ID, func(t *testing.T) {
			o := ours.Options{Encoding: c.Resource.Encoding}
			if c.Resource.Dialect != nil || strings.HasSuffix(c.Path, ".tsv") {
				dialect := c.Resource.Dialect
				if dialect == nil {
					dialect = map[string]any{"delimiter": "\t"}
				}
				d, problems := format.ParseDialect(dialect)
				if len(problems) > 0 {
					t.Fatal(problems)
				}
				o.Dialect = &d
			}
			header, rows, err := readAll(c.body(t), o)
			if c.Expect.Error != "" {
				e, ok := errors.AsType[*format.Error](err)
				if !ok || e.Code != c.Expect.Error {
					t.Errorf("%v, want %s", err, c.Expect.Error)
				}
				return
			}
			if err == io.EOF {
				err = nil // an empty file has neither header nor rows
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Expect.Header) > 0 && o.Dialect != nil && !o.Dialect.Header {
				header = c.Expect.Header // names that the caller makes up
			}
			if !slices.Equal(header, c.Expect.Header) {
				t.Errorf("header %q, want %q", header, c.Expect.Header)
			}
			if len(rows) != len(c.Expect.Rows) {
				t.Fatalf("%d rows, want %d: %v", len(rows), len(c.Expect.Rows), rows)
			}
			for i, w := range c.Expect.Rows {
				var cells []string
				for _, raw := range w.Cells {
					cells = append(cells, cell(t, raw))
				}
				got := rows[i].cells
				if len(cells) == 0 && len(got) == 1 && got[0] == "" {
					got = nil // a line without anything
				}
				if rows[i].number != w.Row || !slices.Equal(got, cells) {
					t.Errorf("row %d %.300q, want row %d %.300q", rows[i].number, got, w.Row, cells)
				}
			}
		})
	}
	t.Logf("%d files were read", held)
}

// FuzzReader: the reader agrees with the standard library's on what that reads,
// and panics on nothing.
func FuzzReader(f *testing.F) {
	f.Add([]byte("a,b\n1,\"x\"\"y\"\n"), byte(','))
	f.Add([]byte("a;b\r\n\"1\r\n2\";\r\n"), byte(';'))
	f.Fuzz(func(t *testing.T, body []byte, delimiter byte) {
		d, problems := format.ParseDialect(map[string]any{"delimiter": string(rune(delimiter)), "header": false})
		if len(problems) > 0 {
			return
		}
		_, rows, err := readAll(body, ours.Options{Dialect: &d, Encoding: "utf-8"})
		if err != nil || bytes.ContainsAny(body, "\r") || !utf8.Valid(body) { // other bytes may begin with a mark of another encoding
			return
		}
		std := csv.NewReader(bytes.NewReader(body))
		std.Comma, std.FieldsPerRecord = rune(delimiter), -1
		want, err := std.ReadAll()
		if err != nil || bytes.HasPrefix(body, []byte("\xef\xbb\xbf")) {
			return
		}
		// The standard library drops lines without anything.
		rows = slices.DeleteFunc(rows, func(r row) bool { return len(r.cells) == 0 || len(r.cells) == 1 && r.cells[0] == "" })
		want = slices.DeleteFunc(want, func(r []string) bool { return len(r) == 1 && r[0] == "" })
		if len(rows) != len(want) {
			t.Fatalf("%d rows, want %d", len(rows), len(want))
		}
		for i := range want {
			if !slices.Equal(rows[i].cells, want[i]) {
				t.Fatalf("row %d: %q, want %q", i, rows[i].cells, want[i])
			}
		}
	})
}
