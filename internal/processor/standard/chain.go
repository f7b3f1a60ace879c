package standard

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/stream"
)

// Step is a processor with the name that it is run by.
type Step struct {
	Run string
	Processor
}

// Chain hands a package from step to step, as a pipeline does, until ctx ends. Nothing is read before
// the tables of the result are. A failure names the step, also one that only the
// tables show. In the form of datapackage-pipelines each step checks first what it is
// given (see [Check]).
func Chain(ctx context.Context, env *Env, p *Package, steps []Step) (*Package, error) {
	within := *env
	within.ctx = ctx
	env = &within
	for i, step := range steps {
		in := p.handOver()
		if env.Form == DPP {
			if err := Check(in.Descriptor); err != nil {
				return nil, failed(i, step.Run, err)
			}
		}
		next, err := step.Process(ctx, env, in)
		if err != nil {
			return nil, failed(i, step.Run, err)
		}
		p = next.named(i, step.Run)
	}
	return p, nil
}

// Check holds a descriptor against the Data Package profile, as each step of
// datapackage-pipelines does with what it is given. A list of resources may be empty
// there. The error is Invalid and lists the first problems.
func Check(descriptor map[string]any) error {
	if list, ok := descriptor["resources"].([]any); ok && len(list) == 0 {
		descriptor = maps.Clone(descriptor)
		descriptor["resources"] = []any{map[string]any{"name": "none", "path": placeholder}}
	}
	problems := datapackage.CheckProfile(descriptor)
	if len(problems) == 0 {
		return nil
	}
	const most = 10
	var lines []string
	for _, p := range problems[:min(len(problems), most)] {
		lines = append(lines, p.Pointer+" "+p.Message)
	}
	return invalid("the descriptor is none of a data package: %s", strings.Join(lines, "; "))
}

// stepError is a failure that names its step.
type stepError struct{ err *errs.Error }

func (e *stepError) Error() string { return e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

func failed(i int, run string, err error) error {
	if _, ok := errors.AsType[*stepError](err); ok || errors.Is(err, context.Canceled) {
		return err
	}
	return &stepError{errs.Wrap(err, errs.KindOf(err), "standard.Chain", "step %d, %s: %s", i+1, run, errs.Detail(err))}
}

// named gives the package with failures that name the step that made it.
func (p *Package) named(i int, run string) *Package {
	out := *p
	out.Tables = func(yield func(*Table, error) bool) {
		for t, err := range p.Tables {
			if err != nil {
				yield(nil, failed(i, run, err))
				return
			}
			rows := t.Rows
			t := &Table{Resource: t.Resource, Columns: t.Columns, Rows: func(yield func(*stream.Batch, error) bool) {
				for b, err := range rows {
					if err != nil {
						yield(nil, failed(i, run, err))
						return
					}
					if !yield(b, nil) {
						return
					}
				}
			}}
			if !yield(t, nil) {
				return
			}
		}
	}
	return &out
}

// Drain reads a package to its end and gives its statistics and the number of rows.
func (p *Package) Drain() (stats map[string]any, rows int64, err error) {
	for t, err := range p.Tables {
		if err != nil {
			return nil, rows, err
		}
		for b, err := range t.Rows {
			if err != nil {
				return nil, rows, err
			}
			rows += int64(b.Rows())
		}
	}
	return p.Stats(), rows, nil
}

// handOver gives the package with a descriptor of its own, so that what the next
// step changes in it is not seen by those before, whose rows are still to come.
func (p *Package) handOver() *Package {
	out := &Package{Descriptor: clone(p.Descriptor), Stats: p.Stats}
	before, after := Streaming(p.Descriptor), Streaming(out.Descriptor)
	var names [][]string
	for _, r := range after {
		names = append(names, columns(r))
	}
	out.Tables = eachTable(p.Tables, func(t *Table) (*Table, error) {
		i := slices.IndexFunc(before, func(r map[string]any) bool { return same(r, t.Resource) })
		if i < 0 {
			return nil, nil // the step took the resource away and left its rows
		}
		return &Table{Resource: after[i], Columns: names[i], Rows: realigned(t, names[i])}, nil
	})
	return out
}

// realigned gives the rows of a table with other columns.
func realigned(t *Table, names []string) iter.Seq2[*stream.Batch, error] {
	if slices.Equal(t.Columns, names) {
		return t.Rows
	}
	row := newLookup(t)
	wanted := index(names)
	return eachRow(t.Rows, func(b *stream.Batch, r int, out *stream.Batch) error {
		row.at(b, r)
		for _, name := range names {
			k, text, _ := row.get(name)
			out.AppendKind(k, text)
		}
		others := map[string]any{}
		if b.Width(r) > len(t.Columns) {
			v, err := python.ParseJSON(b.Cell(r, len(t.Columns)))
			if err != nil {
				return err
			}
			m, _ := v.(map[string]any)
			maps.Copy(others, m)
		}
		for c, name := range t.Columns {
			if k := b.Kind(r, c); k != stream.Absent {
				v, err := python.ParseJSON(AppendWire(nil, k, b.Cell(r, c)))
				if err != nil {
					return err
				}
				others[name] = v
			}
		}
		maps.DeleteFunc(others, func(name string, _ any) bool { _, ok := wanted[name]; return ok })
		if len(others) > 0 {
			out.AppendKind(stream.JSON, python.JSON{}.Append(nil, others))
		}
		out.EndRow(b.Number(r))
		return nil
	})
}
