package jsonschema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/datahq/specstore/internal/pattern"
)

// Limits of a schema that somebody else wrote and of a check against it. A step is about
// the use of one subschema on one value.
const (
	MaxText       = 1 << 20 // bytes of a schema
	MaxSubschemas = 5_000   // objects and truth values in a schema
	MaxNesting    = 200     // levels of lists and objects in a schema
	MaxPerValue   = 100_000 // subschemas that one value is held against, counted each time
	MaxSteps      = 1 << 18 // of a check
	StepsPerByte  = 16      // of a check, for each byte of the text
	MaxValues     = 1 << 20 // JSON values in a text
	maxStack      = 50_000  // nesting of a value times nesting of the subschemas on it
	maxNames      = 2_000   // $id, $anchor and $dynamicAnchor in a schema
	maxCopies     = 1 << 20 // subschemas times references to places that hold none
)

// Failures of a check that was not finished.
var (
	errSteps   = fmt.Errorf("the check needs more than %d steps and %d a byte, the limit: simplify the schema, above all references that lead to the same subschema on several ways", MaxSteps, StepsPerByte)
	errStack   = errors.New("the check is nested too deeply: simplify the schema or the value")
	errValues  = fmt.Errorf("the text holds more than %d JSON values, the limit of a check", MaxValues)
	errStopped = errors.New("the check was stopped")
)

// Limited is a compiled JSON Schema of somebody who is not trusted. What it takes to
// compile it and to check a value is bounded. It may be used from several goroutines,
// which then wait for each other.
type Limited struct {
	compiled *jsonschema.Schema // "not" of the schema, for which the library makes no errors
	depth    int                // of the subschemas on one value, at most

	subschemas int

	mu    sync.Mutex
	steps int // left in the check
	dear  int // what a step counts in this check
	stop  <-chan struct{}
}

// CompileLimited compiles a schema from its JSON text. Its patterns are paid for from the
// budget. A schema that is too large, that could need more than [MaxPerValue] steps for
// one value, or that refers to itself without end, is an error.
func CompileLimited(text []byte, patterns *pattern.Budget) (*Limited, error) {
	doc, subschemas, err := measured(text)
	if err != nil {
		return nil, err
	}
	s := &Limited{subschemas: subschemas}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(nothing{})
	m := &meter{schema: s, instructions: map[jsonschema.Regexp]int{}, seen: map[*jsonschema.Schema]*node{}}
	compiler.UseRegexpEngine(func(expression string) (jsonschema.Regexp, error) {
		return m.pattern(expression, patterns)
	})
	for name, doc := range map[string]any{location: doc, "limited.json": map[string]any{"not": map[string]any{"$ref": location}}} {
		if err := compiler.AddResource(name, doc); err != nil {
			return nil, fmt.Errorf("jsonschema: %w", err)
		}
	}
	// The schema itself first, for errors that name places in it.
	inner, err := compiler.Compile(location)
	if err != nil {
		if e, ok := errors.AsType[*pattern.SizeError](m.failure); ok {
			return nil, e
		}
		return nil, fmt.Errorf("jsonschema: %w", err)
	}
	if s.compiled, err = compiler.Compile("limited.json"); err != nil {
		return nil, fmt.Errorf("jsonschema: %w", err)
	}
	roots := []*jsonschema.Schema{inner, s.compiled}
	for _, at := range dynamic(doc, "") {
		// What is found by its name alone. A place that is no schema is none to the
		// compiler either.
		if sub, err := compiler.Compile(location + "#" + at); err == nil {
			m.dynamic = append(m.dynamic, sub)
		}
	}
	if err := m.mount(append(roots, m.dynamic...)); err != nil {
		return nil, err
	}
	return s, nil
}

// Subschemas returns how many subschemas there are, as [MaxSubschemas] counts them.
func (s *Limited) Subschemas() int { return s.subschemas }

// measured reads the text of a schema and holds it against the limits of its size.
func measured(text []byte) (doc any, subschemas int, err error) {
	if len(text) > MaxText {
		return nil, 0, limit("the schema is longer than %d KiB", MaxText>>10)
	}
	if doc, err = jsonschema.UnmarshalJSON(bytes.NewReader(text)); err != nil {
		return nil, 0, fmt.Errorf("jsonschema: %w", err)
	}
	var c census
	c.take(doc, 0)
	switch {
	case c.nesting > MaxNesting:
		return nil, 0, limit("the schema is nested deeper than %d levels", MaxNesting)
	case c.schemas > MaxSubschemas:
		return nil, 0, limit("the schema has more than %d subschemas", MaxSubschemas)
	case c.names > maxNames:
		return nil, 0, limit("the schema has more than %d identifiers and anchors", maxNames)
	case len(c.outside)*c.schemas > maxCopies:
		return nil, 0, limit("the schema has too many references to places outside $defs and definitions")
	case c.outsize:
		return nil, 0, limit("the schema has a number of more than %d digits", maxDigits)
	}
	return doc, c.schemas, nil
}

