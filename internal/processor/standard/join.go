package standard

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/spill"
	"github.com/datahq/specstore/internal/stream"
)

// join adds to the rows of a table what it gathers from the rows of another, which
// stands before it, that have the same key. Without a target the source itself
// becomes a row for each key.
type join struct {
	source, target       string
	sourceKey, targetKey *python.Format
	remove               bool // the source goes
	mode                 joinMode
	all                  *joined           // what is gathered of every field of the source: "*"
	fields               map[string]joined // by name in the target
}

type joinMode uint8

const (
	inner     joinMode = iota // rows of the target without a match go
	halfOuter                 // they stay
	fullOuter                 // and keys of the source without a match get a row
)

// joined is what is gathered of a field.
type joined struct {
	field     string // of the source
	aggregate string
}

func newJoin(p *parameters) Processor {
	s := &join{mode: halfOuter, fields: map[string]joined{}}
	p.inside("source", p.object("source"), func(p *parameters) {
		s.source = p.required("name")
		s.sourceKey = p.key("key", ":")
		s.remove = p.boolean(false, "delete")
	})
	p.inside("target", p.object("target"), func(p *parameters) {
		s.target = p.text("", "name")
		if p.m["key"] != nil {
			s.targetKey = p.key("key", ":")
		} else if s.target != "" && s.target != s.source {
			p.fail("key", "must be a format text or a list of fields")
		}
	})
	if !p.boolean(true, "full") {
		s.mode = inner
	}
	if p.first("mode") != "" {
		modes := map[string]joinMode{"inner": inner, "half-outer": halfOuter, "full-outer": fullOuter}
		mode, ok := modes[p.text("", "mode")]
		if !ok {
			p.fail("mode", "must be inner, half-outer or full-outer")
		}
		s.mode = mode
	}
	list := p.object("fields")
	p.inside("fields", list, func(p *parameters) {
		for _, name := range slices.Sorted(maps.Keys(list)) {
			j := joined{field: name, aggregate: "any"}
			p.inside(name, p.object(name), func(p *parameters) {
				j.field = p.text(name, "name")
				j.aggregate = p.text("any", "aggregate")
				if !slices.Contains([]string{"any", "array", "avg", "count", "counters", "first", "last", "max", "median", "min", "set", "sum"}, j.aggregate) {
					p.fail("aggregate", "must be one of any, array, avg, count, counters, first, last, max, median, min, set, sum")
				}
			})
			if name == "*" {
				s.all = &j
				continue
			}
			s.fields[name] = j
		}
	})
	return s
}

// joinPlan is a join of two tables that are there.
type joinPlan struct {
	*join
	env            *Env
	source, target map[string]any // target is nil where the source is its own
	names          []string       // of the target's fields that are gathered, sorted
	fields         map[string]joined
	keys           []joinedKey
	columns        []string // of the target, gathered ones included
	before         int      // columns that the target had
}

// joinedKey is a field of the target's key and the one of the source's key that
// stands in its place; rows of the source alone have the one by the other.
type joinedKey struct{ target, source string }

func (s *join) Process(_ context.Context, env *Env, p *Package) (*Package, error) {
	plan := &joinPlan{join: s, env: env, fields: maps.Clone(s.fields)}
	if err := plan.find(p); err != nil {
		return nil, err
	}
	if s.all != nil {
		for _, f := range fields(plan.source) {
			if _, ok := plan.fields[nameOf(f)]; !ok {
				plan.fields[nameOf(f)] = joined{nameOf(f), s.all.aggregate}
			}
		}
	}
	plan.names = slices.Sorted(maps.Keys(plan.fields))
	list, err := plan.described()
	if err != nil {
		return nil, err
	}
	if plan.target == nil {
		plan.replaceSource(p, list)
		return p, nil
	}
	if s.mode == fullOuter {
		own := s.sourceKey.Names()
		for i, name := range s.targetKey.Names() {
			if i < len(own) {
				plan.keys = append(plan.keys, joinedKey{name, own[i]})
			}
		}
	}
	setFields(plan.target, list)
	plan.columns = columns(plan.target)
	if s.remove {
		p.setResources(slices.DeleteFunc(p.resources(), func(r map[string]any) bool { return same(r, plan.source) }))
	}
	expand(p.Descriptor)
	p.Tables = plan.tables(p.Tables)
	return p, nil
}

