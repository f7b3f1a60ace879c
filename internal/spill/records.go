package spill

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
)

// Records sorts records by the bytes of their keys, beyond its budget on disk.
// Records of equal keys keep the order that they came in; where the order is
// reversed, that is reversed too. It is for one goroutine.
type Records struct {
	ctx     context.Context // that ends the work
	dir     string
	budget  int
	reverse bool
	arena   []byte
	index   []recordAt
	file    *os.File
	size    int64
	runs    []run // older records first
	n       int64
}

// recordAt is where a record lies in the arena.
type recordAt struct{ start, key, end uint32 }

// Record is a key and what belongs to it. It is valid until the next one.
type Record struct{ Key, Value []byte }

const (
	indexBytes  = 12
	maxArena    = 1 << 30
	recordFan   = 64 // runs that are merged at once
	recordsLeft = 4 << 10
)

// NewRecords makes an empty sorter that keeps about budget bytes in memory, and at
// least one record, and the rest in a file in dir. [Records.Close] frees both. What takes
// long ends with ctx, whose cause is the error then.
func NewRecords(ctx context.Context, dir string, budget int, reverse bool) *Records {
	return &Records{ctx: ctx, dir: dir, budget: min(max(budget, recordsLeft), maxArena), reverse: reverse}
}

// Len is the number of records.
func (s *Records) Len() int64 { return s.n }

// Add appends a record. It keeps neither slice.
func (s *Records) Add(key, value []byte) error {
	if len(key)+len(value) > maxArena {
		return fmt.Errorf("spill: a record has %d bytes, more than can be sorted", len(key)+len(value))
	}
	if len(s.index) > 0 && len(s.arena)+len(key)+len(value)+indexBytes*(len(s.index)+1) > s.budget {
		if err := s.spill(); err != nil {
			return err
		}
	}
	start := len(s.arena)
	if need := start + len(key) + len(value); need > cap(s.arena) {
		grown := make([]byte, start, max(need, min(2*cap(s.arena), s.budget))) // twice, but not beyond the budget
		copy(grown, s.arena)
		s.arena = grown
	}
	s.arena = append(append(s.arena, key...), value...)
	s.index = append(s.index, recordAt{uint32(start), uint32(start + len(key)), uint32(len(s.arena))})
	s.n++
	return nil
}

// compare orders records by key; those of equal keys by place.
func (s *Records) compare(a, b []byte, placeA, placeB int) int {
	c := bytes.Compare(a, b)
	if c == 0 {
		c = placeA - placeB
	}
	if s.reverse {
		return -c
	}
	return c
}

func (s *Records) sortArena() {
	slices.SortFunc(s.index, func(x, y recordAt) int {
		return s.compare(s.arena[x.start:x.key], s.arena[y.start:y.key], int(x.start), int(y.start))
	})
}

func (s *Records) inMemory() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, at := range s.index {
			if !yield(Record{s.arena[at.start:at.key:at.key], s.arena[at.key:at.end:at.end]}, nil) {
				return
			}
		}
	}
}

// spill writes the records in memory as a run.
func (s *Records) spill() error {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "sort-") // mode 0600
		if err != nil {
			return fmt.Errorf("spill: %w", err)
		}
		s.file = f
		os.Remove(f.Name()) // where the system allows it, nothing stays behind after a crash
	}
	s.sortArena()
	r, err := s.write(s.inMemory())
	if err != nil {
		return err
	}
	s.runs = append(s.runs, r)
	s.index = s.index[:0]
	if cap(s.arena) > 2*s.budget { // one record was huge
		s.arena = nil
	}
	s.arena = s.arena[:0]
	return nil
}

func (s *Records) write(records iter.Seq2[Record, error]) (run, error) {
	at := run{s.size, s.size}
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.size), s.buffer())
	var head [2 * binary.MaxVarintLen64]byte
	for rec, err := range records {
		if err != nil {
			return at, err
		}
		n := binary.PutUvarint(head[:], uint64(len(rec.Key)))
		n += binary.PutUvarint(head[n:], uint64(len(rec.Value)))
		for _, part := range [][]byte{head[:n], rec.Key, rec.Value} {
			if _, err := w.Write(part); err != nil {
				return at, fmt.Errorf("spill: %w", err)
			}
			at.end += int64(len(part))
		}
	}
	if err := w.Flush(); err != nil {
		return at, fmt.Errorf("spill: %w", err)
	}
	s.size = at.end
	return at, nil
}

// buffer is the size of each buffer of a merge.
func (s *Records) buffer() int { return min(max(s.budget/(recordFan+1), minBuffer), 256<<10) }

// Sorted gives all records in order, once. An error is the last item. Nothing may be
// added after it.
func (s *Records) Sorted() iter.Seq2[Record, error] { return bounded(s.ctx, s.inOrder()) }

func (s *Records) inOrder() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if len(s.runs) == 0 {
			s.sortArena()
			s.inMemory()(yield)
			return
		}
		if len(s.index) > 0 {
			if err := s.spill(); err != nil {
				yield(Record{}, err)
				return
			}
		}
		s.arena, s.index = nil, nil // the buffers take their place
		for len(s.runs) > recordFan {
			var merged []run
			for some := range slices.Chunk(s.runs, recordFan) {
				r, err := s.write(bounded(s.ctx, s.merge(some)))
				if err != nil {
					yield(Record{}, err)
					return
				}
				merged = append(merged, r)
			}
			s.runs = merged
		}
		s.merge(s.runs)(yield)
	}
}

// merge gives the records of some runs in order.
func (s *Records) merge(runs []run) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		readers := make([]*recordReader, len(runs))
		for i, r := range runs {
			readers[i] = &recordReader{r: bufio.NewReaderSize(io.NewSectionReader(s.file, r.start, r.end-r.start), s.buffer()), place: i}
		}
		err := merge(readers,
			func(x, y *recordReader) bool { return s.compare(x.at.Key, y.at.Key, x.place, y.place) < 0 },
			func(r *recordReader) bool { return yield(r.at, nil) })
		if err != nil {
			yield(Record{}, fmt.Errorf("spill: %w", err))
		}
	}
}

// Close frees memory and disk. It may be called twice, and on nil.
func (s *Records) Close() {
	if s == nil {
		return
	}
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name())
		s.file = nil
	}
	s.arena, s.index, s.runs = nil, nil, nil
}

// recordReader reads one run.
type recordReader struct {
	r     *bufio.Reader
	place int
	buf   []byte
	at    Record
}

// next reads the next record, or gives io.EOF.
func (r *recordReader) next() error {
	key, err := binary.ReadUvarint(r.r)
	if err != nil {
		return err
	}
	value, err := binary.ReadUvarint(r.r)
	if err != nil {
		return noEOF(err)
	}
	n := int(key + value)
	if cap(r.buf) < n || cap(r.buf) > 4*n+(64<<10) {
		r.buf = make([]byte, n)
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		return noEOF(err)
	}
	r.at = Record{r.buf[:key:key], r.buf[key:]}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
