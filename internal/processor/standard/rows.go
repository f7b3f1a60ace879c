package standard

import (
	"encoding/binary"
	"iter"

	"github.com/datahq/specstore/internal/spill"
	"github.com/datahq/specstore/internal/stream"
)

// appendRow appends a row for readRow.
func appendRow(dst []byte, b *stream.Batch, r int) []byte {
	dst = binary.AppendUvarint(dst, uint64(b.Number(r)))
	for c := range b.Width(r) {
		dst = appendCell(dst, b.Kind(r, c), b.Cell(r, c))
	}
	return dst
}

func appendCell(dst []byte, k stream.Kind, text []byte) []byte {
	dst = binary.AppendUvarint(append(dst, byte(k)), uint64(len(text)))
	return append(dst, text...)
}

// nextCell takes a cell off the front of a row.
func nextCell(row []byte) (k stream.Kind, text, rest []byte) {
	k = stream.Kind(row[0])
	n, size := binary.Uvarint(row[1:])
	from := 1 + size
	return k, row[from : from+int(n)], row[from+int(n):]
}

// readCells appends the cells of a row.
func readCells(row []byte, out *stream.Batch) {
	for len(row) > 0 {
		var k stream.Kind
		var text []byte
		k, text, row = nextCell(row)
		out.AppendKind(k, text)
	}
}

// readRow appends a row that appendRow wrote.
func readRow(row []byte, out *stream.Batch) {
	number, n := binary.Uvarint(row)
	readCells(row[n:], out)
	out.EndRow(int64(number))
}

// batches gives rows that f appends, one for each record.
func batches(records iter.Seq2[spill.Record, error], f func(spill.Record, *stream.Batch) error) iter.Seq2[*stream.Batch, error] {
	return func(yield func(*stream.Batch, error) bool) {
		out := &stream.Batch{}
		for rec, err := range records {
			if err == nil {
				err = f(rec, out)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if out.Full() {
				if !yield(out, nil) {
					return
				}
				out.Reset()
			}
		}
		if out.Rows() > 0 {
			yield(out, nil)
		}
	}
}
