package main

import (
	"fmt"
	"strings"
)

// The statements are those of internal/registry, which a test holds them against.
const (
	rowState = `COALESCE(p.pipeline_id, ''), COALESCE(p.title, ''), COALESCE(p.status, ''), COALESCE(p.errors, ''), COALESCE(p.error_count, 0), p.stats,
		COALESCE(p.position, 0), COALESCE(p.dependencies, ''), COALESCE(p.started_at, 0), COALESCE(p.finished_at, 0), p.progress, `

	firstAlone = `CASE WHEN p.position IS NULL OR p.position = r.first_position THEN `
	sqlStatus  = `SELECT r.revision_id, r.dataset_id, r.owner, r.owner_name, r.revision, r.status, ` + firstAlone + `r.spec END, r.findability, r.runner, r.attempt, r.restarts,
		r.created_at, r.updated_at, r.started_at, r.finished_at, r.dataset_created_at,
		` + firstAlone + `r.errors END, ` + firstAlone + `r.logs END, ` + firstAlone + `r.stats END, ` + firstAlone + `r.pipelines END,
		r.descriptor_key, r.planner_version, r.caused_by, ` + rowState + `p.outputs, COALESCE(p.reused, ''), COALESCE(p.logs, '')
		FROM (SELECT (SELECT MIN(x.position) FROM pipelines x WHERE x.flow_id = r.revision_id) AS first_position,
				r.revision_id, r.dataset_id, d.owner, COALESCE(o.name, '') AS owner_name, r.revision, r.status, r.spec, d.findability, r.runner, r.attempt, r.restarts,
				r.created_at, r.updated_at, COALESCE(r.started_at, 0) AS started_at, COALESCE(r.finished_at, 0) AS finished_at, d.created_at AS dataset_created_at,
				r.errors, r.logs, r.stats, r.pipelines,
				COALESCE(r.descriptor_key, '') AS descriptor_key, COALESCE(r.planner_version, '') AS planner_version, COALESCE(r.caused_by, 'push') AS caused_by
			FROM dataset_revision r JOIN dataset d ON d.identifier = r.dataset_id LEFT JOIN owner o ON o.id = d.owner
			WHERE d.findability <> 'private' AND r.dataset_id = $1 AND d.deleted_at IS NULL AND r.revision > d.deleted_through AND r.revision = $2) r
		LEFT JOIN pipelines p ON p.flow_id = r.revision_id AND r.status IN ('pending', 'running')
		ORDER BY p.position, p.pipeline_id`

	sqlLock = `
		UPDATE dataset_revision SET attempt = attempt WHERE revision_id = $1
		RETURNING dataset_id, internal_id, revision, status, runner, attempt, restarts, COALESCE(holder, ''), beat, event_seq, COALESCE(started_at, 0),
			pipelines, COALESCE(descriptor_key, ''), COALESCE(caused_by, '')`
	sqlRows     = `SELECT ` + rowState + `'', '', '' FROM pipelines p WHERE p.flow_id = $1 ORDER BY p.position, p.pipeline_id`
	sqlPipeline = `
		UPDATE pipelines SET status = $2, errors = $3, error_count = $4, stats = $5, started_at = $6, finished_at = $7,
			progress = $8, outputs = COALESCE($9, outputs), updated_at = $10, reused = COALESCE($11, reused) WHERE pipeline_id = $1`
	sqlLogged = `
		UPDATE pipelines SET status = $2, errors = $3, error_count = $4, stats = $5, started_at = $6, finished_at = $7,
			progress = $8, outputs = COALESCE($9, outputs), updated_at = $10, reused = COALESCE($11, reused), logs = $12 WHERE pipeline_id = $1`
	sqlRevision = `
		UPDATE dataset_revision SET status = $2, attempt = $3, restarts = $4, started_at = $5, descriptor_key = $6, event_seq = $8,
			updated_at = CASE WHEN status <> $2 THEN $7 ELSE updated_at END
		WHERE revision_id = $1`

	sqlOwner = `
		INSERT INTO owner (id, name)
		VALUES ($1, CASE WHEN $2 <> '' AND NOT EXISTS (SELECT 1 FROM owner o WHERE o.name = $2 AND o.id <> $1) THEN $2 END)
		ON CONFLICT (id) DO UPDATE SET name = COALESCE(excluded.name, owner.name)
		RETURNING COALESCE(name, '')`
	sqlCount = `
		SELECT CASE WHEN d.identifier IS NULL OR d.deleted_at IS NOT NULL
			THEN (SELECT COUNT(*) FROM (SELECT 1 FROM dataset x WHERE x.owner = $2 AND x.deleted_at IS NULL LIMIT $3) y) ELSE -1 END
		FROM (SELECT 1) one LEFT JOIN dataset d ON d.identifier = $1`
	sqlDataset = `
		INSERT INTO dataset (identifier, owner, created_at, updated_at, scheduled_for, findability, last_revision, internal_id, schedule, logged_findability)
		VALUES ($1, $2, $3, $3, $4, $5, 1, $6, $7, $5)
		ON CONFLICT (identifier) DO UPDATE SET updated_at = $3,
			scheduled_for = CASE
				WHEN $8 = 'schedule' THEN dataset.scheduled_for
				WHEN dataset.schedule = $7 AND dataset.deleted_at IS NULL AND dataset.scheduled_for > $3 THEN dataset.scheduled_for
				ELSE $4 END,
			schedule = CASE WHEN $8 = 'schedule' THEN dataset.schedule ELSE $7 END,
			schedule_failures = CASE WHEN $8 = 'schedule' THEN dataset.schedule_failures ELSE 0 END,
			schedule_paused = CASE WHEN $8 = 'schedule' THEN dataset.schedule_paused END,
			logged_pause = CASE WHEN $8 = 'schedule' THEN dataset.logged_pause ELSE 0 END,
			logged_findability = CASE WHEN dataset.deleted_at IS NULL THEN dataset.logged_findability ELSE $5 END,
			created_at = CASE WHEN dataset.deleted_at IS NULL THEN dataset.created_at ELSE $3 END,
			findability = CASE
				WHEN dataset.deleted_at IS NOT NULL THEN $5
				WHEN 'private' IN ($5, dataset.findability) THEN 'private'
				WHEN 'unlisted' IN ($5, dataset.findability) THEN 'unlisted'
				ELSE 'published' END,
			internal_id = CASE WHEN dataset.deleted_at IS NULL THEN dataset.internal_id ELSE $6 END,
			released_revision = CASE WHEN dataset.deleted_at IS NULL THEN dataset.released_revision END,
			released_at = CASE WHEN dataset.deleted_at IS NULL THEN dataset.released_at END,
			deleted_at = NULL, last_revision = dataset.last_revision + 1
		RETURNING last_revision, created_at, findability, internal_id, logged_findability`
	sqlNew = `
		INSERT INTO dataset_revision (revision_id, dataset_id, revision, status, created_at, updated_at, queued_at, runner,
			planner_version, idempotency_key, idempotency_hash, findability, spec, event_seq, internal_id, caused_by)
		VALUES ($1, $2, $3, $4, $5, $5, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`
	sqlNotify  = `SELECT pg_notify($1, $2)`
	sqlSetting = `SELECT value FROM setting WHERE name = $1`

	channel = "specstore_flow"
)

