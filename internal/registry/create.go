package registry

import (
	"context"
	"database/sql"
	"encoding/json"
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
	Owner   string // the owner's name, of which there is one for an ID; may be empty
	// OwnerTaken is what a name that is another owner's fails with; nil leaves it out.
	OwnerTaken error
	Dataset    string
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
	// ScheduledFor is when the dataset is to be made again; zero is never.
	ScheduledFor time.Time
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
// over the limit of datasets, with Conflict where the owner's name is another
// one's or an idempotency key was used for another body, and as Plan does.
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
	datasetID := n.OwnerID + "/" + n.Dataset
	var flowID string
	err := s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		// The owner's row is the lock under which the datasets are counted.
		if _, err := tx.Exec(ctx, `INSERT INTO owner (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET id = owner.id`, n.OwnerID); err != nil {
			return err
		}
		if n.IdempotencyKey != "" {
			var hash sql.NullString
			err := tx.QueryRow(ctx, `
				SELECT r.revision_id, r.idempotency_hash FROM dataset_revision r JOIN dataset d ON d.identifier = r.dataset_id
				WHERE r.idempotency_key = $1 AND d.owner = $2 AND r.created_at > $3 ORDER BY r.created_at DESC LIMIT 1`,
				n.IdempotencyKey, n.OwnerID, n.CreatedAt.Add(-idempotencyFor).UnixMicro()).Scan(&flowID, &hash)
			switch {
			case err == nil && hash.String != n.IdempotencyHash:
				return errs.New(errs.Conflict, op, "the idempotency key was used for another upload")
			case err == nil || !noRows(err):
				return err
			}
		}
		var deleted sql.NullInt64
		err := tx.QueryRow(ctx, `SELECT deleted_at FROM dataset WHERE identifier = $1`, datasetID).Scan(&deleted)
		isNew := noRows(err) || deleted.Valid
		if err != nil && !noRows(err) {
			return err
		}
		if isNew && n.MaxDatasets >= 0 {
			var count int
			if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM dataset WHERE owner = $1 AND deleted_at IS NULL`, n.OwnerID).Scan(&count); err != nil {
				return err
			}
			if count >= n.MaxDatasets {
				return errs.New(errs.Forbidden, op, "Max datasets for user exceeded plan limit (%d)", n.MaxDatasets)
			}
		}
		if n.Owner != "" {
			changed, err := tx.Exec(ctx, `
				UPDATE owner SET name = $2 WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM owner o WHERE o.name = $2 AND o.id <> $1)`, n.OwnerID, n.Owner)
			if err != nil {
				return err
			}
			if changed == 0 && n.OwnerTaken != nil {
				return n.OwnerTaken
			}
		}
		findability := n.Findability
		if findability == "" {
			findability = "private"
		}
		var number, created int64
		if err := tx.QueryRow(ctx, `
			INSERT INTO dataset (identifier, owner, spec, created_at, updated_at, scheduled_for, findability, last_revision)
			VALUES ($1, $2, $3, $4, $4, $5, $6, 1)
			ON CONFLICT (identifier) DO UPDATE SET spec = $3, updated_at = $4, scheduled_for = $5,
				created_at = CASE WHEN dataset.deleted_at IS NULL THEN dataset.created_at ELSE $4 END,
				findability = CASE
					WHEN dataset.deleted_at IS NOT NULL THEN $6
					WHEN 'private' IN ($6, dataset.findability) THEN 'private'
					WHEN 'unlisted' IN ($6, dataset.findability) THEN 'unlisted'
					ELSE 'published' END,
				deleted_at = NULL, last_revision = dataset.last_revision + 1
			RETURNING last_revision, created_at`,
			datasetID, n.OwnerID, string(n.Spec), at, sqldb.Micros(n.ScheduledFor), findability).Scan(&number, &created); err != nil {
			return err
		}
		flowID = fmt.Sprintf("%s/%d", datasetID, number)
		planned, err := n.Plan(number, fromMicros(created), isNew)
		if err != nil {
			return err
		}
		if len(planned) == 0 {
			return errs.New(errs.Invalid, op, "nothing to do: the plan has no pipelines")
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO dataset_revision (revision_id, dataset_id, revision, status, created_at, updated_at, queued_at, runner,
				planner_version, idempotency_key, idempotency_hash, findability, spec)
			VALUES ($1, $2, $3, $4, $5, $5, $5, $6, $7, $8, $9, $10, $11)`,
			flowID, datasetID, number, Queued.Stored(), at, string(n.Runner), text(n.PlannerVersion),
			text(n.IdempotencyKey), text(n.IdempotencyHash), findability, string(n.Spec)); err != nil {
			return err
		}
		f := &flow{id: flowID, attempt: 1, now: at}
		for i, p := range planned {
			r := &row{ID: strings.TrimPrefix(p.ID, "./"), Title: p.Title, Position: int64(i)}
			for _, d := range p.Dependencies {
				r.Dependencies = append(r.Dependencies, strings.TrimPrefix(d, "./"))
			}
			if FlowOf(r.ID) != flowID {
				return fmt.Errorf("%s: pipeline %q is not of flow %q", op, r.ID, flowID)
			}
			if err := insertRow(ctx, tx, flowID, r, at, p.Details); err != nil {
				return err
			}
			f.rows = append(f.rows, r)
			f.event(r, KindQueue)
		}
		if err := f.writeEvents(ctx, tx); err != nil {
			return err
		}
		if err := s.tell(ctx, tx, flowID); err != nil {
			return err
		}
		if n.Enqueue != nil {
			return n.Enqueue(ctx, tx)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.wake(flowID)
	return s.revision(ctx, `r.revision_id = $1`, flowID)
}

func insertRow(ctx context.Context, tx sqldb.Tx, flowID string, p *row, at int64, details json.RawMessage) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO pipelines (pipeline_id, flow_id, title, pipeline_details, status, errors, stats, logs, created_at, updated_at,
			position, dependencies, started_at, finished_at, progress, outputs, error_count)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13, $14, $15, $16)`,
		p.ID, flowID, p.Title, text(string(details)), p.State.Stored(), lines(p.Errors), text(string(p.Stats)), lines(p.Logs), at,
		p.Position, lines(p.Dependencies), micros(p.Started), micros(p.Finished), text(string(p.Progress)), text(string(p.Outputs)), p.ErrorCount)
	return err
}
