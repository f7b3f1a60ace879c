package csv

import (
	"io"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/stream"
)

// Canonical is the dialect object of the files that [Writer] writes.
func Canonical() map[string]any {
	return map[string]any{"delimiter": ",", "doubleQuote": true, "lineTerminator": "\r\n", "quoteChar": `"`, "skipInitialSpace": false}
}

// Writer writes the published form: UTF-8 without a mark, CR LF after every row,
// commas, quotes only where a cell needs them and doubled inside (RFC 4180). A
// null is an empty cell. A row of one empty cell is written as two quotes, so
// that it is not an empty line. What [Reader] would take for something else
// outside quotes is quoted too: a NUL byte, and a mark at the beginning.
type Writer struct {
	w   io.Writer
	buf []byte
}

const (
	writeBytes = 64 << 10
	keepBytes  = 1 << 20
)

// NewWriter prepares a writer; [Writer.Close] must be called at the end.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, buf: make([]byte, 0, writeBytes+4096)}
}

// WriteHeader writes a row of labels.
func (w *Writer) WriteHeader(labels []string) error {
	for i, label := range labels {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		if i == 0 && strings.HasPrefix(label, "\uFEFF") {
			w.buf = appendQuoted(w.buf, []byte(label))
			continue
		}
		w.buf = appendCell(w.buf, []byte(label))
	}
	if len(labels) == 1 && labels[0] == "" {
		w.buf = append(w.buf, '"', '"')
	}
	w.buf = append(w.buf, '\r', '\n')
	return w.spill()
}

// WriteBatch writes the rows of a batch.
func (w *Writer) WriteBatch(b *stream.Batch) error {
	for r := range b.Rows() {
		width := b.Width(r)
		if width == 1 && len(b.Cell(r, 0)) == 0 {
			w.buf = append(w.buf, "\"\"\r\n"...)
			if len(w.buf) >= writeBytes {
				if err := w.Close(); err != nil {
					return err
				}
			}
			continue
		}
		for c := range width {
			if c > 0 {
				w.buf = append(w.buf, ',')
			}
			cell := b.Cell(r, c)
			if len(cell) >= writeBytes {
				if err := w.writeLarge(cell); err != nil {
					return err
				}
				continue
			}
			w.buf = appendCell(w.buf, cell)
		}
		w.buf = append(w.buf, '\r', '\n')
		if err := w.spill(); err != nil {
			return err
		}
	}
	return nil
}

// writeLarge writes a cell in pieces, so that it is not in memory twice.
func (w *Writer) writeLarge(cell []byte) error {
	if !slices.ContainsFunc(cell, func(c byte) bool { return special[c] }) {
		if err := w.Close(); err != nil {
			return err
		}
		_, err := w.w.Write(cell)
		return err
	}
	w.buf = append(w.buf, '"')
	for piece := range slices.Chunk(cell, writeBytes) {
		for _, c := range piece {
			if c == '"' {
				w.buf = append(w.buf, '"')
			}
			w.buf = append(w.buf, c)
		}
		if err := w.spill(); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, '"')
	return nil
}

// Close writes what is left. It does not close the underlying writer.
func (w *Writer) Close() error {
	_, err := w.w.Write(w.buf)
	if cap(w.buf) > keepBytes { // one huge cell must not stay in memory
		w.buf = make([]byte, 0, writeBytes+4096)
	}
	w.buf = w.buf[:0]
	return err
}

func (w *Writer) spill() error {
	if len(w.buf) < writeBytes {
		return nil
	}
	return w.Close()
}

// special are the bytes that a cell outside quotes cannot hold.
var special = [256]bool{',': true, '"': true, '\n': true, '\r': true, 0: true}

func appendCell(dst, cell []byte) []byte {
	for _, c := range cell {
		if special[c] {
			return appendQuoted(dst, cell)
		}
	}
	return append(dst, cell...)
}

func appendQuoted(dst, cell []byte) []byte {
	dst = append(dst, '"')
	for _, c := range cell {
		if c == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
