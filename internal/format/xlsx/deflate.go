package xlsx

import (
	"io"

	"github.com/klauspost/compress/flate"
)

// deflater compresses a part, but to no less than a fiftieth: readers take a part
// that is compressed to less than a hundredth for one made to do harm, and so would
// they a table that says the same in every row. What is compressed too well is
// followed by a stretch without references to what came before.
type deflater struct {
	out     counter
	w       *flate.Writer // the one in use
	full    *flate.Writer
	literal *flate.Writer // made when it is needed
	in      int64
	block   int // bytes since the last look
}

const (
	deflateLevel = 6
	deflateBlock = 64 << 10
	writeRatio   = 50
)

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func newDeflater(w io.Writer) (io.WriteCloser, error) {
	d := &deflater{out: counter{w: w}}
	var err error
	d.full, err = flate.NewWriter(&d.out, deflateLevel)
	d.w = d.full
	return d, err
}

func (d *deflater) Write(p []byte) (int, error) {
	done := 0
	for len(p) > 0 {
		n, err := d.w.Write(p[:min(len(p), deflateBlock-d.block)])
		done += n
		if err != nil {
			return done, err
		}
		p = p[n:]
		d.in += int64(n)
		if d.block += n; d.block == deflateBlock {
			d.block = 0
			if err := d.look(); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// look chooses how the next block is compressed.
func (d *deflater) look() error {
	if err := d.w.Flush(); err != nil {
		return err
	}
	next := d.full
	if d.in/writeRatio > d.out.n {
		if d.literal == nil {
			var err error
			if d.literal, err = flate.NewWriter(&d.out, flate.HuffmanOnly); err != nil {
				return err
			}
		}
		next = d.literal
	}
	if next != d.w {
		next.Reset(&d.out) // it knows nothing of what the other wrote
		d.w = next
	}
	return nil
}

func (d *deflater) Close() error { return d.w.Close() }
