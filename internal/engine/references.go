package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/datahq/specstore/internal/spill"
	"github.com/datahq/specstore/internal/tableschema"
)

// references are the foreign keys between the tables of a package. Every table
// notes its keys while it is read, so that no table is read twice, whichever
// comes first.
type references []*reference

// reference is one foreign key.
type reference struct {
	key            tableschema.ForeignKey
	source, target string // names of tables
	fields, wanted []int  // columns in the one and in the other
	// text says that the fields are of different types, so that their texts are
	// compared.
	text bool
	mu   sync.Mutex // tables are read at the same time
	set  *spill.References
	// broken says why the key cannot be looked at; then there is no set.
	broken string
}

// newReferences links the tables of a package by their foreign keys. Tables whose
// schema cannot be read are nil.
func newReferences(ctx context.Context, temp string, names []string, schemas map[string]*tableschema.Schema) references {
	var all references
	for _, name := range names {
		schema := schemas[name]
		if schema == nil {
			continue
		}
		for _, key := range schema.ForeignKeys {
			ref := &reference{key: key, source: name, target: key.Resource}
			if ref.target == "" {
				ref.target = name
			}
			all = append(all, ref)
			ref.fields, _ = schema.Columns(key.Fields)
			target, known := schemas[ref.target]
			var err error
			switch {
			case !known:
				ref.broken = fmt.Sprintf("the package has no table %q", ref.target)
			case target == nil:
				ref.broken = fmt.Sprintf("the schema of the table %q cannot be read", ref.target)
			default:
				if ref.wanted, err = target.Columns(key.Reference); err != nil {
					ref.broken = fmt.Sprintf("the table %q has no such fields", ref.target)
				}
			}
			if ref.broken != "" {
				continue
			}
			for i := range ref.fields {
				if kindOf(schema.Fields[ref.fields[i]].Type) != kindOf(target.Fields[ref.wanted[i]].Type) {
					ref.text = true
				}
			}
			ref.set = spill.NewReferences(ctx, temp, keyBudget)
		}
	}
	return all
}

// kindOf puts types together whose values are compared with each other.
func kindOf(fieldType string) string {
	switch fieldType {
	case "integer", "year":
		return "number"
	case "any":
		return "string"
	}
	return fieldType
}

func (r references) close() {
	for _, ref := range r {
		if ref.set != nil {
			ref.set.Close()
		}
	}
}

// noteReferences adds the keys of the row that is being written to the sets.
func (c *checker) noteReferences(number int64, key func(fields []int, text bool) ([]byte, bool)) error {
	for _, ref := range c.references {
		if ref.set == nil {
			continue
		}
		if ref.target == c.name {
			if k, null := key(ref.wanted, ref.text); !null {
				if err := ref.locked(func() error { return ref.set.AddTarget(k) }); err != nil {
					return err
				}
			}
		}
		if ref.source == c.name {
			if k, null := key(ref.fields, ref.text); !null {
				if err := ref.locked(func() error { return ref.set.AddSource(k, number) }); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *reference) locked(f func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return f()
}

// check adds the broken foreign keys of a table to its problems, when all tables
// were read. unread tells why a table has no keys.
func (r references) check(ctx context.Context, name string, problems *Problems, unread func(table string) string) error {
	for _, ref := range r {
		if ref.source != name {
			continue
		}
		field := strings.Join(ref.key.Fields, ", ")
		broken := ref.broken
		if broken == "" {
			broken = unread(ref.target)
		}
		if broken != "" {
			problems.add(Problem{Code: codeForeignKey, Field: field, Message: fmt.Sprintf("the foreign key (%s) cannot be looked up: %s", field, broken)})
			continue
		}
		for row, err := range ref.set.Missing() {
			if err != nil {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if problems.full() {
				problems.add(Problem{Code: codeForeignKey})
				continue
			}
			problems.add(Problem{
				Code: codeForeignKey, Row: row, Column: ref.fields[0] + 1, Field: field,
				Message: fmt.Sprintf("the value of (%s) is not in the field (%s) of the table %q", field, strings.Join(ref.key.Reference, ", "), ref.target),
			})
		}
	}
	problems.sort()
	return nil
}
