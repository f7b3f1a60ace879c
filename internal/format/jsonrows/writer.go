// Package jsonrows reads and writes tables as JSON.
//
// What is written is one array, an object a row, a row a line. Keys stand in the
// order of the fields and no row is held back, so that a file of any length can be
// written, and read line by line. What is read is what people have: see [Reader].
// Both keep memory bounded by the longest row, not by the file.
package jsonrows

import (
	"io"
	"slices"

	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// Writer writes one array of objects in UTF-8.
type Writer struct {
	w      io.Writer
	keys   [][]byte
	values []func(dst, text []byte) []byte
	buf    []byte
	rows   int64
}

const (
	writeBytes = 64 << 10
	keepBytes  = 1 << 20
)

// NewWriter prepares a writer of rows with the given fields. values append the
// text of a cell as a JSON value, as a string where they are nil; a null cell is null
// whatever they would say.
func NewWriter(w io.Writer, names []string, values []func(dst, text []byte) []byte) *Writer {
	jw := &Writer{w: w, values: values, buf: make([]byte, 0, writeBytes+4096)}
	for i, name := range names {
		key := []byte{'{'}
		if i > 0 {
			key = []byte{',', ' '}
		}
		jw.keys = append(jw.keys, append(tableschema.AppendJSONString(key, []byte(name)), ':', ' '))
	}
	jw.buf = append(jw.buf, '[')
	return jw
}

// WriteBatch writes the rows of a batch; each has a cell for every field.
func (w *Writer) WriteBatch(b *stream.Batch) error {
	for r := range b.Rows() {
		if w.rows > 0 {
			w.buf = append(w.buf, ',')
		}
		w.buf = append(w.buf, '\n')
		w.rows++
		for c, key := range w.keys {
			w.buf = append(w.buf, key...)
			switch {
			case b.Null(r, c):
				w.buf = append(w.buf, "null"...)
			case w.values[c] != nil:
				w.buf = w.values[c](w.buf, b.Cell(r, c))
			default:
				if err := w.text(b.Cell(r, c)); err != nil {
					return err
				}
			}
		}
		if len(w.keys) == 0 {
			w.buf = append(w.buf, '{')
		}
		w.buf = append(w.buf, '}')
		if len(w.buf) >= writeBytes {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// text writes a string, a large one in pieces, so that it is not in memory twice.
func (w *Writer) text(cell []byte) error {
	if len(cell) < writeBytes {
		w.buf = tableschema.AppendJSONString(w.buf, cell)
		return nil
	}
	w.buf = append(w.buf, '"')
	for piece := range slices.Chunk(cell, writeBytes) {
		at := len(w.buf)
		w.buf = tableschema.AppendJSONString(w.buf, piece)
		w.buf = append(w.buf[:at], w.buf[at+1:len(w.buf)-1]...) // without its quotes
		if len(w.buf) >= writeBytes {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	w.buf = append(w.buf, '"')
	return nil
}

// Close ends the array and writes what is left. It does not close the underlying
// writer.
func (w *Writer) Close() error {
	if w.rows > 0 {
		w.buf = append(w.buf, '\n')
	}
	w.buf = append(w.buf, ']', '\n')
	return w.flush()
}

func (w *Writer) flush() error {
	_, err := w.w.Write(w.buf)
	if cap(w.buf) > keepBytes { // one huge cell must not stay in memory
		w.buf = make([]byte, 0, writeBytes+4096)
	}
	w.buf = w.buf[:0]
	return err
}
