package jsonrows_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/format/formattest"
	"github.com/datahq/specstore/internal/stream"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/jsonrows"
)

// read reads a file and gives its rows as text: number|kind:cell|kind:cell.
func read(from io.Reader, o jsonrows.Options) (labels, rows, notes []string, err error) {
	r, err := jsonrows.NewReader(from, o)
	if err != nil {
		return nil, nil, nil, err
	}
	defer r.Close()
	labels, err = formattest.EachRow(r, func(b *stream.Batch, i int) error {
		row := fmt.Sprint(b.Number(i))
		for c := range b.Width(i) {
			row += fmt.Sprintf("|%c:%s", "tnifbdTDj"[b.Kind(i, c)], b.Cell(i, c))
		}
		rows = append(rows, row)
		return nil
	})
	return labels, rows, r.Notes(), err
}

func TestRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		o          jsonrows.Options
		labels     []string
		rows       []string
		note       string
	}{
		{
			"kinds", `[{"i": -12, "f": 1.50, "e": 1e400, "b": true, "s": "x\u00e9\n", "n": null, "a": [1, {"x": " y "}], "o": {}}]`,
			jsonrows.Options{},
			[]string{"i", "f", "e", "b", "s", "n", "a", "o"},
			[]string{`2|i:-12|f:1.50|f:1e400|b:true|t:xé` + "\n" + `|n:|j:[1,{"x":" y "}]|j:{}`},
			"",
		},
		{
			"big integers", `[{"a":9223372036854775808},{"a":-123456789012345678901234567890}]`,
			jsonrows.Options{},
			[]string{"a"},
			[]string{"2|i:9223372036854775808", "3|i:-123456789012345678901234567890"},
			"",
		},
		{
			"other order, absent and later keys", `[{"a":1,"b":2},{"b":3,"c":4,"a":5},{"c":6},{}]`,
			jsonrows.Options{},
			[]string{"a", "b"},
			[]string{"2|i:1|i:2", "3|i:5|i:3", "4|n:|n:", "5|n:|n:"},
			`the key "c" is not one of the columns: it was left out 2 times`,
		},
		{"keys written in several ways", `[{"\u0061":1},{"a":2},{"\u0061":3}]`, jsonrows.Options{}, []string{"a"}, []string{"2|i:1", "3|i:2", "4|i:3"}, ""},
		{"a key twice", `[{"a":1,"a":2},{"a":3,"a":null}]`, jsonrows.Options{}, []string{"a"}, []string{"2|i:2", "3|n:"}, `the key "a" stood in a row more than once, 2 times`},
		{"a key twice, deep down", `[{"a":{"x":1,"x":2}}]`, jsonrows.Options{}, []string{"a"}, []string{`2|j:{"x":1,"x":2}`}, ""},
		{"labels are trimmed", `[{" a ":1}]`, jsonrows.Options{}, []string{"a"}, []string{"2|i:1"}, ""},
		{"an object without keys", `[{}]`, jsonrows.Options{}, []string{}, []string{"2"}, ""},
		{"arrays", `[["a",1,null],[1],[1,2,3,4]]`, jsonrows.Options{}, []string{"a", "1", ""}, []string{"2|i:1", "3|i:1|i:2|i:3|i:4"}, ""},
		{"arrays without a header", `[["a"],[1]]`, jsonrows.Options{NoHeader: true}, nil, []string{"1|t:a", "2|i:1"}, ""},
		{"a property", `{"x":[{"a":0}],"y":{"rows":1},"rows":[{"a":1}],"z":{"k":[[]]}}`, jsonrows.Options{Property: "rows"}, []string{"a"}, []string{"2|i:1"}, ""},
		{"a path", `{"x":{"a":[1],"y":[{"a":1}],"z":"\u00e9"},"w":{}}`, jsonrows.Options{Property: "x.y"}, []string{"a"}, []string{"2|i:1"}, ""},
		{"a key with a point", `{"x":{"y.z":[{"a":1}]},"x.y":[{"a":2}]}`, jsonrows.Options{Property: "x.y.z"}, []string{"a"}, []string{"2|i:1"}, ""},
		{"chosen keys", `[{"a":1,"b":2,"c":3}]`, jsonrows.Options{ItemKeys: []string{"c", "a", "d"}}, []string{"c", "a", "d"}, []string{"2|i:3|i:1|n:"}, ""},
		{"lines", "{\"a\":1}\r\n {\"a\": [2,\t3]} \n{\"b\":1}", jsonrows.Options{Lines: true}, []string{"a"}, []string{"2|i:1", "3|j:[2,3]", "4|n:"}, `"b"`},
		{"lines of arrays", "[\"a\"]\n[1]\n", jsonrows.Options{Lines: true}, []string{"a"}, []string{"2|i:1"}, ""},
		{
			"features", `{"type":"FeatureCollection","crs":{},"features":[{"type":"Feature","id":7,"geometry":{"type":"Point","coordinates":[1, 2.50]},"properties":{"n":"x"}},{"type":"Feature","properties":null},{"properties":{"m":1},"geometry":null}],"bbox":[1]}`,
			jsonrows.Options{Features: true},
			[]string{"n", "geometry"},
			[]string{`2|t:x|j:{"type":"Point","coordinates":[1,2.50]}`, "3|n:|n:", "4|n:|n:"},
			`the key "id"`,
		},
		{"UTF-16", "[\x00{\x00\"\x00a\x00\"\x00:\x00\"\x00\xe9\x00\"\x00}\x00]\x00", jsonrows.Options{Encoding: "utf-16le"}, []string{"a"}, []string{"2|t:é"}, ""},
		{"latin-1", "[{\"a\":\"\xe9\"}]", jsonrows.Options{Encoding: "latin-1"}, []string{"a"}, []string{"2|t:é"}, ""},
		{"UTF-8 called latin-1", `[{"a":"é"}]`, jsonrows.Options{Encoding: "latin-1"}, []string{"a"}, []string{"2|t:é"}, "valid UTF-8"},
		{"NUL in a text", `[{"a":"\u0000"}]`, jsonrows.Options{}, []string{"a"}, []string{"2|t:\x00"}, ""},
		{"a surrogate pair", `[{"a":"\ud83d\ude00"}]`, jsonrows.Options{}, []string{"a"}, []string{"2|t:😀"}, ""},
		{"as deep as may be", `[{"a":` + strings.Repeat("[", 98) + strings.Repeat("]", 98) + `}]`, jsonrows.Options{}, []string{"a"}, []string{"2|j:" + strings.Repeat("[", 98) + strings.Repeat("]", 98)}, ""},
	} {
		for i, from := range []io.Reader{strings.NewReader(c.body), iotest.OneByteReader(strings.NewReader(c.body)), iotest.DataErrReader(strings.NewReader(c.body))} {
			labels, rows, notes, err := read(from, c.o)
			if err != nil || !slices.Equal(labels, c.labels) || (labels == nil) != (c.labels == nil) || !slices.Equal(rows, c.rows) {
				t.Errorf("%s (%d): %q\n%q\nwant %q\n%q\n%v", c.name, i, labels, rows, c.labels, c.rows, err)
			}
			if text := strings.Join(notes, "; "); c.note == "" && text != "" || !strings.Contains(text, c.note) {
				t.Errorf("%s: notes %q, want %q", c.name, text, c.note)
			}
		}
	}
}

