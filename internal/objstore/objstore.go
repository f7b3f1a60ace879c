// Package objstore keeps objects, files of bytes under a key, in a folder.
//
// An object is there whole or not at all: it is written beside its place, flushed
// to the disk and renamed. An object that was committed survives the end of the
// process and of the power. Keys are paths of any UTF-8 names; one that would lead
// out of the folder is refused, whoever chose it.
package objstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/datahq/specstore/internal/errs"
)

// Local is a store in a folder of this machine. Any number of goroutines and
// processes may use one folder.
type Local struct {
	dir  string
	root *os.Root
}

// Info is what is known of an object.
type Info struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Object is an object that is open for reading.
type Object interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// tempDir holds what is being written. It is no key.
const tempDir = ".tmp"

const maxPart = 255 // bytes of a part of a key: what file systems take

// OpenLocal opens the store in a folder, which it makes where there is none.
func OpenLocal(dir string) (*Local, error) {
	if err := os.MkdirAll(filepath.Join(dir, tempDir), 0o750); err != nil {
		return nil, fmt.Errorf("objstore.OpenLocal: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("objstore.OpenLocal: %w", err)
	}
	s := &Local{dir, root}
	s.sweep()
	return s, nil
}

// Close lets the folder go.
func (s *Local) Close() error { return s.root.Close() }

// sweep removes what was left behind by processes that were killed.
func (s *Local) sweep() {
	entries, err := fs.ReadDir(s.root.FS(), tempDir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			s.root.Remove(path.Join(tempDir, e.Name()))
		}
	}
}

// CheckKey refuses what is no key, with Invalid.
func CheckKey(key string) error {
	bad := key == "" || strings.ContainsAny(key, "\x00\\") || !fs.ValidPath(key) || key == "."
	first, _, _ := strings.Cut(key, "/")
	bad = bad || first == tempDir
	for part := range strings.SplitSeq(key, "/") {
		bad = bad || len(part) > maxPart
	}
	if bad {
		return errs.New(errs.Invalid, "objstore", "%.300q is not the key of an object", key)
	}
	return nil
}

// failure gives an error its kind.
func failure(op, key string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return errs.Wrap(err, errs.NotFound, op, "there is no object %q", key)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.Wrap(err, errs.Unavailable, op, "the disk is full")
	}
	return fmt.Errorf("%s %q: %w", op, key, err)
}

// Writer writes one object. It appears when Commit returns; after Cancel, which
// may follow Commit, nothing is left of one that was not committed.
type Writer struct {
	store *Local
	key   string
	temp  string
	file  *os.File
}

// Create begins an object. One of the same key is replaced at the commit.
func (s *Local) Create(_ context.Context, key string) (*Writer, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	temp := path.Join(tempDir, rand.Text())
	f, err := s.root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, failure("objstore.Create", key, err)
	}
	return &Writer{s, key, temp, f}, nil
}

// Write appends.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if err != nil {
		err = failure("objstore.Write", w.key, err)
	}
	return n, err
}

// Commit makes the object appear.
func (w *Writer) Commit() error {
	err := w.file.Sync()
	if closed := w.file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = w.store.place(w.temp, w.key)
	}
	if err != nil {
		return failure("objstore.Commit", w.key, err)
	}
	w.file = nil
	return nil
}

// Cancel drops the object. It does nothing after a commit.
func (w *Writer) Cancel() {
	if w.file == nil {
		return
	}
	w.file.Close()
	w.store.root.Remove(w.temp)
	w.file = nil
}

// place renames a flushed file of the store to its key and flushes the folders.
func (s *Local) place(temp, key string) error {
	folder := path.Dir(key)
	made := folder
	for made != "." {
		if _, err := s.root.Stat(made); err == nil {
			break
		}
		made = path.Dir(made)
	}
	if err := s.root.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	if err := s.root.Rename(temp, key); err != nil {
		return err
	}
	// A folder that is new is an entry of the one above it.
	for dir := folder; ; dir = path.Dir(dir) {
		if err := s.syncFolder(dir); err != nil {
			return err
		}
		if dir == made || dir == "." {
			return nil
		}
	}
}

func (s *Local) syncFolder(dir string) error {
	f, err := s.root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Import makes an object of a finished file, which is moved away from where it
// lies, or copied where that is on another file system.
func (s *Local) Import(ctx context.Context, key, file string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("objstore.Import: %w", err)
	}
	defer f.Close()
	temp := path.Join(tempDir, rand.Text())
	if err := os.Rename(file, filepath.Join(s.dir, filepath.FromSlash(temp))); err != nil {
		return s.copy(ctx, key, f)
	}
	err = f.Chmod(0o640)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.place(temp, key)
	}
	if err != nil {
		s.root.Remove(temp)
		return failure("objstore.Import", key, err)
	}
	return nil
}

func (s *Local) copy(ctx context.Context, key string, from io.Reader) error {
	w, err := s.Create(ctx, key)
	if err != nil {
		return err
	}
	defer w.Cancel()
	if _, err := io.Copy(w, from); err != nil {
		return err
	}
	return w.Commit()
}

// Put makes an object of bytes.
func (s *Local) Put(ctx context.Context, key string, body []byte) error {
	w, err := s.Create(ctx, key)
	if err != nil {
		return err
	}
	defer w.Cancel()
	if _, err := w.Write(body); err != nil {
		return err
	}
	return w.Commit()
}

// Open opens an object. It fails with NotFound where there is none.
func (s *Local) Open(_ context.Context, key string) (Object, Info, error) {
	if err := CheckKey(key); err != nil {
		return nil, Info{}, err
	}
	f, err := s.root.Open(key)
	if err != nil {
		return nil, Info{}, failure("objstore.Open", key, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, Info{}, failure("objstore.Open", key, err)
	}
	return f, Info{key, info.Size(), info.ModTime()}, nil
}

// Stat tells of an object. It fails with NotFound where there is none.
func (s *Local) Stat(_ context.Context, key string) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	info, err := s.root.Stat(key)
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, failure("objstore.Stat", key, err)
	}
	return Info{key, info.Size(), info.ModTime()}, nil
}

// Delete removes an object; one that is not there is removed already.
func (s *Local) Delete(_ context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := s.root.Remove(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failure("objstore.Delete", key, err)
	}
	return nil
}
