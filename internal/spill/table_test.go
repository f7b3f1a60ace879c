package spill_test

import (
	"fmt"
	"testing"

	"github.com/datahq/specstore/internal/spill"
	"github.com/datahq/specstore/internal/stream"
)

// TestTable: what is written is read again, as often as is asked, nulls and kinds
// and row numbers included.
func TestTable(t *testing.T) {
	t.Parallel()
	table, err := spill.NewTable(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	var want string
	b := &stream.Batch{}
	for i := range 3 * stream.MaxRows {
		b.AppendKind(stream.Integer, fmt.Append(nil, i))
		b.AppendNull()
		b.Append([]byte("ü"))
		if i%7 == 0 {
			b.Append(nil)
		}
		b.EndRow(int64(i) + 2)
		if b.Full() {
			want += dump(b)
			if err := table.WriteBatch(b); err != nil {
				t.Fatal(err)
			}
			b.Reset()
		}
	}
	for range 2 {
		got := ""
		for b, err := range table.Rows() {
			if err != nil {
				t.Fatal(err)
			}
			got += dump(b)
		}
		if got != want {
			t.Fatal("what is read differs from what was written")
		}
	}
	if table.Len() != 3*stream.MaxRows {
		t.Errorf("%d rows", table.Len())
	}
	for range table.Rows() {
		break
	}
}

func dump(b *stream.Batch) (out string) {
	for r := range b.Rows() {
		out += fmt.Sprint(b.Number(r))
		for c := range b.Width(r) {
			out += fmt.Sprintf(" %d%q", b.Kind(r, c), b.Cell(r, c))
		}
		out += "\n"
	}
	return out
}
