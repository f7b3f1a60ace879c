package spill_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/datahq/specstore/internal/spill"
)

// TestKeys holds the set against a map, with budgets that make it spill.
func TestKeys(t *testing.T) {
	t.Parallel()
	for _, rows := range []int64{0, 1, 63, 64, 65, 5000, 20000} {
		for _, budget := range []int{0, 4096, 1 << 20} {
			dir := t.TempDir()
			k := spill.NewKeys(t.Context(), dir, budget)
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
			last := int64(-1)
			for d, err := range k.Duplicates() {
				if err != nil {
					t.Fatal(err)
				}
				if d.Row <= last {
					t.Fatalf("row %d comes after row %d", d.Row, last)
				}
				got[d.Row], last = d.First, d.Row
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
		refs := spill.NewReferences(t.Context(), t.TempDir(), budget)
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
		if !slices.Equal(got, want) {
			t.Errorf("budget %d: %d missing, want %d", budget, len(got), len(want))
		}
	}
}

// TestMemory: keys beyond the budget do not stay in memory.
func TestMemory(t *testing.T) {
	const rows, budget = 500_000, 1 << 20 // 12 MB of entries
	k := spill.NewKeys(t.Context(), t.TempDir(), budget)
	defer k.Close()
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	key := make([]byte, 8)
	for row := range int64(rows) {
		// Every key stands twice, far apart.
		binary.BigEndian.PutUint64(key, uint64(row%(rows/2)))
		if err := k.Add(key, row); err != nil {
			t.Fatal(err)
		}
	}
	if held := heap() - before; held > budget*3/2 {
		t.Errorf("%d bytes are held after adding", held)
	}
	n := int64(0)
	for d, err := range k.Duplicates() {
		if err != nil {
			t.Fatal(err)
		}
		if d.Row != rows/2+n || d.First != n {
			t.Fatalf("duplicate %d: %+v", n, d)
		}
		if n++; n == 1 {
			if held := heap() - before; held > budget*3/2 {
				t.Errorf("%d bytes are held while merging", held)
			}
		}
	}
	if n != rows/2 {
		t.Errorf("%d duplicates", n)
	}
}

// TestBreak: who stops early frees everything with Close.
func TestBreak(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := spill.NewKeys(t.Context(), dir, 0)
	for row := range int64(1000) {
		if err := k.Add([]byte("same"), row); err != nil {
			t.Fatal(err)
		}
	}
	for d, err := range k.Duplicates() {
		if err != nil || d != (spill.Duplicate{Row: 1}) {
			t.Errorf("%+v, %v", d, err)
		}
		break
	}
	k.Close()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%s is left behind", left[0].Name())
	}
	var none *spill.Keys
	none.Close()
	var no *spill.References
	no.Close()
}

// TestNoFolder: a failure to write is an error of the row that met it.
func TestNoFolder(t *testing.T) {
	t.Parallel()
	k := spill.NewKeys(t.Context(), filepath.Join(t.TempDir(), "none"), 0)
	defer k.Close()
	var err error
	for row := int64(0); row < 1000 && err == nil; row++ {
		err = k.Add([]byte("x"), row)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, c := range []struct {
		name   string
		budget int
	}{{"memory", 1 << 30}, {"disk", 8 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			k := spill.NewKeys(b.Context(), b.TempDir(), c.budget)
			defer k.Close()
			b.ReportAllocs()
			row := int64(0)
			key := make([]byte, 12)
			for b.Loop() {
				row++
				binary.LittleEndian.PutUint64(key, uint64(row))
				if err := k.Add(key, row); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDuplicates measures the end of a table of a million rows.
func BenchmarkDuplicates(b *testing.B) {
	const rows = 1_000_000
	key := make([]byte, 12)
	for b.Loop() {
		b.StopTimer()
		k := spill.NewKeys(b.Context(), b.TempDir(), 8<<20)
		for row := range int64(rows) {
			binary.LittleEndian.PutUint64(key, uint64(row))
			if err := k.Add(key, row); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		for d, err := range k.Duplicates() {
			b.Fatal(d, err)
		}
		k.Close()
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
