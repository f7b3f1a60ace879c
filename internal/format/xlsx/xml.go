package xlsx

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Limits of one part. A tag is a start tag with all its attributes.
const (
	maxDepth = 64
	maxTag   = 256 << 10 // bytes
)

type tokenKind uint8

const (
	startTag tokenKind = iota
	endTag
	charData
)

// xmlReader pulls the tokens of an XML document (XML 1.0), one at a time and no
// tree. It knows what a workbook needs and refuses the rest: no document type, so
// no entities but the five of XML and numbers; UTF-8, or UTF-16 with a mark.
// Names are local ones, without their prefix. Elements must nest.
type xmlReader struct {
	r        io.Reader
	buf      []byte
	pos, end int
	err      error // of r

	// The token: valid until the next one.
	name    []byte
	attrs   []attr
	text    []byte // of charData; a long run comes in parts
	scratch []byte

	names    []byte // of the open elements, one after another
	nameEnds []int
	closing  bool // the start tag closed itself: its end comes next
	begun    bool
}

type attr struct {
	name  []byte
	value []byte
}

const xmlBuffer = 64 << 10

func newXMLReader(r io.Reader) *xmlReader {
	return &xmlReader{r: r, buf: make([]byte, xmlBuffer)}
}

// xmlError is what is wrong with a document.
type xmlError struct{ message string }

func (e *xmlError) Error() string { return e.message }

func xmlErrorf(format string, args ...any) error { return &xmlError{fmt.Sprintf(format, args...)} }

// depth is the number of open elements.
func (x *xmlReader) depth() int { return len(x.nameEnds) }

// attr gives an attribute of the start tag; nil where it has none of the name.
func (x *xmlReader) attr(name string) []byte {
	for i := range x.attrs {
		if string(x.attrs[i].name) == name {
			return x.attrs[i].value
		}
	}
	return nil
}

// begin looks for a byte order mark.
func (x *xmlReader) begin() {
	x.begun = true
	for x.end < 3 && x.err == nil {
		x.fill()
	}
	head := x.buf[:x.end]
	switch {
	case bytes.HasPrefix(head, []byte("\xEF\xBB\xBF")):
		x.pos = 3
	case bytes.HasPrefix(head, []byte("\xFF\xFE")), bytes.HasPrefix(head, []byte("\xFE\xFF")):
		rest := io.MultiReader(bytes.NewReader(bytes.Clone(head)), &failing{x.r, x.err})
		x.r = transform.NewReader(rest, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder())
		x.pos, x.end, x.err = 0, 0, nil
	}
}

// failing gives an error that a reader has given already.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.r.Read(p)
}

// fill reads more, behind what is not used yet. It moves the bytes, so slices of
// the buffer must not be held over it.
func (x *xmlReader) fill() {
	if x.pos > 0 {
		x.end = copy(x.buf, x.buf[x.pos:x.end])
		x.pos = 0
	}
	if x.end == len(x.buf) {
		x.buf = append(x.buf, make([]byte, len(x.buf))...)
	}
	for range 100 {
		n, err := x.r.Read(x.buf[x.end:])
		x.end += n
		x.err = err
		if n > 0 || err != nil {
			return
		}
	}
	x.err = io.ErrNoProgress
}

// next gives the next token; io.EOF at the end of a whole document.
func (x *xmlReader) next() (tokenKind, error) {
	if !x.begun {
		x.begin()
	}
	if x.closing {
		x.closing = false
		x.pop()
		return endTag, nil
	}
	for {
		if x.pos == x.end {
			if x.err == nil {
				x.fill()
				continue
			}
			if x.err == io.EOF && x.depth() > 0 {
				return 0, xmlErrorf("ends before all its elements do")
			}
			return 0, x.err
		}
		if x.buf[x.pos] != '<' {
			if err := x.readText(); err != nil {
				return 0, err
			}
			if len(x.text) == 0 || x.depth() == 0 {
				continue
			}
			return charData, nil
		}
		if err := x.need(2); err != nil {
			return 0, err
		}
		switch x.buf[x.pos+1] {
		case '?':
			if err := x.skip("?>"); err != nil {
				return 0, err
			}
		case '!':
			found, err := x.bang()
			if err != nil {
				return 0, err
			}
			if found {
				return charData, nil
			}
		case '/':
			return endTag, x.endTag()
		default:
			return startTag, x.startTag()
		}
	}
}

// need makes sure that so many bytes are there.
func (x *xmlReader) need(n int) error {
	for x.end-x.pos < n {
		if x.err != nil {
			return x.early()
		}
		x.fill()
	}
	return nil
}

func (x *xmlReader) early() error {
	if x.err == io.EOF {
		return xmlErrorf("ends within a tag")
	}
	return x.err
}

