package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/sqldb"
)

// maxScheduleFailures is how many scheduled runs may fail in a row. Then there are no more
// until the dataset is pushed again.
const maxScheduleFailures = 5

// Causes of a revision.
const (
	CausePush     = "push"
	CauseSchedule = "schedule"
)

// Schedule is when a dataset is made again, and how that went.
type Schedule struct {
	Spec     json.RawMessage // as the Flow-Spec has it; nil for none
	Next     time.Time       // zero where it is paused
	Paused   string          // why; empty where it is not
	Failures int64           // in a row
	// LastDue is the due time that was taken last, LastRevision the revision made for it
	// and LastState its state. LastRevision is 0 where none could be made.
	LastDue      time.Time
	LastRevision int64
	LastState    State
}

// Due is a dataset that is to be made again.
type Due struct {
	DatasetID, OwnerID string
	At                 time.Time // when it was due
	Spec               json.RawMessage
}

// DueSchedules returns datasets that are due at a time, the longest due first, at most
// limit. One with an open revision is due after that.
func (s *Store) DueSchedules(ctx context.Context, now time.Time, limit int) ([]Due, error) {
	var list []Due
	err := s.db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT d.identifier, d.owner, d.scheduled_for, d.schedule FROM dataset d
			WHERE d.scheduled_for <= $1 AND d.schedule IS NOT NULL AND d.schedule_paused IS NULL AND d.deleted_at IS NULL
				AND NOT EXISTS (SELECT 1 FROM dataset_revision r WHERE r.dataset_id = d.identifier AND r.status IN ('pending', 'running'))
			ORDER BY d.scheduled_for, d.identifier LIMIT $2`, now.UnixMicro(), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var d Due
			var at int64
			var spec string
			if err := rows.Scan(&d.DatasetID, &d.OwnerID, &at, &spec); err != nil {
				return err
			}
			d.At, d.Spec = fromMicros(at), raw(spec)
			list = append(list, d)
		}
		return rows.Err()
	})
	return list, err
}

// ErrNotDue says that a due time was taken already, or that it cannot be taken now.
var ErrNotDue = errors.New("registry: the dataset is not due")

// take takes a due time in the transaction that makes the revision for it, so that it is
// taken once however many processes see it. It fails with [ErrNotDue].
func take(ctx context.Context, tx sqldb.Tx, datasetID string, due, next time.Time) error {
	var open int
	if err := tx.QueryRow(ctx, `
		SELECT COUNT(*) FROM dataset_revision WHERE dataset_id = $1 AND status IN ('pending', 'running')`, datasetID).Scan(&open); err != nil {
		return err
	}
	if open > 0 {
		return ErrNotDue
	}
	n, err := tx.Exec(ctx, `
		UPDATE dataset SET scheduled_for = $3, schedule_last_due = $2, schedule_last_revision = last_revision + 1
		WHERE identifier = $1 AND scheduled_for = $2 AND schedule IS NOT NULL AND schedule_paused IS NULL AND deleted_at IS NULL`,
		datasetID, due.UnixMicro(), sqldb.Micros(next))
	if err == nil && n == 0 {
		err = ErrNotDue
	}
	return err
}

// ScheduleFailed takes a due time for which no revision could be made, and counts it as a
// failure. It reports whether the schedule is paused now.
func (s *Store) ScheduleFailed(ctx context.Context, d Due, next time.Time, reason string) (paused bool, err error) {
	err = s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		n, err := tx.Exec(ctx, `
			UPDATE dataset SET scheduled_for = $3, schedule_last_due = $2, schedule_last_revision = NULL
			WHERE identifier = $1 AND scheduled_for = $2 AND schedule_paused IS NULL AND deleted_at IS NULL`,
			d.DatasetID, d.At.UnixMicro(), sqldb.Micros(next))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotDue
		}
		countScheduled(ctx, tx, d.DatasetID, Failed, reason)
		var why sql.NullString
		var internal string
		if err := tx.QueryRow(ctx, `SELECT schedule_paused, internal_id FROM dataset WHERE identifier = $1`, d.DatasetID).Scan(&why, &internal); err != nil {
			return err
		}
		if paused = why.Valid; paused {
			notePause(ctx, tx, internal, s.now().UnixMicro())
			s.tellChange(ctx, tx)
		}
		return nil
	})
	if paused {
		s.changed(d.DatasetID)
	}
	return paused, err
}

// countScheduled counts the end of a scheduled run. After too many failures in a row the
// schedule is paused. A run that was cancelled says nothing of the data.
func countScheduled(ctx context.Context, tx sqldb.Tx, datasetID string, state State, reason string) {
	switch state {
	case Succeeded:
		tx.Queue(ctx, nil, `UPDATE dataset SET schedule_failures = 0 WHERE identifier = $1`, datasetID)
	case Failed:
		if reason != "" {
			reason = ": " + clip(reason)
		}
		tx.Queue(ctx, nil, `
			UPDATE dataset SET schedule_failures = schedule_failures + 1,
				schedule_paused = CASE WHEN schedule_failures + 1 >= $2 AND schedule IS NOT NULL THEN $3 ELSE schedule_paused END,
				scheduled_for = CASE WHEN schedule_failures + 1 >= $2 THEN NULL ELSE scheduled_for END
			WHERE identifier = $1`, datasetID, maxScheduleFailures,
			fmt.Sprintf("%d scheduled runs in a row have failed; push the dataset again to go on%s", maxScheduleFailures, reason))
	case Queued, Running, Cancelled:
	}
}

// Schedule returns the schedule of a dataset. One that is not there is NotFound.
func (s *Store) Schedule(ctx context.Context, datasetID string) (*Schedule, error) {
	if !storable(datasetID) {
		return nil, errNotFound
	}
	var found *Schedule
	err := s.db.Select(ctx, func(row sqldb.Row) error {
		found = &Schedule{}
		return found.scan(row)
	}, `SELECT `+scheduleColumns+` FROM dataset d `+scheduleJoin+` WHERE d.identifier = $1 AND d.deleted_at IS NULL`, datasetID)
	if err == nil && found == nil {
		err = errNotFound
	}
	return found, err
}

// What a [Schedule] is read from, of a dataset d.
const (
	scheduleColumns = `d.schedule, d.scheduled_for, d.schedule_paused, d.schedule_failures, d.schedule_last_due, d.schedule_last_revision, sr.status`
	scheduleJoin    = `LEFT JOIN dataset_revision sr ON sr.dataset_id = d.identifier AND sr.revision = d.schedule_last_revision`
)

// scan reads the schedule from the end of a row that begins with before.
func (c *Schedule) scan(row sqldb.Row, before ...any) error {
	var spec, paused, state sql.NullString
	var next, due, revision sql.NullInt64
	if err := row.Scan(append(before, &spec, &next, &paused, &c.Failures, &due, &revision, &state)...); err != nil {
		return err
	}
	c.Spec, c.Next, c.Paused, c.LastDue, c.LastRevision = raw(spec.String), sqldb.Time(next), paused.String, sqldb.Time(due), revision.Int64
	if !state.Valid {
		c.LastRevision = 0
		return nil
	}
	var err error
	c.LastState, err = ParseState(state.String)
	return err
}

// adoptSchedules finds the schedules of the datasets that were there before schedules were
// run, in the specs of their last revisions. What was due meanwhile is not caught up.
func adoptSchedules(ctx context.Context, tx sqldb.Tx) error {
	type dataset struct {
		id   string
		spec sql.NullString
	}
	now := time.Now()
	for after := ""; ; {
		list, err := pages(ctx, tx, `
			SELECT d.identifier, r.spec FROM dataset d JOIN dataset_revision r ON r.dataset_id = d.identifier AND r.revision = d.last_revision
			WHERE d.identifier > $1 AND d.deleted_at IS NULL ORDER BY d.identifier LIMIT $2`, after, func(rows sqldb.Rows, d *dataset) error {
			return rows.Scan(&d.id, &d.spec)
		})
		if err != nil || len(list) == 0 {
			return err
		}
		for _, d := range list {
			after = d.id
			spec, schedule := scheduleOf(d.spec.String)
			tx.Queue(ctx, nil, `UPDATE dataset SET schedule = $2, scheduled_for = $3 WHERE identifier = $1`,
				d.id, text(spec), sqldb.Micros(schedule.Next(now, time.Time{})))
		}
	}
}

// scheduleOf finds the schedule in the text of a spec; one that cannot be read is none.
func scheduleOf(spec string) (text string, schedule flowspec.Schedule) {
	var of struct {
		Schedule json.RawMessage `json:"schedule"`
	}
	if json.Unmarshal([]byte(spec), &of) != nil || !present(of.Schedule) {
		return "", flowspec.Schedule{}
	}
	var v any
	if json.Unmarshal(of.Schedule, &v) != nil {
		return "", flowspec.Schedule{}
	}
	schedule, err := flowspec.ParseSchedule(v)
	if err != nil || schedule == (flowspec.Schedule{}) {
		return "", flowspec.Schedule{}
	}
	return string(of.Schedule), schedule
}
