package objstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/private"
)

const (
	abandonedAfter = 24 * time.Hour
	maxKnown       = 4096 // folders
)

// Local keeps objects as files below a folder, at the path that is their key.
// Several processes may use one folder. A key cannot be both an object and the
// folder of others: the later one is refused with [errs.Conflict].
//
// What is written goes to a temporary file in the folder "_tmp", which is on the
// same file system, and is renamed into place after its bytes are on disk.
type Local struct {
	root *os.Root
	dir  string // absolute
	mark string // that names of temporary files begin with

	mu    sync.Mutex
	known map[string]bool // folders whose entry in their parent is on disk
}

var _ Store = (*Local)(nil)

// OpenLocal opens the store below a folder, which it makes where it is missing,
// and removes temporary files that nobody has written to for a day.
func OpenLocal(dir string) (*Local, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("objstore: %w", err)
	}
	if err := private.Folder(abs); err != nil {
		return nil, fmt.Errorf("objstore: %w", err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fmt.Errorf("objstore: %w", err)
	}
	l := &Local{root: root, dir: abs, known: map[string]bool{}}
	if err := l.prepare(); err != nil {
		root.Close()
		return nil, fmt.Errorf("objstore: %w", err)
	}
	return l, nil
}

// Mark has the names of the temporary files that this one writes begin with a text of
// letters, digits and "-", so that [Clear] finds them when their writer has died. It is
// for before the first use.
func (l *Local) Mark(mark string) { l.mark = mark }

func (l *Local) temporary() string { return path.Join(reserved, l.mark+rand.Text()) }

// Clear removes the temporary files whose names begin with a text from the store below a
// folder, which need not be there. Nobody may be writing under such a mark.
func Clear(dir, prefix string) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("objstore.Clear: %w", err)
	}
	defer root.Close()
	l := &Local{root: root}
	entries, err := l.readDir(reserved)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("objstore.Clear: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		if err := root.Remove(path.Join(reserved, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("objstore.Clear: %w", err)
		}
	}
	return nil
}

// Close frees the folder. Objects that are open stay so.
func (l *Local) Close() error { return l.root.Close() }

func (l *Local) prepare() error {
	if err := private.Folder(filepath.Join(l.dir, reserved)); err != nil {
		return err
	}
	entries, err := l.readDir(reserved)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > abandonedAfter {
			err = l.root.Remove(path.Join(reserved, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Create starts an object.
func (l *Local) Create(ctx context.Context, key string) (Writer, error) {
	if err := check(ctx, key); err != nil {
		return nil, err
	}
	temp := l.temporary()
	f, err := l.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, failure(err, "objstore.Create", key)
	}
	return &localWriter{l: l, file: f, temp: temp, key: key, cause: func() error { return context.Cause(ctx) }}, nil
}

// Import moves a file into the store by renaming it, or copies it where it lies
// on another file system.
func (l *Local) Import(ctx context.Context, key, localPath string) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	info, err := os.Lstat(localPath)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return fmt.Errorf("objstore: import: %w", err)
	}
	f, err := os.Open(localPath)
	if err != nil {
		return fmt.Errorf("objstore: import: %w", err)
	}
	defer f.Close()
	temp := l.temporary()
	full := filepath.Join(l.dir, filepath.FromSlash(temp))
	// Through the folder of temporary files, since only os.Root looks after the
	// symbolic links on the way to the target.
	if err := os.Rename(localPath, full); err != nil {
		return l.importCopy(ctx, key, f, localPath)
	}
	err = f.Chmod(0o600)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.publish(temp, key)
	}
	if err != nil {
		return failure(errors.Join(err, restore(full, localPath)), "objstore.Import", key)
	}
	return nil
}

// restore puts back a file that could not be published. One that was published
// and only not made durable is gone from the folder of temporary files.
func restore(full, localPath string) error {
	if err := os.Rename(full, localPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (l *Local) importCopy(ctx context.Context, key string, f *os.File, localPath string) error {
	w, err := l.Create(ctx, key)
	if err != nil {
		return err
	}
	defer func() { _ = w.Cancel() }()
	if _, err := io.Copy(w, f); err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	if err := os.Remove(localPath); err != nil {
		return fmt.Errorf("objstore: import: %w", err)
	}
	return nil
}

// Link adds a second key to an object without copying its bytes. A key that is there
// already stays as it is.
func (l *Local) Link(ctx context.Context, from, to string) error {
	if err := check(ctx, from); err != nil {
		return err
	}
	if err := check(ctx, to); err != nil {
		return err
	}
	dir := path.Dir(to)
	if err := l.makeDir(dir); err != nil {
		return failure(err, "objstore.Link", to)
	}
	if err := l.root.Link(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return failure(err, "objstore.Link", from)
	}
	return l.syncDir(dir)
}

// Open opens an object for reading.
func (l *Local) Open(ctx context.Context, key string) (Object, error) {
	if err := check(ctx, key); err != nil {
		return nil, err
	}
	f, err := l.root.Open(key)
	if err != nil {
		return nil, failure(err, "objstore.Open", key)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, failure(err, "objstore.Open", key)
	}
	return &localObject{f, info.Size(), info.ModTime()}, nil
}

// Stat describes an object.
func (l *Local) Stat(ctx context.Context, key string) (Info, error) {
	if err := check(ctx, key); err != nil {
		return Info{}, err
	}
	info, err := l.root.Stat(key)
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, failure(err, "objstore.Stat", key)
	}
	return Info{Key: key, Size: info.Size(), ModTime: info.ModTime()}, nil
}

// Delete removes an object. The folder it was in stays.
func (l *Local) Delete(ctx context.Context, key string) error {
	_, err := l.Stat(ctx, key)
	if err == nil {
		err = l.root.Remove(key)
		if err == nil {
			err = l.syncDir(path.Dir(key))
		}
		err = failure(err, "objstore.Delete", key)
	}
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// List gives the objects whose keys start with the prefix. It holds the names of
// one folder and of those above it in memory.
func (l *Local) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		dir := "."
		if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
			dir = prefix[:i]
			if err := CheckKey(dir); err != nil {
				yield(Info{}, err)
				return
			}
		}
		l.walk(ctx, dir, prefix, yield)
	}
}

