package parquet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/datahq/specstore/internal/format"
)

// maxPage bounds a page without compression: a page is held in memory, and has room
// for one cell of the longest at least.
const maxPage = format.MaxCell + 1<<20

// headBytes are read to see a page's header; headers with long statistics are
// read again with more, up to maxHead.
const (
	headBytes = 512
	maxHead   = 16 << 20
)

// pageHead is a page's header.
type pageHead struct {
	kind                     int64
	size, packed             int64 // without and with compression
	values                   int64
	encoding                 int64
	defEncoding, repEncoding int64
	nulls, defSize, repSize  int64
	compressed               bool
	body                     int64 // where it begins in the file
}

// The kinds of pages.
const (
	pageData       = 0
	pageIndex      = 1
	pageDictionary = 2
	pageDataV2     = 3
)

// decompressor unpacks pages; it never gives more than the page's header says.
type decompressor struct {
	zstd *zstd.Decoder
	gzip *gzip.Reader
}

func (d *decompressor) close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
}

var errPage = errors.New("a page cannot be unpacked")

// unpack gives size bytes in dst.
func (d *decompressor) unpack(codec int64, dst, src []byte, size int) ([]byte, error) {
	if cap(dst) < size {
		dst = make([]byte, size)
	}
	dst = dst[:size]
	var err error
	n := 0
	switch codec {
	case 1:
		if n, err = snappy.DecodedLen(src); err == nil && n == size {
			_, err = snappy.Decode(dst, src)
		}
	case 2:
		if d.gzip == nil {
			d.gzip = new(gzip.Reader)
		}
		if err = d.gzip.Reset(bytes.NewReader(src)); err == nil {
			n, err = io.ReadFull(d.gzip, dst)
		}
	case 4:
		n, err = io.ReadFull(brotli.NewReader(bytes.NewReader(src)), dst)
	case 5:
		n, err = hadoopLZ4(dst, src)
	case 6:
		if d.zstd == nil {
			d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
			if err != nil {
				return nil, err
			}
		}
		var out []byte
		out, err = d.zstd.DecodeAll(src, dst[:0:size])
		n = len(out)
	case 7:
		n, err = lz4.UncompressBlock(src, dst)
	default:
		return nil, unsupported("the Parquet file is compressed with method %d, which is not supported; use ZSTD, SNAPPY or GZIP", codec)
	}
	if err != nil || n != size {
		return nil, errPage
	}
	return dst, nil
}

// hadoopLZ4 reads the deprecated codec LZ4: blocks with their sizes before them,
// or, of other writers, one bare block.
func hadoopLZ4(dst, src []byte) (int, error) {
	at, rest := 0, src
	for len(rest) >= 8 {
		size, packed := int(binary.BigEndian.Uint32(rest)), int(binary.BigEndian.Uint32(rest[4:]))
		if size > len(dst)-at || packed > len(rest)-8 {
			break
		}
		n, err := lz4.UncompressBlock(rest[8:8+packed], dst[at:at+size])
		if err != nil || n != size {
			break
		}
		at, rest = at+n, rest[8+packed:]
	}
	if len(rest) == 0 && at == len(dst) {
		return at, nil
	}
	return lz4.UncompressBlock(src, dst)
}

// cursor reads a column of a row group, value by value. It holds one page and the
// dictionary.
type cursor struct {
	file io.ReaderAt
	node *node
	d    *decompressor
	chunk
	pos  int64 // of the next page
	end  int64
	left int64 // values of the chunk that were not read yet

	packed []byte
	page   []byte
	dict   *dictionary
	def    levels
	rep    levels
	values decoder
	inPage int64 // values of the page that were not read yet

	seen     bool // a value was looked at and not taken
	seenDef  int
	seenRep  int
	seenFail error
}

func newCursor(file io.ReaderAt, n *node, c chunk, d *decompressor) *cursor {
	return &cursor{file: file, node: n, d: d, chunk: c, pos: c.start, end: c.start + c.size, left: c.values}
}

func (c *cursor) broken() error { return broken("a page of column %q cannot be read", c.node.name) }

