package engine

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/pattern"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/processor/standard"
	"github.com/datahq/specstore/internal/spill"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// variant is a table as some of its outputs want it: as it was read, or as the steps
// of its owner make it.
type variant struct {
	key     string // its steps as JSON
	steps   []standard.Step
	outputs []*output

	schema   *tableschema.Schema
	problems *Problems // of what the steps made
	kept     *spill.Table
	err      error // that keeps all its outputs from being made
}

// variantOf finds the variant of some steps, or makes it.
func (t *table) variantOf(steps []plan.Step) (*variant, error) {
	key, err := json.Marshal(steps)
	if err != nil {
		return nil, err
	}
	for _, v := range t.variants {
		if v.key == string(key) {
			return v, nil
		}
	}
	v := &variant{key: string(key), problems: &Problems{}}
	patterns := pattern.NewBudget(pattern.MaxBytes)
	for _, s := range steps {
		p, err := standard.NewWithin(s.Run, s.Parameters, patterns)
		if err != nil {
			v.err = err
			break
		}
		v.steps = append(v.steps, standard.Step{Run: s.Run, Processor: p})
	}
	t.variants = append(t.variants, v)
	return v, nil
}

// ended says that nothing is to be made of the variant, or nothing can be.
func (v *variant) ended() bool {
	return v.err != nil || !slices.ContainsFunc(v.outputs, func(o *output) bool { return o.open })
}

// feed has the outputs that are not ended written from what a fan gives.
func (v *variant) feed(f *fan, temp string) error {
	for _, o := range v.outputs {
		switch {
		case !o.open:
		case !o.whole():
			f.to(func(batches <-chan *stream.Batch) error { return o.write(v.schema, batches) }, &o.err)
		case v.kept == nil:
			kept, err := spill.NewTable(temp)
			if err != nil {
				return err
			}
			v.kept = kept
			f.to(func(batches <-chan *stream.Batch) error {
				for b := range batches {
					err := kept.WriteBatch(b)
					b.Release()
					if err != nil {
						return wrapDisk(err)
					}
				}
				return nil
			}, &o.err)
		}
	}
	return nil
}

// stepBudget is the memory that a sort of the owner's may take.
const stepBudget = 16 << 20

// process puts the rows of a table through the owner's steps and has the outputs
// written from what comes out.
func (r *run) process(ctx context.Context, t *table, v *variant, batches <-chan *stream.Batch) error {
	resource := maps.Clone(t.resource.Added)
	resource["schema"] = t.schema.CanonicalDescriptor()
	resource["dpp:streaming"] = true
	kinds := make([]stream.Kind, len(t.schema.Fields))
	for i, f := range t.schema.Fields {
		kinds[i] = f.Kind()
	}
	in := &standard.Package{
		Descriptor: map[string]any{"name": t.name(), "resources": []any{resource}},
		Stats:      func() map[string]any { return map[string]any{} },
	}
	in.Tables = func(yield func(*standard.Table, error) bool) {
		yield(standard.NewTable(resource, typed(ctx, batches, kinds)), nil)
	}
	env := &standard.Env{Temp: r.Temp, Budget: stepBudget, Form: standard.Canonical, Getenv: func(string) string { return "" }}
	out, err := standard.Chain(ctx, env, in, v.steps)
	if err != nil {
		return err
	}
	if n := len(standard.Streaming(out.Descriptor)); n != 1 {
		return errs.New(errs.Invalid, "engine.process", "the steps of %q must leave one table, and leave %d", t.name(), n)
	}
	for table, err := range out.Tables {
		if err != nil {
			return err
		}
		if err := v.consume(ctx, table, r.Temp); err != nil {
			return err
		}
	}
	return nil
}

