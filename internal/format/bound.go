package format

import (
	"context"
	"io"
)

// Bound reads from r until ctx ends; its error is then the cause. Whatever loops over a
// file ends with what it reads from.
func Bound(ctx context.Context, r io.Reader) io.Reader { return &bound{ctx, r} }

type bound struct {
	ctx context.Context
	r   io.Reader
}

func (b *bound) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	return b.r.Read(p)
}

// BoundAt is [Bound] of a file that is read at places.
func BoundAt(ctx context.Context, r io.ReaderAt) io.ReaderAt { return &boundAt{ctx, r} }

type boundAt struct {
	ctx context.Context
	r   io.ReaderAt
}

func (b *boundAt) ReadAt(p []byte, at int64) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	return b.r.ReadAt(p, at)
}
