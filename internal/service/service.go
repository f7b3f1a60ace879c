// Package service holds the use cases: an upload, an update, a status, a run.
//
// Each is one function that asks the parts below it in the right order and owns the
// transaction. An accepted upload is a revision, its pipelines and a ticket for a
// worker, all of them or none; a run writes under its attempt and stops when it has
// lost its lease.
package service

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/fetch"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/sqldb"
)

// Enqueuer adds a ticket for a worker in a transaction, and wakes the workers when
// that has committed.
type Enqueuer interface {
	Enqueue(ctx context.Context, tx sqldb.Tx) error
	Wake(ctx context.Context)
}

// Pipelines is a datapackage-pipelines service, which runs flows elsewhere.
type Pipelines interface {
	Probe(ctx context.Context) error   // Unavailable where it is not there
	Refresh(ctx context.Context) error // tells it to look for new flows now
}

// Parts are what a service is made of.
type Parts struct {
	// Runner is who runs the flows of what is uploaded from now on; empty is the
	// embedded engine.
	Runner registry.Runner
	DPP    Pipelines // for the runner of that name
	// Plans are the settings of plans for the runner DPP. SignTime is when each is made.
	Plans    plan.Settings
	Registry *registry.Store
	Verifier *auth.Verifier
	Raw      *rawstore.Store
	Packages *pkgstore.Store
	Fetch    *fetch.Client
	Jobs     Enqueuer
	// RawBases are the addresses of uploaded files, which specs name them by: the one
	// that is handed out now, and those of earlier starts, since specs outlive them.
	RawBases []string
	// Redact shows strangers the states and titles of private revisions, and nothing
	// else; without it they do not exist for them.
	Redact bool
	Temp   string // an existing folder for files in the making
	Holder string // names this process in leases
	Secret []byte // signs the addresses that updates are sent to
	Now    func() time.Time
	Log    *slog.Logger
}

// Service is the use cases. Any number of goroutines may use it.
type Service struct{ Parts }

// New makes a service.
func New(p Parts) *Service {
	if p.Runner == "" {
		p.Runner = registry.Embedded
	}
	return &Service{p}
}

// Texts of refusals that clients know.
const (
	invalidSpec  = "Validation failed for contents"
	missingOwner = "Missing owner in spec"
)

const maxIdempotencyKey = 255 // bytes

// Upload accepts a Flow-Spec: from here on there is a revision that will be run. A
// refusal has the lines of its errors as its detail and leaves nothing behind.
func (s *Service) Upload(ctx context.Context, token string, body []byte, idempotencyKey string) (*registry.Revision, error) {
	const op = "service.Upload"
	// What is kept is JSON as the registry reads it, without a byte order mark.
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	raw, err := flowspec.ParseJSON(body)
	if err != nil {
		return nil, err
	}
	ownerID := metaText(raw, "ownerid")
	if ownerID == "" {
		return nil, errs.New(errs.Invalid, op, missingOwner)
	}
	caller, err := s.Verifier.Verify(ctx, token)
	if err == nil {
		err = caller.Require(auth.Upload, ownerID)
	}
	if err != nil {
		return nil, err
	}
	if len(idempotencyKey) > maxIdempotencyKey {
		return nil, errs.New(errs.Invalid, op, "the idempotency key is longer than %d bytes", maxIdempotencyKey)
	}
	// The limit of datasets is looked at before the spec is judged, so a spec that
	// is wrong is refused from inside the transaction that counts.
	spec, refusal := s.check(raw)
	if refusal == nil && s.Runner == registry.DPP {
		// Nothing that nobody can run is stored; the limit comes first all the same.
		if refusal = forDPP(spec); refusal == nil {
			refusal = s.DPP.Probe(ctx)
		}
	}
	now := s.Now()
	n := registry.New{
		OwnerID: ownerID, Dataset: metaText(raw, "dataset"), Spec: body, Runner: s.Runner, PlannerVersion: plan.Version,
		CreatedAt: now, MaxDatasets: caller.MaxDatasets, IdempotencyKey: idempotencyKey, IdempotencyHash: digest(body),
	}
	if s.Runner == registry.Embedded {
		n.Enqueue = s.Jobs.Enqueue
	}
	if spec != nil {
		n.Findability, n.Owner = spec.Findability, spec.Owner
		if n.Owner == "" {
			n.Owner = caller.UserName
		} else {
			n.OwnerTaken = invalid([]flowspec.Problem{{Pointer: "/meta/owner", Message: fmt.Sprintf("the name %q is another owner's", n.Owner)}})
		}
		if spec.Schedule.Every > 0 {
			n.ScheduledFor = now.Add(spec.Schedule.Every)
		}
	}
	n.Plan = func(revision int64, created time.Time, _ bool) ([]registry.PlannedPipeline, error) {
		if refusal != nil {
			return nil, refusal
		}
		pipelines, err := s.plan(s.Runner, spec, revision, now, created)
		if err != nil {
			return nil, err
		}
		planned := make([]registry.PlannedPipeline, len(pipelines))
		for i, p := range pipelines {
			planned[i] = registry.PlannedPipeline{ID: p.ID, Title: p.Details.Title}
			if s.Runner == registry.DPP {
				if planned[i].Details, err = json.Marshal(p.Details); err != nil {
					return nil, err
				}
			}
			for _, d := range p.Details.Dependencies {
				planned[i].Dependencies = append(planned[i].Dependencies, d.Pipeline)
			}
		}
		return planned, nil
	}
	r, err := s.Registry.CreateRevision(ctx, n)
	if err != nil {
		return nil, err
	}
	switch s.Runner {
	case registry.Embedded:
		s.Jobs.Wake(ctx)
	case registry.DPP:
		s.refresh(ctx, r.ID)
	case registry.External: // nobody is told
	}
	return r, nil
}

