package csv_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/format/formattest"
	"github.com/datahq/specstore/internal/stream"

	"github.com/datahq/specstore/internal/format"
	ours "github.com/datahq/specstore/internal/format/csv"
)

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
	header, err = formattest.EachRow(r, func(b *stream.Batch, i int) error {
		cells := make([]string, b.Width(i))
		for c := range cells {
			cells[c] = string(b.Cell(i, c))
		}
		rows = append(rows, row{b.Number(i), cells})
		return nil
	})
	return header, rows, err
}

// TestNUL: a NUL byte is refused with its row; between quotes, where the writer puts
// it, it is a character.
func TestNUL(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"a,b\n1,2\n\x00,3\n", "a,b\n1,2\nx,\x00", "a,b\n1,2\n\"x\ny\"\x00,3\n"} {
		_, rows, err := readAll([]byte(body), ours.Options{})
		if e, ok := errors.AsType[*format.Error](err); !ok || e.Code != format.CodeSource || e.Row != 3 || len(rows) != 1 {
			t.Errorf("%q: %v after %d rows", body, err, len(rows))
		}
	}
	_, rows, err := readAll([]byte("a,b\n\"\x00\",2\n"), ours.Options{})
	if err != nil || len(rows) != 1 || rows[0].cells[0] != "\x00" {
		t.Errorf("%v, %v", rows, err)
	}
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
