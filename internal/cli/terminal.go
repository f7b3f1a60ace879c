package cli

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"unicode"
	"unicode/utf8"
)

// plainText is a writer of text for people. Whatever the text holds, and it may come from
// a server, a file or a cell, nothing in it moves the cursor, changes a colour or turns
// the direction of letters: such characters are written as escapes, and so are bytes that
// are no UTF-8. It does so whether or not a terminal reads it. Data (JSON, CSV) do not
// pass through it.
type plainText struct {
	mu   sync.Mutex
	w    io.Writer
	part []byte // of a letter whose rest is to come
}

// Write writes p whole. A letter may be split over two writes.
func (t *plainText) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in := p
	if len(t.part) > 0 {
		in = append(t.part, p...)
		t.part = nil
	}
	var out bytes.Buffer
	out.Grow(len(in))
	for len(in) > 0 {
		r, size := utf8.DecodeRune(in)
		switch {
		case r == utf8.RuneError && size == 1 && !utf8.FullRune(in):
			t.part = bytes.Clone(in)
			in = nil
			continue
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, in[0])
		case r == '\n', r == '\t':
			out.WriteRune(r)
		case r < 0x100 && unicode.IsControl(r):
			fmt.Fprintf(&out, `\x%02x`, r)
		case unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			fmt.Fprintf(&out, `\u%04x`, r)
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
