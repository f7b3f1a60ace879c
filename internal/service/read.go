package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/jsondiff"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/registry"
)

// Status gives a revision to whoever may see it: one of a private dataset is not
// there for anybody but its owner.
func (s *Service) Status(ctx context.Context, token, datasetID, which string) (*registry.Revision, error) {
	return s.find(ctx, token, datasetID, which, registry.Whole)
}

// Standing does as [Service.Status], but reads no more than how the revision stands.
func (s *Service) Standing(ctx context.Context, token, datasetID, which string) (*registry.Revision, error) {
	return s.find(ctx, token, datasetID, which, 0)
}

// find reads parts of a revision for whoever may see it. What is hidden takes the same
// statements, the same look at the token and about the same time as what is not there:
// nothing of a private revision is read before its owner's token has been verified.
func (s *Service) find(ctx context.Context, token, datasetID, which string, parts registry.Parts) (*registry.Revision, error) {
	r, err := s.Registry.Public(ctx, datasetID, which, parts)
	if err == nil && parts != 0 && !s.readsAsOwner(ctx, token, r.OwnerID) {
		return withoutSecrets(r), nil
	}
	if !errs.Is(err, errs.NotFound) {
		return r, err
	}
	access, err := s.Registry.Access(ctx, datasetID, which)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	allowed, unknown := s.allowed(ctx, token, access)
	switch {
	case err != nil:
	case allowed:
		return s.Registry.Revision(ctx, datasetID, text(access.Number), parts)
	case s.Redact:
		r, err := s.Registry.Revision(ctx, datasetID, text(access.Number), parts&^registry.WithSpec)
		if err != nil {
			return nil, err
		}
		return redacted(r), nil
	}
	if unknown != nil {
		return nil, unknown
	}
	return nil, errs.New(errs.NotFound, "service.Status", "no revision %q of dataset %q", which, datasetID)
}

// allowed reports whether a token reads what has an access; nil is nothing, and takes as
// long. While a token cannot be judged it fails, and with one that has expired, so that an
// owner does not take a private dataset for one that is gone.
func (s *Service) allowed(ctx context.Context, token string, a *registry.Access) (bool, error) {
	if a == nil {
		a = &registry.Access{Findability: flowspec.Private}
	}
	if token == "" {
		return a.Findability != flowspec.Private, nil
	}
	caller, err := s.Verifier.Verify(ctx, token)
	if !errs.Is(err, errs.Unavailable) && !errors.Is(err, auth.ErrExpired) {
		err = nil
	}
	return a.Findability != flowspec.Private || caller.Allows(auth.Read, a.OwnerID), err
}

// readsAsOwner reports whether a token is one with which its owner reads.
func (s *Service) readsAsOwner(ctx context.Context, token, ownerID string) bool {
	if token == "" {
		return false
	}
	caller, err := s.Verifier.Verify(ctx, token)
	return err == nil && caller.Allows(auth.Read, ownerID)
}

// PackageFile is an object of the package store, found by its public path.
type PackageFile struct {
	Key    string // of the object
	SHA256 string // hexadecimal
	// DatasetID is the dataset of a descriptor, whose paths are completed with it; empty
	// for a file.
	DatasetID string
}

// PackageFile finds the object behind a public path of the package store, for whoever
// may see it: a revision that the reader may see names it. The descriptor of a whole
// package is shown once its revision has succeeded, and under "latest" and "successful"
// it is that of the released revision.
func (s *Service) PackageFile(ctx context.Context, token, path string) (*PackageFile, error) {
	notFound := errs.New(errs.NotFound, "service.PackageFile", "there is no object %q", path)
	name, err := pkgstore.Parse(path)
	if err != nil {
		return nil, notFound
	}
	out := &PackageFile{}
	var found *registry.NamedFile
	switch {
	case name.SHA256 != "":
		found, err = s.Registry.File(ctx, name.DatasetID, name.Artifact, name.Path, name.SHA256)
	default:
		out.DatasetID = name.DatasetID
		found, err = s.Registry.Descriptor(ctx, name.DatasetID, name.Revision, name.Artifact)
	}
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	var access *registry.Access // nil takes as long
	if err == nil {
		access = &registry.Access{OwnerID: found.OwnerID, Findability: found.Findability}
	}
	allowed, unknown := s.allowed(ctx, token, access)
	switch {
	case err == nil && allowed:
		out.Key, out.SHA256 = pkgstore.Key(found.Dataset, found.SHA256), found.SHA256
		return out, nil
	case unknown != nil:
		return nil, unknown
	}
	return nil, notFound
}

// Datasets lists an owner's datasets by name, at most limit of those after a name;
// empty is from the start. Strangers find those that are published. An owner that is
// not there has none.
func (s *Service) Datasets(ctx context.Context, token, ownerID, after string, limit int) ([]registry.Dataset, error) {
	page := registry.DatasetPage{OwnerID: ownerID, Listed: true, Limit: limit}
	if after != "" {
		page.After = ownerID + "/" + after
	}
	if token != "" {
		caller, err := s.Verifier.Verify(ctx, token)
		if errs.Is(err, errs.Unavailable) {
			return nil, err // else an owner takes what is private for gone
		}
		page.Listed = err != nil || !caller.Allows(auth.Read, ownerID)
	}
	return s.Registry.Datasets(ctx, page)
}

