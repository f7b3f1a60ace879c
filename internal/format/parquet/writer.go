package parquet

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"

	"github.com/klauspost/compress/zstd"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

const (
	// groupBytes bounds the rows of a group in memory; a row may take it over that.
	// Each group has an entry for every column in the metadata: where these grow long,
	// groups become larger.
	groupBytes   = 16 << 20
	largeGroup   = 64 << 20
	longMetadata = maxFooter / 4
	pageBytes    = 128 << 10 // of values, before compression
	pageRows     = 32 << 10
	scratchBytes = 64 // that the digits of a usual number need
	createdBy    = "specstore version 2"
)

// Write writes a table as one Parquet file. rows is called twice: the first time to
// see which values columns hold, for the types that keep each of them exactly. The
// cells are in the default form of their type. The notes say what is kept otherwise
// than the schema says.
//
// Integers are INT64, or DECIMAL where they are larger; numbers DECIMAL where 38
// digits hold them all, else DOUBLE where that loses nothing; what fits none is
// text. All columns may have nulls.
//
// Memory holds one row group, which is written column by column, so that it does not
// depend on the number of columns: there may be as many as a schema has.
func Write(ctx context.Context, w io.Writer, schema *tableschema.Schema, rows func() iter.Seq2[*stream.Batch, error]) (notes []string, err error) {
	if len(schema.Fields) == 0 {
		return nil, errs.New(errs.Invalid, "parquet.Write", "a Parquet file needs a column")
	}
	measures := make([]measure, len(schema.Fields))
	scratch := make([]byte, 0, scratchBytes)
	for i, f := range schema.Fields {
		measures[i].fieldType, measures[i].scratch = f.Type, scratch
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
	fw, err := newFileWriter(w, schema, measures)
	if err != nil {
		return nil, err
	}
	for b, err := range rows() {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = fw.writeBatch(ctx, b)
		}
		if err != nil {
			return nil, err
		}
	}
	return fw.notes, fw.close(ctx)
}

// fileWriter cuts pages and row groups by rows and bytes alone, so that the file is
// the same however the rows come in batches.
type fileWriter struct {
	w       io.Writer
	offset  int64 // in the file
	names   []string
	plans   []plan
	notes   []string
	rows    int64
	group   *stream.Batch // the rows of the group that is gathered
	most    int           // bytes of a group
	groups  thriftWriter  // the metadata of the groups that were written
	count   int           // of them
	chunk   chunkWriter
	encoder *zstd.Encoder
}

func newFileWriter(w io.Writer, schema *tableschema.Schema, measures []measure) (*fileWriter, error) {
	fw := &fileWriter{w: w, group: &stream.Batch{}, most: groupBytes}
	for i, f := range schema.Fields {
		p := measures[i].plan(f.Name)
		if p.note != "" {
			fw.notes = append(fw.notes, p.note)
		}
		fw.names, fw.plans = append(fw.names, f.Name), append(fw.plans, p)
	}
	var err error
	// A window of pages: the usual one keeps megabytes that no page fills.
	fw.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(pageBytes), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	return fw, fw.write([]byte(magic))
}

func (w *fileWriter) write(b []byte) error {
	n, err := w.w.Write(b)
	w.offset += int64(n)
	if err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	return nil
}