// refreshWithin is how long an upload waits for the pipelines service to hear of it.
const refreshWithin = time.Second

// refresh lets the pipelines service know. The upload is accepted whatever comes of it:
// the service looks for itself from time to time.
func (s *Service) refresh(ctx context.Context, flowID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshWithin)
	defer cancel()
	if err := s.DPP.Refresh(ctx); err != nil {
		s.Log.WarnContext(ctx, "the pipelines service was not told of a flow", "flow", flowID, "error", err)
	}
}

// forDPP refuses names that a datapackage-pipelines service does not run: in it they are
// parts of paths and of addresses.
func forDPP(spec *flowspec.Spec) error {
	var problems []flowspec.Problem
	check := func(pointer, name string) {
		if strings.ContainsFunc(name, func(r rune) bool {
			return r != '.' && r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
		}) {
			problems = append(problems, flowspec.Problem{Pointer: pointer, Message: fmt.Sprintf("%q: the pipelines service takes ASCII letters in lower case, digits and ._- only", name)})
		}
	}
	check("/meta/ownerid", spec.OwnerID)
	check("/meta/dataset", spec.Dataset)
	for i, r := range spec.Resources {
		check(datapackage.Pointer("inputs", 0, "parameters", "descriptor", "resources", i, "name"), r.Name)
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

// check checks a spec that a stranger sent. The schedule's text stands alone, as
// clients know it.
func (s *Service) check(raw map[string]any) (*flowspec.Spec, error) {
	spec, problems := flowspec.Check(raw)
	for _, p := range problems {
		if p.Pointer == "/schedule" {
			return nil, errs.New(errs.Invalid, "service.check", "%s", p.Message)
		}
	}
	if spec != nil {
		problems = s.checkSources(spec)
	}
	if len(problems) > 0 {
		return nil, invalid(problems)
	}
	return spec, nil
}

func invalid(problems []flowspec.Problem) error {
	lines := append([]string{invalidSpec}, flowspec.ProblemLines(problems)...)
	return errs.New(errs.Invalid, "service.check", "%s", strings.Join(lines, "\n"))
}

// plan plans a revision for a runner. It gives the same plan whenever it is asked, but
// for signatures of addresses, which know the time.
func (s *Service) plan(runner registry.Runner, spec *flowspec.Spec, revision int64, accepted, created time.Time) ([]plan.Pipeline, error) {
	settings := plan.Settings{Local: true}
	if runner == registry.DPP {
		settings = s.Plans
		settings.SignTime = s.Now()
	}
	return plan.Plan(plan.Input{
		Spec: spec, Revision: text(revision), UpdateTime: stamp(accepted), CreateTime: stamp(created), Settings: settings,
	})
}

// stamp is a time as RFC 3339 in UTC with microseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// UpdateToken is what an update of a flow must carry, from whoever was told it.
func (s *Service) UpdateToken(flowID string) string {
	m := hmac.New(sha256.New, s.Secret)
	m.Write([]byte("update " + flowID))
	return hex.EncodeToString(m.Sum(nil))
}

// Update takes news of a pipeline from outside.
func (s *Service) Update(ctx context.Context, e registry.Event) (registry.Applied, error) {
	e.Attempt = 0
	return s.Registry.Apply(ctx, e)
}

// Cancel ends an open revision of the caller's. An ended one is a Conflict.
func (s *Service) Cancel(ctx context.Context, token, datasetID, which string) (registry.State, error) {
	r, err := s.managed(ctx, token, datasetID, which)
	if err != nil {
		return 0, err
	}
	state := r.State
	if !state.Ended() {
		state, err = s.Registry.Cancel(ctx, r.ID, "Cancelled by its owner")
		if err != nil || state != registry.Succeeded { // else it ended in between
			return state, err
		}
	}
	return 0, errs.New(errs.Conflict, "service.Cancel", "%s has ended: it is %s", r.ID, state)
}

// Retry makes a new attempt of a revision of the caller's that failed or was
// cancelled. It reports whether there was something to do.
func (s *Service) Retry(ctx context.Context, token, datasetID, which string) (bool, error) {
	r, err := s.managed(ctx, token, datasetID, which)
	if err != nil {
		return false, err
	}
	done, err := s.Registry.Retry(ctx, r.ID, s.Jobs.Enqueue)
	if done {
		s.Jobs.Wake(ctx)
	}
	return done, err
}

func (s *Service) managed(ctx context.Context, token, datasetID, which string) (*registry.Revision, error) {
	r, err := s.Status(ctx, token, datasetID, which)
	if err != nil {
		return nil, err
	}
	caller, err := s.Verifier.Verify(ctx, token)
	if err == nil {
		err = caller.Require(auth.Manage, r.OwnerID)
	}
	return r, err
}

// Delete takes a dataset of the caller's away, with all its revisions.
func (s *Service) Delete(ctx context.Context, token, datasetID string) error {
	r, err := s.managed(ctx, token, datasetID, "latest")
	if err != nil {
		return err
	}
	return s.Registry.Delete(ctx, r.DatasetID, "Its dataset was deleted")
}

// Recover is for the start, before any worker: flows that were interrupted wait
// for a worker again. It gives how many wait.
func (s *Service) Recover(ctx context.Context) (int, error) {
	return s.Registry.Recover(ctx, s.Jobs.Enqueue)
}
