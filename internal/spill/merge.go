package spill

import "io"

// cursor reads the items of a sorted run one by one. It holds the last one that next
// read; the end is io.EOF.
type cursor interface{ next() error }

// merge gives the cursors in the order of their items: each time the one whose item
// comes before those of all others. before is a strict order. Where yield is false it
// stops.
func merge[C cursor](cursors []C, before func(x, y C) bool, yield func(C) bool) error {
	h := make([]C, 0, len(cursors))
	for _, c := range cursors {
		switch err := c.next(); err {
		case nil:
			h = append(h, c)
		case io.EOF:
		default:
			return err
		}
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		down(h, i, before)
	}
	for len(h) > 0 && yield(h[0]) {
		switch err := h[0].next(); err {
		case nil:
		case io.EOF:
			h[0] = h[len(h)-1]
			h = h[:len(h)-1]
		default:
			return err
		}
		down(h, 0, before)
	}
	return nil
}

// down puts the cursor at i of a heap where it belongs among those below it.
func down[C cursor](h []C, i int, before func(x, y C) bool) {
	for {
		low := 2*i + 1
		if low >= len(h) {
			return
		}
		if right := low + 1; right < len(h) && before(h[right], h[low]) {
			low = right
		}
		if !before(h[low], h[i]) {
			return
		}
		h[i], h[low] = h[low], h[i]
		i = low
	}
}
