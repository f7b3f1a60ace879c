package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"syscall"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
)

var errNoSpace = syscall.ENOSPC

func diskText(err error) string {
	if errors.Is(err, errNoSpace) {
		return "the disk is full"
	}
	return "the server may not write where it should"
}

// spool is a temporary file that is hashed while it is written. Its descriptor
// stays open, so it can be read after a sink has moved the file away.
type spool struct {
	file  *os.File
	hash  hash.Hash
	bytes int64
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "spool-")
	if err != nil {
		return nil, wrapDisk(err)
	}
	return &spool{file: f, hash: sha256.New()}, nil
}

// Write appends to the file.
func (s *spool) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.hash.Write(p[:n])
	s.bytes += int64(n)
	if err != nil {
		return n, wrapDisk(err)
	}
	return n, nil
}

// sum is the SHA-256 of what was written, hexadecimal.
func (s *spool) sum() string { return hex.EncodeToString(s.hash.Sum(nil)) }

// reader reads the file from its beginning.
func (s *spool) reader() io.Reader { return io.NewSectionReader(s.file, 0, s.bytes) }

// again makes a spool of its own with the same bytes.
func (s *spool) again(ctx context.Context, dir string) (*spool, error) {
	c, err := newSpool(dir)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(c, format.Bound(ctx, s.reader())); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (s *spool) close() {
	if s == nil {
		return
	}
	s.file.Close()
	os.Remove(s.file.Name())
}

func wrapDisk(err error) error {
	if errors.Is(err, errNoSpace) || errors.Is(err, os.ErrPermission) {
		return errs.Wrap(err, errs.Unavailable, "engine.spool", "%s", diskText(err))
	}
	return err
}