// endless repeats a text for ever, so that what is not bounded shows.
type endless struct {
	head, unit string
	n          int64
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.head)
	e.head = e.head[n:]
	for n < len(p) {
		n += copy(p[n:], e.unit)
	}
	if e.n += int64(n); e.n > 1<<30 {
		return 0, errors.New("a gigabyte was read")
	}
	return n, nil
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	small := jsonrows.Options{MaxCell: 1000, MaxColumns: 20}
	lines := jsonrows.Options{Lines: true, MaxCell: 1000, MaxColumns: 20}
	in := strings.NewReader
	for _, c := range []struct {
		name string
		from io.Reader
		o    jsonrows.Options
		rows int
		row  int64
		code string
		want string
	}{
		{"scalars", in("[1,2]"), small, 0, 0, format.CodeSource, "must be an object or an array, not a number"},
		{"an object", in(`{"a":[]}`), small, 0, 0, format.CodeSource, "`property`"},
		{"a text", in(`"a"`), small, 0, 0, format.CodeSource, "neither an array"},
		{"no such property", in(`{"a":1,"b":2}`), jsonrows.Options{Property: "c"}, 0, 0, format.CodeSource, `"c", which the dialect names; the keys are "a", "b"`},
		{"a property that is no array", in(`{"a":1}`), jsonrows.Options{Property: "a"}, 0, 0, format.CodeSource, `"a" is not an array`},
		{"a property of no object", in(`{"a":[1]}`), jsonrows.Options{Property: "a.b"}, 0, 0, format.CodeSource, "not an object"},
		{"no GeoJSON", in(`{"type":"Topology"}`), jsonrows.Options{Features: true}, 0, 0, format.CodeSource, "no `features`"},
		{"bad properties", in(`{"features":[{"properties":{"a":1}},{"properties":3}]}`), jsonrows.Options{Features: true}, 1, 3, format.CodeSource, "properties"},
		{"mixed rows", in(`[{"a":1},[1]]`), small, 1, 3, format.CodeSource, "must be an object, not an array"},
		{"null for a row", in(`[["a"],null]`), small, 0, 2, format.CodeSource, "must be an array, not null"},
		{"wrong item type", in(`[["a"]]`), jsonrows.Options{ItemType: "object"}, 0, 0, format.CodeSource, "must be"},
		{"cut off", in(`[{"a":1},{"a":2`), small, 1, 3, format.CodeSource, "ends before its JSON does"},
		{"no end", in(`[{"a":1}`), small, 1, 3, format.CodeSource, "ends before its JSON does"},
		{"no end of what is round it", in(`{"r":[{"a":1}]`), jsonrows.Options{Property: "r"}, 1, 3, format.CodeSource, "ends before its JSON does"},
		{"not JSON", in(`[{"a":1},{"a":}]`), small, 1, 3, format.CodeSource, "offset 14"},
		{"single quotes", in(`[{'a':1}]`), small, 0, 0, format.CodeSource, "offset 2"},
		{"NaN", in(`[{"a":1},{"a":NaN}]`), small, 1, 3, format.CodeSource, "not JSON"},
		{"more behind it", in(`[{"a":1}] x`), small, 1, 3, format.CodeSource, "not JSON"},
		{"two values", in(`[{"a":1}][]`), small, 1, 3, format.CodeSource, "behind the end"},
		{"half a surrogate", in(`[{"a":1},{"a":"\ud83d"}]`), small, 1, 3, format.CodeSource, "not JSON"},
		{"a NUL byte", in("[{\"a\":1},\x00]"), small, 1, 3, format.CodeSource, "not JSON"},
		{"a NUL in a text", in("[{\"a\":1},{\"a\":\"\x00\"}]"), small, 1, 3, format.CodeSource, "not JSON"},
		{"latin-1 called UTF-8", in("[{\"a\":1},{\"a\":\"\xe9\"}]"), jsonrows.Options{Encoding: "utf-8"}, 1, 3, format.CodeEncoding, "offset 15"},
		{"latin-1, not declared", in("[{\"a\":1},{\"a\":\"\xe9\"}]"), small, 1, 3, format.CodeEncoding, "offset 15"},
		{"an unknown encoding", in("[]"), jsonrows.Options{Encoding: "klingon"}, 0, 0, format.CodeEncoding, "klingon"},
		{"a long text", in(`[{"a":1},{"a":"` + strings.Repeat("x", 2000) + `"}]`), small, 1, 3, format.CodeSource, "limit of 1000 bytes"},
		{"a text without an end", &endless{head: `[{"a":1},{"a":"`, unit: "x"}, small, 1, 3, format.CodeSource, "limit of 1000 bytes"},
		{"a number without an end", &endless{head: `[{"a":1},{"a":`, unit: "1"}, small, 1, 3, format.CodeSource, "limit of 1000 bytes"},
		{"blanks without an end", &endless{head: `[{"a":1},`, unit: " "}, small, 1, 3, format.CodeSource, "limit"},
		{"a key without an end", &endless{head: `[{"a":1},{"`, unit: "x"}, small, 1, 3, format.CodeSource, "limit of 1000 bytes"},
		{"an array without an end", &endless{head: `[{"a":1},{"a":[`, unit: "1,"}, small, 1, 3, format.CodeSource, "limit of 1000 bytes"},
		{"a left out text without an end", &endless{head: `[{"a":1},{"b":"`, unit: "x"}, small, 1, 3, format.CodeSource, "limit of 1000 bytes"},
		{"long keys", in(`[{"a` + strings.Repeat("x", 900) + `":1,"b` + strings.Repeat("x", 900) + `":1,"c` + strings.Repeat("x", 900) + `":1}]`), small, 0, 2, format.CodeSource, "keys of the row are longer"},
		{"deep without an end", &endless{head: `[{"a":1},{"a":`, unit: "["}, jsonrows.Options{}, 1, 3, format.CodeSource, "100 deep"},
		{"deep", in(`[{"a":1},{"a":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}]`), small, 1, 3, format.CodeSource, "100 deep"},
		{"deep, left out", &endless{head: `[{"a":1},{"b":`, unit: `{"a":`}, small, 1, 3, format.CodeSource, "100 deep"},
		{"deep before the rows", &endless{head: `{"b":`, unit: "["}, jsonrows.Options{Property: "a"}, 0, 0, format.CodeSource, "100 deep"},
		{"many columns", &endless{head: `[{"a":1},["`, unit: "x"}, jsonrows.Options{MaxCell: 1000}, 1, 3, format.CodeSource, "must be an object"},
		{"many columns of arrays", &endless{head: `[["a"],[`, unit: "1,"}, small, 0, 2, format.CodeSource, "more than 20 columns"},
		{"many keys", in("[" + wide(21) + "]"), small, 0, 2, format.CodeSource, "more than 20 columns"},
		{"a long row", in(`[["a"],[` + strings.Repeat(`"`+strings.Repeat("x", 900)+`",`, 5) + `1]]`), small, 0, 2, format.CodeSource, "row is longer"},
		{"a blank line", in("{\"a\":1}\n\n{\"a\":2}"), lines, 1, 3, format.CodeSource, "line is blank"},
		{"a bad line", in("{\"a\":1}\n{bad\n"), lines, 1, 3, format.CodeSource, "not JSON, at offset 1 of the line"},
		{"two values in a line", in("{\"a\":1}\n{\"a\":2} {}\n"), lines, 1, 3, format.CodeSource, "behind the end"},
		{"a value over two lines", in("{\"a\":1}\n{\"a\":\n2}\n"), lines, 1, 3, format.CodeSource, "the line ends before"},
		{"a line without an end", &endless{head: "{\"a\":1}\n", unit: "x"}, lines, 1, 3, format.CodeSource, "longer than the limit of 2000 bytes"},
		{"a scalar line", in("1\n"), lines, 0, 1, format.CodeSource, "must be"},
		{"a bad byte in a line", in("{\"a\":1}\n\xff\n"), lines, 1, 3, format.CodeEncoding, "offset 8"},
	} {
		_, rows, _, err := read(c.from, c.o)
		e, ok := errors.AsType[*format.Error](err)
		if !ok || len(rows) != c.rows || e.Row != c.row || e.Code != c.code || !strings.Contains(e.Message, c.want) {
			t.Errorf("%s: %d rows, then %v (%+v)", c.name, len(rows), err, e)
		}
	}
	for _, body := range []string{"", "  \n", "[]", " [ ] ", `{"a":[]}`} {
		o := jsonrows.Options{}
		if strings.Contains(body, "a") {
			o.Property = "a"
		}
		if _, _, _, err := read(strings.NewReader(body), o); err != io.EOF {
			t.Errorf("%q gives %v", body, err)
		}
	}
	broken := errors.New("the line broke")
	_, rows, _, err := read(io.MultiReader(strings.NewReader(`[{"a":1},{"a":`), iotest.ErrReader(broken)), jsonrows.Options{})
	if !errors.Is(err, broken) || len(rows) != 1 {
		t.Errorf("%d rows, then %v", len(rows), err)
	}
	// Keys that nobody wants are counted, and not kept.
	_, rows, notes, err := read(strings.NewReader(`[{"a":1},`+wide(50_000)+"]"), jsonrows.Options{})
	if err != nil || len(rows) != 2 || len(notes) > 30 {
		t.Errorf("%d rows, %d notes, %v", len(rows), len(notes), err)
	}
}

