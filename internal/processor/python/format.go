package python

import (
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cockroachdb/apd/v3"
	"github.com/datahq/specstore/internal/stream"
)

// Format is a format string with the names of fields: "{year}-{month:02d}".
//
// Of Python's language it knows {{ and }}, names, the conversions !s and !r, and of
// the format specification fill, align, sign, width, grouping, precision and the
// types s d b o x X e E f F %. Indexes and attributes ({a.b}, {a[0]}), nested fields
// and numbers by place are refused.
type Format struct{ parts []part }

type part struct {
	literal    string
	name       string
	field      bool
	conversion byte
	spec       spec
}

// spec is a format specification.
type spec struct {
	text      string
	fill      string
	align     byte
	sign      byte
	zero      bool
	group     byte
	width     int
	precision int // -1: none
	kind      byte
}

const maxWidth = 1000

// Lookup finds a field of the row: it is false where the row has none of that name.
type Lookup func(name string) (kind stream.Kind, text []byte, ok bool)

// ParseFormat reads a format string. Its error is Invalid.
func ParseFormat(s string) (*Format, error) {
	f := &Format{}
	literal := ""
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			literal += s
			break
		}
		literal += s[:i]
		c := s[i]
		s = s[i+1:]
		if s != "" && s[0] == c {
			literal += string(c)
			s = s[1:]
			continue
		}
		if c == '}' {
			return nil, invalid("a single } stands in the format; a brace that is meant as text is doubled")
		}
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return nil, invalid("a { in the format is not closed")
		}
		p, err := parseField(s[:end])
		if err != nil {
			return nil, err
		}
		if literal != "" {
			f.parts = append(f.parts, part{literal: literal})
			literal = ""
		}
		f.parts = append(f.parts, p)
		s = s[end+1:]
	}
	if literal != "" {
		f.parts = append(f.parts, part{literal: literal})
	}
	return f, nil
}

// FieldsFormat is the format of some fields, one after the other.
func FieldsFormat(names []string, between string) *Format {
	f := &Format{}
	for i, name := range names {
		if i > 0 && between != "" {
			f.parts = append(f.parts, part{literal: between})
		}
		f.parts = append(f.parts, part{name: name, field: true, spec: spec{precision: -1}})
	}
	return f
}

// Names are the fields that the format names.
func (f *Format) Names() []string {
	var names []string
	for _, p := range f.parts {
		if p.field {
			names = append(names, p.name)
		}
	}
	return names
}

func parseField(s string) (part, error) {
	p := part{field: true, spec: spec{precision: -1}}
	name, rest := s, ""
	if i := strings.IndexAny(s, "!:"); i >= 0 {
		name, rest = s[:i], s[i:]
	}
	switch {
	case name == "":
		return p, invalid("a {} in the format names no field")
	case strings.ContainsAny(name, ".["):
		return p, invalid("{%s}: a format names fields only, and no parts of them", s)
	case strings.Contains(s, "{"):
		return p, invalid("{%s}: fields inside fields are not supported", s)
	}
	if _, err := strconv.Atoi(name); err == nil {
		return p, invalid("{%s}: a field is named, not counted", s)
	}
	p.name = name
	if strings.HasPrefix(rest, "!") {
		if len(rest) < 2 || rest[1] != 's' && rest[1] != 'r' || len(rest) > 2 && rest[2] != ':' {
			return p, invalid("{%s}: of conversions !s and !r are supported", s)
		}
		p.conversion = rest[1]
		rest = rest[2:]
	}
	if rest != "" {
		var ok bool
		if p.spec, ok = parseSpec(rest[1:]); !ok {
			return p, invalid("{%s}: the format specification is not supported", s)
		}
	}
	return p, nil
}

func parseSpec(s string) (spec, bool) {
	p := spec{text: s, precision: -1, fill: " "}
	const aligns = "<>=^"
	if r, size := utf8.DecodeRuneInString(s); size > 0 && size < len(s) && strings.IndexByte(aligns, s[size]) >= 0 {
		p.fill, p.align = string(r), s[size]
		s = s[size+1:]
	} else if s != "" && strings.IndexByte(aligns, s[0]) >= 0 {
		p.align = s[0]
		s = s[1:]
	}
	if s != "" && strings.IndexByte("+- ", s[0]) >= 0 {
		p.sign = s[0]
		s = s[1:]
	}
	if strings.HasPrefix(s, "0") {
		p.zero = true
		s = s[1:]
	}
	var ok bool
	if p.width, s, ok = leadingNumber(s, 0); !ok {
		return p, false
	}
	if s != "" && (s[0] == ',' || s[0] == '_') {
		p.group = s[0]
		s = s[1:]
	}
	if strings.HasPrefix(s, ".") {
		if p.precision, s, ok = leadingNumber(s[1:], -1); !ok || p.precision < 0 {
			return p, false
		}
	}
	if s != "" {
		p.kind = s[0]
		s = s[1:]
	}
	return p, s == "" && (p.kind == 0 || strings.IndexByte("sdboxXeEfF%", p.kind) >= 0)
}

func leadingNumber(s string, none int) (int, string, bool) {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	if n == 0 {
		return none, s, true
	}
	v, err := strconv.Atoi(s[:n])
	return v, s[n:], err == nil && v <= maxWidth
}

// Append appends the format filled with the fields of a row. It fails with Invalid
// where the row lacks a field or its value does not suit its specification.
func (f *Format) Append(dst []byte, row Lookup) ([]byte, error) {
	return f.append(dst, row, nil)
}

// AppendKey appends a key to sort by: as Append, but numbers without a
// specification are written so that they sort by value.
func (f *Format) AppendKey(dst []byte, row Lookup) ([]byte, error) {
	return f.append(dst, row, AppendSortKey)
}

