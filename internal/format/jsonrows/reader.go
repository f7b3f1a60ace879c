package jsonrows

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/stream"
	"github.com/go-json-experiment/json/jsontext"
)

// Options say how JSON is read as a table.
type Options struct {
	// Lines is for files with a value a line (NDJSON, JSON Lines).
	Lines bool
	// Features is for GeoJSON: a row a feature of the collection.
	Features bool
	// Property is the path, with points, to the array of rows in an object (Table
	// Dialect 2); empty where the file itself is the array.
	Property string
	// ItemType is what a row must be, "object" or "array"; empty: what the first is.
	ItemType string
	// ItemKeys are the keys of rows that are objects which become columns; nil: those
	// of Columns, else of the first. Others are left out.
	ItemKeys []string
	// Columns are the keys that are expected: they become columns, and others are left out
	// with their names kept (see [Reader.Extra]).
	Columns []string
	AnyCase bool // a key may be one of Columns in another case of letters
	// NoHeader says that rows which are arrays begin with the first.
	NoHeader   bool
	Encoding   string       // empty: UTF-8
	Pool       *stream.Pool // lends the batches; nil: one of its own
	MaxColumns int          // of a row; 0 is format.MaxColumns
	MaxCell    int          // bytes of a cell, of which a row may have twice as many; 0 is format.MaxCell
}

const (
	maxDepth  = 100 // of arrays and objects in each other
	maxNoted  = 20  // keys that notes name
	lineBytes = 64 << 10
	slack     = 64 << 10 // between two values
)

// Reader gives the rows of a JSON file. A row is an object or an array.
//
// Of objects, the keys that are asked for are the columns, else those of the first (see
// [Survey] for those of all): a later key is left out, with a note that says which and
// how often, and an absent one is null. Objects count as
// rows 2 and on, as if their keys stood in row 1. Of arrays, the first holds the
// labels. A feature of GeoJSON gives its properties and, as the last column,
// `geometry`; what else it has is left out with a note.
//
// Numbers keep their digits, arrays and objects become cells of JSON without white
// space. Of a key that is there twice the last counts. One value is in memory at a
// time.
type Reader struct {
	o    Options
	text *format.Text
	in   *limited
	dec  *jsontext.Decoder

	lines *bufio.Reader
	line  []byte

	path       []string // from the root to the array
	arrays     bool     // rows are arrays
	headerDone bool
	first      *stream.Batch // a row that Header read ahead
	err        error         // what the next call gives
	row        int64         // number of the last row that was read

	labels  []string
	named   int            // bytes of the labels
	columns map[string]int // by key
	raw     map[string]int // by key as it is written
	cells   []cell         // of the row that is being read, by column
	buf     []byte         // their text
	shape   cell           // the geometry of a feature

	dropped map[string]int64 // keys that no column has
	other   int64            // those that dropped has no room for
	twice   map[string]int64 // keys that were there twice
}

// cell is a place in the row's text.
type cell struct {
	kind     stream.Kind
	seen     bool
	from, to int
}

// NewReader prepares a reader. Its error is a [format.Error] for an encoding that is
// unknown, or one of the underlying reader. A byte order mark is read over, which RFC
// 8259 allows.
func NewReader(r io.Reader, o Options) (*Reader, error) {
	label := o.Encoding
	if label == "" {
		label = "utf-8"
	}
	text, err := format.NewText(r, label)
	if err != nil {
		if e, ok := errors.AsType[*format.EncodingError](err); ok {
			err = &format.Error{Code: format.CodeEncoding, Message: e.Message}
		}
		return nil, err
	}
	if o.MaxColumns == 0 {
		o.MaxColumns = format.MaxColumns
	}
	if o.MaxCell == 0 {
		o.MaxCell = format.MaxCell
	}
	if o.Pool == nil {
		o.Pool = &stream.Pool{}
	}
	if o.Features {
		o.Property, o.ItemType = "features", "object"
	}
	rd := &Reader{
		o: o, text: text, in: &limited{r: text},
		columns: map[string]int{}, raw: map[string]int{}, dropped: map[string]int64{}, twice: map[string]int64{},
	}
	if o.Property != "" {
		rd.path = strings.Split(o.Property, ".")
	}
	if o.Lines {
		rd.in.most = 1 << 62
		rd.lines = bufio.NewReaderSize(rd.in, lineBytes)
		rd.dec = jsontext.NewDecoder(&bytes.Buffer{}, jsontext.AllowDuplicateNames(true))
	} else {
		rd.dec = jsontext.NewDecoder(rd.in, jsontext.AllowDuplicateNames(true))
	}
	return rd, nil
}

