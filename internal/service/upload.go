package service

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/runner"
)

// Texts of refusals that clients know.
const (
	invalidSpec  = "Validation failed for contents"
	missingOwner = "Missing owner in spec"
)

const maxIdempotencyKey = 255 // bytes

// Accepted is a revision that will be run.
type Accepted struct {
	*registry.Revision
	Notes []string // what the spec asks for and will not get
}

// Upload accepts a Flow-Spec: from here on there is a revision that will be run. A
// refusal has the lines of its errors as its detail and leaves nothing behind.
func (s *Service) Upload(ctx context.Context, token string, body []byte, idempotencyKey string) (*Accepted, error) {
	u, err := s.admit(ctx, token, body)
	if err != nil {
		return nil, err
	}
	if len(idempotencyKey) > maxIdempotencyKey {
		return nil, errs.New(errs.Invalid, "service.Upload", "the idempotency key is longer than %d bytes", maxIdempotencyKey)
	}
	n := u.revision(s)
	if idempotencyKey != "" {
		n.IdempotencyKey, n.IdempotencyHash = idempotencyKey, digest(u.body)
	}
	r, err := s.accept(ctx, u, n)
	if err != nil {
		return nil, err
	}
	return &Accepted{r, plan.Notes(s.planInput(n.Runner, plan.Version, u.spec, r.Number, u.at, r.DatasetCreated))}, nil
}

// accept makes a revision of an upload, and wakes who runs it.
func (s *Service) accept(ctx context.Context, u *upload, n registry.New) (*registry.Revision, error) {
	n.Plan = func(number int64, created time.Time, _ bool) ([]registry.PlannedPipeline, error) {
		pipelines, err := u.plan(ctx, s, number, created)
		if err != nil {
			return nil, err
		}
		return s.planned(pipelines, n.Runner, u.at)
	}
	if n.Runner == registry.Embedded {
		n.Enqueue = s.Jobs.Enqueue
	}
	r, err := s.Registry.CreateRevision(ctx, n)
	if err != nil {
		return nil, err
	}
	switch n.Runner {
	case registry.Embedded:
		s.Jobs.Wake()
	case registry.DPP:
		s.news.of(r.ID)
	case registry.External: // nobody is told
	}
	return r, nil
}

// DryRun gives the pipelines that an upload would have, with the same checks and the
// same refusals. It stores nothing.
func (s *Service) DryRun(ctx context.Context, token string, body []byte) ([]plan.Pipeline, error) {
	u, err := s.admit(ctx, token, body)
	if err != nil {
		return nil, err
	}
	// The transaction that makes a revision counts and looks as for any other, and is
	// then taken back.
	takenBack := errors.New("a dry run")
	var pipelines []plan.Pipeline
	n := u.revision(s)
	n.Plan = func(number int64, created time.Time, _ bool) (_ []registry.PlannedPipeline, err error) {
		if pipelines, err = u.plan(ctx, s, number, created); err != nil {
			return nil, err
		}
		return nil, takenBack
	}
	if _, err := s.Registry.CreateRevision(ctx, n); !errors.Is(err, takenBack) {
		return nil, err
	}
	return pipelines, nil
}

// upload is a spec of a caller who may push it.
type upload struct {
	body    []byte
	ownerID string
	dataset string // "" where the spec does not say it
	caller  *auth.Token
	at      time.Time
	spec    *flowspec.Spec // nil where it is refused
	uploads []string       // keys of the owner's uploaded files that it names
	refusal error          // for after the limit of datasets, which goes before
}

