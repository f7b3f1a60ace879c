package pkgstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
)

// In the first layout an object lay under its public path, and the descriptor of a whole
// package under OWNERID/DATASET/REVISION/_/SHA256/datapackage.json: at least five parts.
const oldParts = 5

// ReadOld reads an object of the first layout. It is for descriptors.
func (s *Store) ReadOld(ctx context.Context, key string) ([]byte, error) {
	o, err := s.objects.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return io.ReadAll(o)
}

// Keep keeps a small object of the dataset with an internal ID.
func (s *Store) Keep(ctx context.Context, dataset string, body []byte) error {
	sum := sha256.Sum256(body)
	return s.put(ctx, Key(dataset, hex.EncodeToString(sum[:])), body)
}

// Stray is an object under an internal ID.
type Stray struct {
	SHA256  string // hexadecimal
	ModTime time.Time
}

// Each calls fn for the objects whose keys begin with the beginning of an internal ID, by
// dataset, at most 25 at once. An object of an older layout is left out.
func (s *Store) Each(ctx context.Context, prefix string, fn func(dataset string, objects []Stray) error) error {
	const most = 25
	var dataset string
	var list []Stray
	flush := func() error {
		if len(list) == 0 {
			return nil
		}
		found := list
		list = nil
		return fn(dataset, found)
	}
	for info, err := range s.objects.List(ctx, objectPrefix+prefix) {
		if err != nil {
			return err
		}
		parts := strings.Split(info.Key, "/")
		if len(parts) != 3 || !isHash(parts[2]) {
			continue
		}
		if parts[1] != dataset || len(list) == most {
			if err := flush(); err != nil {
				return err
			}
			dataset = parts[1]
		}
		list = append(list, Stray{SHA256: parts[2], ModTime: info.ModTime})
	}
	return flush()
}

// Remove removes an object. To remove what is not there is no error.
func (s *Store) Remove(ctx context.Context, dataset, sum string) error {
	return s.objects.Delete(ctx, Key(dataset, sum))
}

// linker is a store that can give an object a second key without copying its bytes.
type linker interface {
	Link(ctx context.Context, from, to string) error
}

// CopyOld stores an object of the first layout under the key of today. One that has it already
// with its size is not copied. It fails with NotFound where the object is missing, or
// is not the one that was recorded.
func (s *Store) CopyOld(ctx context.Context, old, dataset, sum string, size int64) error {
	key := Key(dataset, sum)
	if s.Has(ctx, key, size) {
		return nil
	}
	if !s.Has(ctx, old, size) {
		return errs.New(errs.NotFound, "pkgstore.CopyOld", "there is no object %q of %d bytes", old, size)
	}
	if l, ok := s.objects.(linker); ok {
		return l.Link(ctx, old, key)
	}
	from, err := s.objects.Open(ctx, old)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := s.objects.Create(ctx, key)
	if err != nil {
		return err
	}
	defer func() { _ = to.Cancel() }()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return to.Commit()
}

// RemoveOld removes the objects of the first layout of a dataset, OWNERID/DATASET.
func (s *Store) RemoveOld(ctx context.Context, datasetID string) error {
	prefix := datasetID + "/"
	if objstore.CheckKey(datasetID) != nil {
		return nil // no object ever had such a key
	}
	for info, err := range s.objects.List(ctx, prefix) {
		if err != nil {
			return err
		}
		if strings.Count(info.Key, "/") < oldParts-1 {
			continue // one of today, of an owner whose ID is that of the prefix
		}
		if err := s.objects.Delete(ctx, info.Key); err != nil {
			return err
		}
	}
	return nil
}
