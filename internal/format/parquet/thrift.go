package parquet

import (
	"encoding/binary"
)

// The types of the compact protocol of Thrift, in which the metadata is written.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
)

// thriftReader reads the compact protocol. It takes nothing on trust: what a list
// or a text claims to hold is never allocated before it was seen. After a failure
// every call fails.
type thriftReader struct {
	buf    []byte
	pos    int
	depth  int
	failed bool
}

// maxThriftDepth is far more than the format nests.
const maxThriftDepth = 24

func (t *thriftReader) fail() { t.failed = true }

func (t *thriftReader) byte() byte {
	if t.failed || t.pos >= len(t.buf) {
		t.fail()
		return 0
	}
	b := t.buf[t.pos]
	t.pos++
	return b
}

func (t *thriftReader) uvarint() uint64 {
	if t.failed {
		return 0
	}
	v, n := binary.Uvarint(t.buf[t.pos:])
	if n <= 0 {
		t.fail()
		return 0
	}
	t.pos += n
	return v
}

func zigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// integer reads a number of any width.
func (t *thriftReader) integer(kind byte) int64 {
	switch kind {
	case thriftByte:
		return int64(int8(t.byte()))
	case thriftI16, thriftI32, thriftI64:
		return zigzag(t.uvarint())
	}
	t.fail()
	return 0
}

// boolean is told by the type of its field.
func (t *thriftReader) boolean(kind byte) bool {
	if kind != thriftTrue && kind != thriftFalse {
		t.fail()
	}
	return kind == thriftTrue
}

// binary gives bytes that lie in the buffer.
func (t *thriftReader) binary(kind byte) []byte {
	n := t.uvarint()
	if kind != thriftBinary || n > uint64(len(t.buf)-t.pos) {
		t.fail()
	}
	if t.failed {
		return nil
	}
	b := t.buf[t.pos : t.pos+int(n)]
	t.pos += int(n)
	return b
}

// fields reads a structure; field reads or skips each value.
func (t *thriftReader) fields(kind byte, field func(id int16, kind byte)) {
	if t.depth++; kind != thriftStruct || t.depth > maxThriftDepth {
		t.fail()
	}
	id := int16(0)
	for !t.failed {
		head := t.byte()
		if head == 0 {
			break
		}
		if delta := head >> 4; delta != 0 {
			id += int16(delta)
		} else {
			id = int16(zigzag(t.uvarint()))
		}
		field(id, head&15)
	}
	t.depth--
}

// list reads a list; item reads each value, and stops it with false.
func (t *thriftReader) list(kind byte, item func(kind byte) bool) {
	if t.depth++; kind != thriftList && kind != thriftSet || t.depth > maxThriftDepth {
		t.fail()
	}
	head := t.byte()
	n := uint64(head >> 4)
	if n == 15 {
		n = t.uvarint()
	}
	// An item has a byte at least.
	if n > uint64(len(t.buf)-t.pos) {
		t.fail()
	}
	for i := uint64(0); i < n && !t.failed; i++ {
		if !item(head & 15) {
			break
		}
	}
	t.depth--
}

// skip passes over a value.
func (t *thriftReader) skip(kind byte) { t.skipValue(kind, false) }

func (t *thriftReader) skipValue(kind byte, item bool) {
	switch kind {
	case thriftTrue, thriftFalse:
		if item {
			t.byte()
		}
	case thriftByte:
		t.byte()
	case thriftI16, thriftI32, thriftI64:
		t.uvarint()
	case thriftDouble:
		for range 8 {
			t.byte()
		}
	case thriftBinary:
		t.binary(kind)
	case thriftList, thriftSet:
		t.list(kind, func(kind byte) bool { t.skipValue(kind, true); return true })
	case thriftMap:
		if t.depth++; t.depth > maxThriftDepth {
			t.fail()
		}
		if n := t.uvarint(); n > 0 {
			kinds := t.byte()
			for i := uint64(0); i < n && !t.failed; i++ {
				t.skipValue(kinds>>4, true)
				t.skipValue(kinds&15, true)
			}
		}
		t.depth--
	case thriftStruct:
		t.fields(kind, func(_ int16, kind byte) { t.skip(kind) })
	default:
		t.fail()
	}
}

// thriftWriter writes the compact protocol. Its zero value is ready for a value that
// stands in a list; reset begins a structure that stands alone.
type thriftWriter struct {
	buf   []byte
	last  int16   // field of the open structure
	outer []int16 // of those round it
}

// reset begins a structure anew.
func (t *thriftWriter) reset() {
	t.buf, t.outer = t.buf[:0], t.outer[:0]
	t.open()
}

// open begins a structure that is an item of a list.
func (t *thriftWriter) open() {
	t.outer = append(t.outer, t.last)
	t.last = 0
}

// begin begins a structure that is a field; close ends either.
func (t *thriftWriter) begin(id int16) {
	t.field(id, thriftStruct)
	t.open()
}

func (t *thriftWriter) close() {
	t.buf = append(t.buf, 0)
	t.last = t.outer[len(t.outer)-1]
	t.outer = t.outer[:len(t.outer)-1]
}

// field begins a field. They come in the order of their numbers, which are small.
func (t *thriftWriter) field(id int16, kind byte) {
	t.buf = append(t.buf, byte(id-t.last)<<4|kind)
	t.last = id
}

func (t *thriftWriter) varint(n int64) { t.buf = binary.AppendVarint(t.buf, n) }

func (t *thriftWriter) i32(id int16, n int64) {
	t.field(id, thriftI32)
	t.varint(n)
}

func (t *thriftWriter) i64(id int16, n int64) {
	t.field(id, thriftI64)
	t.varint(n)
}

func (t *thriftWriter) int8(id int16, n byte) {
	t.field(id, thriftByte)
	t.buf = append(t.buf, n)
}

func (t *thriftWriter) boolean(id int16, v bool) {
	if v {
		t.field(id, thriftTrue)
	} else {
		t.field(id, thriftFalse)
	}
}

func (t *thriftWriter) binary(id int16, b []byte) {
	t.field(id, thriftBinary)
	t.text(string(b))
}

// text writes a text that is an item of a list.
func (t *thriftWriter) text(s string) {
	t.buf = binary.AppendUvarint(t.buf, uint64(len(s)))
	t.buf = append(t.buf, s...)
}

// list begins a list, whose items follow.
func (t *thriftWriter) list(id int16, kind byte, n int) {
	t.field(id, thriftList)
	if n < 15 {
		t.buf = append(t.buf, byte(n)<<4|kind)
		return
	}
	t.buf = append(t.buf, 15<<4|kind)
	t.buf = binary.AppendUvarint(t.buf, uint64(n))
}
