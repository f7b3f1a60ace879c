package registry

import (
	"context"
	"database/sql"
	"time"

	"github.com/datahq/specstore/internal/sqldb"
)

// File is a part of what a revision published. A table has one part.
type File struct {
	Artifact string // name of the pipeline; empty for the descriptor of the whole package
	Resource string
	Format   string
	Path     string // folder and name in the public address; empty for a descriptor
	Part     int64
	SHA256   string // hexadecimal
	Bytes    int64
	FirstRow int64 // number of the first row of the part
	Rows     int64 // of a table; negative where it has none
}

// insertFiles adds the files of a revision, see [several].
var insertFiles = several(`
	INSERT INTO revision_file (dataset, revision, artifact, resource, format, path, part, sha256, bytes, first_row, rows) VALUES `, 2, 9).
	with(` ON CONFLICT (dataset, revision, artifact, path, part, sha256) DO NOTHING`)

// nameFiles records that a revision names files.
func nameFiles(ctx context.Context, tx sqldb.Tx, dataset string, revision int64, files []File) {
	values := make([]any, 0, 9*len(files))
	for _, f := range files {
		var first, rows any
		if f.Rows >= 0 {
			first, rows = f.FirstRow, f.Rows
		}
		values = append(values, f.Artifact, f.Resource, f.Format, f.Path, f.Part, f.SHA256, f.Bytes, first, rows)
	}
	insertFiles.queue(ctx, tx, []any{dataset, revision}, values)
}

// NamedFile is a file that a revision of a dataset names, and what decides who may read
// it.
type NamedFile struct {
	Dataset     string // internal ID
	SHA256      string
	OwnerID     string
	Findability string
}

const namedFileColumns = `SELECT d.internal_id, f.sha256, d.owner, d.findability
	FROM dataset d JOIN revision_file f ON f.dataset = d.internal_id
	WHERE d.identifier = $1 AND d.deleted_at IS NULL AND `

// File finds a file of a dataset that is not deleted: one that any of its revisions names
// with that hash and path. It fails with NotFound.
func (s *Store) File(ctx context.Context, datasetID, artifact, path, sha256 string) (*NamedFile, error) {
	name := fileName{artifact, path, sha256}
	kept, ok, changes, ask := s.files.get(datasetID, name, time.Now())
	if ask {
		s.wake(changeNews)
	}
	if ok {
		return &kept, nil
	}
	f, err := s.namedFile(ctx, namedFileColumns+`f.sha256 = $2 AND f.artifact = $3 AND f.path = $4 LIMIT 1`, datasetID, sha256, artifact, path)
	if err == nil {
		s.files.put(datasetID, name, *f, changes)
	}
	return f, err
}

// Descriptor finds the descriptor of a pipeline of a revision: by the revision's number
// in plain decimal, or of the one that is released by "latest" or "successful". It fails
// with NotFound.
func (s *Store) Descriptor(ctx context.Context, datasetID, which, artifact string) (*NamedFile, error) {
	if which == "latest" || which == "successful" {
		return s.namedFile(ctx, namedFileColumns+`f.revision = d.released_revision AND f.artifact = $2 AND f.path = '' LIMIT 1`, datasetID, artifact)
	}
	number, err := plainNumber(which)
	if err != nil {
		return nil, err
	}
	return s.namedFile(ctx, namedFileColumns+`f.revision = $2 AND f.artifact = $3 AND f.path = '' LIMIT 1`, datasetID, number, artifact)
}

func (s *Store) namedFile(ctx context.Context, query string, args ...any) (*NamedFile, error) {
	for _, a := range args {
		if text, ok := a.(string); ok && !storable(text) {
			return nil, errNotFound
		}
	}
	var f *NamedFile
	err := s.db.Select(ctx, func(row sqldb.Row) error {
		f = &NamedFile{}
		return row.Scan(&f.Dataset, &f.SHA256, &f.OwnerID, &f.Findability)
	}, query, args...)
	if err == nil && f == nil {
		err = errNotFound
	}
	return f, err
}

// Published returns the files that a pipeline of a revision published, without its
// descriptor.
func (s *Store) Published(ctx context.Context, flowID, artifact string) (dataset string, files []File, err error) {
	err = s.db.Select(ctx, func(row sqldb.Row) error {
		f := File{Artifact: artifact}
		var first, rows sql.NullInt64
		if err := row.Scan(&dataset, &f.Resource, &f.Format, &f.Path, &f.Part, &f.SHA256, &f.Bytes, &first, &rows); err != nil {
			return err
		}
		f.FirstRow, f.Rows = first.Int64, -1
		if rows.Valid {
			f.Rows = rows.Int64
		}
		files = append(files, f)
		return nil
	}, `
		SELECT f.dataset, f.resource, f.format, f.path, f.part, f.sha256, f.bytes, f.first_row, f.rows
		FROM dataset_revision r JOIN revision_file f ON f.dataset = r.internal_id AND f.revision = r.revision
		WHERE r.revision_id = $1 AND f.artifact = $2 AND f.path <> '' ORDER BY f.path, f.part`, flowID, artifact)
	return dataset, files, err
}

// insertUploads adds the uploaded files that a revision names, see [several].
var insertUploads = several(`INSERT INTO revision_raw (dataset, revision, key) VALUES `, 2, 1).
	with(` ON CONFLICT (dataset, revision, key) DO NOTHING`)

// nameUploads records that the spec of a revision names uploaded files, by their keys.
func nameUploads(ctx context.Context, tx sqldb.Tx, dataset string, revision int64, keys []string) {
	values := make([]any, len(keys))
	for i, key := range keys {
		values[i] = key
	}
	insertUploads.queue(ctx, tx, []any{dataset, revision}, values)
}
