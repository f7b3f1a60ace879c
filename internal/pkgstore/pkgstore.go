// Package pkgstore keeps finished packages, on an object store.
//
// A file lies under its content address, OWNERID/DATASET/ARTIFACT/data/SHA256/FILE,
// so that revisions share what did not change and none is ever overwritten. A
// descriptor lies under its revision. Nothing here is announced by being written:
// a revision is visible when the registry says that it succeeded.
package pkgstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
)

const (
	descriptorFile = "datapackage.json"
	// internalFolder is where a revision's own objects lie. No file's folder has
	// this name: those are "data" and "archive".
	internalFolder = "_"
)

// Store keeps the packages of all owners.
type Store struct {
	objects objstore.Store
	base    string // the address that keys are appended to
}

// New makes a store. base is the address of the public route, such as
// https://host/pkgstore.
func New(objects objstore.Store, base string) *Store {
	return &Store{objects, strings.TrimRight(base, "/")}
}

// Address is the public address of a key.
func (s *Store) Address(key string) string {
	parts := strings.Split(key, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return s.base + "/" + strings.Join(parts, "/")
}

// Open opens an object of a package.
func (s *Store) Open(ctx context.Context, key string) (objstore.Object, error) {
	return s.objects.Open(ctx, key)
}

// Has reports whether an object is there with a size.
func (s *Store) Has(ctx context.Context, key string, size int64) bool {
	info, err := s.objects.Stat(ctx, key)
	return err == nil && info.Size == size
}

// DescriptorKey is the public key of a revision's descriptor. Which object stands
// for it is what the registry recorded (see [Sink.Descriptor]).
func DescriptorKey(datasetID string, revision int64) string {
	return fmt.Sprintf("%s/%d/%s", datasetID, revision, descriptorFile)
}

// put keeps a small object.
func (s *Store) put(ctx context.Context, key string, body []byte) error {
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

// Sink keeps what one attempt of a flow makes.
func (s *Store) Sink(datasetID string, revision int64) *Sink {
	return &Sink{store: s, dataset: datasetID, revision: revision}
}

// Sink is the engine's [engine.Sink] for one revision.
type Sink struct {
	store      *Store
	dataset    string
	revision   int64
	descriptor string
}

var _ engine.Sink = (*Sink)(nil)

// Put takes a finished file over. One that is there already with its size is the
// same file, and is not written again.
func (s *Sink) Put(ctx context.Context, f engine.File) (key, ref string, err error) {
	folder := "data"
	if strings.HasPrefix(f.Path, "archive/") {
		folder = "archive"
	}
	key = strings.Join([]string{s.dataset, f.Artifact, folder, f.SHA256, path.Base(f.Path)}, "/")
	if !s.store.Has(ctx, key, f.Bytes) {
		if err := s.store.objects.Import(ctx, key, f.Local); err != nil {
			return "", "", err
		}
	}
	return key, s.store.Address(key), nil
}

// PutDescriptor keeps the descriptor of a pipeline's package. That of the whole
// package lies under its hash, so that attempts do not overwrite each other's.
func (s *Sink) PutDescriptor(ctx context.Context, artifact string, body []byte) (string, error) {
	folder := artifact
	if artifact == "" {
		sum := sha256.Sum256(body)
		folder = hex.EncodeToString(sum[:])
	}
	key := fmt.Sprintf("%s/%d/%s/%s/%s", s.dataset, s.revision, internalFolder, folder, descriptorFile)
	if err := s.store.put(ctx, key, body); err != nil {
		return "", err
	}
	if artifact == "" {
		s.descriptor = key
		return s.store.Address(DescriptorKey(s.dataset, s.revision)), nil
	}
	return s.store.Address(key), nil
}

// Descriptor is the key of the whole package's descriptor, empty until it was put.
func (s *Sink) Descriptor() string { return s.descriptor }

// Find gives the address of a file that was put, and reports whether it is there.
func (s *Sink) Find(ctx context.Context, key string, size int64) (ref string, ok bool) {
	return s.store.Address(key), s.store.Has(ctx, key, size)
}

// Open opens a file that was put.
func (s *Sink) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	return s.store.objects.Open(ctx, key)
}

// Parse tells what a public key is of: a dataset, the revision that it lies under
// ("latest" for a file, which revisions share), and whether it is the descriptor of
// the whole package. What cannot be a key is [errs.NotFound].
func Parse(key string) (datasetID, revision string, descriptor bool, err error) {
	parts := strings.Split(key, "/")
	if len(parts) < 4 || slices.Contains(parts, "") || slices.Contains(parts, "..") || slices.Contains(parts, ".") {
		return "", "", false, errs.New(errs.NotFound, "pkgstore.Parse", "there is no object %q", key)
	}
	datasetID, revision = parts[0]+"/"+parts[1], parts[2]
	if parts[3] == internalFolder {
		return datasetID, revision, false, nil
	}
	if len(parts) == 4 && parts[3] == descriptorFile {
		return datasetID, revision, true, nil
	}
	return datasetID, "latest", false, nil
}
