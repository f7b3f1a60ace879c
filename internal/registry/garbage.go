package registry

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/sqldb"
)

// insertTouched adds the rows of uploaded files, or records that they are wanted.
var insertTouched = several(`INSERT INTO file (touched_at, key, sha256, bytes) VALUES `, 1, 3).
	with(` ON CONFLICT (key) DO UPDATE SET touched_at = CASE WHEN file.touched_at < excluded.touched_at THEN excluded.touched_at ELSE file.touched_at END`)

// touch records that uploaded files are wanted. It holds the lock of their rows until the
// end of the transaction. A key ends with the file's length.
func touch(ctx context.Context, tx sqldb.Tx, keys []string, at time.Time) {
	keys = slices.Compact(slices.Sorted(slices.Values(keys))) // one order, so that nobody waits in a circle
	values := make([]any, 0, 3*len(keys))
	for _, key := range keys {
		length, _ := strconv.ParseInt(key[strings.LastIndexByte(key, '-')+1:], 10, 64)
		values = append(values, key, "", length)
	}
	insertTouched.queue(ctx, tx, []any{at.UnixMicro()}, values)
}

// Known adds uploaded files that are there and not known, as last wanted at a time.
func (s *Store) Known(ctx context.Context, at time.Time, keys ...string) error {
	return s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		touch(ctx, tx, keys, at)
		return nil
	})
}

// UnwantedUploads returns the keys of uploaded files that no revision names, of deleted
// datasets neither, and that were last wanted before a time, at most limit.
func (s *Store) UnwantedUploads(ctx context.Context, before time.Time, limit int) (keys []string, err error) {
	err = s.db.Select(ctx, func(row sqldb.Row) error {
		keys = append(keys, "")
		return row.Scan(&keys[len(keys)-1])
	}, `
		SELECT f.key FROM file f WHERE f.touched_at < $1 AND NOT EXISTS (SELECT 1 FROM revision_raw r WHERE r.key = f.key)
		ORDER BY f.touched_at LIMIT $2`, before.UnixMicro(), limit)
	return keys, err
}

// RemoveUpload removes an uploaded file that was last wanted before a time and that no
// dataset names but one, which may be empty: remove is called for it under the lock of its
// row. It reports whether it was removed.
func (s *Store) RemoveUpload(ctx context.Context, key, dataset string, before time.Time, remove func(context.Context) error) (removed bool, err error) {
	err = s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		removed = false
		n, err := tx.Exec(ctx, `UPDATE file SET touched_at = touched_at WHERE key = $1 AND touched_at < $2`, key, before.UnixMicro())
		if err != nil || n == 0 {
			return err
		}
		// The lock is there before it is looked who names the file.
		var named int64
		if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM revision_raw WHERE key = $1 AND dataset <> $2`, key, dataset).Scan(&named); err != nil || named > 0 {
			return err
		}
		if err := remove(ctx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM file WHERE key = $1`, key); err != nil {
			return err
		}
		removed = true
		if dataset == "" {
			return nil
		}
		_, err = tx.Exec(ctx, `UPDATE trash SET uploads = uploads + 1 WHERE internal_id = $1`, dataset)
		return err
	})
	return removed && err == nil, err
}

// UploadHidden reports whether an uploaded file may not be shown any more: revisions name
// it, and all of them are of datasets that were deleted.
func (s *Store) UploadHidden(ctx context.Context, key string) (hidden bool, err error) {
	if !storable(key) {
		return false, nil
	}
	err = s.db.Select(ctx, func(row sqldb.Row) error {
		var named, shown int64
		if err := row.Scan(&named, &shown); err != nil {
			return err
		}
		hidden = named > 0 && shown == 0
		return nil
	}, `
		SELECT COUNT(*), COUNT(d.identifier) FROM (SELECT DISTINCT r.dataset FROM revision_raw r WHERE r.key = $1) x
			LEFT JOIN dataset d ON d.internal_id = x.dataset AND d.deleted_at IS NULL`, key)
	return hidden, err
}

// RemoveObjects removes the objects of a dataset that nothing names, of several by their
// SHA-256: remove is called for each while no flow of the dataset can start. It does
// nothing while one is open, which may have written them. Of an internal ID that no
// dataset has, all are removed; so none may be made under an ID before its dataset is
// recorded. It returns how many were removed.
func (s *Store) RemoveObjects(ctx context.Context, dataset string, sums []string, remove func(ctx context.Context, sum string) error) (n int, err error) {
	err = s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		n = 0
		// Whatever opens a flow takes this lock too.
		if _, err := tx.Exec(ctx, `UPDATE dataset SET updated_at = updated_at WHERE internal_id = $1`, dataset); err != nil {
			return err
		}
		var open int64
		if err := tx.QueryRow(ctx, `
			SELECT COUNT(*) FROM dataset_revision r WHERE r.status IN ('pending', 'running') AND r.internal_id = $1`, dataset).Scan(&open); err != nil || open > 0 {
			return err
		}
		for _, sum := range sums {
			var named int64
			if err := tx.QueryRow(ctx, `
				SELECT COUNT(*) FROM (SELECT 1 FROM revision_file f WHERE f.dataset = $1 AND f.sha256 = $2 LIMIT 1) x`, dataset, sum).Scan(&named); err != nil {
				return err
			}
			if named > 0 {
				continue
			}
			if err := remove(ctx, sum); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// Unreferenced returns those of several SHA-256 that no revision of a dataset names, and
// whether the dataset is known, deleted or not.
func (s *Store) Unreferenced(ctx context.Context, dataset string, sums []string) (left []string, known bool, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		left = nil
		var n int64
		if err := tx.QueryRow(ctx, `
			SELECT (SELECT COUNT(*) FROM dataset WHERE internal_id = $1) + (SELECT COUNT(*) FROM trash WHERE internal_id = $1)`, dataset).Scan(&n); err != nil {
			return err
		}
		known = n > 0
		for _, sum := range sums {
			var named int64
			if err := tx.QueryRow(ctx, `
				SELECT COUNT(*) FROM (SELECT 1 FROM revision_file f WHERE f.dataset = $1 AND f.sha256 = $2 LIMIT 1) x`, dataset, sum).Scan(&named); err != nil {
				return err
			}
			if named == 0 {
				left = append(left, sum)
			}
		}
		return nil
	})
	return left, known, err
}
