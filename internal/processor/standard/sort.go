package standard

import (
	"context"
	"iter"
	"strings"

	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/spill"
	"github.com/datahq/specstore/internal/stream"
)

// sortRows sorts the rows of tables: by a text made of fields, in which numbers sort
// by value and all else as text, byte by byte. Rows with equal keys keep their
// order, and in reverse order have it turned round.
type sortRows struct {
	resources *matcher
	by        *python.Format
	reverse   bool
}

func newSort(p *parameters) Processor {
	return &sortRows{p.matcher("resources"), p.key("sort-by", ""), p.boolean(false, "reverse")}
}

// key reads a key of rows: a format text, or a list of fields, which are put
// together with a text between them.
func (p *parameters) key(name, between string) *python.Format {
	switch v := p.m[name].(type) {
	case string:
		f, err := python.ParseFormat(v)
		p.wrap(name, err)
		return f
	case []any:
		return python.FieldsFormat(p.texts(name), between)
	}
	p.fail(name, "must be a format text or a list of fields")
	return nil
}

func (s *sortRows) Process(_ context.Context, env *Env, p *Package) (*Package, error) {
	expand(p.Descriptor)
	chosen := s.resources.selected(p)
	p.Tables = eachTable(p.Tables, func(t *Table) (*Table, error) {
		if !chosen.has(t.Resource) {
			return t, nil
		}
		return NewTable(t.Resource, s.rows(env, t)), nil
	})
	return p, nil
}

func (s *sortRows) rows(env *Env, t *Table) iter.Seq2[*stream.Batch, error] {
	return func(yield func(*stream.Batch, error) bool) {
		sorter := spill.NewRecords(env.context(), env.Temp, env.budget(), s.reverse)
		defer sorter.Close()
		row := newLookup(t)
		var key, value []byte
		for b, err := range t.Rows {
			for r := 0; err == nil && r < b.Rows(); r++ {
				if key, err = s.by.AppendKey(key[:0], row.at(b, r).get); err != nil {
					err = rowError(t, b.Number(r), err)
					break
				}
				value = appendRow(value[:0], b, r)
				err = sorter.Add(key, value)
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
		batches(sorter.Sorted(), func(rec spill.Record, out *stream.Batch) error {
			readRow(rec.Value, out)
			return nil
		})(yield)
	}
}

// deduplicate keeps the first row of each primary key. Blanks round texts make no
// difference. A table without a primary key stays as it is.
type deduplicate struct{ resources *matcher }

func newDeduplicate(p *parameters) Processor { return &deduplicate{p.matcher("resources")} }

func (s *deduplicate) Process(_ context.Context, env *Env, p *Package) (*Package, error) {
	expand(p.Descriptor)
	chosen := s.resources.selected(p)
	p.Tables = eachTable(p.Tables, func(t *Table) (*Table, error) {
		key := primaryKey(t.Resource)
		if !chosen.has(t.Resource) || len(key) == 0 {
			return t, nil
		}
		return NewTable(t.Resource, distinct(env, t, key)), nil
	})
	return p, nil
}

func primaryKey(resource map[string]any) []string {
	schema, _ := resource["schema"].(map[string]any)
	switch v := schema["primaryKey"].(type) {
	case string:
		return []string{v}
	case []any:
		var names []string
		for _, one := range v {
			if s, ok := one.(string); ok {
				names = append(names, s)
			}
		}
		return names
	}
	return nil
}

// distinct gives the rows whose key no earlier row has. The rows are kept until all
// keys are known.
func distinct(env *Env, t *Table, key []string) iter.Seq2[*stream.Batch, error] {
	return func(yield func(*stream.Batch, error) bool) {
		table, err := spill.NewTable(env.Temp)
		if err != nil {
			yield(nil, err)
			return
		}
		defer table.Close()
		keys := spill.NewKeys(env.context(), env.Temp, env.budget())
		defer keys.Close()
		row := newLookup(t)
		var buf []byte
		n := int64(0)
		for b, err := range t.Rows {
			if err == nil {
				err = table.WriteBatch(b)
			}
			for r := 0; err == nil && r < b.Rows(); r++ {
				buf = buf[:0]
				for _, name := range key {
					k, text, ok := row.at(b, r).get(name)
					if !ok {
						err = rowError(t, b.Number(r), invalid("there is no field %q of the primary key", name))
						break
					}
					buf = appendKeyCell(buf, k, text)
				}
				if err == nil {
					err = keys.Add(buf, n)
				}
				n++
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
		next, stop := iter.Pull2(keys.Duplicates())
		defer stop()
		d, err, more := next()
		at := int64(0)
		eachRow(table.Rows(), func(b *stream.Batch, r int, out *stream.Batch) error {
			if err != nil {
				return err
			}
			if more && d.Row == at {
				d, err, more = next()
			} else {
				copyRow(b, r, out)
			}
			at++
			return nil
		})(yield)
	}
}

// appendKeyCell appends bytes that are equal for equal values.
func appendKeyCell(dst []byte, k stream.Kind, text []byte) []byte {
	if n, ok := python.ParseNumber(k, text); ok {
		return append(python.AppendSortKey(append(dst, 'n'), n), 0)
	}
	if k == stream.Text {
		text = []byte(strings.TrimSpace(string(text)))
	}
	return appendCell(dst, k, text)
}
