package format

import (
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
	// ReadBlank appends the empty lines that come next, and gives how many; where there
	// are none, or where it cannot tell, it gives 0.
	ReadBlank(*stream.Batch) int
}

// Rows puts what a dialect says of rows on a [RowReader]: those that are skipped, those
// that are the header, those that are comments. They keep their numbers all the same.
type Rows struct {
	// Headed is told, once it is known, how many columns the header has, or the first
	// row where there is none. It may be nil.
	Headed func(columns int)

	reader  RowReader
	dialect Dialect
	pool    *stream.Pool
	first   *stream.Batch // a row that Header read ahead
	done    bool          // Header was called
}

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
		rows = []int{int(r.reader.Row()) + 1}
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
		for c := range b.Width(0) {
			label := strings.TrimSpace(string(b.Cell(0, c)))
			if b.Kind(0, c) == stream.Datetime {
				label = strings.Replace(label, "T", " ", 1)
			}
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
