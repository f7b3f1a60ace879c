// Package tableschema holds the rules of a table: its fields, their types and
// constraints, its keys, by the published Table Schema standard (version 2 where
// it says more than version 1, https://datapackage.org/standard/table-schema/).
//
// A cell is text. [Caster.Cast] checks it and gives the same value in the default
// form of its type; text that is in that form already is handed back byte for
// byte, not a digit altered and nothing allocated. Two texts stand for one value
// exactly where [Caster.AppendKey] gives the same bytes. The package does no I/O.
package tableschema

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/jsonschema"
	"github.com/datahq/specstore/internal/pattern"
	"github.com/datahq/specstore/internal/stream"
)

// Limits of a schema, so that a hostile one cannot cost much.
const (
	MaxFields  = 16384
	maxPattern = 4096 // bytes of a regular expression
)

// Schema is a checked Table Schema.
type Schema struct {
	Fields      []Field
	PrimaryKey  []string
	UniqueKeys  [][]string
	ForeignKeys []ForeignKey
	// FieldsMatch says how fields and the columns of a file belong together, one of the
	// words of version 2 (exact, equal, subset, superset, partial); empty where the schema
	// does not say.
	FieldsMatch string

	raw      map[string]any
	missing  []string
	patterns *pattern.Budget // what all patterns may take, compiled ones included
}

// Field is one column.
type Field struct {
	Name   string
	Type   string // "string" where the schema does not say
	Format string // "default" where the schema does not say
	Title  string

	raw map[string]any
}

// Kind is what a value of the field is in a format with types.
func (f Field) Kind() stream.Kind { return KindOf(f.Type) }

// KindOf is what a value of a field type is in a format with types; text where such
// formats have nothing of their own for it.
func KindOf(fieldType string) stream.Kind {
	switch fieldType {
	case "integer", "year":
		return stream.Integer
	case "number":
		return stream.Number
	case "boolean":
		return stream.Boolean
	case "date":
		return stream.Date
	case "time":
		return stream.Time
	case "datetime":
		return stream.Datetime
	case "object", "array", "geojson":
		return stream.JSON
	}
	return stream.Text
}

// ForeignKey says that the values of some fields are found in another table.
type ForeignKey struct {
	Fields []string
	// Resource is the table that is referred to; empty is this one.
	Resource  string
	Reference []string // the fields there
}

// Problem is one thing that is wrong with a schema.
type Problem struct {
	Pointer string // a JSON pointer into the schema: /fields/2/type
	Message string
}

// Parse checks a schema in the JSON value space and compiles it. Its error is of
// the kind Invalid and names the first problem.
func Parse(raw map[string]any) (*Schema, error) {
	s, problems := parse(raw)
	if len(problems) > 0 {
		return nil, errs.New(errs.Invalid, "tableschema.Parse", "%s: %s", problems[0].Pointer, problems[0].Message)
	}
	return s, nil
}

// Check gives all that is wrong with a schema.
func Check(raw map[string]any) []Problem {
	_, problems := parse(raw)
	return problems
}

// parser collects the problems.
type parser struct{ problems []Problem }

func (p *parser) add(pointer, format string, args ...any) {
	p.problems = append(p.problems, Problem{pointer, fmt.Sprintf(format, args...)})
}

func parse(raw map[string]any) (*Schema, []Problem) {
	p := &parser{}
	s := &Schema{raw: raw, missing: []string{""}, patterns: pattern.NewBudget(pattern.MaxBytes)}
	if v, ok := raw["missingValues"]; ok && v != nil {
		s.missing = p.missingValues("/missingValues", v)
	}
	fields, ok := raw["fields"].([]any)
	switch {
	case !ok:
		p.add("/fields", "must be a list of fields")
	case len(fields) > MaxFields:
		p.add("/fields", "has %d fields, more than the limit of %d", len(fields), MaxFields)
		fields = nil
	}
	seen := map[string]bool{}
	subschemas := 0
	for i, v := range fields {
		f, ok := p.field(fmt.Sprintf("/fields/%d", i), v)
		if ok && seen[f.Name] {
			p.add(fmt.Sprintf("/fields/%d/name", i), "the name %q was used before", f.Name)
		}
		seen[f.Name] = true
		s.Fields = append(s.Fields, f)
		if ok {
			c, err := s.Caster(i, CastOptions{})
			if err == nil {
				if subschemas += c.subschemas; subschemas > jsonschema.MaxSubschemas {
					p.add(fmt.Sprintf("/fields/%d/constraints/jsonSchema", i), "the JSON Schemas of a table have %d subschemas together at most", jsonschema.MaxSubschemas)
					break
				}
			}
			if err != nil {
				if e, ok := errors.AsType[*fieldError](err); ok {
					p.add(fmt.Sprintf("/fields/%d%s", i, e.pointer), "%s", e.message)
				} else {
					p.add(fmt.Sprintf("/fields/%d", i), "%s", err)
				}
			}
		}
	}
	s.FieldsMatch = p.fieldsMatch(raw["fieldsMatch"])
	s.PrimaryKey = p.fieldNames("/primaryKey", raw["primaryKey"], seen)
	if list, ok := p.list("/uniqueKeys", raw["uniqueKeys"]); ok {
		for i, v := range list {
			if names := p.fieldNames(fmt.Sprintf("/uniqueKeys/%d", i), v, seen); len(names) > 0 {
				s.UniqueKeys = append(s.UniqueKeys, names)
			}
		}
	}
	if list, ok := p.list("/foreignKeys", raw["foreignKeys"]); ok {
		for i, v := range list {
			p.foreignKey(s, fmt.Sprintf("/foreignKeys/%d", i), v, seen)
		}
	}
	return s, p.problems
}

