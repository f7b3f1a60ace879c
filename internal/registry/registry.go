// Package registry keeps what the service knows: datasets, their numbered
// revisions, the pipelines of each, and their states.
//
// A revision moves QUEUED, INPROGRESS, then SUCCEEDED, FAILED or CANCELLED, and
// never back within an attempt; its state is always the one that follows from its
// pipelines. Every change of a state is made by [Store.Apply] or by one of its
// kin ([Store.Cancel], [Store.Retry], [Store.Recover]): one row lock on the
// revision, one transaction, one table of transitions, one entry in flow_event.
// A run writes under the number of its attempt; one whose number has passed is
// refused. The numbers of a dataset's revisions are dense from 1 and never used
// again. Reads take no lock.
//
// While a flow is open its pipelines are rows; when it ends they are folded once
// into the revision, which keeps the whole record for ever.
package registry

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/sqldb"
)

//go:embed migrations
var migrations embed.FS

// Runner is who runs a flow. It is fixed when the revision is made.
type Runner string

// The runners.
const (
	Embedded Runner = "embedded" // the workers of this service
	DPP      Runner = "dpp"      // a datapackage-pipelines service
	External Runner = "external" // whoever sends updates; nobody is told
)

// Store is the registry. It may be used from several goroutines.
type Store struct {
	db     *sqldb.DB
	now    func() time.Time
	engine string

	mu       sync.Mutex
	watchers map[string]map[chan struct{}]struct{}
}

// Options are the store's settings; the zero value is right for the service.
type Options struct {
	Now func() time.Time // the clock of what is recorded; nil is [time.Now]
	// EngineVersion is recorded with a revision whose flow is claimed: outputs are
	// byte-identical for one version.
	EngineVersion string
	// LegacyZone is the time zone of the times in a database that the original wrote;
	// nil is the machine's.
	LegacyZone *time.Location
}

