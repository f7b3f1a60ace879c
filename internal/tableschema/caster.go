package tableschema

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/pattern"
	"github.com/datahq/specstore/internal/stream"
)

// CastOptions say how cells are read.
type CastOptions struct {
	// Trim drops the blanks round a cell, except of strings, before anything else.
	Trim bool
	// Unchecked leaves the constraints out, for a caster that only writes values.
	Unchecked bool
	// Stop ends a check of a cell that takes long when it is closed; the cell then
	// has an error. Nil is never.
	Stop <-chan struct{}
}

// Caster checks the cells of one field. It holds buffers, so a goroutine needs
// its own.
type Caster struct {
	field    Field
	trim     bool
	empty    bool // the only missing value is the empty text
	missing  map[string]bool
	required bool
	what     string // what a cell should have been: "an integer"
	read     func(cell []byte) ([]byte, bool)
	checks   []check
	describe map[string]string // constraint to what it asks for

	patterns   *pattern.Budget
	subschemas int // of the constraint jsonSchema
	stop       <-chan struct{}
	unfinished error // of the last check against a JSON Schema

	form    numberForm
	item    *Caster // of a list
	scratch []byte  // of the text that Cast gives
	number  []byte
	key     []byte
}

// check is a constraint: it reports whether a text in default form breaks it.
type check struct {
	name   string
	breaks func(text []byte) bool
}

// ErrorKind says what a cell breaks.
type ErrorKind uint8

// The kinds of cell errors.
const (
	TypeError       ErrorKind = iota // the text is none of the field's type
	ConstraintError                  // the value breaks a constraint
)

// CellError says what is wrong with a cell.
type CellError struct {
	Kind        ErrorKind
	Constraints []string // those that are broken, in one order (required, pattern, enum, …)
	Message     string   // for the owner
}

// Error gives the message.
func (e *CellError) Error() string { return e.Message }

// fieldError is a fault of a field's description.
type fieldError struct{ pointer, message string }

func (e *fieldError) Error() string { return e.pointer + ": " + e.message }

func fault(pointer, format string, args ...any) error {
	return &fieldError{pointer, fmt.Sprintf(format, args...)}
}

