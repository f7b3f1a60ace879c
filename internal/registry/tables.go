package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/sqldb"
)

// lock takes the row lock of a flow and reads it.
func lock(ctx context.Context, tx sqldb.Tx, flowID string, now int64) (*flow, error) {
	f := &flow{id: flowID, now: now}
	unknown := errs.New(errs.NotFound, "registry.lock", "no revision %q", flowID)
	if !storable(flowID) {
		return nil, unknown
	}
	var state, runner string
	var folded []byte
	found := true
	tx.Queue(ctx, func(row sqldb.Row) error {
		err := row.Scan(&f.dataset, &f.internal, &f.number, &state, &runner, &f.attempt, &f.restarts, &f.holder, &f.beat, &f.seq, &f.started, &folded, &f.descriptor, &f.cause)
		if noRows(err) {
			found, err = false, nil
		}
		return err
	}, `
		UPDATE dataset_revision SET attempt = attempt WHERE revision_id = $1
		RETURNING dataset_id, internal_id, revision, status, runner, attempt, restarts, COALESCE(holder, ''), beat, event_seq, COALESCE(started_at, 0),
			pipelines, COALESCE(descriptor_key, ''), COALESCE(caused_by, '')`, flowID)
	// The lock is there before the pipelines are looked at.
	rows, err := readRows(ctx, tx, flowID, false)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, unknown
	}
	f.runner, f.rows = Runner(runner), rows
	if f.state, err = ParseState(state); err == nil && f.state.Ended() {
		f.rows, err = unfold(folded)
	}
	return f, err
}

