package tableschema

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"iter"
	"unicode/utf8"
)

// fieldType is what the standard says of a type.
type fieldType struct {
	what    string // in an error: "x" is not WHAT
	prepare func(c *Caster) error
	// compare makes the order of texts against a limit; false where a value has
	// no order.
	compare func(c *Caster, limit []byte) (func(text []byte) (int, bool), error)
	length  func(c *Caster, text []byte) int
	pattern bool
	json    bool
}

// types gives every type of the standard.
func types() map[string]fieldType {
	return map[string]fieldType{
		"any":       {what: "a value", prepare: reader(anyText)},
		"string":    {what: "a text", prepare: prepareString, length: runes, pattern: true},
		"number":    {what: "a number", prepare: prepareNumber, compare: compareNumber},
		"integer":   {what: "an integer", prepare: prepareNumber, compare: compareNumber},
		"year":      {what: "a year of four digits", prepare: reader(isYear), compare: compareNumber},
		"yearmonth": {what: "a month (yyyy-mm)", prepare: reader(isYearMonth), compare: compareText},
		"boolean":   {what: "a boolean", prepare: prepareBoolean},
		"date":      {what: "a date (yyyy-mm-dd)", prepare: prepareDate, compare: compareText},
		"time":      {what: "a time (hh:mm:ss)", prepare: prepareTime, compare: compareTime},
		"datetime":  {what: "a datetime (yyyy-mm-ddThh:mm:ssZ)", prepare: prepareDatetime, compare: compareDatetime},
		"duration":  {what: "a duration (P1Y2M3DT4H5M6S)", prepare: reader(isDuration), compare: compareDuration},
		"geopoint":  {what: "a geopoint", prepare: prepareGeopoint},
		"geojson":   {what: "GeoJSON", prepare: prepareGeoJSON},
		"object":    {what: "a JSON object", prepare: prepareJSON('{'), length: jsonLength, json: true},
		"array":     {what: "a JSON array", prepare: prepareJSON('['), length: jsonLength, json: true},
		"list":      {what: "a list", prepare: prepareList, length: listLength},
	}
}

// reader is for types whose text is kept as it is.
func reader(valid func([]byte) bool) func(*Caster) error {
	return func(c *Caster) error {
		c.read = func(cell []byte) ([]byte, bool) { return cell, valid(cell) }
		return nil
	}
}

func anyText([]byte) bool { return true }

func isYear(b []byte) bool { return len(b) == 4 && allDigits(b, 0, 1, 2, 3) }

func isYearMonth(b []byte) bool {
	if len(b) != 7 || b[4] != '-' || !allDigits(b, 0, 1, 2, 3, 5, 6) {
		return false
	}
	m := number2(b[5:])
	return m >= 1 && m <= 12
}

func isDuration(b []byte) bool {
	_, ok := parseDuration(b)
	return ok
}

func compareText(_ *Caster, limit []byte) (func([]byte) (int, bool), error) {
	return func(text []byte) (int, bool) { return bytes.Compare(text, limit), true }, nil
}

func runes(_ *Caster, text []byte) int { return utf8.RuneCount(text) }

// textProperty reads a text of a field.
func textProperty(c *Caster, key string) (text string, given bool, err error) {
	v, ok := c.field.raw[key]
	if !ok || v == nil {
		return "", false, nil
	}
	if text, ok = v.(string); !ok {
		return "", false, fault("/"+key, "must be a text")
	}
	return text, true, nil
}

func prepareNumber(c *Caster) error {
	c.form = numberForm{decimal: ".", bare: true}
	var err error
	if c.form.group, _, err = textProperty(c, "groupChar"); err != nil {
		return err
	}
	if c.field.Type == "number" {
		text, given, err := textProperty(c, "decimalChar")
		if err != nil {
			return err
		}
		if given && text != "" {
			c.form.decimal = text
		}
	}
	if v, ok := c.field.raw["bareNumber"]; ok && v != nil {
		if c.form.bare, ok = v.(bool); !ok {
			return fault("/bareNumber", "must be true or false")
		}
	}
	valid := isNumber
	if c.field.Type == "integer" {
		valid = isInteger
	}
	if c.form.isDefault() {
		c.read = func(cell []byte) ([]byte, bool) {
			if len(cell) > 0 && (cell[0] <= ' ' || cell[len(cell)-1] <= ' ') {
				cell = trimASCII(cell)
			}
			return defaultNumber(cell), valid(cell)
		}
		return nil
	}
	c.read = func(cell []byte) ([]byte, bool) {
		text, ok := c.form.plain(c.scratch, cell)
		c.scratch = text[:0:cap(text)]
		return defaultNumber(text), ok && valid(text)
	}
	return nil
}

func compareNumber(c *Caster, limit []byte) (func([]byte) (int, bool), error) {
	if isNaN(limit) {
		return nil, fmt.Errorf("NaN is no limit")
	}
	l := parseDecimal(nil, limit)
	return func(text []byte) (int, bool) {
		d := parseDecimal(c.number, text)
		c.number = d.digits[:0]
		return d.compare(l), !d.nan
	}, nil
}

func prepareBoolean(c *Caster) error {
	words := map[string]string{}
	add := func(key, value string, defaults []string) error {
		list := defaults
		if v, ok := c.field.raw[key]; ok && v != nil {
			given, ok := v.([]any)
			if !ok {
				return fault("/"+key, "must be a list of texts")
			}
			list = nil
			for i, v := range given {
				text, ok := v.(string)
				if !ok {
					return fault(fmt.Sprintf("/%s/%d", key, i), "must be a text")
				}
				list = append(list, text)
			}
		}
		for _, w := range list {
			words[w] = value
		}
		return nil
	}
	if err := add("trueValues", "true", []string{"true", "True", "TRUE", "1"}); err != nil {
		return err
	}
	if err := add("falseValues", "false", []string{"false", "False", "FALSE", "0"}); err != nil {
		return err
	}
	forms := map[string][]byte{}
	for w, v := range words {
		forms[w] = []byte(v)
	}
	c.read = func(cell []byte) ([]byte, bool) {
		text, ok := forms[string(cell)]
		return text, ok
	}
	return nil
}

