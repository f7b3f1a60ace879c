package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/csv"
	"github.com/datahq/specstore/internal/format/jsonrows"
	"github.com/datahq/specstore/internal/format/parquet"
	"github.com/datahq/specstore/internal/format/sqlite"
	"github.com/datahq/specstore/internal/format/xlsx"
	"github.com/datahq/specstore/internal/processor"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// output is one form that a table is published in.
type output struct {
	node     *node
	table    *table
	variant  *variant
	resource *processor.Resource
	of       *output // what it is made of in another pipeline: a preview's table
	limit    int     // rows; 0 is all
	database bool    // it is a table of a database
	open     bool    // it is to be made

	spool *spool
	rows  int64
	err   error
}

// add adds an output to those of the table, made by the steps of a package; one that
// is made of another output has its rows.
func (t *table) add(o *output, pkg *processor.Package) error {
	o.table = t
	var err error
	if o.of != nil {
		o.variant = o.of.variant
	} else if o.variant, err = t.variantOf(pkg.Steps); err != nil {
		return err
	}
	t.outputs, t.waiting = append(t.outputs, o), append(t.waiting, o.node)
	o.variant.outputs = append(o.variant.outputs, o)
	return nil
}

// whole says that the output is written when all rows are there.
func (o *output) whole() bool { return o.database || o.format() == "parquet" }

// failure is why the output cannot be published.
func (o *output) failure() error {
	v := o.variant
	switch {
	case o.table.problems.fatal():
		return o.table.problems.lines(o.table.name())
	case v.err != nil:
		return v.err
	case v.problems.fatal():
		return v.problems.lines(o.table.name())
	}
	return o.err
}

// The preview's limit of size; its limit of rows comes from the plan.
const previewBytes = 2 << 20

// write writes the batches in the output's format.
func (o *output) write(schema *tableschema.Schema, batches <-chan *stream.Batch) error {
	w, err := o.writer(schema)
	if err != nil {
		return err
	}
	for b := range batches {
		err := o.writeBatch(w.WriteBatch, b)
		b.Release()
		if err != nil {
			return asInvalid(err)
		}
	}
	if err := w.Close(); err != nil {
		return asInvalid(err)
	}
	if w, ok := w.(*xlsx.Writer); ok {
		o.note(w.Notes())
	}
	return nil
}

// asInvalid gives what a format cannot hold as a failure that the owner reads.
func asInvalid(err error) error {
	if e, ok := errors.AsType[*format.Error](err); ok {
		return errs.Wrap(err, errs.Invalid, "engine.write", "%s", e.Error())
	}
	return err
}

// note tells the pipeline's log what is kept otherwise than the schema says.
func (o *output) note(notes []string) {
	for _, n := range notes {
		o.node.logf("%s: %s", o.table.name(), n)
	}
}

func (o *output) writer(schema *tableschema.Schema) (format.Writer, error) {
	names := make([]string, len(schema.Fields))
	for i, f := range schema.Fields {
		names[i] = f.Name
	}
	switch f := o.format(); f {
	case "csv":
		w := csv.NewWriter(o.spool)
		return w, w.WriteHeader(names)
	case "json":
		values := make([]func(dst, text []byte) []byte, len(names))
		for i := range names {
			caster, err := schema.Caster(i, tableschema.CastOptions{Unchecked: true})
			if err != nil {
				return nil, err
			}
			if !caster.JSONString() {
				values[i] = caster.AppendJSON
			}
		}
		return jsonrows.NewWriter(o.spool, names, values), nil
	case "xlsx":
		w, err := xlsx.NewWriter(o.spool, o.table.name(), schema)
		if err != nil {
			return nil, asInvalid(err)
		}
		return w, nil
	default:
		return nil, errs.New(errs.Invalid, "engine.write", "a table cannot be written as %q", f)
	}
}

func (o *output) writeBatch(write func(*stream.Batch) error, b *stream.Batch) error {
	if o.limit == 0 {
		o.rows += int64(b.Rows())
		return write(b)
	}
	room := min(int64(o.limit)-o.rows, int64(b.Rows()))
	if o.spool.bytes >= previewBytes || room <= 0 {
		return nil
	}
	head := b.Head(int(room), int(previewBytes-o.spool.bytes))
	o.rows += int64(head.Rows())
	return write(head)
}

// format is the one that the output's path asks for.
func (o *output) format() string {
	path, _ := o.resource.Descriptor["path"].(string)
	return strings.ToLower(path[strings.LastIndexByte(path, '.')+1:])
}

// writeWhole writes an output of which all rows are there.
func (o *output) writeWhole(ctx context.Context) error {
	notes, err := parquet.Write(ctx, o.spool, o.variant.schema, o.variant.kept.Rows)
	if err != nil {
		return asInvalid(err)
	}
	o.rows = o.variant.kept.Len()
	o.note(notes)
	return nil
}

// database publishes all tables of a package as one SQLite database.
func (r *run) database(ctx context.Context, n *node) (*Result, error) {
	dir, err := os.MkdirTemp(r.Temp, "database-")
	if err != nil {
		return nil, wrapDisk(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "tables.sqlite")
	for _, t := range r.tables() {
		for _, o := range t.outputs {
			if o.node != n {
				continue
			}
			if err := o.failure(); err != nil {
				return nil, err
			}
			// As with views, what is made of a CSV has the name of its table.
			name := strings.TrimSuffix(o.resource.Made, "_csv")
			notes, err := sqlite.Write(ctx, path, name, o.variant.schema, o.variant.kept.Rows)
			if err != nil {
				return nil, asInvalid(err)
			}
			o.note(notes)
			n.logf("wrote table %s, %d rows", name, o.variant.kept.Len())
		}
	}
	s, err := newSpool(r.Temp)
	if err != nil {
		return nil, err
	}
	defer s.close()
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := io.Copy(s, format.Bound(ctx, file)); err != nil {
		return nil, err
	}
	return r.publish(ctx, n, []made{{n.pkg.Resources[0].Descriptor, s, nil}})
}
