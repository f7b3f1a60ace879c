package parquet

import (
	"encoding/binary"
	"math/bits"
)

// value is one of a column: a number's bits, or bytes that are valid until the next.
type value struct {
	bits  uint64
	bytes []byte
}

// decoder gives the values of a page. false: the page is damaged.
type decoder interface {
	next() (value, bool)
}

// runs decodes the hybrid of runs and packed bits (RLE).
type runs struct {
	buf    []byte
	width  int
	run    uint64 // left of a run
	value  uint32
	packed int // left of packed values
	bit    int // where the next of them begins
	bits   []byte
}

func newRuns(buf []byte, width int) (*runs, bool) {
	return &runs{buf: buf, width: width}, width <= 32
}

func (r *runs) next() (uint32, bool) {
	for {
		if r.run > 0 {
			r.run--
			return r.value, true
		}
		if r.packed > 0 {
			v, ok := unpack(r.bits, r.bit, r.width)
			r.bit += r.width
			r.packed--
			return uint32(v), ok
		}
		head, n := binary.Uvarint(r.buf)
		if n <= 0 {
			return 0, false
		}
		r.buf = r.buf[n:]
		if head&1 == 0 {
			size := (r.width + 7) / 8
			if len(r.buf) < size || head>>1 == 0 {
				return 0, false
			}
			r.run, r.value = head>>1, 0
			for i := range size {
				r.value |= uint32(r.buf[i]) << (8 * i)
			}
			r.buf = r.buf[size:]
			continue
		}
		// Eight values a group. Writers may cut the last group short.
		groups := head >> 1
		if groups == 0 || groups > 1<<28 {
			return 0, false
		}
		size := min(int(groups)*r.width, len(r.buf))
		if size == 0 && r.width > 0 {
			return 0, false
		}
		r.bits, r.bit, r.packed = r.buf[:size], 0, int(groups)*8
		r.buf = r.buf[size:]
	}
}

// unpack reads so many bits, from the lowest.
func unpack(b []byte, bit, width int) (uint64, bool) {
	if width == 0 {
		return 0, true
	}
	at := bit >> 3
	if at >= len(b) || bit+width > 8*len(b) {
		return 0, false
	}
	shift := bit & 7
	if at+8 <= len(b) {
		v := binary.LittleEndian.Uint64(b[at:]) >> shift
		if shift+width > 64 {
			v |= uint64(b[at+8]) << (64 - shift)
		}
		if width < 64 {
			v &= 1<<width - 1
		}
		return v, true
	}
	var v uint64
	for i := 0; i < width; {
		take := min(8-shift, width-i)
		v |= uint64(b[at]>>shift&(1<<take-1)) << i
		i += take
		shift = 0
		at++
	}
	return v, true
}

// packedLevels are levels in the order of the deprecated encoding BIT_PACKED: from
// the highest bit.
type packedLevels struct {
	buf        []byte
	bit, width int
}

func (p *packedLevels) next() (uint32, bool) {
	var v uint32
	for range p.width {
		at := p.bit >> 3
		if at >= len(p.buf) {
			return 0, false
		}
		v = v<<1 | uint32(p.buf[at]>>(7-p.bit&7)&1)
		p.bit++
	}
	return v, true
}

type levels interface{ next() (uint32, bool) }

func widthOf(most int) int { return bits.Len(uint(most)) }

// plain decodes values as they are.
type plain struct {
	buf   []byte
	kind  physical
	width int // of fixed ones
	bit   int
}

// fixedWidth is the length of a value; 0 where each has its own.
func fixedWidth(n *node) int {
	switch n.physical {
	case physInt32, physFloat:
		return 4
	case physInt64, physDouble:
		return 8
	case physInt96:
		return 12
	case physFixed:
		return n.length
	default: // of the others there is nothing to say
	}
	return 0
}

func newPlain(n *node, buf []byte) *plain {
	return &plain{buf: buf, kind: n.physical, width: fixedWidth(n)}
}

func (p *plain) next() (value, bool) {
	switch p.kind {
	case physBoolean:
		if p.bit>>3 >= len(p.buf) {
			return value{}, false
		}
		v := p.buf[p.bit>>3] >> (p.bit & 7) & 1
		p.bit++
		return value{bits: uint64(v)}, true
	case physBytes:
		if len(p.buf) < 4 {
			return value{}, false
		}
		n := binary.LittleEndian.Uint32(p.buf)
		if uint64(n) > uint64(len(p.buf)-4) {
			return value{}, false
		}
		v := p.buf[4 : 4+n]
		p.buf = p.buf[4+n:]
		return value{bytes: v}, true
	default: // of the others there is nothing to say
	}
	if len(p.buf) < p.width {
		return value{}, false
	}
	v := fixedValue(p.kind, p.buf[:p.width])
	p.buf = p.buf[p.width:]
	return v, true
}

