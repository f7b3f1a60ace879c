package engine

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/spill"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// checker checks the rows of one table against its schema and brings the cells
// into their default form, fields in the schema's order.
type checker struct {
	schema   *tableschema.Schema
	trim     bool
	sparse   bool // a row may have no value at all
	problems *Problems

	casters []*tableschema.Caster // per field
	column  []int                 // per field: its column in the file, -1 where it has none
	extra   int                   // columns of the file that no field claims
	width   int                   // columns of the header
	over    overlong
	rows    int64 // data rows, blank ones not counted
	blank   int64
	keys    []*keySet
	bad     []bool // per field: its cell of this row has an error
	scratch []byte

	name       string // of the table
	references references

	labels   []string // of the file, once they were read
	encoding string   // of the file, at its end
}

// keySet watches that the values of some columns together are unique.
type keySet struct {
	fields  []int
	primary bool
	seen    *spill.Keys
}

// overlong is what is known of a table of which every row so far has the same number of
// cells more than the header. If all rows have, nobody named those columns, and a flow
// leaves them out with a note; else they are errors of these rows.
type overlong struct {
	cells   int       // of each row beyond the header; 0: not every row has them
	pending []Problem // the errors that they are if it is not so to the end, the first of them
	count   int64     // of all
}

// keyBudget bounds the memory of one set of keys; beyond it they go to disk.
const keyBudget = 8 << 20

// newChecker makes one whose checks of single cells end with ctx.
func newChecker(ctx context.Context, schema *tableschema.Schema, trim bool, temp string, problems *Problems) (*checker, error) {
	c := &checker{schema: schema, trim: trim, problems: problems}
	for i := range schema.Fields {
		caster, err := schema.Caster(i, tableschema.CastOptions{Trim: trim, Stop: ctx.Done()})
		if err != nil {
			return nil, err
		}
		c.casters = append(c.casters, caster)
	}
	c.bad = make([]bool, len(c.casters))
	primary := schema.PrimaryKeyColumns()
	for _, fields := range schema.UniqueColumns() {
		c.keys = append(c.keys, &keySet{fields: fields, primary: len(primary) > 0 && slices.Equal(fields, primary), seen: spill.NewKeys(temp, keyBudget)})
	}
	return c, nil
}

func (c *checker) close() {
	for _, k := range c.keys {
		k.seen.Close()
	}
}

// header matches the labels of the file with the fields: by name where they
// agree as a set, else by position. Without a header (nil) it is by position.
func (c *checker) header(labels []string) {
	c.column = make([]int, len(c.schema.Fields))
	if labels == nil {
		for i := range c.column {
			c.column[i] = i
		}
		c.width = len(c.column)
		return
	}
	c.width = len(labels)
	seen := map[string]int{}
	unique := make([]string, len(labels))
	repeated := map[int]string{} // another name that a repeated label may have
	for i, label := range labels {
		name := label
		if label == "" {
			c.problems.add(Problem{Code: codeBlankLabel, Column: i + 1, Message: fmt.Sprintf("the header of column %d is blank", i+1)})
		} else if n := seen[label]; n > 0 {
			c.repeatedLabel(i, label)
			name = label + "_" + strconv.Itoa(n)
			repeated[i] = label + strconv.Itoa(n+1)
		}
		seen[label]++
		unique[i] = name
	}
	byName := make(map[string]int, len(unique))
	for i, name := range unique {
		byName[c.fold(name)] = i
	}
	if len(byName) == len(unique) && len(unique) == len(c.schema.Fields) &&
		!slices.ContainsFunc(c.schema.Fields, func(f tableschema.Field) bool { _, ok := byName[c.fold(f.Name)]; return !ok }) {
		for i, f := range c.schema.Fields {
			c.column[i] = byName[c.fold(f.Name)]
		}
		return
	}
	for i, f := range c.schema.Fields {
		switch {
		case i >= len(labels):
			c.column[i] = -1
			c.problems.add(Problem{Code: codeMissingLabel, Column: i + 1, Field: f.Name, Message: fmt.Sprintf("the file has no column for the field %q", f.Name)})
		case labels[i] == "", repeated[i] == f.Name: // said already
			c.column[i] = i
		case c.fold(unique[i]) != c.fold(f.Name):
			c.column[i] = i
			c.problems.add(Problem{Code: codeIncorrectLabel, Column: i + 1, Field: f.Name, Message: fmt.Sprintf("the header %q of column %d does not match the field %q", cut(labels[i]), i+1, f.Name)})
		default:
			c.column[i] = i
		}
	}
	for i := len(c.schema.Fields); i < len(labels); i++ {
		c.extra++
		c.problems.add(Problem{Code: codeExtraLabel, Column: i + 1, Message: fmt.Sprintf("the schema has no field for the header %q of column %d", cut(labels[i]), i+1)})
	}
}

