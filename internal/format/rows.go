package format

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/stream"
)

// RowReader gives the rows of a file one by one, whatever they hold.
type RowReader interface {
	// ReadRow appends the next row, under its physical number. The end is io.EOF.
	ReadRow(*stream.Batch) error
	// Row is the physical number of the last row that was read, from 1.
	Row() int64
	// Begins reports whether the first cell of the next row begins with a text.
	Begins(text string) (bool, error)
}

// blankReader is a [RowReader] that reads empty lines faster many at a time.
type blankReader interface {
	// ReadBlank appends the empty lines that come next, and returns how many; where there
	// are none, or where that is not known, it returns 0.
	ReadBlank(*stream.Batch) int
}

// Rows puts what a dialect says of rows on a [RowReader]: those that are skipped, those
// that are the header, those that are comments. They keep their numbers all the same.
type Rows struct {
	// Headed is called, once it is known, with how many columns the header has, or the
	// first row where there is none. It may be nil; else rows have as many cells at least.
	Headed func(columns int)
	// Titles has rows above the header left out that are a title and no header, where the
	// dialect does not say which rows are.
	Titles bool

	reader  RowReader
	dialect Dialect
	pool    *stream.Pool
	first   *stream.Batch // a row that Header read ahead
	done    bool          // Header was called
	notes   []string
}

// Notes say which rows above the header were left out.
func (r *Rows) Notes() []string { return r.notes }

// NewRows reads rows by a dialect into batches of a pool.
func NewRows(r RowReader, d Dialect, pool *stream.Pool) *Rows {
	return &Rows{reader: r, dialect: d, pool: pool}
}

// Close lets go what was read ahead.
func (r *Rows) Close() {
	if r.first != nil {
		r.first.Release()
		r.first = nil
	}
}

// Header gives the labels of the columns, white space round them cut. It is nil
// where the dialect says that there is no header; an empty row names nothing. A file
// without any row gives io.EOF, one that ends before the header an [Error].
func (r *Rows) Header() ([]string, error) {
	r.done = true
	b := r.pool.Get()
	labels, err := r.header(b)
	columns := len(labels)
	if err == nil && labels == nil {
		r.first, columns = b, b.Width(0)
	} else {
		b.Release()
	}
	if err == nil && r.Headed != nil {
		r.Headed(columns)
	}
	if err == io.EOF && r.reader.Row() > 0 {
		err = &Error{Code: CodeSource, Message: fmt.Sprintf("the file ends after row %d, before the row that its dialect takes for the first", r.reader.Row())}
	}
	return labels, err
}

func (r *Rows) header(b *stream.Batch) ([]string, error) {
	for range r.dialect.SkipRows {
		b.Reset()
		if err := r.reader.ReadRow(b); err != nil {
			return nil, err
		}
	}
	if !r.dialect.Header {
		b.Reset()
		return nil, r.next(b)
	}
	rows := r.dialect.HeaderRows
	if len(rows) == 0 {
		return r.find(b)
	}
	labels := []string{}
	for i, want := range rows {
		for {
			b.Reset()
			if err := r.next(b); err != nil {
				return nil, err
			}
			if r.reader.Row() >= int64(want) {
				break
			}
		}
		if b.Width(0) == 1 && len(b.Cell(0, 0)) == 0 {
			continue
		}
		for c, label := range rowLabels(b, 0) {
			switch {
			case c >= len(labels):
				labels = append(labels, label)
			case i > 0 && label != "":
				labels[c] += r.dialect.HeaderJoin + label
			}
		}
	}
	return labels, nil
}

// rowLabels are the cells of a row as labels.
func rowLabels(b *stream.Batch, row int) []string {
	labels := make([]string, b.Width(row))
	for c := range labels {
		labels[c] = strings.TrimSpace(string(b.Cell(row, c)))
		switch b.Kind(row, c) {
		case stream.Datetime:
			labels[c] = strings.Replace(labels[c], "T", " ", 1)
		case stream.Date: // as Python's libraries name the columns of sheets
			labels[c] += " 00:00:00"
		default:
		}
	}
	return labels
}

// find finds the header where the dialect does not say which row it is: the first that
// holds something, titles aside.
func (r *Rows) find(b *stream.Batch) ([]string, error) {
	blank := int64(0)
	for {
		b.Reset()
		if err := r.next(b); err != nil {
			if err == io.EOF && blank > 0 {
				return []string{}, nil // nothing but blank rows
			}
			return nil, err
		}
		if b.Width(0) != 1 || len(b.Cell(0, 0)) > 0 {
			break
		}
		blank++
	}
	if !r.Titles {
		return rowLabels(b, 0), nil
	}
	const ahead = 40                                        // rows that decide
	for b.Rows() < ahead && !b.Full() && r.next(b) == nil { // a row that cannot be read is met again
	}
	header := titles(b)
	if header > 0 {
		r.notes = append(r.notes, fmt.Sprintf("the rows above row %d are a title: they are left out", b.Number(header)))
	}
	labels := rowLabels(b, header)
	if header+1 < b.Rows() {
		r.first = r.pool.Get()
		for row := header + 1; row < b.Rows(); row++ {
			for c := range b.Width(row) {
				r.first.AppendKind(b.Kind(row, c), b.Cell(row, c))
			}
			for c := b.Width(row); c < len(labels) && r.Headed != nil && filled(b, row) > 0; c++ {
				r.first.AppendNull()
			}
			r.first.EndRow(b.Number(row))
		}
	}
	return labels, nil
}