// find finds the resources that are joined.
func (j *joinPlan) find(p *Package) error {
	s := j.join
	alone := s.target == "" || s.targetKey == nil
	for _, r := range p.resources() {
		switch {
		case !streaming(r):
		case nameOf(r) == s.source && j.source == nil:
			j.source = r
		case !alone && nameOf(r) == s.target && j.target == nil:
			if j.source == nil {
				return invalid("parameter %q: %q must stand before %q", "source/name", s.source, s.target)
			}
			j.target = r
		}
	}
	if j.source == nil {
		return invalid("parameter %q: there is no streaming resource %q", "source/name", s.source)
	}
	if j.target == nil && !alone {
		return invalid("parameter %q: there is no streaming resource %q", "target/name", s.target)
	}
	return nil
}

// described gives the fields of the target with those that are gathered.
func (j *joinPlan) described() ([]map[string]any, error) {
	var list []map[string]any
	if j.target != nil {
		list = fields(j.target)
	}
	j.before = len(list)
	from := fields(j.source)
	for _, name := range j.names {
		f, err := j.field(name, from)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(list, func(f map[string]any) bool { return nameOf(f) == name })
		if at < 0 {
			list = append(list, f)
		} else if list[at]["type"] != f["type"] {
			return nil, invalid("parameter %q: %q has a field %q of type %v, and what is gathered is of type %v", "fields", j.join.target, name, list[at]["type"], f["type"])
		}
	}
	return list, nil
}

// replaceSource puts a table of the gathered fields in the place of the source.
func (j *joinPlan) replaceSource(p *Package, list []map[string]any) {
	kept := clone(j.source)
	if name := j.join.target; name != "" && name != j.join.source {
		kept["name"] = name
		kept["path"] = "data/" + name + ".csv"
	}
	setFields(kept, list)
	if schema, ok := kept["schema"].(map[string]any); ok {
		delete(schema, "primaryKey")
	}
	j.columns = columns(kept)
	resources := p.resources()
	for i, r := range resources {
		if same(r, j.source) {
			resources[i] = kept
		}
	}
	p.setResources(resources)
	expand(p.Descriptor)
	p.Tables = eachTable(p.Tables, func(t *Table) (*Table, error) {
		if !same(t.Resource, j.source) {
			return t, nil
		}
		return NewTable(kept, j.alone(t)), nil
	})
}

// field describes a gathered field.
func (j *joinPlan) field(name string, from []map[string]any) (map[string]any, error) {
	spec := j.fields[name]
	switch spec.aggregate {
	case "count":
		return map[string]any{"name": name, "type": "integer"}, nil
	case "array", "set", "counters":
		return map[string]any{"name": name, "type": "array"}, nil
	}
	at := slices.IndexFunc(from, func(f map[string]any) bool { return nameOf(f) == spec.field })
	if at < 0 {
		return nil, invalid("parameter %q: %q has no field %q", "fields/"+name, j.join.source, spec.field)
	}
	if spec.aggregate == "any" || spec.aggregate == "first" || spec.aggregate == "last" {
		f := clone(from[at])
		f["name"] = name
		return f, nil
	}
	return map[string]any{"name": name, "type": from[at]["type"]}, nil
}