// repeatedLabel notes a label that was used before. By the letter of the standard it is
// an error; in a flow the name of the field decides, which is another.
func (c *checker) repeatedLabel(column int, label string) {
	message := fmt.Sprintf("the header %q of column %d was used before", cut(label), column+1)
	if c.trim {
		if len(c.problems.Notes) < maxNotes {
			c.problems.Notes = append(c.problems.Notes, message)
		}
		return
	}
	c.problems.add(Problem{Code: codeDuplicateLabel, Column: column + 1, Field: cut(label), Message: message})
}

// maxNotes bounds what is noted of single columns.
const maxNotes = 100

// fold is what two labels have in common that are taken for one: in a flow case
// does not count (CSV Dialect, caseSensitiveHeader), by the letter of the standard
// it does.
func (c *checker) fold(s string) string {
	if s = strings.TrimSpace(s); c.trim {
		s = strings.ToLower(s)
	}
	return s
}

// check casts the rows of in into out and notes their keys. Rows with an error are
// left out of out. Its own error is one of the machine.
func (c *checker) check(in, out *stream.Batch) error {
	for r := range in.Rows() {
		if !c.sparse && c.isBlank(in, r) {
			c.blankRow(in, r)
			continue
		}
		c.rows++
		ok := in.Width(r) == c.width && c.over.cells == 0 || c.checkWidth(in, r)
		for f, caster := range c.casters {
			c.bad[f] = false
			p := c.column[f]
			if p < 0 || p >= in.Width(r) {
				out.AppendNull()
				continue
			}
			text, null, err := caster.CastKind(in.Kind(r, p), in.Cell(r, p))
			switch {
			case err != nil:
				ok, c.bad[f] = false, true
				c.cellProblem(in, r, f, p, err)
				out.AppendNull()
			case null:
				out.AppendNull()
			default:
				out.Append(text)
			}
		}
		if err := c.noteKeys(out, in.Number(r)); err != nil {
			return err
		}
		if !ok {
			out.DropRow()
			continue
		}
		out.EndRow(in.Number(r))
	}
	return nil
}

// blankRow notes a row without any value: in a flow it is skipped, by the letter
// of the standard it is an error.
func (c *checker) blankRow(in *stream.Batch, r int) {
	c.blank++
	if !c.trim {
		c.problems.add(Problem{Code: codeBlankRow, Row: in.Number(r), Message: "the row has no values"})
	}
}

func (c *checker) isBlank(in *stream.Batch, r int) bool {
	for i := range in.Width(r) {
		cell := in.Cell(r, i)
		if len(cell) == 0 {
			continue
		}
		if !c.trim || cell[0] > ' ' || len(bytes.TrimSpace(cell)) > 0 {
			return false
		}
	}
	return true
}

