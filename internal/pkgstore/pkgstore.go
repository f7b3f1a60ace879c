// Package pkgstore keeps finished packages, on an object store.
//
// An object lies under the internal ID of its dataset and the SHA-256 of its bytes,
// d/DATASETID/SHA256, and nowhere else: descriptors too. So no key is ever written with
// other bytes, an attempt that has been superseded cannot alter what is published,
// revisions share what did not change, and a dataset can be renamed or deleted without
// touching another one's objects. What an object is called, and who may read it, is what
// the registry recorded of the revisions that name it. Nothing is announced by being
// written.
//
// Clients know files by public addresses, which [Parse] reads. Descriptors are kept with
// paths that are relative to their dataset; [Store.Descriptor] completes them with the
// address of today.
package pkgstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
)

const (
	descriptorFile = "datapackage.json"
	// pipelineFolder is the part of an address under which the descriptors of single
	// pipelines are. No file's folder has this name: those are "data" and "archive".
	pipelineFolder = "_"
	objectPrefix   = "d/"
)

// The folders of files in addresses.
const (
	dataFolder    = "data"
	archiveFolder = "archive"
)

// Store keeps the packages of all owners.
type Store struct {
	objects objstore.Store
	base    string // the address that public addresses are appended to
}

// New makes a store. base is the address of the public route, such as
// https://host/pkgstore.
func New(objects objstore.Store, base string) *Store {
	return &Store{objects, strings.TrimRight(base, "/")}
}

// Key returns the key of an object: of the dataset with an internal ID, the bytes with
// a SHA-256 in hexadecimal.
func Key(dataset, sum string) string { return objectPrefix + dataset + "/" + sum }

// Address returns the public address of a file, such as [DescriptorPath].
func (s *Store) Address(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return s.base + "/" + strings.Join(parts, "/")
}

// Open opens an object by its key.
func (s *Store) Open(ctx context.Context, key string) (objstore.Object, error) {
	return s.objects.Open(ctx, key)
}

// Has reports whether an object is there with a size in bytes.
func (s *Store) Has(ctx context.Context, key string, size int64) bool {
	info, err := s.objects.Stat(ctx, key)
	return err == nil && info.Size == size
}

// DescriptorPath returns the public path of the descriptor of a revision's package.
func DescriptorPath(datasetID string, revision int64) string {
	return fmt.Sprintf("%s/%d/%s", datasetID, revision, descriptorFile)
}

// put keeps a small object. One that is there with its size has the same bytes, and is
// not written again.
func (s *Store) put(ctx context.Context, key string, body []byte) error {
	if s.Has(ctx, key, int64(len(body))) {
		return nil
	}
	w, err := s.objects.Create(ctx, key)
	if err != nil {
		return err
	}
	defer w.Cancel()
	if _, err := w.Write(body); err != nil {
		return err
	}
	return w.Commit()
}

// Sink keeps what a flow publishes: of the dataset with an internal ID, the revision
// with a number.
func (s *Store) Sink(dataset string, revision int64) *Sink {
	return &Sink{store: s, dataset: dataset, revision: revision}
}

// Sink is the engine's [engine.Sink] for one revision.
type Sink struct {
	store    *Store
	dataset  string
	revision int64
}

var _ engine.Sink = (*Sink)(nil)

// AddressPath returns the part of a file's address behind its hash and before it: the
// folder and the name, such as data/lakes_csv.csv. outputPath is where the file lies
// inside a package.
func AddressPath(outputPath string) string {
	folder := dataFolder
	if strings.HasPrefix(outputPath, archiveFolder+"/") {
		folder = archiveFolder
	}
	return folder + "/" + path.Base(outputPath)
}

// Put takes over a finished file. It fails with Invalid where the file's name cannot be
// part of an address.
func (s *Sink) Put(ctx context.Context, f engine.File) (key, ref string, err error) {
	folder, name := path.Split(AddressPath(f.Path))
	ref = f.Artifact + "/" + folder + f.SHA256 + "/" + name
	if err := objstore.CheckKey(ref); err != nil {
		return "", "", err
	}
	key = Key(s.dataset, f.SHA256)
	if !s.store.Has(ctx, key, f.Bytes) {
		if err := s.store.objects.Import(ctx, key, f.Local); err != nil {
			return "", "", err
		}
	}
	return key, ref, nil
}