// head reads the header of the next page; io.EOF at the end.
func (c *cursor) head() (h pageHead, err error) {
	if c.pos >= c.end {
		return h, io.EOF
	}
	for size := int64(headBytes); ; size *= 8 {
		buf := make([]byte, min(size, c.end-c.pos))
		if _, err := c.file.ReadAt(buf, c.pos); err != nil && err != io.EOF {
			return h, err
		}
		var n int
		h, n = readPageHead(buf)
		if n > 0 {
			h.body = c.pos + int64(n)
			break
		}
		if int64(len(buf)) < size || size >= maxHead {
			return h, c.broken()
		}
	}
	if h.size < 0 || h.packed < 0 || h.packed > c.end-h.body || h.values < 0 || h.nulls < 0 || h.nulls > h.values || h.defSize < 0 || h.repSize < 0 || h.defSize+h.repSize > min(h.size, h.packed) {
		return h, c.broken()
	}
	if h.size > maxPage || h.packed > maxPage {
		return h, unsupported("column %q has a page of %d bytes, more than the limit of %d; write smaller pages", c.node.name, max(h.size, h.packed), maxPage)
	}
	return h, nil
}

// readPageHead gives the length of the header as well; 0 where it cannot be read.
func readPageHead(buf []byte) (pageHead, int) {
	t := &thriftReader{buf: buf}
	h := pageHead{kind: -1, compressed: true}
	t.fields(thriftStruct, func(id int16, kind byte) {
		switch id {
		case 1:
			h.kind = t.integer(kind)
		case 2:
			h.size = t.integer(kind)
		case 3:
			h.packed = t.integer(kind)
		case 5, 7:
			t.fields(kind, func(id int16, kind byte) {
				switch id {
				case 1:
					h.values = t.integer(kind)
				case 2:
					h.encoding = t.integer(kind)
				case 3:
					if kind == thriftI32 {
						h.defEncoding = t.integer(kind)
					} else {
						t.skip(kind) // of a dictionary: whether it is sorted
					}
				case 4:
					h.repEncoding = t.integer(kind)
				default:
					t.skip(kind)
				}
			})
		case 8:
			t.fields(kind, func(id int16, kind byte) {
				switch id {
				case 1:
					h.values = t.integer(kind)
				case 2:
					h.nulls = t.integer(kind)
				case 4:
					h.encoding = t.integer(kind)
				case 5:
					h.defSize = t.integer(kind)
				case 6:
					h.repSize = t.integer(kind)
				case 7:
					h.compressed = t.boolean(kind)
				default:
					t.skip(kind)
				}
			})
		default:
			t.skip(kind)
		}
	})
	if t.failed {
		return h, 0
	}
	return h, t.pos
}

// weight is the memory that the pages of a column take at most, by their headers.
func (c *cursor) weight() (int64, error) {
	pos := c.pos
	defer func() { c.pos = pos }()
	var dict, most int64
	for {
		h, err := c.head()
		if err == io.EOF {
			return dict + most, nil
		}
		if err != nil {
			return 0, err
		}
		if h.kind == pageDictionary {
			dict += 2 * h.size
		} else {
			most = max(most, h.size+h.packed)
		}
		c.pos = h.body + h.packed
	}
}

// nextPage readies the next page with values.
func (c *cursor) nextPage() error {
	for {
		h, err := c.head()
		if err == io.EOF {
			return c.broken()
		}
		if err != nil {
			return err
		}
		c.pos = h.body + h.packed
		switch h.kind {
		case pageData, pageDataV2:
			if h.values == 0 {
				continue
			}
			if h.values > c.left {
				return c.broken()
			}
			c.inPage = h.values
			return c.open(h)
		case pageDictionary:
			if c.dict != nil {
				return c.broken()
			}
			page, err := c.read(h, nil)
			if err != nil {
				return err
			}
			var ok bool
			if c.dict, ok = newDictionary(c.node, page, int(h.values)); !ok {
				return c.broken()
			}
		case pageIndex:
		default:
			return c.broken()
		}
	}
}

