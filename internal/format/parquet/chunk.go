package parquet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// The numbers that the format has for encodings and the codec.
const (
	encodingPlain      = 0
	encodingRLE        = 3
	encodingDictionary = 8
	codecZSTD          = 6
)

// Bounds of a dictionary. One that grows beyond them is none: its column has too many
// values for it to help.
const (
	dictionaryBytes = 256 << 10
	dictionaryShare = 2 // of the values' bytes, the most that it may be
	mostStatistics  = 32
)

// chunkWriter is a column of a row group while it is written. Its memory is used again.
type chunkWriter struct {
	levels   []uint32 // of the page: 1 where there is a value
	indexes  []uint32 // of the page, into the dictionary
	values   []byte   // of the page, or of the dictionary
	page     []byte
	packed   []byte
	header   thriftWriter
	entries  map[string]uint32
	min, max []byte
	some     bool // there is a value
	bounded  bool // min and max hold
	nulls    int64
	unpacked int64 // bytes of the pages, with their headers
}

// writeChunk writes a column of the group, and its metadata. It gives the size of its
// pages before compression.
func (w *fileWriter) writeChunk(c int) (int64, error) {
	k := &w.chunk
	k.nulls, k.unpacked, k.some, k.bounded = 0, 0, false, true
	start := w.offset
	dictionary := w.plans[c].form == formString && w.gatherDictionary(c)
	if dictionary {
		if err := w.writePage(pageDictionary, len(k.entries), encodingPlain, k.values); err != nil {
			return 0, err
		}
	}
	data := w.offset
	for from := 0; from < w.group.Rows(); {
		n, err := w.gatherPage(c, from, dictionary)
		if err == nil {
			err = w.writeValues(c, n, dictionary)
		}
		if err != nil {
			return 0, err
		}
		from += n
	}
	w.chunkMetadata(c, start, data, dictionary)
	return k.unpacked, nil
}

// gatherDictionary finds the values of a column of texts, in the order in which they
// come. It is false where they are too many.
func (w *fileWriter) gatherDictionary(c int) bool {
	k := &w.chunk
	if k.entries == nil {
		k.entries = map[string]uint32{}
	}
	clear(k.entries)
	k.values = k.values[:0]
	total := 0
	for r := range w.group.Rows() {
		if w.group.Null(r, c) {
			continue
		}
		cell := w.group.Cell(r, c)
		total += len(cell) + 4
		if _, known := k.entries[string(cell)]; known {
			continue
		}
		if len(k.values)+len(cell) > dictionaryBytes {
			return false
		}
		k.entries[string(cell)] = uint32(len(k.entries))
		k.values = append(binary.LittleEndian.AppendUint32(k.values, uint32(len(cell))), cell...)
	}
	return len(k.values) > 0 && len(k.values)*dictionaryShare <= total
}

// gatherPage gathers the values of a page from a row on, and gives how many rows they
// are.
func (w *fileWriter) gatherPage(c, from int, dictionary bool) (rows int, err error) {
	k, p := &w.chunk, &w.plans[c]
	k.levels, k.indexes, k.values = k.levels[:0], k.indexes[:0], k.values[:0]
	r := from
	for ; r < w.group.Rows() && r-from < pageRows && len(k.values) < pageBytes; r++ {
		if w.group.Null(r, c) {
			k.levels = append(k.levels, 0)
			k.nulls++
			continue
		}
		k.levels = append(k.levels, 1)
		cell := w.group.Cell(r, c)
		if dictionary {
			k.indexes = append(k.indexes, k.entries[string(cell)])
			k.bound(p, cell)
			continue
		}
		at := len(k.values)
		var ok bool
		if k.values, ok = p.appendValue(k.values, cell); !ok {
			return 0, fmt.Errorf("parquet: row %d: the rows are not those that were measured", w.group.Number(r))
		}
		if p.physical() == physBytes {
			at += 4
		}
		k.bound(p, k.values[at:])
	}
	return r - from, nil
}

