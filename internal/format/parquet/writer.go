package parquet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"reflect"
	"strconv"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

const (
	// groupBytes bounds a row group before compression. It is held in memory
	// compressed, and its dictionaries beside it.
	groupBytes = 8 << 20
	// pageBudget of all columns is parted among them.
	writePages          = 8 << 20
	leastPage, mostPage = 512, 128 << 10
	// Rows are held back, with valueBytes a cell, and handed on column by column.
	pendingRows     = 4096
	pendingBytes    = 2 << 20
	valueBytes      = 24
	createdBy       = "specstore version 1"
	dictionaryShare = 4 // of a page's size times so many
	wideColumns     = 128
)

// maxWritten bounds the columns of a file that is written: each holds buffers of its own.
const maxWritten = 2000

// Write writes a table as one Parquet file. rows is called twice: the first time to
// see which values columns hold, for the types that keep each of them exactly. The
// cells are in the default form of their type. The notes say what is kept otherwise
// than the schema says.
//
// Integers are INT64, or DECIMAL where they are larger; numbers DECIMAL where 38
// digits hold them all, else DOUBLE where that loses nothing; what fits none is
// text. All columns may have nulls.
func Write(ctx context.Context, w io.Writer, schema *tableschema.Schema, rows func() iter.Seq2[*stream.Batch, error]) (notes []string, err error) {
	if len(schema.Fields) == 0 {
		return nil, errs.New(errs.Invalid, "parquet.Write", "a Parquet file needs a column")
	}
	if len(schema.Fields) > maxWritten {
		return nil, errs.New(errs.Invalid, "parquet.Write", "a Parquet file is written with at most %d columns, and this table has %d", maxWritten, len(schema.Fields))
	}
	measures := make([]measure, len(schema.Fields))
	for i, f := range schema.Fields {
		measures[i].fieldType = f.Type
	}
	for b, err := range rows() {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return nil, err
		}
		for c := range measures {
			for r := range b.Rows() {
				if !b.Null(r, c) {
					measures[c].see(b.Cell(r, c))
				}
			}
		}
	}
	fw := newFileWriter(w, schema, measures)
	for b, err := range rows() {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = fw.writeBatch(b)
		}
		if err != nil {
			return nil, err
		}
	}
	return fw.notes, fw.close()
}

// fileWriter cuts pages and row groups by rows and bytes alone, so that the file is
// the same however the rows come in batches.
type fileWriter struct {
	w       *parquet.Writer //nolint:staticcheck // the other writers want a Go type of the rows, which are known at run time only
	out     []*parquet.ColumnWriter
	plans   []plan
	notes   []string
	pending [][]parquet.Value
	arena   []byte // of the values' bytes
	rows    int    // pending
	bytes   int    // pending
	text    int    // of them, the cells'
	group   int    // bytes of the row group
}

func newFileWriter(w io.Writer, schema *tableschema.Schema, measures []measure) *fileWriter {
	fw := &fileWriter{plans: make([]plan, len(measures)), pending: make([][]parquet.Value, len(measures))}
	dictionaries := len(measures) <= wideColumns
	root := &ordered{}
	page := max(leastPage, min(mostPage, writePages/len(measures)))
	for i, f := range schema.Fields {
		p := measures[i].plan(f.Name)
		fw.plans[i] = p
		if p.note != "" {
			fw.notes = append(fw.notes, p.note)
		}
		node := p.node()
		if p.form == formString && dictionaries {
			node = parquet.Encoded(node, &parquet.RLEDictionary)
		}
		root.fields = append(root.fields, &field{parquet.Optional(node), f.Name})
	}
	fw.w = parquet.NewWriter(w, &parquet.WriterConfig{
		CreatedBy:          createdBy,
		Schema:             parquet.NewSchema("schema", root),
		Compression:        &zstdCodec{},
		PageBufferSize:     page,
		WriteBufferSize:    64 << 10,
		DataPageVersion:    1,
		MaxRowsPerRowGroup: math.MaxInt64,
		DictionaryMaxBytes: int64(page) * dictionaryShare,
		ColumnPageBuffers:  parquet.NewBufferPool(),
	})
	fw.out = fw.w.ColumnWriters()
	return fw
}

// ordered is a group whose fields keep their order.
type ordered struct {
	parquet.Group
	fields []parquet.Field
}

// Fields gives the fields in their order.
func (o *ordered) Fields() []parquet.Field { return o.fields }

// GoType is not used: no Go value is written as a row.
func (o *ordered) GoType() reflect.Type { return reflect.TypeFor[map[string]any]() }

type field struct {
	parquet.Node
	name string
}

// Name is the field's name, as it is.
func (f *field) Name() string { return f.name }

// Value is not used: no Go value is written as a row.
func (f *field) Value(base reflect.Value) reflect.Value { return base }

