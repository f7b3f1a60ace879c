package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
)

// folder makes one self-contained package in a folder: datapackage.json with
// relative paths, data/, archive/ and README.md. All is written into a folder
// beside it, which takes its place at the end.
type folder struct {
	target  string
	staging string
	root    *os.Root
}

// openFolder prepares a package at target. What lies there must be nothing, an
// empty folder, or a package that an earlier run wrote.
func openFolder(target string) (*folder, error) {
	if err := replaceable(target); err != nil {
		return nil, err
	}
	parent := filepath.Dir(target)
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return nil, pathError(err)
	}
	staging, err := os.MkdirTemp(parent, "."+filepath.Base(target)+".")
	if err != nil {
		return nil, pathError(err)
	}
	if err := os.Chmod(staging, 0o755); err != nil {
		return nil, pathError(err)
	}
	root, err := os.OpenRoot(staging)
	if err != nil {
		return nil, pathError(err)
	}
	return &folder{target: target, staging: staging, root: root}, nil
}

func replaceable(target string) error {
	entries, err := os.ReadDir(target)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return pathError(err)
	}
	if leftover(entries) {
		return nil
	}
	b, err := readSmall(filepath.Join(target, "datapackage.json"))
	if err == nil {
		descriptor, err := datapackage.Decode(bytes.NewReader(b))
		datahub, _ := descriptor["datahub"].(map[string]any)
		if err == nil && datahub["flowid"] != nil {
			return nil
		}
	}
	return errs.New(errs.Invalid, "cli.openFolder", "%s holds other files; give an empty or a new folder to --out", target)
}

// failedMark is the file that a run leaves which failed, so that the next one knows the
// folder for its own.
const failedMark = ".failed-run"

// leftover reports whether a folder holds what a failed run left, and nothing else.
func leftover(entries []fs.DirEntry) bool {
	marked := false
	for _, e := range entries {
		switch e.Name() {
		case failedMark:
			marked = true
		case "data", "archive", "README.md":
		default:
			return false
		}
	}
	return marked
}

// temp is a folder for files in the making, on the same disk.
func (f *folder) temp() (string, error) {
	const name = ".tmp"
	if err := f.root.Mkdir(name, 0o700); err != nil {
		return "", err
	}
	return filepath.Join(f.staging, name), nil
}

// Put moves a finished file into the package.
func (f *folder) Put(_ context.Context, file engine.File) (key, ref string, err error) {
	rel, err := filepath.Rel(f.staging, file.Local)
	if err != nil {
		return "", "", err
	}
	if err := f.root.MkdirAll(path.Dir(file.Path), 0o755); err != nil {
		return "", "", err
	}
	if err := f.root.Rename(rel, file.Path); err != nil {
		return "", "", err
	}
	return file.Path, file.Path, f.root.Chmod(file.Path, 0o644)
}

// PutDescriptor writes the package's descriptor; those of single pipelines have
// no place in one self-contained package.
func (f *folder) PutDescriptor(_ context.Context, artifact string, body []byte) (string, error) {
	if artifact != "" {
		return "", nil
	}
	descriptor, err := datapackage.Decode(bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	if readme, ok := descriptor["readme"].(string); ok {
		if err := f.root.WriteFile("README.md", []byte(readme), 0o644); err != nil {
			return "", err
		}
	}
	return "datapackage.json", f.root.WriteFile("datapackage.json", body, 0o644)
}

// Open reads a file of the package.
func (f *folder) Open(_ context.Context, key string) (io.ReadCloser, error) { return f.root.Open(key) }

// Has reports false: the folder is new, and holds what this run makes.
func (f *folder) Has(context.Context, string, int64) bool { return false }

// commit puts the package in its place. A package that failed takes the place
// of nothing but another that failed: an earlier one that did not stays.
func (f *folder) commit(success bool) error {
	if err := f.root.RemoveAll(".tmp"); err != nil {
		return err
	}
	entries, err := os.ReadDir(f.target)
	exists := err == nil
	if !success {
		if exists && len(entries) > 0 && !leftover(entries) {
			return f.cancel()
		}
		if err := f.root.WriteFile(failedMark, []byte("The run that wrote this folder failed; the next one replaces it.\n"), 0o644); err != nil {
			return err
		}
	}
	if exists {
		old := f.staging + ".old"
		if err := os.Rename(f.target, old); err != nil {
			return pathError(err)
		}
		if err := os.Rename(f.staging, f.target); err != nil {
			return errors.Join(pathError(err), os.Rename(old, f.target))
		}
		return os.RemoveAll(old)
	}
	return pathError(os.Rename(f.staging, f.target))
}

// cancel leaves everything as it was.
func (f *folder) cancel() error {
	f.root.Close()
	return os.RemoveAll(f.staging)
}