// Caster makes a caster of field i.
func (s *Schema) Caster(i int, o CastOptions) (*Caster, error) {
	f := s.Fields[i]
	missing := s.missing
	if v, ok := f.raw["missingValues"]; ok && v != nil {
		p := &parser{}
		if missing = p.missingValues("/missingValues", v); len(p.problems) > 0 {
			return nil, fault(p.problems[0].Pointer, "%s", p.problems[0].Message)
		}
	}
	c := &Caster{field: f, trim: o.Trim && f.Type != "string" && f.Type != "any", patterns: s.patterns, stop: o.Stop}
	c.empty = len(missing) == 1 && missing[0] == ""
	c.missing = make(map[string]bool, len(missing))
	for _, m := range missing {
		c.missing[m] = true
	}
	known := types()
	t, ok := known[f.Type]
	if !ok {
		return nil, fault("/type", "there is no type %q; the types are %s", f.Type, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	}
	c.what = t.what
	if err := t.prepare(c); err != nil {
		return nil, err
	}
	if o.Unchecked {
		return c, nil
	}
	return c, c.prepareConstraints(t)
}

// Cast checks a cell. It gives the value in default form, which may lie in the
// cell itself and is valid until the next call; or null, for a missing value.
func (c *Caster) Cast(cell []byte) (text []byte, null bool, err *CellError) {
	raw := cell
	if c.trim {
		if !c.empty && c.missing[string(cell)] { // a missing value may be a blank
			return c.null()
		}
		cell = bytes.TrimSpace(cell)
	}
	if len(cell) == 0 && c.empty || !c.empty && c.missing[string(cell)] {
		return c.null()
	}
	text, ok := c.read(cell)
	return c.checked(raw, text, ok)
}

// CastKind checks a cell that its file gives as a value of a kind, in the default form
// of that type, as [Caster.Cast] does text. What a field says of texts does not hold for
// it: missing values, date patterns, separators, boolean words. A number that is a whole
// one is an integer too; a datetime at midnight is a date where the field is one, and a
// date is that midnight where the field is a datetime, for spreadsheets know no other. A value of another type than the field's is cast as its
// text.
func (c *Caster) CastKind(kind stream.Kind, cell []byte) (text []byte, null bool, err *CellError) {
	switch kind {
	case stream.Text:
		return c.Cast(cell)
	case stream.Null, stream.Absent:
		return c.null()
	default: // of the others there is nothing to say
	}
	text, ok := c.typed(kind, cell)
	if !ok {
		text, ok = c.read(cell)
	}
	if !ok && kind == stream.Time && c.field.Type == "time" && bytes.IndexByte(cell, '.') >= 0 {
		return nil, false, &CellError{Kind: TypeError, Message: fmt.Sprintf("field %q: %s has a fraction of a second, for which the field's format has no place: declare the format \"%%H:%%M:%%S.%%f\", or round the cells to seconds", c.field.Name, shown(cell))}
	}
	return c.checked(cell, text, ok)
}

// typed gives the field's value that a value of a kind is.
func (c *Caster) typed(kind stream.Kind, value []byte) ([]byte, bool) {
	var m moment
	switch c.field.Type {
	case "integer":
		if kind == stream.Integer && isInteger(value) {
			return value, true
		}
		if kind == stream.Number {
			text, ok := wholeForm(c.scratch, value)
			if ok {
				c.scratch = text
			}
			return text, ok
		}
	case "number":
		return value, (kind == stream.Integer || kind == stream.Number) && isNumber(value)
	case "boolean":
		return value, kind == stream.Boolean && (string(value) == "true" || string(value) == "false")
	case "date":
		if day, ok := bytes.CutSuffix(value, []byte("T00:00:00")); ok && kind == stream.Datetime {
			value, kind = day, stream.Date
		}
		return value, kind == stream.Date && m.date(value)
	case "datetime":
		if kind == stream.Date && m.date(value) {
			c.scratch = append(append(c.scratch[:0], value...), "T00:00:00"...)
			return c.scratch, true
		}
		return value, kind == stream.Datetime && m.datetime(value)
	case "time":
		return value, kind == stream.Time && m.clock(value)
	}
	return nil, false
}

// wholeForm writes a number of digits with a point or an exponent as an integer,
// where it is a whole one of reasonable length.
func wholeForm(dst, cell []byte) ([]byte, bool) {
	const longest = 1000
	if !isNumber(cell) || isSpecial(cell) {
		return nil, false
	}
	d := parseDecimal(nil, cell)
	if int64(len(d.digits)) > d.exp || d.exp > longest {
		return nil, false
	}
	dst = dst[:0]
	if len(d.digits) == 0 {
		return append(dst, '0'), true
	}
	if d.neg {
		dst = append(dst, '-')
	}
	dst = append(dst, d.digits...)
	for range d.exp - int64(len(d.digits)) {
		dst = append(dst, '0')
	}
	return dst, true
}

// null is what a missing value gives.
func (c *Caster) null() ([]byte, bool, *CellError) {
	if c.required {
		return nil, true, &CellError{ConstraintError, []string{"required"}, fmt.Sprintf("field %q: a value is required", c.field.Name)}
	}
	return nil, true, nil
}

// checked tests what was read against the constraints.
func (c *Caster) checked(raw, text []byte, ok bool) ([]byte, bool, *CellError) {
	if !ok {
		return nil, false, &CellError{Kind: TypeError, Message: fmt.Sprintf("field %q: %s is not %s", c.field.Name, shown(raw), c.what)}
	}
	for i := range c.checks {
		if c.checks[i].breaks(text) {
			if c.unfinished != nil {
				name := c.checks[i].name
				return nil, false, &CellError{ConstraintError, []string{name}, fmt.Sprintf("field %q: %s could not be held against %s: %s", c.field.Name, shown(raw), name, c.unfinished)}
			}
			return nil, false, c.constraintError(raw, text)
		}
	}
	return text, false, nil
}

func (c *Caster) constraintError(raw, text []byte) *CellError {
	e := &CellError{Kind: ConstraintError}
	var asked []string
	for _, k := range c.checks {
		if k.breaks(text) {
			e.Constraints = append(e.Constraints, k.name)
			asked = append(asked, c.describe[k.name])
		}
	}
	e.Message = fmt.Sprintf("field %q: %s breaks %s", c.field.Name, shown(raw), strings.Join(asked, " and "))
	return e
}

// parse reads a value of the field without regard to its constraints.
func (c *Caster) parse(cell []byte) ([]byte, bool) {
	if c.trim {
		cell = bytes.TrimSpace(cell)
	}
	return c.read(cell)
}

const maxShown = 100 // bytes of a cell in a message

func shown(cell []byte) string {
	if len(cell) > maxShown {
		end := maxShown
		for end > 0 && !utf8.RuneStart(cell[end]) {
			end--
		}
		return fmt.Sprintf("%q…", cell[:end])
	}
	return fmt.Sprintf("%q", cell)
}

// supported says which constraints a type has beside required, unique and enum.
func (t fieldType) supports(constraint string) bool {
	switch constraint {
	case "required", "unique", "enum":
		return true
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		return t.compare != nil
	case "minLength", "maxLength":
		return t.length != nil
	case "pattern":
		return t.pattern
	case "jsonSchema":
		return t.json
	}
	return false
}

func (c *Caster) prepareConstraints(t fieldType) error {
	raw := c.field.raw
	if v, ok := raw["constraints"]; ok && v != nil {
		if _, ok := v.(map[string]any); !ok {
			return fault("/constraints", "must be an object")
		}
	}
	c.describe = map[string]string{}
	constraints := c.field.constraints()
	for _, name := range slices.Sorted(maps.Keys(constraints)) {
		v := constraints[name]
		pointer := "/constraints/" + name
		if !t.supports(name) {
			return fault(pointer, "a field of type %q has no such constraint", c.field.Type)
		}
		if v == nil {
			continue
		}
		var breaks func([]byte) bool
		var err error
		switch name {
		case "required", "unique":
			on, ok := v.(bool)
			if !ok {
				return fault(pointer, "must be true or false")
			}
			if name == "required" {
				c.required = on
			}
			continue
		case "enum":
			breaks, err = c.members(pointer, v)
		case "minLength", "maxLength":
			n, ok := wholeNumber(v)
			if !ok {
				return fault(pointer, "must be a whole number")
			}
			if name == "minLength" {
				breaks = func(text []byte) bool { return t.length(c, text) < n }
			} else {
				breaks = func(text []byte) bool { return t.length(c, text) > n }
			}
		case "pattern":
			breaks, err = c.patternCheck(pointer, v)
		case "jsonSchema":
			breaks, err = c.jsonSchemaCheck(pointer, v)
		default:
			breaks, err = c.bound(t, pointer, name, v)
		}
		if err != nil {
			return err
		}
		c.checks = append(c.checks, check{name, breaks})
		c.describe[name] = describe(name, v)
	}
	if v, ok := raw["categories"]; ok && v != nil {
		if err := c.categories(v); err != nil {
			return err
		}
	}
	order := constraintOrder()
	slices.SortFunc(c.checks, func(a, b check) int { return cmp.Compare(slices.Index(order, a.name), slices.Index(order, b.name)) })
	return nil
}

// constraintOrder is the order in which constraints are tested and said: that of the
// reports which people know.
func constraintOrder() []string {
	return []string{"required", "pattern", "unique", "enum", "categories", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "minLength", "maxLength", "jsonSchema"}
}

// describe says what a constraint asks for.
func describe(name string, v any) string {
	text := jsonText(v)
	if len(text) > maxShown {
		text = shown([]byte(text))
	}
	return name + " " + text
}

// bound checks against a limit of the value.
func (c *Caster) bound(t fieldType, pointer, name string, v any) (func([]byte) bool, error) {
	limit, ok := c.value(v)
	if !ok {
		return nil, fault(pointer, "%s is not %s", shown([]byte(jsonText(v))), c.what)
	}
	compare, err := t.compare(c, limit)
	if err != nil {
		return nil, fault(pointer, "%s", err)
	}
	// A value that cannot be compared, such as NaN, breaks every bound.
	switch name {
	case "minimum":
		return func(text []byte) bool { o, ok := compare(text); return !ok || o < 0 }, nil
	case "maximum":
		return func(text []byte) bool { o, ok := compare(text); return !ok || o > 0 }, nil
	case "exclusiveMinimum":
		return func(text []byte) bool { o, ok := compare(text); return !ok || o <= 0 }, nil
	}
	return func(text []byte) bool { o, ok := compare(text); return !ok || o >= 0 }, nil
}

// value casts a value of the schema by the field's own rules: a text as a cell
// would be, a JSON value of the type as it is. The bytes are the caller's.
func (c *Caster) value(v any) ([]byte, bool) {
	if text, ok := v.(string); ok {
		out, ok := c.read([]byte(text))
		return slices.Clone(out), ok
	}
	text := []byte(jsonText(v))
	switch c.field.Type {
	case "number", "integer", "year":
		ok := isNumber(text)
		if c.field.Type != "number" {
			ok = isInteger(text)
		}
		return text, ok
	case "boolean":
		_, ok := v.(bool)
		return text, ok
	case "string":
		return nil, false
	case "geopoint":
		out, ok := readGeopoint(nil, text, "array")
		return out, ok
	}
	out, ok := c.read(text)
	return slices.Clone(out), ok
}

// members checks that a value is one of a list.
func (c *Caster) members(pointer string, v any) (func([]byte) bool, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, fault(pointer, "must be a list")
	}
	set := make(map[string]bool, len(list))
	for i, v := range list {
		if text, ok := v.(string); ok && c.missing[text] {
			continue // a missing cell is null and in no list
		}
		text, ok := c.value(v)
		if !ok {
			return nil, fault(fmt.Sprintf("%s/%d", pointer, i), "%s is not %s", shown([]byte(jsonText(v))), c.what)
		}
		set[string(c.AppendKey(nil, text))] = true
	}
	return func(text []byte) bool {
		c.key = c.AppendKey(c.key[:0], text)
		return !set[string(c.key)]
	}, nil
}