// filled is how many cells of a row hold something.
func filled(b *stream.Batch, row int) int {
	n := 0
	for c := range b.Width(row) {
		if len(bytes.TrimSpace(b.Cell(row, c))) > 0 {
			n++
		}
	}
	return n
}

// titles is the row of a sample that is the header: the first, but where rows with one
// cell, or with few, stand over a row that is as wide as those behind it, has a label in
// each cell, and has one at least over values that are no texts.
func titles(b *stream.Batch) int {
	widths := map[int]int{}
	width := 0
	for row := range b.Rows() {
		if filled(b, row) == 0 {
			continue
		}
		w := b.Width(row)
		if widths[w]++; w > 1 && (widths[w] > widths[width] || width == 0) {
			width = w
		}
	}
	if width < 2 {
		return 0
	}
	for row := range b.Rows() {
		n := filled(b, row)
		switch {
		case n <= 1, 2*n < width: // a title, or blank
			continue
		case row == 0, b.Width(row) != width, n != width, !labels(b, row), !valuesBelow(b, row, width):
			return 0
		}
		return row
	}
	return 0
}

// labels reports whether no cell of a row is a value, years aside.
func labels(b *stream.Batch, row int) bool {
	const year = 4
	for c := range b.Width(row) {
		if cell := b.Cell(row, c); isValue(b, row, c) && len(cell) != year {
			return false
		}
	}
	return true
}

// valuesBelow reports whether the rows below one are no wider, and a column of them has
// values where that has a text, or a year over what are no years.
func valuesBelow(b *stream.Batch, header, width int) bool {
	const year = 4
	rows, fit := 0, 0
	values, others, some := make([]int, width), make([]int, width), make([]int, width)
	for row := header + 1; row < b.Rows(); row++ {
		if filled(b, row) == 0 {
			continue
		}
		if rows++; b.Width(row) > width {
			continue
		}
		fit++
		for c := range b.Width(row) {
			if len(b.Cell(row, c)) == 0 {
				continue
			}
			if some[c]++; isValue(b, row, c) {
				values[c]++
				if len(b.Cell(row, c)) != year {
					others[c]++
				}
			}
		}
	}
	if rows == 0 || 5*fit < 4*rows {
		return false
	}
	texts, years := 0, 0
	for c := range width {
		if !isValue(b, header, c) {
			if texts++; 2*values[c] > some[c] {
				return true
			}
		} else if 2*others[c] > some[c] {
			years++
		}
	}
	return texts > 0 && years > 1
}

// isValue reports whether a cell is no text: it has a kind of its own, or digits and
// nothing but what stands in numbers, dates and times.
func isValue(b *stream.Batch, row, column int) bool {
	switch b.Kind(row, column) {
	case stream.Text:
	case stream.Null, stream.Absent:
		return false
	default:
		return true
	}
	digits := false
	for _, c := range b.Cell(row, column) {
		switch {
		case c >= '0' && c <= '9':
			digits = true
		case !strings.ContainsRune(" +-.,:/%", rune(c)):
			return false
		}
	}
	return digits
}

// Next gives the next rows. Rows before one that cannot be read are given first, its
// [Error] by the next call. The end is io.EOF; the caller releases the batch.
func (r *Rows) Next() (*stream.Batch, error) {
	if !r.done {
		if _, err := r.Header(); err != nil {
			return nil, err
		}
	}
	b := r.first
	r.first = nil
	if b == nil {
		b = r.pool.Get()
	}
	blank, _ := r.reader.(blankReader)
	if r.dialect.CommentChar != "" || len(r.dialect.CommentRows) > 0 {
		blank = nil
	}
	for !b.Full() {
		if blank != nil && blank.ReadBlank(b) > 0 {
			continue
		}
		err := r.next(b)
		if err != nil && b.Rows() > 0 {
			return b, nil // the next call meets the same error
		}
		if err != nil {
			b.Release()
			return nil, err
		}
	}
	return b, nil
}

// next appends the next row that is no comment.
func (r *Rows) next(b *stream.Batch) error {
	for {
		_, comment := slices.BinarySearch(r.dialect.CommentRows, int(r.reader.Row())+1)
		if !comment && r.dialect.CommentChar != "" {
			var err error
			if comment, err = r.reader.Begins(r.dialect.CommentChar); err != nil {
				return err
			}
		}
		if !comment {
			return r.reader.ReadRow(b)
		}
		dropped := r.pool.Get()
		err := r.reader.ReadRow(dropped)
		dropped.Release()
		if err != nil {
			return err
		}
	}
}
