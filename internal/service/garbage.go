package service

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/registry"
)

// DefaultTrash is how long what was deleted can be restored.
const DefaultTrash = 168 * time.Hour

const (
	// GarbageAge is how long a file that nothing names is kept: somebody may be about to
	// name it.
	GarbageAge   = 24 * time.Hour
	collectEvery = time.Minute
	eventsFor    = 24 * time.Hour // after the end of a flow
	pruneEvery   = time.Hour
	// Bounds of one round of a process. A round looks at the datasets whose internal IDs
	// begin with one pair of digits, so all are looked at in about four hours.
	maxErasures = 10
	maxUploads  = 500
	eraseWait   = 10 * time.Second // that who erases is kept waiting
)

// collect removes what is not wanted any more, until ctx ends: events of flows that ended a
// day ago, datasets whose time in the
// trash is over, uploaded files and objects of packages that nothing names. Several
// processes may do so at once.
func (s *Service) collect(ctx context.Context) {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	shard := rand.IntN(256) // processes do not begin with the same
	var pruned time.Time
	for ; ; shard = (shard + 1) % 256 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.Registry.CancelDeleted(ctx, "", deletedReason)
		if err == nil && time.Since(pruned) > pruneEvery {
			err = s.Registry.Prune(ctx, s.Now().Add(-eventsFor))
			pruned = time.Now()
		}
		if err == nil {
			_, err = s.eraseDue(ctx, "")
		}
		if err == nil {
			err = s.collectUploads(ctx, GarbageAge)
		}
		if err == nil {
			err = s.collectObjects(ctx, fmt.Sprintf("%02x", shard), GarbageAge)
		}
		if err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "what is not wanted any more could not be removed", "error", err)
		}
	}
}

// CollectGarbage removes at once what nothing names and nobody wanted for a time, and the
// datasets whose time in the trash is over. It does all that rounds in the background do.
func (s *Service) CollectGarbage(ctx context.Context, age time.Duration) error {
	for {
		left, err := s.eraseDue(ctx, "")
		if err != nil {
			return err
		}
		if !left {
			break
		}
	}
	if err := s.collectUploads(ctx, age); err != nil {
		return err
	}
	return s.collectObjects(ctx, "", age)
}

// eraseDue erases datasets whose time in the trash is over, those of one name where
// datasetID is not empty. It reports whether there may be more.
func (s *Service) eraseDue(ctx context.Context, datasetID string) (left bool, err error) {
	list, err := s.Registry.Erasures(ctx, datasetID, maxErasures)
	if err != nil {
		return false, err
	}
	for _, e := range list {
		if err := s.erase(ctx, e); err != nil {
			return false, fmt.Errorf("service.erase: %s: %w", e.DatasetID, err)
		}
		s.Log.InfoContext(ctx, "dataset erased", "dataset", e.DatasetID, "internal_id", e.InternalID)
	}
	return len(list) == maxErasures, nil
}

// erase removes what only one dataset names: objects, uploaded files, then the records. It
// may be broken off anywhere and begun again.
func (s *Service) erase(ctx context.Context, e registry.Erasure) error {
	if err := s.Packages.Each(ctx, e.InternalID, func(dataset string, objects []pkgstore.Stray) error {
		for _, o := range objects {
			if err := s.Packages.Remove(ctx, dataset, o.SHA256); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	before := e.DeletedAt.Add(time.Microsecond) // what somebody wants since then stays
	for after := ""; ; {
		keys, err := s.Registry.OwnUploads(ctx, e, after, maxUploads)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			break
		}
		for _, key := range keys {
			after = key
			if _, err := s.Registry.RemoveUpload(ctx, key, e.InternalID, before, s.removeUpload(key)); err != nil {
				return err
			}
		}
	}
	return s.Registry.EraseRecords(ctx, e)
}

func (s *Service) removeUpload(key string) func(context.Context) error {
	return func(ctx context.Context) error { return s.Raw.Remove(ctx, key) }
}

// collectUploads removes uploaded files that nothing names and that nobody wanted for a
// time.
func (s *Service) collectUploads(ctx context.Context, age time.Duration) error {
	before := s.Now().Add(-age)
	keys, err := s.Registry.UnwantedUploads(ctx, before, maxUploads)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if _, err := s.Registry.RemoveUpload(ctx, key, "", before, s.removeUpload(key)); err != nil {
			return err
		}
	}
	return nil
}

// collectObjects removes objects that nothing names: those of runs that broke off, once
// they are old, and those of datasets that were erased. prefix is the beginning of the
// internal IDs that are looked at.
func (s *Service) collectObjects(ctx context.Context, prefix string, age time.Duration) error {
	before := s.Now().Add(-age)
	return s.Packages.Each(ctx, prefix, func(dataset string, objects []pkgstore.Stray) error {
		sums := make([]string, len(objects))
		young := map[string]bool{}
		for i, o := range objects {
			sums[i], young[o.SHA256] = o.SHA256, o.ModTime.After(before)
		}
		left, known, err := s.Registry.Unreferenced(ctx, dataset, sums)
		if err != nil {
			return err
		}
		var stray []string
		for _, sum := range left {
			if !known || !young[sum] {
				stray = append(stray, sum)
			}
		}
		if len(stray) == 0 {
			return nil
		}
		n, err := s.Registry.RemoveObjects(ctx, dataset, stray, func(ctx context.Context, sum string) error {
			return s.Packages.Remove(ctx, dataset, sum)
		})
		if n > 0 {
			s.Log.InfoContext(ctx, "objects that nothing names were removed", "internal_id", dataset, "objects", n)
		}
		return err
	})
}
