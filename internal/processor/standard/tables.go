package standard

import (
	"fmt"
	"iter"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/stream"
)

// eachTable gives the tables of a package as f changes them: for a table it gives
// what takes its place, nil for nothing. What f leaves unread is dropped.
func eachTable(tables iter.Seq2[*Table, error], f func(*Table) (*Table, error)) iter.Seq2[*Table, error] {
	return func(yield func(*Table, error) bool) {
		for t, err := range tables {
			if err == nil {
				t, err = f(t)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if t != nil && !yield(t, nil) {
				return
			}
		}
	}
}

// rowFunc writes what becomes of a row into out, a row or none.
type rowFunc func(b *stream.Batch, r int, out *stream.Batch) error

// eachRow gives the rows as f changes them.
func eachRow(rows iter.Seq2[*stream.Batch, error], f rowFunc) iter.Seq2[*stream.Batch, error] {
	return eachRowTimes(rows, 1, func(b *stream.Batch, r, _ int, out *stream.Batch) error { return f(b, r, out) })
}

// eachRowTimes gives what f makes of each row, which it is asked for so many times: what
// comes of one row is handed on whenever it fills a batch.
func eachRowTimes(rows iter.Seq2[*stream.Batch, error], times int, f func(b *stream.Batch, r, i int, out *stream.Batch) error) iter.Seq2[*stream.Batch, error] {
	return func(yield func(*stream.Batch, error) bool) {
		out := &stream.Batch{}
		for b, err := range rows {
			if err != nil {
				yield(nil, err)
				return
			}
			for n := range b.Rows() * times {
				if err := f(b, n/times, n%times, out); err != nil {
					yield(nil, err)
					return
				}
				if out.Full() {
					if !yield(out, nil) {
						return
					}
					out.Reset()
				}
			}
		}
		if out.Rows() > 0 {
			yield(out, nil)
		}
	}
}

// bounded returns rows, and the error of one that is longer than rows may be: it is made
// of others, and those that are read are not.
func bounded(resource map[string]any, rows iter.Seq2[*stream.Batch, error]) iter.Seq2[*stream.Batch, error] {
	return func(yield func(*stream.Batch, error) bool) {
		for b, err := range rows {
			if err == nil {
				err = tooLong(resource, b)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(b, nil) {
				return
			}
		}
	}
}

// tooLong is the error of a batch with a row that is too long.
func tooLong(resource map[string]any, b *stream.Batch) error {
	row, cell, over := b.TooLong()
	if !over {
		return nil
	}
	where := fmt.Sprintf("resource %q", nameOf(resource))
	if row < b.Rows() {
		where += fmt.Sprintf(", row %d", b.Number(row))
	}
	if names := columns(resource); cell < len(names) {
		where += fmt.Sprintf(", field %q", names[cell])
	}
	return invalid("%s: the row that is made is longer than %d MiB, the limit of a row", where, stream.MaxRowBytes>>20)
}

// copyRow appends a row as it is.
func copyRow(b *stream.Batch, r int, out *stream.Batch) {
	copyCells(b, r, 0, b.Width(r), out)
	out.EndRow(b.Number(r))
}

func copyCells(b *stream.Batch, r, from, to int, out *stream.Batch) {
	for c := from; c < to; c++ {
		out.AppendKind(b.Kind(r, c), b.Cell(r, c))
	}
}

// rest appends the cell of the keys that are no columns, where the row has one.
func rest(b *stream.Batch, r, columns int, out *stream.Batch) {
	if b.Width(r) > columns {
		copyCells(b, r, columns, b.Width(r), out)
	}
}

// rowError says which row of which table is wrong.
func rowError(t *Table, number int64, err error) error {
	if errs.KindOf(err) == errs.Internal {
		return err
	}
	return errs.Wrap(err, errs.KindOf(err), "standard", "resource %q, row %d: %s", nameOf(t.Resource), number, errs.Detail(err))
}

// index finds the columns of a table by name.
func index(names []string) map[string]int {
	m := make(map[string]int, len(names))
	for i, name := range names {
		m[name] = i
	}
	return m
}

// lookup finds the fields of a row, by name, also those that are no columns.
type lookup struct {
	columns map[string]int
	b       *stream.Batch
	r       int
	others  map[string]any // of this row, once it was asked for
	scratch []byte
}

func newLookup(t *Table) *lookup { return &lookup{columns: index(t.Columns)} }

// at goes to a row.
func (l *lookup) at(b *stream.Batch, r int) *lookup {
	l.b, l.r, l.others = b, r, nil
	return l
}

// get finds a field of the row. It is false where the row has none of that name.
func (l *lookup) get(name string) (stream.Kind, []byte, bool) {
	if c, ok := l.columns[name]; ok && c < l.b.Width(l.r) {
		k := l.b.Kind(l.r, c)
		return k, l.b.Cell(l.r, c), k != stream.Absent
	}
	if n := len(l.columns); l.b.Width(l.r) > n {
		if l.others == nil {
			v, err := python.ParseJSON(l.b.Cell(l.r, n))
			if err != nil {
				return stream.Absent, nil, false
			}
			l.others, _ = v.(map[string]any)
		}
		if v, ok := l.others[name]; ok {
			var k stream.Kind
			k, l.scratch = CellOf(v, l.scratch[:0])
			return k, l.scratch, true
		}
	}
	return stream.Absent, nil, false
}

// others appends the keys of a row that are no columns, without some names.
func (l *lookup) othersWithout(names map[string]bool, out *stream.Batch) error {
	n := len(l.columns)
	if l.b.Width(l.r) <= n {
		return nil
	}
	v, err := python.ParseJSON(l.b.Cell(l.r, n))
	if err != nil {
		return err
	}
	m, _ := v.(map[string]any)
	for name := range names {
		delete(m, name)
	}
	if len(m) > 0 {
		out.AppendKind(stream.JSON, python.JSON{}.Append(nil, m))
	}
	return nil
}

// passOn gives a table on, each batch as pass makes it; what the reader leaves goes to
// pass as well, so that it saw all when the next table is asked for. It is false
// where nobody wants more tables.
func passOn(t *Table, yield func(*Table, error) bool, pass func(*stream.Batch) (*stream.Batch, error)) (bool, error) {
	next, stop := iter.Pull2(t.Rows)
	defer stop()
	var failed error
	more := yield(NewTable(t.Resource, func(yield func(*stream.Batch, error) bool) {
		for {
			b, err, ok := next()
			if err == nil && ok {
				b, err = pass(b)
			}
			if err != nil {
				failed = err
				yield(nil, err)
				return
			}
			if !ok || !yield(b, nil) {
				return
			}
		}
	}), nil)
	if !more || failed != nil {
		return false, nil
	}
	for {
		b, err, ok := next()
		if err == nil && ok {
			_, err = pass(b)
		}
		if err != nil || !ok {
			return true, err
		}
	}
}
