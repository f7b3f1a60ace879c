package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/datahq/specstore/internal/sqldb"
)

// Claim is the right to run a flow, until its attempt has passed.
type Claim struct {
	FlowID, DatasetID string
	InternalID        string // of the dataset
	OwnerID, Owner    string
	Number            int64
	Attempt           int64 // goes with every event of the run
	Restarts          int64 // how often the attempt was interrupted
	Spec              json.RawMessage
	PlannerVersion    string
	Findability       string
	Created           time.Time // when the revision was accepted
	DatasetCreated    time.Time
}

// Claim takes the fairest open flow of the embedded runner that nobody holds:
// interrupted ones first, then those of the owner with the fewest running, then
// the oldest. It gives nil where there is none.
func (s *Store) Claim(ctx context.Context, holder string) (*Claim, error) {
	for {
		c, left, err := s.claim(ctx, holder)
		if c != nil || err != nil || !left {
			return c, err
		}
	}
}

// claim tries once. left says that another process took what this one had chosen and
// that there is more.
func (s *Store) claim(ctx context.Context, holder string) (c *Claim, left bool, err error) {
	err = s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		got := Claim{}
		left = false
		var spec, owner, planner sql.NullString
		var created, datasetCreated int64
		err := tx.QueryRow(ctx, `
			UPDATE dataset_revision SET holder = $1, beat = beat + 1, engine_version = $3
			WHERE holder IS NULL AND status IN ('pending', 'running') AND revision_id = (
				SELECT r.revision_id FROM dataset_revision r JOIN dataset d ON d.identifier = r.dataset_id
				WHERE r.holder IS NULL AND r.status IN ('pending', 'running') AND r.runner = $2
				ORDER BY CASE WHEN r.restarts > 0 THEN 0 ELSE 1 END,
					(SELECT COUNT(*) FROM dataset_revision x JOIN dataset y ON y.identifier = x.dataset_id
						WHERE x.status IN ('pending', 'running') AND x.holder IS NOT NULL AND y.owner = d.owner),
					r.queued_at, r.revision_id
				LIMIT 1)
			RETURNING revision_id, dataset_id, internal_id, revision, attempt, restarts, spec, planner_version, created_at`, holder, string(Embedded), text(s.engine)).
			Scan(&got.FlowID, &got.DatasetID, &got.InternalID, &got.Number, &got.Attempt, &got.Restarts, &spec, &planner, &created)
		if noRows(err) {
			var n int
			err = tx.QueryRow(ctx, `
				SELECT COUNT(*) FROM dataset_revision WHERE holder IS NULL AND status IN ('pending', 'running') AND runner = $1`,
				string(Embedded)).Scan(&n)
			left = n > 0
			return err
		}
		if err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `
			SELECT d.owner, o.name, d.findability, d.created_at FROM dataset d LEFT JOIN owner o ON o.id = d.owner WHERE d.identifier = $1`,
			got.DatasetID).Scan(&got.OwnerID, &owner, &got.Findability, &datasetCreated); err != nil {
			return err
		}
		got.Owner, got.Spec, got.PlannerVersion = owner.String, raw(spec.String), planner.String
		got.Created, got.DatasetCreated = fromMicros(created), fromMicros(datasetCreated)
		c = &got
		return nil
	})
	return c, left, err
}

// Beat tells that a run is alive and how far its pipelines have come. It reports
// whether the run still holds the flow; one that does not must stop.
func (s *Store) Beat(ctx context.Context, flowID string, attempt int64, progress map[string]json.RawMessage) (ok bool, err error) {
	err = s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		n, err := tx.Exec(ctx, `
			UPDATE dataset_revision SET beat = beat + 1
			WHERE revision_id = $1 AND attempt = $2 AND holder IS NOT NULL AND status IN ('pending', 'running')`, flowID, attempt)
		if ok = n > 0; err != nil || !ok {
			return err
		}
		for id, p := range progress {
			if !json.Valid(p) {
				return fmt.Errorf("registry.Beat: the progress of %q is not JSON", id)
			}
			tx.Queue(ctx, nil, `UPDATE pipelines SET progress = $3 WHERE pipeline_id = $1 AND flow_id = $2 AND status = 'running'`,
				id, flowID, string(p))
		}
		if len(progress) > 0 {
			s.tell(ctx, tx, flowID)
		}
		return nil
	})
	if err == nil && ok && len(progress) > 0 {
		s.wake(flowID)
	}
	return ok && err == nil, err
}

