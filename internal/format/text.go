package format

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
	"golang.org/x/text/transform"
)

// EncodingError says that bytes are not in the encoding that was declared or found.
type EncodingError struct {
	Offset  int64 // of the byte in the file, from 0; -1 where no byte is to blame
	Message string
}

func (e *EncodingError) Error() string { return e.Message }

// Text turns the bytes of a file into UTF-8.
//
// A byte order mark decides and is dropped. Without one, bytes that are valid
// UTF-8 are UTF-8, whatever single-byte encoding was declared: clients guess that
// label from the head of a file, and a text in another encoding is hardly ever
// valid UTF-8. The choice stays open while there is only ASCII and is made on the
// megabyte that follows the first other byte.
type Text struct {
	r        io.Reader
	declared string
	label    string
	notes    []string

	single  encoding.Encoding // what the bytes are if they are not UTF-8; nil: nothing
	chosen  io.Reader         // decoder, once another encoding than UTF-8 is chosen
	decided bool              // UTF-8 it is
	buf     []byte            // where pending lies
	pending []byte            // read, not yet given out
	owed    int               // bytes of pending that end a character whose first were given out
	offset  int64
	err     error
}

const lookAhead = 1 << 20

// NewText reads a file in a declared encoding; an empty label means that none was
// declared. Its error is an [EncodingError] for a label that nobody knows.
func NewText(r io.Reader, label string) (*Text, error) {
	t := &Text{r: r, declared: label, label: "utf-8"}
	name := canonicalName(label)
	head := make([]byte, 4)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte("\xEF\xBB\xBF")):
		t.pending, t.offset = head[3:], 3
		t.decided = true
		return t, nil
	case bytes.HasPrefix(head, []byte("\xFF\xFE\x00\x00")), bytes.HasPrefix(head, []byte("\x00\x00\xFE\xFF")):
		t.label = "utf-32"
		t.decode(utf32.UTF32(utf32.LittleEndian, utf32.UseBOM), head)
		return t, nil
	case bytes.HasPrefix(head, []byte("\xFF\xFE")), bytes.HasPrefix(head, []byte("\xFE\xFF")):
		t.label = "utf-16"
		t.decode(unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), head)
		return t, nil
	}
	t.pending = head
	switch name {
	case "":
		t.single = charmap.Windows1252
		return t, nil
	case "utf-8", "utf-8-sig":
		return t, nil
	case "ascii", "us-ascii":
		return t, nil
	case "utf-32", "utf-32le", "utf-32be":
		order := utf32.LittleEndian
		if name == "utf-32be" {
			order = utf32.BigEndian
		}
		t.label = name
		t.decode(utf32.UTF32(order, utf32.IgnoreBOM), head)
		return t, nil
	}
	e, err := htmlindex.Get(name)
	if err != nil {
		e, err = ianaindex.IANA.Encoding(name)
	}
	if err != nil || e == nil {
		return nil, &EncodingError{-1, fmt.Sprintf("the encoding %q is not known", label)}
	}
	if _, ok := e.(*charmap.Charmap); ok {
		t.single = e
		return t, nil
	}
	t.label = name
	t.decode(e, head)
	return t, nil
}

// canonicalName turns the names that Python's tools write into those of the IANA.
func canonicalName(label string) string {
	name := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(label)), "_", "-")
	switch name {
	case "utf8":
		return "utf-8"
	case "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be":
		return name[:6] + name[7:]
	case "latin-1", "iso8859-1", "l1":
		return "iso-8859-1"
	}
	if number, ok := strings.CutPrefix(name, "iso8859-"); ok {
		return "iso-8859-" + number
	}
	if number, ok := strings.CutPrefix(name, "cp125"); ok {
		return "windows-125" + number
	}
	return name
}

func (t *Text) decode(e encoding.Encoding, head []byte) {
	t.chosen = decoded(io.MultiReader(bytes.NewReader(head), t.r), e, t.label)
}

func decoded(r io.Reader, e encoding.Encoding, label string) io.Reader {
	return transform.NewReader(r, &strict{e.NewDecoder(), label, strings.HasPrefix(label, "utf-") || label == "gb18030"})
}

// strict ends a decoder where it puts U+FFFD in the place of bytes that it does
// not know. Only the encodings of Unicode have that character themselves.
type strict struct {
	*encoding.Decoder
	label   string
	unicode bool
}

// Transform decodes as the decoder does (see [transform.Transformer]).
func (s *strict) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	nDst, nSrc, err = s.Decoder.Transform(dst, src, atEOF)
	if !s.unicode {
		if i := bytes.Index(dst[:nDst], []byte("\uFFFD")); i >= 0 {
			return i, nSrc, &EncodingError{-1, fmt.Sprintf("the file holds bytes that are not %s; declare the file's `encoding`", s.label)}
		}
	}
	return nDst, nSrc, err
}

