-- What changed of datasets, in one sequence without gaps, never deleted. The counter's row
-- is locked from the number of a change until its transaction ends, so that no lower number
-- becomes visible after a higher one.
CREATE TABLE change_counter (id BIGINT NOT NULL PRIMARY KEY, n BIGINT NOT NULL);
CREATE TABLE change_log (
	seq BIGINT NOT NULL PRIMARY KEY,
	at BIGINT NOT NULL,
	kind TEXT NOT NULL,
	dataset TEXT NOT NULL,
	dataset_id TEXT NOT NULL,
	owner TEXT NOT NULL,
	revision BIGINT NOT NULL,
	findability TEXT NOT NULL
);

-- What the log last said of a dataset.
ALTER TABLE dataset ADD COLUMN logged_findability TEXT NOT NULL DEFAULT '';
ALTER TABLE dataset ADD COLUMN logged_pause BIGINT NOT NULL DEFAULT 0;
UPDATE dataset SET logged_findability = findability, logged_pause = CASE WHEN schedule_paused IS NULL THEN 0 ELSE 1 END;

-- The datasets that are there already: a reader from the beginning comes to what is so.
INSERT INTO change_log (seq, at, kind, dataset, dataset_id, owner, revision, findability)
SELECT ROW_NUMBER() OVER (ORDER BY x.at, x.position, x.dataset), x.at, x.kind, x.dataset, x.dataset_id, x.owner, x.revision, x.findability
FROM (
	SELECT created_at AS at, 1 AS position, 'created' AS kind, internal_id AS dataset, identifier AS dataset_id, owner, 0 AS revision, findability
	FROM dataset WHERE internal_id <> ''
	UNION ALL
	SELECT COALESCE(released_at, created_at), 2, 'released', internal_id, identifier, owner, released_revision, findability
	FROM dataset WHERE internal_id <> '' AND released_revision IS NOT NULL
	UNION ALL
	SELECT updated_at, 3, 'schedule-paused', internal_id, identifier, owner, COALESCE(released_revision, 0), findability
	FROM dataset WHERE internal_id <> '' AND schedule_paused IS NOT NULL
	UNION ALL
	SELECT deleted_at, 4, 'deleted', internal_id, dataset_id, owner, 0, 'private' FROM trash
) x;
INSERT INTO change_counter (id, n) SELECT 1, COALESCE(MAX(seq), 0) FROM change_log;
