package parquet

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"time"
)

// form is how the values of a column are written.
type form uint8

const (
	formString form = iota
	formJSON
	formBoolean
	formInt32
	formInt64
	formDecimal
	formDouble
	formDate
	formTime
	formTimestamp
)

// maxDigits is the widest decimal that readers everywhere take (128 bits).
const maxDigits = 38

// measure sees every value of a field, and chooses the narrowest form that keeps
// them all.
type measure struct {
	fieldType string
	any       bool
	odd       int64 // values that are not of the type, or beyond every form
	// Integers and numbers.
	large   bool // an integer beyond 64 bits
	whole   int  // most digits before the point
	scale   int  // most digits after it, as they are written
	least   int  // the same without zeros at the end
	special bool // NaN or infinite
	inexact bool // a number that no double is
	// Datetimes and times.
	zoned, naive, shifted bool
	finest                int  // most digits of a fraction of a second
	far                   bool // beyond the years that nanoseconds reach
	scratch               []byte
}

func (m *measure) see(cell []byte) {
	m.any = true
	switch m.fieldType {
	case "year": // of four digits, which a number has from 1000
		if len(cell) != 4 || !allDigits(cell) || cell[0] == '0' {
			m.odd++
		}
	case "integer":
		if _, err := strconv.ParseInt(string(cell), 10, 64); err == nil {
			m.whole = max(m.whole, min(len(cell), 19))
			return
		}
		m.large = true
		m.number(cell)
	case "number":
		m.number(cell)
	case "boolean":
		if s := string(cell); s != "true" && s != "false" {
			m.odd++
		}
	case "date":
		if _, ok := readDate(cell); !ok {
			m.odd++
		}
	case "time":
		_, finest, rest, ok := readClock(cell)
		if !ok || len(rest) > 0 || finest > 9 {
			m.odd++
		}
		m.finest = max(m.finest, finest)
	case "datetime":
		m.datetime(cell)
	}
}

func (m *measure) number(cell []byte) {
	if isSpecial(cell) {
		m.special = true
		return
	}
	d, ok := parseNumber(m.scratch, cell)
	if !ok {
		m.odd++
		return
	}
	m.whole = max(m.whole, len(d.digits)+d.exponent)
	m.scale = max(m.scale, -d.exponent, 0)
	for len(d.digits) > 0 && d.digits[len(d.digits)-1] == '0' {
		d.digits = d.digits[:len(d.digits)-1]
		d.exponent++
	}
	if len(d.digits) > 0 {
		m.least = max(m.least, -d.exponent)
	}
	if !m.inexact {
		m.inexact = !isDouble(cell, d)
	}
}

func (m *measure) datetime(cell []byte) {
	at, ok := readDatetime(cell)
	if !ok || at.finest > 9 || at.seconds < firstSecond || at.seconds > lastSecond {
		m.odd++
		return
	}
	m.zoned = m.zoned || at.zoned
	m.naive = m.naive || !at.zoned
	m.shifted = m.shifted || at.offset != 0
	m.finest = max(m.finest, at.finest)
	const most = math.MaxInt64/int64(1e9) - 1
	m.far = m.far || at.seconds > most || at.seconds < -most
}

// plan is what was chosen for a column.
type plan struct {
	form      form
	precision int
	scale     int
	nanos     bool // of a time, instead of microseconds
	adjusted  bool
	note      string
}

