// Package spill finds repeated and missing keys among any number of rows in
// bounded memory.
//
// A key is kept as a 128-bit hash with its row. What does not fit the budget goes
// to a temporary file as a sorted run, and the runs are merged at the end. The
// hash is keyed by chance, so nobody can prepare keys that collide; two different
// keys among n are taken for one with a chance of n² / 2¹²⁹.
package spill

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"os"
	"slices"
)

const entryBytes = 24

// entry is a key's hash and where it stood; -1 is a key that may be referred to.
type entry struct {
	a, b uint64
	row  int64
}

func compare(x, y entry) int {
	return cmp.Or(cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b), cmp.Compare(x.row, y.row))
}

func (x entry) same(y entry) bool { return x.a == y.a && x.b == y.b }

// sorter sorts entries, beyond its budget on disk.
type sorter struct {
	dir     string
	limit   int // entries in memory
	seeds   [2]maphash.Seed
	entries []entry
	file    *os.File
	runs    []int64 // where each run ends in the file, in bytes
}

func newSorter(dir string, budget int) *sorter {
	return &sorter{dir: dir, limit: max(budget/entryBytes, 64), seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

func (s *sorter) add(key []byte, row int64) error {
	if len(s.entries) == s.limit {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.entries = append(s.entries, entry{maphash.Bytes(s.seeds[0], key), maphash.Bytes(s.seeds[1], key), row})
	return nil
}

func (s *sorter) spill() error {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "keys-")
		if err != nil {
			return fmt.Errorf("spill: %w", err)
		}
		s.file = f
	}
	slices.SortFunc(s.entries, compare)
	w := bufio.NewWriterSize(s.file, 64<<10)
	var b [entryBytes]byte
	for _, e := range s.entries {
		binary.LittleEndian.PutUint64(b[0:], e.a)
		binary.LittleEndian.PutUint64(b[8:], e.b)
		binary.LittleEndian.PutUint64(b[16:], uint64(e.row))
		if _, err := w.Write(b[:]); err != nil {
			return fmt.Errorf("spill: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	end := int64(len(s.entries)) * entryBytes
	if n := len(s.runs); n > 0 {
		end += s.runs[n-1]
	}
	s.runs = append(s.runs, end)
	s.entries = s.entries[:0]
	return nil
}

// sorted gives all entries in order. The sorter takes no more after it.
func (s *sorter) sorted() iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		slices.SortFunc(s.entries, compare)
		if len(s.runs) == 0 {
			for _, e := range s.entries {
				if !yield(e, nil) {
					return
				}
			}
			return
		}
		h := &runHeap{}
		start := int64(0)
		buffer := max(4096, min(64<<10, s.limit*entryBytes/(len(s.runs)+1)))
		for _, end := range s.runs {
			r := &runReader{r: bufio.NewReaderSize(io.NewSectionReader(s.file, start, end-start), buffer)}
			start = end
			if err := r.next(); err != nil {
				yield(entry{}, err)
				return
			}
			heap.Push(h, r)
		}
		if len(s.entries) > 0 {
			r := &runReader{memory: s.entries}
			if err := r.next(); err != nil {
				yield(entry{}, err)
				return
			}
			heap.Push(h, r)
		}
		for h.Len() > 0 {
			r := (*h)[0]
			if !yield(r.at, nil) {
				return
			}
			switch err := r.next(); err {
			case nil:
				heap.Fix(h, 0)
			case io.EOF:
				heap.Pop(h)
			default:
				yield(entry{}, err)
				return
			}
		}
	}
}

func (s *sorter) close() {
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name())
		s.file = nil
	}
	s.entries = nil
}

// runReader reads one sorted run, on disk or in memory.
type runReader struct {
	r      *bufio.Reader
	memory []entry
	at     entry
}

func (r *runReader) next() error {
	if r.r == nil {
		if len(r.memory) == 0 {
			return io.EOF
		}
		r.at, r.memory = r.memory[0], r.memory[1:]
		return nil
	}
	var b [entryBytes]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return err
	}
	r.at = entry{binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:]), int64(binary.LittleEndian.Uint64(b[16:]))}
	return nil
}

type runHeap []*runReader

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return compare(h[i].at, h[j].at) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*runReader)) }
func (h *runHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// Keys watches that keys do not repeat.
type Keys struct{ s *sorter }

// Duplicate is a row whose key stood in an earlier row.
type Duplicate struct{ Row, First int64 }

// NewKeys makes an empty set that keeps about budget bytes in memory and the rest
// in a file in dir. [Keys.Close] frees both.
func NewKeys(dir string, budget int) *Keys { return &Keys{newSorter(dir, budget)} }

// Add notes the key of a row. Rows come in ascending order.
func (k *Keys) Add(key []byte, row int64) error { return k.s.add(key, row) }

// Duplicates gives every row whose key was there before, with the first row that
// had it, in no order of rows. Nothing may be added after it.
func (k *Keys) Duplicates() iter.Seq2[Duplicate, error] {
	return func(yield func(Duplicate, error) bool) {
		var first entry
		some := false
		for e, err := range k.s.sorted() {
			switch {
			case err != nil:
				yield(Duplicate{}, fmt.Errorf("spill: %w", err))
				return
			case some && e.same(first):
				if !yield(Duplicate{e.row, first.row}, nil) {
					return
				}
			default:
				first, some = e, true
			}
		}
	}
}

// Close frees memory and disk. It may be called twice.
func (k *Keys) Close() { k.s.close() }

// References watches that every key of one table is a key of another.
type References struct{ s *sorter }

// NewReferences makes an empty set, as [NewKeys] does.
func NewReferences(dir string, budget int) *References { return &References{newSorter(dir, budget)} }

// AddTarget notes a key that may be referred to.
func (r *References) AddTarget(key []byte) error { return r.s.add(key, -1) }

// AddSource notes the key that a row refers to. Row numbers are not negative.
func (r *References) AddSource(key []byte, row int64) error { return r.s.add(key, row) }

// Missing gives the rows that refer to a key that is not there, in no order.
// Nothing may be added after it.
func (r *References) Missing() iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		var target entry
		some := false
		for e, err := range r.s.sorted() {
			switch {
			case err != nil:
				yield(0, fmt.Errorf("spill: %w", err))
				return
			case e.row < 0: // targets sort before the sources of the same key
				target, some = e, true
			case some && e.same(target):
			default:
				if !yield(e.row, nil) {
					return
				}
			}
		}
	}
}

// Close frees memory and disk. It may be called twice.
func (r *References) Close() { r.s.close() }
