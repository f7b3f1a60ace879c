// Package registry keeps what the service knows: datasets, their numbered
// revisions, the pipelines of each, and their states.
//
// A revision moves QUEUED, INPROGRESS, then SUCCEEDED, FAILED or CANCELLED, and
// never back within an attempt; its state is always the one that follows from its
// pipelines. Every change of a state is made by [Store.Apply] or by one of its
// kin ([Store.Cancel], [Store.Retry], [Store.Recover]): one row lock on the
// revision, one transaction, one table of transitions, one entry in flow_event.
// A run writes under the number of its attempt; one whose number has passed is
// refused. The numbers of a dataset's revisions are dense from 1 and never used
// again. Reads take no lock.
//
// While a flow is open its pipelines are rows; when it ends they are folded once
// into the revision, which keeps the whole record for ever.
package registry

import (
	"context"
	"embed"
	"encoding/json"
	"io/fs"
	"sync"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/sqldb"
)

//go:embed migrations
var migrations embed.FS

// Runner is who runs a flow. It is fixed when the revision is made.
type Runner string

// The runners.
const (
	Embedded Runner = "embedded" // the workers of this service
	DPP      Runner = "dpp"      // a datapackage-pipelines service
	External Runner = "external" // whoever sends updates; nobody is told
)

// Store is the registry. It may be used from several goroutines.
type Store struct {
	db     *sqldb.DB
	now    func() time.Time
	engine string

	files    fileCache
	mu       sync.Mutex
	watchers map[string]map[chan struct{}]struct{}
}

// Options are the store's settings; the zero value is right for the service.
type Options struct {
	Now func() time.Time // the clock of what is recorded; nil is [time.Now]
	// EngineVersion is recorded with a revision whose flow is claimed: outputs are
	// byte-identical for one version.
	EngineVersion string
	// LegacyZone is the time zone of the times in a database that the original wrote;
	// nil is the machine's.
	LegacyZone *time.Location
}