func fixedValue(kind physical, b []byte) value {
	switch kind {
	case physInt32, physFloat:
		return value{bits: uint64(binary.LittleEndian.Uint32(b))}
	case physInt64, physDouble:
		return value{bits: binary.LittleEndian.Uint64(b)}
	default: // of the others there is nothing to say
	}
	return value{bytes: b}
}

// dictionary holds the distinct values of a column chunk, as they lie in its page.
type dictionary struct {
	buf     []byte
	kind    physical
	width   int
	count   int
	offsets []uint32 // where values without a fixed width begin
}

func newDictionary(n *node, buf []byte, count int) (*dictionary, bool) {
	d := &dictionary{buf: buf, kind: n.physical, width: fixedWidth(n), count: count}
	if n.physical == physBoolean {
		return nil, false
	}
	if d.width > 0 {
		return d, count <= len(buf)/d.width
	}
	if count > len(buf)/4 {
		return nil, false
	}
	d.offsets = make([]uint32, 0, count)
	at := 0
	for range count {
		if len(buf)-at < 4 {
			return nil, false
		}
		size := binary.LittleEndian.Uint32(buf[at:])
		if uint64(size) > uint64(len(buf)-at-4) {
			return nil, false
		}
		d.offsets = append(d.offsets, uint32(at))
		at += 4 + int(size)
	}
	return d, true
}

func (d *dictionary) at(i uint32) (value, bool) {
	if uint64(i) >= uint64(d.count) {
		return value{}, false
	}
	if d.width > 0 {
		at := int(i) * d.width
		return fixedValue(d.kind, d.buf[at:at+d.width]), true
	}
	at := int(d.offsets[i])
	size := int(binary.LittleEndian.Uint32(d.buf[at:]))
	return value{bytes: d.buf[at+4 : at+4+size]}, true
}

// indexed decodes references to a dictionary.
type indexed struct {
	runs *runs
	dict *dictionary
}

func (d *indexed) next() (value, bool) {
	i, ok := d.runs.next()
	if !ok {
		return value{}, false
	}
	return d.dict.at(i)
}

// booleans decodes booleans in runs.
type booleans struct{ runs *runs }

func (d *booleans) next() (value, bool) {
	v, ok := d.runs.next()
	return value{bits: uint64(v)}, ok
}

// deltas decodes DELTA_BINARY_PACKED.
type deltas struct {
	buf    []byte
	narrow bool // 32 bits

	block, minis int
	left         uint64
	last         int64
	started      bool

	least  int64
	widths []byte
	mini   int
	inMini int // left of the miniblock
	bits   []byte
	bit    int
	width  int
}

// maxDeltaBlock is far above what writers make (128 to 1024).
const maxDeltaBlock = 1 << 20

func newDeltas(buf []byte, narrow bool) (*deltas, bool) {
	d := &deltas{buf: buf, narrow: narrow}
	var head [4]uint64
	for i := range head {
		v, n := binary.Uvarint(d.buf)
		if n <= 0 {
			return nil, false
		}
		d.buf = d.buf[n:]
		head[i] = v
	}
	if head[0] == 0 || head[0] > maxDeltaBlock || head[1] == 0 || head[1] > head[0] || head[0]%head[1] != 0 || head[0]/head[1]%8 != 0 {
		return nil, false
	}
	d.block, d.minis = int(head[0]), int(head[1])
	d.left, d.last = head[2], zigzag(head[3])
	d.mini = d.minis
	return d, true
}

func (d *deltas) nextInt() (int64, bool) {
	if d.left == 0 {
		return 0, false
	}
	d.left--
	if !d.started {
		d.started = true
		return d.last, true
	}
	if d.inMini == 0 && !d.nextMini() {
		return 0, false
	}
	v, ok := unpack(d.bits, d.bit, d.width)
	if !ok {
		return 0, false
	}
	d.bit += d.width
	d.inMini--
	d.last += d.least + int64(v)
	if d.narrow {
		d.last = int64(int32(d.last))
	}
	return d.last, true
}

func (d *deltas) nextMini() bool {
	if d.mini == d.minis {
		least, n := binary.Uvarint(d.buf)
		if n <= 0 || len(d.buf)-n < d.minis {
			return false
		}
		d.least = zigzag(least)
		d.widths = d.buf[n : n+d.minis]
		d.buf = d.buf[n+d.minis:]
		d.mini = 0
	}
	d.width = int(d.widths[d.mini])
	d.mini++
	d.inMini = d.block / d.minis
	size := min(d.inMini/8*d.width, len(d.buf))
	if d.width > 64 {
		return false
	}
	d.bits, d.bit = d.buf[:size], 0
	d.buf = d.buf[size:]
	return true
}

func (d *deltas) next() (value, bool) {
	v, ok := d.nextInt()
	return value{bits: uint64(v)}, ok
}

