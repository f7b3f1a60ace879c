-- The tables of the original, so that a database that it wrote is taken over in
-- place. Each is copied into one of the same name and columns, with times as
-- microseconds UTC and with what is new.
CREATE TABLE IF NOT EXISTS dataset (
	identifier VARCHAR NOT NULL PRIMARY KEY, owner VARCHAR, spec VARCHAR,
	created_at TIMESTAMP, updated_at TIMESTAMP, scheduled_for TIMESTAMP);
CREATE TABLE IF NOT EXISTS dataset_revision (
	revision_id VARCHAR NOT NULL PRIMARY KEY, dataset_id VARCHAR, revision INTEGER, status VARCHAR(16),
	errors VARCHAR, stats VARCHAR, logs VARCHAR, pipelines VARCHAR, created_at TIMESTAMP, updated_at TIMESTAMP);
CREATE TABLE IF NOT EXISTS pipelines (
	pipeline_id VARCHAR(256) NOT NULL PRIMARY KEY, flow_id VARCHAR(256), title VARCHAR(256), pipeline_details VARCHAR,
	status VARCHAR(16), errors VARCHAR, stats VARCHAR, logs VARCHAR, created_at TIMESTAMP, updated_at TIMESTAMP);

CREATE TABLE owner (
	id TEXT NOT NULL PRIMARY KEY,
	name TEXT UNIQUE
);
INSERT INTO owner (id) SELECT DISTINCT owner FROM dataset WHERE owner IS NOT NULL;

CREATE TABLE new_dataset (
	identifier TEXT NOT NULL PRIMARY KEY,
	owner TEXT NOT NULL,
	spec TEXT,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL,
	scheduled_for BIGINT,
	findability TEXT NOT NULL DEFAULT 'private',
	deleted_at BIGINT,
	last_revision BIGINT NOT NULL DEFAULT 0
);
INSERT INTO new_dataset (identifier, owner, spec, created_at, updated_at, scheduled_for, findability, last_revision)
SELECT identifier, COALESCE(owner, ''), spec,
	COALESCE(CAST(ROUND((julianday(created_at) - 2440587.5) * 86400000.0) AS BIGINT) * 1000, 0),
	COALESCE(CAST(ROUND((julianday(updated_at) - 2440587.5) * 86400000.0) AS BIGINT) * 1000, 0),
	CAST(ROUND((julianday(scheduled_for) - 2440587.5) * 86400000.0) AS BIGINT) * 1000,
	COALESCE(CASE WHEN json_valid(spec) THEN json_extract(spec, '$.meta.findability') END, 'private'),
	COALESCE((SELECT MAX(r.revision) FROM dataset_revision r WHERE r.dataset_id = dataset.identifier), 0)
FROM dataset;

CREATE TABLE new_dataset_revision (
	revision_id TEXT NOT NULL PRIMARY KEY,
	dataset_id TEXT NOT NULL,
	revision BIGINT NOT NULL,
	status TEXT NOT NULL,
	errors TEXT,
	stats TEXT,
	logs TEXT,
	pipelines TEXT,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL,
	runner TEXT NOT NULL DEFAULT 'external',
	attempt BIGINT NOT NULL DEFAULT 1,
	restarts BIGINT NOT NULL DEFAULT 0,
	holder TEXT,
	beat BIGINT NOT NULL DEFAULT 0,
	event_seq BIGINT NOT NULL DEFAULT 0,
	queued_at BIGINT,
	started_at BIGINT,
	finished_at BIGINT,
	engine_version TEXT,
	planner_version TEXT,
	descriptor_key TEXT,
	idempotency_key TEXT,
	idempotency_hash TEXT,
	findability TEXT,
	spec TEXT
);
INSERT INTO new_dataset_revision (revision_id, dataset_id, revision, status, errors, stats, logs, pipelines,
	created_at, updated_at, queued_at, finished_at, spec)
