package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/sqldb"
)

// OpenPipeline is a pipeline of an open flow, as a runner outside needs to know it.
type OpenPipeline struct {
	FlowID       string
	Attempt      int64 // the flow's
	ID           string
	State        State
	Dependencies []string
	Updated      int64 // when news of it was last recorded, in microseconds; only to be compared
}

// someFlows is how many flows one statement asks for by name.
const someFlows = 50

// EachOpen calls fn for every pipeline of the open flows of a runner: flows in the
// order in which they were accepted, of each the parents first. fn runs inside a
// transaction that reads: it must be quick and must not use the database.
func (s *Store) EachOpen(ctx context.Context, runner Runner, fn func(OpenPipeline)) error {
	return s.db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		return eachOpen(ctx, tx, "", fn, string(runner))
	})
}

// EachOpenOf is [Store.EachOpen] for flows of these IDs; those that are not open are left
// out.
func (s *Store) EachOpenOf(ctx context.Context, runner Runner, flows []string, fn func(OpenPipeline)) error {
	return s.db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		for some := range slices.Chunk(flows, someFlows) {
			// Statements are prepared: there is one text for any number of flows.
			args := make([]any, 1+someFlows)
			args[0] = string(runner)
			for i := range someFlows {
				args[1+i] = some[min(i, len(some)-1)]
			}
			if err := eachOpen(ctx, tx, ofSomeFlows, fn, args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// ofSomeFlows is the condition that a flow is one of someFlows.
var ofSomeFlows = func() string {
	places := make([]string, someFlows)
	for i := range places {
		places[i] = "$" + strconv.Itoa(i+2)
	}
	return " AND r.revision_id IN (" + strings.Join(places, ", ") + ")"
}()

func eachOpen(ctx context.Context, tx sqldb.Tx, condition string, fn func(OpenPipeline), args ...any) error {
	rows, err := tx.Query(ctx, `
			SELECT p.flow_id, r.attempt, p.pipeline_id, p.status, p.dependencies, p.updated_at
			FROM dataset_revision r JOIN pipelines p ON p.flow_id = r.revision_id
			WHERE r.runner = $1 AND r.status IN ('pending', 'running')`+condition+`
			ORDER BY r.queued_at, r.revision_id, p.position, p.pipeline_id`, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var p OpenPipeline
		var state string
		var dependencies sql.NullString
		var updated sql.NullInt64
		if err := rows.Scan(&p.FlowID, &p.Attempt, &p.ID, &state, &dependencies, &updated); err != nil {
			return err
		}
		if p.State, err = ParseState(state); err != nil {
			return err
		}
		for _, d := range parseLines(dependencies.String) {
			p.Dependencies = append(p.Dependencies, strings.TrimPrefix(d, "./"))
		}
		p.Updated = updated.Int64
		fn(p)
	}
	return rows.Err()
}

// Details gives the steps of a pipeline of an open flow of the runner dpp, nil where
// there are none: the flow may have ended.
func (s *Store) Details(ctx context.Context, flowID, pipeline string) (json.RawMessage, error) {
	var details sql.NullString
	err := s.db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		err := tx.QueryRow(ctx, `SELECT pipeline_details FROM pipelines WHERE pipeline_id = $1 AND flow_id = $2`, pipeline, flowID).Scan(&details)
		if noRows(err) {
			return nil
		}
		return err
	})
	return raw(details.String), err
}

// Alias is a pipeline's ID for a runner outside that remembers what it ran by ID: from
// the second attempt on it ends with "~" and the attempt, which no name can hold.
// [Store.Apply] takes it for the ID.
func Alias(pipeline string, attempt int64) string {
	if attempt <= 1 {
		return pipeline
	}
	return pipeline + "~" + strconv.FormatInt(attempt, 10)
}

// Unalias gives the ID that an alias, with or without "./", stands for.
func Unalias(pipeline string) string {
	id, _, _ := strings.Cut(strings.TrimPrefix(pipeline, "./"), "~")
	return id
}

// NewDetails gives the steps of a pipeline for an attempt. It must not use the database.
type NewDetails func(pipeline string, attempt int64) (json.RawMessage, error)

// RetryDPP is [Store.Retry] for a flow of the runner dpp, whose steps are kept with it
// while it is open. All of it runs again: what the runner made of the last attempt is
// not known here.
func (s *Store) RetryDPP(ctx context.Context, flowID string, details NewDetails) (bool, error) {
	return s.retry(ctx, flowID, DPP, nil, details)
}

// Note keeps a short text of a flow for its runner, such as the name that a service
// outside gave a run: the first one stands until it is replaced by its holder. It gives
// what is kept.
func (s *Store) Note(ctx context.Context, name, value string) (string, error) {
	return s.Setting(ctx, name, func() (string, error) { return value, nil })
}

// Renote replaces a note, or takes it away where the new text is empty, if it still is
// the old text.
func (s *Store) Renote(ctx context.Context, name, old, value string) error {
	return s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		if value == "" {
			_, err := tx.Exec(ctx, `DELETE FROM setting WHERE name = $1 AND value = $2`, name, old)
			return err
		}
		n, err := tx.Exec(ctx, `UPDATE setting SET value = $3 WHERE name = $1 AND value = $2`, name, old, value)
		if err == nil && n == 0 {
			return errs.New(errs.Conflict, "registry.Renote", "the note %q is another one's", name)
		}
		return err
	})
}