// Open brings the tables up to date and gives the store.
func Open(ctx context.Context, db *sqldb.DB, o Options) (*Store, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	original := adoption{zone: o.LegacyZone}
	if original.zone == nil {
		original.zone = time.Local
	}
	if err := db.Migrate(ctx, "registry", files, sqldb.After{1: original.adopt}); err != nil {
		return nil, err
	}
	s := &Store{db: db, now: o.Now, engine: o.EngineVersion, watchers: map[string]map[chan struct{}]struct{}{}}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Event is what happened to a pipeline.
type Event struct {
	// FlowID may be empty: it follows from the pipeline's ID.
	FlowID   string
	Pipeline string
	Kind     Kind
	Success  bool // of a finish
	// Errors, Log and Stats replace what is kept where they are not empty.
	Errors, Log []string
	Stats       json.RawMessage
	// Outputs is what a pipeline that succeeded made, for an attempt that skips it.
	Outputs json.RawMessage
	// Reused is the ID of the flow that made the outputs, where that is another one.
	Reused string
	// DescriptorKey names the package's descriptor; on the finish of the flow's last
	// pipeline.
	DescriptorKey string
	// Attempt is the number that [Store.Claim] gave; 0 is an event from outside,
	// which changes nothing in a flow of the embedded runner.
	Attempt int64
	// Outside is the attempt that an event from outside belongs to, 0 where it does not
	// say. One of another attempt changes nothing.
	Outside int64
}

// Applied is how things stand after an event.
type Applied struct {
	FlowID    string
	State     State // the pipeline's
	FlowState State
	Changed   bool // whether the event changed a state
}

// Apply makes an event true. An event that was there before, or that would go
// back, changes nothing and answers with the state that stands. When a pipeline
// fails, those that wait for it fail with it. It fails with NotFound for an
// unknown pipeline and with Conflict where the attempt has passed.
func (s *Store) Apply(ctx context.Context, ev Event) (Applied, error) {
	list, err := s.ApplyAll(ctx, ev)
	if err != nil {
		return Applied{}, err
	}
	return list[0], nil
}

// ApplyAll makes several events of one flow true, in their order and in one transaction:
// all of them or none.
func (s *Store) ApplyAll(ctx context.Context, events ...Event) ([]Applied, error) {
	const op = "registry.Apply"
	for i := range events {
		ev := &events[i]
		ev.Pipeline = Unalias(ev.Pipeline)
		if ev.FlowID == "" {
			ev.FlowID = FlowOf(ev.Pipeline)
		}
		if ev.FlowID != events[0].FlowID {
			return nil, errs.New(errs.Invalid, op, "events of several flows")
		}
		if _, err := ParseKind(string(ev.Kind)); err != nil {
			return nil, err
		}
		if present(ev.Stats) && (len(ev.Stats) > maxStats || !json.Valid(ev.Stats)) {
			return nil, errs.New(errs.Invalid, op, "stats are not JSON of at most %d bytes", maxStats)
		}
	}
	if len(events) == 0 {
		return nil, nil
	}
	var list []Applied
	err := s.change(ctx, events[0].FlowID, func(f *flow) error {
		list = make([]Applied, 0, len(events))
		for _, ev := range events {
			p := f.find(ev.Pipeline)
			if p == nil {
				return errs.New(errs.NotFound, op, "pipeline not found")
			}
			if ev.Attempt != 0 && ev.Attempt != f.attempt {
				return errs.New(errs.Conflict, op, "attempt %d of %s was superseded by attempt %d", ev.Attempt, f.id, f.attempt)
			}
			before := len(f.events)
			if ev.Attempt != 0 || f.runner != Embedded && (ev.Outside == 0 || ev.Outside == f.attempt) {
				f.apply(p, ev)
			}
			list = append(list, Applied{FlowID: ev.FlowID, State: p.State, Changed: len(f.events) > before})
		}
		for i := range list {
			list[i].FlowState = derive(f.rows)
		}
		return nil
	})
	if errs.Is(err, errs.NotFound) {
		err = errs.New(errs.NotFound, op, "pipeline not found")
	}
	return list, err
}

// Cancel ends an open flow with a reason and raises its attempt, so that the run
// can write no more. On an ended flow it changes nothing.
func (s *Store) Cancel(ctx context.Context, flowID, reason string) (State, error) {
	var state State
	err := s.change(ctx, flowID, func(f *flow) error {
		if !f.state.Ended() {
			f.attempt++
			f.end(Cancelled, KindCancel, reason)
		}
		state = derive(f.rows)
		return nil
	})
	return state, err
}

// Delete takes a dataset away with all its revisions: nobody finds them any more, and
// what is open of them is cancelled. Their numbers are not used again, and a dataset
// of that name that is made later does not show them. It fails with NotFound.
func (s *Store) Delete(ctx context.Context, datasetID, reason string) error {
	if !storable(datasetID) {
		return errNotFound
	}
	var open []string
	if err := s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		n, err := tx.Exec(ctx, `
			UPDATE dataset SET deleted_at = $2, deleted_through = last_revision, scheduled_for = NULL WHERE identifier = $1 AND deleted_at IS NULL`,
			datasetID, s.now().UnixMicro())
		if err != nil {
			return err
		}
		if n == 0 {
			return errNotFound
		}
		rows, err := tx.Query(ctx, `SELECT revision_id FROM dataset_revision WHERE dataset_id = $1 AND status IN ('pending', 'running')`, datasetID)
		if err != nil {
			return err
		}
		defer rows.Close()
		open = nil
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			open = append(open, id)
		}
		return rows.Err()
	}); err != nil {
		return err
	}
	for _, id := range open {
		if _, err := s.Cancel(ctx, id, reason); err != nil {
			return err
		}
	}
	return nil
}

// Retry makes a new attempt of a failed or cancelled flow of the embedded runner:
// what succeeded is kept. It reports whether there was something to do.
func (s *Store) Retry(ctx context.Context, flowID string, enqueue Enqueue) (bool, error) {
	return s.retry(ctx, flowID, Embedded, enqueue, nil)
}

