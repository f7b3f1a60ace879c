// Package stream carries tables between a reader, a cast and the writers.
//
// A table travels as [Batch] values: some hundred rows of cells as text, back
// to back in one buffer. A cell is checked against its field and brought into
// the field's default form once; every writer then copies text. Nothing is
// boxed and a batch is filled again when its last reader has let it go, so that
// the memory in use does not depend on the length of the table.
package stream

import (
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
)

// Limits of one batch. A batch is full when it reaches one of them, so a single
// row may take it over the limit of bytes.
const (
	MaxRows  = 1024
	MaxBytes = 256 << 10
)

// MaxRowBytes bounds the text of a row, of one that is read as of one that is made.
const MaxRowBytes = 128 << 20

// maxText bounds the text of a batch: a row begins in one that is not full.
const maxText = MaxRowBytes + MaxBytes

// Kind says what a cell is in the file that it was read from. Text formats know
// text alone; formats with types (JSON, XLSX, Parquet, SQLite) say more, and give
// the text in the default form of that type (Table Schema).
type Kind uint8

// The kinds of cells.
const (
	Text     Kind = iota
	Null          // no value; the text is empty
	Integer       // -12
	Number        // 1.50, 1E+3
	Boolean       // true, false
	Date          // 2020-01-02
	Time          // 03:04:05
	Datetime      // 2020-01-02T03:04:05
	JSON          // an array or an object
	Float         // a binary floating point number: 1.5, 1e+16
	Absent        // an object of the row has no such key; the text is empty
)

// Batch is a run of rows of one table, cells as text. Rows need not have the
// same number of cells.
//
// A batch is written by one goroutine; after [Batch.Share] any number may read
// it, and none may write.
type Batch struct {
	text    []byte
	ends    []uint32 // end of each cell in text
	kinds   []Kind   // per cell
	rowEnds []uint32 // end of each row in ends
	numbers []int64  // physical number of each row

	over            bool // a row is beyond the limit
	overRow, overAt int  // which one, and the first cell that it did not take

	refs     atomic.Int32
	pool     *Pool
	released chan struct{} // closed by the last reader; nil: nobody asked
}

// TooLong reports whether a row went beyond [MaxRowBytes], and returns its place and that of
// the first cell that did not fit, from 0. Text of that cell and those behind is missing.
func (b *Batch) TooLong() (row, cell int, over bool) { return b.overRow, b.overAt, b.over }

// Rows is the number of complete rows.
func (b *Batch) Rows() int { return len(b.rowEnds) }

// Bytes is the length of all cells together.
func (b *Batch) Bytes() int { return len(b.text) }

// Full reports whether the batch has reached a limit.
func (b *Batch) Full() bool { return len(b.rowEnds) >= MaxRows || len(b.text) >= MaxBytes }

// Number is the physical number of row r in its file, from 1, the header included.
func (b *Batch) Number(r int) int64 { return b.numbers[r] }

// Width is the number of cells of row r.
func (b *Batch) Width(r int) int { return int(b.rowEnds[r] - b.rowStart(r)) }

// Cell is the text of a cell. It is valid until the batch is let go. Text of a
// null cell is empty.
func (b *Batch) Cell(r, c int) []byte {
	i := int(b.rowStart(r)) + c
	start := uint32(0)
	if i > 0 {
		start = b.ends[i-1]
	}
	end := b.ends[i]
	return b.text[start:end:end]
}

// Null reports whether a cell has no value.
func (b *Batch) Null(r, c int) bool { k := b.Kind(r, c); return k == Null || k == Absent }

// Kind is what a cell was in its file.
func (b *Batch) Kind(r, c int) Kind { return b.kinds[int(b.rowStart(r))+c] }

func (b *Batch) rowStart(r int) uint32 {
	if r == 0 {
		return 0
	}
	return b.rowEnds[r-1]
}

// Append adds a cell of text to the row that is being written.
func (b *Batch) Append(text []byte) { b.AppendKind(Text, text) }

// AppendKind adds a cell to the row that is being written.
func (b *Batch) AppendKind(k Kind, text []byte) {
	if len(text) > cap(b.text)-len(b.text) && !b.room(len(text)) {
		text = nil
	}
	b.text = append(b.text, text...)
	b.ends = append(b.ends, uint32(len(b.text)))
	b.kinds = append(b.kinds, k)
}

// AppendPart adds text to the cell that is being written; [Batch.EndCell] ends it.
func (b *Batch) AppendPart(text []byte) {
	if len(text) > cap(b.text)-len(b.text) && !b.room(len(text)) {
		return
	}
	b.text = append(b.text, text...)
}

// largeText is where the room for text grows by its double and without clearing, so that
// memory is taken only as it is written to.
const largeText = 1 << 20

// room makes room for n bytes, and reports whether a row may take them.
func (b *Batch) room(n int) bool {
	need := len(b.text) + n
	if b.over || need > maxText {
		if !b.over {
			b.over, b.overAt, b.overRow = true, len(b.ends), len(b.rowEnds)
			if rows := len(b.rowEnds); rows > 0 {
				b.overAt -= int(b.rowEnds[rows-1])
			}
		}
		return false
	}
	if need >= largeText {
		text := make([]byte, len(b.text), min(max(need+largeText, 2*cap(b.text)), maxText))
		copy(text, b.text)
		old := cap(b.text)
		b.text = text
		Freed(old)
	}
	return true
}

