// Package pkgstore keeps finished packages, on an object store.
//
// A file lies under its content address, OWNERID/DATASET/ARTIFACT/data/SHA256/FILE,
// so that revisions share what did not change and none is ever overwritten. A
// descriptor lies under its revision. Nothing here is announced by being written:
// a revision is visible when the registry says that it succeeded.
package pkgstore

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
)

// Store keeps the packages of all owners.
type Store struct {
	objects *objstore.Local
	base    string // the address that keys are appended to
}

// New makes a store. base is the address of the public route, such as
// https://host/pkgstore.
func New(objects *objstore.Local, base string) *Store {
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
func (s *Store) Open(ctx context.Context, key string) (objstore.Object, objstore.Info, error) {
	return s.objects.Open(ctx, key)
}

// Has reports whether an object is there with a size.
func (s *Store) Has(ctx context.Context, key string, size int64) bool {
	info, err := s.objects.Stat(ctx, key)
	return err == nil && info.Size == size
}

// DescriptorKey is the key of a revision's descriptor, the one that readers ask for.
func DescriptorKey(datasetID string, revision int64) string {
	return fmt.Sprintf("%s/%d/datapackage.json", datasetID, revision)
}

// Publish copies the descriptor that an attempt made to where readers ask for it.
func (s *Store) Publish(ctx context.Context, datasetID string, revision int64, from string) error {
	o, _, err := s.objects.Open(ctx, from)
	if err != nil {
		return err
	}
	defer o.Close()
	w, err := s.objects.Create(ctx, DescriptorKey(datasetID, revision))
	if err != nil {
		return err
	}
	defer w.Cancel()
	if _, err := io.Copy(w, o); err != nil {
		return err
	}
	return w.Commit()
}

// Sink keeps what one attempt of a flow makes.
func (s *Store) Sink(datasetID string, revision int64) *Sink {
	return &Sink{s, datasetID, revision}
}

// Sink is the engine's [engine.Sink] for one revision.
type Sink struct {
	store    *Store
	dataset  string
	revision int64
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
// package lies under a private key until [Store.Publish].
func (s *Sink) PutDescriptor(ctx context.Context, artifact string, body []byte) (string, error) {
	if artifact == "" {
		if err := s.store.objects.Put(ctx, s.FinalKey(), body); err != nil {
			return "", err
		}
		return s.store.Address(DescriptorKey(s.dataset, s.revision)), nil
	}
	key := fmt.Sprintf("%s/%d/_/%s/datapackage.json", s.dataset, s.revision, artifact)
	if err := s.store.objects.Put(ctx, key, body); err != nil {
		return "", err
	}
	return s.store.Address(key), nil
}

// FinalKey is where the descriptor of the whole package lies before it is published.
func (s *Sink) FinalKey() string {
	return fmt.Sprintf("%s/%d/_/datapackage.json", s.dataset, s.revision)
}

// Open opens a file that was put.
func (s *Sink) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	o, _, err := s.store.objects.Open(ctx, key)
	return o, err
}

// OwnerOf gives the owner and dataset of a key, and its revision where it is under
// one, else empty.
func OwnerOf(key string) (owner, dataset, rest string, err error) {
	parts := strings.SplitN(key, "/", 3)
	if len(parts) < 3 {
		return "", "", "", errs.New(errs.NotFound, "pkgstore", "there is no object %q", key)
	}
	return parts[0], parts[1], parts[2], nil
}
