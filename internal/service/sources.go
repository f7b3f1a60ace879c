package service

import (
	"context"
	"slices"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/processor/standard"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/runner"
)

// checkSources refuses addresses that a server does not read: anything but http,
// https and its own files.
func (s *Service) checkSources(spec *flowspec.Spec) []flowspec.Problem {
	var problems []flowspec.Problem
	for i, r := range spec.Resources {
		for j, path := range r.Paths {
			address, mapped := spec.Mapped(r, path)
			pointer := datapackage.Pointer("inputs", 0, "parameters", "resource-mapping", path)
			if !mapped {
				address, pointer = path, datapackage.Pointer("inputs", 0, "parameters", "descriptor", "resources", i, "path")
				if len(r.Paths) > 1 {
					pointer += datapackage.Pointer(j)
				}
				if !datapackage.IsURL(address) {
					address, pointer = spec.URL, "/inputs/0/url"
				}
			}
			if !datapackage.IsURL(address) {
				problems = append(problems, flowspec.Problem{Pointer: pointer, Message: "must be an http or https URL: the server does not read files of its own machine"})
				continue
			}
			if key, ok := s.rawKey(address); ok && !rawstore.Owned(key, spec.OwnerID) {
				problems = append(problems, flowspec.Problem{Pointer: pointer, Message: "the uploaded file is another owner's"})
			}
		}
	}
	return problems
}

// checkUploads refuses a spec whose sources are uploaded files that are not there.
func (s *Service) checkUploads(ctx context.Context, spec *flowspec.Spec) error {
	var problems []flowspec.Problem
	for i, r := range spec.Resources {
		for _, path := range r.Paths {
			address, mapped := spec.Mapped(r, path)
			if !mapped {
				address = path
			}
			key, ok := s.rawKey(address)
			if !ok {
				continue
			}
			there, err := s.Raw.Has(ctx, key)
			if err != nil {
				return err
			}
			if !there {
				problems = append(problems, flowspec.Problem{
					Pointer: datapackage.Pointer("inputs", 0, "parameters", "descriptor", "resources", i),
					Message: "the file was not uploaded, or was removed since: upload it again",
				})
			}
		}
	}
	if len(problems) > 0 {
		return invalid(problems)
	}
	return nil
}

// checkSteps refuses steps of the owner's that the runner does not have, or may not be
// asked for.
func (s *Service) checkSteps(spec *flowspec.Spec, runner registry.Runner) []flowspec.Problem {
	if runner == registry.Embedded {
		return standard.CheckSteps(spec)
	}
	if slices.Contains(s.Processors, "*") {
		return nil
	}
	return standard.OnlySteps(spec, s.Processors)
}

// rawKey finds the key in an address of our own file store.
func (s *Service) rawKey(address string) (string, bool) { return runner.RawKey(s.RawBases, address) }
