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
	schema *tableschema.Schema
	trim   bool
	sparse bool // a row may have no value at all
	// anyFields has the fields made of the labels, or of the first row, for there is no
	// schema.
	anyFields bool
	problems  *Problems

	casters []*tableschema.Caster // per field
	column  []int                 // per field: its column in the file, -1 where it has none
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
		c.keys = append(c.keys, &keySet{fields: fields, primary: len(primary) > 0 && slices.Equal(fields, primary), seen: spill.NewKeys(ctx, temp, keyBudget)})
	}
	return c, nil
}

func (c *checker) close() {
	for _, k := range c.keys {
		k.seen.Close()
	}
}

// header matches the labels of the file with the fields as the schema's fieldsMatch
// says. Where it says nothing, by the letter of the standard they are the same in the
// same order, and in a flow the same by name; else a flow takes them by position.
// Without a header (nil) it is by position.
func (c *checker) header(labels []string) {
	if c.anyFields {
		c.labelled(labels)
		c.width = len(labels)
		return
	}
	c.column = make([]int, len(c.schema.Fields))
	for i := range c.column {
		c.column[i] = i
	}
	if labels == nil {
		c.width = len(c.column)
		return
	}
	c.width = len(labels)
	names := c.labelled(labels)
	match := c.schema.FieldsMatch
	switch {
	case match == "" && c.trim && c.sameNames(names):
		match = tableschema.MatchEqual
	case match == "":
		match = tableschema.MatchExact
	}
	if match == tableschema.MatchExact {
		c.byPosition(names)
	} else {
		c.byName(names, match)
	}
}

// label is a label of the file with the names that it may stand for.
type label struct {
	text  string
	name  string // folded; of one that was used before with a number
	other string // another form of that; empty: none
}

// labelled notes what is wrong with the labels themselves, and gives the names that they
// stand for.
func (c *checker) labelled(labels []string) []label {
	names := make([]label, len(labels))
	seen := map[string]int{}
	for i, text := range labels {
		names[i] = label{text: text, name: c.fold(text)}
		if text == "" {
			c.problems.add(Problem{Code: codeBlankLabel, Column: i + 1, Message: fmt.Sprintf("the header of column %d is blank", i+1)})
		} else if n := seen[text]; n > 0 {
			c.repeatedLabel(i, text)
			names[i].name = c.fold(text + "_" + strconv.Itoa(n))
			names[i].other = c.fold(text + strconv.Itoa(n+1))
		}
		seen[text]++
	}
	return names
}

// columns are those of the file by the names of their labels.
func columns(names []label) map[string]int {
	at := make(map[string]int, len(names))
	for i, n := range names {
		if _, there := at[n.name]; !there && n.text != "" {
			at[n.name] = i
		}
	}
	for i, n := range names {
		if _, there := at[n.other]; !there && n.other != "" {
			at[n.other] = i
		}
	}
	return at
}

// sameNames reports whether the labels and the fields are the same, in any order.
func (c *checker) sameNames(names []label) bool {
	if len(names) != len(c.schema.Fields) {
		return false
	}
	at := columns(names)
	taken := map[int]bool{}
	for _, f := range c.schema.Fields {
		column, ok := at[c.fold(f.Name)]
		if !ok || taken[column] {
			return false
		}
		taken[column] = true
	}
	return true
}

func (c *checker) byPosition(names []label) {
	for i, f := range c.schema.Fields {
		switch name := c.fold(f.Name); {
		case i >= len(names):
			c.column[i] = -1
			c.missingLabel(i)
		case names[i].text == "": // said already
		case name != names[i].name && name != names[i].other:
			c.problems.add(Problem{Code: codeIncorrectLabel, Column: i + 1, Field: f.Name, Message: fmt.Sprintf("the header %q of column %d does not match the field %q", cut(names[i].text), i+1, f.Name)})
		}
	}
	for i := len(c.schema.Fields); i < len(names); i++ {
		c.extraLabel(i, names[i].text)
	}
}

func (c *checker) byName(names []label, match string) {
	at := columns(names)
	claimed := make([]bool, len(names))
	some := false
	for i, f := range c.schema.Fields {
		column, ok := at[c.fold(f.Name)]
		if ok && !claimed[column] {
			c.column[i], claimed[column], some = column, true, true
			continue
		}
		c.column[i] = -1
		if match == tableschema.MatchEqual || match == tableschema.MatchSubset || f.Required() {
			c.missingLabel(i)
		}
	}
	if !some && len(c.schema.Fields) > 0 && match == tableschema.MatchPartial {
		c.problems.add(Problem{Code: codeMissingLabel, Message: "the file has a column of no field of the schema"})
	}
	for i, n := range names {
		switch {
		case claimed[i]:
		case match == tableschema.MatchEqual || match == tableschema.MatchSuperset:
			c.extraLabel(i, n.text)
		case len(c.problems.Notes) < maxNotes:
			c.problems.Notes = append(c.problems.Notes, fmt.Sprintf("the schema has no field for the header %q of column %d: it is left out", cut(n.text), i+1))
		}
	}
}

func (c *checker) missingLabel(field int) {
	name := c.schema.Fields[field].Name
	c.problems.add(Problem{Code: codeMissingLabel, Column: field + 1, Field: name, Message: fmt.Sprintf("the file has no column for the field %q", name)})
}

func (c *checker) extraLabel(column int, text string) {
	c.problems.add(Problem{Code: codeExtraLabel, Column: column + 1, Message: fmt.Sprintf("the schema has no field for the header %q of column %d", cut(text), column+1)})
}

// extraKeys notes the keys of objects that no field of the schema claims, which are known
// at the end alone.
func (c *checker) extraKeys(keys []string, more bool) {
	if c.anyFields {
		return
	}
	say := func(message string) {
		if c.schema.FieldsMatch == tableschema.MatchSubset || c.schema.FieldsMatch == tableschema.MatchPartial {
			c.problems.Notes = append(c.problems.Notes, message+": it is left out")
			return
		}
		c.problems.add(Problem{Code: codeExtraLabel, Message: message})
	}
	for _, key := range keys {
		say(fmt.Sprintf("the schema has no field for the key %q", cut(key)))
	}
	if more {
		say("the schema has no field for further keys")
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
	out.Grow(in.Bytes())
	for r := range in.Rows() {
		if !c.sparse && c.isBlank(in, r) {
			c.blankRow(in, r)
			continue
		}
		if c.rows++; c.rows == 1 && c.anyFields && c.labels == nil {
			c.width = in.Width(r)
		}
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
	for _, b := range []*stream.Batch{in, out} {
		if row, _, over := b.TooLong(); over && row < b.Rows() {
			return errs.New(errs.Invalid, "engine.check", "row %d is longer than %d MiB, the limit", b.Number(row), stream.MaxRowBytes>>20)
		}
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
