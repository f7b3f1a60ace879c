package spill

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
)

const (
	entryBytes  = 24
	firstGrowth = 1 << 10 // entries
	minBuffer   = 4 << 10 // bytes that a run is read by
	minFan      = 4       // runs that are merged at once
	maxFan      = 512
)

// entry is what is sorted: by a, then b, then row.
type entry struct {
	a, b uint64
	row  int64
}

func compare(x, y entry) int {
	switch {
	case x.a != y.a:
		return cmp.Compare(x.a, y.a)
	case x.b != y.b:
		return cmp.Compare(x.b, y.b)
	}
	return cmp.Compare(x.row, y.row)
}

func (x entry) same(y entry) bool { return x.a == y.a && x.b == y.b }

// run is a sorted part of the file, in bytes.
type run struct{ start, end int64 }

// sorter sorts entries, beyond its budget on disk.
type sorter struct {
	ctx     context.Context // that ends the work
	dir     string
	budget  int // bytes
	limit   int // entries in memory
	entries []entry
	file    *os.File
	size    int64 // of the file
	runs    []run
}

func newSorter(ctx context.Context, dir string, budget int) *sorter {
	// While the entries grow, those of half the number are there too.
	return &sorter{ctx: ctx, dir: dir, budget: budget, limit: max(budget/entryBytes*2/3, 64)}
}

func (s *sorter) add(e entry) error {
	if len(s.entries) == cap(s.entries) {
		if err := s.grow(); err != nil {
			return err
		}
	}
	s.entries = append(s.entries, e)
	return nil
}

// grow makes room for one more entry.
func (s *sorter) grow() error {
	n := cap(s.entries)
	if n >= s.limit {
		return s.spill()
	}
	grown := make([]entry, n, min(max(2*n, firstGrowth), s.limit))
	copy(grown, s.entries)
	s.entries = grown
	return nil
}

// spill writes the entries as a run.
func (s *sorter) spill() error {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "keys-") // mode 0600
		if err != nil {
			return fmt.Errorf("spill: %w", err)
		}
		s.file = f
		// Where a file may be removed while it is open, nothing stays behind
		// after a crash; elsewhere close removes it.
		os.Remove(f.Name())
	}
	slices.SortFunc(s.entries, compare)
	err := s.write(func(yield func(entry, error) bool) {
		for _, e := range s.entries {
			if !yield(e, nil) {
				return
			}
		}
	})
	s.entries = s.entries[:0]
	return err
}

// write appends sorted entries to the file as a run.
func (s *sorter) write(entries iter.Seq2[entry, error]) error {
	at := run{s.size, s.size}
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.size), s.buffer())
	var b [entryBytes]byte
	for e, err := range entries {
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint64(b[0:], e.a)
		binary.LittleEndian.PutUint64(b[8:], e.b)
		binary.LittleEndian.PutUint64(b[16:], uint64(e.row))
		if _, err := w.Write(b[:]); err != nil {
			return fmt.Errorf("spill: %w", err)
		}
		at.end += entryBytes
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	s.size = at.end
	s.runs = append(s.runs, at)
	return nil
}

// fan is how many runs are merged at once, so that their buffers fit the budget.
func (s *sorter) fan() int { return min(max(s.budget/(2*minBuffer), minFan), maxFan) }

// buffer is the size of each buffer of a merge of as many runs.
func (s *sorter) buffer() int { return min(max(s.budget/(s.fan()+1), minBuffer), 64<<10) }

// sorted gives all entries in order, once. Nothing may be added after it.
func (s *sorter) sorted() iter.Seq2[entry, error] { return bounded(s.ctx, s.inOrder()) }

func (s *sorter) inOrder() iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		if len(s.runs) == 0 {
			slices.SortFunc(s.entries, compare)
			for _, e := range s.entries {
				if !yield(e, nil) {
					return
				}
			}
			return
		}
		// The buffers take the place of the entries.
		if len(s.entries) > 0 {
			if err := s.spill(); err != nil {
				yield(entry{}, err)
				return
			}
		}
		s.entries = nil
		for fan := s.fan(); len(s.runs) > fan; {
			some := slices.Clone(s.runs[:fan])
			s.runs = s.runs[fan:]
			if err := s.write(bounded(s.ctx, s.merge(some))); err != nil {
				yield(entry{}, err)
				return
			}
		}
		s.merge(s.runs)(yield)
	}
}

// merge gives the entries of some runs in order.
func (s *sorter) merge(runs []run) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		readers := make([]*runReader, len(runs))
		for i, r := range runs {
			readers[i] = &runReader{r: bufio.NewReaderSize(io.NewSectionReader(s.file, r.start, r.end-r.start), s.buffer())}
		}
		err := merge(readers,
			func(x, y *runReader) bool { return compare(x.at, y.at) < 0 },
			func(r *runReader) bool { return yield(r.at, nil) })
		if err != nil {
			yield(entry{}, fmt.Errorf("spill: %w", err))
		}
	}
}

// close frees memory and disk. It may be called twice.
func (s *sorter) close() {
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name())
		s.file = nil
	}
	s.entries, s.runs = nil, nil
}

// runReader reads one run.
type runReader struct {
	r  *bufio.Reader
	at entry
}

// next reads the next entry, or gives io.EOF.
func (r *runReader) next() error {
	b, err := r.r.Peek(entryBytes)
	if err != nil {
		if err == io.EOF && len(b) > 0 {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	r.at = entry{binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:]), int64(binary.LittleEndian.Uint64(b[16:]))}
	_, err = r.r.Discard(entryBytes)
	return err
}
