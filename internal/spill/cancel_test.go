package spill_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/datahq/specstore/internal/spill"
)

// TestCancelled: what goes over all keys or records ends with the context, in memory, on
// disk, and where many runs are merged first.
func TestCancelled(t *testing.T) {
	t.Parallel()
	const n = 20_000
	key := func(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }
	for name, budget := range map[string]int{"in memory": 1 << 20, "on disk": 64 << 10, "many runs": 0} {
		for what, visit := range map[string]func(ctx context.Context, cancel func(), dir string) (items int, err error){
			"keys": func(ctx context.Context, cancel func(), dir string) (items int, err error) {
				k := spill.NewKeys(ctx, dir, budget)
				defer k.Close()
				for i := range n {
					if err := k.Add(key(i), int64(i)); err != nil {
						return 0, err
					}
				}
				cancel()
				for _, err := range k.Duplicates() {
					if err != nil {
						return items, err
					}
					items++
				}
				return items, nil
			},
			"references": func(ctx context.Context, cancel func(), dir string) (items int, err error) {
				r := spill.NewReferences(ctx, dir, budget)
				defer r.Close()
				for i := range n {
					if err := r.AddSource(key(i), int64(i)); err != nil {
						return 0, err
					}
				}
				cancel()
				for _, err := range r.Missing() {
					if err != nil {
						return items, err
					}
					items++
				}
				return items, nil
			},
			"records": func(ctx context.Context, cancel func(), dir string) (items int, err error) {
				r := spill.NewRecords(ctx, dir, budget, false)
				defer r.Close()
				for i := range n {
					if err := r.Add(key(n-i), key(i)); err != nil {
						return 0, err
					}
				}
				cancel()
				for _, err := range r.Sorted() {
					if err != nil {
						return items, err
					}
					items++
				}
				return items, nil
			},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			items, err := visit(ctx, cancel, t.TempDir())
			cancel()
			if !errors.Is(err, context.Canceled) || items > 2000 {
				t.Errorf("%s, %s: %v after %d items, want that the context has ended", name, what, err, items)
			}
		}
	}
}