// limited gives bytes up to a limit, which moves on with what was read, and keeps
// the error that the reading met.
type limited struct {
	r    io.Reader
	n    int64
	most int64
	over bool
	err  error
}

func (l *limited) Read(p []byte) (int, error) {
	if l.n >= l.most {
		l.over = true
		return 0, errors.New("jsonrows: too long")
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.most-l.n)])
	l.n += int64(n)
	if err != nil && err != io.EOF {
		l.err = err
	}
	return n, err
}

// Encoding is the one that the file was read in so far.
func (r *Reader) Encoding() string { return r.text.Encoding() }

// Notes says what was read otherwise than declared, and which keys were left out.
func (r *Reader) Notes() []string {
	notes := slices.Clone(r.text.Notes())
	for _, key := range slices.Sorted(maps.Keys(r.dropped)) {
		if r.o.Columns != nil {
			break // who knows the columns says it
		}
		notes = append(notes, fmt.Sprintf("the key %q is not one of the columns: it was left out %s", short(key), times(r.dropped[key])))
	}
	if r.other > 0 {
		notes = append(notes, fmt.Sprintf("further keys that are not among the columns were left out %s", times(r.other)))
	}
	for _, key := range slices.Sorted(maps.Keys(r.twice)) {
		notes = append(notes, fmt.Sprintf("the key %q stood in a row more than once, %s: the last value counts", short(key), times(r.twice[key])))
	}
	return notes
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// short is a key as a text for the owner shows it.
func short(key string) string {
	const most = 100
	if len(key) > most {
		return strings.ToValidUTF8(key[:most], "") + "…"
	}
	return key
}

// Close does nothing: a reader holds memory alone.
func (r *Reader) Close() error { return nil }

// Header gives the labels of the columns. It is nil where the rows are arrays and
// there is no header; a file or an array without any row gives io.EOF.
func (r *Reader) Header() ([]string, error) {
	r.headerDone = true
	labels, err := r.header()
	if err != nil && r.err == nil {
		r.err = err
	}
	for i, label := range labels {
		labels[i] = strings.TrimSpace(label)
	}
	return labels, err
}

func (r *Reader) header() ([]string, error) {
	if err := r.locate(); err != nil {
		return nil, err
	}
	more, err := r.more()
	if err == nil && !more {
		err = io.EOF
	}
	if err != nil {
		return nil, err
	}
	switch k := r.dec.PeekKind(); {
	case k == '[' && r.o.ItemType != "object":
		r.arrays = true
	case k == '{' && r.o.ItemType != "array":
	default:
		return nil, r.notRow(k)
	}
	b := r.o.Pool.Get()
	if r.arrays {
		if err := r.array(b); err != nil {
			b.Release()
			return nil, err
		}
		if r.o.NoHeader {
			r.first = b
			return nil, nil
		}
		defer b.Release()
		labels := make([]string, b.Width(0))
		for i := range labels {
			labels[i] = string(b.Cell(0, i))
		}
		return labels, nil
	}
	r.row = 1
	r.expect()
	if err := r.object(b, r.o.ItemKeys == nil && r.o.Columns == nil); err != nil {
		b.Release()
		return nil, err
	}
	r.first = b
	labels := append([]string{}, r.labels...)
	if r.o.Features && r.o.Columns == nil {
		labels = append(labels, geometry)
	}
	return labels, nil
}

// geometry is the column of the geometry of a feature.
const geometry = "geometry"

// expect makes the columns that are known before the first row.
func (r *Reader) expect() {
	keys := r.o.ItemKeys
	if keys == nil {
		keys = r.o.Columns
	}
	for _, key := range keys {
		r.column(key)
	}
	if r.o.AnyCase {
		for _, key := range r.labels {
			lower := strings.ToLower(key)
			if _, there := r.columns[lower]; !there {
				r.columns[lower] = r.columns[key]
			}
		}
	}
}

// Extra returns keys of objects that are none of Columns, at most so many as notes name,
// and whether there are more.
func (r *Reader) Extra() (keys []string, more bool) {
	if r.o.Columns == nil {
		return nil, false
	}
	return slices.Sorted(maps.Keys(r.dropped)), r.other > 0
}

// locate goes to the first row: into the array that holds the rows.
func (r *Reader) locate() error {
	if r.o.Lines {
		return nil
	}
	r.move()
	if k := r.dec.PeekKind(); k == 0 {
		_, err := r.dec.ReadToken()
		if err == io.EOF && !r.in.over && r.in.err == nil {
			return io.EOF // nothing but white space
		}
		return r.fault(err)
	}
	for depth, key := range r.path {
		if r.dec.PeekKind() != '{' {
			return r.sourceError("the array of rows is in %q, but what holds it is not an object", strings.Join(r.path[:depth+1], "."))
		}
		if err := r.enter(key, strings.Join(r.path[depth:], ".")); err != nil {
			return err
		}
		if r.path == nil { // the rest of the path was one key
			break
		}
	}
	switch k := r.dec.PeekKind(); {
	case k == '[':
		err := r.token()
		return err
	case k == '{' && len(r.path) == 0 && !r.o.Features && r.o.Property == "":
		return r.sourceError("the file is an object, and rows stand in an array: say which with `property` in its dialect")
	case k == 0:
		err := r.token()
		return err
	case r.o.Property != "":
		return r.sourceError("%q is not an array of rows", r.o.Property)
	}
	return r.sourceError("the file is neither an array of objects nor one of arrays")
}

// enter opens an object and goes to the value of a key, or to the value of the rest
// of the path where that stands there as one key.
func (r *Reader) enter(key, rest string) error {
	if err := r.token(); err != nil {
		return err
	}
	var seen []string
	for r.dec.PeekKind() != '}' {
		raw, err := r.value()
		if err != nil {
			return err
		}
		name, err := unquote(nil, raw)
		if err != nil {
			return r.fault(err)
		}
		r.move()
		if string(name) == rest && rest != key {
			r.path = nil
			return nil
		}
		if string(name) == key {
			return nil
		}
		if len(seen) < maxNoted {
			seen = append(seen, fmt.Sprintf("%q", short(string(name))))
		}
		if err := r.skip(); err != nil {
			return err
		}
		r.move()
	}
	if r.o.Features {
		return r.sourceError("the file is no GeoJSON feature collection: it has no `features`")
	}
	return r.sourceError("there is no key %q, which the dialect names; the keys are %s", key, strings.Join(seen, ", "))
}

// leave reads what follows the array, to the end of the file.
func (r *Reader) leave() error {
	for r.dec.StackDepth() > 0 {
		r.move()
		if r.dec.PeekKind() != '}' {
			if _, err := r.value(); err != nil { // a key
				return err
			}
			if err := r.skip(); err != nil {
				return err
			}
			continue
		}
		if err := r.token(); err != nil {
			return err
		}
	}
	r.move()
	return r.end()
}

// end asks for the end of the text.
func (r *Reader) end() error {
	_, err := r.dec.ReadToken()
	switch {
	case err == io.EOF && r.in.err == nil && !r.in.over:
		return nil
	case err == nil:
		return r.sourceError("there is more behind the end of the JSON value")
	}
	return r.fault(err)
}

// move lets the decoder read on as far as one more value may go.
func (r *Reader) move() {
	if !r.o.Lines {
		r.in.most = r.dec.InputOffset() + int64(r.o.MaxCell) + slack
	}
}

func (r *Reader) token() error {
	r.move()
	if _, err := r.dec.ReadToken(); err != nil {
		return r.fault(err)
	}
	return nil
}

// value reads one value whole. It is valid until the next.
func (r *Reader) value() ([]byte, error) {
	r.move()
	v, err := r.dec.ReadValue()
	if err != nil {
		return nil, r.fault(err)
	}
	return v, nil
}

// skip reads over a value of any length.
func (r *Reader) skip() error {
	depth := r.dec.StackDepth()
	for {
		if err := r.token(); err != nil {
			return err
		}
		if r.dec.StackDepth() > maxDepth {
			return r.tooDeep()
		}
		if r.dec.StackDepth() <= depth {
			return nil
		}
	}
}

// more reports whether there is a further row, and goes to it.
func (r *Reader) more() (bool, error) {
	if !r.o.Lines {
		r.move()
		if r.dec.PeekKind() != ']' {
			return true, nil // or an error, which the reading of the row meets
		}
		if err := r.token(); err != nil {
			return false, err
		}
		return false, r.leave()
	}
	r.line = reused(r.line)
	for {
		part, err := r.lines.ReadSlice('\n')
		r.line = append(r.line, part...)
		if len(r.line) > 2*r.o.MaxCell {
			return false, r.sourceError("the line is longer than the limit of %s", size(2*r.o.MaxCell))
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err == io.EOF && len(r.line) == 0 {
			return false, nil
		}
		if err != nil && err != io.EOF {
			return false, r.fault(err)
		}
		break
	}
	if len(bytes.TrimSpace(r.line)) == 0 {
		return false, r.sourceError("the line is blank: every line must hold a JSON value")
	}
	r.dec.Reset(bytes.NewBuffer(r.line), jsontext.AllowDuplicateNames(true))
	return true, nil
}

// Next gives the next rows. Rows before one that cannot be read are given first, its
// [format.Error] by the next call. The end is io.EOF; the caller releases the batch.
func (r *Reader) Next() (*stream.Batch, error) {
	if !r.headerDone {
		if _, err := r.Header(); err != nil {
			return nil, err
		}
	}
	b := r.first
	r.first = nil
	if b == nil {
		b = r.o.Pool.Get()
	}
	for r.err == nil && !b.Full() {
		more, err := r.more()
		switch {
		case err != nil:
			r.err = err
		case !more:
			r.err = io.EOF
		default:
			r.err = r.next(b)
		}
	}
	if b.Rows() > 0 {
		return b, nil
	}
	b.Release()
	return nil, r.err
}

// next reads one row.
func (r *Reader) next(b *stream.Batch) error {
	switch k := r.dec.PeekKind(); {
	case k == '[' && r.arrays:
		return r.array(b)
	case k == '{' && !r.arrays:
		return r.object(b, false)
	default:
		return r.notRow(k)
	}
}

func (r *Reader) notRow(k jsontext.Kind) error {
	if k == 0 {
		_, err := r.dec.ReadToken()
		return r.fault(err)
	}
	want, have := "an object", "an array"
	if r.arrays || r.o.ItemType == "array" {
		want = "an array"
	}
	if !r.headerDone || r.labels == nil && !r.arrays && r.o.ItemType == "" {
		want = "an object or an array"
	}
	switch k {
	case '{':
		have = "an object"
	case '"':
		have = "a text"
	case '0':
		have = "a number"
	case 't', 'f', 'n':
		have = k.String()
	}
	return r.sourceError("a row must be %s, not %s", want, have)
}

// array appends a row that is an array.
func (r *Reader) array(b *stream.Batch) error {
	err := func() error {
		if err := r.token(); err != nil {
			return err
		}
		r.buf = reused(r.buf)
		for column := 0; r.dec.PeekKind() != ']'; column++ {
			if column >= r.o.MaxColumns {
				return r.sourceError("the row has more than %d columns, the limit", r.o.MaxColumns)
			}
			c, err := r.readCell()
			if err != nil {
				return err
			}
			b.AppendKind(c.kind, r.buf[c.from:c.to])
		}
		if err := r.token(); err != nil {
			return err
		}
		return r.lineEnd()
	}()
	if err != nil {
		b.DropRow()
		return err
	}
	r.row++
	b.EndRow(r.row)
	return nil
}

// object appends a row that is an object. Only the keys of the first become columns.
func (r *Reader) object(b *stream.Batch, first bool) error {
	r.buf, r.shape = reused(r.buf), cell{}
	for i := range r.cells {
		r.cells[i] = cell{}
	}
	err := r.members(first, r.o.Features)
	if err == nil {
		err = r.lineEnd()
	}
	if err != nil {
		return err
	}
	shape := -1
	if r.o.Features {
		if at, ok := r.columns[geometry]; ok && r.o.Columns != nil {
			shape = at
		}
	}
	for i, c := range r.cells {
		if i == shape {
			c = r.shape
		}
		r.append(b, c)
	}
	if r.o.Features && r.o.Columns == nil {
		r.append(b, r.shape)
	} else if r.o.Features && shape < 0 {
		r.drop(geometry)
	}
	r.row++
	b.EndRow(r.row)
	return nil
}

// reused is an emptied buffer; that of one huge row does not stay in memory.
func reused(b []byte) []byte {
	const most = 4 << 20
	if cap(b) > most {
		return nil
	}
	return b[:0]
}

func (r *Reader) append(b *stream.Batch, c cell) {
	if !c.seen {
		b.AppendNull()
		return
	}
	b.AppendKind(c.kind, r.buf[c.from:c.to])
}

// members reads the keys and values of an object: of a row, or of a feature that
// has the row in its properties.
func (r *Reader) members(first, feature bool) error {
	if err := r.token(); err != nil {
		return err
	}
	for r.dec.PeekKind() != '}' {
		raw, err := r.value()
		if err != nil {
			return err
		}
		if feature {
			if err := r.featureMember(string(raw), first); err != nil {
				return err
			}
			continue
		}
		column, known := r.raw[string(raw)]
		if !known {
			name, err := unquote(nil, raw)
			if err != nil {
				return r.fault(err)
			}
			column, known = r.columns[string(name)]
			if !known && r.o.AnyCase {
				column, known = r.columns[strings.ToLower(string(name))]
			}
			if !known && first {
				if len(r.labels) >= r.o.MaxColumns {
					return r.sourceError("the row has more than %d columns, the limit", r.o.MaxColumns)
				}
				if r.named += len(name); r.named > 2*r.o.MaxCell {
					return r.sourceError("the keys of the row are longer together than the limit of %s", size(2*r.o.MaxCell))
				}
				column, known = r.column(string(name)), true
			}
			if !known {
				r.drop(string(name))
				if err := r.skip(); err != nil {
					return err
				}
				continue
			}
			if len(r.raw) < 2*len(r.labels) {
				r.raw[string(raw)] = column
			}
		}
		c, err := r.readCell()
		if err != nil {
			return err
		}
		if r.cells[column].seen {
			if key := r.labels[column]; r.twice[key] > 0 || len(r.twice) < maxNoted {
				r.twice[key]++
			}
		}
		r.cells[column] = c
	}
	err := r.token()
	return err
}

func (r *Reader) featureMember(key string, first bool) (err error) {
	switch key {
	case `"properties"`:
		switch k := r.dec.PeekKind(); k {
		case '{':
			return r.members(first, false)
		case 'n':
			return r.skip()
		case 0:
			err := r.token()
			return err
		}
		return r.sourceError("the properties of a feature must be an object")
	case `"geometry"`:
		r.shape, err = r.readCell()
		return err
	case `"type"`:
		return r.skip()
	}
	name, err := unquote(nil, []byte(key))
	if err != nil {
		return r.fault(err)
	}
	r.drop(string(name))
	return r.skip()
}

// column adds a column.
func (r *Reader) column(key string) int {
	if c, ok := r.columns[key]; ok {
		return c
	}
	c := len(r.labels)
	r.columns[key] = c
	r.labels = append(r.labels, key)
	r.cells = append(r.cells, cell{})
	return c
}

// drop counts a key that is left out.
func (r *Reader) drop(key string) {
	if r.o.ItemKeys != nil {
		return // so it was wanted
	}
	key = short(key)
	if _, ok := r.dropped[key]; !ok && len(r.dropped) >= maxNoted {
		r.other++
		return
	}
	r.dropped[key]++
}

// readCell reads a value into the text of the row.
func (r *Reader) readCell() (cell, error) {
	raw, err := r.value()
	if err != nil {
		return cell{}, err
	}
	if len(raw) > r.o.MaxCell {
		return cell{}, r.tooLong()
	}
	if len(r.buf)+len(raw) > 2*r.o.MaxCell {
		return cell{}, r.sourceError("the row is longer than the limit of %s", size(2*r.o.MaxCell))
	}
	c := cell{seen: true, from: len(r.buf)}
	switch raw[0] {
	case '"':
		c.kind = stream.Text
		if r.buf, err = unquote(r.buf, raw); err != nil {
			return cell{}, r.fault(err)
		}
	case 'n':
		c.kind = stream.Null
	case 't', 'f':
		c.kind = stream.Boolean
		r.buf = append(r.buf, raw...)
	case '[', '{':
		c.kind = stream.JSON
		var deep int
		if r.buf, deep = appendCompact(r.buf, raw); deep+r.dec.StackDepth() > maxDepth {
			return cell{}, r.tooDeep()
		}
	default:
		c.kind = stream.Integer
		if bytes.ContainsAny(raw, ".eE") {
			c.kind = stream.Number
		}
		r.buf = append(r.buf, raw...)
	}
	c.to = len(r.buf)
	return c, nil
}

// unquote appends the text of a JSON string.
func unquote(dst, raw []byte) ([]byte, error) {
	if n := len(raw); bytes.IndexByte(raw, '\\') < 0 {
		return append(dst, raw[1:n-1]...), nil // the decoder has seen that it is UTF-8
	}
	return jsontext.AppendUnquote(dst, raw)
}

// appendCompact appends a JSON value without white space, and says how deep it goes.
func appendCompact(dst, raw []byte) (out []byte, deep int) {
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case ' ', '\t', '\r', '\n':
			continue
		case '[', '{':
			depth++
			deep = max(deep, depth)
		case ']', '}':
			depth--
		case '"':
			from := i
			for i++; raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
			dst = append(dst, raw[from:i]...)
		}
		dst = append(dst, raw[i])
	}
	return dst, deep
}

