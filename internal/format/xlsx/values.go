package xlsx

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/stream"
)

// numberFormat is what a number format (ECMA-376, 18.8.31) says of a number.
type numberFormat struct {
	code    string // its first section: that of positive numbers
	date    bool   // it shows a year, month or day
	clock   bool   // it shows hours, minutes or seconds
	elapsed bool   // it counts hours beyond a day: [h]:mm
}

// builtin gives the formats that files name by number alone, those that matter.
// 27 to 36 and 50 to 58 are dates in the scripts of East Asia.
func builtin(id int) string {
	switch {
	case id == 1:
		return "0"
	case id == 2:
		return "0.00"
	case id == 3:
		return "#,##0"
	case id == 4:
		return "#,##0.00"
	case id == 9:
		return "0%"
	case id == 10:
		return "0.00%"
	case id == 14:
		return "mm-dd-yy"
	case id == 15:
		return "d-mmm-yy"
	case id == 16:
		return "d-mmm"
	case id == 17:
		return "mmm-yy"
	case id == 18:
		return "h:mm AM/PM"
	case id == 19:
		return "h:mm:ss AM/PM"
	case id == 20, id == 32, id == 33, id == 34, id == 35:
		return "h:mm"
	case id == 21:
		return "h:mm:ss"
	case id == 22:
		return "m/d/yy h:mm"
	case id >= 27 && id <= 31, id == 36, id >= 50 && id <= 58:
		return "yyyy/m/d"
	case id == 45:
		return "mm:ss"
	case id == 46:
		return "[h]:mm:ss"
	case id == 47:
		return "mm:ss.0"
	}
	return "General"
}

// formatPart is a piece of a number format: one letter repeated, or text that is
// shown as it is.
type formatPart struct {
	letter  byte // in lower case; 0: literal text
	text    string
	bracket bool // [h]
}

// splitFormat takes the first section of a format apart.
func splitFormat(code string) []formatPart {
	var parts []formatPart
	for i := 0; i < len(code); {
		switch c := code[i]; {
		case c == ';':
			return parts
		case c == '"':
			end := strings.IndexByte(code[i+1:], '"')
			if end < 0 {
				end = len(code) - i - 1
			}
			parts = append(parts, formatPart{text: code[i+1 : i+1+end]})
			i = min(i+end+2, len(code))
		case c == '\\':
			_, n := utf8.DecodeRuneInString(code[i+1:])
			parts = append(parts, formatPart{text: code[i+1 : i+1+n]})
			i += 1 + n
		case c == '_', c == '*': // a blank as wide as, a filling of
			_, n := utf8.DecodeRuneInString(code[i+1:])
			i += 1 + n
		case c == '[':
			end := strings.IndexByte(code[i:], ']')
			if end < 0 {
				return parts
			}
			inner := strings.ToLower(code[i+1 : i+end])
			if inner != "" && strings.Trim(inner, inner[:1]) == "" && (inner[0] == 'h' || inner[0] == 'm' || inner[0] == 's') {
				parts = append(parts, formatPart{letter: inner[0], text: inner, bracket: true})
			}
			i += end + 1
		case len(code)-i >= 5 && strings.EqualFold(code[i:i+5], "am/pm"):
			parts = append(parts, formatPart{letter: 'a', text: "am/pm"})
			i += 5
		case len(code)-i >= 3 && strings.EqualFold(code[i:i+3], "a/p"):
			parts = append(parts, formatPart{letter: 'a', text: "a/p"})
			i += 3
		case len(code)-i >= 7 && strings.EqualFold(code[i:i+7], "general"):
			parts = append(parts, formatPart{letter: 'g', text: "general"})
			i += 7
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			n := 1
			for i+n < len(code) && code[i+n]|0x20 == c|0x20 {
				n++
			}
			parts = append(parts, formatPart{letter: c | 0x20, text: strings.ToLower(code[i : i+n])})
			i += n
		default:
			_, n := utf8.DecodeRuneInString(code[i:])
			parts = append(parts, formatPart{text: code[i : i+n]})
			i += n
		}
	}
	return parts
}

