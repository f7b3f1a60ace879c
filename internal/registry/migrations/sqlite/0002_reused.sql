-- The flow that made what a pipeline published, where that is another one.
ALTER TABLE pipelines ADD COLUMN reused TEXT;
