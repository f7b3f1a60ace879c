package jsonschema

import (
	"errors"
	"fmt"
	"regexp/syntax"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/datahq/specstore/internal/pattern"
)

// meter finds what each subschema of a compiled schema costs, and mounts the counting:
// the library asks a subschema's format before all that leads to further subschemas, so
// the format counts.
type meter struct {
	schema       *Limited
	dynamic      []*jsonschema.Schema // what dynamic references may lead to beside their own targets
	instructions map[jsonschema.Regexp]int
	failure      error // of a pattern
	unevaluated  bool  // the schema asks what was not evaluated, for which members and items are listed
	seen         map[*jsonschema.Schema]*node
}

// node is a subschema.
type node struct {
	schema *jsonschema.Schema
	same   []*jsonschema.Schema // subschemas on the same value
	items  []*jsonschema.Schema // on each item of a list
	member []*jsonschema.Schema // on each member of an object, or its name

	state int // of the search for references without end
	depth int // of subschemas on one value
	calls int // of subschemas on one value, at most
}

// pattern compiles a pattern within the budget.
func (m *meter) pattern(expression string, budget *pattern.Budget) (jsonschema.Regexp, error) {
	re, err := budget.Compile(expression)
	if err != nil {
		if _, ok := errors.AsType[*pattern.SizeError](err); ok {
			m.failure = err
		}
		return nil, err
	}
	m.instructions[re.Regexp] = int(re.Cost.Instructions)
	return re.Regexp, nil
}

// mount walks all subschemas and makes them count.
func (m *meter) mount(roots []*jsonschema.Schema) error {
	queue := roots
	for len(queue) > 0 {
		s := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if s == nil || m.seen[s] != nil {
			continue
		}
		n := m.node(s)
		m.seen[s] = n
		m.unevaluated = m.unevaluated || s.UnevaluatedItems != nil || s.UnevaluatedProperties != nil
		queue = append(append(append(queue, n.same...), n.items...), n.member...)
	}
	for _, n := range m.seen {
		if err := m.follow(n); err != nil {
			return err
		}
		m.schema.depth = max(m.schema.depth, n.depth)
	}
	for _, n := range m.seen {
		m.count(n)
	}
	return nil
}

// node lists what a subschema leads to.
func (m *meter) node(s *jsonschema.Schema) *node {
	n := &node{schema: s}
	add := func(list *[]*jsonschema.Schema, subs ...any) {
		for _, sub := range subs {
			switch sub := sub.(type) {
			case *jsonschema.Schema:
				if sub != nil {
					*list = append(*list, sub)
				}
			case []*jsonschema.Schema:
				*list = append(*list, sub...)
			case map[string]*jsonschema.Schema:
				for _, s := range sub {
					*list = append(*list, s)
				}
			}
		}
	}
	add(&n.same, s.Ref, s.RecursiveRef, s.Not, s.AllOf, s.AnyOf, s.OneOf, s.If, s.Then, s.Else, s.DependentSchemas, s.ContentSchema)
	if s.DynamicRef != nil {
		add(&n.same, s.DynamicRef.Ref)
		for _, d := range m.dynamic {
			if d.DynamicAnchor == s.DynamicRef.Anchor {
				add(&n.same, d)
			}
		}
	}
	if s.RecursiveRef != nil && s.RecursiveRef.RecursiveAnchor {
		add(&n.same, m.dynamic)
	}
	for _, d := range s.Dependencies {
		add(&n.same, d)
	}
	add(&n.items, s.Items, s.AdditionalItems, s.PrefixItems, s.Items2020, s.Contains, s.UnevaluatedItems)
	add(&n.member, s.Properties, s.AdditionalProperties, s.PropertyNames, s.UnevaluatedProperties)
	for _, sub := range s.PatternProperties {
		add(&n.member, sub)
	}
	return n
}

