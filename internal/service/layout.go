package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/registry"
)

// layoutNote is the note that says how far the objects of packages have been moved from
// the first layout, in which they lay under their public addresses.
const layoutNote = "package-layout"

// Stages of the move. Each may be broken off anywhere and begun again.
const (
	layoutCopy  = "copy"  // objects get their new keys too, and the registry names them
	layoutClean = "clean" // the old keys are removed
	layoutNoted = "2"     // uploaded files are noted in the registry
	layoutDone  = "3"
)

// MovePackages moves the objects of packages of the first layout to the keys of today,
// and records which revisions name them. It is for the start, before flows are run and
// requests answered; where there is nothing to move it returns at once. Of several
// processes one moves and the others wait for it.
func (s *Service) MovePackages(ctx context.Context) error {
	stage, err := s.Registry.Note(ctx, layoutNote, layoutCopy)
	if err != nil || stage == layoutDone {
		return err
	}
	return s.Registry.Alone(ctx, layoutNote, func(ctx context.Context) error {
		stage, err := s.Registry.Note(ctx, layoutNote, layoutCopy)
		if err == nil && stage == layoutCopy {
			if err = s.copyPackages(ctx); err == nil {
				err = s.Registry.Renote(ctx, layoutNote, layoutCopy, layoutClean)
			}
			stage = layoutClean
		}
		if err == nil && stage == layoutClean {
			if err = s.cleanPackages(ctx); err == nil {
				err = s.Registry.Renote(ctx, layoutNote, layoutClean, layoutNoted)
			}
			stage = layoutNoted
		}
		if err == nil && stage == layoutNoted {
			if err = s.noteUploads(ctx); err == nil {
				err = s.Registry.Renote(ctx, layoutNote, layoutNoted, layoutDone)
			}
		}
		if err != nil {
			return fmt.Errorf("service.MovePackages: %w", err)
		}
		return nil
	})
}

func (s *Service) copyPackages(ctx context.Context) error {
	moved := 0
	err := s.Registry.EachUnnamed(ctx, func(u registry.Unnamed) error {
		if moved++; moved == 1 {
			s.Log.InfoContext(ctx, "moving packages to their new keys")
		}
		var files []registry.File
		var descriptor string
		if u.Current {
			var err error
			if files, descriptor, err = s.copyRevision(ctx, u); err != nil {
				return err
			}
		}
		owner, _, _ := strings.Cut(u.DatasetID, "/")
		return s.Registry.NameFiles(ctx, u, files, rawstore.Mentioned(owner, value(u.Spec)), descriptor)
	})
	if err == nil && moved > 0 {
		s.Log.InfoContext(ctx, "packages have been moved", "revisions", moved)
	}
	return err
}

// copyRevision copies what a revision published. An object that is missing is not named:
// it was not there for readers before either.
func (s *Service) copyRevision(ctx context.Context, u registry.Unnamed) (files []registry.File, descriptor string, err error) {
	r, err := s.Registry.Flow(ctx, u.FlowID, registry.WithPipelines)
	if err != nil {
		return nil, "", err
	}
	for _, p := range r.Pipelines {
		result := published(p.Outputs)
		if p.State != registry.Succeeded || result == nil {
			continue
		}
		artifact := strings.TrimPrefix(strings.TrimPrefix(p.ID, r.ID), "/")
		made := r.ID
		if p.Reused != "" {
			made = p.Reused
		}
		old := made + "/_/" + artifact + "/datapackage.json"
		if artifact == "" {
			old = r.DescriptorKey
		}
		if err := s.copyDescriptor(ctx, u.InternalID, old, result); err != nil {
			return nil, "", err
		}
		if artifact == "" && result.Sealed.SHA256 != "" {
			descriptor = pkgstore.Key(u.InternalID, result.Sealed.SHA256)
		}
		for _, f := range result.files(artifact) {
			if f.SHA256 != "" && (f.Path == "" || s.copyFile(ctx, u.InternalID, f, result, &err)) {
				files = append(files, f)
			}
			if err != nil {
				return nil, "", err
			}
		}
	}
	return files, descriptor, nil
}

// copyDescriptor copies a descriptor, and notes in the result what it is.
func (s *Service) copyDescriptor(ctx context.Context, dataset, old string, result *result) error {
	result.Sealed = engine.Sealed{}
	body, err := s.Packages.ReadOld(ctx, old)
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Invalid) {
		s.Log.WarnContext(ctx, "a descriptor is missing in the package store", "object", old)
		return nil
	}
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	result.Sealed = engine.Sealed{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(body))}
	return s.Packages.Keep(ctx, dataset, body)
}

// copyFile copies a file of a pipeline and reports whether it was there.
func (s *Service) copyFile(ctx context.Context, dataset string, f registry.File, result *result, err *error) bool {
	for _, o := range result.Outputs {
		if o.SHA256 != f.SHA256 || pkgstore.AddressPath(o.Path) != f.Path {
			continue
		}
		*err = s.Packages.CopyOld(ctx, o.Key, dataset, f.SHA256, f.Bytes)
		if errs.Is(*err, errs.NotFound) || errs.Is(*err, errs.Invalid) {
			s.Log.WarnContext(ctx, "a file is missing in the package store", "object", o.Key)
			*err = nil
			return false
		}
		return *err == nil
	}
	return false
}

// noteUploads notes the uploaded files that are there, as wanted when they came.
func (s *Service) noteUploads(ctx context.Context) error {
	return s.Raw.Each(ctx, func(key string, at time.Time) error { return s.Registry.Known(ctx, at, key) })
}

// cleanPackages removes the objects of the first layout of the datasets that are known.
func (s *Service) cleanPackages(ctx context.Context) error {
	const page = 100
	for after := ""; ; {
		list, err := s.Registry.DatasetIDs(ctx, after, page)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, id := range list {
			after = id
			if err := s.Packages.RemoveOld(ctx, id); err != nil {
				return err
			}
		}
	}
}
