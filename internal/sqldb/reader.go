package sqldb

import (
	"context"
	"os"
	"path/filepath"

	"github.com/datahq/specstore/internal/errs"
)

// OpenReader opens a database that is there for reading alone, also while another
// process serves it. It fails with NotFound where there is none.
func OpenReader(ctx context.Context, c Config) (*DB, error) {
	const op = "sqldb.OpenReader"
	path, err := sqlitePath(c.URL)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, errs.Wrap(err, errs.NotFound, op, "there is no database yet: start the server first")
	}
	db := &DB{path: path}
	if db.read, err = openPool(ctx, path, 1, "deferred", "query_only(1)"); err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, op, "the database cannot be opened")
	}
	return db, nil
}