// bound notes a value for the least and the greatest of the column.
func (k *chunkWriter) bound(p *plan, value []byte) {
	if !k.bounded {
		return
	}
	if len(value) > mostStatistics {
		k.bounded = false
		return
	}
	first := !k.some
	k.some = true
	below, above := first, first
	switch p.physical() {
	case physInt32, physInt64:
		v := signed(value)
		below = below || v < signed(k.min)
		above = above || v > signed(k.max)
	case physDouble:
		v := math.Float64frombits(binary.LittleEndian.Uint64(value))
		if math.IsNaN(v) || v == 0 { // NaN has no place in the order, and zero two forms
			k.bounded = false
			return
		}
		below = below || v < math.Float64frombits(binary.LittleEndian.Uint64(k.min))
		above = above || v > math.Float64frombits(binary.LittleEndian.Uint64(k.max))
	case physBytes:
		below = below || bytes.Compare(value, k.min) < 0
		above = above || bytes.Compare(value, k.max) > 0
	default: // of booleans and long decimals they are of no use
		k.bounded = false
		return
	}
	if below {
		k.min = append(k.min[:0], value...)
	}
	if above {
		k.max = append(k.max[:0], value...)
	}
}

func signed(b []byte) int64 {
	if len(b) == 4 {
		return int64(int32(binary.LittleEndian.Uint32(b)))
	}
	return int64(binary.LittleEndian.Uint64(b))
}

// writeValues writes the gathered values as a data page (version 1): levels with
// their length, then the values.
func (w *fileWriter) writeValues(c, rows int, dictionary bool) error {
	k := &w.chunk
	k.page = append(k.page[:0], 0, 0, 0, 0)
	k.page = appendRuns(k.page, k.levels, 1)
	binary.LittleEndian.PutUint32(k.page, uint32(len(k.page)-4))
	encoding := int64(encodingPlain)
	switch {
	case dictionary:
		encoding = encodingDictionary
		width := max(bits.Len(uint(len(k.entries)-1)), 1)
		k.page = appendRuns(append(k.page, byte(width)), k.indexes, width)
	case w.plans[c].form == formBoolean:
		k.page = appendBits(k.page, k.values)
	default:
		k.page = append(k.page, k.values...)
	}
	return w.writePage(pageData, rows, encoding, k.page)
}

// writePage writes a page behind its header.
func (w *fileWriter) writePage(kind int64, values int, encoding int64, body []byte) error {
	k := &w.chunk
	k.packed = w.encoder.EncodeAll(body, k.packed[:0])
	k.header.pageHeader(kind, values, encoding, len(body), len(k.packed))
	k.unpacked += int64(len(k.header.buf) + len(body))
	if err := w.write(k.header.buf); err != nil {
		return err
	}
	return w.write(k.packed)
}

// appendRuns appends numbers of a width in the hybrid of runs and packed bits: what
// repeats eight times is a run, the rest is packed in eights.
func appendRuns(dst []byte, v []uint32, width int) []byte {
	for i := 0; i < len(v); {
		if n := repeats(v[i:], len(v)); n >= 8 {
			dst = binary.AppendUvarint(dst, uint64(n)<<1)
			for b := 0; b < width; b += 8 {
				dst = append(dst, byte(v[i]>>b))
			}
			i += n
			continue
		}
		from := i
		for i < len(v) && repeats(v[i:], 8) < 8 {
			i += 8
		}
		dst = binary.AppendUvarint(dst, uint64(i-from)/8<<1|1)
		held, n := uint64(0), 0
		for j := from; j < i; j++ {
			if j < len(v) {
				held |= uint64(v[j]) << n
			}
			for n += width; n >= 8; n -= 8 {
				dst = append(dst, byte(held))
				held >>= 8
			}
		}
	}
	return dst
}

// repeats is how often the first number is repeated, as far as asked for.
func repeats(v []uint32, most int) int {
	n := 1
	for n < min(len(v), most) && v[n] == v[0] {
		n++
	}
	return n
}

// appendBits packs booleans.
func appendBits(dst, values []byte) []byte {
	for i, v := range values {
		if i%8 == 0 {
			dst = append(dst, 0)
		}
		dst[len(dst)-1] |= v << (i % 8)
	}
	return dst
}