func (f *Format) append(dst []byte, row Lookup, number func([]byte, Number) []byte) ([]byte, error) {
	start := len(dst)
	for _, p := range f.parts {
		if err := checkLength(len(dst) - start); err != nil {
			return dst, err
		}
		if !p.field {
			dst = append(dst, p.literal...)
			continue
		}
		kind, text, ok := row(p.name)
		if !ok {
			return dst, invalid("the row has no field %q", p.name)
		}
		if number != nil && p.spec.text == "" && p.conversion == 0 {
			if kind == stream.Integer {
				dst = appendIntegerKey(dst, text)
				continue
			}
			if n, ok := ParseNumber(kind, text); ok {
				dst = number(dst, n)
				continue
			}
		}
		var err error
		if dst, err = p.fill(dst, kind, text); err != nil {
			return dst, err
		}
	}
	return dst, checkLength(len(dst) - start)
}

func (p part) fill(dst []byte, kind stream.Kind, text []byte) ([]byte, error) {
	if p.conversion != 0 || p.spec.text == "" || kind == stream.Text {
		s := Str(kind, text)
		if p.conversion == 'r' && (kind == stream.Text) {
			s = string(appendQuoted(nil, s))
		}
		return p.text(dst, s)
	}
	n, ok := ParseNumber(kind, text)
	if !ok {
		return dst, invalid("{%s:%s}: %q is neither a text nor a number", p.name, p.spec.text, Str(kind, text))
	}
	return p.number(dst, n)
}

func (p part) text(dst []byte, s string) ([]byte, error) {
	if p.spec.text == "" {
		return append(dst, s...), nil
	}
	if p.spec.kind != 0 && p.spec.kind != 's' || p.spec.align == '=' || p.spec.sign != 0 || p.spec.group != 0 || p.spec.zero && p.spec.align == 0 {
		return dst, invalid("{%s:%s}: %q is a text, and the specification is for numbers", p.name, p.spec.text, s)
	}
	if p.spec.precision >= 0 {
		if r := []rune(s); len(r) > p.spec.precision {
			s = string(r[:p.spec.precision])
		}
	}
	return p.pad(dst, "", s, '<'), nil
}

func (p part) number(dst []byte, n Number) ([]byte, error) {
	unsuited := func() ([]byte, error) {
		return dst, invalid("{%s:%s}: the specification does not suit %s", p.name, p.spec.text, n.Append(nil))
	}
	var digits string
	switch k := p.spec.kind; k {
	case 0:
		if p.spec.precision >= 0 {
			return unsuited()
		}
		digits = string(n.Append(nil))
	case 'd', 'b', 'o', 'x', 'X':
		if n.kind != stream.Integer || p.spec.precision >= 0 {
			return unsuited()
		}
		digits = n.i.Text(map[byte]int{'d': 10, 'b': 2, 'o': 8, 'x': 16, 'X': 16}[k])
		if k == 'X' {
			digits = strings.ToUpper(digits)
		}
	case 'e', 'E', 'f', 'F', '%':
		digits = n.fixed(k, p.spec.precision)
	default:
		return unsuited()
	}
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	} else if p.spec.sign == '+' || p.spec.sign == ' ' {
		sign = string(p.spec.sign)
	}
	if p.spec.group != 0 {
		digits = grouped(digits, p.spec.group)
	}
	if p.spec.zero && p.spec.align == 0 {
		p.spec.fill, p.spec.align = "0", '='
	}
	return p.pad(dst, sign, digits, '>'), nil
}

// fixed writes a number with so many digits behind the point, 6 where it is -1.
func (n Number) fixed(kind byte, precision int) string {
	if precision < 0 {
		precision = 6
	}
	percent := ""
	if kind == '%' {
		n, kind, percent = Multiply(n, Int(100)), 'f', "%"
	}
	if n.kind == stream.Number && (kind == 'f' || kind == 'F') && n.d.Form == apd.Finite && n.d.Exponent <= maxExponent {
		c := apd.BaseContext.WithPrecision(uint32(n.d.NumDigits()) + uint32(max(n.d.Exponent, 0)) + uint32(precision) + 1)
		c.Rounding = apd.RoundHalfEven
		z := new(apd.Decimal)
		if _, err := c.Quantize(z, n.d, -int32(precision)); err == nil {
			return z.Text('f') + percent
		}
	}
	if n.kind == stream.Integer && (kind == 'f' || kind == 'F') {
		return new(big.Rat).SetInt(n.i).FloatString(precision) + percent
	}
	text := strconv.FormatFloat(n.float(), kind|0x20, precision, 64)
	if kind == 'E' {
		text = strings.ToUpper(text)
	}
	return text + percent
}

func grouped(digits string, by byte) string {
	end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(digits)
	}
	var b strings.Builder
	for i := range end {
		if i > 0 && (end-i)%3 == 0 {
			b.WriteByte(by)
		}
		b.WriteByte(digits[i])
	}
	return b.String() + digits[end:]
}

func (p part) pad(dst []byte, sign, s string, align byte) []byte {
	if p.spec.align != 0 {
		align = p.spec.align
	}
	missing := max(p.spec.width-utf8.RuneCountInString(sign)-utf8.RuneCountInString(s), 0)
	fill := func(n int) { dst = append(dst, strings.Repeat(p.spec.fill, n)...) }
	switch align {
	case '=':
		dst = append(dst, sign...)
		fill(missing)
		return append(dst, s...)
	case '>':
		fill(missing)
	case '^':
		fill(missing / 2)
	}
	dst = append(append(dst, sign...), s...)
	switch align {
	case '<':
		fill(missing)
	case '^':
		fill(missing - missing/2)
	}
	return dst
}
