package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/sqldb"
)

const owners = 100

func ownerOf(i int) string   { return fmt.Sprintf("o%d", i%owners) }
func datasetOf(i int) string { return fmt.Sprintf("%s/d%d", ownerOf(i), i) }

// spec is a usual one: a table of six fields with constraints, a licence, a schedule.
func spec(owner, dataset string) string {
	return strings.NewReplacer("OWNER", owner, "DATASET", dataset).Replace(`{
  "meta": {"version": 1, "ownerid": "OWNER", "owner": "name-OWNER", "dataset": "DATASET", "findability": "published"},
  "inputs": [{"kind": "datapackage", "url": "http://example.com/datapackage.json", "parameters": {
    "resource-mapping": {"data/elements.csv": "http://example.com/elements.csv"},
    "descriptor": {
      "name": "DATASET", "title": "The first 36 chemical elements",
      "description": "Hydrogen to krypton: symbol, standard atomic weight, phase and year of discovery.",
      "licenses": [{"name": "CC0-1.0", "title": "CC0 1.0 Universal", "path": "https://creativecommons.org/publicdomain/zero/1.0/"}],
      "resources": [{
        "name": "elements", "path": "data/elements.csv", "format": "csv", "mediatype": "text/csv", "encoding": "utf-8",
        "schema": {"fields": [
          {"name": "number", "type": "integer", "title": "Atomic number", "constraints": {"required": true, "unique": true, "minimum": 1}},
          {"name": "symbol", "type": "string", "constraints": {"required": true, "pattern": "[A-Z][a-z]?"}},
          {"name": "name", "type": "string", "constraints": {"required": true}},
          {"name": "atomic_mass", "type": "number", "description": "Standard atomic weight, abridged"},
          {"name": "phase", "type": "string", "constraints": {"enum": ["gas", "liquid", "solid"]}},
          {"name": "discovered", "type": "year"}],
          "primaryKey": "number"}}]}}}],
  "outputs": [], "schedule": "every 1d"
}`)
}

// stats are those of a pipeline.
const stats = `{"bytes":1484,"count_of_rows":36,"dataset_name":"elements","hash":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",` +
	`".dpp":{"out-datapackage-url":"http://example.com/pkgstore/o/d/elements_csv/datapackage.json"},".datahub":{"pipeline":"elements_csv"}}`

// bench is a database that can be grown: its template is a dataset of two revisions,
// of which the first has ended and the second waits for news.
type bench struct {
	issuer    *auth.Issuer
	pipelines []string // what their IDs add to the flow's
}

const template = "o0/template"

// fill makes the tables and the template.
func fill(ctx context.Context, o options, dir, database string) (b *bench, err error) {
	s, err := startSpecstore(ctx, o.specstore, dir, database, "external")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	db, err := sqldb.OpenReader(ctx, sqldb.Config{URL: database, Conns: 2, Answer: patience})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var key string
	if err := db.Select(ctx, func(row sqldb.Row) error { return row.Scan(&key) }, `SELECT value FROM setting WHERE name = $1`, "issuer-key"); err != nil {
		return nil, err
	}
	b = &bench{}
	if b.issuer, err = auth.NewIssuer(key); err != nil {
		return nil, err
	}
	token, err := b.token("o0")
	if err != nil {
		return nil, err
	}
	call := func(method, path, body string) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, method, s.URL+path, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Auth-Token", token)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s %s: %s %s", method, path, res.Status, answer)
		}
		return answer, err
	}
	for range 2 {
		if _, err := call("POST", "/source/upload", spec("o0", "template")); err != nil {
			return nil, err
		}
	}
	answer, err := call("GET", "/source/"+template+"/1", "")
	if err != nil {
		return nil, err
	}
	var status struct {
		Pipelines map[string]any `json:"pipelines"`
	}
	if err := json.Unmarshal(answer, &status); err != nil {
		return nil, err
	}
	for id := range status.Pipelines {
		b.pipelines = append(b.pipelines, strings.TrimPrefix(id, template+"/1"))
	}
	// The flow's own pipeline, whose ID adds nothing, is the last.
	slices.SortFunc(b.pipelines, func(a, b string) int { return strings.Compare(b, a) })
	for _, name := range b.pipelines {
		for _, kind := range []string{"start", "finish"} {
			if _, err := call("POST", "/source/update", update(template+"/1", name, kind)); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

func update(flow, pipeline, kind string) string {
	if kind == "start" {
		return fmt.Sprintf(`{"pipeline":"./%s%s","event":"start"}`, flow, pipeline)
	}
	return fmt.Sprintf(`{"pipeline":"./%s%s","event":"finish","success":true,"stats":%s,"log":["INFO    :Main:RUN %s","INFO    :Main:DONE"]}`, flow, pipeline, stats, pipeline)
}

func (b *bench) token(owner string) (string, error) {
	return b.issuer.Sign(auth.Claims{UserID: owner, UserName: "name-" + owner, Service: auth.ServiceSource, MaxDatasets: 1_000_000_000}, time.Now())
}

// shape says what is in a database: datasets, each with some revisions that have ended,
// and the first of them with some that are open.
type shape struct{ datasets, ended, open, opens int }

// grow copies the template until the database has a shape; have is how many datasets
// it has.
func (b *bench) grow(ctx context.Context, database string, have int, s shape) error {
	db, err := sqldb.Open(ctx, sqldb.Config{URL: database, Conns: 2, Answer: patience})
	if err != nil {
		return err
	}
	defer db.Close()
	page := 25_000 / s.ended // of one transaction
	for ; have < s.datasets; have += page {
		if err := db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
			return copies(ctx, tx, have, min(have+page, s.datasets), s)
		}); err != nil {
			return err
		}
	}
	if db.Dialect() == sqldb.Postgres {
		_, err = db.Pool().Exec(ctx, `VACUUM ANALYZE`)
	}
	return err
}