SELECT revision_id, COALESCE(dataset_id, ''), COALESCE(revision, 0), COALESCE(status, 'pending'), errors, stats, logs, pipelines,
	COALESCE(CAST(ROUND((julianday(created_at) - 2440587.5) * 86400000.0) AS BIGINT) * 1000, 0),
	COALESCE(CAST(ROUND((julianday(updated_at) - 2440587.5) * 86400000.0) AS BIGINT) * 1000, 0),
	CAST(ROUND((julianday(created_at) - 2440587.5) * 86400000.0) AS BIGINT) * 1000,
	CASE WHEN status IN ('success', 'failed') THEN CAST(ROUND((julianday(updated_at) - 2440587.5) * 86400000.0) AS BIGINT) * 1000 END,
	(SELECT d.spec FROM dataset d WHERE d.identifier = dataset_id)
FROM dataset_revision;

CREATE TABLE new_pipelines (
	pipeline_id TEXT NOT NULL PRIMARY KEY,
	flow_id TEXT NOT NULL,
	title TEXT NOT NULL,
	pipeline_details TEXT,
	status TEXT NOT NULL,
	errors TEXT,
	stats TEXT,
	logs TEXT,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL,
	position BIGINT NOT NULL DEFAULT 0,
	dependencies TEXT,
	started_at BIGINT,
	finished_at BIGINT,
	progress TEXT,
	outputs TEXT,
	error_count BIGINT NOT NULL DEFAULT 0
);
INSERT INTO new_pipelines (pipeline_id, flow_id, title, pipeline_details, status, errors, stats, logs, created_at, updated_at, position, dependencies)
SELECT pipeline_id, COALESCE(flow_id, ''), COALESCE(title, ''), pipeline_details, COALESCE(status, 'pending'), errors, stats, logs,
	COALESCE(CAST(ROUND((julianday(created_at) - 2440587.5) * 86400000.0) AS BIGINT) * 1000, 0),
	COALESCE(CAST(ROUND((julianday(updated_at) - 2440587.5) * 86400000.0) AS BIGINT) * 1000, 0),
	rowid,
	CASE WHEN json_valid(pipeline_details) THEN (
		SELECT json_group_array(json_extract(value, '$.pipeline')) FROM json_each(pipeline_details, '$.dependencies')) END
FROM pipelines;

DROP TABLE dataset;
DROP TABLE dataset_revision;
DROP TABLE pipelines;
ALTER TABLE new_dataset RENAME TO dataset;
ALTER TABLE new_dataset_revision RENAME TO dataset_revision;
ALTER TABLE new_pipelines RENAME TO pipelines;

CREATE INDEX dataset_owner ON dataset (owner);
CREATE INDEX dataset_scheduled_for ON dataset (scheduled_for) WHERE scheduled_for IS NOT NULL;
CREATE UNIQUE INDEX dataset_revision_number ON dataset_revision (dataset_id, revision);
CREATE INDEX dataset_revision_open ON dataset_revision (queued_at) WHERE status IN ('pending', 'running');
CREATE INDEX dataset_revision_idempotency ON dataset_revision (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX pipelines_flow ON pipelines (flow_id, position);

CREATE TABLE flow_event (
	flow_id TEXT NOT NULL,
	seq BIGINT NOT NULL,
	at BIGINT NOT NULL,
	pipeline TEXT NOT NULL,
	kind TEXT NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (flow_id, seq)
);
CREATE TABLE file (
	key TEXT NOT NULL PRIMARY KEY,
	sha256 TEXT NOT NULL,
	bytes BIGINT NOT NULL,
	touched_at BIGINT NOT NULL
);
CREATE INDEX file_touched_at ON file (touched_at);
CREATE TABLE revision_file (
	flow_id TEXT NOT NULL,
	key TEXT NOT NULL,
	PRIMARY KEY (flow_id, key)
);
CREATE INDEX revision_file_key ON revision_file (key);
CREATE TABLE setting (
	name TEXT NOT NULL PRIMARY KEY,
	value TEXT NOT NULL
);
CREATE TABLE audit (
	seq INTEGER PRIMARY KEY,
	at BIGINT NOT NULL,
	actor TEXT NOT NULL,
	action TEXT NOT NULL,
	subject TEXT NOT NULL,
	body TEXT NOT NULL
);
