-- Each revision has its spec. A copy with the dataset made whatever is read of the dataset
-- cost as much as the spec.
UPDATE dataset SET spec = NULL WHERE spec IS NOT NULL;