// copies adds the template's rows for the datasets of a range.
func copies(ctx context.Context, tx sqldb.Tx, from, until int, s shape) error {
	const series = `WITH RECURSIVE n(i) AS (SELECT CAST($1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $2),
		k(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM k WHERE k < $3),
		s AS (SELECT 'o' || (i % 100) AS owner, 'o' || (i % 100) || '/d' || i AS id, i FROM n) `
	ended, open := template+"/1", template+"/2"
	openID := fmt.Sprintf("s.id || '/' || (%d + k)", s.ended)
	for _, c := range []struct {
		table, old, id, number, from string
		until, revisions             int
	}{
		{"dataset", template, "s.id", "", "s CROSS JOIN dataset t WHERE t.identifier = '" + template + "'", until, 1},
		{"dataset_revision", ended, "s.id || '/' || k", "k", "s CROSS JOIN k CROSS JOIN dataset_revision t WHERE t.revision_id = '" + ended + "'", until, s.ended},
		{"dataset_revision", open, openID, fmt.Sprintf("%d + k", s.ended), "s CROSS JOIN k CROSS JOIN dataset_revision t WHERE t.revision_id = '" + open + "'", min(until, s.open), s.opens},
		{"pipelines", open, openID, "", "s CROSS JOIN k CROSS JOIN pipelines t WHERE t.flow_id = '" + open + "'", min(until, s.open), s.opens},
		{"flow_event", open, openID, "", "s CROSS JOIN k CROSS JOIN flow_event t WHERE t.flow_id = '" + open + "'", min(until, s.open), s.opens},
	} {
		if from >= c.until {
			continue
		}
		var values []string
		for _, name := range tables[c.table] {
			switch name {
			case "identifier", "dataset_id":
				name = "s.id"
			case "owner":
				name = "s.owner"
			case "internal_id":
				name = "'internal' || s.i"
			case "revision":
				name = c.number
			case "last_revision":
				name = fmt.Sprintf("%d + CASE WHEN s.i < %d THEN %d ELSE 0 END", s.ended, s.open, s.opens)
			case "revision_id", "flow_id", "pipeline_id", "pipelines", "dependencies", "pipeline":
				name = fmt.Sprintf("replace(t.%s, '%s', %s)", name, c.old, c.id)
			default:
				name = "t." + name
			}
			values = append(values, name)
		}
		if _, err := tx.Exec(ctx, series+`INSERT INTO `+c.table+` (`+strings.Join(tables[c.table], ", ")+`) SELECT `+strings.Join(values, ", ")+` FROM `+c.from,
			from, c.until, c.revisions); err != nil {
			return fmt.Errorf("%s: %w", c.table, err)
		}
	}
	_, err := tx.Exec(ctx, series+`INSERT INTO owner (id, name) SELECT DISTINCT s.owner, 'name-' || s.owner FROM s WHERE true ON CONFLICT DO NOTHING`, from, until, 1)
	return err
}

var tables = map[string][]string{
	"dataset": {
		"identifier", "owner", "spec", "created_at", "updated_at", "scheduled_for", "findability", "deleted_at", "deleted_through", "last_revision",
		"internal_id", "released_revision", "released_at", "schedule", "schedule_failures", "logged_findability", "logged_pause",
	},
	"dataset_revision": {
		"revision_id", "dataset_id", "revision", "status", "errors", "stats", "logs", "pipelines", "created_at", "updated_at", "runner", "attempt",
		"restarts", "holder", "beat", "event_seq", "queued_at", "started_at", "finished_at", "engine_version", "planner_version", "descriptor_key",
		"idempotency_key", "idempotency_hash", "findability", "spec", "internal_id", "content_digest", "caused_by",
	},
	"pipelines": {
		"pipeline_id", "flow_id", "title", "pipeline_details", "status", "errors", "stats", "logs", "created_at", "updated_at", "position",
		"dependencies", "started_at", "finished_at", "progress", "outputs", "error_count",
	},
	"flow_event": {"flow_id", "seq", "at", "pipeline", "kind", "body"},
}