// gathered are the rows of the source: a record for each key, in order, whose value
// is a cell for each gathered field.
func (j *joinPlan) gathered(t *Table, sorter *spill.Records) iter.Seq2[spill.Record, error] {
	return func(yield func(spill.Record, error) bool) {
		row := newLookup(t)
		var key, value []byte
		for b, err := range t.Rows {
			for r := 0; err == nil && r < b.Rows(); r++ {
				if key, err = j.sourceKey.Append(key[:0], row.at(b, r).get); err != nil {
					err = rowError(t, b.Number(r), err)
					break
				}
				value = value[:0]
				for _, name := range j.names {
					k, text, ok := row.get(j.fields[name].field)
					if !ok {
						k = stream.Null
					}
					value = appendCell(value, k, text)
				}
				for _, name := range j.keys {
					k, text, _ := row.get(name.source) // it is part of the key, so it is there
					value = appendCell(value, k, text)
				}
				err = sorter.Add(key, value)
			}
			if err != nil {
				yield(spill.Record{}, err)
				return
			}
		}
		var at []byte
		groups := make([]group, len(j.names)+len(j.keys))
		some := false
		held := 0 // bytes of the groups
		finish := func() bool {
			if !some {
				return true
			}
			value = value[:0]
			for i, name := range j.names {
				k, text := groups[i].value(j.fields[name].aggregate)
				value = appendCell(value, k, text)
			}
			for i := range j.keys {
				k, text := groups[len(j.names)+i].value("last")
				value = appendCell(value, k, text)
			}
			return yield(spill.Record{Key: at, Value: value}, nil)
		}
		for rec, err := range sorter.Sorted() {
			if err != nil {
				yield(spill.Record{}, err)
				return
			}
			if !some || !bytes.Equal(at, rec.Key) {
				if !finish() {
					return
				}
				at = append(at[:0], rec.Key...)
				some, held = true, 0
				clear(groups)
			}
			row := rec.Value
			for i, name := range j.names {
				var k stream.Kind
				var text []byte
				k, text, row = nextCell(row)
				before := groups[i].bytes
				err := groups[i].add(j.fields[name].aggregate, k, text)
				if held += groups[i].bytes - before; err == nil && held > format.MaxCell {
					err = errs.New(errs.TooLarge, "standard.join", "the values of one key come to more than %d MiB", format.MaxCell>>20)
				}
				if err != nil {
					yield(spill.Record{}, errs.Wrap(err, errs.KindOf(err), "standard.join", "resource %q, key %q, field %q: %s", j.join.source, at, name, errs.Detail(err)))
					return
				}
			}
			for i := range j.keys {
				var k stream.Kind
				var text []byte
				k, text, row = nextCell(row)
				_ = groups[len(j.names)+i].add("last", k, text) // which takes anything
			}
		}
		finish()
	}
}

// alone gives a row for each key of the source.
func (j *joinPlan) alone(t *Table) iter.Seq2[*stream.Batch, error] {
	return func(yield func(*stream.Batch, error) bool) {
		sorter := spill.NewRecords(j.env.context(), j.env.Temp, j.env.budget(), false)
		defer sorter.Close()
		n := int64(0)
		batches(j.gathered(t, sorter), func(rec spill.Record, out *stream.Batch) error {
			n++
			readCells(rec.Value, out)
			out.EndRow(n)
			return nil
		})(yield)
	}
}

func (j *joinPlan) tables(up iter.Seq2[*Table, error]) iter.Seq2[*Table, error] {
	return func(yield func(*Table, error) bool) {
		// What was gathered, in a form that keys are found in.
		groups := &groupStore{env: j.env}
		defer groups.close()
		for t, err := range up {
			if err != nil {
				yield(nil, err)
				return
			}
			switch {
			case same(t.Resource, j.source):
				if !j.readSource(t, groups, yield) {
					return
				}
			case same(t.Resource, j.target):
				if !yield(NewTable(t.Resource, j.rows(t, groups)), nil) {
					return
				}
			default:
				if !yield(t, nil) {
					return
				}
			}
		}
	}
}

