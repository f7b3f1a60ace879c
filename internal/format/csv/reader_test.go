package csv_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
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

// TestOpenQuotes: a quote that takes rows in which are none of its cell is an error that
// names the row in which it stands.
func TestOpenQuotes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("3,z\n", 200_000)
	for _, c := range []struct {
		name, body string
		dialect    map[string]any
		row        int64
		rows       int // before it
	}{
		{"in a row", "a,b\n1,x\n2,\"y\n3,z\n", nil, 3, 1},
		{"in the header", "a,\"b\n1,x\n", nil, 1, 0},
		{"in the last row", "a,b\n1,x\n2,\"y", nil, 3, 1},
		{"in the last row, with a line end", "a,b\n1,x\n2,\"y\r\n", nil, 3, 1},
		{"the last byte", "a,b\n1,x\n2,\"", nil, 3, 1},
		{"Windows line ends", "a,b\r\n1,x\r\n2,\"y\r\n3,z\r\n", nil, 3, 1},
		{"line ends of CR alone", "a,b\r1,x\r2,\"y\r3,z\r", nil, 3, 1},
		{"behind a quoted line break", "a,b\n1,\"x\nx\"\n2,\"y\n3,z\n", nil, 3, 1},
		{"a doubled quote at the end", "a,b\n1,x\n2,\"y\"\"\n3,z\n", nil, 3, 1},
		{"another quote", "a,b\n1,x\n2,'y\n3,z\n", map[string]any{"quoteChar": "'"}, 3, 1},
		{"quotes are not doubled", "a,b\n1,x\n2,\"y\n3,z\n", map[string]any{"doubleQuote": false}, 3, 1},
		{"an escaped quote", "a,b\n1,x\n2,\"y\\\"\n3,z\n", map[string]any{"escapeChar": "\\"}, 3, 1},
		{"an escape ends the file", "a,b\n1,x\n2,\"y\n3,z\\", map[string]any{"escapeChar": "\\"}, 3, 1},
		{"tabs", "a\tb\n1\tx\n2\t\"y\n3\tz\n", map[string]any{"delimiter": "\t"}, 3, 1},
		{"a delimiter of two bytes", "a::b\n1::x\n2::\"y\n3::z\n", map[string]any{"delimiter": "::"}, 3, 1},
		{"blanks before it", "a, b\n1, x\n2, \"y\n3, z\n", map[string]any{"skipInitialSpace": true}, 3, 1},
		{"another line end", "a,b;1,x;2,\"y;3,z;", map[string]any{"lineTerminator": ";"}, 3, 1},
		{"a comment before it", "a,b\n#\"\n2,\"y\n3,z\n", map[string]any{"commentChar": "#"}, 3, 0},
		{"long before the end", "a,b\n1,x\n2,\"y\n" + long, nil, 3, 1},
		{"long after the start", "a,b\n" + long + "2,\"y\n3,z\n", nil, 200_002, 200_000},
		{"closed by a later quote", "a,b\n1,x\n2,\"y\n3,z\" big\n4,u\n", nil, 3, 1},
		{"closed by a later opening one", "a,b\n1,x\n2,\"y\n3,\"z\"\n4,u\n", nil, 3, 1},
	} {
		o := ours.Options{}
		if c.dialect != nil {
			d, problems := format.ParseDialect(c.dialect)
			if len(problems) > 0 {
				t.Fatal(c.name, problems)
			}
			o.Dialect = &d
		}
		for how, from := range map[string]io.Reader{
			"at once": strings.NewReader(c.body), "in halves": iotest.HalfReader(strings.NewReader(c.body)), "with its end": iotest.DataErrReader(strings.NewReader(c.body)),
		} {
			_, rows, err := readFrom(from, o)
			if e, ok := errors.AsType[*format.Error](err); !ok || e.Code != format.CodeSource || e.Row != c.row || len(rows) != c.rows {
				t.Errorf("%s, %s: %v after %d rows, want an error in row %d after %d", c.name, how, err, len(rows), c.row, c.rows)
			}
		}
	}
	for _, body := range []string{"a,b\n1,\"x\"y\n", "a,b\n1,\"x\nx\" \n2,y\n", "a,b\n1,\"x\nx\" ,\n", "a,b\n1,x\"\n2,y\n", "a,b\n1,\"\"", "a,b\n1,\"x\n\""} {
		if _, rows, err := readAll([]byte(body), ours.Options{}); err != nil || len(rows) == 0 {
			t.Errorf("%q: %v, %v", body, rows, err)
		}
	}
}