// PutDescriptor keeps the descriptor of a pipeline's package, of the whole one where
// artifact is empty. It returns the public path below the dataset's.
func (s *Sink) PutDescriptor(ctx context.Context, artifact string, body []byte) (string, error) {
	sum := sha256.Sum256(body)
	if err := s.store.put(ctx, Key(s.dataset, hex.EncodeToString(sum[:])), body); err != nil {
		return "", err
	}
	if artifact == "" {
		return fmt.Sprintf("%d/%s", s.revision, descriptorFile), nil
	}
	return fmt.Sprintf("%d/%s/%s/%s", s.revision, pipelineFolder, artifact, descriptorFile), nil
}

// Has reports whether a file that was put is still there with its size in bytes.
func (s *Sink) Has(ctx context.Context, key string, size int64) bool {
	return strings.HasPrefix(key, Key(s.dataset, "")) && s.store.Has(ctx, key, size)
}

// Open opens a file that was put.
func (s *Sink) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	return s.store.objects.Open(ctx, key)
}

// Name is what a public path names.
type Name struct {
	DatasetID string // OWNERID/DATASET
	// Revision is of a descriptor: a number, "latest" or "successful"; empty for a file,
	// which any number of revisions may share.
	Revision string
	Artifact string // name of the pipeline; empty for the descriptor of the whole package
	Path     string // of a file, as [AddressPath] returns it; empty for a descriptor
	SHA256   string // of a file, hexadecimal
}

// Parse reads the path of a public address. It fails with NotFound where nothing can
// have that path.
func Parse(name string) (Name, error) {
	parts := strings.Split(name, "/")
	unknown := errs.New(errs.NotFound, "pkgstore.Parse", "there is no object %q", name)
	if len(parts) < 4 || slices.Contains(parts, "") || slices.Contains(parts, "..") || slices.Contains(parts, ".") {
		return Name{}, unknown
	}
	n := Name{DatasetID: parts[0] + "/" + parts[1]}
	last := parts[len(parts)-1]
	switch {
	case len(parts) == 4 && last == descriptorFile:
		n.Revision = parts[2]
	case len(parts) == 6 && parts[3] == pipelineFolder && last == descriptorFile:
		n.Revision, n.Artifact = parts[2], parts[4]
	case len(parts) == 6 && (parts[3] == dataFolder || parts[3] == archiveFolder) && isHash(parts[4]):
		n.Artifact, n.Path, n.SHA256 = parts[2], parts[3]+"/"+last, parts[4]
	default:
		return Name{}, unknown
	}
	return n, nil
}

// isHash reports whether a text is a SHA-256 in lower case hexadecimal.
func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && s == strings.ToLower(s)
}

// DescriptorAt is [Store.Descriptor] for another address of the public route.
func (s *Store) DescriptorAt(base, datasetID string, body []byte) ([]byte, error) {
	return (&Store{s.objects, strings.TrimRight(base, "/")}).Descriptor(datasetID, body)
}

// Descriptor returns a descriptor as it is answered: files of the dataset that it names
// by relative paths, or by the address that an earlier server had, get the address of
// today. Other addresses stay.
func (s *Store) Descriptor(datasetID string, body []byte) ([]byte, error) {
	d, err := datapackage.Decode(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("pkgstore: a descriptor that was kept cannot be read: %w", err)
	}
	list, _ := d["resources"].([]any)
	for _, v := range list {
		resource, _ := v.(map[string]any)
		switch p := resource["path"].(type) {
		case string:
			resource["path"] = s.completed(datasetID, p)
		case []any:
			for i := range p {
				if one, ok := p[i].(string); ok {
					p[i] = s.completed(datasetID, one)
				}
			}
		}
	}
	var b bytes.Buffer
	if err := datapackage.Encode(&b, d); err != nil {
		return nil, fmt.Errorf("pkgstore: %w", err)
	}
	return b.Bytes(), nil
}

// completed is the address of a file of a dataset; what is none stays as it is.
func (s *Store) completed(datasetID, p string) string {
	rest := p
	if datapackage.IsURL(p) {
		u, err := url.Parse(p)
		if err != nil {
			return p
		}
		_, below, ok := strings.Cut(u.Path, "/pkgstore/"+datasetID+"/")
		if !ok {
			return p
		}
		rest = below
	}
	name := datasetID + "/" + rest
	if n, err := Parse(name); err != nil || n.SHA256 == "" {
		return p
	}
	return s.Address(name)
}
