package stream

import "testing"

// cells reads a batch back as text, null cells as "∅".
func cells(b *Batch) [][]string {
	var rows [][]string
	for r := range b.Rows() {
		row := []string{}
		for c := range b.Width(r) {
			if b.Null(r, c) {
				row = append(row, "∅")
			} else {
				row = append(row, string(b.Cell(r, c)))
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func TestBatchKeepsRaggedRowsAndNulls(t *testing.T) {
	t.Parallel()
	b := new(Pool).Get()
	b.Append([]byte("a"))
	b.AppendNull()
	b.EndRow(2)
	b.Append([]byte("dropped"))
	b.DropRow()
	b.EndRow(3)
	b.Append([]byte("z"))
	b.EndRow(5)
	got := cells(b)
	if len(got) != 3 || len(got[0]) != 2 || got[0][0] != "a" || got[0][1] != "∅" || len(got[1]) != 0 || got[2][0] != "z" {
		t.Fatalf("rows are %q", got)
	}
	if b.Number(2) != 5 {
		t.Errorf("the third row has number %d, want 5", b.Number(2))
	}
	if h := b.Head(2, 100); h.Rows() != 2 || string(h.Cell(0, 0)) != "a" {
		t.Errorf("the head has rows %q", cells(h))
	}
	if h := b.Head(3, 1); h.Rows() != 2 {
		t.Errorf("a head of one byte has %d rows, want 2", h.Rows())
	}
}

func TestBatchGoesBackToItsPoolOnce(t *testing.T) {
	t.Parallel()
	p := new(Pool)
	b := p.Get()
	b.Append([]byte("x"))
	b.EndRow(1)
	b.Share(2)
	b.Release()
	if b.Rows() != 1 {
		t.Fatal("a batch was emptied while a reader held it")
	}
	b.Release()
	if again := p.Get(); again.Rows() != 0 {
		t.Fatal("a lent batch is not empty")
	}
}
