-- What the original left behind in its odder hours; the same text for both databases.

-- A dataset that is published, in summer time.
INSERT INTO dataset VALUES ('me/data', 'me', '{"meta": {"findability": "published", "owner": "Me"}, "n": 3}', '2018-02-19 10:11:12.123456', '2018-07-20 00:00:00.000001', '2018-07-21 00:00:00');
INSERT INTO dataset_revision VALUES ('me/data/1', 'me/data', 1, 'success', 'null', '{"bytes": 5}', '["done"]',
	'{"me/data/1": {"title": "Creating Package", "status": "success", "stats": {"bytes": 5}, "error_log": null}}',
	'2018-02-19 10:11:12.123456', '2018-02-19 10:12:00');
-- Errors of a pipeline that succeeded later stayed with the revision.
INSERT INTO dataset_revision VALUES ('me/data/2', 'me/data', 2, 'success', '["broken once"]', 'null', NULL,
	'{"me/data/2": {"title": "Creating Package", "status": "success", "stats": null, "error_log": ["broken once"]}}',
	'2018-02-20 00:00:00', '2018-02-20 00:00:00');
-- A flow that is under way.
INSERT INTO dataset_revision VALUES ('me/data/3', 'me/data', 3, 'running', '[]', NULL, NULL, NULL, '2018-07-20 00:00:00.000001', '2018-07-20 00:00:00.000001');
INSERT INTO pipelines VALUES ('me/data/3', 'me/data/3', 'Creating Package', '{"dependencies": [{"pipeline": "./me/data/3/a"}]}', 'pending', NULL, NULL, NULL, '2018-07-20 00:00:00', '2018-07-20 00:00:00');
INSERT INTO pipelines VALUES ('me/data/3/a', 'me/data/3', 'A', '{"dependencies": []}', 'running', 'null', 'null', 'null', '2018-07-20 00:00:00', '2018-07-20 00:00:00');

-- An upload that failed in the middle: a dataset without a revision, ...
INSERT INTO dataset VALUES ('me/empty', 'me', 'null', '2018-03-01 00:00:00', '2018-03-01 00:00:00', NULL);
-- ... and one with a revision that has no pipelines and waits for ever.
INSERT INTO dataset VALUES ('you/stuck', 'you', NULL, '2018-03-01 00:00:00', NULL, NULL);
INSERT INTO dataset_revision VALUES ('you/stuck/1', 'you/stuck', 1, 'pending', NULL, NULL, NULL, NULL, '2018-03-01 00:00:00', '2018-03-01 00:00:00');

-- A cascade that ended a flow lost the pipeline that had failed.
INSERT INTO dataset VALUES ('you/cascade', 'you', '{"meta": {"findability": "unlisted"}}', '2018-03-01 00:00:00', '2018-03-01 00:00:00', NULL);
INSERT INTO dataset_revision VALUES ('you/cascade/1', 'you/cascade', 1, 'failed', '["Dependency unsuccessful. Cannot run until dependency \"you/cascade/1/a\" is successfullyexecuted"]', NULL, NULL,
	'{"you/cascade/1": {"title": "Creating Package", "status": "failed", "stats": null, "error_log": ["Dependency unsuccessful. Cannot run until dependency \"you/cascade/1/a\" is successfullyexecuted"]}}',
	'2018-03-01 00:00:00', '2018-03-01 00:00:00');
INSERT INTO pipelines VALUES ('you/cascade/1/a', 'you/cascade/1', 'A', NULL, 'failed', '["row 7 is broken"]', NULL, NULL, '2018-03-01 00:00:00', '2018-03-01 00:00:00');
INSERT INTO pipelines VALUES ('you/cascade/1/b', 'you/cascade/1', 'B', 'null', 'pending', NULL, NULL, NULL, '2018-03-01 00:00:00', '2018-03-01 00:00:00');

-- All of the flow's pipelines have ended, and nobody told the revision.
INSERT INTO dataset VALUES ('you/lost', 'you', '{"meta": {}, "x": NaN}', '2018-03-01 00:00:00', '2018-03-01 00:00:00', NULL);
INSERT INTO dataset_revision VALUES ('you/lost/1', 'you/lost', 1, 'running', NULL, NULL, NULL, NULL, '2018-03-01 00:00:00', '2018-03-02 00:00:00');
INSERT INTO pipelines VALUES ('you/lost/1', 'you/lost/1', 'Creating Package', 'not JSON', 'success', NULL, '{"bytes": 7}', NULL, '2018-03-01 00:00:00', '2018-03-02 00:00:00');

-- Rows of nobody.
INSERT INTO dataset_revision VALUES ('gone/gone/1', 'gone/gone', 1, 'pending', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO pipelines VALUES ('gone/gone/1/a', 'gone/gone/1', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO dataset VALUES ('None', NULL, '{"meta": {"dataset": null}}', NULL, NULL, NULL);
