package spill_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/datahq/specstore/internal/spill"
)

// TestKeys holds the set against a map, with budgets that make it spill.
func TestKeys(t *testing.T) {
	t.Parallel()
	for _, rows := range []int64{0, 1, 63, 64, 65, 5000} {
		for _, budget := range []int{0, 4096, 1 << 20} {
			dir := t.TempDir()
			k := spill.NewKeys(dir, budget)
			r := rand.New(rand.NewPCG(1, uint64(rows)))
			first, want := map[string]int64{}, map[int64]int64{}
			for row := range rows {
				key := fmt.Sprint(r.IntN(3000))
				if f, ok := first[key]; ok {
					want[row] = f
				} else {
					first[key] = row
				}
				if err := k.Add([]byte(key), row); err != nil {
					t.Fatal(err)
				}
			}
			got := map[int64]int64{}
			for d, err := range k.Duplicates() {
				if err != nil {
					t.Fatal(err)
				}
				got[d.Row] = d.First
			}
			if !maps.Equal(got, want) {
				t.Errorf("%d rows, budget %d: %d duplicates, want %d", rows, budget, len(got), len(want))
			}
			k.Close()
			k.Close()
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("%s is left behind", left[0].Name())
			}
		}
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	for _, budget := range []int{0, 1 << 20} {
		refs := spill.NewReferences(t.TempDir(), budget)
		defer refs.Close()
		r := rand.New(rand.NewPCG(2, 2))
		targets := map[string]bool{}
		var want []int64
		type source struct {
			key string
			row int64
		}
		var sources []source
		for row := range int64(4000) {
			sources = append(sources, source{fmt.Sprint(r.IntN(2000)), row})
			if row%2 == 0 {
				key := fmt.Sprint(r.IntN(2000))
				targets[key] = true
				if err := refs.AddTarget([]byte(key)); err != nil {
					t.Fatal(err)
				}
			}
			s := sources[len(sources)-1]
			if err := refs.AddSource([]byte(s.key), s.row); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range sources {
			if !targets[s.key] {
				want = append(want, s.row)
			}
		}
		var got []int64
		for row, err := range refs.Missing() {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, row)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("budget %d: %d missing, want %d", budget, len(got), len(want))
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	k := spill.NewKeys(b.TempDir(), 64<<20)
	defer k.Close()
	b.ReportAllocs()
	row := int64(0)
	key := []byte("key 00000000")
	for b.Loop() {
		row++
		key[5]++
		if err := k.Add(key, row); err != nil {
			b.Fatal(err)
		}
	}
}
