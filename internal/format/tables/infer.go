package tables

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/csv"
	"github.com/datahq/specstore/internal/tableschema"
)

// Inference is what was found out of a table from all its rows.
type Inference struct {
	Schema  map[string]any // a Table Schema, which takes every row that is as wide as the header
	Columns []tableschema.Column
	Rows    int64    // without the header
	Notes   []string // what was found out otherwise than declared, and what is doubtful
}

// Infer reads a table from its first to its last row and gives its schema. open gives
// the file from its first byte each time; what it gives is closed again.
//
// Where no dialect is declared the delimiter that the first rows suggest is held
// against all rows: where more than a tenth of them is not as wide as the header, the
// file is read by each of the other delimiters as well, and the one by which most
// rows agree decides.
func Infer(ctx context.Context, open func() (Source, func(), error), o Options) (*Inference, error) {
	best, err := scan(ctx, open, o)
	if err != nil || !best.sniffed || best.agree() >= share {
		return best.result(), err
	}
	for _, delimiter := range csv.Delimiters() {
		if delimiter == best.delimiter {
			continue
		}
		other := o
		other.Resource = maps.Clone(o.Resource)
		if other.Resource == nil {
			other.Resource = map[string]any{}
		}
		other.Resource["delimiter"] = delimiter
		s, err := scan(ctx, open, other)
		if e, ok := errors.AsType[*format.Error](err); ok && e.Code != CodeDialect {
			continue // by this delimiter it cannot be read
		}
		if err != nil {
			return nil, err
		}
		if s.width > 1 && s.agree() > best.agree() {
			best = s
			best.notes = append(best.notes, fmt.Sprintf("no delimiter was declared: by %q most rows of the whole file are as wide as the header", delimiter))
		}
	}
	return best.result(), nil
}

// share is the part of the rows that must be as wide as the header for a delimiter
// to be taken without a look at others.
const share = 0.9

// scanned is what one reading of a whole file found.
type scanned struct {
	labels    []string
	inferrer  tableschema.Inferrer
	rows      int64
	ragged    int64 // rows that are not as wide as the header, blank ones aside
	width     int
	sniffed   bool
	delimiter string
	notes     []string
}

func (s *scanned) agree() float64 {
	if s.rows == 0 {
		return 1
	}
	return 1 - float64(s.ragged)/float64(s.rows)
}

func (s *scanned) result() *Inference {
	if s == nil {
		return nil
	}
	notes := s.notes
	if s.ragged > 0 {
		noun := "rows are"
		if s.ragged == 1 {
			noun = "row is"
		}
		notes = append(notes, fmt.Sprintf("%d %s not as wide as the header", s.ragged, noun))
	}
	columns := s.inferrer.Inferred(s.labels)
	for _, c := range columns {
		if c.Doubtful {
			notes = append(notes, fmt.Sprintf("%.100s: %s", c.Name, c.Why))
		}
		for _, mark := range slices.Sorted(maps.Keys(c.Missing)) {
			notes = append(notes, fmt.Sprintf("%.100s: %q is a missing value, %d of them", c.Name, mark, c.Missing[mark]))
		}
	}
	return &Inference{Schema: s.inferrer.Schema(columns), Columns: columns, Rows: s.rows, Notes: notes}
}

func scan(ctx context.Context, open func() (Source, func(), error), o Options) (*scanned, error) {
	src, done, err := open()
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := Open(ctx, src, o)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	s := &scanned{}
	if c, ok := innermost(r).(*csv.Reader); ok {
		s.sniffed, s.delimiter = c.Sniffed(), c.Dialect().Delimiter
		s.inferrer.Delimiter = s.delimiter
		if dialect, _ := o.Resource["dialect"].(map[string]any); dialect["decimalChar"] != nil {
			s.inferrer.Decimal, _ = dialect["decimalChar"].(string)
		}
	}
	if s.labels, err = r.Header(); err == io.EOF {
		err = &format.Error{Code: format.CodeSource, Message: "the file is empty"}
	}
	if err != nil {
		return nil, err
	}
	s.width = len(s.labels)
	for {
		b, err := r.Next()
		if err == io.EOF {
			s.notes = append(s.notes, r.Notes()...)
			return s, nil
		}
		if err == nil && ctx.Err() != nil {
			b.Release()
			err = context.Cause(ctx)
		}
		if err != nil {
			return nil, err
		}
		for i := range b.Rows() {
			width := b.Width(i)
			if s.labels == nil && s.width == 0 {
				s.width = width
			}
			s.rows++
			if width != s.width && (width != 1 || len(b.Cell(i, 0)) > 0) {
				s.ragged++
			}
		}
		s.inferrer.AddBatch(b)
		b.Release()
	}
}

// innermost is a reader without what was put round it here.
func innermost(r format.Reader) format.Reader {
	for {
		switch w := r.(type) {
		case *closing:
			r = w.Reader
		case *labelled:
			r = w.Reader
		default:
			return r
		}
	}
}