// Encoding is the one that the bytes were read in so far.
func (t *Text) Encoding() string { return t.label }

// Notes says what was read otherwise than declared.
func (t *Text) Notes() []string { return t.notes }

// Read gives UTF-8. Bytes that are none end it with an [EncodingError].
func (t *Text) Read(p []byte) (int, error) {
	for {
		if t.chosen != nil {
			return t.chosen.Read(p)
		}
		if t.owed > 0 || len(p) == 0 {
			n := copy(p, t.pending[:t.owed])
			t.give(n)
			t.owed -= n
			return n, nil
		}
		if len(t.pending) > 0 {
			n := copy(p, t.pending)
			valid, err := t.check(p[:n], len(t.pending) > n || t.err == nil)
			if err == errUndecided {
				t.decide()
				continue
			}
			if valid > 0 || err != nil {
				t.give(valid)
				return valid, err
			}
			// The character at the beginning is longer than p, or unfinished.
			if utf8.FullRune(t.pending) {
				r, size := utf8.DecodeRune(t.pending)
				if r == utf8.RuneError && size == 1 {
					return 0, t.invalid(t.offset)
				}
				t.owed = size - n
				t.give(n)
				return n, nil
			}
			if t.err != nil {
				return 0, t.invalid(t.offset)
			}
		}
		if t.err != nil {
			return 0, t.err
		}
		t.fill(len(p))
	}
}

// give drops what was given out from what is pending.
func (t *Text) give(n int) {
	t.pending = t.pending[n:]
	t.offset += int64(n)
}

// fill reads more behind what is pending.
func (t *Text) fill(want int) {
	const chunk = 64 << 10
	have := len(t.pending)
	if cap(t.pending)-have < min(want, chunk) {
		buf := t.buf
		if len(buf) < have+max(want, chunk) {
			buf = make([]byte, have+max(want, chunk))
		}
		copy(buf, t.pending)
		t.buf, t.pending = buf, buf[:have]
	}
	n, err := t.r.Read(t.pending[have:cap(t.pending)])
	t.pending, t.err = t.pending[:have+n], err
}

var errUndecided = fmt.Errorf("format: the encoding is not decided yet")

// check gives the length of the valid UTF-8 at the beginning of p.
func (t *Text) check(p []byte, more bool) (int, error) {
	if !t.decided {
		if i := firstNonASCII(p); i < 0 {
			return len(p), nil
		} else if i > 0 {
			return i, nil
		}
		return 0, errUndecided
	}
	if utf8.Valid(p) {
		return len(p), nil
	}
	n := 0
	for n < len(p) {
		r, size := utf8.DecodeRune(p[n:])
		if r == utf8.RuneError && size <= 1 {
			if more && !utf8.FullRune(p[n:]) {
				return n, nil
			}
			return n, t.invalid(t.offset + int64(n))
		}
		n += size
	}
	return n, nil
}

func (t *Text) invalid(offset int64) error {
	what := "not UTF-8"
	if t.declared != "" {
		what = fmt.Sprintf("not UTF-8 (declared: %s)", t.declared)
	}
	return &EncodingError{offset, fmt.Sprintf("the byte at offset %d is %s; declare the file's `encoding`", offset, what)}
}

// decide looks ahead from the first byte that is not ASCII.
func (t *Text) decide() {
	for len(t.pending) < lookAhead && t.err == nil {
		t.fill(lookAhead - len(t.pending))
	}
	p := t.pending
	for i := 1; i < utf8.UTFMax && t.err == nil && len(p) > 0; i++ { // an unfinished character at the end proves nothing
		if r, size := utf8.DecodeLastRune(p); r != utf8.RuneError || size > 1 {
			break
		}
		p = p[:len(p)-1]
	}
	if utf8.Valid(p) || t.single == nil {
		t.decided = true
		if t.declared != "" && t.single != nil {
			t.notes = append(t.notes, fmt.Sprintf("the encoding %s was declared, but the bytes are valid UTF-8 and were read as such", t.declared))
		}
		return
	}
	t.label = strings.ToLower(t.declared)
	if t.declared == "" {
		t.label = "windows-1252"
		t.notes = append(t.notes, "no encoding was declared and the bytes are not UTF-8: they were read as windows-1252")
	}
	rest := io.Reader(bytes.NewReader(t.pending))
	if t.err == nil {
		rest = io.MultiReader(rest, t.r)
	}
	t.chosen = decoded(rest, t.single, t.label)
}

// firstNonASCII is the index of the first byte over 127, -1 where there is none.
func firstNonASCII(p []byte) int {
	i := 0
	for ; i+8 <= len(p); i += 8 {
		if (p[i]|p[i+1]|p[i+2]|p[i+3]|p[i+4]|p[i+5]|p[i+6]|p[i+7])&0x80 != 0 {
			break
		}
	}
	for ; i < len(p); i++ {
		if p[i] >= utf8.RuneSelf {
			return i
		}
	}
	return -1
}