// readSource gathers the source, and gives it on where it stays. It is false where
// nobody wants more.
func (j *joinPlan) readSource(t *Table, groups *groupStore, yield func(*Table, error) bool) bool {
	rows := t.Rows
	if !j.remove {
		kept, err := spill.NewTable(j.env.Temp)
		if err != nil {
			yield(nil, err)
			return false
		}
		defer kept.Close()
		more, err := passOn(t, yield, func(b *stream.Batch) (*stream.Batch, error) { return b, kept.WriteBatch(b) })
		if err != nil {
			yield(nil, err)
		}
		if err != nil || !more {
			return false
		}
		rows = kept.Rows()
	}
	sorter := spill.NewRecords(j.env.context(), j.env.Temp, j.env.budget(), false)
	defer sorter.Close()
	for rec, err := range j.gathered(&Table{Resource: t.Resource, Columns: t.Columns, Rows: rows}, sorter) {
		if err == nil {
			err = groups.add(rec)
		}
		if err != nil {
			yield(nil, err)
			return false
		}
	}
	return true
}

// groupStore keeps gathered records: in a map while they fit the budget, else in
// the order of their keys on disk.
type groupStore struct {
	env    *Env
	inside map[string]*storedGroup
	bytes  int
	beyond *spill.Records
}

type storedGroup struct {
	value []byte
	used  bool
}

func (g *groupStore) add(rec spill.Record) error {
	if g.beyond == nil {
		if g.inside == nil {
			g.inside = map[string]*storedGroup{}
		}
		const overhead = 96
		if g.bytes += len(rec.Key) + len(rec.Value) + overhead; g.bytes <= g.env.budget() {
			g.inside[string(rec.Key)] = &storedGroup{value: bytes.Clone(rec.Value)}
			return nil
		}
		g.beyond = spill.NewRecords(g.env.context(), g.env.Temp, g.env.budget(), false)
		for key, one := range g.inside {
			if err := g.beyond.Add([]byte(key), one.value); err != nil {
				return err
			}
		}
		g.inside = nil
	}
	return g.beyond.Add(rec.Key, rec.Value)
}

func (g *groupStore) close() {
	g.beyond.Close()
	g.inside = nil
}

// rows gives the rows of the target.
func (j *joinPlan) rows(t *Table, groups *groupStore) iter.Seq2[*stream.Batch, error] {
	old := t.Columns[:j.before]
	row := &lookup{columns: index(old)}
	gone := map[string]bool{}
	for _, name := range j.names {
		gone[name] = true
	}
	m := &merger{plan: j, row: row, names: index(j.names), gone: gone}
	if groups.beyond == nil {
		return m.inMemory(t, groups)
	}
	return m.merged(t, groups)
}

// merger puts rows of the target and what was gathered together.
type merger struct {
	plan  *joinPlan
	row   *lookup
	names map[string]int
	gone  map[string]bool
	cells []keyCell
}

// write appends a row of the target with what was gathered; a nil value means that
// nothing was.
func (m *merger) write(b *stream.Batch, r int, value []byte, out *stream.Batch) error {
	m.split(value)
	m.row.at(b, r)
	for _, name := range m.plan.columns {
		i, gathered := m.names[name]
		if gathered && value != nil {
			out.AppendKind(m.cells[i].kind, m.cells[i].text)
			continue
		}
		k, text, ok := m.row.get(name)
		if !ok && gathered {
			k = stream.Null
		}
		out.AppendKind(k, text)
	}
	if err := m.row.othersWithout(m.gone, out); err != nil {
		return err
	}
	out.EndRow(b.Number(r))
	return nil
}

func (m *merger) split(value []byte) {
	m.cells = m.cells[:0]
	for len(value) > 0 {
		var c keyCell
		c.kind, c.text, value = nextCell(value)
		m.cells = append(m.cells, c)
	}
}