// categories are the values that a field of a version 2 schema may have.
func (c *Caster) categories(v any) error {
	list, ok := v.([]any)
	if !ok {
		return fault("/categories", "must be a list")
	}
	if c.field.Type != "string" && c.field.Type != "integer" {
		return fault("/categories", "a field of type %q has no categories", c.field.Type)
	}
	values := make([]any, len(list))
	for i, v := range list {
		values[i] = v
		if m, ok := v.(map[string]any); ok {
			values[i] = m["value"]
		}
	}
	breaks, err := c.members("/categories", values)
	if err != nil {
		return err
	}
	c.checks = append(c.checks, check{"categories", breaks})
	c.describe["categories"] = describe("categories", values)
	return nil
}

// AppendKey appends bytes that are equal for equal values. text is in default form.
func (c *Caster) AppendKey(dst, text []byte) []byte {
	switch c.field.Type {
	case "number", "integer", "year":
		d := parseDecimal(c.number, text)
		c.number = d.digits[:0]
		return d.appendKey(dst)
	case "datetime":
		var m moment
		if m.datetime(text) {
			return appendMoment(dst, m.zoned, m.micros())
		}
	case "time":
		if m, ok := readTime(text); ok {
			return appendMoment(dst, m.zoned, m.dayMicros())
		}
	case "duration":
		if d, ok := parseDuration(text); ok {
			return d.appendKey(dst)
		}
	case "geopoint":
		if lon, lat, ok := splitGeopoint(text); ok {
			dst = append(parseDecimal(nil, lon).appendKey(dst), ',')
			return parseDecimal(nil, lat).appendKey(dst)
		}
	case "object", "array", "geojson":
		return appendJSONKey(dst, text)
	case "list":
		for item := range c.items(text) {
			out, ok := c.item.read(item)
			if ok {
				dst = c.item.AppendKey(dst, out)
			}
			dst = append(dst, 0)
		}
		return dst
	}
	return append(dst, text...)
}

