package engine_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/format/formattest"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/tables"
	"github.com/datahq/specstore/internal/stream"
)

// readExceptions are cases that do not hold, and why.
var readExceptions = map[string]string{
	"unterminated-quote":       "an open quote at the end is a source-error (DESIGN section 9), not the rest of the file as one cell",
	"geojson-as-json":          "a feature collection is found in a .json file by its content",
	"json-bom":                 "a byte order mark before JSON is read over (DESIGN section 9)",
	"json-objects-missing-key": "the columns are the keys of the whole file (DESIGN section 9)",
	"xlsx-typed":               "cells with a format of dates alone are dates, not datetimes at midnight (DESIGN section 9)",
	"xlsx-number-formats":      "cells with a format of dates alone are dates, not datetimes at midnight (DESIGN section 9)",
	"leading-blank-lines":      "without a single label frictionless takes every row for a blank one; ours have cells that no column claims",
}

// TestReadCases holds reading and validation against the captured files: labels,
// rows with their numbers and kinds, the error of a file that cannot be read, and
// what validation finds, by the case's schema or the one that is inferred.
func TestReadCases(t *testing.T) {
	t.Parallel()
	held, all := 0, 0
	for _, c := range cases(t, "read", "read.jsonl") {
		id := c["id"].(string)
		ext := filepath.Ext(c["path"].(string))
		all++
		problems := readCase(t, c, strings.TrimPrefix(ext, "."))
		reason, known := readExceptions[id]
		switch {
		case known && len(problems) == 0:
			t.Errorf("%s holds, and is no exception (%s)", id, reason)
		case !known && len(problems) > 0:
			t.Errorf("%s: %s", id, strings.Join(problems, "\n  "))
		case !known:
			held++
		}
	}
	t.Logf("%d of %d cases hold; %d exceptions", held, all, len(readExceptions))
}

