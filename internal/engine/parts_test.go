package engine

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/datahq/specstore/internal/errs"
)

// TestParts: files that are read as one give every row once, and one header.
func TestParts(t *testing.T) {
	t.Parallel()
	const mark = "\ufeff"
	long := strings.Repeat("x", 200_000)
	for _, c := range []struct {
		name  string
		lines bool
		head  int
		parts []string
		want  string
	}{
		{"bytes", false, 0, []string{"ab", "", "cd\n"}, "abcd\n"},
		{"a header each", true, 1, []string{"h\n1\n", "h\n2\n", "h\r\n3"}, "h\n1\n2\n3"},
		{"the header once", true, 1, []string{"h\n1\n", "2\n", "3\n"}, "h\n1\n2\n3\n"},
		{"no line end", true, 1, []string{"h\n1", "h\n2", "3"}, "h\n1\n2\n3"},
		{"carriage returns", true, 1, []string{"h\r\n1\r\n", "h\r\n2\r\n"}, "h\r\n1\r\n2\r\n"},
		{"no header", true, 0, []string{"1\n", "1\n"}, "1\n1\n"},
		{"two lines of header", true, 2, []string{"a\nb\n1\n", "a\nb\n2\n", "a\nc\n3\n"}, "a\nb\n1\n2\na\nc\n3\n"},
		{"a header alone", true, 1, []string{"h\n", "h\n1\n", "h"}, "h\n1\n"},
		{"empty parts", true, 1, []string{"h\n1", "", "h\n2\n", ""}, "h\n1\n2\n"},
		{"marks", true, 1, []string{mark + "h\n1\n", mark + "h\n2\n", mark + "3\n"}, mark + "h\n1\n2\n3\n"},
		{"a long header", true, 1, []string{long + "\n1\n", long + "\n2\n"}, long + "\n1\n2\n"},
		{"a long row", true, 1, []string{"h\n" + long, long}, "h\n" + long + "\n" + long},
	} {
		for _, slow := range []bool{false, true} {
			p := &parts{count: len(c.parts), lines: c.lines, head: c.head, open: func(i int) (io.ReadCloser, error) {
				r := io.Reader(strings.NewReader(c.parts[i]))
				if slow {
					r = iotest.OneByteReader(r)
				}
				return io.NopCloser(r), nil
			}}
			if err := p.next(); err != nil {
				t.Fatal(c.name, err)
			}
			got, err := io.ReadAll(p)
			if err != nil || string(got) != c.want {
				t.Errorf("%s: %.100q, %v; want %.100q", c.name, got, err, c.want)
			}
		}
	}
}

// TestPartsRefused: what cannot be read as one says which part is to blame.
func TestPartsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text, want string
		err        error
	}{
		"UTF-16":        {"\xff\xfeh\x00\n\x00", "part 2 of 2 is in UTF-16", nil},
		"endless":       {strings.Repeat("x", 2<<20), "part 2 of 2: its header is longer", nil},
		"not there":     {"", "part 2 of 2: it is gone", errs.New(errs.Invalid, "test", "it is gone")},
		"breaks off":    {"h\n1", "", io.ErrUnexpectedEOF},
		"breaks at all": {"", "", io.ErrUnexpectedEOF},
	} {
		p := &parts{count: 2, lines: true, head: 1, open: func(i int) (io.ReadCloser, error) {
			if i == 0 {
				return io.NopCloser(strings.NewReader("h\n0\n")), nil
			}
			if c.want != "" && c.err != nil {
				return nil, c.err
			}
			r := io.Reader(strings.NewReader(c.text))
			if c.err != nil {
				r = io.MultiReader(r, iotest.ErrReader(c.err))
			}
			return io.NopCloser(r), nil
		}}
		if err := p.next(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(p); err == nil || !strings.Contains(errs.Detail(err), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
