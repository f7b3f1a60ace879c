package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
)

// EncodingError says that bytes are not in the encoding that was declared or found.
type EncodingError struct {
	Offset  int64 // of the byte in the file, from 0; -1 where no byte is to blame
	Message string
}

func (e *EncodingError) Error() string { return e.Message }

// Text turns the bytes of a file into UTF-8.
//
// A byte order mark decides and is dropped. Without one:
//
//   - Bytes that are valid UTF-8 are UTF-8, whatever single-byte encoding was declared:
//     clients guess that label from the head of a file, and a text in another encoding is
//     hardly ever valid UTF-8.
//   - Where no encoding was declared, one valid character of several bytes makes the file
//     UTF-8, and a byte that is none of it an error. Without such a character the bytes are
//     in the likeliest single-byte encoding, which a note names, or in UTF-16 or UTF-32.
//   - Where a single-byte encoding was declared, the bytes are in it unless more characters
//     of UTF-8 than stray bytes are found.
//
// The choice stays open while there is only ASCII and is made on the megabyte that
// follows the first other byte. What comes behind that megabyte cannot change it, but a
// file that it is wrong for ends with an error.
type Text struct {
	r        io.Reader
	declared string
	label    string
	notes    []string

	single  *charmap.Charmap // what the bytes are if they are not UTF-8; nil: nothing
	chosen  io.Reader        // decoder, once an encoding of several bytes is chosen
	table   *[256]rune       // once a single-byte encoding is chosen
	out     []byte           // decoded by table, not yet given out
	outBuf  []byte           // where out lies
	decided bool             // UTF-8 it is
	buf     []byte           // where pending lies
	pending []byte           // read, not yet given out
	owed    int              // bytes of pending that end a character whose first were given out
	offset  int64
	err     error

	first int64 // offset of the first byte that is not ASCII, -1 while there is none
	found evidence
}

// evidence is what speaks for UTF-8 and against it.
type evidence struct {
	characters int64 // valid ones of several bytes
	strays     int64 // bytes that are no part of one
	stray      int64 // offset of the first of them
	character  int64 // offset of the first character
}

const (
	lookAhead = 1 << 20
	headBytes = 4 << 10
)

// NewText reads a file in a declared encoding; an empty label means that none was
// declared. Its error is an [EncodingError] for a label that nobody knows.
func NewText(r io.Reader, label string) (*Text, error) {
	t := &Text{r: r, declared: label, label: "utf-8", first: -1}
	name := canonicalName(label)
	head := make([]byte, headBytes)
	n, err := io.ReadFull(r, head)
	switch err {
	case nil:
	case io.EOF, io.ErrUnexpectedEOF:
		t.err = io.EOF
	default:
		t.err = err // of the bytes behind those that were read
	}
	t.pending = head[:n]
	if bytes.HasPrefix(t.pending, []byte("\xEF\xBB\xBF")) {
		t.give(3)
		t.decided = true
		return t, nil
	}
	if w := marked(t.pending); w.size > 0 {
		t.label = fmt.Sprintf("utf-%d", 8*w.size)
		t.give(w.size)
		t.decodeWide(w)
		return t, nil
	}
	switch name {
	case "":
		if w := unmarked(t.pending); w.size > 0 {
			t.label = w.name()
			t.notes = append(t.notes, fmt.Sprintf("no encoding was declared: the bytes are %s and were read as such", strings.ToUpper(t.label)))
			t.decodeWide(w)
			return t, nil
		}
		t.single = charmap.Windows1252
		return t, nil
	case "utf-8", "utf-8-sig":
		return t, nil
	case "ascii", "us-ascii":
		return t, nil
	case "utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be":
		t.label = name
		t.decodeWide(wideNamed(name, t.pending))
		return t, nil
	}
	e, err := htmlindex.Get(name)
	if err != nil {
		e, err = ianaindex.IANA.Encoding(name)
	}
	if err != nil || e == nil {
		return nil, &EncodingError{-1, fmt.Sprintf("the encoding %q is not known", label)}
	}
	if c, ok := e.(*charmap.Charmap); ok {
		t.single = c
		return t, nil
	}
	t.label = name
	t.chosen = &multiByte{r: t.rest(), decoder: e.NewDecoder(), label: name}
	return t, nil
}

// canonicalName turns the names that Python's tools write into those of the IANA.
func canonicalName(label string) string {
	name := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(label)), "_", "-")
	switch name {
	case "utf8":
		return "utf-8"
	case "utf16", "utf32":
		return "utf-" + name[3:]
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

// rest is what was not given out yet.
func (t *Text) rest() io.Reader {
	if t.err != nil {
		return io.MultiReader(bytes.NewReader(t.pending), failing{t.err})
	}
	return io.MultiReader(bytes.NewReader(t.pending), t.r)
}

// failing is a reader that has come to an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (t *Text) decodeWide(w wideForm) {
	t.chosen = &wide{r: t.rest(), form: w, offset: t.offset, label: t.label}
}