func (s *Store) retry(ctx context.Context, flowID string, runner Runner, enqueue Enqueue, details NewDetails) (bool, error) {
	const op = "registry.Retry"
	done := false
	err := s.changeTx(ctx, flowID, func(ctx context.Context, tx sqldb.Tx, f *flow) error {
		done = false
		switch {
		case f.runner != runner:
			return errs.New(errs.Conflict, op, "flows of the runner %s cannot be retried here; push the dataset again", f.runner)
		case f.state == Succeeded:
			return nil
		case !f.state.Ended():
			return errs.New(errs.Conflict, op, "%s is open: there is nothing to retry", flowID)
		}
		done = true
		f.restarts, f.started, f.descriptor = 0, 0, ""
		for _, p := range f.rows {
			var steps json.RawMessage
			if details != nil {
				var err error
				if steps, err = details(p.ID, f.attempt+1); err != nil {
					return err
				}
			}
			insertRow(ctx, tx, f.id, p, f.now, steps)
		}
		if runner == DPP {
			f.restart(Failed, Cancelled, Succeeded)
		} else {
			f.restart(Failed, Cancelled)
		}
		tx.Queue(ctx, nil, `
			UPDATE dataset_revision SET pipelines = NULL, logs = NULL, errors = NULL, stats = NULL, descriptor_key = NULL, finished_at = NULL
			WHERE revision_id = $1`, f.id)
		if enqueue != nil {
			return enqueue(ctx, tx)
		}
		return nil
	})
	return done, err
}

// change runs fn on a flow under its row lock, and writes what it changed.
func (s *Store) change(ctx context.Context, flowID string, fn func(*flow) error) error {
	return s.changeTx(ctx, flowID, func(_ context.Context, _ sqldb.Tx, f *flow) error { return fn(f) })
}

func (s *Store) changeTx(ctx context.Context, flowID string, fn func(context.Context, sqldb.Tx, *flow) error) error {
	changed := false
	if err := s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		f, err := lock(ctx, tx, flowID, s.now().UnixMicro())
		if err != nil {
			return err
		}
		if err := fn(ctx, tx, f); err != nil {
			return err
		}
		if changed, err = f.save(ctx, tx); err == nil && changed {
			s.tell(ctx, tx, flowID)
		}
		return err
	}); err != nil {
		return err
	}
	if changed {
		s.wake(flowID)
	}
	return nil
}

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
		err := row.Scan(&f.dataset, &f.number, &state, &runner, &f.attempt, &f.restarts, &f.holder, &f.beat, &f.seq, &f.started, &folded, &f.descriptor)
		if noRows(err) {
			found, err = false, nil
		}
		return err
	}, `
		UPDATE dataset_revision SET attempt = attempt WHERE revision_id = $1
		RETURNING dataset_id, revision, status, runner, attempt, restarts, COALESCE(holder, ''), beat, event_seq, COALESCE(started_at, 0),
			pipelines, COALESCE(descriptor_key, '')`, flowID)
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

// save writes what was changed in a flow, and folds it when it has ended.
func (f *flow) save(ctx context.Context, tx sqldb.Tx) (changed bool, err error) {
	for _, p := range f.rows {
		if !p.changed {
			continue
		}
		changed = true
		values := []any{
			p.ID, p.State.Stored(), lines(p.Errors), p.ErrorCount, text(string(p.Stats)), micros(p.Started), micros(p.Finished),
			text(string(p.Progress)), text(string(p.Outputs)), f.now, text(p.Reused),
		}
		if p.logged {
			tx.Queue(ctx, nil, updateRow+`, logs = $12`+thatRow, append(values, lines(p.Logs))...)
		} else {
			tx.Queue(ctx, nil, updateRow+thatRow, values...)
		}
	}
	if len(f.events) == 0 {
		return changed, nil
	}
	if err := f.writeEvents(ctx, tx); err != nil {
		return false, err
	}
	state := derive(f.rows)
	tx.Queue(ctx, nil, `
		UPDATE dataset_revision SET status = $2, attempt = $3, restarts = $4, started_at = $5, descriptor_key = $6, event_seq = $8,
			updated_at = CASE WHEN status <> $2 THEN $7 ELSE updated_at END
		WHERE revision_id = $1`,
		f.id, state.Stored(), f.attempt, f.restarts, micros(f.started), text(f.descriptor), f.now, f.seq)
	if !state.Ended() {
		return true, nil
	}
	// The logs are read at the end only: no event needs them.
	all, err := readRows(ctx, tx, f.id, true)
	if err != nil {
		return false, err
	}
	failures, logs, stats := summary(f.id, all)
	folded, err := fold(all)
	if err != nil {
		return false, err
	}
	tx.Queue(ctx, nil, `
		UPDATE dataset_revision SET pipelines = $2, errors = $3, logs = $4, stats = $5, finished_at = $6, holder = NULL WHERE revision_id = $1`,
		f.id, folded, lines(failures), lines(logs), text(string(stats)), f.now)
	tx.Queue(ctx, nil, `DELETE FROM pipelines WHERE flow_id = $1`, f.id)
	if state == Succeeded {
		f.loosen(ctx, tx)
	}
	return true, nil
}