// The ways in which the fields of a schema and the columns of a file belong together.
const (
	MatchExact    = "exact"    // the same, in the same order
	MatchEqual    = "equal"    // the same, in any order
	MatchSubset   = "subset"   // all fields are there, and maybe more columns
	MatchSuperset = "superset" // some fields are there, and no other columns
	MatchPartial  = "partial"  // one field is there at least
)

// fieldsMatch reads one of the words; as a list of one word as well, which the
// standard's own profile has.
func (p *parser) fieldsMatch(v any) string {
	if list, ok := v.([]any); ok && len(list) == 1 {
		v = list[0]
	}
	if v == nil {
		return ""
	}
	switch word, _ := v.(string); word {
	case MatchExact, MatchEqual, MatchSubset, MatchSuperset, MatchPartial:
		return word
	}
	p.add("/fieldsMatch", "must be exact, equal, subset, superset or partial")
	return ""
}

// list reads an optional list; null is absent.
func (p *parser) list(pointer string, v any) ([]any, bool) {
	if v == nil {
		return nil, false
	}
	list, ok := v.([]any)
	if !ok {
		p.add(pointer, "must be a list")
	}
	return list, ok
}

// missingValues reads a list of texts, or of objects with a value (version 2).
func (p *parser) missingValues(pointer string, v any) []string {
	list, _ := p.list(pointer, v)
	out := make([]string, 0, len(list))
	for i, v := range list {
		if m, ok := v.(map[string]any); ok {
			v = m["value"]
		}
		text, ok := v.(string)
		if !ok {
			p.add(fmt.Sprintf("%s/%d", pointer, i), "must be a text")
		}
		out = append(out, text)
	}
	return out
}

func (p *parser) field(pointer string, v any) (Field, bool) {
	raw, ok := v.(map[string]any)
	if !ok {
		p.add(pointer, "must be an object")
		return Field{}, false
	}
	f := Field{raw: raw, Type: "string", Format: "default"}
	good := true
	text := func(key string, into *string) {
		v, ok := raw[key]
		if !ok || v == nil {
			return
		}
		if *into, ok = v.(string); !ok {
			p.add(pointer+"/"+key, "must be a text")
			good = false
		}
	}
	if _, ok := raw["name"].(string); !ok {
		p.add(pointer+"/name", "a field needs a name")
		good = false
	}
	f.Name, _ = raw["name"].(string)
	text("type", &f.Type)
	text("format", &f.Format)
	text("title", &f.Title)
	if f.Format == "" {
		f.Format = "default"
	}
	return f, good
}

// fieldNames reads a name or a list of names of fields that exist.
func (p *parser) fieldNames(pointer string, v any, known map[string]bool) []string {
	var list []any
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		list = []any{v}
	case []any:
		list = v
	default:
		p.add(pointer, "must be a field name or a list of them")
		return nil
	}
	var names []string
	for _, v := range list {
		name, ok := v.(string)
		switch {
		case !ok:
			p.add(pointer, "must be a field name or a list of them")
		case known != nil && !known[name]:
			p.add(pointer, "there is no field %q", name)
		case slices.Contains(names, name):
			p.add(pointer, "names the field %q twice", name)
		default:
			names = append(names, name)
		}
	}
	return names
}

func (p *parser) foreignKey(s *Schema, pointer string, v any, known map[string]bool) {
	m, ok := v.(map[string]any)
	if !ok {
		p.add(pointer, "must be an object")
		return
	}
	ref, ok := m["reference"].(map[string]any)
	if !ok {
		p.add(pointer+"/reference", "must be an object")
		return
	}
	k := ForeignKey{Fields: p.fieldNames(pointer+"/fields", m["fields"], known)}
	if v := ref["resource"]; v != nil {
		if k.Resource, ok = v.(string); !ok {
			p.add(pointer+"/reference/resource", "must be a text")
		}
	}
	if k.Resource == "self" {
		k.Resource = ""
	}
	if k.Resource == "" {
		k.Reference = p.fieldNames(pointer+"/reference/fields", ref["fields"], known)
	} else {
		k.Reference = p.fieldNames(pointer+"/reference/fields", ref["fields"], nil)
	}
	if len(k.Fields) == 0 || len(k.Fields) != len(k.Reference) {
		p.add(pointer, "fields and reference/fields must name as many fields, and one at least")
		return
	}
	s.ForeignKeys = append(s.ForeignKeys, k)
}