// rest runs through a copy and gives the bytes that follow.
func (d *deltas) rest() ([]byte, bool) {
	c := *d
	for c.left > 0 {
		if _, ok := c.nextInt(); !ok {
			return nil, false
		}
	}
	return c.buf, true
}

// deltaLengths decodes DELTA_LENGTH_BYTE_ARRAY.
type deltaLengths struct {
	lengths *deltas
	buf     []byte
}

func newDeltaLengths(buf []byte) (*deltaLengths, bool) {
	lengths, ok := newDeltas(buf, true)
	if !ok {
		return nil, false
	}
	rest, ok := lengths.rest()
	return &deltaLengths{lengths, rest}, ok
}

func (d *deltaLengths) next() (value, bool) {
	n, ok := d.lengths.nextInt()
	if !ok || n < 0 || n > int64(len(d.buf)) {
		return value{}, false
	}
	v := d.buf[:n]
	d.buf = d.buf[n:]
	return value{bytes: v}, true
}

// deltaBytes decodes DELTA_BYTE_ARRAY: each value begins as the one before.
type deltaBytes struct {
	prefixes *deltas
	suffixes *deltaLengths
	last     []byte
	most     int
}

func newDeltaBytes(buf []byte, most int) (*deltaBytes, bool) {
	prefixes, ok := newDeltas(buf, true)
	if !ok {
		return nil, false
	}
	rest, ok := prefixes.rest()
	if !ok {
		return nil, false
	}
	suffixes, ok := newDeltaLengths(rest)
	return &deltaBytes{prefixes: prefixes, suffixes: suffixes, most: most}, ok
}

func (d *deltaBytes) next() (value, bool) {
	n, ok := d.prefixes.nextInt()
	suffix, ok2 := d.suffixes.next()
	if !ok || !ok2 || n < 0 || n > int64(len(d.last)) || int(n)+len(suffix.bytes) > d.most {
		return value{}, false
	}
	d.last = append(d.last[:n], suffix.bytes...)
	return value{bytes: d.last}, true
}

// split decodes BYTE_STREAM_SPLIT: the first bytes of all values, then the second.
type split struct {
	buf     []byte
	kind    physical
	width   int
	at      int
	count   int
	scratch []byte
}

func newSplit(n *node, buf []byte) (*split, bool) {
	width := fixedWidth(n)
	if width == 0 {
		return nil, false
	}
	return &split{buf: buf, kind: n.physical, width: width, count: len(buf) / width, scratch: make([]byte, width)}, true
}

func (d *split) next() (value, bool) {
	if d.at >= d.count {
		return value{}, false
	}
	for j := range d.scratch {
		d.scratch[j] = d.buf[j*d.count+d.at]
	}
	d.at++
	return fixedValue(d.kind, d.scratch), true
}

// The encodings, by their numbers in the format.
const (
	encPlain           = 0
	encPlainDictionary = 2
	encRLE             = 3
	encBitPacked       = 4
	encDelta           = 5
	encDeltaLength     = 6
	encDeltaBytes      = 7
	encDictionary      = 8
	encSplit           = 9
)

// newDecoder makes the decoder of a page's values. nil: the encoding is unknown or
// the page damaged.
func newDecoder(n *node, encoding int64, buf []byte, dict *dictionary) (decoder, bool) {
	integer := n.physical == physInt32 || n.physical == physInt64
	binaries := n.physical == physBytes || n.physical == physFixed
	switch {
	case encoding == encPlain:
		return newPlain(n, buf), true
	case encoding == encPlainDictionary || encoding == encDictionary:
		if dict == nil {
			return nil, false
		}
		if len(buf) == 0 { // a page of nulls
			return &indexed{&runs{}, dict}, true
		}
		r, ok := newRuns(buf[1:], int(buf[0]))
		return &indexed{r, dict}, ok
	case encoding == encRLE && n.physical == physBoolean:
		if len(buf) < 4 {
			return &booleans{&runs{}}, len(buf) == 0
		}
		size := binary.LittleEndian.Uint32(buf)
		if uint64(size) > uint64(len(buf)-4) {
			return nil, false
		}
		return &booleans{&runs{buf: buf[4 : 4+size], width: 1}}, true
	case encoding == encDelta && integer:
		if len(buf) == 0 {
			return newPlain(n, nil), true
		}
		d, ok := newDeltas(buf, n.physical == physInt32)
		return d, ok
	case encoding == encDeltaLength && n.physical == physBytes:
		if len(buf) == 0 {
			return newPlain(n, nil), true
		}
		d, ok := newDeltaLengths(buf)
		return d, ok
	case encoding == encDeltaBytes && binaries:
		if len(buf) == 0 {
			return newPlain(n, nil), true
		}
		d, ok := newDeltaBytes(buf, maxPage)
		return d, ok
	case encoding == encSplit:
		d, ok := newSplit(n, buf)
		return d, ok
	}
	return nil, false
}
