//go:build unix

package sqldb

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/private"
)

// lockFile opens a file and holds it for this process alone until it is closed.
// The system lets go of it when the process ends in whatever way.
func lockFile(name string) (*os.File, error) {
	const op = "sqldb.Open"
	f, err := private.Open(name)
	if err != nil {
		return nil, errs.Wrap(err, errs.Invalid, op, "DATABASE_URL: the lock file beside the database cannot be made")
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		err = errs.New(errs.Conflict, op, "another process is using this database; only one may serve a SQLite file")
	default:
		err = fmt.Errorf("%s: lock: %w", op, err)
	}
	return nil, errors.Join(err, f.Close())
}
