package tableschema

import (
	"bytes"
	"encoding/json"
	"hash/maphash"

	"github.com/datahq/specstore/internal/stream"
)

// readings returns the types and forms that a cell of a column satisfies, of those that are
// still asked for at least.
func (n *Inferrer) readings(c *columnCounts, kind stream.Kind, cell []byte) typeSet {
	set := typesOf(kind, cell)
	switch kind {
	case stream.Integer, stream.Number: // what a field says of texts does not hold for them
		return set | anyNumberForm
	case stream.Date:
		return set | anyDateForm | isADatetime
	case stream.Datetime:
		c.moments = true
		if bytes.HasSuffix(cell, []byte("T00:00:00")) {
			set |= isADate | anyDateForm
		}
		return set
	case stream.Text:
	default:
		return set
	}
	if set&isAGeopoint != 0 && (bytes.IndexByte(cell, '.') >= 0 || bytes.Contains(cell, []byte(", "))) {
		c.pointed = true
	}
	text := cell
	if text[0] <= ' ' || text[len(text)-1] <= ' ' {
		text = trimASCII(text)
	}
	if c.alive&numeric != 0 {
		set |= n.numberReadings(c, set, text)
	}
	if c.why != "" {
		set &^= numeric | isAYear | isABoolean
	}
	if set&^isAGeopoint == 0 && c.alive&anyDateForm != 0 {
		set |= dateReadings(cell, c.alive)
	}
	return set
}

// numberReadings returns the forms of numbers that a text satisfies, and notes what makes it
// something else than a number.
func (n *Inferrer) numberReadings(c *columnCounts, set typeSet, text []byte) typeSet {
	var forms typeSet
	var point int
	if set&isANumber != 0 {
		forms = anyNumberForm
		if point = bytes.IndexByte(text, '.'); point >= 0 {
			c.points = true
			forms = 0
			for i, f := range numberForms {
				if f.decimal == "." || f.group == "." && c.alive&numberBit(i) != 0 && f.fits(text) {
					forms |= numberBit(i)
				}
			}
		}
	} else {
		if len(text) == 0 || !isDigit(text[len(text)-1]) {
			return 0
		}
		for i, f := range numberForms {
			if c.alive&numberBit(i) != 0 && f.fits(text) {
				forms |= numberBit(i)
			}
		}
		if forms == 0 {
			return 0
		}
		point = bytes.IndexByte(text, ',')
	}
	switch bare := unsigned(text); {
	case len(bare) > 1 && bare[0] == '0' && digits(bare) == len(bare):
		c.why = "digits with a leading zero"
	case text[0] == '+' && countDigits(bare) >= leastDialled && bytes.IndexByte(bare, 'e') < 0:
		c.why = "a telephone number"
	case point >= 0 && n.otherText(c, text, point):
		c.why = "a second text for the same number"
	}
	return forms
}

const leastDialled = 7 // digits of a telephone number behind a plus

func countDigits(b []byte) int {
	n := 0
	for _, c := range b {
		if isDigit(c) {
			n++
		}
	}
	return n
}

var seed = maphash.MakeSeed()

// otherText notes a number with a fraction, and reports whether the column has the same
// number with more or fewer zeros at its end.
func (n *Inferrer) otherText(c *columnCounts, text []byte, point int) bool {
	fraction := text[point+1:]
	if digits(fraction) != len(fraction) || len(fraction) == 0 || len(fraction) > 255 {
		return false // an exponent
	}
	if bytes.Count(text, text[point:point+1]) > 1 {
		return false // of groups
	}
	hash := maphash.Bytes(seed, bytes.TrimRight(text, "0"))
	length, known := c.numbers[hash]
	if known {
		return int(length) != len(fraction)
	}
	if len(c.numbers) < keptNumbers && n.kept < allNumbers {
		if c.numbers == nil {
			c.numbers = map[uint64]uint8{}
		}
		c.numbers[hash] = uint8(len(fraction))
		n.kept++
	}
	return false
}

// fits reports whether a text is a number in the form, groups of three digits throughout
// where there are any.
func (f writtenNumber) fits(b []byte) bool {
	b = unsigned(b)
	first := digits(b)
	zero := first > 0 && b[0] == '0'
	if first == 0 || first > 1 && zero {
		return false
	}
	b = b[first:]
	if f.group != "" && first <= 3 && !zero {
		for len(b) > len(f.group) && string(b[:len(f.group)]) == f.group {
			rest := b[len(f.group):]
			if n := digits(rest); n != 3 {
				return false
			}
			b = rest[3:]
		}
	}
	if len(b) == 0 {
		return true
	}
	if len(b) <= len(f.decimal) || string(b[:len(f.decimal)]) != f.decimal {
		return false
	}
	b = b[len(f.decimal):]
	return digits(b) == len(b)
}

