-- The schedule of a dataset, as its last push has it; scheduled_for is when it is due next.
ALTER TABLE dataset ADD COLUMN schedule TEXT;
-- How many scheduled runs in a row have failed, and why there are no more for now.
ALTER TABLE dataset ADD COLUMN schedule_failures BIGINT NOT NULL DEFAULT 0;
ALTER TABLE dataset ADD COLUMN schedule_paused TEXT;
-- The due time that was taken last, and the revision made for it, if there is one.
ALTER TABLE dataset ADD COLUMN schedule_last_due BIGINT;
ALTER TABLE dataset ADD COLUMN schedule_last_revision BIGINT;
ALTER TABLE dataset_revision ADD COLUMN caused_by TEXT;