// consume checks the rows that the steps made against the schema that they made, and
// has the outputs written.
func (v *variant) consume(ctx context.Context, table *standard.Table, temp string) error {
	raw, _ := table.Resource["schema"].(map[string]any)
	var err error
	if v.schema, err = tableschema.Parse(withoutLostKeys(raw)); err != nil {
		return errs.Wrap(err, errs.Invalid, "engine.consume", "the schema that the steps leave: %s", errs.Detail(err))
	}
	c, err := newChecker(ctx, v.schema, false, temp, v.problems)
	if err != nil {
		return err
	}
	defer c.close()
	c.sparse = true
	c.header(table.Columns)
	pool := &stream.Pool{}
	var f fan
	if err := v.feed(&f, temp); err != nil {
		f.close()
		return err
	}
	defer f.close()
	for b, err := range table.Rows {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		out := pool.Get()
		if err := c.check(b, out); err != nil {
			out.Release()
			return err
		}
		if v.problems.fatal() {
			out.Release()
			continue
		}
		f.send(out)
	}
	return c.finish(ctx)
}

// withoutLostKeys leaves out the keys of a schema that name fields which steps took
// away: they say nothing any more.
func withoutLostKeys(schema map[string]any) map[string]any {
	names := map[string]bool{}
	fields, _ := schema["fields"].([]any)
	for _, f := range fields {
		m, _ := f.(map[string]any)
		name, _ := m["name"].(string)
		names[name] = true
	}
	lost := func(v any) bool {
		list, ok := v.([]any)
		if name, text := v.(string); text {
			list, ok = []any{name}, true
		}
		return ok && slices.ContainsFunc(list, func(n any) bool { name, _ := n.(string); return !names[name] })
	}
	out := maps.Clone(schema)
	if lost(out["primaryKey"]) {
		delete(out, "primaryKey")
	}
	for key, of := range map[string]func(any) any{
		"uniqueKeys":  func(k any) any { return k },
		"foreignKeys": func(k any) any { m, _ := k.(map[string]any); return m["fields"] },
	} {
		list, ok := out[key].([]any)
		if !ok {
			continue
		}
		list = slices.DeleteFunc(slices.Clone(list), func(k any) bool { return lost(of(k)) })
		if out[key] = list; len(list) == 0 {
			delete(out, key)
		}
	}
	return out
}

// typed gives the rows of batches with the kinds of their columns.
func typed(ctx context.Context, batches <-chan *stream.Batch, kinds []stream.Kind) iter.Seq2[*stream.Batch, error] {
	return func(yield func(*stream.Batch, error) bool) {
		out := &stream.Batch{}
		for b := range batches {
			out.Reset()
			for row := range b.Rows() {
				for c := range b.Width(row) {
					if b.Null(row, c) {
						out.AppendNull()
					} else {
						out.AppendKind(kinds[c], b.Cell(row, c))
					}
				}
				out.EndRow(b.Number(row))
			}
			b.Release()
			if !yield(out, nil) {
				return
			}
		}
		if ctx.Err() != nil { // what came was not all
			yield(nil, context.Cause(ctx))
		}
	}
}

// fan hands batches to several readers, each a goroutine of its own.
type fan struct {
	outs []chan *stream.Batch
	wg   sync.WaitGroup
}

// to adds a reader. Its error goes to failure; it does not stop the others.
func (f *fan) to(read func(<-chan *stream.Batch) error, failure *error) {
	batches := make(chan *stream.Batch, 2)
	f.outs = append(f.outs, batches)
	f.wg.Go(func() {
		_, *failure = protect(func() (struct{}, error) { return struct{}{}, read(batches) })
		for b := range batches { // what a reader leaves must not stop the others
			b.Release()
		}
	})
}

// send hands a batch on; nobody may write to it any more.
func (f *fan) send(b *stream.Batch) {
	if len(f.outs) == 0 || b.Rows() == 0 {
		b.Release()
		return
	}
	b.Share(len(f.outs))
	for _, out := range f.outs {
		out <- b
	}
}

// close tells the readers that there is no more, and waits for them.
func (f *fan) close() {
	for _, out := range f.outs {
		close(out)
	}
	f.wg.Wait()
	f.outs = nil
}