// The rows of an upload are added 4, 2 and 1 at a time.
var (
	sqlQueued = several(`INSERT INTO pipelines (flow_id, status, created_at, updated_at, pipeline_id, title, pipeline_details, position, dependencies) VALUES `, 4, 5)
	sqlEvents = several(`INSERT INTO flow_event (at, flow_id, seq, pipeline, kind, body) VALUES `, 2, 4)
)

func several(head string, shared, own int) map[int]string {
	texts := map[int]string{}
	for _, rows := range []int{1, 2, 4} {
		var list []string
		for r := range rows {
			var row []string
			for i := range shared {
				row = append(row, fmt.Sprintf("$%d", i+1))
			}
			for i := range own {
				row = append(row, fmt.Sprintf("$%d", shared+r*own+i+1))
			}
			list = append(list, "("+strings.Join(row, ", ")+")")
		}
		texts[rows] = head + strings.Join(list, ", ")
	}
	return texts
}

// statement is one that nobody waits for the answer of.
type statement struct {
	text string
	args []any
}

// changes are the statements that make an event true.
func changes(e event, flow string, now, started, seq int64, p pipeline) []statement {
	state, finished := "running", any(nil)
	if e.Event == "finish" {
		state, finished = "success", now
	}
	if p.started == 0 {
		p.started = now
	}
	if started == 0 {
		started = now
	}
	stats := any(nil)
	if len(e.Stats) > 0 {
		stats = string(e.Stats)
	}
	row := statement{sqlPipeline, []any{e.Pipeline, state, nil, 0, stats, p.started, finished, nil, nil, now, nil}}
	if len(e.Log) > 0 {
		row = statement{sqlLogged, append(row.args, `["`+strings.Join(e.Log, `","`)+`"]`)}
	}
	body := fmt.Sprintf(`{"state":%q,"flow_state":"INPROGRESS","attempt":1}`, state)
	return []statement{
		row,
		{sqlEvents[1], []any{now, flow, seq + 1, e.Pipeline, e.Event, body}},
		{sqlRevision, []any{flow, "running", 1, 0, started, nil, now, seq + 1}},
	}
}

// additions are the statements that add the rows of a new revision.
func additions(u upload, number, now int64) []statement {
	flow := fmt.Sprintf("%s/%d", u.dataset, number)
	var queued, events []any
	for i, p := range planned {
		id := flow + p.name
		queued = append(queued, id, p.title, nil, i, dependencies(flow, p.dependsOn))
		events = append(events, i+1, id, "queue", `{"state":"QUEUED","flow_state":"QUEUED","attempt":1}`)
	}
	var list []statement
	for _, n := range []int{4, 2, 1} {
		list = append(list, statement{sqlQueued[n], append([]any{flow, "pending", now, now}, queued[:5*n]...)})
		queued = queued[5*n:]
	}
	for _, n := range []int{4, 2, 1} {
		list = append(list, statement{sqlEvents[n], append([]any{now, flow}, events[:4*n]...)})
		events = events[4*n:]
	}
	return append(list, statement{sqlNew, []any{
		flow, u.dataset, number, "pending", now, "embedded", "1", nil, nil, "published", string(u.spec), len(planned), u.internal, "push",
	}})
}
