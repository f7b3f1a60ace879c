package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/sqldb"
)

// Deletion says how a dataset is deleted.
type Deletion struct {
	DatasetID string
	By        string        // who deletes it, for the audit
	Reason    string        // what its open flows end with
	Trash     time.Duration // how long it can be restored
}

// Delete deletes a dataset with all its revisions: nobody finds them any more, and what is
// open of them is cancelled. It lies in the trash until it is restored or erased. The
// numbers of its revisions are not used again, and a dataset of that name that is made
// later does not show them. It fails with NotFound.
func (s *Store) Delete(ctx context.Context, d Deletion) error {
	if !storable(d.DatasetID) {
		return errNotFound
	}
	var internal string
	err := s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		var owner string
		var through, last int64
		var scheduled sql.NullInt64
		err := tx.QueryRow(ctx, `
			UPDATE dataset SET updated_at = updated_at WHERE identifier = $1 AND deleted_at IS NULL
			RETURNING internal_id, owner, deleted_through, last_revision, scheduled_for`, d.DatasetID).
			Scan(&internal, &owner, &through, &last, &scheduled)
		if noRows(err) {
			return errNotFound
		}
		if err != nil {
			return err
		}
		now := s.now()
		tx.Queue(ctx, nil, `
			INSERT INTO trash (internal_id, dataset_id, owner, first_revision, last_revision, scheduled_for, deleted_at, deleted_by, erase_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			internal, d.DatasetID, owner, through+1, last, scheduled, now.UnixMicro(), d.By, now.Add(d.Trash).UnixMicro())
		tx.Queue(ctx, nil, `
			UPDATE dataset SET deleted_at = $2, deleted_through = last_revision, scheduled_for = NULL WHERE identifier = $1`,
			d.DatasetID, now.UnixMicro())
		err = s.note(ctx, tx, d.By, "delete", d.DatasetID, map[string]any{
			"internal_id": internal, "first_revision": through + 1, "last_revision": last, "erase_at": now.Add(d.Trash).UTC(),
		})
		logDeleted.queue(ctx, tx, internal, now.UnixMicro())
		s.tellChange(ctx, tx)
		return err
	})
	s.changed(d.DatasetID)
	if err != nil {
		return err
	}
	return s.CancelDeleted(ctx, internal, d.Reason)
}

// note adds a line to the audit.
func (s *Store) note(ctx context.Context, tx sqldb.Tx, actor, action, subject string, body map[string]any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("registry.note: %w", err)
	}
	tx.Queue(ctx, nil, `INSERT INTO audit (at, actor, action, subject, body) VALUES ($1, $2, $3, $4, $5)`,
		s.now().UnixMicro(), keepable(actor), action, subject, string(text))
	return nil
}

// CancelDeleted ends the open flows of datasets that were deleted: of the one with an
// internal ID, or of all where that is empty.
func (s *Store) CancelDeleted(ctx context.Context, internal, reason string) error {
	var open []string
	if err := s.db.Select(ctx, func(row sqldb.Row) error {
		open = append(open, "")
		return row.Scan(&open[len(open)-1])
	}, `
		SELECT r.revision_id FROM dataset_revision r JOIN trash t ON t.internal_id = r.internal_id
		WHERE ($1 = '' OR t.internal_id = $1) AND r.dataset_id = t.dataset_id AND r.status IN ('pending', 'running')`, internal); err != nil {
		return err
	}
	for _, id := range open {
		if _, err := s.Cancel(ctx, id, reason); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	return nil
}

// Restore takes the dataset that a name last stood for out of the trash, as it was, but
// that its open flows were cancelled. maxDatasets is how many the owner may have; negative
// is any number. It fails with NotFound where there is none in the trash, with Conflict
// where the name was pushed again or the dataset is being erased, and with Forbidden over
// the limit.
func (s *Store) Restore(ctx context.Context, datasetID, by string, maxDatasets int) error {
	const op = "registry.Restore"
	if !storable(datasetID) {
		return errNotFound
	}
	defer s.changed(datasetID)
	return s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		// The owner's row is the lock under which the datasets are counted.
		tx.Queue(ctx, nil, `UPDATE owner SET name = name WHERE id = (SELECT owner FROM dataset WHERE identifier = $1)`, datasetID)
		var internal, owner string
		var deleted sql.NullInt64
		err := tx.QueryRow(ctx, `
			UPDATE dataset SET updated_at = updated_at WHERE identifier = $1 RETURNING internal_id, owner, deleted_at`, datasetID).
			Scan(&internal, &owner, &deleted)
		if noRows(err) {
			return errNotFound
		}
		if err != nil {
			return err
		}
		var lies, count int64
		if err := tx.QueryRow(ctx, `
			SELECT (SELECT COUNT(*) FROM trash WHERE dataset_id = $1), (SELECT COUNT(*) FROM dataset WHERE owner = $2 AND deleted_at IS NULL)`,
			datasetID, owner).Scan(&lies, &count); err != nil {
			return err
		}
		switch {
		case lies == 0:
			return errNotFound
		case !deleted.Valid:
			return errs.New(errs.Conflict, op, "%s was pushed again since it was deleted: what lies in the trash cannot take its place", datasetID)
		case maxDatasets >= 0 && count >= int64(maxDatasets):
			return errs.New(errs.Forbidden, op, "Max datasets for user exceeded plan limit (%d)", maxDatasets)
		}
		var first int64
		var scheduled sql.NullInt64
		err = tx.QueryRow(ctx, `DELETE FROM trash WHERE internal_id = $1 AND erasing = 0 RETURNING first_revision, scheduled_for`, internal).
			Scan(&first, &scheduled)
		if noRows(err) {
			return errs.New(errs.Conflict, op, "%s is being erased", datasetID)
		}
		if err != nil {
			return err
		}
		tx.Queue(ctx, nil, `
			UPDATE dataset SET deleted_at = NULL, deleted_through = $2, scheduled_for = $3 WHERE identifier = $1`, datasetID, first-1, scheduled)
		err = s.note(ctx, tx, by, "restore", datasetID, map[string]any{"internal_id": internal, "first_revision": first})
		logRestored.queue(ctx, tx, internal, s.now().UnixMicro())
		s.tellChange(ctx, tx)
		return err
	})
}

// InTrash reports whether something lies in the trash under a name.
func (s *Store) InTrash(ctx context.Context, datasetID string) (lies bool, err error) {
	if !storable(datasetID) {
		return false, nil
	}
	var n int64
	err = s.db.Select(ctx, func(row sqldb.Row) error { return row.Scan(&n) }, `SELECT COUNT(*) FROM trash WHERE dataset_id = $1`, datasetID)
	return n > 0, err
}

// EraseNow lets everything that lies in the trash under a name be erased at once. It
// returns how many datasets that are.
func (s *Store) EraseNow(ctx context.Context, datasetID string) (n int64, err error) {
	if !storable(datasetID) {
		return 0, nil
	}
	err = s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) (err error) {
		n, err = tx.Exec(ctx, `UPDATE trash SET erase_at = CASE WHEN erase_at < $2 THEN erase_at ELSE $2 END WHERE dataset_id = $1`,
			datasetID, s.now().UnixMicro())
		return err
	})
	return n, err
}

// Erasure is a dataset that is to be erased.
type Erasure struct {
	InternalID, DatasetID string
	DeletedAt             time.Time
}

// Erasures returns the datasets whose time in the trash is over, those of one name where
// datasetID is not empty, at most limit. They cannot be restored from then on, and their
// open flows are cancelled.
func (s *Store) Erasures(ctx context.Context, datasetID string, limit int) (list []Erasure, err error) {
	err = s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		var due []Erasure
		list = nil
		rows, err := tx.Query(ctx, `
			SELECT internal_id, dataset_id, deleted_at FROM trash WHERE erase_at <= $1 AND ($2 = '' OR dataset_id = $2)
			ORDER BY erase_at, internal_id LIMIT $3`, s.now().UnixMicro(), datasetID, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e Erasure
			var at int64
			if err := rows.Scan(&e.InternalID, &e.DatasetID, &at); err != nil {
				return err
			}
			e.DeletedAt = fromMicros(at)
			due = append(due, e)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		rows.Close()
		for _, e := range due {
			// What it names is counted once, for the audit. One that was restored meanwhile
			// has no row.
			n, err := tx.Exec(ctx, `
				UPDATE trash SET erasing = 1,
					files = CASE WHEN erasing = 1 THEN files ELSE
						(SELECT COUNT(*) FROM (SELECT DISTINCT f.sha256 FROM revision_file f WHERE f.dataset = $1) x) END,
					bytes = CASE WHEN erasing = 1 THEN bytes ELSE
						(SELECT COALESCE(SUM(y.bytes), 0) FROM (SELECT DISTINCT f.sha256, f.bytes FROM revision_file f WHERE f.dataset = $1) y) END
				WHERE internal_id = $1`, e.InternalID)
			if err != nil {
				return err
			}
			if n > 0 {
				list = append(list, e)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if err := s.CancelDeleted(ctx, e.InternalID, "Its dataset was erased"); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// OwnUploads returns the keys of uploaded files that a dataset in the trash names and no
// other one does, and that nobody wanted since it was deleted: those after one, in order and at most
// limit.
func (s *Store) OwnUploads(ctx context.Context, e Erasure, after string, limit int) (keys []string, err error) {
	err = s.db.Select(ctx, func(row sqldb.Row) error {
		keys = append(keys, "")
		return row.Scan(&keys[len(keys)-1])
	}, `
		SELECT DISTINCT r.key FROM revision_raw r JOIN file f ON f.key = r.key
		WHERE r.dataset = $1 AND r.key > $4 AND f.touched_at <= $2 AND NOT EXISTS (SELECT 1 FROM revision_raw o WHERE o.key = r.key AND o.dataset <> $1)
		ORDER BY r.key LIMIT $3`, e.InternalID, e.DeletedAt.UnixMicro(), limit, after)
	return keys, err
}

// eraseRevisions is how many revisions are erased in one transaction.
const eraseRevisions = 50

// EraseRecords erases what is recorded of a dataset in the trash: revisions with their
// specs, logs and errors, pipelines, events, and what they name. The audit keeps that it
// happened. Its objects must be gone before. It is done when it returns nil.
func (s *Store) EraseRecords(ctx context.Context, e Erasure) error {
	for {
		left, err := s.eraseSome(ctx, e)
		if err != nil || !left {
			return err
		}
	}
}

func (s *Store) eraseSome(ctx context.Context, e Erasure) (left bool, err error) {
	defer s.changed(e.DatasetID)
	err = s.db.Tx(sqldb.Slow(ctx), func(ctx context.Context, tx sqldb.Tx) error {
		left = false
		var by, owner string
		var first, last, files, bytes, uploads, at int64
		// Of several processes one at a time is here.
		err := tx.QueryRow(ctx, `
			UPDATE trash SET erasing = 1 WHERE internal_id = $1 AND erasing = 1
			RETURNING deleted_by, owner, first_revision, last_revision, files, bytes, uploads, deleted_at`, e.InternalID).
			Scan(&by, &owner, &first, &last, &files, &bytes, &uploads, &at)
		if noRows(err) {
			return nil // another process was done
		}
		if err != nil {
			return err
		}
		const some = ` IN (SELECT r.revision_id FROM dataset_revision r WHERE r.dataset_id = $1 AND r.internal_id = $2 ORDER BY r.revision LIMIT $3)`
		for _, table := range []string{"flow_event WHERE flow_id", "pipelines WHERE flow_id", "dataset_revision WHERE revision_id"} {
			n, err := tx.Exec(ctx, `DELETE FROM `+table+some, e.DatasetID, e.InternalID, eraseRevisions)
			if err != nil {
				return err
			}
			left = n > 0 && table == "dataset_revision WHERE revision_id"
		}
		if left {
			return nil
		}
		tx.Queue(ctx, nil, `DELETE FROM revision_file WHERE dataset = $1`, e.InternalID)
		tx.Queue(ctx, nil, `DELETE FROM revision_raw WHERE dataset = $1`, e.InternalID)
		// The name stays with its last number, which is not used again.
		tx.Queue(ctx, nil, `
			UPDATE dataset SET internal_id = '', spec = NULL, findability = 'private', released_revision = NULL, released_at = NULL,
				logged_findability = 'private', logged_pause = 0,
				schedule = NULL, schedule_failures = 0, schedule_paused = NULL, schedule_last_due = NULL, schedule_last_revision = NULL
			WHERE identifier = $2 AND internal_id = $1`, e.InternalID, e.DatasetID)
		tx.Queue(ctx, nil, `DELETE FROM trash WHERE internal_id = $1`, e.InternalID)
		err = s.note(ctx, tx, by, "erase", e.DatasetID, map[string]any{
			"internal_id": e.InternalID, "first_revision": first, "last_revision": last, "deleted_at": fromMicros(at),
			"files": files, "bytes": bytes, "uploads": uploads,
		})
		noteErased(ctx, tx, e.InternalID, e.DatasetID, owner, s.now().UnixMicro())
		s.tellChange(ctx, tx)
		return err
	})
	return left, err
}

// Wanted records that uploaded files are wanted from now on, by their keys: for a day none
// of them is garbage, whether it is there already or not. Whoever then finds one there can
// rely on it.
func (s *Store) Wanted(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	return s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		touch(ctx, tx, keys, s.now())
		return nil
	})
}