func (m *measure) plan(name string) plan {
	note := func(text string) string { return fmt.Sprintf("field %q: %s", name, text) }
	text := func(why string) plan { return plan{note: note(why + ", so that they are kept as text")} }
	if m.odd > 0 && m.fieldType == "year" {
		return text("years before 1000 are no numbers of four digits")
	}
	if m.odd > 0 && m.fieldType != "integer" && m.fieldType != "number" {
		return text(fmt.Sprintf("%d values are beyond the format's %s type", m.odd, m.fieldType))
	}
	switch m.fieldType {
	case "object", "array", "geojson":
		return plan{form: formJSON}
	case "boolean":
		return plan{form: formBoolean}
	case "date":
		return plan{form: formDate}
	case "time":
		return plan{form: formTime, nanos: m.finest > 6}
	case "datetime":
		nanos := m.finest > 6
		switch {
		case m.zoned && m.naive:
			return text("some values have a zone and some have none")
		case nanos && m.far:
			return text("values are finer than a microsecond and too far from 1970 for nanoseconds")
		}
		p := plan{form: formTimestamp, nanos: nanos, adjusted: m.zoned}
		if m.shifted {
			p.note = note("datetimes of other zones are given in UTC")
		}
		return p
	case "year":
		return plan{form: formInt32}
	case "integer":
		switch {
		case m.odd > 0 || m.special || m.scale > 0 || m.whole > maxDigits:
			return text(fmt.Sprintf("integers have more than %d digits", maxDigits))
		case m.large:
			return plan{form: formDecimal, precision: max(m.whole, 1)}
		}
		return plan{form: formInt64}
	case "number":
		whole := max(m.whole, 0)
		switch {
		case m.odd > 0:
			return text("numbers have exponents beyond every type of the format")
		case !m.any:
			return plan{form: formDouble}
		case !m.special && whole+m.scale <= maxDigits:
			return plan{form: formDecimal, precision: max(whole+m.scale, 1), scale: m.scale}
		case !m.special && whole+m.least <= maxDigits:
			return plan{form: formDecimal, precision: max(whole+m.least, 1), scale: m.least}
		case !m.inexact:
			return plan{form: formDouble}
		case m.special:
			return text("numbers with NaN or INF among them have more digits than a double")
		}
		return text(fmt.Sprintf("numbers have more than %d digits together, and more than a double", maxDigits))
	}
	return plan{}
}

// isSpecial: NaN and INF, in any case and with any sign.
func isSpecial(b []byte) bool {
	if len(b) == 4 && (b[0] == '-' || b[0] == '+') {
		b = b[1:]
	}
	return len(b) == 3 && (bytes.EqualFold(b, []byte("NaN")) || bytes.EqualFold(b, []byte("INF")))
}

// number is a decimal number: digits without zeros before them, times ten to the
// exponent. Zero has no digits.
type number struct {
	negative bool
	digits   []byte // in the cell, or a copy where a point parts them
	exponent int
}

// maxExponent is far beyond every type, and not so far that sums run over.
const maxExponent = 1 << 20

// parseNumber reads a number; scratch takes its digits where they do not stand together.
func parseNumber(scratch, b []byte) (n number, ok bool) {
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		n.negative = b[0] == '-'
		b = b[1:]
	}
	if i := bytes.IndexAny(b, "eE"); i >= 0 {
		e, err := strconv.Atoi(string(b[i+1:]))
		if err != nil || e > maxExponent || e < -maxExponent {
			return n, false
		}
		b, n.exponent = b[:i], e
	}
	n.digits = b
	if i := bytes.IndexByte(b, '.'); i >= 0 {
		n.exponent -= len(b) - i - 1
		n.digits = append(append(scratch[:0], b[:i]...), b[i+1:]...)
	}
	if len(n.digits) == 0 {
		return n, false
	}
	for _, c := range n.digits {
		if c < '0' || c > '9' {
			return n, false
		}
	}
	n.digits = bytes.TrimLeft(n.digits, "0")
	return n, true
}

// isDouble reports whether a number, whose digits end with none that is zero, is
// the shortest decimal of a double.
func isDouble(cell []byte, d number) bool {
	if len(d.digits) == 0 {
		return true
	}
	if len(d.digits) > 17 {
		return false
	}
	f, err := strconv.ParseFloat(string(cell), 64)
	if err != nil {
		return false
	}
	if len(d.digits) <= 15 && f != 0 && math.Abs(f) > 1e-300 {
		return true // fifteen digits always come back
	}
	var text, scratch [32]byte
	s, ok := parseNumber(scratch[:0], strconv.AppendFloat(text[:0], f, 'e', -1, 64))
	if !ok {
		return false
	}
	digits := bytes.TrimRight(s.digits, "0")
	return bytes.Equal(digits, d.digits) && s.exponent+len(s.digits)-len(digits) == d.exponent
}

