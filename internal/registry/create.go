package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/sqldb"
)

// Enqueue adds a ticket for a worker in a transaction.
type Enqueue func(context.Context, sqldb.Tx) error

// PlannedPipeline is a pipeline of a revision that is made.
type PlannedPipeline struct {
	ID, Title    string
	Dependencies []string        // IDs; a leading "./" is dropped
	Details      json.RawMessage // its steps, kept for the runner dpp while the flow is open; may be nil
}

// New is a revision to be made.
type New struct {
	OwnerID string
	// Owner is the owner's name, of which there is one for an ID; empty leaves it as it
	// is. It must be the owner's for certain: whoever has it in the database loses it.
	Owner   string
	Dataset string
	// Findability is "published", "unlisted" or "private"; empty is private. It is the
	// whole dataset's: what it hides is hidden from now on, and what it shows is shown
	// when the revision has succeeded, or at once where the dataset is new.
	Findability    string
	Spec           json.RawMessage
	Runner         Runner
	PlannerVersion string
	CreatedAt      time.Time // zero is now
	// MaxDatasets is how many datasets the owner may have; negative is any number.
	// It is asked for a new dataset only.
	MaxDatasets int
	// Schedule is the schedule of the spec, nil for none, and ScheduledFor when the dataset
	// is to be made again by it. A schedule that the dataset has already keeps its next
	// time. A push ends the pause of a schedule.
	Schedule     json.RawMessage
	ScheduledFor time.Time
	// Due, where it is not zero, is the due time for which the revision is made. Then the
	// call fails with [ErrNotDue] where it was taken already, or where another revision is
	// open.
	Due time.Time
	// Uploads are the keys of the uploaded files that the spec names. None of them is
	// removed from before Plan is called until the end of the transaction, and as long
	// as the revision is there.
	Uploads []string
	// IdempotencyKey makes repeats within a day one: they give the revision that the
	// first one made. IdempotencyHash is that of the body; another body is refused.
	IdempotencyKey, IdempotencyHash string
	// Plan gives the pipelines, parents first. It runs in the transaction and must
	// not use the database. created is when the dataset was made.
	Plan func(revision int64, created time.Time, isNew bool) ([]PlannedPipeline, error)
	// Enqueue is called once in the transaction; may be nil.
	Enqueue Enqueue
}

const idempotencyFor = 24 * time.Hour

