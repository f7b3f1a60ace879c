package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/sqldb"
)

// Revision is a numbered state of a dataset, and the flow that makes it.
type Revision struct {
	ID          string // OWNERID/DATASET/NUMBER; the flow's ID as well
	DatasetID   string
	OwnerID     string
	Owner       string // the owner's name; may be empty
	Number      int64
	State       State
	Spec        json.RawMessage // of this revision
	Findability string          // of the dataset
	Runner      Runner
	Attempt     int64
	Restarts    int64
	// Created is when the revision was accepted, Modified when its state last changed;
	// Started and Finished are zero where it has not come to that.
	Created, Modified, Started, Finished time.Time
	DatasetCreated                       time.Time
	// Errors are root failures first, at most 100, never nil; Logs at most the last
	// 1000 lines. Stats are the package's; nil until the end.
	Errors, Logs   []string
	Stats          json.RawMessage
	Pipelines      []Pipeline
	DescriptorKey  string
	PlannerVersion string
	Cause          string // [CausePush] or [CauseSchedule]
	// Redacted says that parts were taken out, for somebody who may not see them.
	Redacted bool
}

// Pipeline is how a pipeline of a revision stands.
type Pipeline struct {
	ID, Title         string
	State             State
	Stats             json.RawMessage // nil where there are none
	Errors            []string        // never nil
	ErrorCount        int64           // how many there were
	Started, Finished time.Time
	Progress          json.RawMessage // nil where there is none
	Log               []string        // at most the last 100 lines
	Dependencies      []string
	Outputs           json.RawMessage // of one that succeeded
	Reused            string          // ID of the flow that made them, where that is another one
}

// shown holds for the revisions that are there: a dataset that was deleted and made
// again does not show what it was.
const shown = `d.deleted_at IS NULL AND r.revision > d.deleted_through`

// Parts says what is read of a revision beside how it stands: ID, dataset, owner, number,
// state, attempt, restarts, findability, runner, planner version, times and the key of
// its descriptor.
type Parts uint8

// The parts of a revision that may be long.
const (
	WithSpec Parts = 1 << iota
	// WithPipelines is the pipelines, and what is summed up of them: errors, logs, stats.
	WithPipelines
	// Whole is all there is.
	Whole = WithSpec | WithPipelines
)

// Revision finds a revision of a dataset: by its number in plain decimal, "latest"
// for the highest number, "successful" for the one that is released. It fails with
// NotFound.
func (s *Store) Revision(ctx context.Context, datasetID, which string, parts Parts) (*Revision, error) {
	where, args, err := named(datasetID, which)
	if err != nil {
		return nil, err
	}
	return s.revision(ctx, parts, where, args...)
}

// Public finds a revision as [Store.Revision] does where everybody may read it. One of a
// private dataset is NotFound, at the cost of one that is not there.
func (s *Store) Public(ctx context.Context, datasetID, which string, parts Parts) (*Revision, error) {
	where, args, err := named(datasetID, which)
	if err != nil {
		return nil, err
	}
	return s.revision(ctx, parts, `d.findability <> 'private' AND `+where, args...)
}

// Access is what says who may read a revision.
type Access struct {
	OwnerID     string
	Number      int64
	Findability string // of the dataset
}

// Access finds what says who may read a revision, as [Store.Revision] finds revisions. What
// it reads does not grow with the revision.
func (s *Store) Access(ctx context.Context, datasetID, which string) (*Access, error) {
	where, args, err := named(datasetID, which)
	if err != nil {
		return nil, err
	}
	var found *Access
	err = s.db.Select(ctx, func(row sqldb.Row) error {
		found = &Access{}
		return row.Scan(&found.OwnerID, &found.Number, &found.Findability)
	}, `SELECT d.owner, r.revision, d.findability FROM dataset_revision r JOIN dataset d ON d.identifier = r.dataset_id WHERE `+where, args...)
	if err == nil && found == nil {
		err = errNotFound
	}
	return found, err
}

// named is the condition that finds a revision of a dataset.
func named(datasetID, which string) (where string, args []any, err error) {
	if !storable(datasetID) {
		return "", nil, errNotFound
	}
	const of = `r.dataset_id = $1 AND ` + shown + ` `
	switch which {
	case "latest":
		return of + `ORDER BY r.revision DESC LIMIT 1`, []any{datasetID}, nil
	case "successful":
		return of + `AND r.revision = d.released_revision`, []any{datasetID}, nil
	}
	number, err := plainNumber(which)
	if err != nil {
		return "", nil, err
	}
	return of + `AND r.revision = $2`, []any{datasetID, number}, nil
}

