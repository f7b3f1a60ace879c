package registry

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"time"

	"github.com/datahq/specstore/internal/sqldb"
)

// newInternalID makes the internal ID of a dataset: 128 random bits in hexadecimal.
func newInternalID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// defaultTrash is how long what was deleted before there was a trash can be restored.
const defaultTrash = 7 * 24 * time.Hour

// identify assigns internal IDs to the datasets that were there before there were any, and
// puts what was deleted into the trash.
func identify(ctx context.Context, tx sqldb.Tx) error {
	type dataset struct {
		id, owner                   string
		created                     int64
		deleted                     sql.NullInt64
		deletedThrough, last, first int64
	}
	for after := ""; ; {
		list, err := pages(ctx, tx, `
			SELECT d.identifier, d.owner, d.created_at, d.deleted_at, d.deleted_through, d.last_revision,
				COALESCE((SELECT MIN(r.revision) FROM dataset_revision r WHERE r.dataset_id = d.identifier AND r.created_at >= d.created_at), 1)
			FROM dataset d WHERE d.identifier > $1 ORDER BY d.identifier LIMIT $2`, after, func(rows sqldb.Rows, d *dataset) error {
			return rows.Scan(&d.id, &d.owner, &d.created, &d.deleted, &d.deletedThrough, &d.last, &d.first)
		})
		if err != nil || len(list) == 0 {
			return err
		}
		for _, d := range list {
			after = d.id
			id, now := newInternalID(), time.Now()
			// first is the first revision of the dataset as it was last made.
			first := d.deletedThrough + 1
			if d.deleted.Valid {
				first = d.first
				trashed(ctx, tx, id, d.id, d.owner, first, d.last, d.deleted.Int64, now)
			}
			if first > 1 {
				earlier := newInternalID()
				trashed(ctx, tx, earlier, d.id, d.owner, 1, first-1, now.UnixMicro(), now)
				tx.Queue(ctx, nil, `UPDATE dataset_revision SET internal_id = $2 WHERE dataset_id = $1 AND revision < $3`, d.id, earlier, first)
			}
			tx.Queue(ctx, nil, `UPDATE dataset_revision SET internal_id = $2 WHERE dataset_id = $1 AND revision >= $3`, d.id, id, first)
			tx.Queue(ctx, nil, `
				UPDATE dataset SET internal_id = $2, released_revision = (
					SELECT MAX(r.revision) FROM dataset_revision r WHERE r.dataset_id = $1 AND r.revision >= $3 AND r.status = 'success')
				WHERE identifier = $1`, d.id, id, first)
			tx.Queue(ctx, nil, `
				UPDATE dataset SET released_at = (
					SELECT r.finished_at FROM dataset_revision r WHERE r.dataset_id = $1 AND r.revision = dataset.released_revision)
				WHERE identifier = $1`, d.id)
		}
	}
}

func trashed(ctx context.Context, tx sqldb.Tx, id, datasetID, owner string, first, last, deletedAt int64, now time.Time) {
	tx.Queue(ctx, nil, `
		INSERT INTO trash (internal_id, dataset_id, owner, first_revision, last_revision, deleted_at, deleted_by, erase_at)
		VALUES ($1, $2, $3, $4, $5, $6, $3, $7)`, id, datasetID, owner, first, last, deletedAt, now.Add(defaultTrash).UnixMicro())
}