// readRows reads the pipelines of an open flow, with what they published and logged where
// they are asked for whole.
func readRows(ctx context.Context, tx sqldb.Tx, flowID string, whole bool) ([]*row, error) {
	query := rowsQuery
	if whole {
		query = wholeRowQuery
	}
	rows, err := tx.Query(ctx, query, flowID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []*row
	for rows.Next() {
		var s storedRow
		if err := rows.Scan(s.dest()...); err != nil {
			return nil, err
		}
		p, err := s.row()
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, rows.Err()
}

// rowColumns are what a [storedRow] is read from; of a row that is not there, empty. An
// event needs neither logs nor outputs of the pipelines that have ended.
const (
	rowState = `COALESCE(p.pipeline_id, ''), COALESCE(p.title, ''), COALESCE(p.status, ''), COALESCE(p.errors, ''), COALESCE(p.error_count, 0), p.stats,
		COALESCE(p.position, 0), COALESCE(p.dependencies, ''), COALESCE(p.started_at, 0), COALESCE(p.finished_at, 0), p.progress, `
	rowColumns    = rowState + `p.outputs, COALESCE(p.reused, ''), COALESCE(p.logs, '')`
	rowsOf        = ` FROM pipelines p WHERE p.flow_id = $1 ORDER BY p.position, p.pipeline_id`
	rowsQuery     = `SELECT ` + rowState + `'', '', ''` + rowsOf
	wholeRowQuery = `SELECT ` + rowColumns + rowsOf
)

// storedRow is a row of "pipelines" as it is read.
type storedRow struct {
	p                                   row
	state, failures, dependencies, logs string
	stats, progress, outputs            []byte
}

func (s *storedRow) dest() []any {
	return []any{
		&s.p.ID, &s.p.Title, &s.state, &s.failures, &s.p.ErrorCount, &s.stats, &s.p.Position, &s.dependencies,
		&s.p.Started, &s.p.Finished, &s.progress, &s.outputs, &s.p.Reused, &s.logs,
	}
}

func (s *storedRow) row() (_ *row, err error) {
	if s.p.State, err = ParseState(s.state); err != nil {
		return nil, err
	}
	s.p.Errors, s.p.Logs = parseLines(s.failures), parseLines(s.logs)
	s.p.Dependencies = parseLines(s.dependencies)
	for i, d := range s.p.Dependencies {
		s.p.Dependencies[i] = strings.TrimPrefix(d, "./")
	}
	s.p.Stats, s.p.Progress, s.p.Outputs = stored(s.stats), stored(s.progress), stored(s.outputs)
	return &s.p, nil
}

const (
	updateRow = `
		UPDATE pipelines SET status = $2, errors = $3, error_count = $4, stats = $5, started_at = $6, finished_at = $7,
			progress = $8, outputs = COALESCE($9, outputs), updated_at = $10, reused = COALESCE($11, reused)`
	thatRow = ` WHERE pipeline_id = $1`
)

// save writes what was changed in a flow, and folds it when it has ended. logged reports
// whether something may stand in the change log because of that.
func (f *flow) save(ctx context.Context, tx sqldb.Tx) (changed, logged bool, err error) {
	for _, p := range f.rows {
		if !p.changed {
			continue
		}
		changed = true
		values := []any{
			p.ID, p.State.Stored(), lines(p.Errors), p.ErrorCount, text(string(p.Stats)), micros(p.Started), micros(p.Finished),
			text(string(p.Progress)), text(string(p.Outputs)), f.now, text(p.Reused),
		}
		nameFiles(ctx, tx, f.internal, f.number, p.files)
		if p.logged {
			tx.Queue(ctx, nil, updateRow+`, logs = $12`+thatRow, append(values, lines(p.Logs))...)
		} else {
			tx.Queue(ctx, nil, updateRow+thatRow, values...)
		}
	}
	if len(f.events) == 0 {
		return changed, false, nil
	}
	if err := f.writeEvents(ctx, tx); err != nil {
		return false, false, err
	}
	state := derive(f.rows)
	tx.Queue(ctx, nil, `
		UPDATE dataset_revision SET status = $2, attempt = $3, restarts = $4, started_at = $5, descriptor_key = $6, event_seq = $8,
			updated_at = CASE WHEN status <> $2 THEN $7 ELSE updated_at END
		WHERE revision_id = $1`,
		f.id, state.Stored(), f.attempt, f.restarts, micros(f.started), text(f.descriptor), f.now, f.seq)
	if !state.Ended() {
		return true, false, nil
	}
	// The logs are read at the end only: no event needs them.
	all, err := readRows(ctx, tx, f.id, true)
	if err != nil {
		return false, false, err
	}
	failures, logs, stats := summary(f.id, all)
	folded, err := fold(all)
	if err != nil {
		return false, false, err
	}
	tx.Queue(ctx, nil, `
		UPDATE dataset_revision SET pipelines = $2, errors = $3, logs = $4, stats = $5, finished_at = $6, holder = NULL, content_digest = $7
		WHERE revision_id = $1`,
		f.id, folded, lines(failures), lines(logs), text(string(stats)), f.now, text(f.digest))
	tx.Queue(ctx, nil, `DELETE FROM pipelines WHERE flow_id = $1`, f.id)
	if state == Succeeded {
		f.release(ctx, tx)
	}
	if f.cause == CauseSchedule {
		countScheduled(ctx, tx, f.dataset, state, strings.Join(failures[:min(len(failures), 1)], ""))
	}
	return true, f.log(ctx, tx, state), nil
}

// log adds to the change log what the end of a flow has changed of its dataset.
func (f *flow) log(ctx context.Context, tx sqldb.Tx, state State) bool {
	switch {
	case state == Succeeded:
		// A revision succeeds once, so it was released just now if it is.
		logReleased.queue(ctx, tx, f.internal, f.now, f.number)
		noteFindability(ctx, tx, f.internal, f.now)
	case state == Failed && f.cause == CauseSchedule:
		notePause(ctx, tx, f.internal, f.now)
	default:
		return false
	}
	return true
}

// release makes a revision that succeeded the released one, unless a later one is, and
// shows the dataset to as many as that revision and all that were accepted after it want.
// What a revision takes away is taken when it is accepted; what it gives is given here,
// so that a push that fails shows nobody anything. A dataset that was deleted meanwhile
// is not changed, nor is one that was made again under its name.
func (f *flow) release(ctx context.Context, tx sqldb.Tx) {
	// The dataset's row is locked: no revision is accepted in between.
	tx.Queue(ctx, nil, `
		UPDATE dataset SET
			released_at = CASE WHEN COALESCE(released_revision, 0) < $2 THEN $3 ELSE released_at END,
			released_revision = CASE WHEN COALESCE(released_revision, 0) < $2 THEN $2 ELSE released_revision END
		WHERE internal_id = $1`, f.internal, f.number, f.now)
	tx.Queue(ctx, nil, `
		UPDATE dataset SET findability = (
			SELECT CASE
				WHEN COUNT(CASE r.findability WHEN 'published' THEN NULL ELSE 1 END) = 0 THEN 'published'
				WHEN COUNT(CASE r.findability WHEN 'published' THEN NULL WHEN 'unlisted' THEN NULL ELSE 1 END) = 0
					AND dataset.findability = 'private' THEN 'unlisted'
				ELSE dataset.findability END
			FROM dataset_revision r WHERE r.dataset_id = dataset.identifier AND r.revision >= $2)
		WHERE internal_id = $1 AND findability <> 'published'`, f.internal, f.number)
}

// Events are added several at a time, see [several].
var insertEvents = several(`INSERT INTO flow_event (at, flow_id, seq, pipeline, kind, body) VALUES `, 2, 4)

// writeEvents numbers the events of a flow under its row lock and adds them.
func (f *flow) writeEvents(ctx context.Context, tx sqldb.Tx) error {
	state := derive(f.rows)
	values := make([]any, 0, 4*len(f.events))
	for _, e := range f.events {
		e.body.Flow, e.body.Attempt = state, f.attempt
		body, err := json.Marshal(e.body)
		if err != nil {
			return err
		}
		f.seq++
		values = append(values, f.seq, e.Pipeline, string(e.Kind), string(body))
	}
	insertEvents.queue(ctx, tx, []any{f.now, f.id}, values)
	return nil
}

// insertion is an INSERT of rows of several lengths: 1, 2, 4, 8 and 16, so that any
// number is added by few statements, of which there are few to prepare.
type insertion struct {
	texts []string
	own   int // values of each row
}

// with appends a clause to the statements.
func (n insertion) with(clause string) insertion {
	for i := range n.texts {
		n.texts[i] += clause
	}
	return n
}

// several makes an insertion into columns of which the first have one value for all
// rows and the others, own, one for each.
func several(head string, shared, own int) insertion {
	var first strings.Builder
	for i := range shared {
		fmt.Fprintf(&first, "$%d, ", i+1)
	}
	n := insertion{own: own}
	for rows := 1; rows <= 16; rows *= 2 {
		var b strings.Builder
		b.WriteString(head)
		for r := range rows {
			if r > 0 {
				b.WriteString(", ")
			}
			b.WriteString("(" + first.String())
			for i := range own {
				if i > 0 {
					b.WriteString(", ")
				}
				fmt.Fprintf(&b, "$%d", shared+r*own+i+1)
			}
			b.WriteString(")")
		}
		n.texts = append(n.texts, b.String())
	}
	return n
}

// queue adds rows, whose values follow each other.
func (n insertion) queue(ctx context.Context, tx sqldb.Tx, shared, values []any) {
	for i, text := range slices.Backward(n.texts) {
		size := n.own << i
		for len(values) >= size {
			tx.Queue(ctx, nil, text, append(slices.Clone(shared), values[:size]...)...)
			values = values[size:]
		}
	}
}
