package tableschema

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/datahq/specstore/internal/jsonschema"
	"github.com/datahq/specstore/internal/pattern"
)

// Costs adds up what the schemas of one document may cost: the memory of their compiled
// patterns, and their JSON Schemas. The zero value is ready.
type Costs struct {
	bytes      int64
	subschemas int
	seen       map[string]bool // patterns, and texts of JSON Schemas
}

// Limits of all schemas of a document together.
const (
	MaxPatternBytes = 2 * pattern.MaxBytes
	MaxSubschemas   = 2 * jsonschema.MaxSubschemas
)

// Add adds a Table Schema and returns what is too costly in it or in all together. It says
// nothing of what is wrong with it: that is for [Check]. Nothing is compiled that is
// beyond a limit.
func (c *Costs) Add(raw map[string]any) []Problem {
	fields, _ := raw["fields"].([]any)
	if len(fields) > MaxFields {
		return nil // refused by whoever reads it
	}
	var problems []Problem
	for i, v := range fields {
		field, _ := v.(map[string]any)
		constraints, _ := field["constraints"].(map[string]any)
		at := fmt.Sprintf("/fields/%d/constraints/", i)
		if text, ok := constraints["pattern"].(string); ok && len(text) <= maxPattern {
			if !c.pattern(wholeText(text)) {
				return append(problems, Problem{at + "pattern", (&pattern.SizeError{Limit: MaxPatternBytes}).Error()})
			}
		}
		v, ok := constraints["jsonSchema"]
		if !ok || v == nil {
			continue
		}
		if p, stop := c.jsonSchema(v); p != "" {
			problems = append(problems, Problem{at + "jsonSchema", p})
			if stop {
				return problems
			}
		}
	}
	return problems
}

// first reports whether a text was not there before.
func (c *Costs) first(text string) bool {
	if c.seen[text] {
		return false
	}
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	c.seen[text] = true
	return true
}

// pattern adds a pattern and reports whether all are within the limit.
func (c *Costs) pattern(expression string) bool {
	if !c.first(expression) {
		return true
	}
	cost, err := pattern.Estimate(expression)
	if err != nil {
		return true // not compiled either
	}
	c.bytes += cost.Bytes
	return c.bytes <= MaxPatternBytes
}

// jsonSchema adds a JSON Schema; stop says that further ones are not looked at.
func (c *Costs) jsonSchema(v any) (problem string, stop bool) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", false
	}
	if !c.first(string(text)) {
		return "", false
	}
	budget := pattern.NewBudget(pattern.MaxBytes)
	schema, err := jsonschema.CompileLimited(text, budget)
	if err != nil {
		_, isLimit := errors.AsType[*jsonschema.LimitError](err)
		_, isSize := errors.AsType[*pattern.SizeError](err)
		if isLimit || isSize {
			return err.Error(), true
		}
		return "", false
	}
	c.bytes += budget.Spent()
	c.subschemas += schema.Subschemas()
	switch {
	case c.bytes > MaxPatternBytes:
		return (&pattern.SizeError{Limit: MaxPatternBytes}).Error(), true
	case c.subschemas > MaxSubschemas:
		return fmt.Sprintf("the JSON Schemas of all tables have more than %d subschemas together, the limit", MaxSubschemas), true
	}
	return "", false
}
