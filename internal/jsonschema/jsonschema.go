// Package jsonschema checks values against JSON Schemas (draft 2020-12 where a
// schema does not name its own) and says what is wrong in words for whoever wrote
// the value.
//
// A schema stands alone: what it refers to lies in it, nothing is ever fetched or
// opened. Where a subschema has the keyword `errorMessage`, that text takes the
// place of all that is found by it.
package jsonschema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Schema is a compiled JSON Schema. It may be used from several goroutines.
type Schema struct {
	doc      any
	compiled *jsonschema.Schema
}

// Problem is one thing that is wrong with a value.
type Problem struct {
	Pointer string // a JSON pointer (RFC 6901): /resources/0/path
	Message string
}

// String gives pointer and message in a line.
func (p Problem) String() string { return p.Pointer + ": " + p.Message }

var errOutside = errors.New("a schema may not refer to other documents")

// nothing loads nothing.
type nothing struct{}

func (nothing) Load(string) (any, error) { return nil, errOutside }

const location = "schema.json"

// Compile compiles a schema from its JSON text.
func Compile(text []byte) (*Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("jsonschema: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(nothing{})
	if err := compiler.AddResource(location, doc); err != nil {
		return nil, fmt.Errorf("jsonschema: %w", err)
	}
	compiled, err := compiler.Compile(location)
	if err != nil {
		return nil, fmt.Errorf("jsonschema: %w", err)
	}
	return &Schema{doc, compiled}, nil
}

// Valid reports whether a value in the JSON value space, numbers as json.Number,
// satisfies the schema.
func (s *Schema) Valid(v any) bool {
	_, found := outsize(v)
	return !found && s.compiled.Validate(v) == nil
}

// ValidText reports whether a JSON text satisfies the schema.
func (s *Schema) ValidText(text []byte) bool {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	return err == nil && s.Valid(v)
}

// Check gives what is wrong with a value, by pointer; at most so many problems.
func (s *Schema) Check(v any, most int) []Problem {
	if at, found := outsize(v); found {
		return []Problem{{pointer(at), fmt.Sprintf("the number has an exponent of more than %d digits", maxExponent)}}
	}
	err := s.compiled.Validate(v)
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return []Problem{{"", err.Error()}}
	}
	problems := s.words(nil, e)
	// The library looks at properties in no order.
	slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Pointer, b.Pointer) })
	problems = slices.Compact(problems)
	return problems[:min(len(problems), most)]
}

// maxExponent bounds the digits of a number's exponent: the library computes with all
// digits of a number, and 1e99999999 has many.
const maxExponent = 4

func isOutsize(v json.Number) bool {
	i := strings.IndexAny(string(v), "eE")
	return i >= 0 && len(strings.TrimLeft(string(v[i+1:]), "+-0")) > maxExponent
}

// outsize finds a number whose exponent is beyond the limit.
func outsize(v any) (at []string, found bool) {
	switch v := v.(type) {
	case json.Number:
		return nil, isOutsize(v)
	case map[string]any:
		for k, item := range v {
			if at, found := outsize(item); found {
				return append([]string{k}, at...), true
			}
		}
	case []any:
		for i, item := range v {
			if at, found := outsize(item); found {
				return append([]string{strconv.Itoa(i)}, at...), true
			}
		}
	}
	return nil, false
}

// words appends what an error says: its causes', but where the schema has a text of
// its own or its causes are alternatives.
func (s *Schema) words(problems []Problem, e *jsonschema.ValidationError) []Problem {
	at := pointer(e.InstanceLocation)
	if text := s.message(e.SchemaURL); text != "" && !gathers(e.ErrorKind) {
		if k, ok := e.ErrorKind.(*kind.Required); ok {
			for _, name := range k.Missing {
				problems = append(problems, Problem{at + pointer([]string{name}), text})
			}
			return problems
		}
		return append(problems, Problem{at, text})
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			problems = append(problems, Problem{at + pointer([]string{name}), "is required"})
		}
		return problems
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			problems = append(problems, Problem{at + pointer([]string{name}), "is not known here"})
		}
		return problems
	case *kind.AnyOf, *kind.OneOf:
		// The alternative that comes furthest is the one that was meant.
		if best := furthest(e.Causes); best != nil {
			return s.words(problems, best)
		}
	}
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			problems = s.words(problems, cause)
		}
		return problems
	}
	return append(problems, Problem{at, sentence(e.ErrorKind)})
}