// plainNumber reads a revision's number in plain decimal. It fails with NotFound.
func plainNumber(text string) (int64, error) {
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(number, 10) != text {
		return 0, errNotFound
	}
	return number, nil
}

// Flow finds a revision by its ID.
func (s *Store) Flow(ctx context.Context, flowID string, parts Parts) (*Revision, error) {
	if !storable(flowID) {
		return nil, errNotFound
	}
	return s.revision(ctx, parts, `r.revision_id = $1`, flowID)
}

var errNotFound = errs.New(errs.NotFound, "registry", "there is none")

// revision reads a revision and, where they are asked for and it is open, its pipelines, by
// one statement: it sees both at one time. where may end with an order and a limit.
func (s *Store) revision(ctx context.Context, parts Parts, where string, args ...any) (*Revision, error) {
	var r *Revision
	var list []*row
	var folded []byte
	var rest *storedRevision // the columns of further rows, which have nothing long
	err := s.db.Select(ctx, func(rows sqldb.Row) error {
		v := rest
		if v == nil {
			v = &storedRevision{}
		}
		var p storedRow
		dest := v.dest()
		if parts&WithPipelines != 0 {
			dest = append(dest, p.dest()...)
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		var err error
		if r == nil {
			if r, err = v.revision(); err != nil {
				return err
			}
			folded = v.folded
		} else {
			rest = v
		}
		if p.p.ID == "" {
			return nil // it has ended, or the pipelines were not asked for
		}
		added, err := p.row()
		list = append(list, added)
		return err
	}, revisionQueries[parts].before+where+revisionQueries[parts].after, args...)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errNotFound
	}
	if parts&WithPipelines == 0 {
		return r, nil
	}
	if r.State.Ended() {
		if list, err = unfold(folded); err != nil {
			return nil, err
		}
	} else {
		r.Errors, r.Logs, _ = summary(r.ID, list)
	}
	if len(list) > 0 {
		r.Pipelines = make([]Pipeline, len(list))
	}
	for i, p := range list {
		r.Pipelines[i] = p.public()
	}
	return r, nil
}

// revisionQueries are the statements that read a revision, by its parts, around the
// condition that finds it.
var revisionQueries = [Whole + 1]struct{ before, after string }{
	revisionQuery(0), revisionQuery(WithSpec), revisionQuery(WithPipelines), revisionQuery(Whole),
}

// revisionQuery makes the statement that a [storedRevision] is read from and, with the
// pipelines, a [storedRow]. An open flow has a row for each pipeline, of which the
// first alone has the long columns of the revision: they are the size of a spec.
func revisionQuery(parts Parts) (query struct{ before, after string }) {
	long := func(column string, wanted Parts) string {
		switch {
		case parts&wanted == 0:
			return `NULL`
		case parts&WithPipelines == 0:
			return `r.` + column
		}
		return `CASE WHEN p.position IS NULL OR p.position = r.first_position THEN r.` + column + ` END`
	}
	query.before = `SELECT r.revision_id, r.dataset_id, r.owner, r.owner_name, r.revision, r.status, ` + long("spec", WithSpec) + `, r.findability, r.runner, r.attempt, r.restarts,
	r.created_at, r.updated_at, r.started_at, r.finished_at, r.dataset_created_at,
	` + long("errors", WithPipelines) + `, ` + long("logs", WithPipelines) + `, ` + long("stats", Whole) + `, ` + long("pipelines", WithPipelines) + `,
	r.descriptor_key, r.planner_version, r.caused_by`
	first, after := ``, `) r`
	if parts&WithPipelines != 0 {
		query.before += `,
	` + rowColumns
		first = `
		(SELECT MIN(x.position) FROM pipelines x WHERE x.flow_id = r.revision_id) AS first_position,`
		after += `
	LEFT JOIN pipelines p ON p.flow_id = r.revision_id AND r.status IN ('pending', 'running')
	ORDER BY p.position, p.pipeline_id`
	}
	query.before += `
	FROM (SELECT` + first + `
		r.revision_id, r.dataset_id, d.owner, COALESCE(o.name, '') AS owner_name, r.revision, r.status, r.spec, d.findability, r.runner, r.attempt, r.restarts,
		r.created_at, r.updated_at, COALESCE(r.started_at, 0) AS started_at, COALESCE(r.finished_at, 0) AS finished_at, d.created_at AS dataset_created_at,
		r.errors, r.logs, r.stats, r.pipelines,
		COALESCE(r.descriptor_key, '') AS descriptor_key, COALESCE(r.planner_version, '') AS planner_version, COALESCE(r.caused_by, 'push') AS caused_by
		FROM dataset_revision r JOIN dataset d ON d.identifier = r.dataset_id LEFT JOIN owner o ON o.id = d.owner
		WHERE `
	query.after = after
	return query
}

