package xlsx

import (
	"bytes"
	"cmp"
	"io"
	"slices"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/stream"
)

// maxMerges bounds the merged ranges of a sheet that are filled.
const maxMerges = 200000

// merges fills merged ranges. Ranges do not overlap, so that no more of them than
// there are columns meet in a row.
type merges struct {
	ranges []mergedRange // in the order of their first rows
	active []activeRange // in the order of their columns
	held   int           // bytes of their values
	spare  rowCells
}

type mergedRange struct {
	left, right int // columns from 0
	top, bottom int64
}

type activeRange struct {
	mergedRange
	kind stream.Kind
	text []byte
}

// readMerges reads the merged ranges of a sheet, which stand behind its rows.
func (w *workbook) readMerges(part string) (*merges, error) {
	r, err := w.open(part, maxPart)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	m := &merges{}
	x := newXMLReader(r)
	for {
		kind, err := x.next()
		if err == io.EOF {
			break
		}
		if err == nil && kind == startTag && x.depth() == 3 && string(x.name) == "mergeCell" {
			err = m.add(x.attr("ref"))
		}
		if err != nil {
			return nil, inPart(err, part)
		}
	}
	slices.SortStableFunc(m.ranges, func(a, b mergedRange) int { return cmp.Compare(a.top, b.top) })
	return m, nil
}

func (m *merges) add(ref []byte) error {
	first, last, _ := bytes.Cut(ref, []byte(":"))
	if last == nil {
		last = first
	}
	left, top, ok := parseReference(first)
	right, bottom, ok2 := parseReference(last)
	if !ok || !ok2 || top < 1 || bottom < top || right < left || bottom > MaxRows || right >= MaxColumns {
		return xmlErrorf("merges the cells %q, which are no range", cut(string(ref)))
	}
	if len(m.ranges) == maxMerges {
		return xmlErrorf("merges more than %d ranges of cells, the limit", maxMerges)
	}
	m.ranges = append(m.ranges, mergedRange{left, right, top, bottom})
	return nil
}

// reaches reports whether a range goes into a row behind the last one that holds
// something. It may be called on nil.
func (m *merges) reaches(row int64) bool {
	return m != nil && slices.ContainsFunc(m.active, func(a activeRange) bool { return a.bottom >= row })
}

// fill gives the cells of a row that are covered the values of the ranges, and says
// how many bytes longer the row is. Rows come in order and without a gap.
func (m *merges) fill(row *rowCells) (longer int, err error) {
	m.active = slices.DeleteFunc(m.active, func(a activeRange) bool {
		if a.bottom < row.number {
			m.held -= len(a.text)
			return true
		}
		return false
	})
	for len(m.ranges) > 0 && m.ranges[0].top <= row.number {
		if err := m.begin(m.ranges[0], row); err != nil {
			return 0, err
		}
		m.ranges = m.ranges[1:]
	}
	if len(m.active) == 0 {
		return 0, nil
	}
	for _, a := range m.active {
		longer += len(a.text) * (a.right - a.left + 1)
	}
	if longer > maxRow {
		return 0, &format.Error{Code: format.CodeFormat, Row: row.number, Message: "the row is longer than the limit of " + size(maxRow) + " when its merged cells are filled"}
	}
	out := &m.spare
	out.reset(row.number)
	cells := row.cells
	for _, a := range m.active {
		for len(cells) > 0 && cells[0].column < a.left {
			out.add(cells[0].column, cells[0].kind, row.text[cells[0].from:cells[0].to])
			cells = cells[1:]
		}
		from := len(out.text)
		out.text = append(out.text, a.text...)
		for c := a.left; c <= a.right; c++ {
			out.cells = append(out.cells, rowCell{c, a.kind, from, len(out.text)})
		}
		for len(cells) > 0 && cells[0].column <= a.right {
			cells = cells[1:]
		}
	}
	for _, c := range cells {
		out.add(c.column, c.kind, row.text[c.from:c.to])
	}
	*row, m.spare = *out, *row
	return longer, nil
}

// begin takes the value of a range from its first row. A range without one fills
// nothing.
func (m *merges) begin(g mergedRange, row *rowCells) error {
	if g.top < row.number {
		return nil // it began in a row that was left out
	}
	i, found := slices.BinarySearchFunc(row.cells, g.left, func(c rowCell, column int) int { return cmp.Compare(c.column, column) })
	if !found {
		return nil
	}
	c := row.cells[i]
	at, _ := slices.BinarySearchFunc(m.active, g.left, func(a activeRange, left int) int { return cmp.Compare(a.left, left) })
	if at > 0 && m.active[at-1].right >= g.left || at < len(m.active) && m.active[at].left <= g.right {
		return formatError("the sheet's merged cells overlap in row %d", row.number)
	}
	text := bytes.Clone(row.text[c.from:c.to])
	if m.held += len(text); m.held > maxRow {
		return formatError("the merged cells of the sheet hold more than %s of text, the limit", size(maxRow))
	}
	m.active = slices.Insert(m.active, at, activeRange{g, c.kind, text})
	return nil
}