// IsNaN reports whether a value is the number that equals nothing, not even itself.
// text is in default form.
func (c *Caster) IsNaN(text []byte) bool { return c.field.Type == "number" && isNaN(text) }

// JSONString reports whether a value is a string as JSON, its text.
func (c *Caster) JSONString() bool {
	switch c.field.Type {
	case "number", "integer", "year", "boolean", "object", "array", "geojson":
		return false
	}
	return true
}

// AppendJSON appends the value as JSON. text is in default form.
func (c *Caster) AppendJSON(dst, text []byte) []byte {
	switch c.field.Type {
	case "number", "integer", "year":
		return appendJSONNumber(dst, text)
	case "boolean":
		return append(dst, text...)
	case "object", "array", "geojson":
		if bytes.ContainsAny(text, "\r\n") { // a row is a line
			var b bytes.Buffer
			if json.Compact(&b, text) == nil {
				return append(dst, b.Bytes()...)
			}
		}
		return append(dst, text...)
	}
	return AppendJSONString(dst, text)
}

const hexDigits = "0123456789abcdef"

// AppendJSONString appends a JSON string: UTF-8 as it is, escapes only where JSON
// wants them. The text must be valid UTF-8.
func AppendJSONString(dst, text []byte) []byte {
	dst = append(dst, '"')
	from := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(dst, text[from:]...), '"')
}