// read gives a page's bytes unpacked, in dst where there is room. The levels of a
// page of version 2 are never compressed.
func (c *cursor) read(h pageHead, dst []byte) ([]byte, error) {
	if int64(cap(c.packed)) < h.packed {
		c.packed = make([]byte, h.packed)
	}
	packed := c.packed[:h.packed]
	if _, err := c.file.ReadAt(packed, h.body); err != nil && err != io.EOF {
		return nil, err
	}
	if c.codec == 0 || h.kind == pageDataV2 && !h.compressed {
		if h.size != h.packed {
			return nil, c.broken()
		}
		// The buffer is read into again only when the page was used up.
		if h.kind == pageDictionary {
			c.packed = nil
		}
		return packed, nil
	}
	levels := int(h.defSize + h.repSize)
	if int64(cap(dst)) < h.size {
		dst = make([]byte, h.size)
	}
	dst = dst[:h.size]
	copy(dst, packed[:levels])
	if len(dst) == levels {
		return dst, nil
	}
	_, err := c.d.unpack(c.codec, dst[levels:], packed[levels:], len(dst)-levels)
	if err == errPage {
		err = c.broken()
	}
	return dst, err
}

func (c *cursor) open(h pageHead) error {
	page, err := c.read(h, c.page)
	if err != nil {
		return err
	}
	if len(c.packed) == 0 || len(page) == 0 || &page[0] != &c.packed[:1][0] {
		c.page = page
	}
	var ok bool
	if h.kind == pageDataV2 {
		rep, rest := page[:h.repSize], page[h.repSize:]
		c.rep, c.def, page = levelRuns(rep, c.node.maxRep), levelRuns(rest[:h.defSize], c.node.maxDef), rest[h.defSize:]
	} else {
		if c.rep, page, ok = levelsV1(page, h.repEncoding, c.node.maxRep, h.values); !ok {
			return c.broken()
		}
		if c.def, page, ok = levelsV1(page, h.defEncoding, c.node.maxDef, h.values); !ok {
			return c.broken()
		}
	}
	if c.values, ok = newDecoder(c.node, h.encoding, page, c.dict); !ok {
		return c.broken()
	}
	return nil
}

func levelRuns(buf []byte, most int) levels {
	if most == 0 {
		return nil
	}
	return &runs{buf: buf, width: widthOf(most)}
}

func levelsV1(page []byte, encoding int64, most int, count int64) (levels, []byte, bool) {
	if most == 0 {
		return nil, page, true
	}
	if encoding == encBitPacked {
		size := (count*int64(widthOf(most)) + 7) / 8
		if size > int64(len(page)) {
			return nil, nil, false
		}
		return &packedLevels{buf: page[:size], width: widthOf(most)}, page[size:], true
	}
	if encoding != encRLE || len(page) < 4 {
		return nil, nil, false
	}
	size := binary.LittleEndian.Uint32(page)
	if uint64(size) > uint64(len(page)-4) {
		return nil, nil, false
	}
	return levelRuns(page[4:4+size], most), page[4+size:], true
}

// peek gives the levels of the next value. At the end of the column the repetition
// is 0, as before a new row.
func (c *cursor) peek() (def, rep int, err error) {
	if c.seen {
		return c.seenDef, c.seenRep, c.seenFail
	}
	c.seen = true
	c.seenDef, c.seenRep, c.seenFail = c.readLevels()
	return c.seenDef, c.seenRep, c.seenFail
}

func (c *cursor) readLevels() (def, rep int, err error) {
	if c.inPage == 0 {
		if c.left == 0 {
			return -1, 0, nil
		}
		if err := c.nextPage(); err != nil {
			return 0, 0, err
		}
	}
	if c.rep != nil {
		v, ok := c.rep.next()
		if !ok || int(v) > c.node.maxRep {
			return 0, 0, c.broken()
		}
		rep = int(v)
	}
	if c.def != nil {
		v, ok := c.def.next()
		if !ok || int(v) > c.node.maxDef {
			return 0, 0, c.broken()
		}
		def = int(v)
	}
	return def, rep, nil
}

// take gives the next value. null: there is none, for the level is lower than the
// column's.
func (c *cursor) take() (v value, null bool, err error) {
	def, _, err := c.peek()
	if err != nil {
		return v, false, err
	}
	if def < 0 {
		return v, false, broken("column %q has fewer values than rows", c.node.name)
	}
	c.seen = false
	c.inPage--
	c.left--
	if def < c.node.maxDef {
		return v, true, nil
	}
	v, ok := c.values.next()
	if !ok {
		return v, false, c.broken()
	}
	return v, false, nil
}