// dateReadings returns the forms of dates that a text satisfies.
func dateReadings(cell []byte, alive typeSet) typeSet {
	const shortest, longest = 6, 20
	if len(cell) < shortest || len(cell) > longest || !isDigit(cell[len(cell)-1]) {
		return 0
	}
	first := byte('a')
	if isDigit(cell[0]) {
		first = 'd'
	}
	i := 0
	for i < len(cell) && (isDigit(cell[i]) && first == 'd' || isLetter(cell[i]) && first == 'a') {
		i++
	}
	if i == 0 || i == len(cell) {
		return 0
	}
	var set typeSet
	for k, f := range dateForms {
		if alive&dateBit(k) == 0 || f.first != first || f.part != cell[i] {
			continue
		}
		if short := f.pattern[len(f.pattern)-1] == 'y'; short && first == 'd' && len(cell) < len("01.02.03") {
			continue // an outline number
		}
		if m, ok := parsePattern(f.pattern, string(cell)); ok && m.year > 0 {
			set |= dateBit(k)
		}
	}
	return set
}

func isLetter(c byte) bool { c |= 0x20; return c >= 'a' && c <= 'z' }

// typesOf returns the types that a cell satisfies.
func typesOf(kind stream.Kind, cell []byte) typeSet {
	switch kind {
	case stream.Integer:
		return isAnInteger | isANumber
	case stream.Number:
		return isANumber
	case stream.Boolean:
		return isABoolean
	case stream.Date:
		return isADate
	case stream.Time:
		if bytes.IndexByte(cell, '.') >= 0 {
			return 0 // the default format of a time has no fraction of a second
		}
		return isATime
	case stream.Datetime:
		return isADatetime
	case stream.JSON:
		return jsonTypes(cell)
	default: // of the others there is nothing to say
	}
	return textTypes(cell)
}

// textTypes returns the types that a text satisfies. What it begins with and how long
// it is rule out nearly all types before one is tried.
func textTypes(cell []byte) typeSet {
	switch c := cell[0]; {
	case isDigit(c), c == '-', c == '+', c == '.':
	case c == 'P':
		if isDuration(cell) {
			return isADuration
		}
		return 0
	case c <= ' ':
		return spacedTypes(cell)
	case c == '{', c == '[':
		return jsonTypes(cell)
	case c == 't', c == 'T', c == 'f', c == 'F', c == 'n', c == 'N', c == 'i', c == 'I':
		return wordTypes(cell)
	default:
		return 0
	}
	var set typeSet
	var m moment
	switch last := cell[len(cell)-1]; {
	case isDigit(last), last == '.', last == 'Z':
	case last <= ' ':
		return spacedTypes(cell)
	case last == 'S', last == 'Y', last == 'M', last == 'D', last == 'H':
		if cell[0] == '-' && isDuration(cell) {
			return isADuration
		}
		return 0
	case last == 'F', last == 'f', last == 'N', last == 'n':
		return wordTypes(cell)
	default:
		return 0
	}
	switch len(cell) {
	case 1:
		if isDigit(cell[0]) && cell[0] <= '1' {
			set |= isABoolean
		}
	case 4:
		if isYear(cell) {
			set |= isAYear
		}
	case 7:
		if isYearMonth(cell) {
			return isAYearMonth
		}
	case 8:
		if m.clock(cell) {
			return isATime
		}
	case 10:
		if m.date(cell) {
			return isADate
		}
	}
	if len(cell) >= 19 && cell[4] == '-' && cell[10] == 'T' && m.datetime(cell) {
		return isADatetime
	}
	return set | numberTypes(cell) | geopoint(cell)
}

func numberTypes(cell []byte) typeSet {
	switch {
	case isInteger(cell):
		return isAnInteger | isANumber
	case isNumber(cell):
		return isANumber
	}
	return 0
}

func geopoint(cell []byte) typeSet {
	if bytes.IndexByte(cell, ',') < 0 {
		return 0
	}
	if _, _, ok := splitGeopoint(cell); ok {
		return isAGeopoint
	}
	return 0
}

// spacedTypes is for texts with white space at an end: numbers, points and JSON
// may have some.
func spacedTypes(cell []byte) typeSet {
	if text := bytes.Trim(cell, " \t\r\n"); len(text) > 0 && (text[0] == '{' || text[0] == '[') {
		return jsonTypes(text)
	}
	return numberTypes(trimASCII(cell)) | geopoint(cell)
}

// wordTypes is for true and false, NaN and INF.
func wordTypes(cell []byte) typeSet {
	switch string(cell) {
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return isABoolean
	}
	if len(cell) <= len("-INF") && isSpecial(cell) {
		return isANumber
	}
	return 0
}

// jsonTypes is for texts that begin with a bracket, maybe behind blanks.
func jsonTypes(cell []byte) typeSet {
	text := bytes.Trim(cell, " \t\r\n")
	if len(text) == 0 || !json.Valid(text) {
		return 0
	}
	switch text[0] {
	case '[':
		return isAnArray
	case '{':
		set := isAnObject
		// Every GeoJSON object says its type; a key may be written with escapes.
		if bytes.Contains(text, []byte(`"type"`)) || bytes.IndexByte(text, '\\') >= 0 {
			if v, err := decode(text); err == nil && isGeoJSON(v) {
				set |= isAGeoJSON
			}
		}
		return set
	}
	return 0
}