// Open brings the tables up to date and gives the store.
func Open(ctx context.Context, db *sqldb.DB, o Options) (*Store, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	original := adoption{zone: o.LegacyZone}
	if original.zone == nil {
		original.zone = time.Local
	}
	if err := db.Migrate(ctx, "registry", files, sqldb.After{1: original.adopt, 4: identify, 6: adoptSchedules}); err != nil {
		return nil, err
	}
	s := &Store{db: db, now: o.Now, engine: o.EngineVersion, watchers: map[string]map[chan struct{}]struct{}{}}
	s.files.alone = db.Single()
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Event is what happened to a pipeline.
type Event struct {
	// FlowID may be empty: it follows from the pipeline's ID.
	FlowID   string
	Pipeline string
	Kind     Kind
	Success  bool // of a finish
	// Errors, Log and Stats replace what is kept where they are not empty.
	Errors, Log []string
	Stats       json.RawMessage
	// Outputs is what a pipeline that succeeded made, for an attempt that skips it.
	Outputs json.RawMessage
	// Reused is the ID of the flow that made the outputs, where that is another one.
	Reused string
	// Files are the files that the pipeline published, its descriptor among them; the
	// revision names them from then on.
	Files []File
	// DescriptorKey is the key of the object with the package's descriptor, ContentDigest
	// a hash of what the revision holds; on the finish of the flow's last pipeline.
	DescriptorKey, ContentDigest string
	// Attempt is the number that [Store.Claim] gave; 0 is an event from outside,
	// which changes nothing in a flow of the embedded runner.
	Attempt int64
	// Outside is the attempt that an event from outside belongs to, 0 where it does not
	// say. One of another attempt changes nothing.
	Outside int64
}

// Applied is how things stand after an event.
type Applied struct {
	FlowID    string
	State     State // the pipeline's
	FlowState State
	Changed   bool // whether the event changed a state
}

// Apply makes an event true. An event that was there before, or that would go
// back, changes nothing and answers with the state that stands. When a pipeline
// fails, those that wait for it fail with it. It fails with NotFound for an
// unknown pipeline and with Conflict where the attempt has passed.
func (s *Store) Apply(ctx context.Context, ev Event) (Applied, error) {
	list, err := s.ApplyAll(ctx, ev)
	if err != nil {
		return Applied{}, err
	}
	return list[0], nil
}

// ApplyAll makes several events of one flow true, in their order and in one transaction:
// all of them or none.
func (s *Store) ApplyAll(ctx context.Context, events ...Event) ([]Applied, error) {
	const op = "registry.Apply"
	for i := range events {
		ev := &events[i]
		ev.Pipeline = Unalias(ev.Pipeline)
		if ev.FlowID == "" {
			ev.FlowID = FlowOf(ev.Pipeline)
		}
		if ev.FlowID != events[0].FlowID {
			return nil, errs.New(errs.Invalid, op, "events of several flows")
		}
		if _, err := ParseKind(string(ev.Kind)); err != nil {
			return nil, err
		}
		if present(ev.Stats) && (len(ev.Stats) > maxStats || !json.Valid(ev.Stats)) {
			return nil, errs.New(errs.Invalid, op, "stats are not JSON of at most %d bytes", maxStats)
		}
	}
	if len(events) == 0 {
		return nil, nil
	}
	var list []Applied
	err := s.change(ctx, events[0].FlowID, func(f *flow) error {
		list = make([]Applied, 0, len(events))
		for _, ev := range events {
			p := f.find(ev.Pipeline)
			if p == nil {
				return errs.New(errs.NotFound, op, "pipeline not found")
			}
			if ev.Attempt != 0 && ev.Attempt != f.attempt {
				return errs.New(errs.Conflict, op, "attempt %d of %s was superseded by attempt %d", ev.Attempt, f.id, f.attempt)
			}
			before := len(f.events)
			if ev.Attempt != 0 || f.runner != Embedded && (ev.Outside == 0 || ev.Outside == f.attempt) {
				f.apply(p, ev)
			}
			list = append(list, Applied{FlowID: ev.FlowID, State: p.State, Changed: len(f.events) > before})
		}
		for i := range list {
			list[i].FlowState = derive(f.rows)
		}
		return nil
	})
	if errs.Is(err, errs.NotFound) {
		err = errs.New(errs.NotFound, op, "pipeline not found")
	}
	return list, err
}

// Cancel ends an open flow with a reason and raises its attempt, so that the run
// can write no more. On an ended flow it changes nothing.
func (s *Store) Cancel(ctx context.Context, flowID, reason string) (State, error) {
	var state State
	err := s.change(ctx, flowID, func(f *flow) error {
		if !f.state.Ended() {
			f.attempt++
			f.end(Cancelled, KindCancel, reason)
		}
		state = derive(f.rows)
		return nil
	})
	return state, err
}

// Retry makes a new attempt of a failed or cancelled flow of the embedded runner:
// what succeeded is kept. It reports whether there was something to do.
func (s *Store) Retry(ctx context.Context, flowID string, enqueue Enqueue) (bool, error) {
	return s.retry(ctx, flowID, Embedded, enqueue, nil)
}

func (s *Store) retry(ctx context.Context, flowID string, runner Runner, enqueue Enqueue, details NewDetails) (bool, error) {
	const op = "registry.Retry"
	done := false
	err := s.changeTx(ctx, flowID, func(ctx context.Context, tx sqldb.Tx, f *flow) error {
		done = false
		switch {
		case f.runner != runner:
			return errs.New(errs.Conflict, op, "flows of the runner %s cannot be retried here; push the dataset again", f.runner)
		case f.state == Succeeded:
			return nil
		case !f.state.Ended():
			return errs.New(errs.Conflict, op, "%s is open: there is nothing to retry", flowID)
		}
		done = true
		// A flow opens: what removes garbage of the dataset waits for it, or it for that.
		tx.Queue(ctx, nil, `UPDATE dataset SET updated_at = updated_at WHERE internal_id = $1`, f.internal)
		f.restarts, f.started, f.descriptor = 0, 0, ""
		for _, p := range f.rows {
			var steps json.RawMessage
			if details != nil {
				var err error
				if steps, err = details(p.ID, f.attempt+1); err != nil {
					return err
				}
			}
			insertRow(ctx, tx, f.id, p, f.now, steps)
		}
		if runner == DPP {
			f.restart(Failed, Cancelled, Succeeded)
		} else {
			f.restart(Failed, Cancelled)
		}
		tx.Queue(ctx, nil, `
			UPDATE dataset_revision SET pipelines = NULL, logs = NULL, errors = NULL, stats = NULL, descriptor_key = NULL, finished_at = NULL
			WHERE revision_id = $1`, f.id)
		if enqueue != nil {
			return enqueue(ctx, tx)
		}
		return nil
	})
	return done, err
}

// change runs fn on a flow under its row lock, and writes what it changed.
func (s *Store) change(ctx context.Context, flowID string, fn func(*flow) error) error {
	return s.changeTx(ctx, flowID, func(_ context.Context, _ sqldb.Tx, f *flow) error { return fn(f) })
}

func (s *Store) changeTx(ctx context.Context, flowID string, fn func(context.Context, sqldb.Tx, *flow) error) error {
	var done news
	err := s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		done = news{}
		f, err := lock(ctx, tx, flowID, s.now().UnixMicro())
		if err != nil {
			return err
		}
		if err := fn(ctx, tx, f); err != nil {
			return err
		}
		done, err = s.save(ctx, tx, f)
		return err
	})
	s.spread(done)
	return err
}

// news is what a transaction has changed, for those who wait for it: a flow, and a dataset
// of which something may stand in the change log. Either may be empty.
type news struct{ flowID, datasetID string }

// save writes what was changed in a flow, and lets other processes know of it.
func (s *Store) save(ctx context.Context, tx sqldb.Tx, f *flow) (done news, err error) {
	changed, logged, err := f.save(ctx, tx)
	if err != nil {
		return news{}, err
	}
	if changed {
		done.flowID = f.id
		s.tell(ctx, tx, f.id)
	}
	if logged {
		done.datasetID = f.dataset
		s.tellChange(ctx, tx)
	}
	return done, nil
}

// spread makes news known in this process. It is to be called when the transaction has
// ended, also where that failed: it may have been done all the same.
func (s *Store) spread(done news) {
	if done.datasetID != "" {
		s.changed(done.datasetID)
	}
	if done.flowID != "" {
		s.wake(done.flowID)
	}
}
