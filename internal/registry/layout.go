package registry

import (
	"context"
	"encoding/json"

	"github.com/datahq/specstore/internal/sqldb"
)

// Unnamed is a revision whose files are not recorded yet, since it was made when objects
// of packages lay under their public addresses.
type Unnamed struct {
	FlowID, DatasetID string
	InternalID        string // of the dataset
	Number            int64
	// Current reports whether the revision is of the dataset that the name stands for,
	// deleted or not; an earlier dataset of that name cannot be restored.
	Current bool
	Spec    json.RawMessage
}

// Alone runs fn while no other process that uses the database runs one of that name.
func (s *Store) Alone(ctx context.Context, name string, fn func(context.Context) error) error {
	return s.db.Alone(ctx, name, fn)
}

// EachUnnamed calls fn for every revision, in the order of their IDs.
func (s *Store) EachUnnamed(ctx context.Context, fn func(Unnamed) error) error {
	for after := ""; ; {
		var list []Unnamed
		if err := s.db.Select(ctx, func(row sqldb.Row) error {
			var u Unnamed
			var spec []byte
			var current int
			if err := row.Scan(&u.FlowID, &u.DatasetID, &u.InternalID, &u.Number, &current, &spec); err != nil {
				return err
			}
			u.Current, u.Spec = current == 1, stored(spec)
			list = append(list, u)
			return nil
		}, `
			SELECT r.revision_id, r.dataset_id, r.internal_id, r.revision, CASE WHEN r.internal_id = d.internal_id THEN 1 ELSE 0 END, r.spec
			FROM dataset_revision r JOIN dataset d ON d.identifier = r.dataset_id
			WHERE r.revision_id > $1 ORDER BY r.revision_id LIMIT 20`, after); err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		for _, u := range list {
			if err := fn(u); err != nil {
				return err
			}
			after = u.FlowID
		}
	}
}

// NameFiles records the files of a revision, the uploaded files that its spec names, and
// the key of its package's descriptor, which may be empty.
func (s *Store) NameFiles(ctx context.Context, u Unnamed, files []File, uploads []string, descriptorKey string) error {
	return s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		nameFiles(ctx, tx, u.InternalID, u.Number, files)
		nameUploads(ctx, tx, u.InternalID, u.Number, uploads)
		_, err := tx.Exec(ctx, `UPDATE dataset_revision SET descriptor_key = $2 WHERE revision_id = $1`, u.FlowID, text(descriptorKey))
		return err
	})
}

// DatasetIDs returns the IDs of datasets after one, deleted ones too, in their order and
// at most limit.
func (s *Store) DatasetIDs(ctx context.Context, after string, limit int) ([]string, error) {
	var list []string
	err := s.db.Select(ctx, func(row sqldb.Row) error {
		list = append(list, "")
		return row.Scan(&list[len(list)-1])
	}, `SELECT identifier FROM dataset WHERE identifier > $1 ORDER BY identifier LIMIT $2`, after, limit)
	return list, err
}
