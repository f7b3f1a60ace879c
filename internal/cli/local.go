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

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/fetch"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/format/sqlite"
	"github.com/datahq/specstore/internal/local"
)

// localOwner is who owns what is run without a server.
const localOwner = "local"

// maxSpecBytes bounds a spec or descriptor that is read from a file.
const maxSpecBytes = 16 << 20

// readSmall reads a whole file that the user named and that describes data: a spec, a
// schema.
func readSmall(path string) ([]byte, error) {
	f, err := local.Open(path)
	if err != nil {
		return nil, err
	}
	return local.ReadAll(f, maxSpecBytes)
}

// readInside reads a whole file that describes the data of a folder.
func readInside(dir, name string) ([]byte, error) {
	folder, err := local.OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	f, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	return local.ReadAll(f, maxSpecBytes)
}

// pathError says what is wrong with a path that the user named.
func pathError(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return errs.Wrap(err, errs.Invalid, "cli", "%s: %s", pe.Path, pe.Err)
	}
	return err
}

// readSpec reads a Flow-Spec from a file that the user named.
func readSpec(path string) (map[string]any, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	return parseSpec(path, b)
}

// parseSpec reads a Flow-Spec, YAML or JSON by the ending of its file.
func parseSpec(path string, b []byte) (map[string]any, error) {
	if ext := strings.ToLower(filepath.Ext(path)); ext == ".yaml" || ext == ".yml" {
		return flowspec.ParseYAML(b)
	}
	return flowspec.ParseJSON(b)
}

// readPackage reads the descriptor of a folder. Its README.md becomes the
// descriptor's `readme` where that has none.
func readPackage(dir string) (map[string]any, error) {
	b, err := readInside(dir, "datapackage.json")
	if err != nil {
		return nil, err
	}
	descriptor, err := datapackage.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if _, ok := descriptor["readme"]; !ok {
		readme, err := readInside(dir, "README.md")
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
				b, err := readInside(dir, path)
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
	flow := filepath.Join(".datahub", "flow.yaml")
	switch b, err := readInside(path, flow); {
	case err == nil:
		raw, err := parseSpec(flow, b)
		if err != nil {
			return nil, err
		}
		return raw, baseInput(raw, path)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
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
	inside bool   // only files in the folder base are read, which may be of somebody else
	named  string // the file that the user named, which is read wherever it lies
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
	base := s.base
	if !s.inside || url == s.named {
		base = ""
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

// openLocal opens a file with data: in the folder base, or where base is empty wherever
// the user says. A database of which something lies in a file beside it is refused.
func openLocal(base, file string) (f *os.File, err error) {
	if base == "" {
		f, err = local.Open(file)
	} else {
		var folder *local.Folder
		if folder, err = local.OpenFolder(base); err == nil {
			defer func() { _ = folder.Close() }()
			f, err = folder.Open(file)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := sqlite.Beside(f); err != nil {
		f.Close()
		return nil, pathError(err)
	}
	return f, nil
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

// folderOf is the folder that a dataset at a path lies in: the path itself, or that of
// the file that the path is.
func folderOf(path string) string {
	if isDir(path) {
		return path
	}
	return filepath.Dir(path)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