// admit checks what is checked before the registry is asked: the form of the body, the
// owner, the token. What is wrong with the spec is found, and kept for its turn.
func (s *Service) admit(ctx context.Context, token string, body []byte) (*upload, error) {
	// What is kept is JSON as the registry reads it, without a byte order mark.
	u := &upload{body: bytes.TrimPrefix(body, []byte("\ufeff")), at: s.Now()}
	noOwner := errs.New(errs.Invalid, "service.admit", missingOwner)
	caller, refusal := s.Verifier.Verify(ctx, token)
	if refusal != nil {
		// What is wrong with the body is said first, and nothing of it is built.
		meta, err := flowspec.Meta(u.body, "ownerid")
		switch {
		case err != nil:
			return nil, err
		case meta["ownerid"] == "":
			return nil, noOwner
		}
		return nil, refusal
	}
	raw, err := flowspec.ParseJSON(u.body)
	if err != nil {
		return nil, err
	}
	if u.ownerID = metaText(raw, "ownerid"); u.ownerID == "" {
		return nil, noOwner
	}
	u.caller, u.dataset = caller, metaText(raw, "dataset")
	if err := u.caller.Require(auth.Upload, u.ownerID); err != nil {
		return nil, err
	}
	named, err := s.ownerName(ctx, metaText(raw, "owner"), u.caller)
	if err != nil {
		return nil, err
	}
	if u.spec, u.refusal = s.check(raw, s.Runner, named...); u.refusal == nil {
		u.uploads = rawstore.Mentioned(u.ownerID, raw)
	}
	if u.refusal == nil && s.Runner == registry.DPP {
		if u.refusal = forDPP(u.spec); u.refusal == nil {
			// Nothing that nobody can run is stored.
			u.refusal = s.DPP.Probe(ctx)
		}
	}
	return u, nil
}

// revision is what the registry is asked to make.
func (u *upload) revision(s *Service) registry.New {
	n := registry.New{
		OwnerID: u.ownerID, Dataset: u.dataset, Spec: u.body, Runner: s.Runner, PlannerVersion: plan.Version,
		CreatedAt: u.at, MaxDatasets: u.caller.MaxDatasets,
	}
	if u.spec == nil {
		return n
	}
	n.Findability, n.Owner, n.Uploads = u.spec.Findability, u.spec.Owner, u.uploads
	switch {
	case n.Owner == u.ownerID: // no name beside the ID
		n.Owner = ""
	case n.Owner == "" && flowspec.CheckOwner(u.caller.UserName) == "":
		n.Owner = u.caller.UserName
	}
	if next := u.spec.Schedule.Next(u.at, time.Time{}); !next.IsZero() {
		// What was read as JSON can be written as JSON.
		if text, err := json.Marshal(u.spec.Raw["schedule"]); err == nil {
			n.Schedule, n.ScheduledFor = text, next
		}
	}
	return n
}

// Profiles finds out whose a name is, as the server says that issues the tokens.
type Profiles interface {
	// OwnerID returns the ID of the owner of a name, "" where nobody has it.
	OwnerID(ctx context.Context, name string) (string, error)
}

// ownerName checks the name that a spec says its owner has. An ID is bound to a name
// only by who may say it: the caller's token, or else the server that issued it.
func (s *Service) ownerName(ctx context.Context, name string, caller *auth.Token) ([]flowspec.Problem, error) {
	if name == "" || name == caller.UserID || name == caller.UserName || flowspec.CheckOwner(name) != "" {
		return nil, nil // what no owner is called is a problem of its own
	}
	if s.Profiles != nil {
		id, err := s.Profiles.OwnerID(ctx, name)
		if err != nil || id == caller.UserID {
			return nil, err
		}
	}
	text := fmt.Sprintf("the name %q is not yours: leave it out, or write your owner ID", name)
	if caller.UserName != "" {
		text += fmt.Sprintf(" or %q", caller.UserName)
	}
	return []flowspec.Problem{{Pointer: "/meta/owner", Message: text}}, nil
}

// plan plans the upload. The transaction that it is in keeps the uploaded files that the
// spec names from being removed; here it is looked whether they are there.
func (u *upload) plan(ctx context.Context, s *Service, number int64, created time.Time) ([]plan.Pipeline, error) {
	if u.refusal != nil {
		return nil, u.refusal
	}
	if err := s.checkUploads(ctx, u.spec); err != nil {
		return nil, err
	}
	return plan.Plan(s.planInput(s.Runner, plan.Version, u.spec, number, u.at, created))
}

const maxDetails = 64 << 20 // bytes of the steps of a flow that are kept for a pipelines service