// gathers reports whether an error only holds those of other subschemas.
func gathers(k jsonschema.ErrorKind) bool {
	switch k.(type) {
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf:
		return true
	}
	return false
}

func furthest(causes []*jsonschema.ValidationError) *jsonschema.ValidationError {
	var best *jsonschema.ValidationError
	far := -1
	for _, c := range causes {
		if d := depth(c); d > far {
			best, far = c, d
		}
	}
	return best
}

func depth(e *jsonschema.ValidationError) int {
	d := len(e.InstanceLocation)
	for _, c := range e.Causes {
		d = max(d, depth(c))
	}
	return d
}

// message is the errorMessage of the subschema at a location.
func (s *Schema) message(at string) string {
	_, fragment, ok := strings.Cut(at, "#")
	if !ok {
		return ""
	}
	v := s.doc
	for part := range strings.SplitSeq(strings.TrimPrefix(fragment, "/"), "/") {
		if part == "" {
			continue
		}
		part = unescape.Replace(part)
		switch in := v.(type) {
		case map[string]any:
			v = in[part]
		case []any:
			i, err := strconv.ParseUint(part, 10, 31)
			if err != nil || int(i) >= len(in) {
				return ""
			}
			v = in[i]
		default:
			return ""
		}
	}
	m, _ := v.(map[string]any)
	text, _ := m["errorMessage"].(string)
	return text
}

var (
	unescape = strings.NewReplacer("~1", "/", "~0", "~", "%24", "$", "%25", "%")
	escape   = strings.NewReplacer("~", "~0", "/", "~1")
)

func pointer(parts []string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteByte('/')
		b.WriteString(escape.Replace(p))
	}
	return b.String()
}

// names are the types in the words of the messages.
func typeName(t string) string {
	switch t {
	case "object":
		return "an object"
	case "array":
		return "a list"
	case "string":
		return "a text"
	case "boolean":
		return "true or false"
	case "integer":
		return "a whole number"
	case "number":
		return "a number"
	}
	return t
}

// sentence says what a value must be.
func sentence(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		want := make([]string, 0, len(k.Want))
		for _, t := range k.Want {
			if t != "null" || len(k.Want) == 1 { // null is as good as absent
				want = append(want, typeName(t))
			}
		}
		return "must be " + strings.Join(want, " or ")
	case *kind.Enum:
		return "must be one of " + values(k.Want)
	case *kind.Const:
		return "must be " + values([]any{k.Want})
	case *kind.MinLength:
		if k.Want == 1 {
			return "must not be empty"
		}
		return fmt.Sprintf("must have %d characters at least", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("must not be longer than %d characters", k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("must have %d entries at least", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("must not have more than %d entries", k.Want)
	case *kind.MinProperties:
		return "must not be empty"
	case *kind.Minimum:
		return "must be at least " + k.Want.RatString()
	case *kind.Maximum:
		return "must be at most " + k.Want.RatString()
	case *kind.Pattern:
		return "must match the pattern " + k.Want
	case *kind.FalseSchema:
		return "is not allowed here"
	case *kind.UniqueItems:
		return fmt.Sprintf("has one entry twice: %d and %d", k.Duplicates[0], k.Duplicates[1])
	case *kind.Not:
		return "is not allowed in this form"
	}
	return "does not satisfy " + strings.Join(k.KeywordPath(), " ")
}

// values are JSON values in a row; null is as good as absent, and not named.
func values(list []any) string {
	var out []string
	for _, v := range list {
		if text, ok := v.(string); ok {
			out = append(out, text)
			continue
		}
		if v == nil && len(list) > 1 {
			continue
		}
		b, err := json.Marshal(v)
		if err != nil {
			b = fmt.Append(nil, v)
		}
		out = append(out, string(b))
	}
	return strings.Join(out, ", ")
}