func parseNumberFormat(code string) numberFormat {
	f := numberFormat{code: code}
	minutes := false
	parts := splitFormat(code)
	for i, p := range parts {
		switch {
		case p.bracket:
			f.elapsed, f.clock = true, true
		case p.text == "general":
			return numberFormat{code: code}
		case p.letter == 'e' && i+1 < len(parts) && (parts[i+1].text == "+" || parts[i+1].text == "-"):
			// an exponent
		case p.letter == 'y', p.letter == 'd', p.letter == 'g', p.letter == 'e': // g and e are an era and its year
			f.date = true
		case p.letter == 'h', p.letter == 's':
			f.clock = true
		case p.letter == 'm':
			minutes = true
		}
	}
	if minutes && !f.clock {
		f.date = true // m is a month where no clock stands with it
	}
	return f
}

// isTime reports whether the numbers are points in time.
func (f *numberFormat) isTime() bool { return f.date || f.clock }

// The days that a serial number counts from.
const (
	lastSerial  = 2958465 // 9999-12-31
	phantom     = 60      // 1900-02-29, a day that never was
	shift1904   = 1462    // 1904-01-01
	millisOfDay = 24 * 60 * 60 * 1000
)

var firstDay = time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC)

// appendMoment gives the point in time that a serial number stands for, to the
// millisecond, as Excel keeps it. It is false for a number that is none: before
// the first day, after the year 9999, and for 29 February 1900, which Excel has
// and the calendar has not.
func (f *numberFormat) appendMoment(dst []byte, v float64, date1904 bool) ([]byte, stream.Kind, bool) {
	if f.elapsed && math.Abs(v) <= lastSerial {
		return appendDuration(dst, int64(math.Round(v*millisOfDay))), stream.Text, true
	}
	if !(v >= 0 && v < lastSerial+1) {
		return dst, 0, false
	}
	day := int64(v)
	millis := int64(math.Round((v - float64(day)) * millisOfDay))
	if millis == millisOfDay {
		day, millis = day+1, 0
	}
	if day == 0 && f.clock && (!f.date || !date1904) {
		return appendClock(dst, millis), stream.Time, true
	}
	switch {
	case date1904:
		day += shift1904
	case day == 0, day == phantom:
		return dst, 0, false
	case day < phantom:
		day++
	}
	if day > lastSerial {
		return dst, 0, false
	}
	dst = firstDay.AddDate(0, 0, int(day)).AppendFormat(dst, "2006-01-02")
	if !f.clock && millis == 0 {
		return dst, stream.Date, true
	}
	return appendClock(append(dst, 'T'), millis), stream.Datetime, true
}

func appendClock(dst []byte, millis int64) []byte {
	dst = append2(dst, millis/3600000)
	dst = append2(append(dst, ':'), millis/60000%60)
	dst = append2(append(dst, ':'), millis/1000%60)
	return appendMillis(dst, millis%1000)
}

func append2(dst []byte, n int64) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

// appendMillis appends a fraction of a second without zeros at its end.
func appendMillis(dst []byte, n int64) []byte {
	if n == 0 {
		return dst
	}
	dst = append(dst, '.', byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10))
	return bytes.TrimRight(dst, "0")
}

// appendDuration gives an elapsed time in the default form of a duration.
func appendDuration(dst []byte, millis int64) []byte {
	if millis < 0 {
		dst, millis = append(dst, '-'), -millis
	}
	dst = append(dst, 'P', 'T')
	if h := millis / 3600000; h > 0 {
		dst = append(strconv.AppendInt(dst, h, 10), 'H')
	}
	if m := millis / 60000 % 60; m > 0 {
		dst = append(strconv.AppendInt(dst, m, 10), 'M')
	}
	if s := millis % 60000; s > 0 || millis == 0 {
		dst = append(appendMillis(strconv.AppendInt(dst, s/1000, 10), s%1000), 'S')
	}
	return dst
}

// isoMoment reads the ISO 8601 text of a date cell into the default form of Table
// Schema. Text is what is none.
func isoMoment(b []byte) ([]byte, stream.Kind) {
	if bytes.IndexByte(b, ',') >= 0 {
		return b, stream.Text
	}
	for _, f := range []struct {
		layout string
		kind   stream.Kind
	}{
		{"2006-01-02", stream.Date},
		{"15:04:05", stream.Time},
		{"2006-01-02T15:04:05", stream.Datetime},
		{"2006-01-02T15:04:05Z07:00", stream.Datetime},
	} {
		if _, err := time.Parse(f.layout, string(b)); err != nil {
			continue
		}
		if i := bytes.IndexByte(b, '.'); i >= 0 && !strings.HasSuffix(f.layout, "0") { // has no zone
			b = bytes.TrimSuffix(bytes.TrimRight(b, "0"), []byte("."))
		}
		return b, f.kind
	}
	return b, stream.Text
}

