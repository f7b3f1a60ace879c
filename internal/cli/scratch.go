package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/datahq/specstore/internal/objstore"
	"github.com/datahq/specstore/internal/private"
)

// scratch is the folder of a process's files in the making.
type scratch struct {
	dir  string
	mark string   // of its files in the making in stores
	lock *os.File // held while the process lives; nil where it is alone
}

const (
	scratchPrefix = "process-"
	scratchLock   = ".lock"
	aloneMark     = "alone"
	// A folder whose lock is not there was left by a version that made none.
	scratchAge = 24 * time.Hour
)

// openScratch makes the folder of this process. One that is alone, as the database's
// lock says, has all of temp and clears away what is in it; one that is not has a folder
// of its own there, and clears away those of processes that have died. So with what
// their runs were about to put into the store of packages.
func openScratch(temp, packages string, alone bool) (*scratch, error) {
	if alone {
		err := errors.Join(os.RemoveAll(temp), objstore.Clear(packages, aloneMark+"-"))
		if err == nil {
			err = private.Folder(temp)
		}
		return &scratch{dir: temp, mark: aloneMark}, err
	}
	if err := private.Folder(temp); err != nil {
		return nil, err
	}
	if err := clearScratch(temp, packages); err != nil {
		return nil, err
	}
	// The lock is there before the folder, so that no folder in use is without one.
	lock, err := os.CreateTemp(temp, scratchPrefix+"*"+scratchLock)
	if err != nil {
		return nil, err
	}
	s := &scratch{dir: strings.TrimSuffix(lock.Name(), scratchLock), lock: lock}
	s.mark = filepath.Base(s.dir)
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = os.Mkdir(s.dir, 0o700)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cli.openScratch: %w", err), s.close())
	}
	return s, nil
}

// clearScratch removes the folders of processes that have died.
func clearScratch(temp, packages string) error {
	entries, err := os.ReadDir(temp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), scratchPrefix) {
			continue
		}
		dir := filepath.Join(temp, e.Name())
		lock, dead := died(dir)
		if dead {
			err = errors.Join(err, os.RemoveAll(dir), objstore.Clear(packages, e.Name()+"-"))
		}
		if lock != nil {
			os.Remove(lock.Name())
			lock.Close()
		}
	}
	return err
}

// died reports whether the process of a folder has died, and returns the folder's lock,
// held, where there is one.
func died(dir string) (lock *os.File, dead bool) {
	lock, err := os.OpenFile(dir+scratchLock, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		info, err := os.Stat(dir)
		return nil, err == nil && time.Since(info.ModTime()) > scratchAge
	}
	if err != nil {
		return nil, false
	}
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		lock.Close()
		return nil, false
	}
	return lock, true
}

// close removes the folder.
func (s *scratch) close() error {
	err := os.RemoveAll(s.dir)
	if s.lock != nil {
		os.Remove(s.lock.Name())
		err = errors.Join(err, s.lock.Close())
	}
	return err
}
