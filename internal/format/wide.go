package format

import (
	"encoding/binary"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// wideForm is a form of Unicode with two or four bytes a unit.
type wideForm struct {
	size int // 2 or 4; 0: none
	big  bool
}

func (w wideForm) name() string {
	if w.big {
		return fmt.Sprintf("utf-%dbe", 8*w.size)
	}
	return fmt.Sprintf("utf-%dle", 8*w.size)
}

// marked is the form that a byte order mark says.
func marked(head []byte) wideForm {
	for _, m := range []struct {
		mark string
		form wideForm
	}{
		{"\xFF\xFE\x00\x00", wideForm{4, false}},
		{"\x00\x00\xFE\xFF", wideForm{4, true}},
		{"\xFF\xFE", wideForm{2, false}},
		{"\xFE\xFF", wideForm{2, true}},
	} {
		if len(head) >= len(m.mark) && string(head[:len(m.mark)]) == m.mark {
			return m.form
		}
	}
	return wideForm{}
}

// wideNamed is the form of a label. One that leaves the order of bytes open has that
// which the bytes suggest.
func wideNamed(name string, head []byte) wideForm {
	w := wideForm{size: 2}
	if name[4] == '3' {
		w.size = 4
	}
	switch name[6:] {
	case "le":
	case "be":
		w.big = true
	default:
		if found := unmarked(head); found.size == w.size {
			return found
		}
	}
	return w
}

// unmarked is the form that bytes without a mark have: half of the bytes of a table in
// UTF-16 are zero, or some where its letters are not Latin, for line ends and delimiters
// are ASCII; and those stand in the same half. Of UTF-32 every unit has a zero.
func unmarked(head []byte) wideForm {
	const least = 3 // zeros, which a text with a stray one has not
	var zeros [4]int
	for i, c := range head {
		if c == 0 {
			zeros[i%4]++
		}
	}
	units := len(head) / 4
	for _, w := range []wideForm{{4, false}, {4, true}} {
		last, second := 3, 2
		if w.big {
			last, second = 0, 1
		}
		if units >= least && zeros[last] >= units && zeros[second] >= units-units/4 && w.valid(head) {
			return w
		}
	}
	even, odd := zeros[0]+zeros[2], zeros[1]+zeros[3]
	w := wideForm{2, even > odd}
	high, low := max(even, odd), min(even, odd)
	const share, rest = 20, 3
	if high >= least && high*share >= len(head)/2 && low*rest <= high && w.valid(head) {
		return w
	}
	return wideForm{}
}

// valid reports whether the head of a file can be in the form, and has no characters
// that no text has.
func (w wideForm) valid(head []byte) bool {
	for len(head) >= w.size {
		r, n := w.decode(head)
		if n == 0 {
			return true // cut off
		}
		if r == utf8.RuneError || r == 0 {
			return false
		}
		if high := r >> 8; high == '\n' || high == '\r' || high == ',' {
			return false // bytes of ASCII, in the half that has the zeros
		}
		head = head[n:]
	}
	return true
}

// decode reads a character; U+FFFD is one that is not valid, and nothing is read where
// its end is not there.
func (w wideForm) decode(p []byte) (r rune, n int) {
	var order binary.ByteOrder = binary.LittleEndian
	if w.big {
		order = binary.BigEndian
	}
	if len(p) < w.size {
		return 0, 0
	}
	if w.size == 4 {
		if v := order.Uint32(p); v <= utf8.MaxRune && utf8.ValidRune(rune(v)) {
			return rune(v), 4
		}
		return utf8.RuneError, 4
	}
	r = rune(order.Uint16(p))
	if !utf16.IsSurrogate(r) {
		return r, 2
	}
	if len(p) < 4 {
		return 0, 0
	}
	return utf16.DecodeRune(r, rune(order.Uint16(p[2:]))), 4
}

// wide decodes UTF-16 and UTF-32.
type wide struct {
	r      io.Reader
	form   wideForm
	label  string
	in     []byte // read, not decoded yet
	buf    []byte
	offset int64  // of in
	out    []byte // decoded, not given out yet
	outBuf []byte
	err    error // of r
}

// Read returns UTF-8. Half a character and one that is none end it with an [EncodingError].
func (w *wide) Read(p []byte) (int, error) {
	if w.buf == nil {
		w.buf = make([]byte, 32<<10)
	}
	for len(w.out) == 0 {
		if w.err != nil && (len(w.in) == 0 || w.err != io.EOF) {
			return 0, w.err
		}
		if w.err == nil {
			have := copy(w.buf, w.in)
			var n int
			n, w.err = w.r.Read(w.buf[have:])
			w.in = w.buf[:have+n]
		}
		if err := w.decode(); err != nil {
			return 0, err
		}
	}
	n := copy(p, w.out)
	w.out = w.out[n:]
	return n, nil
}

func (w *wide) decode() error {
	w.outBuf = w.outBuf[:0]
	fault := ""
	for len(w.in) > 0 {
		r, n := w.form.decode(w.in)
		if n == 0 {
			if w.err == io.EOF {
				fault = "begin a character that the file ends in the midst of"
			}
			break
		}
		if r == utf8.RuneError && !w.replacement() {
			fault = "are no character of " + w.label
			break
		}
		w.outBuf = utf8.AppendRune(w.outBuf, r)
		w.in, w.offset = w.in[n:], w.offset+int64(n)
	}
	w.out = w.outBuf
	if fault != "" && len(w.out) == 0 {
		return &EncodingError{w.offset, fmt.Sprintf("the bytes from offset %d %s: mend the file, or declare its `encoding`", w.offset, fault)}
	}
	return nil
}

// replacement reports whether the next unit is U+FFFD itself.
func (w *wide) replacement() bool {
	switch {
	case w.form.size == 4 && w.form.big:
		return string(w.in[:4]) == "\x00\x00\xFF\xFD"
	case w.form.size == 4:
		return string(w.in[:4]) == "\xFD\xFF\x00\x00"
	case w.form.big:
		return string(w.in[:2]) == "\xFF\xFD"
	}
	return string(w.in[:2]) == "\xFD\xFF"
}
