package registry

import (
	"context"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/sqldb"
)

// ChangeKind is what happened to a dataset.
type ChangeKind string

// The kinds of changes.
const (
	ChangeCreated        ChangeKind = "created"         // a dataset was pushed for the first time, or again after it was deleted
	ChangeReleased       ChangeKind = "released"        // another revision is the released one
	ChangeFindability    ChangeKind = "findability"     // the dataset is shown to more or to fewer
	ChangeDeleted        ChangeKind = "deleted"         // it lies in the trash
	ChangeRestored       ChangeKind = "restored"        // it was taken out of the trash
	ChangeErased         ChangeKind = "erased"          // nothing of it is left
	ChangeSchedulePaused ChangeKind = "schedule-paused" // too many of its scheduled runs have failed
)

// Change is an entry of the change log: what happened to a dataset, and how it stood after
// the transaction that the change was made in.
type Change struct {
	Seq        int64 // counts from 1 over all datasets, without gaps
	At         time.Time
	Kind       ChangeKind
	InternalID string // of the dataset; of one that is pushed after it was deleted it is another
	DatasetID  string
	OwnerID    string
	Revision   int64 // that is released; 0 for none
	// Findability is the dataset's; of one that was erased "private".
	Findability string
}

// entry is the statements that add a change of a dataset to the log where a condition on
// its row d holds. The counter's row is locked from the first of them until the
// transaction ends.
type entry struct {
	kind        ChangeKind
	count, note string
}

// entryWhere makes an entry. The condition may have one parameter, $2, a number.
func entryWhere(kind ChangeKind, condition string) entry {
	at, name := "$2", "$3"
	if strings.Contains(condition, "$2") {
		at, name = "$3", "$4"
	}
	return entry{
		kind:  kind,
		count: `UPDATE change_counter SET n = n + 1 WHERE EXISTS (SELECT 1 FROM dataset d WHERE d.internal_id = $1 AND ` + condition + `)`,
		note: `INSERT INTO change_log (seq, at, kind, dataset, dataset_id, owner, revision, findability)
			SELECT c.n, CAST(` + at + ` AS BIGINT), CAST(` + name + ` AS TEXT), d.internal_id, d.identifier, d.owner, COALESCE(d.released_revision, 0), d.findability
			FROM change_counter c, dataset d WHERE d.internal_id = $1 AND ` + condition,
	}
}

// queue adds the change. It needs no answer, so it travels with the commit; it is queued
// behind everything else that the transaction locks, and the dataset's row is locked.
func (e entry) queue(ctx context.Context, tx sqldb.Tx, internal string, at int64, args ...any) {
	args = append([]any{internal}, args...)
	tx.Queue(ctx, nil, e.count, args...)
	tx.Queue(ctx, nil, e.note, append(args, at, string(e.kind))...)
}

// The entries. What the log last said of findability and pause stands in the dataset's row.
var (
	logCreated     = entryWhere(ChangeCreated, `1 = 1`)
	logDeleted     = entryWhere(ChangeDeleted, `1 = 1`)
	logRestored    = entryWhere(ChangeRestored, `1 = 1`)
	logReleased    = entryWhere(ChangeReleased, `d.released_revision = $2`)
	logFindability = entryWhere(ChangeFindability, `d.findability <> d.logged_findability`)
	logPaused      = entryWhere(ChangeSchedulePaused, `d.schedule_paused IS NOT NULL AND d.logged_pause = 0`)
)

// noteFindability adds to the log that a dataset is shown to others than it was, if it is.
func noteFindability(ctx context.Context, tx sqldb.Tx, internal string, at int64) {
	logFindability.queue(ctx, tx, internal, at)
	tx.Queue(ctx, nil, `UPDATE dataset SET logged_findability = findability WHERE internal_id = $1 AND findability <> logged_findability`, internal)
}

