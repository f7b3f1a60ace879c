package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/sqldb"
)

// adoption copies what the original wrote. Its tables have been put aside as
// original_…; they hold JSON as text, where both SQL NULL and null stand for nothing,
// and times of the machine's zone without saying so.
type adoption struct{ zone *time.Location }

// Texts of revisions that the original left open, of which nothing will be heard.
const (
	lostPipelines = "The revision was left unfinished by an earlier version of the service and its pipelines are lost; push the dataset again"
	lostState     = "The pipeline was left unfinished by an earlier version of the service"
)

// adoptPage is how many rows are in memory at once.
const adoptPage = 500

func (a adoption) adopt(ctx context.Context, tx sqldb.Tx) error {
	for _, table := range []func(context.Context, sqldb.Tx, string) (string, error){a.datasets, a.revisions} {
		for after, err := table(ctx, tx, ""); ; after, err = table(ctx, tx, after) {
			if err != nil {
				return fmt.Errorf("registry: what the original wrote cannot be taken over: %w", err)
			}
			if after == "" {
				break
			}
		}
	}
	for _, table := range []string{"dataset", "dataset_revision", "pipelines"} {
		if _, err := tx.Exec(ctx, `DROP TABLE original_`+table); err != nil {
			return err
		}
	}
	return nil
}

// instant is a time as the original stored it.
type instant struct{ value any }

// Scan takes what the driver gives: a time on PostgreSQL, and on SQLite a time, or
// text where it is not written as usual.
func (i *instant) Scan(v any) error {
	i.value = v
	return nil
}

// micros is the time in microseconds UTC; 0 for none and for what is no time.
func (a adoption) micros(i instant) int64 {
	var t time.Time
	switch v := i.value.(type) {
	case time.Time:
		t = v
	case []byte:
		t, _ = time.Parse("2006-01-02 15:04:05", string(v))
	case string:
		t, _ = time.Parse("2006-01-02 15:04:05", v)
	}
	if t.IsZero() {
		return 0
	}
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), a.zone).UnixMicro()
}