func readCase(t *testing.T, c map[string]any, ext string) (problems []string) {
	t.Helper()
	wrong := func(text string, args ...any) { problems = append(problems, fmt.Sprintf(text, args...)) }
	body := caseBody(t, c)
	expect := c["expect"].(map[string]any)
	resource := maps.Clone(c["resource"].(map[string]any))
	resource["name"], resource["path"] = "t", c["path"]
	options := tables.Options{Resource: resource, Format: ext, Temp: t.TempDir()}
	from := func() tables.Source {
		r := bytes.NewReader(body)
		return tables.Source{Reader: r, Whole: tables.Spool(t.Context(), r, options.Temp)}
	}

	header, rows, numbers, err := readRows(t, from(), options)
	code := ""
	if e, ok := errors.AsType[*format.Error](err); ok {
		code = e.Code
	} else if err == io.EOF {
		code = format.CodeSource // what every caller makes of it
	} else if err != nil {
		t.Fatal(err)
	}
	wantError, _ := expect["error"].(string)
	wantErrors, _ := expect["errors"].([]any)
	if wantError != "" {
		if code != wantError {
			wrong("reading gives %q (%v), want %q", code, err, wantError)
		}
		return problems
	}
	wantHeader := []string{}
	for _, label := range expect["header"].([]any) {
		wantHeader = append(wantHeader, label.(string))
	}
	if !slices.Equal(header, wantHeader) {
		wrong("header %q, want %q", header, wantHeader)
	}
	wantRows := expect["rows"].([]any)
	if len(rows) != len(wantRows) {
		wrong("%d rows, want %d", len(rows), len(wantRows))
	}
	for i := range min(len(rows), len(wantRows)) {
		want := wantRows[i].(map[string]any)
		cells := want["cells"].([]any)
		if len(cells) == 0 && len(rows[i]) == 1 && rows[i][0] == "" {
			rows[i] = nil // a line without anything
		}
		same := len(cells) == len(rows[i])
		for j := range min(len(cells), len(rows[i])) {
			same = same && sameCell(rows[i][j], cells[j])
		}
		if !same || fmt.Sprint(numbers[i]) != fmt.Sprint(want["row"]) {
			wrong("row %d %.200q, want %.200q", numbers[i], fmt.Sprint(rows[i]), fmt.Sprint(want))
		}
	}

	if resource["schema"] == nil {
		found, err := tables.Infer(t.Context(), func() (tables.Source, func(), error) { return from(), func() {}, nil }, options)
		if e, ok := errors.AsType[*format.Error](err); ok {
			if len(wantErrors) != 1 || wantErrors[0].(map[string]any)["error"] != e.Code {
				wrong("inference gives %v", err)
			}
			return problems
		}
		if err != nil {
			t.Fatal(err)
		}
		resource["schema"] = found.Schema
	}
	report := validate(t, resource, ext, body)
	var got, want []string
	for _, p := range report.Problems.First {
		got = append(got, place(p.Code, p.Row, p.Column))
	}
	for _, e := range wantErrors {
		m := e.(map[string]any)
		want = append(want, place(m["error"].(string), caseInt(m["row"]), int(caseInt(m["field"]))))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || (report.Problems.Total == 0) != expect["valid"].(bool) {
		wrong("validation finds %q, want %q", got, want)
	}
	return problems
}

func place(code string, row int64, column int) string {
	if code == "blank-row" || row > 0 && column == 0 {
		column = 0
	}
	return fmt.Sprintf("%s row %d column %d", code, row, column)
}

func caseInt(v any) int64 {
	n, ok := v.(json.Number)
	if !ok {
		return 0
	}
	i, err := n.Int64()
	if err != nil {
		return -1
	}
	return i
}

func caseBody(t *testing.T, c map[string]any) []byte {
	t.Helper()
	if s, ok := c["base64"].(string); ok {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if parts, ok := c["parts"].([]any); ok {
		var b bytes.Buffer
		for _, p := range parts {
			m := p.(map[string]any)
			text, _ := m["text"].(string)
			b.WriteString(text)
			b.WriteString(repeated(m["repeat"]))
		}
		return b.Bytes()
	}
	return []byte(c["text"].(string))
}

// repeated is [unit, count].
func repeated(v any) string {
	list, ok := v.([]any)
	if !ok {
		return ""
	}
	return strings.Repeat(list[0].(string), int(caseInt(list[1])))
}

// readCell is a cell as the cases write it: nil, a text, or {kind: text}.
func readCell(b *stream.Batch, r, c int) any {
	text := string(b.Cell(r, c))
	switch b.Kind(r, c) {
	case stream.Null:
		return nil
	case stream.Text:
		return text
	case stream.Boolean:
		return text == "true"
	case stream.JSON:
		return map[string]any{"$json": text}
	case stream.Date:
		return map[string]any{"$date": text}
	case stream.Time:
		return map[string]any{"$time": text}
	case stream.Datetime:
		return map[string]any{"$datetime": text}
	default: // of the others there is nothing to say
	}
	return json.Number(text)
}

func sameCell(got, want any) bool {
	if m, ok := want.(map[string]any); ok {
		for kind, v := range m {
			switch kind {
			case "$repeat":
				return got == repeated(v)
			case "$number", "$integer":
				want = json.Number(v.(string))
			case "$json":
				g, _ := got.(map[string]any)
				text, _ := g["$json"].(string)
				decoded, err := datapackage.Decode(strings.NewReader(`{"v": ` + text + `}`))
				return err == nil && reflect.DeepEqual(decoded["v"], v)
			}
		}
	}
	if w, ok := want.(json.Number); ok {
		g, ok := got.(json.Number)
		a, okA := new(big.Rat).SetString(string(g))
		b, okB := new(big.Rat).SetString(string(w))
		return ok && okA && okB && a.Cmp(b) == 0
	}
	return reflect.DeepEqual(got, want)
}

func readRows(t *testing.T, from tables.Source, o tables.Options) (header []string, rows [][]any, numbers []int64, err error) {
	t.Helper()
	r, err := tables.Open(t.Context(), from, o)
	if err != nil {
		return nil, nil, nil, err
	}
	defer r.Close()
	header, err = formattest.EachRow(r, func(b *stream.Batch, i int) error {
		var cells []any
		for c := range b.Width(i) {
			cells = append(cells, readCell(b, i, c))
		}
		rows, numbers = append(rows, cells), append(numbers, b.Number(i))
		return nil
	})
	return header, rows, numbers, err
}