// wide is an object of so many keys.
func wide(keys int) string {
	var b strings.Builder
	for i := range keys {
		fmt.Fprintf(&b, `,"k%d":%d`, i, i)
	}
	return "{" + b.String()[1:] + "}"
}

// FuzzRead: the reader agrees with the standard library's on what that reads, its
// cells are UTF-8, and it panics on nothing.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		`[{"a":1,"b":"x"},{"b":null,"a":[1,{"x":2}]}]`, `[["a","b"],[1,2.50],[true,"\ud83d\ude00"]]`, "{\"a\":1}\n{\"a\":2}\n",
		`{"features":[{"type":"Feature","properties":{"n":1},"geometry":{"type":"Point","coordinates":[1,2]}}]}`, `[{"a":1e400,"a":-0}]`,
		`{"p":{"q":[{"a":"\u0061\\\""}]}}`, "[", `[{"a":"\ud800"}]`, "\xef\xbb\xbf[]",
	} {
		for kind := range byte(4) {
			f.Add([]byte(s), kind)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, kind byte) {
		o := []jsonrows.Options{{}, {Lines: true}, {Features: true}, {Property: "p.q"}}[kind%4]
		labels, rows, notes, err := read(bytes.NewReader(body), o)
		if !utf8.ValidString(strings.Join(labels, "") + strings.Join(rows, "") + strings.Join(notes, "")) {
			t.Fatalf("%q gives text that is not UTF-8", body)
		}
		if _, known := errors.AsType[*format.Error](err); err != nil && err != io.EOF && !known {
			t.Fatalf("%q gives %T %v", body, err, err)
		}
		if kind%4 != 0 || err != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		var want []map[string]any
		if d.Decode(&want) != nil {
			return // rows that are arrays
		}
		if len(want) != len(rows) {
			t.Fatalf("%q gives %d rows, want %d", body, len(rows), len(want))
		}
		for i, row := range rows {
			rest := strings.TrimPrefix(row, fmt.Sprint(i+2))
			for _, label := range labels {
				v, text := want[i][label].(string)
				if !text {
					return // white space and digits are other tests' matter
				}
				ok := strings.HasPrefix(rest, "|t:"+v)
				rest = strings.TrimPrefix(rest, "|t:"+v)
				if !ok && strings.TrimSpace(label) == label {
					t.Fatalf("%q: row %q has not %q", body, row, v)
				}
			}
		}
	})
}

