package stream_test

import (
	"strconv"
	"testing"

	"github.com/datahq/specstore/internal/stream"
)

// What travels between a reader, a check and two writers, measured on rows of eight
// cells: boxed rows, typed columns, and cells as text that each writer copies.

const benchRows = 1000

var benchCells = [8]string{"123456", "river", "42", "19.95", "2020-01-02", "2020-01-02T03:04:05Z", "true", "a note of usual length"}

type writer struct{ buf []byte }

func (w *writer) reset() { w.buf = w.buf[:0] }

// BenchmarkRows boxes every cell, as []any rows do.
func BenchmarkRows(b *testing.B) {
	b.ReportAllocs()
	var w writer
	for b.Loop() {
		rows := make([][]any, 0, benchRows)
		for range benchRows {
			row := make([]any, len(benchCells))
			for c, cell := range benchCells {
				switch c {
				case 0, 2:
					n, _ := strconv.ParseInt(cell, 10, 64)
					row[c] = n
				case 3:
					f, _ := strconv.ParseFloat(cell, 64)
					row[c] = f
				case 6:
					row[c] = cell == "true"
				default:
					row[c] = string([]byte(cell))
				}
			}
			rows = append(rows, row)
		}
		for range 2 {
			w.reset()
			for _, row := range rows {
				for _, v := range row {
					switch v := v.(type) {
					case int64:
						w.buf = strconv.AppendInt(w.buf, v, 10)
					case float64:
						w.buf = strconv.AppendFloat(w.buf, v, 'f', -1, 64)
					case bool:
						w.buf = strconv.AppendBool(w.buf, v)
					case string:
						w.buf = append(w.buf, v...)
					}
				}
			}
		}
	}
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkColumns casts cells into typed columns and formats them again.
func BenchmarkColumns(b *testing.B) {
	b.ReportAllocs()
	var w writer
	ints := [2][]int64{}
	var floats []float64
	var bools []bool
	texts := [4][]byte{}
	ends := [4][]int{}
	for b.Loop() {
		ints[0], ints[1], floats, bools = ints[0][:0], ints[1][:0], floats[:0], bools[:0]
		for i := range texts {
			texts[i], ends[i] = texts[i][:0], ends[i][:0]
		}
		for range benchRows {
			t, n := 0, 0
			for c, cell := range benchCells {
				switch c {
				case 0, 2:
					v, _ := strconv.ParseInt(cell, 10, 64)
					ints[n] = append(ints[n], v)
					n++
				case 3:
					v, _ := strconv.ParseFloat(cell, 64)
					floats = append(floats, v)
				case 6:
					bools = append(bools, cell == "true")
				default:
					texts[t] = append(texts[t], cell...)
					ends[t] = append(ends[t], len(texts[t]))
					t++
				}
			}
		}
		for range 2 {
			w.reset()
			for r := range benchRows {
				for _, column := range ints {
					w.buf = strconv.AppendInt(w.buf, column[r], 10)
				}
				w.buf = strconv.AppendFloat(w.buf, floats[r], 'f', -1, 64)
				w.buf = strconv.AppendBool(w.buf, bools[r])
				for t := range texts {
					start := 0
					if r > 0 {
						start = ends[t][r-1]
					}
					w.buf = append(w.buf, texts[t][start:ends[t][r]]...)
				}
			}
		}
	}
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkText keeps cells as text that was only looked at.
func BenchmarkText(b *testing.B) {
	b.ReportAllocs()
	var w writer
	pool := &stream.Pool{}
	cells := make([][]byte, len(benchCells))
	for i, c := range benchCells {
		cells[i] = []byte(c)
	}
	for b.Loop() {
		batch := pool.Get()
		for r := range benchRows {
			for c, cell := range cells {
				if c == 0 || c == 2 || c == 3 {
					for _, d := range cell { // the look that a check takes
						if d != '.' && (d < '0' || d > '9') {
							b.Fatal("not a number")
						}
					}
				}
				batch.Append(cell)
			}
			batch.EndRow(int64(r))
		}
		for range 2 {
			w.reset()
			for r := range batch.Rows() {
				for c := range batch.Width(r) {
					w.buf = append(w.buf, batch.Cell(r, c)...)
				}
			}
		}
		batch.Release()
	}
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
}