// CreateRevision makes the next revision of a dataset, and the dataset where there
// is none, with its pipelines and its job, all or nothing. It fails with Forbidden
// over the limit of datasets, with Conflict where an idempotency key was used for
// another body, and as Plan does.
func (s *Store) CreateRevision(ctx context.Context, n New) (*Revision, error) {
	const op = "registry.CreateRevision"
	if n.CreatedAt.IsZero() {
		n.CreatedAt = s.now()
	}
	at := n.CreatedAt.UnixMicro()
	// Names of what is accepted are so already; what is refused is refused by Plan.
	n.OwnerID, n.Owner, n.Dataset = keepable(n.OwnerID), keepable(n.Owner), keepable(n.Dataset)
	if !storable(n.IdempotencyKey) {
		return nil, errs.New(errs.Invalid, op, "the idempotency key is not UTF-8")
	}
	r := &Revision{
		DatasetID: n.OwnerID + "/" + n.Dataset, OwnerID: n.OwnerID, Spec: n.Spec, Runner: n.Runner, PlannerVersion: n.PlannerVersion,
		Attempt: 1, Errors: []string{}, Created: fromMicros(at), Modified: fromMicros(at),
	}
	findability := n.Findability
	if findability == "" {
		findability = "private"
	}
	var repeated string
	takesName, logged := false, false
	attempt := func(ctx context.Context, tx sqldb.Tx) error {
		if takesName {
			takeNames(ctx, tx)
		}
		// The owner's row is the lock under which the datasets are counted.
		tx.Queue(ctx, func(row sqldb.Row) error { return row.Scan(&r.Owner) }, `
			INSERT INTO owner (id, name)
			VALUES ($1, CASE WHEN $2 <> '' AND NOT EXISTS (SELECT 1 FROM owner o WHERE o.name = $2 AND o.id <> $1) THEN $2 END)
			ON CONFLICT (id) DO UPDATE SET name = COALESCE(excluded.name, owner.name)
			RETURNING COALESCE(name, '')`, n.OwnerID, n.Owner)
		repeated = ""
		var hash sql.NullString
		if n.IdempotencyKey != "" {
			tx.Queue(ctx, func(row sqldb.Row) error {
				if err := row.Scan(&repeated, &hash); !noRows(err) {
					return err
				}
				return nil
			}, `
				SELECT r.revision_id, r.idempotency_hash FROM dataset_revision r JOIN dataset d ON d.identifier = r.dataset_id
				WHERE r.idempotency_key = $1 AND d.owner = $2 AND r.created_at > $3 AND `+shown+` ORDER BY r.created_at DESC LIMIT 1`,
				n.IdempotencyKey, n.OwnerID, n.CreatedAt.Add(-idempotencyFor).UnixMicro())
		}
		// How many datasets the owner has is asked for a new one only.
		var count int64
		tx.Queue(ctx, func(row sqldb.Row) error { return row.Scan(&count) }, `
			SELECT CASE WHEN d.identifier IS NULL OR d.deleted_at IS NOT NULL
				THEN (SELECT COUNT(*) FROM (SELECT 1 FROM dataset x WHERE x.owner = $2 AND x.deleted_at IS NULL LIMIT $3) y) ELSE -1 END
			FROM (SELECT 1) one LEFT JOIN dataset d ON d.identifier = $1`, r.DatasetID, n.OwnerID, max(n.MaxDatasets, 0))
		cause := CausePush
		if !n.Due.IsZero() {
			cause = CauseSchedule
			if err := take(ctx, tx, r.DatasetID, n.Due, n.ScheduledFor); err != nil {
				return err
			}
		}
		touch(ctx, tx, n.Uploads, n.CreatedAt)
		var created int64
		var internal, said string
		fresh := newInternalID()
		err := tx.QueryRow(ctx, `
			INSERT INTO dataset (identifier, owner, created_at, updated_at, scheduled_for, findability, last_revision, internal_id, schedule, logged_findability)
			VALUES ($1, $2, $3, $3, $4, $5, 1, $6, $7, $5)
			ON CONFLICT (identifier) DO UPDATE SET updated_at = $3,
				scheduled_for = CASE
					WHEN $8 = 'schedule' THEN dataset.scheduled_for
					WHEN dataset.schedule = $7 AND dataset.deleted_at IS NULL AND dataset.scheduled_for > $3 THEN dataset.scheduled_for
					ELSE $4 END,
				schedule = CASE WHEN $8 = 'schedule' THEN dataset.schedule ELSE $7 END,
				schedule_failures = CASE WHEN $8 = 'schedule' THEN dataset.schedule_failures ELSE 0 END,
				schedule_paused = CASE WHEN $8 = 'schedule' THEN dataset.schedule_paused END,
				logged_pause = CASE WHEN $8 = 'schedule' THEN dataset.logged_pause ELSE 0 END,
				logged_findability = CASE WHEN dataset.deleted_at IS NULL THEN dataset.logged_findability ELSE $5 END,
				created_at = CASE WHEN dataset.deleted_at IS NULL THEN dataset.created_at ELSE $3 END,
				findability = CASE
					WHEN dataset.deleted_at IS NOT NULL THEN $5
					WHEN 'private' IN ($5, dataset.findability) THEN 'private'
					WHEN 'unlisted' IN ($5, dataset.findability) THEN 'unlisted'
					ELSE 'published' END,
				internal_id = CASE WHEN dataset.deleted_at IS NULL THEN dataset.internal_id ELSE $6 END,
				released_revision = CASE WHEN dataset.deleted_at IS NULL THEN dataset.released_revision END,
				released_at = CASE WHEN dataset.deleted_at IS NULL THEN dataset.released_at END,
				deleted_at = NULL, last_revision = dataset.last_revision + 1
			RETURNING last_revision, created_at, findability, internal_id, logged_findability`,
			r.DatasetID, n.OwnerID, at, sqldb.Micros(n.ScheduledFor), findability, fresh, text(string(n.Schedule)), cause).
			Scan(&r.Number, &created, &r.Findability, &internal, &said)
		isNew := count >= 0
		switch {
		case err != nil:
			return err
		case repeated != "" && hash.String != n.IdempotencyHash:
			return errs.New(errs.Conflict, op, "the idempotency key was used for another upload")
		case repeated != "":
			return errRepeated
		case isNew && n.MaxDatasets >= 0 && count >= int64(n.MaxDatasets):
			return errs.New(errs.Forbidden, op, "Max datasets for user exceeded plan limit (%d)", n.MaxDatasets)
		case n.Owner != "" && r.Owner != n.Owner && !takesName:
			return errTakesName
		case n.Owner != "" && r.Owner != n.Owner:
			tx.Queue(ctx, nil, `UPDATE owner SET name = NULL WHERE name = $1 AND id <> $2`, n.Owner, n.OwnerID)
			tx.Queue(ctx, nil, `UPDATE owner SET name = $1 WHERE id = $2`, n.Owner, n.OwnerID)
			r.Owner = n.Owner
		}
		r.ID, r.DatasetCreated = fmt.Sprintf("%s/%d", r.DatasetID, r.Number), fromMicros(created)
		planned, err := n.Plan(r.Number, r.DatasetCreated, isNew)
		if err != nil {
			return err
		}
		if len(planned) == 0 {
			return errs.New(errs.Invalid, op, "nothing to do: the plan has no pipelines")
		}
		f := &flow{id: r.ID, attempt: 1, now: at}
		r.Pipelines = make([]Pipeline, 0, len(planned))
		values := make([]any, 0, 5*len(planned))
		for i, p := range planned {
			added := &row{ID: strings.TrimPrefix(p.ID, "./"), Title: p.Title, Position: int64(i)}
			for _, d := range p.Dependencies {
				added.Dependencies = append(added.Dependencies, strings.TrimPrefix(d, "./"))
			}
			if FlowOf(added.ID) != r.ID {
				return fmt.Errorf("%s: pipeline %q is not of flow %q", op, added.ID, r.ID)
			}
			values = append(values, added.ID, added.Title, text(string(p.Details)), added.Position, lines(added.Dependencies))
			f.rows = append(f.rows, added)
			f.event(added, KindQueue)
			r.Pipelines = append(r.Pipelines, added.public())
		}
		nameUploads(ctx, tx, internal, r.Number, n.Uploads)
		insertQueued.queue(ctx, tx, []any{r.ID, Queued.Stored(), at, at}, values)
		if err := f.writeEvents(ctx, tx); err != nil {
			return err
		}
		tx.Queue(ctx, nil, `
			INSERT INTO dataset_revision (revision_id, dataset_id, revision, status, created_at, updated_at, queued_at, runner,
				planner_version, idempotency_key, idempotency_hash, findability, spec, event_seq, internal_id, caused_by)
			VALUES ($1, $2, $3, $4, $5, $5, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
			r.ID, r.DatasetID, r.Number, Queued.Stored(), at, string(n.Runner), text(n.PlannerVersion),
			text(n.IdempotencyKey), text(n.IdempotencyHash), findability, string(n.Spec), f.seq, internal, cause)
		s.tell(ctx, tx, r.ID)
		if n.Enqueue != nil {
			if err := n.Enqueue(ctx, tx); err != nil {
				return err
			}
		}
		if logged = internal == fresh || r.Findability != said; logged {
			if internal == fresh {
				logCreated.queue(ctx, tx, internal, at)
			}
			noteFindability(ctx, tx, internal, at)
			s.tellChange(ctx, tx)
		}
		return nil
	}
	err := s.db.Tx(ctx, attempt)
	if errors.Is(err, errTakesName) {
		takesName = true
		err = s.db.Tx(ctx, attempt)
	}
	if logged {
		s.changed(r.DatasetID)
	}
	if errors.Is(err, errRepeated) {
		return s.Flow(ctx, repeated, WithPipelines)
	}
	if err != nil {
		return nil, err
	}
	s.wake(r.ID)
	return r, nil
}

// errTakesName takes a transaction back that has to take a name from another owner.
var errTakesName = errors.New("registry: another owner has the name")

// takeNames begins a transaction that takes a name from another owner. It changes two rows
// of owners, so such transactions follow each other; all others lock one.
func takeNames(ctx context.Context, tx sqldb.Tx) {
	tx.Queue(ctx, nil, `INSERT INTO setting (name, value) VALUES ('owner-names', '') ON CONFLICT (name) DO UPDATE SET value = setting.value`)
}

// errRepeated takes a transaction back that repeats an earlier one.
var errRepeated = errors.New("registry: an upload that was made before")

// insertQueued adds the pipelines of a new revision, see [several].
var insertQueued = several(`
	INSERT INTO pipelines (flow_id, status, created_at, updated_at, pipeline_id, title, pipeline_details, position, dependencies) VALUES `, 4, 5)

func insertRow(ctx context.Context, tx sqldb.Tx, flowID string, p *row, at int64, details json.RawMessage) {
	tx.Queue(ctx, nil, `
		INSERT INTO pipelines (pipeline_id, flow_id, title, pipeline_details, status, errors, stats, logs, created_at, updated_at,
			position, dependencies, started_at, finished_at, progress, outputs, error_count)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13, $14, $15, $16)`,
		p.ID, flowID, p.Title, text(string(details)), p.State.Stored(), lines(p.Errors), text(string(p.Stats)), lines(p.Logs), at,
		p.Position, lines(p.Dependencies), micros(p.Started), micros(p.Finished), text(string(p.Progress)), text(string(p.Outputs)), p.ErrorCount)
	if p.Reused != "" { // the column is not there yet when what the original wrote is taken over
		tx.Queue(ctx, nil, `UPDATE pipelines SET reused = $2 WHERE pipeline_id = $1`, p.ID, p.Reused)
	}
}