// checkWidth says of a row whether it is as wide as the header, or in a flow as wide as
// every row.
func (c *checker) checkWidth(in *stream.Batch, r int) bool {
	width := in.Width(r)
	if c.rows == 1 && c.trim {
		c.over.cells = max(width-c.width, 0)
	}
	if c.over.cells > 0 && width == c.width+c.over.cells {
		for p := c.width; p < width; p++ {
			if c.over.count++; len(c.over.pending) < maxProblems {
				c.over.pending = append(c.over.pending, c.extraCell(in, r, p))
			}
		}
		return true
	}
	c.endOverlong()
	if width == c.width {
		return true
	}
	for p := width; p < c.width; p++ {
		if c.problems.full() {
			c.problems.add(Problem{Code: codeMissingCell})
			continue
		}
		c.problems.add(Problem{
			Code: codeMissingCell, Row: in.Number(r), Column: p + 1, Field: c.fieldAt(p), Cells: rowText(in, r),
			Message: fmt.Sprintf("the row has %d cells, the header %d: column %d is missing", width, c.width, p+1),
		})
	}
	for p := c.width; p < width; p++ {
		if c.problems.full() {
			c.problems.add(Problem{Code: codeExtraCell})
			continue
		}
		c.problems.add(c.extraCell(in, r, p))
	}
	return false
}

func (c *checker) extraCell(in *stream.Batch, r, p int) Problem {
	return Problem{
		Code: codeExtraCell, Row: in.Number(r), Column: p + 1, Cell: cut(string(in.Cell(r, p)[:min(len(in.Cell(r, p)), maxCell+utf8Max)])), Cells: rowText(in, r),
		Message: fmt.Sprintf("the row has %d cells, the header %d: the cell in column %d is too many", in.Width(r), c.width, p+1),
	}
}

// endOverlong makes errors of the cells beyond the header: not every row has them.
func (c *checker) endOverlong() {
	for _, p := range c.over.pending {
		c.problems.add(p)
	}
	for range c.over.count - int64(len(c.over.pending)) {
		c.problems.add(Problem{Code: codeExtraCell})
	}
	c.over = overlong{}
}

// finishOverlong notes the columns that no row lacks and nobody named. A single row
// proves nothing.
func (c *checker) finishOverlong() {
	if c.over.cells == 0 {
		return
	}
	if c.rows < 2 {
		c.endOverlong()
		return
	}
	text := fmt.Sprintf("column %d has no header in any row: it is not published", c.width+1)
	if c.over.cells > 1 {
		text = fmt.Sprintf("columns %d to %d have no header in any row: they are not published", c.width+1, c.width+c.over.cells)
	}
	c.problems.Notes = append(c.problems.Notes, text)
}

// fieldAt is the name of the field that reads a column of the file.
func (c *checker) fieldAt(column int) string {
	if f := slices.Index(c.column, column); f >= 0 {
		return c.schema.Fields[f].Name
	}
	return ""
}

func (c *checker) cellProblem(in *stream.Batch, r, f, p int, err *tableschema.CellError) {
	code := codeType
	constraint := ""
	if err.Kind == tableschema.ConstraintError {
		code = codeConstraint
		if len(err.Constraints) > 0 {
			constraint = err.Constraints[0]
		}
	}
	if c.problems.full() {
		c.problems.add(Problem{Code: code})
		return
	}
	c.problems.add(Problem{
		Code: code, Row: in.Number(r), Column: p + 1, Field: c.schema.Fields[f].Name, Constraint: constraint,
		Cell: string(in.Cell(r, p)[:min(len(in.Cell(r, p)), maxCell+utf8Max)]), Cells: rowText(in, r), Message: err.Message,
	})
}

const utf8Max = 4

// rowText is a row as a problem shows it.
func rowText(in *stream.Batch, r int) []string {
	cells := make([]string, min(in.Width(r), maxRow))
	for i := range cells {
		cell := in.Cell(r, i)
		cells[i] = cut(string(cell[:min(len(cell), maxCell+utf8Max)]))
	}
	return cells
}

// noteKeys notes the keys of the row that is being written, also of one that will
// be dropped: that its other cells are bad does not make its key free.
func (c *checker) noteKeys(out *stream.Batch, number int64) error {
	if len(c.keys) == 0 && len(c.references) == 0 {
		return nil
	}
	row := out.Rows()
	for _, k := range c.keys {
		key, nulls := c.key(out, row, k.fields, false)
		bad := slices.ContainsFunc(k.fields, func(f int) bool { return c.bad[f] })
		switch {
		case bad: // the cell has its own error
		case k.primary && nulls > 0:
			c.nullKey(k, out, row, number)
		case nulls == 0:
			if key == nil {
				continue
			}
			if err := k.seen.Add(key, number); err != nil {
				return err
			}
		}
	}
	return c.noteReferences(number, func(fields []int, text bool) ([]byte, bool) {
		key, nulls := c.key(out, row, fields, text)
		return key, nulls > 0
	})
}

