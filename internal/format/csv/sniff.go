package csv

import (
	"bytes"
	"io"
	"slices"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/stream"
)

// Delimiters are those that a file may have which declares none, the likelier first.
func Delimiters() []string { return []string{",", ";", "\t", "|"} }

const sampleRows = 100

// sniff finds the delimiter of a file whose dialect names none: the one that cuts most
// rows of the sample into the same number of cells, more than one. It also finds out
// whether a blank follows every delimiter. The first rows may be skipped.
func sniff(sample []byte, whole bool, declared format.Dialect, skip int) format.Dialect {
	best := declared
	best.Delimiter = format.Default().Delimiter
	score := 0.0
	for _, delimiter := range Delimiters() {
		d := declared
		d.Delimiter = delimiter
		same, width, blanks := measure(sample, whole, d, skip)
		if width < 2 {
			continue
		}
		// A little weight on the width decides between equals.
		if s := same + float64(min(width, 100))/1e4; s > score+1e-9 {
			score = s
			d.SkipInitialSpace = declared.SkipInitialSpace || blanks
			best = d
		}
	}
	return best
}

// measure reads the sample by a dialect: the share of rows that are as wide as most that
// have a delimiter, their width, and whether a blank follows every delimiter.
func measure(sample []byte, whole bool, d format.Dialect, skip int) (same float64, width int, blanks bool) {
	r := &Reader{pool: &stream.Pool{}, maxCols: format.MaxColumns, maxCell: format.MaxCell, buf: sample, end: len(sample)}
	r.use(d)
	if whole {
		r.readErr = io.EOF
	}
	b := r.pool.Get()
	defer b.Release()
	for b.Rows() < sampleRows && r.pos < r.end {
		_, comment := slices.BinarySearch(d.CommentRows, int(r.row)+1)
		comment = comment || d.CommentChar != "" && bytes.HasPrefix(sample[r.pos:], []byte(d.CommentChar))
		n, err := r.parse(b)
		if n < 0 || err != nil {
			b.DropRow()
			break
		}
		r.pos += n
		r.row++
		if comment {
			b.DropRow()
			continue
		}
		b.EndRow(r.row)
		if r.row <= int64(skip) {
			b.Reset()
		}
	}
	rows := 0
	widths := map[int]int{}
	for i := range b.Rows() {
		w := b.Width(i)
		if w == 1 && len(b.Cell(i, 0)) == 0 {
			continue
		}
		if rows++; w == 1 {
			continue // a title, or by another delimiter
		}
		if widths[w]++; widths[w] > widths[width] || width == 0 {
			width = w
		}
	}
	if rows == 0 || width == 0 {
		return 0, 0, false
	}
	return float64(widths[width]) / float64(rows), width, blanksFollow(b, width)
}

// blanksFollow reports whether every cell but the first of the rows of a width begins
// with a blank.
func blanksFollow(b *stream.Batch, width int) bool {
	for i := range b.Rows() {
		if b.Width(i) != width {
			continue
		}
		for c := 1; c < width; c++ {
			if cell := b.Cell(i, c); len(cell) == 0 || cell[0] != ' ' {
				return false
			}
		}
	}
	return true
}