// storedRevision is a row of "dataset_revision" as it is read.
type storedRevision struct {
	r                                                    Revision
	state, runner                                        string
	spec, failures, logs, stats, folded                  []byte
	created, modified, started, finished, datasetCreated int64
}

func (v *storedRevision) dest() []any {
	r := &v.r
	// There is room for those of a pipeline.
	return append(make([]any, 0, 40), &r.ID, &r.DatasetID, &r.OwnerID, &r.Owner, &r.Number, &v.state, &v.spec, &r.Findability, &v.runner, &r.Attempt, &r.Restarts,
		&v.created, &v.modified, &v.started, &v.finished, &v.datasetCreated, &v.failures, &v.logs, &v.stats, &v.folded,
		&r.DescriptorKey, &r.PlannerVersion, &r.Cause)
}

func (v *storedRevision) revision() (_ *Revision, err error) {
	r := &v.r
	if r.State, err = ParseState(v.state); err != nil {
		return nil, err
	}
	r.Runner, r.Spec = Runner(v.runner), stored(v.spec)
	r.Created, r.Modified, r.DatasetCreated = fromMicros(v.created), fromMicros(v.modified), fromMicros(v.datasetCreated)
	r.Started, r.Finished = fromMicros(v.started), fromMicros(v.finished)
	if r.State.Ended() {
		r.Errors, r.Logs, r.Stats = parseLines(string(v.failures)), parseLines(string(v.logs)), stored(v.stats)
	}
	if r.Errors == nil {
		r.Errors = []string{}
	}
	return r, nil
}

func (p *row) public() Pipeline {
	if p.Errors == nil {
		p.Errors = []string{}
	}
	return Pipeline{
		ID: p.ID, Title: p.Title, State: p.State, Stats: p.Stats, Errors: p.Errors, ErrorCount: p.ErrorCount,
		Started: fromMicros(p.Started), Finished: fromMicros(p.Finished), Progress: p.Progress, Log: p.Logs,
		Dependencies: p.Dependencies, Outputs: p.Outputs, Reused: p.Reused,
	}
}

// Dataset is a line of a list of datasets.
type Dataset struct {
	ID, OwnerID, Owner string
	Findability        string
	Created, Updated   time.Time // Updated is when the last revision was accepted
	Schedule           Schedule
	LastRevision       int64 // 0 where there is none
	State              State // of the last revision
}

// Owner is somebody who has datasets.
type Owner struct {
	ID, Name string    // Name is the ID where there is none
	Since    time.Time // when the first dataset that is published was made
}

// Owner finds an owner of published datasets by name or by ID, which goes before. It
// fails with NotFound.
func (s *Store) Owner(ctx context.Context, name string) (*Owner, error) {
	if !storable(name) {
		return nil, errNotFound
	}
	o := &Owner{}
	var since int64
	err := s.db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		return tx.QueryRow(ctx, `
			SELECT o.id, COALESCE(o.name, o.id), MIN(d.created_at)
			FROM owner o JOIN dataset d ON d.owner = o.id AND d.deleted_at IS NULL AND d.findability = 'published'
			WHERE o.id = $1 OR o.name = $1
			GROUP BY o.id, o.name ORDER BY CASE WHEN o.id = $1 THEN 0 ELSE 1 END LIMIT 1`, name).Scan(&o.ID, &o.Name, &since)
	})
	if noRows(err) {
		return nil, errNotFound
	}
	o.Since = fromMicros(since)
	return o, err
}

// DatasetPage says which datasets are listed.
type DatasetPage struct {
	OwnerID string
	Listed  bool   // those alone that everybody finds
	After   string // the ID after which the page begins; empty for the first
	Limit   int    // how many at most
}

