// Package python knows the forms that users of datapackage-pipelines wrote their
// parameters for: how Python prints values and JSON, counts in decimals, fills
// format strings and reads regular expressions.
//
// It runs no code of anybody's: a format string may name fields and nothing else,
// and what an expression asks for beyond regular languages is refused. All of it
// works on the cells of [stream.Batch] and opens nothing.
package python

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/stream"
)

func invalid(format string, args ...any) error {
	return errs.New(errs.Invalid, "python", format, args...)
}

// Bounds of what is made of one cell: a text as long as cells may be that are read, and
// places in it at which an expression is found.
const (
	maxText   = 64 << 20 // bytes
	maxPlaces = 256 << 10
)

var errLong = invalid("the text that is made would be longer than %d MiB, the limit of a cell", maxText>>20)

func checkLength(n int) error {
	if n > maxText {
		return errLong
	}
	return nil
}

// Str is the text that str() gives for a cell.
func Str(kind stream.Kind, text []byte) string {
	switch kind {
	case stream.Null, stream.Absent:
		return "None"
	case stream.Boolean:
		if string(text) == "true" {
			return "True"
		}
		return "False"
	case stream.Datetime:
		return strings.Replace(string(text), "T", " ", 1)
	case stream.JSON:
		v, err := ParseJSON(text)
		if err != nil {
			return string(text)
		}
		return string(appendRepr(nil, v))
	default: // of the others there is nothing to say
	}
	return string(text)
}

// appendRepr appends what repr() gives for a JSON value.
func appendRepr(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "None"...)
	case bool:
		if v {
			return append(dst, "True"...)
		}
		return append(dst, "False"...)
	case string:
		return appendQuoted(dst, v)
	case []any:
		dst = append(dst, '[')
		for i, item := range v {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = appendRepr(dst, item)
		}
		return append(dst, ']')
	case map[string]any:
		dst = append(dst, '{')
		for i, key := range sortedKeys(v) {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = append(appendQuoted(dst, key), ": "...)
			dst = appendRepr(dst, v[key])
		}
		return append(dst, '}')
	}
	return appendValue(dst, v, JSON{})
}

// appendQuoted appends a text as repr() quotes it.
func appendQuoted(dst []byte, s string) []byte {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	dst = append(dst, quote)
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r < ' ' || r == 0x7f:
			dst = append(dst, '\\', 'x', hexDigits[r>>4&15], hexDigits[r&15])
		case r > 0x7f && !unicode.IsPrint(r):
			dst = append(dst, strings.Trim(strconv.QuoteRuneToASCII(r), "'")...)
		default:
			dst = append(dst, string(r)...)
		}
	}
	return append(dst, quote)
}

// AppendFloat appends a float as repr() gives it: the shortest text that reads as
// the same number, with a point or an exponent.
func AppendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	at := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if bytes.IndexByte(dst[at:], '.') < 0 {
		dst = append(dst, ".0"...)
	}
	return dst
}
