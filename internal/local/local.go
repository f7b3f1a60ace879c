//go:build unix

// Package local opens files of this machine for commands.
//
// There are two ways in, and both return regular files alone, without waiting for what
// is none: a pipe, a device, a socket and a folder are refused. [Open] opens what the
// user named, through links if it is one. [Folder] opens what something in a folder
// names (a descriptor, a spec), which may be somebody else's: nothing outside of the
// folder is opened, by a path or through a link.
package local

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/datahq/specstore/internal/errs"
)

// readOnly never waits for somebody to write into a pipe.
const readOnly = os.O_RDONLY | syscall.O_NONBLOCK

// Open opens a file that the user named. Its failures are Invalid and say the path.
func Open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, failure(path, err)
	}
	if err := regular(path, info); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, readOnly, 0)
	if err != nil {
		return nil, failure(path, err)
	}
	return checked(path, f)
}

// checked looks at a file again that was opened: it may be another than before.
func checked(path string, f *os.File) (*os.File, error) {
	info, err := f.Stat()
	if err == nil {
		err = regular(path, info)
	}
	if err != nil {
		return nil, errors.Join(failure(path, err), f.Close())
	}
	return f, nil
}

// regular refuses what is not a regular file.
func regular(path string, info fs.FileInfo) error {
	var what string
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		what = "a folder"
	case mode&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	default:
		what = "something else"
	}
	return errs.New(errs.Invalid, "local.Open", "%s is %s: it must be a regular file", path, what)
}

func failure(path string, err error) error {
	if _, ok := errors.AsType[*errs.Error](err); ok || err == nil {
		return err
	}
	reason := err
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		reason = pe.Err
	}
	return errs.Wrap(err, errs.Invalid, "local.Open", "%s: %s", path, reason)
}

// Folder is a folder out of which nothing leads.
type Folder struct {
	dir  string
	root *os.Root
}

// OpenFolder opens a folder, which may be named through a link.
func OpenFolder(dir string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, failure(dir, err)
	}
	return &Folder{filepath.Clean(dir), root}, nil
}

// Close closes the folder. Files that are open stay so.
func (f *Folder) Close() error { return f.root.Close() }

// Open opens a file of the folder by its path, which is relative to the folder, or is
// the folder's own path and more. Its failures are Invalid and say the path.
func (f *Folder) Open(path string) (*os.File, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(f.dir, path)
	}
	rel, err := filepath.Rel(f.dir, path)
	if err != nil || !filepath.IsLocal(rel) {
		return nil, errs.New(errs.Invalid, "local.Open", "%s lies outside of %s: only files in that folder are read", path, f.dir)
	}
	info, err := f.root.Stat(rel)
	if err == nil {
		if err := regular(path, info); err != nil {
			return nil, err
		}
		var file *os.File
		if file, err = f.root.OpenFile(rel, readOnly, 0); err == nil {
			return checked(path, file)
		}
	}
	if f.leadsOut(rel) {
		return nil, errs.Wrap(err, errs.Invalid, "local.Open", "%s is a link that leads out of %s: only files in that folder are read", path, f.dir)
	}
	return nil, failure(path, err)
}

// leadsOut reports whether links on the way to a file lead out of the folder, for the
// words of a refusal.
func (f *Folder) leadsOut(rel string) bool {
	where, err := filepath.EvalSymlinks(filepath.Join(f.dir, rel))
	if err != nil {
		return false
	}
	dir, err := filepath.EvalSymlinks(f.dir)
	if err != nil {
		return false
	}
	back, err := filepath.Rel(dir, where)
	return err != nil || !filepath.IsLocal(back)
}

// ReadAll reads a file of at most limit bytes and closes it. A longer one is TooLarge.
func ReadAll(f *os.File, limit int64) ([]byte, error) {
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, failure(f.Name(), err)
	}
	if int64(len(b)) > limit {
		return nil, errs.New(errs.TooLarge, "local.ReadAll", "%s is larger than %d MiB", f.Name(), limit>>20)
	}
	return b, nil
}