func (w *fileWriter) writeBatch(ctx context.Context, b *stream.Batch) error {
	const cellBytes, rowBytes = 5, 12 // that a batch has beside the text
	for r := range b.Rows() {
		for c := range w.plans {
			if b.Null(r, c) {
				w.group.AppendNull()
			} else {
				w.group.Append(b.Cell(r, c))
			}
		}
		w.group.EndRow(b.Number(r))
		if w.group.Bytes()+w.group.Rows()*(len(w.plans)*cellBytes+rowBytes) < w.most {
			continue
		}
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// flush writes the gathered rows as a row group.
func (w *fileWriter) flush(ctx context.Context) error {
	if w.group.Rows() == 0 {
		return nil
	}
	g := &w.groups
	start, size := w.offset, int64(0)
	g.open()
	g.list(1, thriftStruct, len(w.plans))
	for c := range w.plans {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		unpacked, err := w.writeChunk(c)
		if err != nil {
			return err
		}
		size += unpacked
	}
	g.i64(2, size)
	g.i64(3, int64(w.group.Rows()))
	g.i64(5, start)
	g.i64(6, w.offset-start)
	g.close()
	w.count++
	w.rows += int64(w.group.Rows())
	if len(g.buf) > maxFooter {
		return w.tooLong()
	}
	if w.group.Bytes() > 2*w.most { // one row of huge cells must not stay in memory
		w.group = &stream.Batch{}
	}
	w.group.Reset()
	if len(g.buf) > longMetadata {
		w.most = largeGroup
	}
	return nil
}

func (w *fileWriter) close(ctx context.Context) error {
	if err := w.flush(ctx); err != nil {
		return err
	}
	footer := w.footer()
	if len(footer) > maxFooter {
		return w.tooLong()
	}
	footer = binary.LittleEndian.AppendUint32(footer, uint32(len(footer)))
	return w.write(append(footer, magic...))
}

func (w *fileWriter) tooLong() error {
	return errs.New(errs.Invalid, "parquet.Write", "the table is too large for one Parquet file: the metadata of its %d columns would be longer than %d MiB", len(w.plans), maxFooter>>20)
}

// appendValue appends a cell in the plain form of its column. Booleans are a byte
// here, and packed later.
func (p *plan) appendValue(dst, cell []byte) ([]byte, bool) {
	switch p.form {
	case formBoolean:
		if string(cell) == "true" {
			return append(dst, 1), true
		}
		return append(dst, 0), true
	case formInt32:
		n, err := strconv.ParseInt(string(cell), 10, 32)
		return appendInt32(dst, n), err == nil
	case formInt64:
		n, err := strconv.ParseInt(string(cell), 10, 64)
		return appendInt64(dst, n), err == nil
	case formDouble:
		f, err := math.NaN(), error(nil)
		if !isSpecial(cell) || cell[len(cell)-2]|0x20 != 'a' {
			f, err = strconv.ParseFloat(string(cell), 64)
		}
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f)), err == nil
	case formDecimal:
		return p.appendDecimal(dst, cell)
	case formDate:
		days, ok := readDate(cell)
		return appendInt32(dst, days), ok
	case formTime:
		nanos, _, _, ok := readClock(cell)
		if !p.nanos {
			nanos /= 1000
		}
		return appendInt64(dst, nanos), ok
	case formTimestamp:
		at, ok := readDatetime(cell)
		if p.nanos {
			return appendInt64(dst, at.seconds*1e9+at.nanos), ok
		}
		return appendInt64(dst, at.seconds*1e6+at.nanos/1000), ok
	default: // texts
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(cell)))
	return append(dst, cell...), true
}

func appendInt32(dst []byte, n int64) []byte {
	return binary.LittleEndian.AppendUint32(dst, uint32(int32(n)))
}

func appendInt64(dst []byte, n int64) []byte {
	return binary.LittleEndian.AppendUint64(dst, uint64(n))
}

func (p *plan) appendDecimal(dst, cell []byte) ([]byte, bool) {
	var scratch [scratchBytes]byte
	n, ok := parseNumber(scratch[:0], cell)
	if !ok {
		return dst, false
	}
	hi, lo, ok := n.scaled(p.scale)
	switch p.physical() {
	case physInt32:
		return appendInt32(dst, int64(lo)), ok
	case physInt64:
		return appendInt64(dst, int64(lo)), ok
	default: // of fixed length
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return append(dst, b[16-decimalBytes(p.precision):]...), ok
}

// physical is the type that the values of a column have in the file.
func (p *plan) physical() physical {
	switch p.form {
	case formBoolean:
		return physBoolean
	case formInt32, formDate:
		return physInt32
	case formInt64, formTime, formTimestamp:
		return physInt64
	case formDouble:
		return physDouble
	case formDecimal:
		switch {
		case p.precision <= 9:
			return physInt32
		case p.precision <= 18:
			return physInt64
		}
		return physFixed
	default: // texts
	}
	return physBytes
}
