//go:build unix

// Package private keeps files and folders of the service from other users of the
// machine: files have the mode 0600 and folders 0700, whatever the umask is and
// whatever mode they had. What belongs to another user, or is no file or folder of
// that name, is left as it is.
package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	fileMode   = 0o600
	folderMode = 0o700
	others     = 0o077 // what group and others may do
)

// Open opens a file for reading and writing, which it makes where it is missing. Its
// mode is that of a private file before it returns.
func Open(path string) (*os.File, error) {
	// A pipe of that name would be waited for.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK, fileMode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("it is not a regular file")}
	}
	if err == nil {
		err = restrict(f, info, fileMode)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Repair sets the mode of files that are there to that of a private file.
func Repair(paths ...string) error {
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue // of another user, or closed to its own
		}
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil && info.Mode().IsRegular() {
			err = restrict(f, info, fileMode)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// restrict takes the rights of others off a file or folder of this user.
func restrict(f *os.File, info fs.FileInfo, mode fs.FileMode) error {
	if info.Mode().Perm()&others == 0 || !Own(info) {
		return nil
	}
	return f.Chmod(mode)
}

// Own reports whether a file or folder belongs to the user of this process.
func Own(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// Folder makes a folder where it is missing, with those above it, and sets its mode to the one
// of a private folder.
func Folder(path string) error {
	if err := os.MkdirAll(path, folderMode); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = restrict(f, info, folderMode)
	}
	return errors.Join(err, f.Close())
}

// Exposed reports whether others than the owner may list, enter or change a folder.
func Exposed(path string) (mode fs.FileMode, exposed bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	return info.Mode().Perm(), info.Mode().Perm()&others != 0
}

// Write puts a private file in the place of whatever file or link has its name.
func Write(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}