// format is the field's pattern without the prefix that old schemas have.
func (c *Caster) format() string {
	if p, ok := bytes.CutPrefix([]byte(c.field.Format), []byte("fmt:")); ok {
		return string(p)
	}
	return c.field.Format
}

// written makes a reader of a date or time that is not in the default form.
func (c *Caster) written(wantDate, wantTime bool, write func(m *moment, dst []byte) []byte) {
	format := c.format()
	c.what += " of the form " + format
	c.read = func(cell []byte) ([]byte, bool) {
		var m moment
		var ok bool
		if format == "any" {
			m, ok = parseAny(string(cell), wantDate, wantTime)
		} else {
			m, ok = parsePattern(format, string(cell))
		}
		if !ok {
			return nil, false
		}
		c.scratch = write(&m, c.scratch[:0])
		return c.scratch, true
	}
}

func prepareDate(c *Caster) error {
	if c.format() != "default" {
		c.what = "a date"
		c.written(true, false, func(m *moment, dst []byte) []byte { return m.appendDate(dst) })
		return nil
	}
	return reader(func(b []byte) bool { var m moment; return m.date(b) })(c)
}

func prepareTime(c *Caster) error {
	if c.format() != "default" {
		c.what = "a time"
		c.written(false, true, func(m *moment, dst []byte) []byte { return m.appendTime(dst) })
		return nil
	}
	c.read = func(cell []byte) ([]byte, bool) {
		var m moment
		if !m.clock(cell) {
			return nil, false
		}
		if m.hour == 24 {
			return []byte("00:00:00"), true
		}
		return cell, true
	}
	return nil
}

func compareTime(_ *Caster, limit []byte) (func([]byte) (int, bool), error) {
	l, ok := readTime(limit)
	if !ok {
		return nil, fmt.Errorf("must be a time")
	}
	at := l.dayMicros()
	return func(text []byte) (int, bool) {
		m, ok := readTime(text)
		return order(m.dayMicros(), at), ok
	}, nil
}

func prepareDatetime(c *Caster) error {
	if c.format() != "default" {
		c.what = "a datetime"
		c.written(true, true, func(m *moment, dst []byte) []byte { return m.appendDatetime(dst) })
		return nil
	}
	c.read = func(cell []byte) ([]byte, bool) {
		var m moment
		if !m.datetime(cell) {
			return nil, false
		}
		if m.hour == 24 {
			c.scratch = m.appendDatetime(c.scratch[:0])
			return c.scratch, true
		}
		return cell, true
	}
	return nil
}

func compareDatetime(_ *Caster, limit []byte) (func([]byte) (int, bool), error) {
	var l moment
	if !l.datetime(limit) {
		return nil, fmt.Errorf("must be a datetime")
	}
	at := l.micros()
	return func(text []byte) (int, bool) {
		var m moment
		ok := m.datetime(text)
		return order(m.micros(), at), ok
	}, nil
}

func order(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func appendMoment(dst []byte, zoned bool, micros int64) []byte {
	mark := byte('l')
	if zoned {
		mark = 'z'
	}
	return binary.BigEndian.AppendUint64(append(dst, mark), uint64(micros))
}

func compareDuration(_ *Caster, limit []byte) (func([]byte) (int, bool), error) {
	l, ok := parseDuration(limit)
	if !ok {
		return nil, fmt.Errorf("must be a duration")
	}
	return func(text []byte) (int, bool) {
		d, ok := parseDuration(text)
		return d.compare(l), ok
	}, nil
}

// prepareList splits a text at a delimiter; each item has a type of its own in
// that type's default form.
func prepareList(c *Caster) error {
	delimiter, given, err := textProperty(c, "delimiter")
	if err != nil {
		return err
	}
	if !given || delimiter == "" {
		delimiter = ","
	}
	itemType, given, err := textProperty(c, "itemType")
	if err != nil {
		return err
	}
	if !given {
		itemType = "string"
	}
	switch itemType {
	case "string", "integer", "boolean", "number", "datetime", "date", "time":
	default:
		return fault("/itemType", "a list has no items of type %q", itemType)
	}
	item := &Schema{Fields: []Field{{Name: c.field.Name, Type: itemType, Format: "default"}}, missing: []string{}, patterns: c.patterns}
	if c.item, err = item.Caster(0, CastOptions{}); err != nil {
		return err
	}
	c.scratch = []byte(delimiter)
	c.read = func(cell []byte) ([]byte, bool) {
		for it := range c.items(cell) {
			if _, ok := c.item.read(it); !ok {
				return nil, false
			}
		}
		return cell, true
	}
	return nil
}

// items parts a list; the empty text has none.
func (c *Caster) items(text []byte) iter.Seq[[]byte] {
	if len(text) == 0 {
		return func(func([]byte) bool) {}
	}
	return bytes.SplitSeq(text, c.scratch)
}

func listLength(c *Caster, text []byte) int {
	n := 0
	for range c.items(text) {
		n++
	}
	return n
}

// isBinary: base64 with padding (RFC 4648, section 4); line ends may part it.
func isBinary(b []byte) bool {
	_, err := base64.StdEncoding.DecodeString(string(b))
	return err == nil
}
