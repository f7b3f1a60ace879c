package standard_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/datahq/specstore/internal/errs"
)

// testDisk reads and writes files of a folder.
type testDisk struct{ dir string }

func (d testDisk) Absolute(url string) string {
	if filepath.IsAbs(url) {
		return url
	}
	return filepath.ToSlash(filepath.Join(d.dir, url))
}

func (d testDisk) Open(_ context.Context, url string) (io.ReadCloser, error) {
	f, err := os.Open(d.Absolute(url))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.NotFound, "test", "%s: no such file", url)
	}
	return f, err
}

func (d testDisk) Put(_ context.Context, path, local string) error {
	to := d.Absolute(path)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.Rename(local, to)
}
