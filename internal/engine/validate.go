package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/tables"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// TableInput is a table to be validated.
type TableInput struct {
	// Resource is its descriptor: name, format, dialect, encoding, schema. Of a table
	// without a schema the labels and the widths of the rows are checked.
	Resource map[string]any
	Format   string // what the file's name says, where the descriptor says nothing
	// Parts is how many files hold the table, one after the other; 0 is one.
	Parts int
	// Open opens one of them, from 0.
	Open func(ctx context.Context, part int) (io.ReadCloser, error)
}

// open opens the file, all parts of it as one.
func (in TableInput) open(ctx context.Context) (io.ReadCloser, error) {
	if in.Parts < 2 {
		return in.Open(ctx, 0)
	}
	p := &parts{count: in.Parts, lines: true, head: tables.HeaderLines(in.Resource), open: func(i int) (io.ReadCloser, error) { return in.Open(ctx, i) }}
	return p, p.next()
}

func (in TableInput) name() string {
	name, _ := in.Resource["name"].(string)
	return name
}

// TableReport is what validation found.
type TableReport struct {
	Rows     int64 // data rows, blank ones not counted
	Problems Problems
	unread   bool

	labels   []string // nil where the file has none
	encoding string
}

// Validate reads the tables of a package by the letter of the published standard:
// cells are not trimmed and a blank row is an error. temp is an existing folder for
// temporary files. The error is one of the machine; what is wrong with the tables
// is in the reports, in the order of the tables.
func Validate(ctx context.Context, temp string, tables []TableInput) ([]*TableReport, error) {
	var names []string
	schemas := map[string]*tableschema.Schema{}
	for _, in := range tables {
		schema, err := parseSchema(in.Resource)
		if err != nil {
			schema = nil // its table says so
		}
		names = append(names, in.name())
		schemas[in.name()] = schema
	}
	refs := newReferences(ctx, temp, names, schemas)
	defer refs.close()
	reports := make([]*TableReport, len(tables))
	unread := map[string]bool{}
	for i, in := range tables {
		reports[i] = &TableReport{}
		if err := reports[i].validate(ctx, temp, in, refs); err != nil {
			return nil, err
		}
		unread[in.name()] = reports[i].unread
	}
	for i, in := range tables {
		if reports[i].unread {
			continue
		}
		err := refs.check(ctx, in.name(), &reports[i].Problems, func(name string) string {
			if unread[name] {
				return fmt.Sprintf("the table %q cannot be read", name)
			}
			return ""
		})
		if err != nil {
			return nil, err
		}
	}
	return reports, nil
}

func (report *TableReport) validate(ctx context.Context, temp string, in TableInput, refs references) error {
	p := &report.Problems
	report.unread = true
	schema := &tableschema.Schema{}
	if in.Resource["schema"] != nil {
		var err error
		if schema, err = parseSchema(in.Resource); err != nil {
			p.add(Problem{Code: codeSchema, Message: strings.Join(errorLines(err), " ")})
			return nil
		}
	}
	c, err := newChecker(ctx, schema, false, temp, p)
	if err != nil {
		return err
	}
	defer c.close()
	c.name, c.references, c.anyFields = in.name(), refs, in.Resource["schema"] == nil
	_, err = protect(func() (struct{}, error) {
		body, err := in.open(ctx)
		if err != nil {
			return struct{}{}, err
		}
		defer body.Close()
		return struct{}{}, c.read(ctx, tables.Source{Reader: body, Whole: tables.Spool(ctx, body, temp)}, tables.Options{Resource: in.Resource, Format: in.Format, Temp: temp})
	})
	report.Rows, report.labels, report.encoding = c.rows, c.labels, c.encoding
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*format.Error](err); ok {
		p.add(Problem{Code: e.Code, Row: e.Row, Message: e.Message})
		return c.finish(ctx)
	}
	if e, ok := errors.AsType[*errs.Error](err); ok && e.Kind != errs.Internal {
		p.add(Problem{Code: codeSource, Message: errs.Detail(err)})
		return c.finish(ctx)
	}
	if err != nil {
		return err
	}
	report.unread = false
	return c.finish(ctx)
}

// read checks a whole table and keeps no row.
func (c *checker) read(ctx context.Context, body tables.Source, options tables.Options) error {
	options.Pool = &stream.Pool{}
	reader, labels, err := openTable(ctx, body, options)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }()
	c.labels, c.encoding, c.sparse = labels, reader.Encoding(), tables.Typed(reader)
	c.header(labels)
	out := options.Pool.Get()
	defer out.Release()
	for {
		in, err := reader.Next()
		if err == io.EOF {
			c.encoding = reader.Encoding()
			c.extraKeys(tables.ExtraKeys(reader))
			c.problems.Notes = append(c.problems.Notes, reader.Notes()...)
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		out.Reset()
		err = c.check(in, out)
		in.Release()
		if err != nil {
			return err
		}
	}
}
