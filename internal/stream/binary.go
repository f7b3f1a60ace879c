package stream

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// A batch in a file is the numbers of its rows, cells and bytes of text (32 bits,
// little endian), the arrays as they are in memory, and the text. The form is for
// temporary files of one process: it has no version.

const headerBytes = 12

// Encoder writes batches for a [Decoder]. It is for one goroutine; the batches may be
// shared.
type Encoder struct {
	w       io.Writer
	scratch []byte
}

// NewEncoder writes batches to w.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{w: w} }

// Encode writes a batch, and gives how many bytes were written.
func (e *Encoder) Encode(b *Batch) (int64, error) {
	head := slices.Grow(e.scratch[:0], headerBytes+5*len(b.ends)+12*len(b.rowEnds))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(b.rowEnds)))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(b.ends)))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(b.text)))
	for _, end := range b.ends {
		head = binary.LittleEndian.AppendUint32(head, end)
	}
	for _, k := range b.kinds {
		head = append(head, byte(k))
	}
	for _, end := range b.rowEnds {
		head = binary.LittleEndian.AppendUint32(head, end)
	}
	for _, n := range b.numbers {
		head = binary.LittleEndian.AppendUint64(head, uint64(n))
	}
	e.scratch = head
	n, err := e.w.Write(head)
	if err != nil {
		return int64(n), err
	}
	m, err := e.w.Write(b.text)
	return int64(n) + int64(m), err
}

// Decoder reads the batches that an [Encoder] wrote.
type Decoder struct {
	r       io.Reader
	scratch []byte
}

// NewDecoder reads batches from r.
func NewDecoder(r io.Reader) *Decoder { return &Decoder{r: r} }

// Decode fills a batch with the next one. The end is io.EOF.
func (d *Decoder) Decode(b *Batch) error {
	b.Reset()
	var head [headerBytes]byte
	if _, err := io.ReadFull(d.r, head[:]); err != nil {
		return err
	}
	rows := int(binary.LittleEndian.Uint32(head[0:]))
	cells := int(binary.LittleEndian.Uint32(head[4:]))
	text := int(binary.LittleEndian.Uint32(head[8:]))
	if cap(b.text) > max(text, keepBytes) { // of a row of huge cells
		b.text = nil
	}
	size := 5*cells + 12*rows
	d.scratch = slices.Grow(d.scratch[:0], size)[:size]
	b.text = slices.Grow(b.text, text)[:text]
	arrays := d.scratch
	for _, part := range [][]byte{arrays, b.text} {
		if _, err := io.ReadFull(d.r, part); err != nil {
			b.Reset()
			return fmt.Errorf("stream: a batch broke off: %w", noEOF(err))
		}
	}
	b.ends, b.kinds = slices.Grow(b.ends, cells), slices.Grow(b.kinds, cells)
	b.rowEnds, b.numbers = slices.Grow(b.rowEnds, rows), slices.Grow(b.numbers, rows)
	for range cells {
		b.ends = append(b.ends, binary.LittleEndian.Uint32(arrays))
		arrays = arrays[4:]
	}
	for range cells {
		b.kinds = append(b.kinds, Kind(arrays[0]))
		arrays = arrays[1:]
	}
	for range rows {
		b.rowEnds = append(b.rowEnds, binary.LittleEndian.Uint32(arrays))
		arrays = arrays[4:]
	}
	for range rows {
		b.numbers = append(b.numbers, int64(binary.LittleEndian.Uint64(arrays)))
		arrays = arrays[8:]
	}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