// nullKey is the error of a primary key that lacks a value, of all of its fields or of
// some: it identifies no row.
func (c *checker) nullKey(k *keySet, out *stream.Batch, row int, number int64) {
	if c.problems.full() {
		c.problems.add(Problem{Code: codePrimaryKey})
		return
	}
	null := slices.DeleteFunc(slices.Clone(k.fields), func(f int) bool { return !out.Null(row, f) })
	text := fmt.Sprintf("the primary key (%s) has no value", c.names(k.fields))
	if len(null) < len(k.fields) {
		text += " of " + c.names(null)
	}
	c.problems.add(Problem{Code: codePrimaryKey, Row: number, Column: c.column[null[0]] + 1, Field: c.names(k.fields), Message: text})
}

// key is a byte form of the values of some fields that is equal for equal values,
// or with text set for equal texts, and how many of them are null. It is nil where
// one of them equals nothing, not even itself.
func (c *checker) key(out *stream.Batch, r int, fields []int, text bool) (key []byte, nulls int) {
	key = c.scratch[:0]
	for _, f := range fields {
		start := len(key)
		switch cell := out.Cell(r, f); {
		case out.Null(r, f):
			nulls++
			key = append(key, 0xff, 0xff, 0xff, 0xff) // a length that no value has
			continue
		case text:
			key = append(key, cell...)
		case c.casters[f].IsNaN(cell):
			return nil, nulls
		default:
			key = c.casters[f].AppendKey(key, cell)
		}
		// The length makes ("ab", "c") and ("a", "bc") differ.
		n := len(key) - start
		key = append(key, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	}
	c.scratch = key
	return key, nulls
}

func (c *checker) names(fields []int) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = c.schema.Fields[f].Name
	}
	return strings.Join(names, ", ")
}

// finish adds what only the whole table shows: repeated keys.
func (c *checker) finish(ctx context.Context) error {
	for _, k := range c.keys {
		code, what := codeUnique, "value"
		if k.primary {
			code, what = codePrimaryKey, "primary key"
		}
		for d, err := range k.seen.Duplicates() {
			if err != nil {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if c.problems.full() {
				c.problems.add(Problem{Code: code})
				continue
			}
			c.problems.add(Problem{
				Code: code, Row: d.Row, Column: c.column[k.fields[0]] + 1, Field: c.names(k.fields), Constraint: "unique",
				Message: fmt.Sprintf("the %s of %s was used before, in row %d", what, c.names(k.fields), d.First),
			})
		}
	}
	c.finishOverlong()
	if c.trim && c.blank > 0 {
		noun := "rows were"
		if c.blank == 1 {
			noun = "row was"
		}
		c.problems.Notes = append(c.problems.Notes, fmt.Sprintf("%d blank %s skipped", c.blank, noun))
	}
	c.problems.sort()
	return nil
}

// parseSchema reads a resource's schema. What its dialect writes for a cell without
// a value is one more of the schema's missing values.
func parseSchema(descriptor map[string]any) (*tableschema.Schema, error) {
	schema, ok := descriptor["schema"].(map[string]any)
	if !ok {
		return nil, errs.New(errs.Invalid, "engine.parseSchema", "the resource's schema must be an object")
	}
	dialect, _ := descriptor["dialect"].(map[string]any)
	if null, _ := dialect["nullSequence"].(string); null != "" {
		values, list := schema["missingValues"].([]any)
		if schema["missingValues"] == nil {
			values, list = []any{""}, true
		}
		if list {
			schema = maps.Clone(schema)
			schema["missingValues"] = append(slices.Clip(values), null)
		}
	}
	s, err := tableschema.Parse(schema)
	if err != nil {
		return nil, errs.Wrap(err, errs.Invalid, "engine.parseSchema", "schema%s", errs.Detail(err))
	}
	return s, nil
}