// unmatched appends a row of the source alone.
func (m *merger) unmatched(value []byte, number int64, out *stream.Batch) {
	m.split(value)
	for _, name := range m.plan.columns {
		i, ok := m.names[name]
		if k := slices.IndexFunc(m.plan.keys, func(k joinedKey) bool { return k.target == name }); !ok && k >= 0 {
			i, ok = len(m.names)+k, true
		}
		if ok {
			out.AppendKind(m.cells[i].kind, m.cells[i].text)
		} else {
			out.AppendKind(stream.Absent, nil)
		}
	}
	out.EndRow(number)
}

func (m *merger) key(t *Table, b *stream.Batch, r int, dst []byte) ([]byte, error) {
	key, err := m.plan.targetKey.Append(dst[:0], m.row.at(b, r).get)
	if err != nil {
		err = rowError(t, b.Number(r), err)
	}
	return key, err
}

// inMemory looks each row up.
func (m *merger) inMemory(t *Table, groups *groupStore) iter.Seq2[*stream.Batch, error] {
	return func(yield func(*stream.Batch, error) bool) {
		var key []byte
		last := int64(0)
		wanted := true
		eachRow(t.Rows, func(b *stream.Batch, r int, out *stream.Batch) (err error) {
			last = b.Number(r)
			if key, err = m.key(t, b, r, key); err != nil {
				return err
			}
			one, ok := groups.inside[string(key)]
			if !ok {
				if m.plan.mode == inner {
					return nil
				}
				return m.write(b, r, nil, out)
			}
			one.used = true
			return m.write(b, r, one.value, out)
		})(func(b *stream.Batch, err error) bool {
			wanted = yield(b, err) && err == nil
			return wanted
		})
		if !wanted || m.plan.mode != fullOuter {
			return
		}
		batches(func(yield func(spill.Record, error) bool) {
			for _, key := range slices.Sorted(maps.Keys(groups.inside)) {
				if one := groups.inside[key]; !one.used && !yield(spill.Record{Value: one.value}, nil) {
					return
				}
			}
		}, func(rec spill.Record, out *stream.Batch) error {
			last++
			m.unmatched(rec.Value, last, out)
			return nil
		})(yield)
	}
}

// merged sorts the target by key, goes through it and what was gathered side by
// side, and sorts the result by where its rows stood.
func (m *merger) merged(t *Table, groups *groupStore) iter.Seq2[*stream.Batch, error] {
	return func(yield func(*stream.Batch, error) bool) {
		fail := func(err error) { yield(nil, err) }
		budget := m.plan.env.budget() / 2
		byKey := spill.NewRecords(m.plan.env.context(), m.plan.env.Temp, budget, false)
		defer byKey.Close()
		byPlace := spill.NewRecords(m.plan.env.context(), m.plan.env.Temp, budget, false)
		defer byPlace.Close()
		var key, value []byte
		place := uint64(0)
		for b, err := range t.Rows {
			for r := 0; err == nil && r < b.Rows(); r++ {
				if key, err = m.key(t, b, r, key); err == nil {
					value = appendRow(binary.BigEndian.AppendUint64(value[:0], place), b, r)
					place++
					err = byKey.Add(key, value)
				}
			}
			if err != nil {
				fail(err)
				return
			}
		}
		next, stop := iter.Pull2(groups.beyond.Sorted())
		defer stop()
		used := false
		one, err, more := next()
		pass := func() error { // the gathered record is passed by
			if m.plan.mode == fullOuter && !used {
				// Behind all rows, in the order of keys.
				err := byPlace.Add(binary.BigEndian.AppendUint64(nil, place), append([]byte{1}, one.Value...))
				if err != nil {
					return err
				}
				place++
			}
			used = false
			one, err, more = next()
			return err
		}
		if err != nil {
			fail(err)
			return
		}
		in, out := &stream.Batch{}, &stream.Batch{}
		for rec, err := range byKey.Sorted() {
			for err == nil && more && bytes.Compare(one.Key, rec.Key) < 0 {
				err = pass()
			}
			if err != nil {
				fail(err)
				return
			}
			var gathered []byte
			if more && bytes.Equal(one.Key, rec.Key) {
				used, gathered = true, one.Value
			} else if m.plan.mode == inner {
				continue
			}
			in.Reset()
			out.Reset()
			readRow(rec.Value[8:], in)
			if err = m.write(in, 0, gathered, out); err == nil {
				err = tooLong(t.Resource, out)
			}
			if err == nil {
				value = appendRow(append(value[:0], 0), out, 0)
				err = byPlace.Add(rec.Value[:8], value)
			}
			if err != nil {
				fail(err)
				return
			}
		}
		for more {
			if err := pass(); err != nil {
				fail(err)
				return
			}
		}
		last := int64(0)
		batches(byPlace.Sorted(), func(rec spill.Record, out *stream.Batch) error {
			if rec.Value[0] == 0 {
				readRow(rec.Value[1:], out)
				last = out.Number(out.Rows() - 1)
				return nil
			}
			last++
			m.unmatched(rec.Value[1:], last, out)
			return nil
		})(yield)
	}
}