// follow computes depth and calls of a subschema on one value. Both are exact but for
// alternatives that are not tried.
func (m *meter) follow(n *node) error {
	const entered, done = 1, 2
	switch n.state {
	case entered:
		return limit("%s refers to itself for the same value, without end", place(n.schema))
	case done:
		return nil
	}
	n.state = entered
	n.depth, n.calls = 1, 1
	for _, s := range n.same {
		sub := m.seen[s]
		if err := m.follow(sub); err != nil {
			return err
		}
		n.depth = max(n.depth, sub.depth+1)
		n.calls += sub.calls
		if n.calls > MaxPerValue {
			return limit("%s holds a value against more than %d subschemas, the limit: references lead to the same subschema on several ways", place(n.schema), MaxPerValue)
		}
	}
	n.state = done
	return nil
}

func place(s *jsonschema.Schema) string {
	for i := len(s.Location) - 1; i >= 0; i-- {
		if s.Location[i] == '#' {
			return fmt.Sprintf("the subschema at %q", s.Location[i:])
		}
	}
	return "the schema"
}

// entry is what it costs to find that a value is not of a subschema's type or none of
// its values, before the subschema counts for itself.
func entry(s *jsonschema.Schema) int {
	n := 1
	if s.Const != nil {
		n += length(*s.Const)
	}
	if s.Enum != nil {
		n += length(s.Enum.Values)
	}
	return n
}

func entries(list []*jsonschema.Schema) int {
	n := 0
	for _, s := range list {
		n += entry(s)
	}
	return n
}

// price is what a subschema costs beside what its own subschemas count for themselves.
type price struct {
	own      int // for any value
	item     int // for each item of a list
	first    int // for the first items of a list together
	member   int // for each member of an object
	names    int // instructions of the patterns for names
	matching int // instructions of the pattern for a text
	unique   bool
}

func (m *meter) price(n *node) price {
	s := n.schema
	p := price{own: 1 + n.depth/32 + entries(n.same) + len(s.Required) + len(s.Dependencies) + len(s.DependentRequired) + len(s.DependentSchemas), item: 1, member: 1, unique: s.UniqueItems}
	for _, names := range s.DependentRequired {
		p.own += len(names)
	}
	// Of a list of subschemas each is for one item.
	if list, ok := s.Items.([]*jsonschema.Schema); ok {
		p.first += entries(list)
	}
	p.first += entries(s.PrefixItems)
	p.item += entries(n.items) - p.first
	// A member has one of the properties, and may have all patterns.
	all, largest := 0, 0
	for _, sub := range s.Properties {
		all, largest = all+entry(sub), max(largest, entry(sub))
	}
	p.member += entries(n.member) - all + largest + len(s.PatternProperties)
	if m.unevaluated {
		p.item += len(n.same)
		p.member += len(n.same)
	}
	for re := range s.PatternProperties {
		p.names += m.instructions[re]
	}
	if s.Pattern != nil {
		p.matching = m.instructions[s.Pattern]
	}
	return p
}

// of is the price for a value.
func (p price) of(v any) int {
	steps := p.own
	switch v := v.(type) {
	case string:
		steps += len(v)/256 + len(v)*p.matching/32
	case []any:
		steps += p.item*len(v) + p.first
		if p.unique { // a few are compared with each other, more by their hashes
			steps += length(v) * min(len(v), 20)
		}
	case map[string]any:
		steps += p.member * len(v)
		if p.names > 0 {
			for name := range v {
				steps += len(name) * p.names / 32
			}
		}
	}
	return steps
}

// count mounts the counting in a subschema.
func (m *meter) count(n *node) {
	price, limited := m.price(n), m.schema
	validate := func(any) error { return nil }
	if f := n.schema.Format; f != nil {
		if validate = f.Validate; f.Name == "regex" {
			validate = isPattern
		}
	}
	n.schema.Format = &jsonschema.Format{Name: "limited", Validate: func(v any) error {
		limited.spend(price.of(v))
		return validate(v)
	}}
}

// maxExpression bounds a text that is to be a regular expression.
const maxExpression = 4096

// isPattern checks the format "regex" without compiling anything.
func isPattern(v any) error {
	text, ok := v.(string)
	if !ok {
		return nil
	}
	if len(text) > maxExpression {
		return fmt.Errorf("is longer than %d bytes", maxExpression)
	}
	_, err := syntax.Parse(text, syntax.Perl)
	return err
}