// decimal is a number in ASCII as ±DIGITS × 10^exp; digits have no zeros in front,
// and are empty for zero.
type decimal struct {
	neg    bool
	digits []byte
	exp    int
	plain  bool // it was written without point and exponent
}

const maxExponent = 100000

// parseDecimal reads a number. Digits are put into scratch.
func parseDecimal(scratch, b []byte) (d decimal, ok bool) {
	d = decimal{digits: scratch[:0], plain: true}
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		d.neg = b[0] == '-'
		b = b[1:]
	}
	point, some := false, false
	for len(b) > 0 && b[0] != 'e' && b[0] != 'E' {
		switch c := b[0]; {
		case c == '.' && !point:
			point, d.plain = true, false
		case c >= '0' && c <= '9':
			some = true
			if c != '0' || len(d.digits) > 0 {
				d.digits = append(d.digits, c)
			}
			if point {
				d.exp--
			}
		default:
			return d, false
		}
		b = b[1:]
	}
	if !some {
		return d, false
	}
	if len(b) > 0 {
		e, err := strconv.Atoi(string(b[1:]))
		if err != nil || e > maxExponent || e < -maxExponent {
			return d, false
		}
		d.exp += e
		d.plain = false
	}
	trimmed := bytes.TrimRight(d.digits, "0")
	d.exp += len(d.digits) - len(trimmed)
	if d.digits = trimmed; len(trimmed) == 0 {
		d.neg, d.exp = false, 0
	}
	return d, true
}

// maxPlain bounds the zeros that a number in plain form may get.
const maxPlain = 32

// append writes the number: plain where it needs few zeros for that, else with an
// exponent.
func (d decimal) append(dst []byte) []byte {
	if d.neg {
		dst = append(dst, '-')
	}
	n := len(d.digits)
	switch {
	case n == 0:
		return append(dst, '0')
	case d.exp >= 0 && d.exp <= maxPlain:
		dst = append(dst, d.digits...)
		return append(dst, bytes.Repeat([]byte{'0'}, d.exp)...)
	case d.exp < 0 && n+d.exp > 0:
		dst = append(dst, d.digits[:n+d.exp]...)
		return append(append(dst, '.'), d.digits[n+d.exp:]...)
	case d.exp < 0 && n+d.exp > -maxPlain:
		dst = append(dst, '0', '.')
		dst = append(dst, bytes.Repeat([]byte{'0'}, -(n+d.exp))...)
		return append(dst, d.digits...)
	}
	dst = append(dst, d.digits[0])
	if n > 1 {
		dst = append(append(dst, '.'), d.digits[1:]...)
	}
	return strconv.AppendInt(append(dst, 'E'), int64(d.exp+n-1), 10)
}

// whole reports whether the number is one, and is written as one.
func (d decimal) whole() bool { return d.exp >= 0 && d.exp <= maxPlain }

// Digits that a double has at least, and that programs write of it at most.
const (
	sureDigits = 15
	allDigits  = 17
)

// appendNumber gives the number of a cell in plain form, its digits as the file has
// them, and false for what is none. Excel writes 17 digits of a double, so that 1.1
// stands there as 1.1000000000000001: of such a number the shortest form is given
// that stands for the same double.
func appendNumber(dst, scratch, text []byte) ([]byte, stream.Kind, bool) {
	d, ok := parseDecimal(scratch, text)
	if !ok {
		return dst, 0, false
	}
	if n := len(d.digits); !d.plain && n > sureDigits && n <= allDigits {
		v, err := strconv.ParseFloat(string(text), 64)
		if short, ok := parseDecimal(nil, strconv.AppendFloat(nil, v, 'e', -1, 64)); err == nil && ok {
			d = short
		}
	}
	if d.whole() {
		return d.append(dst), stream.Integer, true
	}
	return d.append(dst), stream.Number, true
}

