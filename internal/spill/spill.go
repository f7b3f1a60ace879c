// Package spill sorts rows, keeps tables, and finds repeated and missing keys among
// any number of rows, in bounded memory.
//
// A key is kept as a 128-bit hash with its row. What does not fit the budget goes
// to a temporary file as a sorted run, and the runs are merged at the end. The
// hash is keyed by chance, so nobody can prepare keys that collide; two different
// keys among n are taken for one with a chance of n² / 2¹²⁹. Answers come in the
// order of rows, so they do not depend on chance.
package spill

import (
	"context"
	"fmt"
	"hash/maphash"
	"iter"
)

// Keys watches that keys do not repeat. It is for one goroutine.
type Keys struct {
	hasher
	s *sorter
}

// Duplicate is a row whose key stood in an earlier row, First, for the first time.
type Duplicate struct{ Row, First int64 }

// NewKeys makes an empty set that keeps about budget bytes in memory and the rest
// in files in dir. [Keys.Close] frees both. What takes long ends with ctx, whose cause is
// the error then.
func NewKeys(ctx context.Context, dir string, budget int) *Keys {
	return &Keys{newHasher(), newSorter(ctx, dir, budget)}
}

// Add notes the key of a row. It keeps none of key.
func (k *Keys) Add(key []byte, row int64) error { return k.s.add(k.entry(key, row)) }

// Duplicates gives every row whose key a lower row has, with the lowest row that
// has it, in the order of rows. An error is the last item. It may be asked for
// once, and nothing may be added after it.
func (k *Keys) Duplicates() iter.Seq2[Duplicate, error] {
	return func(yield func(Duplicate, error) bool) {
		found := newSorter(k.s.ctx, k.s.dir, k.s.budget/2)
		defer found.close()
		var first entry
		some := false
		for e, err := range k.s.sorted() {
			if err == nil && some && e.same(first) {
				err = found.add(entry{a: uint64(e.row), row: first.row})
			} else {
				first, some = e, true
			}
			if err != nil {
				yield(Duplicate{}, fmt.Errorf("spill: %w", err))
				return
			}
		}
		k.s.close()
		for e, err := range found.sorted() {
			if err != nil {
				yield(Duplicate{}, fmt.Errorf("spill: %w", err))
				return
			}
			if !yield(Duplicate{Row: int64(e.a), First: e.row}, nil) {
				return
			}
		}
	}
}

// bounded returns items until ctx ends, whose cause is then the error.
func bounded[T any](ctx context.Context, items iter.Seq2[T, error]) iter.Seq2[T, error] {
	const every = 1024
	return func(yield func(T, error) bool) {
		n := 0
		for item, err := range items {
			if n++; n%every == 0 && ctx.Err() != nil {
				var none T
				yield(none, context.Cause(ctx))
				return
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

// Close frees memory and disk. It may be called twice, and on nil.
func (k *Keys) Close() {
	if k != nil {
		k.s.close()
	}
}

// References watches that every key of one table is a key of another. It is for
// one goroutine.
type References struct {
	hasher
	s *sorter
}

// NewReferences makes an empty set, as [NewKeys] does.
func NewReferences(ctx context.Context, dir string, budget int) *References {
	return &References{newHasher(), newSorter(ctx, dir, budget)}
}

// target is the row of a key that may be referred to. It sorts before all others.
const target = -1

// AddTarget notes a key that may be referred to.
func (r *References) AddTarget(key []byte) error { return r.s.add(r.entry(key, target)) }

// AddSource notes the key that a row refers to. Row numbers are not negative.
func (r *References) AddSource(key []byte, row int64) error { return r.s.add(r.entry(key, row)) }

// Missing gives the rows that refer to a key that is not there, in order. An error
// is the last item. It may be asked for once, and nothing may be added after it.
func (r *References) Missing() iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		missing := newSorter(r.s.ctx, r.s.dir, r.s.budget/2)
		defer missing.close()
		var there entry
		some := false
		for e, err := range r.s.sorted() {
			switch {
			case err != nil:
			case e.row == target:
				there, some = e, true
			case some && e.same(there):
			default:
				err = missing.add(entry{a: uint64(e.row)})
			}
			if err != nil {
				yield(0, fmt.Errorf("spill: %w", err))
				return
			}
		}
		r.s.close()
		for e, err := range missing.sorted() {
			if err != nil {
				yield(0, fmt.Errorf("spill: %w", err))
				return
			}
			if !yield(int64(e.a), nil) {
				return
			}
		}
	}
}

// Close frees memory and disk. It may be called twice, and on nil.
func (r *References) Close() {
	if r != nil {
		r.s.close()
	}
}

// hasher makes entries of keys, by two hashes with seeds of their own.
type hasher struct{ seeds [2]maphash.Seed }

func newHasher() hasher {
	return hasher{[2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

func (h *hasher) entry(key []byte, row int64) entry {
	return entry{maphash.Bytes(h.seeds[0], key), maphash.Bytes(h.seeds[1], key), row}
}