// TestBytesOfNoCharacter: an error of the encoding names the row of the byte, wherever
// the byte stands and whatever is found out when.
func TestBytesOfNoCharacter(t *testing.T) {
	t.Parallel()
	const many = 600_000
	long := strings.Repeat("1,x\n", many) // more than is looked ahead
	for _, c := range []struct {
		name, body, encoding string
		row                  int64
		offset               string
	}{
		{"one among others", "a,b\n1,é\n2,x\xe9\n3,é\n", "", 3, "offset 12"},
		{"before the others", "a,b\n1,x\xe9\n2,é\n", "", 2, "offset 7"},
		{"in the header", "a,x\xe9\n1,é\n", "", 1, "offset 3"},
		{"in the last row", "a,b\n1,é\n2,\xff", "", 3, "offset 11"},
		{"the file ends in a character", "a,b\n1,é\n2,\xc3", "", 3, "offset 11"},
		{"the file ends in a long character", "a,b\n1,x\n2,\xe2\x82", "", 3, "offset 10"},
		{"a second byte that is none", "a,b\n1,é\n2,\xc3x\n", "", 3, "offset 11"},
		{"an overlong form", "a,b\n1,é\n2,\xc0\xaf\n", "", 3, "offset 11"},
		{"a surrogate", "a,b\n1,é\n2,\xed\xa0\x80\n", "", 3, "offset 11"},
		{"late", "a,b\n1,é\n" + long + "2,\xe9\n", "", many + 3, "offset 2400011"},
		{"late, and the others later", "a,b\n" + long + "2,\xe9\n" + long + "3,é\n", "", many + 2, "offset 2400006"},
		{"early, and the others late", "a,b\n2,\xe9\n" + long + "3,é\n", "", 2, "offset 6"},
		{"behind a quoted line break", "a,b\n1,\"é\né\"\n2,x\xe9\n", "", 3, "offset 17"},
		{"within quotes", "a,b\n1,é\n2,\"x\n\xe9\"\n", "", 3, "offset 14"},
		{"Windows line ends", "a,b\r\n1,é\r\n2,x\xe9\r\n", "", 3, "offset 14"},
		{"behind a mark", "\xef\xbb\xbfa,b\n1,\xe9\n", "", 2, "offset 9"},
		{"declared", "a,b\n1,x\n2,\xe9\n", "utf-8", 3, "offset 10"},
		{"declared as another, wrongly", "a,b\né,é\né,\xe9\n", "iso-8859-1", 3, "offset 13"},
		{"no character of windows-1252", "a,b\n1,x\n2,caf\x81\n", "", 3, "offset 13"},
		{"no character of windows-1252, as declared", "a,b\n1,\xe9\n2,\x8d\n", "windows-1252", 3, "offset 10"},
		{"no character of windows-1257", "a,b\n1,\xe9\n2,\xa1\n", "cp1257", 3, "offset 10"},
		{"half a unit of UTF-16", "\xff\xfea\x00,\x00b\x00\n\x001\x00,\x00x", "", 2, "offset 14"},
		{"half a pair in UTF-16", "\xfe\xff\x00a\x00,\x00b\x00\n\x001\x00,\xd8\x00\x00\n", "", 2, "offset 14"},
		{"no character of UTF-32", "\xff\xfe\x00\x00a\x00\x00\x00\n\x00\x00\x00\x00\x00\x11\x00", "", 2, "offset 12"},
		{"broken Shift JIS", "a,b\n1,\x93\xfa\n2,\xff\n", "shift_jis", 3, "offset 11"},
		{"broken GB 18030", "a,b\n1,\xc4\xe3\n2,\xff\n", "gb18030", 3, "offset 11"},
	} {
		for how, from := range map[string]io.Reader{
			"at once": strings.NewReader(c.body), "in halves": iotest.HalfReader(strings.NewReader(c.body)), "with its end": iotest.DataErrReader(strings.NewReader(c.body)),
		} {
			_, _, err := readFrom(from, ours.Options{Encoding: c.encoding})
			if e, ok := errors.AsType[*format.Error](err); !ok || e.Code != format.CodeEncoding || e.Row != c.row || !strings.Contains(e.Message, c.offset) {
				t.Errorf("%s, %s: %v, want an error in row %d at %s", c.name, how, err, c.row, c.offset)
			}
		}
	}
}

