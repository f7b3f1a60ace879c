package standard

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// The tags of typed values: what JSON has no form for travels as an object with
// one key, {"type{decimal}": "1.50"}.
const (
	tagDecimal  = "type{decimal}"
	tagDate     = "type{date}"
	tagTime     = "type{time}"
	tagDatetime = "type{datetime}"
	tagDuration = "type{duration}"
	tagSet      = "type{set}"
)

// shaped reports whether a text looks like another: a digit where that has a 0, and
// else the same. Leading digits may be missing.
func shaped(text, like string) bool {
	missing := len(like) - len(text)
	if missing < 0 || missing > 3 || missing > 0 && like[missing] != '0' {
		return false
	}
	like = like[missing:]
	for i := range len(text) {
		if like[i] == '0' && (text[i] < '0' || text[i] > '9') || like[i] != '0' && text[i] != like[i] {
			return false
		}
	}
	return true
}

// CellOf gives the kind and appends the text of the cell that a value of the wire
// is. Durations and sets, and typed values inside lists and objects, stay as they
// came.
func CellOf(v any, dst []byte) (stream.Kind, []byte) {
	switch v := v.(type) {
	case nil:
		return stream.Null, dst
	case bool:
		if v {
			return stream.Boolean, append(dst, "true"...)
		}
		return stream.Boolean, append(dst, "false"...)
	case string:
		return stream.Text, append(dst, v...)
	case json.Number:
		text := string(v)
		if strings.ContainsAny(text, ".eE") {
			return stream.Float, python.AppendNumber(dst, text)
		}
		if text == "-0" {
			text = "0"
		}
		return stream.Integer, append(dst, text...)
	case int:
		return stream.Integer, python.JSON{}.Append(dst, v)
	case map[string]any:
		if k, text, ok := typed(v); ok {
			return k, append(dst, text...)
		}
	}
	return stream.JSON, python.JSON{}.Append(dst, v)
}

// typed reads a typed value that is a cell of its own.
func typed(m map[string]any) (stream.Kind, string, bool) {
	if len(m) != 1 {
		return 0, "", false
	}
	for tag, v := range m {
		text, ok := v.(string)
		if !ok {
			return 0, "", false
		}
		switch tag {
		case tagDecimal:
			text, ok = python.DecimalText([]byte(text))
			return stream.Number, text, ok
		case tagDate:
			return stream.Date, padYear(text), shaped(text, "0000-00-00")
		case tagTime:
			return stream.Time, text, len(text) == 8 && shaped(text, "00:00:00")
		case tagDatetime:
			return stream.Datetime, strings.Replace(padYear(text), " ", "T", 1), shaped(text, "0000-00-00 00:00:00")
		}
	}
	return 0, "", false
}

// padYear gives a year its leading zeros, which Python leaves out.
func padYear(text string) string {
	if n := strings.IndexByte(text, '-'); n >= 0 && n < 4 {
		return strings.Repeat("0", 4-n) + text
	}
	return text
}

// AppendWire appends a cell as the wire has it: JSON in ASCII.
func AppendWire(dst []byte, k stream.Kind, text []byte) []byte {
	if k == stream.JSON {
		return python.AppendASCII(dst, text)
	}
	return appendTyped(dst, k, text, true)
}

// appendTyped appends a cell as JSON in which types are told.
func appendTyped(dst []byte, k stream.Kind, text []byte, ascii bool) []byte {
	switch k {
	case stream.Null, stream.Absent:
		return append(dst, "null"...)
	case stream.Integer, stream.Boolean, stream.Float, stream.JSON:
		return append(dst, text...)
	case stream.Number:
		return appendTagged(dst, tagDecimal, string(text))
	case stream.Date:
		return appendTagged(dst, tagDate, string(text))
	case stream.Time:
		return appendTagged(dst, tagTime, cutTime(string(text)))
	case stream.Datetime:
		date, clock, _ := strings.Cut(string(text), "T")
		return appendTagged(dst, tagDatetime, date+" "+cutTime(clock))
	default: // of the others there is nothing to say
	}
	return python.AppendString(dst, text, ascii)
}

// cutTime drops fractions of a second and the zone, which the wire has no room for.
func cutTime(text string) string { return text[:min(len(text), len("03:04:05"))] }