// Release gives a flow back that a run of this attempt holds and that is not at its
// end: the process stops on purpose, so it does not count as an interruption. What
// had succeeded is kept. A run that has lost the flow changes nothing.
func (s *Store) Release(ctx context.Context, flowID string, attempt int64, enqueue Enqueue) error {
	return s.changeTx(ctx, flowID, func(ctx context.Context, tx sqldb.Tx, f *flow) error {
		if f.attempt != attempt || f.state.Ended() {
			return nil
		}
		return giveBack(ctx, tx, f, enqueue)
	})
}

// giveBack lets others claim a held flow, with a ticket.
func giveBack(ctx context.Context, tx sqldb.Tx, f *flow, enqueue Enqueue) error {
	f.restart(Running)
	// A flow that was claimed and had not begun has no event to be saved with.
	if _, err := tx.Exec(ctx, `UPDATE dataset_revision SET holder = NULL, attempt = $2 WHERE revision_id = $1`, f.id, f.attempt); err != nil {
		return err
	}
	if enqueue != nil {
		return enqueue(ctx, tx)
	}
	return nil
}

// Interrupt releases a flow that a run of this attempt holds and could not bring to
// its end: another attempt may be claimed, in which what had succeeded is kept, and
// after 5 of them the flow fails, with the reason of the last. A run that has lost the
// flow changes nothing.
func (s *Store) Interrupt(ctx context.Context, flowID string, attempt int64, reason string, enqueue Enqueue) error {
	return s.changeTx(ctx, flowID, func(ctx context.Context, tx sqldb.Tx, f *flow) error {
		if f.attempt != attempt || f.state.Ended() {
			return nil
		}
		return takeBack(ctx, tx, f, reason, enqueue)
	})
}

// takeBack ends the run of a held flow and lets others claim it, with a ticket.
func takeBack(ctx context.Context, tx sqldb.Tx, f *flow, reason string, enqueue Enqueue) error {
	f.interrupt(reason)
	// A flow that was claimed and had not begun has no event to be saved with.
	if _, err := tx.Exec(ctx, `UPDATE dataset_revision SET holder = NULL, attempt = $2, restarts = $3 WHERE revision_id = $1`,
		f.id, f.attempt, f.restarts); err != nil {
		return err
	}
	if enqueue != nil && !derive(f.rows).Ended() {
		return enqueue(ctx, tx)
	}
	return nil
}

// Recover is for the start of the only process that serves the database, before
// any worker: every flow that a worker held was interrupted. It gets a new attempt
// that may be claimed at once, in which what had succeeded is kept; after 5
// restarts it fails. enqueue is called for each flow that waits to be claimed,
// also those that nobody had begun; it may be nil. The answer is how many wait.
// Where several processes share the database each has a [Reaper] instead.
func (s *Store) Recover(ctx context.Context, enqueue Enqueue) (int, error) {
	held, err := s.openFlows(ctx, "IS NOT NULL")
	if err != nil {
		return 0, err
	}
	for _, id := range held {
		if err := s.changeTx(ctx, id, func(ctx context.Context, tx sqldb.Tx, f *flow) error {
			return takeBack(ctx, tx, f, "", nil)
		}); err != nil {
			return 0, err
		}
	}
	waiting, err := s.openFlows(ctx, "IS NULL")
	if err != nil || enqueue == nil {
		return len(waiting), err
	}
	return len(waiting), s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		for range waiting {
			if err := enqueue(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) openFlows(ctx context.Context, holder string) ([]string, error) {
	var list []string
	err := s.db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT revision_id FROM dataset_revision WHERE status IN ('pending', 'running') AND runner = $1 AND holder `+holder+`
			ORDER BY queued_at, revision_id`, string(Embedded))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			list = append(list, id)
		}
		return rows.Err()
	})
	return list, err
}