func (p plan) node() parquet.Node {
	switch p.form {
	case formJSON:
		return parquet.JSON()
	case formBoolean:
		return parquet.Leaf(parquet.BooleanType)
	case formInt32:
		return parquet.Leaf(parquet.Int32Type)
	case formInt64:
		return parquet.Leaf(parquet.Int64Type)
	case formDouble:
		return parquet.Leaf(parquet.DoubleType)
	case formDate:
		return parquet.Date()
	case formTime:
		return parquet.TimeAdjusted(p.unit(), false)
	case formTimestamp:
		return parquet.TimestampAdjusted(p.unit(), p.adjusted)
	case formDecimal:
		switch {
		case p.precision <= 9:
			return parquet.Decimal(p.scale, p.precision, parquet.Int32Type)
		case p.precision <= 18:
			return parquet.Decimal(p.scale, p.precision, parquet.Int64Type)
		}
		return parquet.Decimal(p.scale, p.precision, parquet.FixedLenByteArrayType(decimalBytes(p.precision)))
	default: // of the others there is nothing to say
	}
	return parquet.String()
}

func (p plan) unit() parquet.TimeUnit {
	if p.nanos {
		return parquet.Nanosecond
	}
	return parquet.Microsecond
}

func (w *fileWriter) writeBatch(b *stream.Batch) error {
	for r := range b.Rows() {
		for c := range w.plans {
			v := parquet.NullValue()
			size := valueBytes
			level := 0
			if !b.Null(r, c) {
				cell := b.Cell(r, c)
				var ok bool
				if v, ok = w.value(&w.plans[c], cell); !ok {
					return fmt.Errorf("parquet: row %d: the rows are not those that were measured", b.Number(r))
				}
				size += len(cell)
				w.text += len(cell)
				level = 1
			}
			w.bytes += size
			w.pending[c] = append(w.pending[c], v.Level(0, level, c))
		}
		w.rows++
		if w.rows == pendingRows || w.bytes >= pendingBytes {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush hands on the pending rows, and ends the row group where it is full.
func (w *fileWriter) flush() error {
	for c, values := range w.pending {
		if _, err := w.out[c].WriteRowValues(values); err != nil {
			return fmt.Errorf("parquet: %w", err)
		}
		clear(values)
		w.pending[c] = values[:0]
	}
	if w.arena = w.arena[:0]; cap(w.arena) > 2*pendingBytes {
		w.arena = nil
	}
	w.group += w.text + w.rows*len(w.out)
	w.rows, w.bytes, w.text = 0, 0, 0
	if w.group < groupBytes {
		return nil
	}
	w.group = 0
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	return nil
}

func (w *fileWriter) close() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.w.Close(); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	return nil
}

// keep copies bytes to where they stay until the pending rows are written.
func (w *fileWriter) keep(b []byte) []byte {
	start := len(w.arena)
	w.arena = append(w.arena, b...)
	return w.arena[start:len(w.arena):len(w.arena)]
}

// value gives a cell in the form of its column.
func (w *fileWriter) value(p *plan, cell []byte) (v parquet.Value, ok bool) {
	switch p.form {
	case formBoolean:
		return parquet.BooleanValue(string(cell) == "true"), true
	case formInt32:
		n, err := strconv.ParseInt(string(cell), 10, 32)
		return parquet.Int32Value(int32(n)), err == nil
	case formInt64:
		n, err := strconv.ParseInt(string(cell), 10, 64)
		return parquet.Int64Value(n), err == nil
	case formDouble:
		if isSpecial(cell) && (cell[len(cell)-2]|0x20) == 'a' {
			return parquet.DoubleValue(math.NaN()), true
		}
		f, err := strconv.ParseFloat(string(cell), 64)
		return parquet.DoubleValue(f), err == nil
	case formDecimal:
		return w.decimal(p, cell)
	case formDate:
		days, ok := readDate(cell)
		return parquet.Int32Value(int32(days)), ok
	case formTime:
		nanos, _, _, ok := readClock(cell)
		if !p.nanos {
			nanos /= 1000
		}
		return parquet.Int64Value(nanos), ok
	case formTimestamp:
		at, ok := readDatetime(cell)
		if p.nanos {
			return parquet.Int64Value(at.seconds*1e9 + at.nanos), ok
		}
		return parquet.Int64Value(at.seconds*1e6 + at.nanos/1000), ok
	default: // of the others there is nothing to say
	}
	return parquet.ByteArrayValue(w.keep(cell)), true
}

func (w *fileWriter) decimal(p *plan, cell []byte) (v parquet.Value, ok bool) {
	n, ok := parseNumber(cell)
	if !ok {
		return v, false
	}
	hi, lo, ok := n.scaled(p.scale)
	switch {
	case p.precision <= 9:
		return parquet.Int32Value(int32(lo)), ok
	case p.precision <= 18:
		return parquet.Int64Value(int64(lo)), ok
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return parquet.FixedLenByteArrayValue(w.keep(b[16-decimalBytes(p.precision):])), ok
}

// zstdCodec compresses pages with ZSTD. The library's own keeps a window of
// megabytes, which no page fills.
type zstdCodec struct{ encoder *zstd.Encoder }

// String names the codec.
func (c *zstdCodec) String() string { return "ZSTD" }

// CompressionCodec is the codec's number in the format.
func (c *zstdCodec) CompressionCodec() format.CompressionCodec { return format.Zstd }

// Encode compresses a page.
func (c *zstdCodec) Encode(dst, src []byte) ([]byte, error) {
	if c.encoder == nil {
		var err error
		if c.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(mostPage), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false)); err != nil {
			return nil, err
		}
	}
	return c.encoder.EncodeAll(src, dst[:0]), nil
}

// Decode is not needed to write.
func (c *zstdCodec) Decode([]byte, []byte) ([]byte, error) { return nil, errors.ErrUnsupported }