// skip drops everything up to and with the mark.
func (x *xmlReader) skip(mark string) error {
	for {
		if i := bytes.Index(x.buf[x.pos:x.end], []byte(mark)); i >= 0 {
			x.pos += i + len(mark)
			return nil
		}
		x.pos = max(x.pos, x.end-len(mark)+1)
		if x.err != nil {
			return x.early()
		}
		x.fill()
	}
}

// bang reads what begins with "<!": a comment, or text in CDATA.
func (x *xmlReader) bang() (text bool, err error) {
	const comment, cdata = "<!--", "<![CDATA["
	if err := x.need(len(comment)); err != nil {
		return false, err
	}
	if bytes.HasPrefix(x.buf[x.pos:x.end], []byte(comment)) {
		x.pos += len(comment)
		return false, x.skip("-->")
	}
	if err := x.need(len(cdata)); err == nil && bytes.HasPrefix(x.buf[x.pos:x.end], []byte(cdata)) && x.depth() > 0 {
		x.pos += len(cdata)
		i, err := x.find("]]>")
		if err != nil {
			return false, err
		}
		x.text = normalLines(x.buf[x.pos : x.pos+i])
		x.pos += i + len("]]>")
		return len(x.text) > 0, nil
	}
	return false, xmlErrorf("declares a document type or an entity, which no workbook needs")
}

// maxRun bounds what must lie in memory whole.
const maxRun = 1 << 20

// find gives the distance to the mark, with all before it in the buffer.
func (x *xmlReader) find(mark string) (int, error) {
	from := 0
	for {
		if i := bytes.Index(x.buf[x.pos+from:x.end], []byte(mark)); i >= 0 {
			return from + i, nil
		}
		from = max(0, x.end-x.pos-len(mark)+1)
		if from > maxRun {
			return 0, xmlErrorf("has a section of more than %d bytes", maxRun)
		}
		if x.err != nil {
			return 0, x.early()
		}
		x.fill()
	}
}

// normalLines turns every line end into LF (XML 1.0, 2.11).
func normalLines(b []byte) []byte {
	if bytes.IndexByte(b, '\r') < 0 {
		return b
	}
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
}

// readText reads text up to the next tag or the end of the buffer.
func (x *xmlReader) readText() error {
	b := x.buf[x.pos:x.end]
	i := bytes.IndexByte(b, '<')
	if i < 0 {
		i = len(b)
		// What the end of the buffer may cut: a reference, or a line end of two.
		if x.err == nil {
			if amp := bytes.LastIndexByte(b, '&'); amp >= 0 && len(b)-amp <= maxReference && bytes.IndexByte(b[amp:], ';') < 0 {
				i = amp
			} else if b[len(b)-1] == '\r' {
				i = len(b) - 1
			}
			if i == 0 {
				x.text = nil
				x.fill()
				return nil
			}
		}
	}
	b = b[:i]
	x.pos += i
	if bytes.IndexByte(b, '&') < 0 {
		x.text = normalLines(b)
		return nil
	}
	var err error
	x.scratch, err = appendUnescaped(x.scratch[:0], normalLines(b))
	x.text = x.scratch
	return err
}

const maxReference = 16 // bytes of &#x10FFFF; and more

// appendUnescaped resolves references.
func appendUnescaped(dst, b []byte) ([]byte, error) {
	for {
		i := bytes.IndexByte(b, '&')
		if i < 0 {
			return append(dst, b...), nil
		}
		dst = append(dst, b[:i]...)
		b = b[i+1:]
		end := bytes.IndexByte(b[:min(len(b), maxReference)], ';')
		if end < 0 {
			return dst, xmlErrorf("has an & that begins no reference")
		}
		switch name := string(b[:end]); name {
		case "amp":
			dst = append(dst, '&')
		case "lt":
			dst = append(dst, '<')
		case "gt":
			dst = append(dst, '>')
		case "quot":
			dst = append(dst, '"')
		case "apos":
			dst = append(dst, '\'')
		default:
			r, ok := numericReference(name)
			if !ok {
				return dst, xmlErrorf("refers to the unknown entity %q", name)
			}
			dst = utf8.AppendRune(dst, r)
		}
		b = b[end+1:]
	}
}

func numericReference(name string) (rune, bool) {
	if len(name) < 2 || name[0] != '#' {
		return 0, false
	}
	base := 10
	if name = name[1:]; name[0] == 'x' {
		name, base = name[1:], 16
	}
	n, err := strconv.ParseUint(name, base, 32)
	return rune(n), err == nil && n > 0 && n <= utf8.MaxRune && utf8.ValidRune(rune(n))
}