// appendShown gives a number as its cell shows it, for the simple formats: digits
// with a fixed number of places, per cent, dates and times of the common letters.
// Separators of thousands are left out. It is false for other formats.
func (f *numberFormat) appendShown(dst []byte, v float64, date1904 bool) ([]byte, bool) {
	if f.isTime() {
		return f.appendShownTime(dst, v, date1904)
	}
	code, _, _ := strings.Cut(f.code, ";")
	percent := strings.HasSuffix(code, "%")
	code = strings.TrimSuffix(code, "%")
	whole, places, point := strings.Cut(code, ".")
	if strings.Trim(whole, "#0,") != "" || strings.Trim(places, "0") != "" || !strings.HasSuffix(whole, "0") || point && places == "" {
		return dst, false
	}
	if percent {
		v *= 100
	}
	dst = strconv.AppendFloat(dst, v, 'f', len(places), 64)
	if percent {
		dst = append(dst, '%')
	}
	return dst, true
}

func (f *numberFormat) appendShownTime(dst []byte, v float64, date1904 bool) ([]byte, bool) {
	text, kind, ok := f.appendMoment(nil, v, date1904)
	layout := "2006-01-02T15:04:05"
	switch kind {
	case stream.Time:
		layout = "15:04:05"
	case stream.Date:
		layout = "2006-01-02"
	default:
	}
	t, err := time.Parse(layout, string(text))
	if !ok || err != nil {
		return dst, false
	}
	parts := splitFormat(f.code)
	hour := "15"
	for _, p := range parts {
		if p.letter == 'a' {
			hour = "03"
		}
	}
	var prev byte // the last letter
	for i, p := range parts {
		switch p.letter {
		case 0:
			dst = append(dst, p.text...)
			continue
		case 'y':
			dst = t.AppendFormat(dst, map[bool]string{true: "06", false: "2006"}[len(p.text) <= 2])
		case 'd':
			dst = t.AppendFormat(dst, [...]string{"2", "02", "Mon", "Monday"}[min(len(p.text), 4)-1])
		case 'h':
			shown := t.Format(hour)
			if len(p.text) == 1 && len(shown) > 1 {
				shown = strings.TrimPrefix(shown, "0")
			}
			dst = append(dst, shown...)
		case 's':
			dst = t.AppendFormat(dst, [...]string{"5", "05"}[min(len(p.text), 2)-1])
		case 'm':
			switch next := nextLetter(parts[i+1:]); {
			case prev == 'h' || next == 's':
				dst = t.AppendFormat(dst, [...]string{"4", "04"}[min(len(p.text), 2)-1])
			case len(p.text) > 4:
				return dst, false
			default:
				dst = t.AppendFormat(dst, [...]string{"1", "01", "Jan", "January"}[len(p.text)-1])
			}
		case 'a':
			dst = t.AppendFormat(dst, "PM")
		default:
			return dst, false
		}
		prev = p.letter
	}
	return dst, true
}

func nextLetter(parts []formatPart) byte {
	for _, p := range parts {
		if p.letter != 0 {
			return p.letter
		}
	}
	return 0
}

// A character that XML cannot hold stands in a cell as _xHHHH_, its UTF-16 unit
// (ECMA-376, 22.9.2.19).
const escapeLen = len("_x0000_")

// escapeAt gives the unit of the escape that b begins with.
func escapeAt(b []byte) (uint16, bool) {
	if !beginsEscape(b) || len(b) < escapeLen || b[escapeLen-1] != '_' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:escapeLen-1]), 16, 16)
	return uint16(n), err == nil
}

// beginsEscape reports whether b begins as an escape does, but for its last byte.
func beginsEscape(b []byte) bool {
	if len(b) < escapeLen-1 || b[0] != '_' || b[1] != 'x' {
		return false
	}
	for _, c := range b[2 : escapeLen-1] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// unescape resolves the escapes of a text in place. Half a pair of surrogates is no
// character and stays as it is.
func unescape(b []byte) []byte {
	i := bytes.Index(b, []byte("_x"))
	if i < 0 {
		return b
	}
	out := b[:i]
	for i < len(b) {
		unit, ok := escapeAt(b[i:])
		if !ok {
			out = append(out, b[i])
			i++
			continue
		}
		r, n := rune(unit), escapeLen
		if utf16.IsSurrogate(r) {
			low, ok := escapeAt(b[i+escapeLen:])
			if r = utf16.DecodeRune(r, rune(low)); !ok || r == utf8.RuneError {
				out = append(out, b[i])
				i++
				continue
			}
			n *= 2
		}
		out = utf8.AppendRune(out, r)
		i += n
	}
	return out
}
