package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/fetch"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/format/sqlite"
)

// localOwner is who owns what is run without a server.
const localOwner = "local"

// maxSpecBytes bounds a spec or descriptor that is read from a file.
const maxSpecBytes = 16 << 20

// readSmall reads a whole file that describes data: a spec, a descriptor, a README.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, pathError(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSpecBytes+1))
	if err != nil {
		return nil, pathError(err)
	}
	if len(b) > maxSpecBytes {
		return nil, errs.New(errs.TooLarge, "cli.readSmall", "%s is larger than %d MiB", path, maxSpecBytes>>20)
	}
	return b, nil
}

// pathError says what is wrong with a path that the user named.
func pathError(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return errs.Wrap(err, errs.Invalid, "cli", "%s: %s", pe.Path, pe.Err)
	}
	return err
}

// readSpec reads a Flow-Spec from a file, YAML or JSON by its ending.
func readSpec(path string) (map[string]any, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	if ext := strings.ToLower(filepath.Ext(path)); ext == ".yaml" || ext == ".yml" {
		return flowspec.ParseYAML(b)
	}
	return flowspec.ParseJSON(b)
}

// readPackage reads the descriptor of a folder. Its README.md becomes the
// descriptor's `readme` where that has none.
func readPackage(dir string) (map[string]any, error) {
	b, err := readSmall(filepath.Join(dir, "datapackage.json"))
	if err != nil {
		return nil, err
	}
	descriptor, err := datapackage.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if _, ok := descriptor["readme"]; !ok {
		readme, err := readSmall(filepath.Join(dir, "README.md"))
		if err == nil {
			descriptor["readme"] = string(readme)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return descriptor, inlineFiles(descriptor, dir)
}

// decodeObject reads a JSON object that a file holds, YAML by its ending.
func decodeObject(name string, b []byte) (map[string]any, error) {
	var v map[string]any
	var err error
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml":
		v, err = flowspec.ParseYAML(b)
	default:
		v, err = datapackage.Decode(bytes.NewReader(b))
	}
	if err != nil {
		return nil, errs.Wrap(err, errs.Invalid, "cli.decodeObject", "%s: %s", name, errs.Detail(err))
	}
	return v, nil
}

// inlineFiles puts the schemas and dialects in the place of the paths by which resources
// of a package in a folder name them, for what is sent to a server has no such files. The
// paths lead nowhere out of the folder; a file is read once.
func inlineFiles(descriptor map[string]any, dir string) error {
	var root *os.Root
	defer func() {
		if root != nil {
			root.Close()
		}
	}()
	read := map[string]map[string]any{}
	resources, _ := descriptor["resources"].([]any)
	for i, v := range resources {
		resource, _ := v.(map[string]any)
		for _, key := range []string{"schema", "dialect"} {
			path, ok := resource[key].(string)
			if !ok || path == "" || path[0] == '#' || isURL(path) {
				continue // an address is not fetched, as the check of the descriptor says
			}
			at := datapackage.Pointer("resources", i, key)
			if !datapackage.SafePath(path) {
				return errs.New(errs.Invalid, "cli.inlineFiles", "%s: %q is not a relative path inside the package", at, path)
			}
			if read[path] == nil {
				if root == nil {
					var err error
					if root, err = os.OpenRoot(dir); err != nil {
						return pathError(err)
					}
				}
				b, err := readIn(root, path)
				if err == nil {
					read[path], err = decodeObject(path, b)
				}
				if err != nil {
					return errs.Wrap(err, errs.Invalid, "cli.inlineFiles", "%s: %s", at, errs.Detail(pathError(err)))
				}
			}
			resource[key] = maps.Clone(read[path])
		}
	}
	return nil
}

// readIn reads a small file of a folder.
func readIn(root *os.Root, path string) ([]byte, error) {
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errs.New(errs.Invalid, "cli.readIn", "%s is not a file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSpecBytes+1))
	if err == nil && len(b) > maxSpecBytes {
		err = errs.New(errs.TooLarge, "cli.readIn", "%s is larger than %d MiB", path, maxSpecBytes>>20)
	}
	return b, err
}

// localSpec makes the Flow-Spec of what lies at path: a folder with a
// datapackage.json, or a Flow-Spec file. Paths in it are absolute.
func localSpec(path string) (map[string]any, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, pathError(err)
	}
	if !info.IsDir() {
		switch strings.ToLower(filepath.Ext(path)) {
		case ".yaml", ".yml", ".json":
		default:
			return nil, errs.New(errs.Invalid, "cli.localSpec", "%s is neither a folder with a datapackage.json nor a Flow-Spec (.yaml or .json)", path)
		}
		if filepath.Base(path) == "datapackage.json" {
			return localSpec(filepath.Dir(path))
		}
		raw, err := readSpec(path)
		if err != nil {
			return nil, err
		}
		return raw, baseInput(raw, filepath.Dir(path))
	}
	if flow := filepath.Join(path, ".datahub", "flow.yaml"); fileExists(flow) {
		raw, err := readSpec(flow)
		if err != nil {
			return nil, err
		}
		return raw, baseInput(raw, path)
	}
	descriptor, err := readPackage(path)
	if err != nil {
		return nil, err
	}
	name, _ := descriptor["name"].(string)
	if name == "" {
		name = strings.ToLower(filepath.Base(path))
	}
	return map[string]any{
		"meta": map[string]any{"version": 1, "ownerid": localOwner, "owner": localOwner, "dataset": name, "findability": "published"},
		"inputs": []any{map[string]any{
			"kind": "datapackage", "url": filepath.Join(path, "datapackage.json"),
			"parameters": map[string]any{"descriptor": descriptor},
		}},
	}, nil
}

func fileExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// baseInput makes the local paths of a Flow-Spec absolute: its base and what its
// resources are mapped to. Schemas and dialects that are paths are read.
func baseInput(raw map[string]any, dir string) error {
	inputs, _ := raw["inputs"].([]any)
	for _, in := range inputs {
		input, _ := in.(map[string]any)
		if input == nil {
			continue
		}
		if url, ok := input["url"].(string); ok {
			input["url"] = localPath(dir, url)
		} else if input["url"] == nil {
			input["url"] = filepath.Join(dir, "datapackage.json")
		}
		parameters, _ := input["parameters"].(map[string]any)
		mapping, _ := parameters["resource-mapping"].(map[string]any)
		for k, v := range mapping {
			if s, ok := v.(string); ok {
				mapping[k] = localPath(dir, s)
			}
		}
		descriptor, _ := parameters["descriptor"].(map[string]any)
		if url, _ := input["url"].(string); descriptor != nil && !isURL(url) {
			if err := inlineFiles(descriptor, filepath.Dir(url)); err != nil {
				return err
			}
		}
	}
	return nil
}

func localPath(dir, p string) string {
	if isURL(p) || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// localSources reads files of this machine and http(s) URLs. It is for flows
// that the user at the terminal runs; a server never reads local paths.
type localSources struct {
	base   string // what file names are shown relative to
	inside bool   // base is a package: what lies in it must not lead out of it
	fetch  *fetch.Client
}

// Open opens a file or a URL.
func (s *localSources) Open(ctx context.Context, url string) (io.ReadCloser, engine.SourceInfo, error) {
	if isURL(url) {
		body, info, err := s.fetch.Open(ctx, url)
		if err != nil {
			return nil, engine.SourceInfo{}, err
		}
		scheme, _, _ := strings.Cut(url, ":")
		return body, engine.SourceInfo{Size: info.Size, Name: info.URL, Scheme: scheme}, nil
	}
	base := ""
	if s.inside {
		base = s.base
	}
	f, err := openLocal(base, url)
	if err != nil {
		return nil, engine.SourceInfo{}, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, engine.SourceInfo{}, pathError(err)
	}
	name := url
	if rel, err := filepath.Rel(s.base, url); err == nil && filepath.IsLocal(rel) {
		name = filepath.ToSlash(rel)
	}
	return f, engine.SourceInfo{Size: info.Size(), Name: name, Scheme: "file"}, nil
}

// openLocal opens a file with data. One in the folder base must lie there really: a link
// that leads out of it is refused, for the folder may be of somebody else. A pipe or a
// device is no file, and is not waited for. Nor is a database of which something lies in
// a file beside it.
func openLocal(base, file string) (*os.File, error) {
	var f *os.File
	rel, err := filepath.Rel(base, file)
	if base != "" && err == nil && filepath.IsLocal(rel) {
		root, err := os.OpenRoot(base)
		if err != nil {
			return nil, pathError(err)
		}
		defer root.Close()
		if f, err = root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0); err != nil {
			if leadsOut(base, file) {
				return nil, errs.Wrap(err, errs.Invalid, "cli.openLocal", "%s is a link that leads out of %s", file, base)
			}
			return nil, pathError(&fs.PathError{Op: "open", Path: file, Err: cause(err)})
		}
	} else if f, err = os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0); err != nil {
		return nil, pathError(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errs.New(errs.Invalid, "cli.openLocal", "%s is not a file", file)
	}
	if err == nil {
		err = sqlite.Beside(f)
	}
	if err != nil {
		f.Close()
		return nil, pathError(err)
	}
	return f, nil
}

// leadsOut reports whether a file lies elsewhere than in a folder, behind links.
func leadsOut(base, file string) bool {
	where, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false
	}
	if base, err = filepath.EvalSymlinks(base); err != nil {
		return false
	}
	rel, err := filepath.Rel(base, where)
	return err != nil || !filepath.IsLocal(rel)
}

// cause is what is wrong with a path, without the path.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

func newFetch(env *Env) (*fetch.Client, error) {
	limits, err := runLimits(env)
	if err != nil {
		return nil, err
	}
	c := fetchConfig(env)
	c.MaxBytes = limits.Source
	return fetch.New(c)
}

func fetchConfig(env *Env) fetch.Config {
	return fetch.Config{Allow: list(env.Getenv("SPECSTORE_FETCH_ALLOW"))}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