// loosen shows a dataset to as many as the revision that succeeded and all that were
// accepted after it want. What a revision takes away is taken when it is accepted;
// what it gives is given here, so that a push that fails shows nobody anything.
func (f *flow) loosen(ctx context.Context, tx sqldb.Tx) {
	// The dataset's row is locked: no revision is accepted in between.
	tx.Queue(ctx, nil, `UPDATE dataset SET updated_at = updated_at WHERE identifier = $1`, f.dataset)
	tx.Queue(ctx, nil, `
		UPDATE dataset SET findability = (
			SELECT CASE
				WHEN COUNT(CASE r.findability WHEN 'published' THEN NULL ELSE 1 END) = 0 THEN 'published'
				WHEN COUNT(CASE r.findability WHEN 'published' THEN NULL WHEN 'unlisted' THEN NULL ELSE 1 END) = 0
					AND dataset.findability = 'private' THEN 'unlisted'
				ELSE dataset.findability END
			FROM dataset_revision r WHERE r.dataset_id = dataset.identifier AND r.revision >= $2)
		WHERE identifier = $1 AND findability <> 'published'`, f.dataset, f.number)
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

// storable reports whether a text can be in the database at all: PostgreSQL keeps UTF-8
// without NUL, and fails where it is asked for anything else.
func storable(texts ...string) bool {
	return !slices.ContainsFunc(texts, func(s string) bool { return !utf8.ValidString(s) || strings.Contains(s, "\x00") })
}

// keepable makes a text storable.
func keepable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}

func noRows(err error) bool { return errors.Is(err, sqldb.ErrNoRows) }

func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func micros(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

// stored is JSON that was checked when it was written.
func stored(b []byte) json.RawMessage {
	if len(b) == 0 || string(b) == "null" {
		return nil
	}
	return b
}

func raw(s string) json.RawMessage {
	if s == "" || s == "null" || !json.Valid([]byte(s)) {
		return nil
	}
	return json.RawMessage(s)
}

// lines is a list of text as JSON, NULL for none.
func lines(list []string) any {
	if len(list) == 0 {
		return nil
	}
	b, err := json.Marshal(list)
	if err != nil { // text always can be written
		return nil
	}
	return string(b)
}

// plainLines reads a list of text without escapes, as it mostly is.
func plainLines(s string) (list []string, ok bool) {
	if len(s) < 4 || s[0] != '[' || strings.Contains(s, `\`) {
		return nil, false
	}
	list = make([]string, 0, strings.Count(s, `"`)/2)
	for rest := s[1:]; ; rest = rest[1:] {
		if len(rest) == 0 || rest[0] != '"' {
			return nil, false
		}
		line, after, ok := strings.Cut(rest[1:], `"`)
		if !ok || !utf8.ValidString(line) {
			return nil, false
		}
		list = append(list, line)
		switch after {
		case "":
			return nil, false
		case "]":
			return list, true
		}
		if rest = after; rest[0] != ',' {
			return nil, false
		}
	}
}

// parseLines reads a list of text; of what is no list of text it makes one, since
// the original kept what it was sent.
func parseLines(s string) []string {
	switch s {
	case "", "null":
		return nil
	case "[]":
		return []string{}
	}
	if list, ok := plainLines(s); ok {
		return list
	}
	var list []string
	if json.Unmarshal([]byte(s), &list) == nil {
		return list
	}
	var values []any
	if json.Unmarshal([]byte(s), &values) != nil {
		return []string{s}
	}
	for _, v := range values {
		list = append(list, fmt.Sprint(v))
	}
	return list
}