func appendTagged(dst []byte, tag, text string) []byte {
	dst = append(dst, `{"`...)
	dst = append(append(dst, tag...), `": `...)
	return append(python.AppendString(dst, text, true), '}')
}

// caster brings cells to the type of a field.
type caster struct {
	name     string
	kind     string // of the field
	cast     *tableschema.Caster
	required bool
}

// casters makes those of a resource's fields. They are for one goroutine.
func casters(resource map[string]any) ([]*caster, error) {
	raw, _ := resource["schema"].(map[string]any)
	if raw == nil {
		return nil, nil
	}
	schema, err := tableschema.Parse(raw)
	if err != nil {
		return nil, err
	}
	out := make([]*caster, len(schema.Fields))
	for i, f := range schema.Fields {
		c, err := schema.Caster(i, tableschema.CastOptions{Trim: true})
		if err != nil {
			return nil, invalid("field %q: %s", f.Name, err)
		}
		constraints, _ := fields(resource)[i]["constraints"].(map[string]any)
		required, _ := constraints["required"].(bool)
		out[i] = &caster{name: f.Name, kind: f.Type, cast: c, required: required}
	}
	return out, nil
}

// append casts a cell and appends the value.
func (c *caster) append(out *stream.Batch, k stream.Kind, text []byte) error {
	switch k {
	case stream.Null, stream.Absent:
		if c.required {
			return invalid("field %q: a value is required", c.name)
		}
		out.AppendNull()
		return nil
	case stream.Text:
		if c.kind == "string" {
			text = []byte(strings.TrimSpace(string(text)))
		}
		return c.text(out, text)
	default: // of the others there is nothing to say
	}
	if k == tableschema.KindOf(c.kind) || c.kind == "any" || k == stream.JSON && slices.Contains([]string{"list", "geopoint", "duration", "yearmonth", "set"}, c.kind) {
		out.AppendKind(k, text)
		return nil
	}
	switch {
	case c.kind == "number" && (k == stream.Integer || k == stream.Float):
		if d, ok := python.DecimalText(text); ok {
			out.AppendKind(stream.Number, []byte(d))
			return nil
		}
	case c.kind == "integer" && (k == stream.Number || k == stream.Float):
		if whole, ok := strings.CutSuffix(string(text), ".0"); ok {
			out.AppendKind(stream.Integer, []byte(whole))
			return nil
		}
	}
	return invalid("field %q: %q is not %s", c.name, python.Str(k, text), article(c.kind))
}

func article(kind string) string {
	if strings.ContainsAny(kind[:1], "aeiou") {
		return "an " + kind
	}
	return "a " + kind
}

// text casts a text.
func (c *caster) text(out *stream.Batch, text []byte) error {
	value, null, cellErr := c.cast.Cast(text)
	switch {
	case cellErr != nil:
		return invalid("%s", cellErr.Message)
	case null:
		out.AppendNull()
		return nil
	}
	switch k := tableschema.KindOf(c.kind); k {
	case stream.Integer:
		out.AppendKind(k, plainInteger(value))
	case stream.Number:
		d, ok := python.DecimalText(value)
		if !ok {
			if d, ok = map[string]string{"INF": "Infinity", "-INF": "-Infinity", "NaN": "NaN"}[string(value)]; !ok {
				return invalid("field %q: %q is no number that can be written out", c.name, value)
			}
		}
		out.AppendKind(k, []byte(d))
	case stream.JSON:
		v, err := python.ParseJSON(value)
		if err != nil {
			return err
		}
		out.AppendKind(k, python.JSON{}.Append(nil, v))
	default:
		if c.kind == "duration" {
			out.AppendKind(stream.JSON, appendTagged(nil, tagDuration, string(value)))
			return nil
		}
		out.AppendKind(k, value)
	}
	return nil
}

// plainInteger drops a plus and leading zeros.
func plainInteger(text []byte) []byte {
	s := string(text)
	minus := strings.HasPrefix(s, "-")
	s = strings.TrimLeft(strings.TrimLeft(s, "+-"), "0")
	switch {
	case s == "":
		return []byte("0")
	case minus:
		return []byte("-" + s)
	}
	return []byte(s)
}