// walk lists one folder and reports whether to go on.
func (l *Local) walk(ctx context.Context, dir, prefix string, yield func(Info, error) bool) bool {
	entries, err := l.readDir(dir)
	if err != nil {
		err = failure(err, "objstore.List", dir)
		return errs.Is(err, errs.NotFound) || yieldError(yield, err)
	}
	// Keys below the folder "a" come after the key "a-b": a slash is greater.
	sortName := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(x, y fs.DirEntry) int { return cmp.Compare(sortName(x), sortName(y)) })
	for _, e := range entries {
		if err := context.Cause(ctx); err != nil {
			return yieldError(yield, err)
		}
		key := path.Join(dir, e.Name())
		if key == reserved {
			continue
		}
		if e.IsDir() {
			if strings.HasPrefix(key+"/", prefix) || strings.HasPrefix(prefix, key+"/") {
				if !l.walk(ctx, key, prefix, yield) {
					return false
				}
			}
			continue
		}
		if !strings.HasPrefix(key, prefix) || badKey(key) != "" {
			continue
		}
		info, err := l.Stat(ctx, key)
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return yieldError(yield, err)
		}
		if !yield(info, nil) {
			return false
		}
	}
	return true
}

func yieldError(yield func(Info, error) bool, err error) bool {
	yield(Info{}, err)
	return false
}

func (l *Local) readDir(dir string) ([]fs.DirEntry, error) {
	f, err := l.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// publish renames a temporary file, whose bytes are on disk, into place.
func (l *Local) publish(temp, key string) error {
	dir := path.Dir(key)
	if err := l.makeDir(dir); err != nil {
		return err
	}
	if err := l.root.Rename(temp, key); err != nil {
		return err
	}
	return l.syncDir(dir)
}

// makeDir makes a folder whose entries up to the root are on disk. A folder that
// is there may have been made a moment ago by someone who has not yet synced it,
// so it is synced here too, once.
func (l *Local) makeDir(dir string) error {
	if dir == "." || l.isKnown(dir) {
		return nil
	}
	parent := path.Dir(dir)
	if err := l.makeDir(parent); err != nil {
		return err
	}
	if err := l.root.Mkdir(dir, 0o700); err != nil {
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		info, err := l.root.Stat(dir)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return syscall.ENOTDIR
		}
	}
	if err := l.syncDir(parent); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.known) >= maxKnown {
		clear(l.known)
	}
	l.known[dir] = true
	return nil
}

func (l *Local) isKnown(dir string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[dir]
}

func (l *Local) syncDir(dir string) error {
	if runtime.GOOS == "windows" { // where folders cannot be synced
		return nil
	}
	f, err := l.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func check(ctx context.Context, key string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return CheckKey(key)
}

// failure gives an error of the file system its kind.
func failure(err error, op, key string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.Wrap(errors.Join(errs.ErrFull, err), errs.Unavailable, op, "the disk of the store is full; try again later")
	case op == "objstore.Create" || op == "objstore.Commit" || op == "objstore.Import":
		if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) || errors.Is(err, fs.ErrExist) {
			return errs.Wrap(err, errs.Conflict, op, "the key %.80q names an object and a folder of others", key)
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return errs.Wrap(err, errs.NotFound, op, "there is no object %.80q", key)
	}
	return fmt.Errorf("%s: %w", op, err)
}

type localWriter struct {
	l     *Local
	file  *os.File // nil after the end
	temp  string
	key   string
	cause func() error // why the writing must stop
	err   error        // the first failed write; its object must not appear
}

func (w *localWriter) Write(p []byte) (int, error) {
	if w.file == nil {
		return 0, errors.New("objstore: write after the end")
	}
	if err := cmp.Or(w.err, w.cause()); err != nil {
		return 0, err
	}
	n, err := w.file.Write(p)
	if err != nil {
		w.err = failure(err, "objstore.Write", w.key)
	}
	return n, w.err
}

func (w *localWriter) Commit() error {
	if w.file == nil {
		return errors.New("objstore: commit after the end")
	}
	if err := cmp.Or(w.err, w.cause()); err != nil {
		_ = w.Cancel()
		return err
	}
	err := errors.Join(w.file.Sync(), w.file.Close())
	w.file = nil
	if err == nil {
		err = w.l.publish(w.temp, w.key)
	}
	if err != nil {
		_ = w.l.root.Remove(w.temp)
		return failure(err, "objstore.Commit", w.key)
	}
	return nil
}

func (w *localWriter) Cancel() error {
	if w.file == nil {
		return nil
	}
	err := errors.Join(w.file.Close(), w.l.root.Remove(w.temp))
	w.file = nil
	return failure(err, "objstore.Cancel", w.key)
}

type localObject struct {
	*os.File
	size int64
	mod  time.Time
}

func (o *localObject) Size() int64        { return o.size }
func (o *localObject) ModTime() time.Time { return o.mod }