// TestWriteRead: what the writer writes, the reader reads.
func TestWriteRead(t *testing.T) {
	t.Parallel()
	b := batch([]string{"1", null, ""}, []string{"é\n\"", "\x00", "[]"})
	out := write(t, []string{"a", "b\"", "c"}, b)
	labels, rows, _, err := read(strings.NewReader(out), jsonrows.Options{})
	want := []string{"2|t:1|n:|t:", "3|t:é\n\"|t:\x00|t:[]"}
	if err != nil || !reflect.DeepEqual(labels, []string{"a", `b"`, "c"}) || !slices.Equal(rows, want) {
		t.Errorf("%q, %q, %v", labels, rows, err)
	}
}

func BenchmarkRead(b *testing.B) {
	for _, lines := range []bool{false, true} {
		b.Run(fmt.Sprintf("lines=%v", lines), func(b *testing.B) {
			row := `{"id": 12345, "name": "some name", "when": "2020-01-02", "value": 12.50, "ok": true}`
			body := "[" + strings.Repeat(row+",\n", 20_000) + row + "]"
			if lines {
				body = strings.Repeat(row+"\n", 20_000)
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := jsonrows.NewReader(strings.NewReader(body), jsonrows.Options{Lines: lines})
				if err != nil {
					b.Fatal(err)
				}
				for {
					rows, err := r.Next()
					if err == io.EOF {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					rows.Release()
				}
			}
		})
	}
}
