package engine

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
)

// text is bytes that compress as tables do.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"river,", "42,", "2020-01-02\r\n", "copper,", "19.95,"}
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(words[r.IntN(len(words))])
	}
	return b.Bytes()[:n]
}

// TestDeflater: what is compressed is read again by the standard library, and the
// bytes do not depend on processors or on how the input comes.
func TestDeflater(t *testing.T) {
	for _, size := range []int{0, 1, window, deflateSplit - 1, deflateSplit, deflateSplit + 1, 5*deflateSplit + 17} {
		in := text(size)
		var first []byte
		for _, processors := range []int{1, 2, 5} {
			before := runtime.GOMAXPROCS(processors)
			var out bytes.Buffer
			d := newDeflater(&out)
			for rest := in; len(rest) > 0; {
				n := min(len(rest), 100_000*processors)
				if _, err := d.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			runtime.GOMAXPROCS(before)
			if first == nil {
				first = bytes.Clone(out.Bytes())
			} else if !bytes.Equal(first, out.Bytes()) {
				t.Errorf("%d bytes: other bytes with %d processors", size, processors)
			}
			got, err := io.ReadAll(flate.NewReader(&out))
			if err != nil || !bytes.Equal(got, in) {
				t.Errorf("%d bytes: %d are read again, %v", size, len(got), err)
			}
		}
	}
}

type full struct{}

var errFull = errors.New("full")

func (full) Write([]byte) (int, error) { return 0, errFull }

// TestDeflaterFails: an error of the file ends it, and nothing waits for ever.
func TestDeflaterFails(t *testing.T) {
	d := newDeflater(full{})
	for range 20 {
		if _, err := d.Write(text(deflateSplit)); err != nil {
			break
		}
	}
	if err := d.Close(); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
}

func BenchmarkDeflate(b *testing.B) {
	in := text(16 << 20)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		d := newDeflater(io.Discard)
		if _, err := d.Write(in); err != nil {
			b.Fatal(err)
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
