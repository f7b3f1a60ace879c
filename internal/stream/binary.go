package stream

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A batch in a file is the numbers of its rows, cells and bytes of text (32 bits,
// little endian), the arrays as they are in memory, and the text. The form is for
// temporary files of one process: it has no version.

const headerBytes = 12

// WriteTo writes the batch for [Batch.ReadFrom].
func (b *Batch) WriteTo(w io.Writer) (int64, error) {
	size := headerBytes + 4*len(b.ends) + len(b.kinds) + 12*len(b.rowEnds)
	head := make([]byte, 0, size)
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
	n, err := w.Write(head)
	if err != nil {
		return int64(n), err
	}
	m, err := w.Write(b.text)
	return int64(n) + int64(m), err
}

// ReadFrom fills the batch with the next one of a file that [Batch.WriteTo] wrote.
// At the end of the file it gives io.EOF.
func (b *Batch) ReadFrom(r io.Reader) (int64, error) {
	b.Reset()
	var head [headerBytes]byte
	if n, err := io.ReadFull(r, head[:]); err != nil {
		return int64(n), err
	}
	rows := int(binary.LittleEndian.Uint32(head[0:]))
	cells := int(binary.LittleEndian.Uint32(head[4:]))
	text := int(binary.LittleEndian.Uint32(head[8:]))
	arrays := make([]byte, 5*cells+12*rows)
	b.text = append(b.text, make([]byte, text)...)
	for _, part := range [][]byte{arrays, b.text} {
		if _, err := io.ReadFull(r, part); err != nil {
			return 0, fmt.Errorf("stream: a batch broke off: %w", noEOF(err))
		}
	}
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
	return int64(headerBytes + 5*cells + 12*rows + text), nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