// pages reads a page of rows whole, since a transaction does one thing at a time.
func pages[T any](ctx context.Context, tx sqldb.Tx, query, after string, scan func(sqldb.Rows, *T) error) ([]T, error) {
	rows, err := tx.Query(ctx, query, after, adoptPage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		var v T
		if err := scan(rows, &v); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// datasets copies the datasets after an identifier and gives the last of them, "" at
// the end.
func (a adoption) datasets(ctx context.Context, tx sqldb.Tx, after string) (last string, err error) {
	type dataset struct {
		id                          string
		owner, spec                 sql.NullString
		created, updated, scheduled instant
		revision                    int64
	}
	list, err := pages(ctx, tx, `
		SELECT identifier, owner, spec, created_at, updated_at, scheduled_for,
			COALESCE((SELECT MAX(r.revision) FROM original_dataset_revision r WHERE r.dataset_id = identifier), 0)
		FROM original_dataset WHERE identifier > $1 ORDER BY identifier LIMIT $2`, after, func(rows sqldb.Rows, d *dataset) error {
		return rows.Scan(&d.id, &d.owner, &d.spec, &d.created, &d.updated, &d.scheduled, &d.revision)
	})
	if err != nil {
		return "", err
	}
	for _, d := range list {
		last = d.id
		owner := d.owner.String
		if owner == "" {
			owner, _, _ = strings.Cut(d.id, "/")
		}
		if _, err := tx.Exec(ctx, `INSERT INTO owner (id) VALUES ($1) ON CONFLICT (id) DO NOTHING`, owner); err != nil {
			return "", err
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO dataset (identifier, owner, spec, created_at, updated_at, scheduled_for, findability, last_revision)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			d.id, owner, text(string(raw(d.spec.String))), a.micros(d.created), a.micros(d.updated), micros(a.micros(d.scheduled)),
			findabilityOf(d.spec.String), d.revision); err != nil {
			return "", err
		}
	}
	return last, nil
}

// findabilityOf is what a spec says; the original hid nothing, but what its owner did
// not want to be found is hidden here.
func findabilityOf(spec string) string {
	var s struct {
		Meta struct {
			Findability any `json:"findability"`
		} `json:"meta"`
	}
	_ = json.Unmarshal([]byte(spec), &s) // of what is no spec nothing is known
	switch f := s.Meta.Findability; f {
	case "published", "unlisted":
		return fmt.Sprint(f)
	}
	return "private"
}

// revisions copies the revisions after an ID, with their pipelines, and gives the
// last of them, "" at the end.
func (a adoption) revisions(ctx context.Context, tx sqldb.Tx, after string) (last string, err error) {
	type revision struct {
		id, dataset                    string
		number                         int64
		status                         sql.NullString
		errors, stats, logs, pipelines sql.NullString
		spec, findability              sql.NullString
		created, updated               instant
	}
	list, err := pages(ctx, tx, `
		SELECT r.revision_id, d.identifier, r.revision, r.status, r.errors, r.stats, r.logs, r.pipelines, d.spec, d.findability, r.created_at, r.updated_at
		FROM original_dataset_revision r JOIN dataset d ON d.identifier = r.dataset_id
		WHERE r.revision_id > $1 AND r.revision IS NOT NULL ORDER BY r.revision_id LIMIT $2`, after, func(rows sqldb.Rows, r *revision) error {
		return rows.Scan(&r.id, &r.dataset, &r.number, &r.status, &r.errors, &r.stats, &r.logs, &r.pipelines, &r.spec, &r.findability, &r.created, &r.updated)
	})
	if err != nil {
		return "", err
	}
	for _, r := range list {
		last = r.id
		state, err := ParseState(r.status.String)
		if err != nil {
			state = Queued
		}
		left, err := a.pipelines(ctx, tx, r.id)
		if err != nil {
			return "", err
		}
		failures := parseLines(r.errors.String)
		created, updated := a.micros(r.created), a.micros(r.updated)
		var finished, folded any
		switch {
		case !state.Ended() && len(left) > 0: // it may go on
			for _, p := range left {
				insertRow(ctx, tx, r.id, p.row, p.created, p.details)
			}
			rows := make([]*row, len(left))
			for i := range left {
				rows[i] = left[i].row
			}
			if state = derive(rows); !state.Ended() {
				break
			}
			// All have ended and the flow was not: it ends with them.
			if _, err := tx.Exec(ctx, `DELETE FROM pipelines WHERE flow_id = $1`, r.id); err != nil {
				return "", err
			}
			fallthrough
		default:
			if !state.Ended() {
				state, failures = Failed, append(failures, lostPipelines)
			}
			kept, err := unfold(raw(r.pipelines.String))
			if err != nil {
				kept = nil // not as the original wrote it
			}
			if folded, err = fold(mergeAdopted(kept, left)); err != nil {
				return "", err
			}
			if state == Succeeded {
				failures = nil // of pipelines that succeeded later
			}
			finished = updated
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO dataset_revision (revision_id, dataset_id, revision, status, errors, stats, logs, pipelines, created_at, updated_at,
				queued_at, finished_at, findability, spec)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $9, $11, $12, $13)`,
			r.id, r.dataset, r.number, state.Stored(), lines(failures), text(string(raw(r.stats.String))), lines(parseLines(r.logs.String)), folded,
			created, updated, finished, r.findability.String, text(string(raw(r.spec.String)))); err != nil {
			return "", err
		}
	}
	return last, nil
}

// adopted is a row that the original left in "pipelines".
type adopted struct {
	*row
	details          json.RawMessage
	created, updated int64
}

// pipelines reads what is left of a flow, of which there are few.
func (a adoption) pipelines(ctx context.Context, tx sqldb.Tx, flowID string) ([]adopted, error) {
	rows, err := tx.Query(ctx, `
		SELECT pipeline_id, title, pipeline_details, status, errors, stats, logs, created_at, updated_at
		FROM original_pipelines WHERE flow_id = $1
		ORDER BY CASE WHEN pipeline_id = $1 THEN 1 ELSE 0 END, created_at, pipeline_id`, flowID) // the flow's own is the last
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []adopted
	for rows.Next() {
		p := adopted{row: &row{Position: int64(len(list))}}
		var title, details, status, failures, stats, logs sql.NullString
		var created, updated instant
		if err := rows.Scan(&p.ID, &title, &details, &status, &failures, &stats, &logs, &created, &updated); err != nil {
			return nil, err
		}
		p.Title, p.details, p.Stats = title.String, raw(details.String), raw(stats.String)
		p.Errors, p.Logs = parseLines(failures.String), parseLines(logs.String)
		p.ErrorCount = int64(len(p.Errors))
		p.created, p.updated = a.micros(created), a.micros(updated)
		if p.State, err = ParseState(status.String); err != nil {
			p.State = Queued
		}
		if p.State.Ended() {
			p.Finished = p.updated
		}
		var d struct {
			Dependencies []struct {
				Pipeline string `json:"pipeline"`
			} `json:"dependencies"`
		}
		_ = json.Unmarshal(p.details, &d) // what is not as usual has none
		for _, dependency := range d.Dependencies {
			p.Dependencies = append(p.Dependencies, strings.TrimPrefix(dependency.Pipeline, "./"))
		}
		list = append(list, p)
	}
	return list, rows.Err()
}

// mergeAdopted adds to what a revision kept of its pipelines those that the original
// forgot to fold into it.
func mergeAdopted(kept []*row, left []adopted) []*row {
	known := map[string]bool{}
	for _, p := range kept {
		known[p.ID] = true
	}
	for _, p := range left {
		if known[p.ID] {
			continue
		}
		if !p.State.Ended() {
			p.State, p.Errors, p.ErrorCount, p.Finished = Failed, []string{lostState}, 1, p.updated
		}
		kept = append(kept, p.row)
	}
	for i, p := range kept {
		p.Position = int64(i)
		if !p.State.Ended() {
			p.State, p.Errors, p.ErrorCount = Failed, []string{lostState}, 1
		}
	}
	return kept
}
