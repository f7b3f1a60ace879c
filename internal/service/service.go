// Package service holds the use cases: an upload, an update, a status, a run.
//
// Each is one function that asks the parts below it in the right order and owns the
// transaction. An accepted upload is a revision, its pipelines and a ticket for a
// worker, all of them or none; a run writes under its attempt and stops when it has
// lost its lease.
package service

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"sync"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/dpp"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/runner"
	"github.com/datahq/specstore/internal/sqldb"
)

// Enqueuer adds a ticket for a worker in a transaction, and wakes the workers when
// that has committed.
type Enqueuer interface {
	Enqueue(ctx context.Context, tx sqldb.Tx) error
	Wake()
}

// Pipelines is a datapackage-pipelines service, which runs flows elsewhere.
type Pipelines interface {
	Probe(ctx context.Context) error              // Unavailable where it is not there, or was not a moment ago
	ProbeNow(ctx context.Context) error           // likewise, and as it is now
	Style(ctx context.Context) (dpp.Style, error) // how it is spoken to
	Refresh(ctx context.Context) error            // tells it to look for new flows now
	Pipeline(ctx context.Context, id string) (*dpp.Pipeline, error)
	Post(ctx context.Context, spec []byte) (uid string, err error)
	Run(ctx context.Context, uid string) (*dpp.Run, error)
}

// Parts are what a service is made of.
type Parts struct {
	// Runner is who runs the flows of what is uploaded from now on; empty is the
	// embedded engine.
	Runner registry.Runner
	DPP    Pipelines // for the runner of that name
	// Silence is how long that runner may give no sign of a pipeline that it should be
	// at, before the pipeline fails; 0 is [DefaultSilence].
	Silence time.Duration
	// Trash is how long what was deleted can be restored; 0 is [DefaultTrash].
	Trash time.Duration
	// EraseWait is how long who erases a dataset waits for it; 0 is 10 seconds.
	EraseWait time.Duration
	// PublicURL is the base of the addresses that are handed out.
	PublicURL string
	// Plans are the settings of plans for the runner DPP. SignTime is when each is made.
	Plans plan.Settings
	// Processors are those that specs may name in steps of their own where another
	// runner than the embedded engine runs them; "*" is any.
	Processors []string
	Registry   *registry.Store
	Verifier   *auth.Verifier
	Raw        *rawstore.Store
	Packages   *pkgstore.Store
	Runs       *runner.Pool // runs the flows that are claimed here; nil where none are
	Jobs       Enqueuer
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
	// Profiles binds names to owners beside the tokens; nil where these alone do.
	Profiles Profiles
}

// Service is the use cases. Any number of goroutines may use it.
type Service struct {
	Parts
	news *news // of pipelines that run elsewhere

	mu   sync.Mutex
	runs map[string]*holding // that run here, by flow ID
}

// New makes a service.
func New(p Parts) *Service {
	if p.Runner == "" {
		p.Runner = registry.Embedded
	}
	if p.Trash <= 0 {
		p.Trash = DefaultTrash
	}
	if p.EraseWait <= 0 {
		p.EraseWait = eraseWait
	}
	if p.Silence <= 0 {
		p.Silence = DefaultSilence
	}
	return &Service{Parts: p, news: newNews(), runs: map[string]*holding{}}
}

// UpdateToken is what an update of a flow must carry, from whoever was told it.
func (s *Service) UpdateToken(flowID string) string {
	m := hmac.New(sha256.New, s.Secret)
	m.Write([]byte("update " + flowID))
	return hex.EncodeToString(m.Sum(nil))
}

// Update takes news of a pipeline from outside.
func (s *Service) Update(ctx context.Context, e registry.Event) (registry.Applied, error) {
	e.Attempt = 0
	a, err := s.Registry.Apply(ctx, e)
	if err == nil && s.DPP != nil { // else nobody asks for news
		s.news.heard(e)
	}
	return a, err
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
			s.lose(r.ID)
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
	if r.Runner == registry.DPP {
		if r, err = s.Registry.Revision(ctx, r.DatasetID, text(r.Number), registry.WithSpec); err != nil {
			return false, err
		}
		return s.retryDPP(ctx, r)
	}
	done, err := s.Registry.Retry(ctx, r.ID, s.Jobs.Enqueue)
	if done {
		s.Jobs.Wake()
	}
	return done, err
}

// managed finds a revision for whoever may change it, without its long parts.
func (s *Service) managed(ctx context.Context, token, datasetID, which string) (*registry.Revision, error) {
	r, err := s.Standing(ctx, token, datasetID, which)
	if err != nil {
		return nil, err
	}
	caller, err := s.Verifier.Verify(ctx, token)
	if err == nil {
		err = caller.Require(auth.Manage, r.OwnerID)
	}
	return r, err
}

// Recover is for the start, before any worker: flows that were interrupted wait
// for a worker again. It gives how many wait.
func (s *Service) Recover(ctx context.Context) (int, error) {
	return s.Registry.Recover(ctx, s.Jobs.Enqueue)
}
