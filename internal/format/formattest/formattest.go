// Package formattest reads tables in the tests of the formats.
package formattest

import (
	"io"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/stream"
)

// EachRow reads a table to its end, or to an error, and calls each for its rows in turn,
// those before the error too. It gives the labels of the header.
func EachRow(r format.Reader, each func(b *stream.Batch, row int) error) (labels []string, err error) {
	if labels, err = r.Header(); err != nil {
		return nil, err
	}
	for {
		b, err := r.Next()
		if err == io.EOF {
			return labels, nil
		}
		if err != nil {
			return labels, err
		}
		for i := range b.Rows() {
			if err := each(b, i); err != nil {
				return labels, err
			}
		}
		b.Release()
	}
}