// Datasets lists datasets of an owner, by ID.
func (s *Store) Datasets(ctx context.Context, page DatasetPage) ([]Dataset, error) {
	list := []Dataset{}
	if !storable(page.OwnerID) {
		return list, nil
	}
	page.After = keepable(page.After)
	listed := 0
	if page.Listed {
		listed = 1
	}
	err := s.db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT d.identifier, d.owner, o.name, d.findability, d.created_at, d.updated_at, d.last_revision, COALESCE(r.status, 'pending'), `+scheduleColumns+`
			FROM dataset d LEFT JOIN dataset_revision r ON r.dataset_id = d.identifier AND r.revision = d.last_revision
				LEFT JOIN owner o ON o.id = d.owner `+scheduleJoin+`
			WHERE d.owner = $1 AND d.deleted_at IS NULL AND d.identifier > $2 AND ($3 = 0 OR d.findability = 'published')
			ORDER BY d.identifier LIMIT $4`, page.OwnerID, page.After, listed, page.Limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var d Dataset
			var state string
			var owner sql.NullString
			var created, updated int64
			if err := d.Schedule.scan(rows, &d.ID, &d.OwnerID, &owner, &d.Findability, &created, &updated, &d.LastRevision, &state); err != nil {
				return err
			}
			if d.State, err = ParseState(state); err != nil {
				return err
			}
			d.Owner, d.Created, d.Updated = owner.String, fromMicros(created), fromMicros(updated)
			list = append(list, d)
		}
		return rows.Err()
	})
	return list, err
}

// RevisionInfo is a line of a list of revisions.
type RevisionInfo struct {
	ID                                   string
	Number                               int64
	State                                State
	Created, Modified, Started, Finished time.Time
	Stats                                json.RawMessage
	Cause                                string // [CausePush] or [CauseSchedule]
}

// Revisions lists the revisions of a dataset, newest first: at most limit of those
// with a number below before; 0 is any number.
func (s *Store) Revisions(ctx context.Context, datasetID string, before int64, limit int) ([]RevisionInfo, error) {
	list := []RevisionInfo{}
	if !storable(datasetID) {
		return list, nil
	}
	if before <= 0 {
		before = math.MaxInt64
	}
	err := s.db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT r.revision_id, r.revision, r.status, r.created_at, r.updated_at, r.started_at, r.finished_at, r.stats, COALESCE(r.caused_by, 'push')
			FROM dataset_revision r JOIN dataset d ON d.identifier = r.dataset_id
			WHERE r.dataset_id = $1 AND r.revision < $2 AND `+shown+`
			ORDER BY r.revision DESC LIMIT $3`, datasetID, before, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var i RevisionInfo
			var state string
			var created, modified int64
			var started, finished sql.NullInt64
			var stats sql.NullString
			if err := rows.Scan(&i.ID, &i.Number, &state, &created, &modified, &started, &finished, &stats, &i.Cause); err != nil {
				return err
			}
			if i.State, err = ParseState(state); err != nil {
				return err
			}
			i.Created, i.Modified, i.Started, i.Finished = fromMicros(created), fromMicros(modified), sqldb.Time(started), sqldb.Time(finished)
			i.Stats = raw(stats.String)
			list = append(list, i)
		}
		return rows.Err()
	})
	return list, err
}

// Setting gives a setting that the service makes for itself once, such as a
// secret: generate is called where there is none, and the first one made stands.
func (s *Store) Setting(ctx context.Context, name string, generate func() (string, error)) (string, error) {
	var value string
	read := func(ctx context.Context, tx sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT value FROM setting WHERE name = $1`, name).Scan(&value)
	}
	if err := s.db.Read(ctx, read); !noRows(err) {
		return value, err
	}
	made, err := generate()
	if err != nil {
		return "", err
	}
	err = s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, name, made); err != nil {
			return err
		}
		return read(ctx, tx)
	})
	return value, err
}

// OpenReader gives a store that reads a database which another process may serve.
// Its tables must be up to date, and what would write fails.
func OpenReader(db *sqldb.DB) *Store {
	return &Store{db: db, now: time.Now, watchers: map[string]map[chan struct{}]struct{}{}}
}

// SettingNames gives the names of the settings that begin with a prefix, without it.
func (s *Store) SettingNames(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	err := s.db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		rows, err := tx.Query(ctx, `SELECT name FROM setting WHERE substr(name, 1, $2) = $1 ORDER BY name`, prefix, len(prefix))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			names = append(names, name[len(prefix):])
		}
		return rows.Err()
	})
	return names, err
}