// Grow makes room for n bytes of text, where they are many. What is appended to a batch
// whose size is known takes no more memory than that.
func (b *Batch) Grow(n int) {
	if n < largeText || n <= cap(b.text)-len(b.text) || len(b.text)+n > maxText {
		return
	}
	text := make([]byte, len(b.text), len(b.text)+n+largeText)
	copy(text, b.text)
	b.text = text
}

// largeFreed is where memory that was let go is collected at once.
const largeFreed = 16 << 20

// Freed is called when a buffer of so many bytes was let go. A large one is collected
// there and then, so that the next one takes its place: else both would be resident, for
// the collector starts when the next one has been given out.
func Freed(bytes int) {
	if bytes >= largeFreed {
		debug.FreeOSMemory()
	}
}

// EndCell closes the cell that AppendPart wrote.
func (b *Batch) EndCell() { b.AppendKind(Text, nil) }

// AppendNull adds a cell without a value to the row that is being written.
func (b *Batch) AppendNull() { b.AppendKind(Null, nil) }

// EndRow closes the row that is being written. number is its physical number in
// the file, from 1, the header included.
func (b *Batch) EndRow(number int64) {
	b.rowEnds = append(b.rowEnds, uint32(len(b.ends)))
	b.numbers = append(b.numbers, number)
}

// AppendBlankRows adds n rows of one empty cell each, numbered from first on, but no more
// than make the batch full. It returns how many it added.
func (b *Batch) AppendBlankRows(first int64, n int) int {
	n = max(min(n, MaxRows-len(b.rowEnds)), 0)
	end, cells, rows := uint32(len(b.text)), len(b.ends), len(b.rowEnds)
	b.ends = slices.Grow(b.ends, n)[:cells+n]
	b.kinds = slices.Grow(b.kinds, n)[:cells+n]
	b.rowEnds = slices.Grow(b.rowEnds, n)[:rows+n]
	b.numbers = slices.Grow(b.numbers, n)[:rows+n]
	clear(b.kinds[cells:]) // Text
	for i := range b.ends[cells:] {
		b.ends[cells+i] = end
	}
	for i := range b.rowEnds[rows:] {
		b.rowEnds[rows+i] = uint32(cells + i + 1)
		b.numbers[rows+i] = first + int64(i)
	}
	return n
}

// DropRow takes back the cells of the row that is being written.
func (b *Batch) DropRow() { b.DropCells(0) }

// DropCells takes back what was appended to the row that is being written, but for so
// many cells.
func (b *Batch) DropCells(keep int) {
	if n := len(b.rowEnds); n > 0 {
		keep += int(b.rowEnds[n-1])
	}
	end := uint32(0)
	if keep > 0 {
		end = b.ends[keep-1]
	}
	b.text, b.ends, b.kinds = b.text[:end], b.ends[:keep], b.kinds[:keep]
}

// Head is a view of the first rows: at most so many, with at most so many bytes
// of text together. It is valid as long as b is, and needs no release.
func (b *Batch) Head(rows, bytes int) *Batch {
	rows = min(rows, len(b.rowEnds))
	for rows > 0 {
		cells := b.rowEnds[rows-1]
		if cells == 0 || int(b.ends[cells-1]) <= bytes {
			break
		}
		rows--
	}
	return &Batch{text: b.text, ends: b.ends, kinds: b.kinds, rowEnds: b.rowEnds[:rows], numbers: b.numbers[:rows]}
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.text, b.ends, b.kinds = b.text[:0], b.ends[:0], b.kinds[:0]
	b.rowEnds, b.numbers = b.rowEnds[:0], b.numbers[:0]
	b.over = false
}

// Share hands the batch to n readers; each calls [Batch.Release] once.
func (b *Batch) Share(n int) { b.refs.Store(int32(n)) }

// Released is closed when the last reader has let the batch go. It must be called by the
// writer, before [Batch.Share].
func (b *Batch) Released() <-chan struct{} {
	b.released = make(chan struct{})
	return b.released
}

// Release lets the batch go; the last reader's call gives it back to its pool.
func (b *Batch) Release() {
	if b.refs.Add(-1) > 0 {
		return
	}
	released := b.released
	b.released = nil
	if b.pool != nil {
		b.pool.put(b)
	}
	if released != nil {
		close(released)
	}
}

// keepBytes bounds the buffer that a pool keeps: one row of huge cells must not
// stay in memory for the rest of the table.
const keepBytes = 4 * MaxBytes

// Pool lends batches. Its zero value is ready.
type Pool struct{ free sync.Pool }

// Get lends an empty batch for one reader.
func (p *Pool) Get() *Batch {
	b, ok := p.free.Get().(*Batch)
	if !ok {
		b = &Batch{pool: p}
	}
	b.Reset()
	b.refs.Store(1)
	return b
}

func (p *Pool) put(b *Batch) {
	if size := cap(b.text); size > keepBytes {
		b.text = nil
		Freed(size)
	}
	p.free.Put(b)
}