// LimitError says that a schema is beyond a limit: it may be a good one, but could cost
// too much.
type LimitError struct{ text string }

// Error says what is too large, and the limit.
func (e *LimitError) Error() string { return e.text }

func limit(format string, args ...any) error { return &LimitError{fmt.Sprintf(format, args...)} }

// census counts what the cost of compiling a schema depends on.
type census struct {
	schemas, names, nesting int
	outside                 map[string]bool // references for which the compiler copies what it has
	outsize                 bool
}

func (c *census) take(v any, depth int) {
	c.nesting = max(c.nesting, depth)
	if depth > MaxNesting {
		return
	}
	switch v := v.(type) {
	case bool:
		c.schemas++
	case json.Number:
		c.outsize = c.outsize || len(v) > maxDigits || isOutsize(v)
	case []any:
		for _, item := range v {
			c.take(item, depth+1)
		}
	case map[string]any:
		c.schemas++
		for key, item := range v {
			switch key {
			case "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor":
				c.names++
			case "$ref", "$dynamicRef", "$recursiveRef":
				ref, _ := item.(string)
				if name, ok := strings.CutPrefix(strings.TrimPrefix(ref, "#/definitions/"), "#/$defs/"); ref != "#" && (!ok && name == ref || strings.Contains(name, "/")) {
					if c.outside == nil {
						c.outside = map[string]bool{}
					}
					c.outside[ref] = true
				}
			}
			c.take(item, depth+1)
		}
	}
}

// dynamic lists the places of objects that are found by the name of a dynamic anchor.
func dynamic(v any, at string) []string {
	var out []string
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			out = append(out, dynamic(item, at+"/"+strconv.Itoa(i))...)
		}
	case map[string]any:
		if v["$dynamicAnchor"] != nil || v["$recursiveAnchor"] != nil {
			out = append(out, at)
		}
		for key, item := range v {
			out = append(out, dynamic(item, at+"/"+fragment.Replace(key))...)
		}
	}
	return out
}

var fragment = strings.NewReplacer("~", "~0", "/", "~1", "%", "%25")

// ValidText reports whether a JSON text satisfies the schema. Its error says that the
// check was not finished, since it went beyond a limit or stop was closed.
func (s *Limited) ValidText(stop <-chan struct{}, text []byte) (valid bool, err error) {
	if countValues(text) > MaxValues {
		return false, errValues
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return false, nil // a text that is no JSON satisfies no schema
	}
	var f features
	f.take(v, 0)
	switch {
	case f.outsize:
		return false, nil
	case (f.nesting+1)*(s.depth+1) > maxStack:
		return false, errStack
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps, s.dear, s.stop = MaxSteps+StepsPerByte*len(text), 1, stop
	if f.longNumbers {
		s.dear = 16
	}
	defer func() {
		s.stop = nil
		switch p := recover().(type) {
		case nil:
		case unfinished:
			valid, err = false, p.error
		default:
			panic(p)
		}
	}()
	return s.compiled.Validate(v) != nil, nil
}

// unfinished ends a check from within the library, which has no other way out.
type unfinished struct{ error }

// spend takes steps off the check's budget. It ends the check where there are none left.
func (s *Limited) spend(n int) {
	before := s.steps
	if s.steps -= n * s.dear; s.steps < 0 || n < 0 {
		panic(unfinished{errSteps})
	}
	if before>>10 != s.steps>>10 {
		select {
		case <-s.stop:
			panic(unfinished{errStopped})
		default:
		}
	}
}

// maxDigits bounds a number that is computed with.
const maxDigits = 1000

// features are what the cost of a check depends on.
type features struct {
	nesting              int
	outsize, longNumbers bool
}

func (f *features) take(v any, depth int) {
	f.nesting = max(f.nesting, depth)
	switch v := v.(type) {
	case json.Number:
		f.outsize = f.outsize || len(v) > maxDigits || isOutsize(v)
		f.longNumbers = f.longNumbers || len(v) > 40 || strings.ContainsAny(string(v), "eE")
	case []any:
		for _, item := range v {
			f.take(item, depth+1)
		}
	case map[string]any:
		for _, item := range v {
			f.take(item, depth+1)
		}
	}
}

// countValues counts the values of a JSON text, names of members included, so that a text
// that would take many times its length in memory is not decoded.
func countValues(text []byte) int {
	n, inside := 1, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inside && c == '\\':
			i++
		case c == '"':
			inside = !inside
		case !inside && (c == ',' || c == ':' || c == '[' || c == '{'):
			n++
		}
	}
	return n
}

func length(v any) int {
	n := 1
	switch v := v.(type) {
	case string:
		n += len(v) / 64
	case []any:
		for _, item := range v {
			n += length(item)
		}
	case map[string]any:
		for key, item := range v {
			n += 1 + len(key)/64 + length(item)
		}
	}
	return n
}