// group gathers the values of a field of rows with one key.
type group struct {
	aggregate
	list  []keyCell
	count []int64
	where map[string]int
	bytes int // that it holds
}

// add takes a value in. Null is left out, but rows are counted whatever they hold. The
// caller bounds what it holds.
func (g *group) add(operation string, k stream.Kind, text []byte) error {
	if operation == "count" {
		g.n++
		return nil
	}
	if k == stream.Null {
		return nil
	}
	switch operation {
	case "sum", "avg", "min", "max":
		return g.aggregate.add(operation, k, text)
	case "first", "any", "last":
		if operation != "first" || g.n == 0 {
			g.cell = keyCell{k, append(g.cell.text[:0], text...)}
			g.bytes = len(text)
		}
		g.n++
		return nil
	}
	g.n++
	if operation == "set" || operation == "counters" {
		key := string(appendCell(nil, k, text))
		if i, ok := g.where[key]; ok {
			g.count[i]++
			return nil
		}
		if g.where == nil {
			g.where = map[string]int{}
		}
		g.where[key] = len(g.list)
		g.bytes += len(key)
	}
	g.bytes += len(text) + 64
	g.list = append(g.list, keyCell{k, bytes.Clone(text)})
	g.count = append(g.count, 1)
	return nil
}

// value is what was gathered, null where that is nothing.
func (g *group) value(operation string) (stream.Kind, []byte) {
	switch {
	case operation == "count":
		return stream.Integer, fmt.Append(nil, g.n)
	case g.n == 0:
		return stream.Null, nil
	}
	switch operation {
	case "first", "any", "last":
		return g.cell.kind, g.cell.text
	case "sum", "avg", "min", "max":
		return g.aggregate.value(operation, nil)
	case "median":
		return median(g.list)
	}
	order := make([]int, len(g.list))
	for i := range order {
		order[i] = i
	}
	if operation == "counters" { // the most frequent first
		slices.SortStableFunc(order, func(a, b int) int { return int(g.count[b] - g.count[a]) })
	}
	dst := []byte{'['}
	for i, at := range order {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		value := appendTyped(nil, g.list[at].kind, g.list[at].text, false)
		if operation == "counters" {
			dst = fmt.Appendf(dst, "[%s, %d]", value, g.count[at])
		} else {
			dst = append(dst, value...)
		}
	}
	return stream.JSON, append(dst, ']')
}

// median is the value in the middle, or half the sum of the two that are.
func median(list []keyCell) (stream.Kind, []byte) {
	var numbers []python.Number
	for _, c := range list {
		if n, ok := python.ParseNumber(c.kind, c.text); ok {
			numbers = append(numbers, n)
		}
	}
	if len(numbers) == 0 {
		return stream.Null, nil
	}
	slices.SortStableFunc(numbers, python.Compare)
	n := numbers[len(numbers)/2]
	if len(numbers)%2 == 0 {
		n = python.Divide(python.Add(numbers[len(numbers)/2-1], n), 2)
	}
	return n.Kind(), n.Append(nil)
}
