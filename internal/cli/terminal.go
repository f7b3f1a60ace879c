package cli

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"
)

// form is what a [plainText] writes.
type form int

const (
	peopleText form = iota // lines
	tableText              // CSV, whose lines may end with CR LF
	jsonText               // JSON, in which such characters stand in strings alone
)

// plainText is a writer of text. Whatever the text holds, and it may come from a server, a
// file or a cell, nothing in it moves the cursor, changes a colour or turns the direction
// of letters: such characters are written as escapes, and so are bytes that are no UTF-8.
// It does so whether or not a terminal reads it. JSON stays the same document.
type plainText struct {
	mu   sync.Mutex
	w    io.Writer
	form form
	part []byte // of a letter, or of the end of a line, whose rest is to come
}

// Write writes p whole. A letter may be split over two writes.
func (t *plainText) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.part) == 0 && isPlain(p) {
		return t.w.Write(p)
	}
	in := p
	if len(t.part) > 0 {
		in = slices.Concat(t.part, p)
		t.part = nil
	}
	var out bytes.Buffer
	out.Grow(len(in))
	for len(in) > 0 {
		r, size := utf8.DecodeRune(in)
		switch {
		case r == utf8.RuneError && size == 1 && !utf8.FullRune(in), r == '\r' && t.form == tableText && len(in) == 1:
			t.part = bytes.Clone(in)
			size = len(in)
		case r == '\r' && t.form == tableText && in[1] == '\n':
			out.WriteString("\r\n")
			size = 2
		case r == utf8.RuneError && size == 1:
			t.escape(&out, rune(in[0]), false)
		case r == '\n', r == '\t':
			out.WriteRune(r)
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			t.escape(&out, r, true)
		default:
			out.Write(in[:size])
		}
		in = in[size:]
	}
	if _, err := t.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// escape writes a character that is not shown, or a byte that is no part of one.
func (t *plainText) escape(out *bytes.Buffer, r rune, valid bool) {
	switch {
	case t.form == jsonText && !valid:
		out.WriteString(`\ufffd`)
	case t.form == jsonText && r == '\r': // between the tokens of a document; in strings it is escaped
		out.WriteByte('\n')
	case r < 0x100 && t.form != jsonText:
		fmt.Fprintf(out, `\x%02x`, r)
	default:
		fmt.Fprintf(out, `\u%04x`, r)
	}
}

// isPlain reports whether a text is ASCII without control characters other than the ends
// of lines and tabs.
func isPlain(p []byte) bool {
	for _, c := range p {
		if c >= 0x7f || c < ' ' && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}