// tagEnd finds the end of the tag at pos, with all of it in the buffer: the
// distance to its ">".
func (x *xmlReader) tagEnd() (int, error) {
	i := 1
	var quote byte
	for {
		b := x.buf[x.pos:x.end]
		for i < len(b) {
			if quote != 0 {
				n := bytes.IndexByte(b[i:], quote)
				if n < 0 {
					i = len(b)
					break
				}
				i += n + 1
				quote = 0
				continue
			}
			switch c := b[i]; c {
			case '>':
				return i, nil
			case '"', '\'':
				quote = c
			case '<':
				return 0, xmlErrorf("has a tag within a tag")
			}
			i++
		}
		if len(b) > maxTag {
			return 0, xmlErrorf("has a tag of more than %d bytes", maxTag)
		}
		if x.err != nil {
			return 0, x.early()
		}
		x.fill()
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// localName cuts the prefix off.
func localName(name []byte) []byte {
	if _, local, ok := bytes.Cut(name, []byte{':'}); ok {
		return local
	}
	return name
}

func (x *xmlReader) startTag() error {
	n, err := x.tagEnd()
	if err != nil {
		return err
	}
	tag := x.buf[x.pos+1 : x.pos+n]
	x.pos += n + 1
	if len(tag) > 0 && tag[len(tag)-1] == '/' {
		x.closing = true
		tag = tag[:len(tag)-1]
	}
	i := 0
	for i < len(tag) && !isSpace(tag[i]) {
		i++
	}
	full := tag[:i]
	if len(full) == 0 || bytes.ContainsAny(full, `=&"'`) {
		return xmlErrorf("has a tag without a name")
	}
	if x.depth() >= maxDepth {
		return xmlErrorf("nests more than %d elements", maxDepth)
	}
	x.names = append(x.names, full...)
	x.nameEnds = append(x.nameEnds, len(x.names))
	x.name = localName(full)
	x.attrs = x.attrs[:0]
	x.scratch = x.scratch[:0]
	for {
		for i < len(tag) && isSpace(tag[i]) {
			i++
		}
		if i == len(tag) {
			return nil
		}
		from := i
		for i < len(tag) && tag[i] != '=' && !isSpace(tag[i]) {
			i++
		}
		name := tag[from:i]
		for i < len(tag) && isSpace(tag[i]) {
			i++
		}
		if i == len(tag) || tag[i] != '=' || len(name) == 0 {
			return xmlErrorf("has an attribute without a value")
		}
		for i++; i < len(tag) && isSpace(tag[i]); i++ {
		}
		if i == len(tag) || tag[i] != '"' && tag[i] != '\'' {
			return xmlErrorf("has an attribute without quotes")
		}
		end := bytes.IndexByte(tag[i+1:], tag[i])
		if end < 0 {
			return xmlErrorf("has an attribute without an end")
		}
		value := tag[i+1 : i+1+end]
		i += end + 2
		if bytes.IndexByte(value, '&') >= 0 {
			at := len(x.scratch)
			if x.scratch, err = appendUnescaped(x.scratch, value); err != nil {
				return err
			}
			value = x.scratch[at:len(x.scratch):len(x.scratch)]
		}
		if !bytes.HasPrefix(name, []byte("xmlns")) {
			x.attrs = append(x.attrs, attr{localName(name), value})
		}
	}
}

func (x *xmlReader) endTag() error {
	n, err := x.tagEnd()
	if err != nil {
		return err
	}
	name := x.buf[x.pos+2 : x.pos+n]
	for len(name) > 0 && isSpace(name[len(name)-1]) {
		name = name[:len(name)-1]
	}
	if !x.open(name) {
		return xmlErrorf("ends an element that is not open")
	}
	x.pos += n + 1
	x.pop()
	return nil
}

// open reports whether the innermost open element has the name.
func (x *xmlReader) open(name []byte) bool {
	d := len(x.nameEnds)
	if d == 0 {
		return false
	}
	from := 0
	if d > 1 {
		from = x.nameEnds[d-2]
	}
	return bytes.Equal(x.names[from:], name)
}

// pop closes the innermost element and makes its name the token's.
func (x *xmlReader) pop() {
	d := len(x.nameEnds) - 1
	from := 0
	if d > 0 {
		from = x.nameEnds[d-1]
	}
	x.name = localName(x.names[from:]) // stays there until the next start tag
	x.names, x.nameEnds = x.names[:from], x.nameEnds[:d]
}

// skipElement reads to the end of the element whose start tag came last.
func (x *xmlReader) skipElement() error {
	for depth := x.depth(); x.depth() >= depth; {
		if _, err := x.next(); err != nil {
			return err
		}
	}
	return nil
}
