package service

import (
	"context"
	"strings"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
)

// deletedReason is what open flows of a dataset end with when it is deleted.
const deletedReason = "Its dataset was deleted"

// Delete deletes a dataset of the caller's, with all its revisions: nobody finds it any
// more, and it lies in the trash for a time.
func (s *Service) Delete(ctx context.Context, token, datasetID string) error {
	r, err := s.managed(ctx, token, datasetID, "latest")
	if err != nil {
		return err
	}
	caller, err := s.Verifier.Verify(ctx, token)
	if err != nil {
		return err
	}
	return s.Registry.Delete(ctx, registry.Deletion{DatasetID: r.DatasetID, By: caller.UserID, Reason: deletedReason, Trash: s.Trash})
}

// Erase deletes a dataset of the caller's where it is not deleted yet, and erases all that
// lies in the trash under its name. done is false where that goes on after the return.
func (s *Service) Erase(ctx context.Context, token, datasetID string) (done bool, err error) {
	notFound := s.Delete(ctx, token, datasetID)
	if notFound != nil && !errs.Is(notFound, errs.NotFound) {
		return false, notFound
	}
	if notFound != nil {
		// What is in the trash is there for its owner alone.
		if _, err := s.owns(ctx, token, datasetID); err != nil {
			return false, notFound
		}
	}
	n, err := s.Registry.EraseNow(ctx, datasetID)
	if err != nil {
		return false, err
	}
	if n == 0 && notFound != nil {
		return false, notFound
	}
	// It is marked: what is not done in time is done in the background.
	short, cancel := context.WithTimeout(ctx, s.EraseWait)
	defer cancel()
	for left := true; left; {
		if left, err = s.eraseDue(short, datasetID); err != nil {
			if short.Err() != nil && ctx.Err() == nil {
				return false, nil
			}
			return false, err
		}
	}
	return true, nil
}

// Restore takes a dataset of the caller's out of the trash. What lies there is not there
// for anybody but its owner.
func (s *Service) Restore(ctx context.Context, token, datasetID string) error {
	notFound := errs.New(errs.NotFound, "service.Restore", "there is no dataset %q in the trash", datasetID)
	// Looked up for everybody, so that nobody can tell what is there by the time it takes.
	lies, err := s.Registry.InTrash(ctx, datasetID)
	if err != nil {
		return err
	}
	caller, err := s.owns(ctx, token, datasetID)
	switch {
	case errs.Is(err, errs.Unavailable):
		return err
	case err != nil || !lies:
		return notFound
	}
	if err = s.Registry.Restore(ctx, datasetID, caller.UserID, caller.MaxDatasets); errs.Is(err, errs.NotFound) {
		return notFound
	}
	return err
}

// owns verifies the token of the owner that the ID of a dataset begins with.
func (s *Service) owns(ctx context.Context, token, datasetID string) (*auth.Token, error) {
	owner, _, _ := strings.Cut(datasetID, "/")
	caller, err := s.Verifier.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	return caller, caller.Require(auth.Manage, owner)
}

// UploadShown fails with NotFound for an uploaded file that may not be shown any more: all
// datasets whose revisions name it were deleted. One that no revision names yet is its
// owner's, who signs addresses of it.
func (s *Service) UploadShown(ctx context.Context, key string) error {
	hidden, err := s.Registry.UploadHidden(ctx, key)
	if err == nil && hidden {
		err = errs.New(errs.NotFound, "service.UploadShown", "there is no such file")
	}
	return err
}
