-- A dataset has an internal ID, which keys of objects use. One that was deleted and made
-- again has another; the earlier one lies in the trash until it is erased. The IDs of what
-- is there already are made by datasets.go.
ALTER TABLE dataset ADD COLUMN internal_id TEXT NOT NULL DEFAULT '';
ALTER TABLE dataset ADD COLUMN released_revision BIGINT;
ALTER TABLE dataset ADD COLUMN released_at BIGINT;
ALTER TABLE dataset_revision ADD COLUMN internal_id TEXT NOT NULL DEFAULT '';
ALTER TABLE dataset_revision ADD COLUMN content_digest TEXT;
CREATE UNIQUE INDEX dataset_internal_id ON dataset (internal_id) WHERE internal_id <> '';

CREATE TABLE trash (
	internal_id TEXT NOT NULL PRIMARY KEY,
	dataset_id TEXT NOT NULL,
	owner TEXT NOT NULL,
	first_revision BIGINT NOT NULL,
	last_revision BIGINT NOT NULL,
	scheduled_for BIGINT,
	deleted_at BIGINT NOT NULL,
	deleted_by TEXT NOT NULL,
	erase_at BIGINT NOT NULL,
	erasing BIGINT NOT NULL DEFAULT 0,
	files BIGINT NOT NULL DEFAULT 0,
	bytes BIGINT NOT NULL DEFAULT 0,
	uploads BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX trash_dataset_id ON trash (dataset_id);
CREATE INDEX trash_erase_at ON trash (erase_at);

-- What a revision published, by parts, and which uploaded files its spec names. "dataset"
-- is the internal ID.
DROP TABLE revision_file;
CREATE TABLE revision_file (
	dataset TEXT NOT NULL,
	revision BIGINT NOT NULL,
	artifact TEXT NOT NULL,
	resource TEXT NOT NULL,
	format TEXT NOT NULL,
	path TEXT NOT NULL,
	part BIGINT NOT NULL DEFAULT 0,
	sha256 TEXT NOT NULL,
	bytes BIGINT NOT NULL,
	first_row BIGINT,
	rows BIGINT,
	PRIMARY KEY (dataset, revision, artifact, path, part, sha256)
);
CREATE INDEX revision_file_sha256 ON revision_file (dataset, sha256);
CREATE TABLE revision_raw (
	dataset TEXT NOT NULL,
	revision BIGINT NOT NULL,
	key TEXT NOT NULL,
	PRIMARY KEY (dataset, revision, key)
);
CREATE INDEX revision_raw_key ON revision_raw (key);