// lineEnd asks for the end of the line behind its value.
func (r *Reader) lineEnd() error {
	if !r.o.Lines {
		return nil
	}
	return r.end()
}

func (r *Reader) sourceError(text string, args ...any) error {
	row := r.row + 1
	if len(r.labels) == 0 && !r.arrays && !r.o.Lines {
		row = 0 // no row was reached
	}
	return &format.Error{Code: format.CodeSource, Row: row, Message: fmt.Sprintf(text, args...)}
}

func (r *Reader) tooLong() error {
	return r.sourceError("a value is longer than the limit of %s", size(r.o.MaxCell))
}

func (r *Reader) tooDeep() error {
	return r.sourceError("arrays and objects lie more than %d deep in each other, the limit", maxDepth)
}

// size is a limit in words.
func size(bytes int) string {
	if bytes >= 1<<20 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// fault says why the decoder could not read on.
func (r *Reader) fault(err error) error {
	if r.in.over {
		return r.tooLong()
	}
	if r.in.err != nil {
		if e, ok := errors.AsType[*format.EncodingError](r.in.err); ok {
			return &format.Error{Code: format.CodeEncoding, Row: r.row + 1, Message: e.Message}
		}
		return r.in.err
	}
	if e, ok := errors.AsType[*format.Error](err); ok {
		return e
	}
	place := "file"
	if r.o.Lines {
		place = "line"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return r.sourceError("the %s ends before its JSON does", place)
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if strings.Contains(e.Err.Error(), "max depth") { // the decoder's own limit, far over ours
			return r.tooDeep()
		}
		return r.sourceError("this is not JSON, at offset %d of the %s: %s", e.ByteOffset, place, e.Err)
	}
	return r.sourceError("this is not JSON: %s", err)
}