// Revisions lists the revisions of a dataset, newest first, at most limit of those
// below a number; 0 is any, and its schedule. For who may not read the dataset it is
// NotFound.
func (s *Service) Revisions(ctx context.Context, token, datasetID string, before int64, limit int) ([]registry.RevisionInfo, *registry.Schedule, error) {
	latest, err := s.Standing(ctx, token, datasetID, "latest")
	if err != nil {
		return nil, nil, err
	}
	list, err := s.Registry.Revisions(ctx, latest.DatasetID, before, limit)
	if err != nil {
		return nil, nil, err
	}
	if latest.Redacted {
		for i := range list {
			list[i].Stats = nil
		}
		return list, &registry.Schedule{}, nil
	}
	if !s.readsAsOwner(ctx, token, latest.OwnerID) {
		for i := range list {
			list[i].Stats = bareAddresses(list[i].Stats)
		}
	}
	schedule, err := s.Registry.Schedule(ctx, latest.DatasetID)
	return list, schedule, err
}

// Owner finds an owner of published datasets by name or ID. Others are not shown: that
// somebody has something private is private.
func (s *Service) Owner(ctx context.Context, name string) (*registry.Owner, error) {
	return s.Registry.Owner(ctx, name)
}

// shown reads parts of a revision for whoever may see all of it.
func (s *Service) shown(ctx context.Context, token, datasetID, which string, parts registry.Parts) (*registry.Revision, error) {
	r, err := s.find(ctx, token, datasetID, which, parts)
	if err == nil && r.Redacted {
		return nil, errs.New(errs.NotFound, "service.Status", "no revision %q of dataset %q", which, datasetID)
	}
	return r, err
}

// Plan plans a revision again, as its runner runs it. A spec that the original
// took and this service does not is Invalid.
func (s *Service) Plan(ctx context.Context, token, datasetID, which string) ([]plan.Pipeline, error) {
	r, err := s.shown(ctx, token, datasetID, which, registry.WithSpec)
	if err != nil {
		return nil, err
	}
	raw, err := flowspec.ParseJSON(r.Spec)
	if err != nil {
		return nil, err
	}
	spec, problems := flowspec.Check(raw)
	if len(problems) > 0 {
		return nil, invalid(problems)
	}
	return plan.Plan(s.planInput(r.Runner, r.PlannerVersion, spec, r.Number, r.Created, r.DatasetCreated))
}

// PipelineLog gives the log of a revision's pipeline, named by the last part of its ID; the
// package's by the name of the dataset. It is at most the last 100 lines.
func (s *Service) PipelineLog(ctx context.Context, token, datasetID, which, name string) ([]string, error) {
	r, err := s.shown(ctx, token, datasetID, which, registry.WithPipelines)
	if err != nil {
		return nil, err
	}
	id := r.ID + "/" + name
	_, dataset, _ := strings.Cut(r.DatasetID, "/")
	for _, p := range r.Pipelines {
		if p.ID == id || p.ID == r.ID && name == dataset {
			return p.Log, nil
		}
	}
	return nil, errs.New(errs.NotFound, "service.PipelineLog", "%s has no pipeline %q", r.ID, name)
}

// Report finds the object that holds the validation report of a revision, also of one
// that failed. It is NotFound where there is none, or none yet.
func (s *Service) Report(ctx context.Context, token, datasetID, which string) (object string, err error) {
	r, err := s.shown(ctx, token, datasetID, which, registry.WithPipelines)
	if err != nil {
		return "", err
	}
	dataset, files, err := s.Registry.Published(ctx, r.ID, plan.ReportName)
	if err != nil {
		return "", err
	}
	if len(files) == 1 {
		return pkgstore.Key(dataset, files[0].SHA256), nil
	}
	return "", errs.New(errs.NotFound, "service.Report", "%s has no validation report", r.ID)
}

// maxChanges bounds each list of a [Diff].
const maxChanges = 1000

// Diff is what differs between two revisions of a dataset.
type Diff struct {
	From, To string // IDs
	// Spec is the differences of the whole spec; Schema those of the tables' schemas
	// alone, each under its resource's name; Stats those of the package's stats. Left is
	// how many were left out of each list, which have at most 1000.
	Spec, Schema, Stats             []jsondiff.Change
	SpecLeft, SchemaLeft, StatsLeft int
}

// Diff compares two revisions of a dataset.
func (s *Service) Diff(ctx context.Context, token, datasetID, from, to string) (*Diff, error) {
	a, err := s.shown(ctx, token, datasetID, from, registry.WithSpec)
	if err != nil {
		return nil, err
	}
	b, err := s.shown(ctx, token, datasetID, to, registry.WithSpec)
	if err != nil {
		return nil, err
	}
	d := &Diff{From: a.ID, To: b.ID}
	before, after := value(a.Spec), value(b.Spec)
	d.Spec, d.SpecLeft = jsondiff.Compare(before, after, maxChanges)
	d.Schema, d.SchemaLeft = jsondiff.Compare(schemas(before), schemas(after), maxChanges)
	d.Stats, d.StatsLeft = jsondiff.Compare(value(a.Stats), value(b.Stats), maxChanges)
	return d, nil
}

// value reads JSON with its numbers as they are written; of nothing it is nil.
func value(raw json.RawMessage) (v any) {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	_ = d.Decode(&v) // the registry keeps JSON alone
	return v
}

// schemas finds the Table Schemas in a spec, by the names of their resources; of one
// without a name by its place.
func schemas(spec any) map[string]any {
	found := map[string]any{}
	member := func(v any, name string) any {
		m, _ := v.(map[string]any)
		return m[name]
	}
	inputs, _ := member(spec, "inputs").([]any)
	for _, input := range inputs {
		resources, _ := member(member(member(input, "parameters"), "descriptor"), "resources").([]any)
		for i, resource := range resources {
			schema := member(resource, "schema")
			if schema == nil {
				continue
			}
			name, _ := member(resource, "name").(string)
			if name == "" {
				name = fmt.Sprint(i)
			}
			found[name] = schema
		}
	}
	return found
}
