package python

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/go-json-experiment/json/jsontext"
)

const hexDigits = "0123456789abcdef"

// JSON says how json.dumps is asked to write; keys are always sorted.
type JSON struct {
	ASCII  bool // other characters as \uXXXX
	Indent int  // blanks a level; 0 is one line with ", " and ": "
}

// Append appends a value of the JSON value space. Numbers are written as Python
// reads and prints them: integers digit for digit, others as floats.
func (o JSON) Append(dst []byte, v any) []byte { return appendValue(dst, v, o) }

func appendValue(dst []byte, v any, o JSON) []byte { return o.value(dst, v, 1) }

func (o JSON) value(dst []byte, v any, depth int) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case string:
		return AppendString(dst, v, o.ASCII)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case float64:
		return AppendFloat(dst, v)
	case json.Number:
		return AppendNumber(dst, string(v))
	case []any:
		if len(v) == 0 {
			return append(dst, '[', ']')
		}
		dst = append(dst, '[')
		for i, item := range v {
			dst = o.value(o.separate(dst, i, depth), item, depth+1)
		}
		return append(o.line(dst, depth-1), ']')
	case map[string]any:
		if len(v) == 0 {
			return append(dst, '{', '}')
		}
		dst = append(dst, '{')
		for i, key := range sortedKeys(v) {
			dst = append(AppendString(o.separate(dst, i, depth), key, o.ASCII), ": "...)
			dst = o.value(dst, v[key], depth+1)
		}
		return append(o.line(dst, depth-1), '}')
	}
	// Nothing else is in the JSON value space.
	b, err := json.Marshal(v)
	if err != nil {
		return append(dst, "null"...)
	}
	return append(dst, b...)
}

func (o JSON) separate(dst []byte, i, depth int) []byte {
	switch {
	case i > 0 && o.Indent == 0:
		return append(dst, ", "...)
	case i > 0:
		dst = append(dst, ',')
	}
	return o.line(dst, depth)
}

func (o JSON) line(dst []byte, depth int) []byte {
	if o.Indent == 0 {
		return dst
	}
	dst = append(dst, '\n')
	for range depth * o.Indent {
		dst = append(dst, ' ')
	}
	return dst
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// AppendNumber appends a JSON number as Python reads and prints it.
func AppendNumber(dst []byte, text string) []byte {
	if !strings.ContainsAny(text, ".eE") {
		return append(dst, text...)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return append(dst, text...) // Python would write no JSON
	}
	return AppendFloat(dst, f)
}

// AppendString appends a JSON string.
func AppendString[T string | []byte](dst []byte, text T, ascii bool) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' || c >= utf8.RuneSelf && !ascii {
			i++
			continue
		}
		dst = append(dst, text[from:i]...)
		size := 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			var r rune
			r, size = utf8.DecodeRuneInString(string(text[i:min(i+utf8.UTFMax, len(text))]))
			dst = appendEscaped(dst, r)
		}
		i += size
		from = i
	}
	return append(append(dst, text[from:]...), '"')
}

func appendEscaped(dst []byte, r rune) []byte {
	if r > 0xffff {
		r -= 0x10000
		return appendEscaped(appendEscaped(dst, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	return append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// AppendASCII appends a JSON text with other characters as \uXXXX. Outside of
// strings a JSON text has none.
func AppendASCII(dst, text []byte) []byte {
	from := 0
	for i := 0; i < len(text); {
		if text[i] < utf8.RuneSelf {
			i++
			continue
		}
		dst = append(dst, text[from:i]...)
		r, size := utf8.DecodeRune(text[i:])
		dst = appendEscaped(dst, r)
		i += size
		from = i
	}
	return append(dst, text[from:]...)
}

// ParseJSON reads one JSON value: UTF-8, nested no deeper than a descriptor may be.
// Of a key that is there twice the last one holds.
func ParseJSON(text []byte) (any, error) {
	d := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true))
	v, err := ReadValue(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, invalid("there is more than one JSON value")
	}
	return v, nil
}

// ReadValue reads the next value of a decoder. Its error is Invalid.
func ReadValue(d *jsontext.Decoder) (any, error) {
	v, err := datapackage.ReadValue(d)
	return v, notJSON(err)
}

func notJSON(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, datapackage.ErrDeep) {
		return invalid("the JSON is nested deeper than %d levels", datapackage.MaxDepth)
	}
	reason := err.Error()
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		reason = e.Err.Error()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		reason = "the text ends too early"
	}
	return invalid("not JSON: %s", reason)
}