// TestAboveTheHeader: what stands above the header and is no data, and what only looks so.
func TestAboveTheHeader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		header     []string
		first      int64 // row of the first data row, 0: none
		delimiter  string
		note       bool
	}{
		{"blank lines", "\n\r\n\na,b\n1,x\n", []string{"a", "b"}, 5, ",", false},
		{"a blank line behind the header", "a,b\n\n1,x\n", []string{"a", "b"}, 2, ",", false},
		{"nothing but blank lines", "\n\n", []string{}, 0, ",", false},
		{"a separator line", "sep=;\na;b\n1;x\n", []string{"a", "b"}, 3, ";", false},
		{"a separator line in capitals", "SEP=|\r\na|b\r\n1|x\r\n", []string{"a", "b"}, 3, "|", false},
		{"a separator line in quotes", "\"sep=;\"\na;b\n1;x\n", []string{"a", "b"}, 3, ";", false},
		{"a separator line of tabs", "sep=\t\na\tb\n1\tx\n", []string{"a", "b"}, 3, "\t", false},
		{"a separator line behind a mark", "\xef\xbb\xbfsep=;\na;b\n1;x\n", []string{"a", "b"}, 3, ";", false},
		{"a separator line and blank ones", "sep=;\n\na;b\n1;x\n", []string{"a", "b"}, 4, ";", false},
		{"a label that begins so", "sep=a,b\n1,x\n", []string{"sep=a", "b"}, 2, ",", false},
		{"a title", "Levels of rivers\na,b\n1,x\n2,y\n", []string{"a", "b"}, 3, ",", true},
		{"a title with a comma", "Levels, by day\n\na;b\n1;x\n2;y\n", []string{"a", "b"}, 4, ";", true},
		{"a title with delimiters", "Levels;;;\nStand: 2024;;;\n;;;\na;b;c;d\nx;1;2;3\ny;4;5;6\n", []string{"a", "b", "c", "d"}, 5, ";", true},
		{"a header of years", "Levels\nriver,2021,2022\nElbe,1,2\nOder,3,4\n", []string{"river", "2021", "2022"}, 3, ",", true},
		{"a short header", "a\n1,x\n2,y\n", []string{"a"}, 2, ",", false},
		{"a short header over texts", "a\nx,y\nu,v\n", []string{"a"}, 2, ",", false},
		{"one column", "a\nb\n1\n", []string{"a"}, 2, ",", false},
		{"a blank label", "a,\n1,2\n3,4\n", []string{"a", ""}, 2, ",", false},
		{"ragged rows", "a,b,c\n1\n2,3\n4,5,6\n", []string{"a", "b", "c"}, 2, ",", false},
	} {
		r, err := ours.NewReader(strings.NewReader(c.body), ours.Options{Titles: true})
		if err != nil {
			t.Fatal(err)
		}
		var first int64
		header, err := formattest.EachRow(r, func(b *stream.Batch, i int) error {
			if first == 0 {
				first = b.Number(i)
			}
			return nil
		})
		if err != nil || !slices.Equal(header, c.header) || first != c.first || r.Dialect().Delimiter != c.delimiter || c.note != (len(r.Notes()) > 0) {
			t.Errorf("%s: header %q, first row %d, delimiter %q, notes %q, %v", c.name, header, first, r.Dialect().Delimiter, r.Notes(), err)
		}
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
