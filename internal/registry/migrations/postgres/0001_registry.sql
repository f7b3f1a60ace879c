-- The tables of the original, so that a database that it wrote is taken over in
-- place: they are made where there are none and put aside, and their rows are copied
-- into the new ones (adopt.go), with times as microseconds UTC.
CREATE TABLE IF NOT EXISTS dataset (
	identifier VARCHAR NOT NULL PRIMARY KEY, owner VARCHAR, spec VARCHAR,
	created_at TIMESTAMP, updated_at TIMESTAMP, scheduled_for TIMESTAMP);
CREATE TABLE IF NOT EXISTS dataset_revision (
	revision_id VARCHAR NOT NULL PRIMARY KEY, dataset_id VARCHAR, revision INTEGER, status VARCHAR(16),
	errors VARCHAR, stats VARCHAR, logs VARCHAR, pipelines VARCHAR, created_at TIMESTAMP, updated_at TIMESTAMP);
CREATE TABLE IF NOT EXISTS pipelines (
	pipeline_id VARCHAR(256) NOT NULL PRIMARY KEY, flow_id VARCHAR(256), title VARCHAR(256), pipeline_details VARCHAR,
	status VARCHAR(16), errors VARCHAR, stats VARCHAR, logs VARCHAR, created_at TIMESTAMP, updated_at TIMESTAMP);
ALTER TABLE dataset RENAME TO original_dataset;
ALTER TABLE dataset_revision RENAME TO original_dataset_revision;
ALTER TABLE pipelines RENAME TO original_pipelines;

CREATE TABLE owner (
	id TEXT NOT NULL PRIMARY KEY,
	name TEXT UNIQUE
);
CREATE TABLE dataset (
	identifier TEXT NOT NULL PRIMARY KEY,
	owner TEXT NOT NULL,
	spec TEXT,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL,
	scheduled_for BIGINT,
	findability TEXT NOT NULL DEFAULT 'private',
	deleted_at BIGINT,
	deleted_through BIGINT NOT NULL DEFAULT 0,
	last_revision BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE dataset_revision (
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
CREATE TABLE pipelines (
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
CREATE INDEX dataset_owner ON dataset (owner, identifier);
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
	seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at BIGINT NOT NULL,
	actor TEXT NOT NULL,
	action TEXT NOT NULL,
	subject TEXT NOT NULL,
	body TEXT NOT NULL
);
