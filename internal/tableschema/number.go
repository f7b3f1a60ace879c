package tableschema

import (
	"bytes"
	"strconv"
)

// trimASCII drops the blanks that a number may stand in.
func trimASCII(b []byte) []byte { return bytes.Trim(b, " \t\r\n\v\f") }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// digits counts the digits that b begins with.
func digits(b []byte) int {
	for i, c := range b {
		if !isDigit(c) {
			return i
		}
	}
	return len(b)
}

func unsigned(b []byte) []byte {
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		return b[1:]
	}
	return b
}

// isInteger: a sign and digits.
func isInteger(b []byte) bool {
	b = unsigned(b)
	return len(b) > 0 && digits(b) == len(b)
}

// isNumber: a sign, digits with a point, an exponent; or NaN, INF, -INF in any case.
func isNumber(b []byte) bool {
	if isSpecial(b) {
		return true
	}
	b = unsigned(b)
	n := digits(b)
	b = b[n:]
	if len(b) > 0 && b[0] == '.' {
		f := digits(b[1:])
		n += f
		b = b[1+f:]
	}
	if n == 0 {
		return false
	}
	if len(b) == 0 {
		return true
	}
	return (b[0] == 'e' || b[0] == 'E') && isInteger(b[1:])
}

func isSpecial(b []byte) bool {
	if len(b) == 0 || isDigit(b[len(b)-1]) {
		return false
	}
	return isNaN(b) || fold(unsigned(b), "INF")
}

func isNaN(b []byte) bool { return fold(unsigned(b), "NAN") }

// defaultNumber gives a number of which only the special values have a form that
// the standard does not know: a signed NaN, an infinity with a plus.
func defaultNumber(b []byte) []byte {
	if len(b) > 0 && (b[0] == '+' || b[0] == '-') && isSpecial(b) {
		if isNaN(b) || b[0] == '+' {
			return b[1:]
		}
	}
	return b
}

// fold compares ASCII letters in any case with capitals.
func fold(b []byte, upper string) bool {
	if len(b) != len(upper) {
		return false
	}
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}

// numberForm is how a field writes its numbers.
type numberForm struct {
	group, decimal string
	bare           bool
}

func (f *numberForm) isDefault() bool { return f.group == "" && f.decimal == "." && f.bare }

// plain rewrites a number into the default form, in scratch where it differs.
func (f *numberForm) plain(scratch, cell []byte) ([]byte, bool) {
	cell = trimASCII(cell)
	if f.isDefault() {
		return cell, true
	}
	if !f.bare {
		// What is no number at both ends goes; a minus beside the digits stays.
		from := bytes.IndexFunc(cell, func(r rune) bool { return r == '-' || r >= '0' && r <= '9' })
		to := bytes.LastIndexFunc(cell, func(r rune) bool { return r >= '0' && r <= '9' })
		if from < 0 || to < from {
			return nil, false
		}
		cell = cell[from : to+1]
	}
	out := scratch[:0]
	for i := 0; i < len(cell); {
		rest := cell[i:]
		switch {
		case f.group != "" && bytes.HasPrefix(rest, []byte(f.group)):
			i += len(f.group)
		case f.decimal != "." && bytes.HasPrefix(rest, []byte(f.decimal)):
			out = append(out, '.')
			i += len(f.decimal)
		case f.decimal != "." && rest[0] == '.':
			return nil, false
		default:
			out = append(out, rest[0])
			i++
		}
	}
	return out, true
}

// decimal is a number as ±0.DIGITS × 10^exp, digits without zeros at either end;
// zero has none. Exponents beyond 18 digits are cut to the largest.
type decimal struct {
	neg    bool
	nan    bool
	inf    bool
	digits []byte
	exp    int64
}

const maxExp = 1 << 60

// parseDecimal reads what isNumber takes. The digits are put into scratch.
func parseDecimal(scratch, b []byte) decimal {
	var d decimal
	switch {
	case isSpecial(b):
		return decimal{nan: isNaN(b), inf: !isNaN(b), neg: b[0] == '-'}
	case b[0] == '-':
		d.neg = true
	}
	b = unsigned(b)
	d.digits = scratch[:0]
	seenPoint := false
	var lead int64 // places between the point and the first digit that counts
	i := 0
	for ; i < len(b) && b[i] != 'e' && b[i] != 'E'; i++ {
		switch {
		case b[i] == '.':
			seenPoint = true
		case b[i] == '0' && len(d.digits) == 0:
			if seenPoint {
				lead--
			}
		default:
			d.digits = append(d.digits, b[i])
			if !seenPoint {
				lead++
			}
		}
	}
	d.digits = bytes.TrimRight(d.digits, "0")
	if len(d.digits) == 0 {
		return decimal{}
	}
	d.exp = lead
	if i < len(b) {
		e, err := strconv.ParseInt(string(b[i+1:]), 10, 64)
		if err != nil || e > maxExp || e < -maxExp {
			e = maxExp
			if b[i+1] == '-' {
				e = -maxExp
			}
		}
		d.exp += e
	}
	return d
}

// compare orders two numbers, neither of them NaN.
func (d decimal) compare(o decimal) int {
	if s := d.sign() - o.sign(); s != 0 || d.sign() == 0 {
		return s
	}
	order := 0
	switch {
	case d.inf || o.inf:
		switch {
		case d.inf && !o.inf:
			order = 1
		case o.inf && !d.inf:
			order = -1
		}
	case d.exp != o.exp:
		order = 1
		if d.exp < o.exp {
			order = -1
		}
	default:
		order = bytes.Compare(d.digits, o.digits)
	}
	if d.neg {
		return -order
	}
	return order
}

func (d decimal) sign() int {
	switch {
	case !d.inf && len(d.digits) == 0:
		return 0
	case d.neg:
		return -1
	}
	return 1
}

// appendKey appends bytes that are equal for equal numbers.
func (d decimal) appendKey(dst []byte) []byte {
	switch {
	case d.nan:
		return append(dst, 'n')
	case d.inf && d.neg:
		return append(dst, '-', 'i')
	case d.inf:
		return append(dst, 'i')
	}
	if d.neg && len(d.digits) > 0 {
		dst = append(dst, '-')
	}
	dst = append(dst, d.digits...)
	dst = append(dst, 'e')
	return strconv.AppendInt(dst, d.exp, 10)
}

// appendJSONNumber appends a number in JSON's form, its digits as they are; NaN
// and the infinities are texts.
func appendJSONNumber(dst, text []byte) []byte {
	if isSpecial(text) {
		dst = append(dst, '"')
		for _, c := range text {
			if isNaN(text) {
				break
			}
			if c >= 'a' && c <= 'z' {
				c -= 'a' - 'A'
			}
			dst = append(dst, c)
		}
		if isNaN(text) {
			dst = append(dst, "NaN"...)
		}
		return append(dst, '"')
	}
	if len(text) > 0 && text[0] == '-' {
		dst = append(dst, '-')
	}
	text = unsigned(text)
	n := digits(text)
	whole, rest := text[:n], text[n:]
	for len(whole) > 1 && whole[0] == '0' {
		whole = whole[1:]
	}
	if len(whole) == 0 {
		whole = []byte{'0'}
	}
	dst = append(dst, whole...)
	if len(rest) > 1 && rest[0] == '.' && isDigit(rest[1]) {
		f := 1 + digits(rest[1:])
		dst = append(dst, rest[:f]...)
		rest = rest[f:]
	} else if len(rest) > 0 && rest[0] == '.' {
		rest = rest[1:] // "1." has no fraction in JSON
	}
	return append(dst, rest...)
}