// planned is pipelines as the registry keeps them; their steps for a pipelines service.
func (s *Service) planned(pipelines []plan.Pipeline, runner registry.Runner, at time.Time) ([]registry.PlannedPipeline, error) {
	list := make([]registry.PlannedPipeline, len(pipelines))
	length := 0
	for i, p := range pipelines {
		list[i] = registry.PlannedPipeline{ID: p.ID, Title: p.Details.Title}
		for _, d := range p.Details.Dependencies {
			list[i].Dependencies = append(list[i].Dependencies, d.Pipeline)
		}
		if runner != registry.DPP {
			continue
		}
		var err error
		if list[i].Details, err = s.detailsFor(p, 1, at); err != nil {
			return nil, err
		}
		if length += len(list[i].Details); length > maxDetails {
			return nil, errs.New(errs.TooLarge, "service.planned", "the plan for the pipelines service is longer than %d MiB", maxDetails>>20)
		}
	}
	return list, nil
}

// forDPP refuses what a datapackage-pipelines service does not run: names, which in it
// are parts of paths and of addresses, and sources that are not one file.
func forDPP(spec *flowspec.Spec) error {
	var problems []flowspec.Problem
	check := func(pointer, name string) {
		if strings.ContainsFunc(name, func(r rune) bool {
			return r != '.' && r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
		}) {
			problems = append(problems, flowspec.Problem{Pointer: pointer, Message: fmt.Sprintf("%q: the pipelines service takes ASCII letters in lower case, digits and ._- only", name)})
		}
	}
	const oneFile = "the pipelines service reads one file for each resource: give one path"
	check("/meta/ownerid", spec.OwnerID)
	check("/meta/dataset", spec.Dataset)
	for i, r := range spec.Resources {
		at := datapackage.Pointer("inputs", 0, "parameters", "descriptor", "resources", i)
		check(at+"/name", r.Name)
		if r.Inline != nil {
			problems = append(problems, flowspec.Problem{Pointer: at + "/data", Message: oneFile})
		}
		if len(r.Paths) > 1 {
			problems = append(problems, flowspec.Problem{Pointer: at + "/path", Message: oneFile})
		}
	}
	if len(problems) > 0 {
		return invalid(problems)
	}
	return nil
}

func metaText(raw map[string]any, key string) string {
	meta, _ := raw["meta"].(map[string]any)
	text, _ := meta[key].(string)
	return text
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// check checks a spec that a stranger sent, in which problems may have been found
// already. The schedule's text stands alone, as clients know it.
func (s *Service) check(raw map[string]any, runner registry.Runner, found ...flowspec.Problem) (*flowspec.Spec, error) {
	spec, problems := flowspec.Check(raw)
	for _, p := range problems {
		if p.Pointer == "/schedule" {
			return nil, errs.New(errs.Invalid, "service.check", "%s", p.Message)
		}
	}
	if spec != nil {
		problems = append(s.checkSources(spec), s.checkSteps(spec, runner)...)
	}
	problems = append(found, problems...)
	if len(problems) > 0 {
		return nil, invalid(problems)
	}
	return spec, nil
}

func invalid(problems []flowspec.Problem) error {
	lines := append([]string{invalidSpec}, flowspec.ProblemLines(problems)...)
	return errs.New(errs.Invalid, "service.check", "%s", strings.Join(lines, "\n"))
}

// planInput is what a revision is planned from for a runner, by the planner of a
// version. It gives the same plan whenever it is asked, but for signatures of
// addresses, which know the time.
func (s *Service) planInput(by registry.Runner, version string, spec *flowspec.Spec, revision int64, accepted, created time.Time) plan.Input {
	in := runner.PlanInput(version, spec, revision, accepted, created)
	switch by {
	case registry.Embedded:
	case registry.DPP:
		in.AllowedTypes, in.BareNames, in.Settings = nil, false, s.Plans
		in.Settings.SignTime = accepted
	case registry.External:
		in.AllowedTypes, in.BareNames = nil, false // the default types
	}
	return in
}
