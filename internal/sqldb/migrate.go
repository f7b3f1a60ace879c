package sqldb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/errs"
)

// migration is one step of a schema.
type migration struct {
	version   int64
	name, sum string
	text      string
}

// After goes on with steps of a migration, by their numbers, each in its step's
// transaction: with what SQL alone cannot do.
type After map[int64]func(context.Context, Tx) error

// Migrate brings a set of tables up to date. files has a folder for each
// [Dialect], with files such as 0001_first.sql that run once, in the order of
// their numbers, each in a transaction of its own, and then what after has for its
// number; after may be nil. Several processes may start at once: one migrates and
// the others wait. It fails with Conflict where the database has steps that are not
// in files, because a newer version made it, and where a step that has run was
// changed since.
func (db *DB) Migrate(ctx context.Context, set string, files fs.FS, after After) error {
	return db.Alone(ctx, "migrate", func(ctx context.Context) error { return db.migrate(ctx, set, files, after) })
}

func (db *DB) migrate(ctx context.Context, set string, files fs.FS, after After) error {
	const op = "sqldb.Migrate"
	steps, err := migrations(files, string(db.Dialect()))
	if err != nil {
		return fmt.Errorf("%s: %s: %w", op, set, err)
	}
	if err := db.Tx(ctx, func(ctx context.Context, tx Tx) error {
		_, err := tx.Exec(ctx, `
			CREATE TABLE IF NOT EXISTS schema_migration (
				name TEXT NOT NULL, version BIGINT NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL, at BIGINT NOT NULL,
				PRIMARY KEY (name, version))`)
		return err
	}); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	done := map[int64]string{}
	if err := db.Read(ctx, func(ctx context.Context, tx Tx) error {
		rows, err := tx.Query(ctx, `SELECT version, sha256 FROM schema_migration WHERE name = $1`, set)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var version int64
			var sum string
			if err := rows.Scan(&version, &sum); err != nil {
				return err
			}
			done[version] = sum
		}
		return rows.Err()
	}); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	for version := range done {
		if !slices.ContainsFunc(steps, func(m migration) bool { return m.version == version }) {
			return errs.New(errs.Conflict, op, "the database was made by a newer version (%s %d); start that one", set, version)
		}
	}
	for _, m := range steps {
		if sum, ok := done[m.version]; ok {
			if sum != m.sum {
				return errs.New(errs.Conflict, op, "the database was made by another build: %s %s differs", set, m.name)
			}
			continue
		}
		if err := db.Tx(ctx, func(ctx context.Context, tx Tx) error {
			if _, err := tx.Exec(ctx, m.text); err != nil {
				return err
			}
			if goOn := after[m.version]; goOn != nil {
				if err := goOn(ctx, tx); err != nil {
					return err
				}
			}
			_, err := tx.Exec(ctx, `INSERT INTO schema_migration (name, version, file, sha256, at) VALUES ($1, $2, $3, $4, $5)`,
				set, m.version, m.name, m.sum, time.Now().UnixMicro())
			return err
		}); err != nil {
			return fmt.Errorf("%s: %s %s: %w", op, set, m.name, err)
		}
	}
	return nil
}

func migrations(files fs.FS, dir string) ([]migration, error) {
	names, err := fs.Glob(files, path.Join(dir, "*.sql"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no migrations for %s", dir)
	}
	var steps []migration
	for _, name := range names {
		base := path.Base(name)
		number, _, _ := strings.Cut(base, "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: does not start with a number", base)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		steps = append(steps, migration{version, base, hex.EncodeToString(sum[:]), string(text)})
	}
	slices.SortFunc(steps, func(a, b migration) int { return int(a.version - b.version) })
	for i := range steps[1:] {
		if steps[i].version == steps[i+1].version {
			return nil, fmt.Errorf("%s and %s have one number", steps[i].name, steps[i+1].name)
		}
	}
	return steps, nil
}
