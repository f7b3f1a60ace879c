package parquet_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/format/formattest"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/parquet"
	"github.com/datahq/specstore/internal/stream"
)

// row has nil for a null.
type row []*string

// readAll gives the header and the rows of a file.
func readAll(path string) (rows []row, notes []string, err error) {
	r, err := parquet.NewReader(context.Background(), path, parquet.Options{})
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	return drain(r)
}

func drain(r *parquet.Reader) (rows []row, notes []string, err error) {
	header := row{}
	labels, err := formattest.EachRow(r, func(b *stream.Batch, i int) error {
		if int(b.Number(i)) != len(rows)+2 {
			return errors.New("a row has a wrong number")
		}
		cells := row{}
		for c := range b.Width(i) {
			if b.Null(i, c) {
				cells = append(cells, nil)
				continue
			}
			text := string(b.Cell(i, c))
			cells = append(cells, &text)
		}
		rows = append(rows, cells)
		return nil
	})
	if labels == nil {
		return nil, nil, err
	}
	for _, l := range labels {
		header = append(header, &l)
	}
	return append([]row{header}, rows...), r.Notes(), err
}

func compare(t *testing.T, got, want []row) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	show := func(s *string) string {
		if s == nil {
			return "null"
		}
		return *s
	}
	for i := range want {
		if len(got[i]) != len(want[i]) {
			t.Fatalf("row %d has %d cells, want %d", i+1, len(got[i]), len(want[i]))
		}
		for c := range want[i] {
			if g, w := show(got[i][c]), show(want[i][c]); g != w {
				t.Errorf("row %d, column %s: %s, want %s", i+1, show(want[0][c]), g, w)
			}
		}
	}
}

func wanted(t *testing.T, path string) []row {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want []row
	if err := json.Unmarshal(body, &want); err != nil {
		t.Fatal(err)
	}
	return want
}

// TestRead reads files that Arrow's C++ library wrote: every type, encoding, codec
// and version of pages.
func TestRead(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.parquet")
	if err != nil || len(files) < 11 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".parquet")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.HasPrefix(name, "table_") {
				name = "table"
			}
			got, notes, err := readAll(file)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got, wanted(t, "testdata/"+name+".json"))
			if binaries := name == "types"; binaries != slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, `"bytes", "fixed"`) }) {
				t.Errorf("the notes are %q", notes)
			}
		})
	}
}

// TestDamage: a file that is cut or has a byte altered is an error that names the
// file's fault, or is read; it never breaks the reader.
func TestDamage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "damaged.parquet")
	for _, file := range []string{"types", "table_enc0_v2_none", "table_dict_v1_none"} {
		whole, err := os.ReadFile("testdata/" + file + ".parquet")
		if err != nil {
			t.Fatal(err)
		}
		step := max(1, len(whole)/600)
		for at := 0; at < len(whole); at += step {
			damaged := slices.Clone(whole)
			damaged[at] ^= 0xff
			for _, body := range [][]byte{damaged, whole[:at]} {
				if err := os.WriteFile(path, body, 0o600); err != nil {
					t.Fatal(err)
				}
				_, _, err := readAll(path)
				if err == nil && len(body) == at {
					t.Fatalf("%s: the first %d bytes are read as a file", file, at)
				}
				if e, ok := errors.AsType[*format.Error](err); err != nil && (!ok || e.Message == "") {
					t.Fatalf("%s at %d: %v", file, at, err)
				}
			}
		}
	}
}

// FuzzReader: whatever a file holds, the reader ends with rows or an error.
func FuzzReader(f *testing.F) {
	files, err := filepath.Glob("testdata/*.parquet")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	path := filepath.Join(f.TempDir(), "fuzz.parquet")
	f.Fuzz(func(t *testing.T, body []byte) {
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := parquet.NewReader(context.Background(), path, parquet.Options{})
		for n := 0; err == nil && n < 20; n++ { // a few bytes may stand for millions of rows
			var b *stream.Batch
			if b, err = r.Next(); err == nil {
				b.Release()
			}
		}
		if r != nil {
			r.Close()
		}
		if e, ok := errors.AsType[*format.Error](err); err != nil && err != io.EOF && (!ok || e.Message == "") {
			t.Fatal(err)
		}
	})
}