// Encoding is the one that the bytes were read in so far.
func (t *Text) Encoding() string { return t.label }

// Notes says what was read otherwise than declared.
func (t *Text) Notes() []string { return t.notes }

// FirstOther is the place of the first character that is not ASCII among the bytes
// that were given out, -1 while there is none. It is known for the encodings that are
// ASCII with other bytes beside it.
func (t *Text) FirstOther() int64 { return t.first }

// Read gives UTF-8. Bytes that are none end it with an [EncodingError].
func (t *Text) Read(p []byte) (int, error) {
	for {
		if t.chosen != nil {
			return t.chosen.Read(p)
		}
		if t.table != nil {
			return t.readSingle(p)
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
	want = min(want, lookAhead) // a reader with much room needs no second buffer of its size
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

var errUndecided = errors.New("format: the encoding is not decided yet")

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
	switch {
	case t.single != nil && t.declared != "":
		return &EncodingError{offset, fmt.Sprintf("the byte at offset %d is not UTF-8, as the other characters of the file are although %s was declared: save the file as UTF-8", offset, t.declared)}
	case t.single != nil:
		return &EncodingError{offset, fmt.Sprintf("the byte at offset %d is not UTF-8, as the other characters of the file are: mend it, or declare the file's `encoding`", offset)}
	case t.declared != "":
		return &EncodingError{offset, fmt.Sprintf("the byte at offset %d is not UTF-8 (declared: %s); declare the file's `encoding`", offset, t.declared)}
	}
	return &EncodingError{offset, fmt.Sprintf("the byte at offset %d is not UTF-8; declare the file's `encoding`", offset)}
}

// decide looks ahead from the first byte that is not ASCII.
func (t *Text) decide() {
	for len(t.pending) < lookAhead && t.err == nil {
		t.fill(lookAhead - len(t.pending))
	}
	t.first = t.offset
	ahead := evidence{}
	ahead.add(t.pending, t.offset, t.err == io.EOF)
	utf := ahead.strays == 0 || ahead.characters > 0
	if t.declared != "" {
		utf = ahead.strays == 0 || ahead.characters > ahead.strays
	}
	if utf || t.single == nil {
		t.decided = true
		if t.declared != "" && t.single != nil {
			t.notes = append(t.notes, fmt.Sprintf("the encoding %s was declared, but the bytes are valid UTF-8 and were read as such", t.declared))
		}
		return
	}
	t.label = strings.ToLower(t.declared)
	undefined := canonicalName(t.declared) == "iso-8859-1" // which has a character for every byte
	if t.declared == "" {
		t.label, t.single = likeliest(t.pending)
		t.notes = append(t.notes, fmt.Sprintf("no encoding was declared and the bytes are not UTF-8: they were read as %s", t.label))
	}
	t.table = runesOf(t.single, undefined)
}

// readSingle returns what a single-byte encoding decodes to, and ends where the bytes
// show that they are UTF-8 after all.
func (t *Text) readSingle(p []byte) (int, error) {
	for len(t.out) == 0 {
		// A character of UTF-8 must lie whole in what is looked at.
		for len(t.pending) < utf8.UTFMax && t.err == nil {
			t.fill(len(p))
		}
		n := len(t.pending)
		if t.err == nil {
			n -= utf8.UTFMax - 1
		}
		if n <= 0 {
			if t.err == io.EOF && t.declared != "" && t.found.characters > t.found.strays {
				return 0, &EncodingError{t.found.character, fmt.Sprintf("the encoding %s was declared, but most characters behind the byte at offset %d are UTF-8: declare the file's `encoding` as it is", t.declared, t.found.character)}
			}
			return 0, t.err
		}
		n = min(n, headBytes)
		if err := t.decodeSingle(n); err != nil {
			return 0, err
		}
	}
	n := copy(p, t.out)
	t.out = t.out[n:]
	return n, nil
}

// decodeSingle decodes the first bytes that are pending.
func (t *Text) decodeSingle(n int) error {
	n = t.found.addFirst(t.pending, n, t.offset)
	if t.declared == "" && t.found.characters > 0 {
		return &EncodingError{t.first, fmt.Sprintf("the byte at offset %d is not UTF-8, as the character at offset %d is: mend it, or declare the file's `encoding` (it may be %s)", t.first, t.found.character, t.label)}
	}
	t.outBuf = t.outBuf[:0]
	for i, c := range t.pending[:n] {
		if c < utf8.RuneSelf {
			t.outBuf = append(t.outBuf, c)
			continue
		}
		r := t.table[c]
		if r == utf8.RuneError {
			at := t.offset + int64(i)
			if i > 0 { // what is before it is given first
				t.give(i)
				t.out = t.outBuf
				return nil
			}
			return &EncodingError{at, fmt.Sprintf("the byte at offset %d (0x%02X) is no character of %s: declare the file's `encoding`", at, c, t.label)}
		}
		t.outBuf = utf8.AppendRune(t.outBuf, r)
	}
	t.give(n)
	t.out = t.outBuf
	return nil
}

// add looks at all of p, which begins at an offset. An unfinished character at its end
// proves nothing, but where the file ends with it: there, two bytes or more of one are
// hardly anything else.
func (e *evidence) add(p []byte, offset int64, last bool) {
	n := len(p)
	if i := unfinished(p); i > 0 {
		n -= i
		switch {
		case last && i > 1:
			defer e.note(offset+int64(n), true)
			defer e.note(offset+int64(n), false)
		case last:
			defer e.note(offset+int64(n), false)
		}
	}
	e.addFirst(p, n, offset)
}

// addFirst looks at the characters that begin in the first n bytes of p and returns
// where the last of them ends.
func (e *evidence) addFirst(p []byte, n int, offset int64) int {
	i := 0
	for i < n {
		if next := firstNonASCII(p[i:n]); next != 0 {
			if next < 0 {
				return max(i, n)
			}
			i += next
		}
		r, size := utf8.DecodeRune(p[i:])
		e.note(offset+int64(i), r != utf8.RuneError || size > 1)
		i += size
	}
	return i
}

func (e *evidence) note(at int64, character bool) {
	if character {
		if e.characters++; e.characters == 1 {
			e.character = at
		}
		return
	}
	if e.strays++; e.strays == 1 {
		e.stray = at
	}
}

// unfinished is how many bytes at the end of p begin a character that is not whole.
func unfinished(p []byte) int {
	for i := 1; i < utf8.UTFMax && i <= len(p); i++ {
		if tail := p[len(p)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return i
			}
			return 0
		}
	}
	return 0
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

// multiByte decodes an encoding of several bytes a character, such as Shift JIS, and
// ends where its decoder puts U+FFFD in the place of bytes that it does not know.
type multiByte struct {
	r       io.Reader
	decoder *encoding.Decoder
	label   string
	in      []byte // read, not decoded yet
	offset  int64  // of in
	out     []byte // decoded, not given out yet
	err     error  // of r
}

// Read returns UTF-8.
func (m *multiByte) Read(p []byte) (int, error) {
	for len(m.out) == 0 {
		if len(m.in) == 0 && m.err != nil {
			return 0, m.err
		}
		if m.err == nil {
			have := len(m.in)
			m.in = append(m.in, make([]byte, headBytes)...)
			var n int
			n, m.err = m.r.Read(m.in[have:])
			m.in = m.in[:have+n]
		}
		if err := m.decode(); err != nil {
			return 0, err
		}
	}
	n := copy(p, m.out)
	m.out = m.out[n:]
	return n, nil
}

// decode decodes what was read, a character at a time where something is wrong, so
// that an error names the byte.
func (m *multiByte) decode() error {
	out := make([]byte, 4*len(m.in)+utf8.UTFMax)
	for len(m.in) > 0 {
		written, read, _ := m.decoder.Transform(out, m.in, m.err != nil)
		if replaced := bytes.Index(out[:written], []byte("\uFFFD")); replaced >= 0 && !m.ownReplacement() {
			return m.broken(out[:replaced])
		}
		m.out = append(m.out, out[:written]...)
		m.in, m.offset = m.in[read:], m.offset+int64(read)
		if read == 0 {
			break // the rest of a character is still to be read
		}
	}
	m.in = append([]byte{}, m.in...)
	return nil
}

// ownReplacement reports whether the bytes hold U+FFFD itself, which only one of
// these encodings has.
func (m *multiByte) ownReplacement() bool {
	return m.label == "gb18030" && bytes.Contains(m.in, []byte("\x84\x31\xA4\x37"))
}

// broken returns what stands before the bytes that are wrong, then the error.
func (m *multiByte) broken(before []byte) error {
	if len(before) == 0 {
		return &EncodingError{m.offset, fmt.Sprintf("the bytes from offset %d are not %s; declare the file's `encoding`", m.offset, m.label)}
	}
	// The first bytes that decode to what stands before.
	for n := 1; n <= len(m.in); n++ {
		out := make([]byte, 4*n+utf8.UTFMax)
		m.decoder.Reset()
		written, read, _ := m.decoder.Transform(out, m.in[:n], false)
		if bytes.Equal(out[:written], before) && read == n {
			m.out = append(m.out, before...)
			m.in, m.offset, m.r, m.err = m.in[n:], m.offset+int64(n), failing{io.EOF}, io.EOF
			return nil
		}
	}
	m.offset = -1
	return &EncodingError{-1, fmt.Sprintf("the file holds bytes that are not %s; declare the file's `encoding`", m.label)}
}
