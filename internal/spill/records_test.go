package spill_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/spill"
)

// TestRecords holds the sorter against a stable sort in memory, with budgets that
// make it spill and merge more than once.
func TestRecords(t *testing.T) {
	t.Parallel()
	type record struct{ key, value string }
	for _, rows := range []int{0, 1, 2, 500, 40000} {
		for _, budget := range []int{0, 64 << 10, 8 << 20} {
			for _, reverse := range []bool{false, true} {
				dir := t.TempDir()
				s := spill.NewRecords(t.Context(), dir, budget, reverse)
				random := rand.New(rand.NewPCG(1, uint64(rows)))
				var want []record
				for i := range rows {
					r := record{fmt.Sprint(random.IntN(300)), fmt.Sprint("row ", i)}
					if i == 300 {
						r.value = strings.Repeat("x", 100_000) // beyond the budget alone
					}
					want = append(want, r)
					if err := s.Add([]byte(r.key), []byte(r.value)); err != nil {
						t.Fatal(err)
					}
				}
				slices.SortStableFunc(want, func(a, b record) int { return strings.Compare(a.key, b.key) })
				if reverse {
					slices.Reverse(want)
				}
				var got []record
				for r, err := range s.Sorted() {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, record{string(r.Key), string(r.Value)})
				}
				if !slices.Equal(got, want) || s.Len() != int64(rows) {
					t.Errorf("%d rows, budget %d, reverse %t: %d rows in another order", rows, budget, reverse, len(got))
				}
				s.Close()
				s.Close()
				if left, _ := os.ReadDir(dir); len(left) > 0 {
					t.Errorf("%s is left behind", left[0].Name())
				}
			}
		}
	}
}
