package fetch

import (
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
)

// drip reads a byte a call and lets its clock go on by a time.
type drip struct {
	now  time.Time
	each time.Duration
	n    int
}

func (d *drip) Read(p []byte) (int, error) {
	d.now = d.now.Add(d.each)
	n := min(d.n, len(p))
	clear(p[:n])
	return n, nil
}

func (d *drip) Close() error { return nil }

func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		each  time.Duration // a read
		n     int           // bytes of a read
		reads int
		fails bool
	}{
		"fast":            {time.Millisecond, 1000, 100_000, false},
		"at the rate":     {time.Second, 1024, 1000, false},
		"drips":           {time.Second, 10, 60, true},
		"just below":      {time.Second, 1023, 60, true},
		"few, in no time": {time.Millisecond, 1, 1000, false},
	} {
		d := &drip{each: c.each, n: c.n}
		p := &pace{ReadCloser: d, rate: 1024, window: rateWindow, now: func() time.Time { return d.now }}
		var err error
		b := make([]byte, 4096)
		for range c.reads {
			if _, err = p.Read(b); err != nil {
				break
			}
		}
		if fails := errs.Is(err, errs.Unavailable) && strings.Contains(errs.Detail(err), "too slow"); fails != c.fails {
			t.Errorf("%s: got %v, want a failure: %t", name, err, c.fails)
		}
	}
}
