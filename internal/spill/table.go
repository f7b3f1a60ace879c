package spill

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/datahq/specstore/internal/stream"
)

// Table is a table in a temporary file. It is written once, and then read from its
// first row as often as is needed.
type Table struct {
	file *os.File
	w    *bufio.Writer
	e    *stream.Encoder
	size int64
	rows int64
}

const tableBuffer = 256 << 10

// NewTable makes an empty table in a file in dir. [Table.Close] removes it.
func NewTable(dir string) (*Table, error) {
	f, err := os.CreateTemp(dir, "rows-") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("spill: %w", err)
	}
	os.Remove(f.Name()) // where the system allows it, nothing stays behind after a crash
	w := bufio.NewWriterSize(f, tableBuffer)
	return &Table{file: f, w: w, e: stream.NewEncoder(w)}, nil
}

// WriteBatch appends the rows of a batch. It keeps none of it.
func (t *Table) WriteBatch(b *stream.Batch) error {
	n, err := t.e.Encode(b)
	t.size += n
	t.rows += int64(b.Rows())
	if err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	return nil
}

// Len is the number of rows.
func (t *Table) Len() int64 { return t.rows }

// Rows gives the batches from the first. A batch is valid until the next one; an
// error is the last item. Nothing may be written after the first call.
func (t *Table) Rows() iter.Seq2[*stream.Batch, error] {
	return func(yield func(*stream.Batch, error) bool) {
		if err := t.w.Flush(); err != nil {
			yield(nil, fmt.Errorf("spill: %w", err))
			return
		}
		r := bufio.NewReaderSize(io.NewSectionReader(t.file, 0, t.size), tableBuffer)
		d, b := stream.NewDecoder(r), &stream.Batch{}
		for {
			err := d.Decode(b)
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("spill: %w", err))
				return
			}
			if !yield(b, nil) {
				return
			}
		}
	}
}

// Close frees the disk. It may be called twice, and on nil.
func (t *Table) Close() {
	if t == nil || t.file == nil {
		return
	}
	t.file.Close()
	os.Remove(t.file.Name())
	t.file = nil
}
