package service

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/processor/standard"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/registry"
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
func (s *Service) rawKey(address string) (string, bool) {
	for _, base := range s.RawBases {
		if key, ok := rawstore.KeyOf(base, address); ok {
			return key, true
		}
	}
	return "", false
}

// sources opens the sources of an owner's flow.
type sources struct {
	s       *Service
	ownerID string
}

// Open reads our own uploaded files from the store itself and everything else
// through the guarded client.
func (o *sources) Open(ctx context.Context, address string) (io.ReadCloser, engine.SourceInfo, error) {
	if key, ok := o.s.rawKey(address); ok {
		if !rawstore.Owned(key, o.ownerID) {
			return nil, engine.SourceInfo{}, errs.New(errs.Forbidden, "service.Open", "the uploaded file is another owner's")
		}
		object, err := o.s.Raw.Open(ctx, key)
		if errs.Is(err, errs.NotFound) {
			err = errs.Wrap(err, errs.Invalid, "service.Open", "the file was not uploaded")
		}
		if err != nil {
			return nil, engine.SourceInfo{}, err
		}
		info := engine.SourceInfo{Size: object.Size(), Name: rawstore.Address(o.s.RawBases[0], key), Scheme: "file"}
		if info.SHA256, err = o.s.Raw.SHA256(ctx, key); err != nil {
			info.SHA256 = "" // it shows when the bytes are read
		}
		return object, info, nil
	}
	body, info, err := o.s.Fetch.Open(ctx, address)
	if err != nil {
		return nil, engine.SourceInfo{}, err
	}
	scheme, _, _ := strings.Cut(address, ":")
	return body, engine.SourceInfo{Size: info.Size, Name: info.URL, Scheme: scheme}, nil
}