// Columns gives the places of fields by name. Names that the schema does not
// have are an error of the kind Invalid.
func (s *Schema) Columns(names []string) ([]int, error) {
	columns := make([]int, len(names))
	for i, name := range names {
		columns[i] = slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == name })
		if columns[i] < 0 {
			return nil, errs.New(errs.Invalid, "tableschema.Columns", "there is no field %q", name)
		}
	}
	return columns, nil
}

// PrimaryKeyColumns gives the places of the primary key's fields.
func (s *Schema) PrimaryKeyColumns() []int {
	columns, err := s.Columns(s.PrimaryKey)
	if err != nil {
		return nil
	}
	return columns
}

// UniqueColumns gives the sets of fields whose values must not repeat: the
// primary key first, then unique keys and fields with the constraint unique.
func (s *Schema) UniqueColumns() [][]int {
	var sets [][]int
	add := func(names []string) {
		columns, err := s.Columns(names)
		if err == nil && len(columns) > 0 && !slices.ContainsFunc(sets, func(c []int) bool { return slices.Equal(c, columns) }) {
			sets = append(sets, columns)
		}
	}
	add(s.PrimaryKey)
	for _, k := range s.UniqueKeys {
		add(k)
	}
	for _, f := range s.Fields {
		if unique, _ := f.constraints()["unique"].(bool); unique {
			add([]string{f.Name})
		}
	}
	return sets
}

func (f Field) constraints() map[string]any {
	c, _ := f.raw["constraints"].(map[string]any)
	return c
}

// CanonicalDescriptor is the schema of a table that was written in default forms:
// without decimal and group characters, patterns of dates and words for true and
// false, its constraints in default forms as well. A missing value is the empty
// text there.
func (s *Schema) CanonicalDescriptor() map[string]any {
	d := maps.Clone(s.raw)
	if _, ok := d["missingValues"]; ok {
		d["missingValues"] = []any{""}
	}
	delete(d, "fieldsMatch") // the table has all fields, in their order
	fields := make([]any, len(s.Fields))
	for i, f := range s.Fields {
		fields[i] = s.canonicalField(i, f)
	}
	if d["fields"] != nil {
		d["fields"] = fields
	}
	return d
}

// Required reports whether a field must have a value in every row.
func (f Field) Required() bool {
	required, _ := f.constraints()["required"].(bool)
	return required
}

// finerThanSeconds reports whether a time's format may give what hh:mm:ss, the default
// format, has no place for: a fraction of a second, or a zone.
func finerThanSeconds(pattern any) bool {
	text, _ := pattern.(string)
	return text == "any" || strings.Contains(text, "%f") || strings.Contains(text, "%z") || strings.Contains(text, "%Z")
}

func (s *Schema) canonicalField(i int, f Field) map[string]any {
	d := maps.Clone(f.raw)
	for _, k := range []string{"missingValues", "decimalChar", "groupChar", "bareNumber", "trueValues", "falseValues"} {
		delete(d, k)
	}
	switch f.Type {
	case "date", "time", "datetime", "geopoint":
		if pattern, ok := d["format"]; ok {
			d["format"] = "default"
			if f.Type == "time" && finerThanSeconds(pattern) {
				d["format"] = "any"
			}
		}
	}
	c, err := s.Caster(i, CastOptions{Unchecked: true})
	if err != nil || f.constraints() == nil {
		return d
	}
	constraints := maps.Clone(f.constraints())
	canonical := func(v any) any {
		text, ok := v.(string)
		if !ok {
			return v
		}
		if out, ok := c.parse([]byte(text)); ok {
			return string(out)
		}
		return v
	}
	for _, k := range []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"} {
		if v, ok := constraints[k]; ok {
			constraints[k] = canonical(v)
		}
	}
	if list, ok := constraints["enum"].([]any); ok {
		list = slices.Clone(list)
		for i, v := range list {
			list[i] = canonical(v)
		}
		constraints["enum"] = list
	}
	d["constraints"] = constraints
	return d
}

// number reads a JSON number as a whole one that is not negative.
func wholeNumber(v any) (int, bool) {
	n, err := strconv.Atoi(jsonText(v))
	return n, err == nil && n >= 0
}

// jsonText is a JSON value as text: a text itself, anything else as JSON.
func jsonText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