// notePause adds to the log that the schedule of a dataset is paused, if it was not before.
func notePause(ctx context.Context, tx sqldb.Tx, internal string, at int64) {
	logPaused.queue(ctx, tx, internal, at)
	tx.Queue(ctx, nil, `UPDATE dataset SET logged_pause = 1 WHERE internal_id = $1 AND schedule_paused IS NOT NULL AND logged_pause = 0`, internal)
}

// noteErased adds to the log that a dataset was erased, whose name may stand for another
// one.
func noteErased(ctx context.Context, tx sqldb.Tx, internal, datasetID, owner string, at int64) {
	tx.Queue(ctx, nil, `UPDATE change_counter SET n = n + 1`)
	tx.Queue(ctx, nil, `
		INSERT INTO change_log (seq, at, kind, dataset, dataset_id, owner, revision, findability)
		SELECT n, CAST($4 AS BIGINT), CAST($5 AS TEXT), CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), 0, 'private' FROM change_counter`,
		internal, datasetID, owner, at, string(ChangeErased))
}

// changeNews is what processes tell each other on [channel] when the log has grown. It is
// the ID of no flow.
const changeNews = "change"

// tellChange lets other processes know of a change when its transaction has committed.
func (s *Store) tellChange(ctx context.Context, tx sqldb.Tx) { s.tell(ctx, tx, changeNews) }

// changed makes the change of a dataset known in this process, see [Store.spread].
func (s *Store) changed(datasetID string) {
	s.files.forget(datasetID)
	s.wake(changeNews)
}

// Changes returns the entries of the change log after a number, in order, at most limit. An
// entry that comes later has a higher number than all that were ever returned.
func (s *Store) Changes(ctx context.Context, after int64, limit int) (list []Change, err error) {
	err = s.db.Select(ctx, func(row sqldb.Row) error {
		var c Change
		var at int64
		if err := row.Scan(&c.Seq, &at, &c.Kind, &c.InternalID, &c.DatasetID, &c.OwnerID, &c.Revision, &c.Findability); err != nil {
			return err
		}
		c.At = fromMicros(at)
		list = append(list, c)
		return nil
	}, `SELECT seq, at, kind, dataset, dataset_id, owner, revision, findability FROM change_log WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
	if err != nil {
		return nil, err
	}
	return list, nil
}

// LastChange returns the number of the last entry of the change log.
func (s *Store) LastChange(ctx context.Context) (seq int64, err error) {
	err = s.db.Select(ctx, func(row sqldb.Row) error { return row.Scan(&seq) }, `SELECT n FROM change_counter`)
	return seq, err
}

// Follower is a reader of the change log.
type Follower struct {
	After int64 // the number of the last entry that it has read
	// Each is called for the entries in order, once for each. What it fails with ends the
	// reading. nil is not allowed.
	Each func(context.Context, Change) error
	// CaughtUp is called when all entries were read that had been committed at a time,
	// which has its monotonic reading; may be nil.
	CaughtUp func(time.Time)
}

const (
	followMost  = 1000             // entries that are read together
	followAgain = time.Second      // after a failure of the registry
	followEvery = 30 * time.Second // without news
)

// Follow reads the change log until ctx ends, or Each fails. Entries of this process, and
// of others while [Store.Listen] runs, are read at once. A registry that is away is asked
// again.
func (s *Store) Follow(ctx context.Context, f Follower) error {
	news, cancel := s.Watch(changeNews)
	defer cancel()
	for {
		begun := time.Now()
		list, err := s.Changes(ctx, f.After, followMost)
		for _, c := range list {
			if err := f.Each(ctx, c); err != nil {
				return err
			}
			f.After = c.Seq
		}
		wait := followEvery
		switch {
		case err != nil && ctx.Err() == nil && !errs.Is(err, errs.Unavailable):
			return err
		case err != nil:
			wait = followAgain
		case len(list) == followMost:
			continue
		case f.CaughtUp != nil:
			f.CaughtUp(begun)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-news:
			timer.Stop()
		case <-timer.C:
		}
	}
}