// scaled gives a number as an integer of units of 10^-scale, in 128 bits. It fits:
// the field was measured.
func (n number) scaled(scale int) (hi, lo uint64, ok bool) {
	shift := n.exponent + scale
	digits := n.digits
	for shift < 0 && len(digits) > 0 { // zeros at the end that the scale leaves out
		if digits[len(digits)-1] != '0' {
			return 0, 0, false
		}
		digits = digits[:len(digits)-1]
		shift++
	}
	if len(digits) == 0 {
		return 0, 0, true
	}
	if len(digits)+shift > maxDigits {
		return 0, 0, false
	}
	ten := func(digit byte) {
		over, low := bits.Mul64(lo, 10)
		var carry uint64
		lo, carry = bits.Add64(low, uint64(digit), 0)
		hi = hi*10 + over + carry
	}
	for _, c := range digits {
		ten(c - '0')
	}
	for range shift {
		ten(0)
	}
	if n.negative {
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
	}
	return hi, lo, true
}

// decimalBytes is the least length of a fixed value for a precision.
func decimalBytes(precision int) int {
	return int(math.Ceil((float64(precision)*math.Log2(10) + 1) / 8))
}

func digit2(b []byte) int { return int(b[0]-'0')*10 + int(b[1]-'0') }

func allDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// readDate gives the days since 1970-01-01.
func readDate(b []byte) (days int64, ok bool) {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' || !allDigits(b[:4]) || !allDigits(b[5:7]) || !allDigits(b[8:]) {
		return 0, false
	}
	t := time.Date(digit2(b)*100+digit2(b[2:]), time.Month(digit2(b[5:])), digit2(b[8:]), 0, 0, 0, 0, time.UTC)
	q, _ := floorDiv(t.Unix(), daySeconds)
	return q, true
}

// readClock gives the nanoseconds of the day, the digits of the fraction without
// zeros at its end, and what follows.
func readClock(b []byte) (nanos int64, finest int, rest []byte, ok bool) {
	if len(b) < 8 || b[2] != ':' || b[5] != ':' || !allDigits(b[:2]) || !allDigits(b[3:5]) || !allDigits(b[6:8]) {
		return 0, 0, nil, false
	}
	h, m, s := digit2(b), digit2(b[3:]), digit2(b[6:])
	if h > 23 || m > 59 || s > 59 {
		return 0, 0, nil, false
	}
	rest = b[8:]
	var fraction int64
	if len(rest) > 0 && rest[0] == '.' {
		rest = rest[1:]
		n := 0
		for ; n < len(rest) && rest[n] >= '0' && rest[n] <= '9'; n++ {
			if rest[n] != '0' {
				finest = n + 1
			}
			if n < 9 {
				fraction = fraction*10 + int64(rest[n]-'0')
			}
		}
		if n == 0 {
			return 0, 0, nil, false
		}
		fraction *= power10(9 - min(n, 9))
		rest = rest[n:]
	}
	return int64(h*3600+m*60+s)*1e9 + fraction, finest, rest, true
}

// instant is a point in time, or without a zone a time on some wall.
type instant struct {
	seconds int64 // since 1970-01-01T00:00:00
	nanos   int64
	finest  int
	zoned   bool
	offset  int64
}

// The seconds of the years 1 to 9999.
const firstSecond, lastSecond = -62135596800, 253402300799

func readDatetime(b []byte) (at instant, ok bool) {
	if len(b) < 19 || b[10] != 'T' {
		return at, false
	}
	days, ok := readDate(b[:10])
	if !ok {
		return at, false
	}
	nanos, finest, zone, ok := readClock(b[11:])
	if !ok {
		return at, false
	}
	switch {
	case len(zone) == 0:
	case len(zone) == 1 && zone[0] == 'Z':
		at.zoned = true
	case len(zone) == 6 && (zone[0] == '+' || zone[0] == '-') && zone[3] == ':' && allDigits(zone[1:3]) && allDigits(zone[4:]):
		at.zoned = true
		at.offset = int64(digit2(zone[1:])*3600 + digit2(zone[4:])*60)
		if zone[0] == '-' {
			at.offset = -at.offset
		}
	default:
		return at, false
	}
	at.seconds, at.nanos, at.finest = days*daySeconds+nanos/1e9-at.offset, nanos%1e9, finest
	return at, true
}
