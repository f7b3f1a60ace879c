-- As SQLAlchemy made the original's tables in SQLite.
CREATE TABLE dataset (
	identifier VARCHAR NOT NULL, owner VARCHAR, spec VARCHAR, created_at TIMESTAMP, updated_at TIMESTAMP, scheduled_for TIMESTAMP,
	PRIMARY KEY (identifier));
CREATE INDEX ix_dataset_scheduled_for ON dataset (scheduled_for);
CREATE TABLE dataset_revision (
	revision_id VARCHAR NOT NULL, dataset_id VARCHAR, revision INTEGER, status VARCHAR(16), errors VARCHAR, stats VARCHAR, logs VARCHAR,
	pipelines VARCHAR, created_at TIMESTAMP, updated_at TIMESTAMP,
	PRIMARY KEY (revision_id));
CREATE TABLE pipelines (
	pipeline_id VARCHAR(256) NOT NULL, flow_id VARCHAR(256), title VARCHAR(256), pipeline_details VARCHAR, status VARCHAR(16),
	errors VARCHAR, stats VARCHAR, logs VARCHAR, created_at TIMESTAMP, updated_at TIMESTAMP,
	PRIMARY KEY (pipeline_id));
