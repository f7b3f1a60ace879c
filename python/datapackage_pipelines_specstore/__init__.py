"""Lists the open pipelines of a specstore to datapackage-pipelines.

datapackage-pipelines imports this module where it finds a file named
``specstore.source-spec.yaml``, and asks ``Generator`` for pipelines on every update.
"""
import json
import logging
import os
import urllib.request

from datapackage_pipelines.generators import GeneratorBase

# Seconds. The list is read by the worker that queues everything.
TIMEOUT = 20
# Bytes. A list that is longer than any real one is refused.
MOST = 1 << 30


class NotRedirected(urllib.request.HTTPRedirectHandler):
    """The token is for the server that was named, and for no other."""

    def redirect_request(self, *_args, **_kwargs):
        return None


def fetch(server, token, timeout=TIMEOUT):
    """Reads the list of a server: ``[{"id": ..., "details": {...}}]``, parents first."""
    request = urllib.request.Request(server.rstrip('/') + '/source-pipelines', headers={
        'Authorization': 'Bearer ' + token, 'Accept': 'application/json',
    })
    with urllib.request.build_opener(NotRedirected).open(request, timeout=timeout) as answer:
        body = answer.read(MOST + 1)
    if len(body) > MOST:
        raise ValueError('the list of pipelines is longer than %d bytes' % MOST)
    pipelines = json.loads(body.decode('utf-8'))
    if not isinstance(pipelines, list):
        raise ValueError('the list of pipelines is no list')
    return [(p['id'], p['details']) for p in pipelines]


def bare(pipeline_id):
    while pipeline_id.startswith('./'):
        pipeline_id = pipeline_id[2:]
    return pipeline_id


def renamed(value, name):
    """Gives every ``dependency://ID`` in parameters the ID that the service uses."""
    scheme = 'dependency://'
    if isinstance(value, str) and value.startswith(scheme):
        return scheme + name(value[len(scheme):])
    if isinstance(value, list):
        return [renamed(v, name) for v in value]
    if isinstance(value, dict):
        return {k: renamed(v, name) for k, v in value.items()}
    return value


# What the plans take from datapackage-pipelines, and what is run in its place. Its own
# dump.to_path cannot be used here: it leaves a datapackage.json that is there as it is,
# and then tells other pipelines of none.
OWN = {
    'add_metadata': 'specstore.add_metadata',
    'add_resource': 'specstore.add_resource',
    'stream_remote_resources': 'specstore.stream_remote_resources',
    'dump.to_path': 'specstore.dump_to_path',
    'dump.to_zip': 'specstore.dump_to_zip',
}


def normal(pipeline_id, details, base=None):
    """Gives a pipeline the IDs that the service uses.

    Before 1.7 the service puts ``./`` in front of the IDs and of the dependencies by
    itself, and passes no base; since then it uses both as they are, and finds at
    ``api/raw`` only those that begin with ``./``. What stands behind ``dependency://``
    is the final ID in all versions.
    """
    def yielded(i):
        return bare(i) if base is None else base + '/' + bare(i)

    def final(i):
        return (base or '.') + '/' + bare(i)

    details = dict(details)
    details['dependencies'] = [
        dict(d, pipeline=yielded(d['pipeline'])) if 'pipeline' in d else d
        for d in details.get('dependencies') or []
    ]
    steps = []
    for step in details.get('pipeline', []):
        step = dict(step)
        if 'run' in step:
            step['run'] = OWN.get(step['run'], step['run'])
        if 'parameters' in step:
            step['parameters'] = renamed(step['parameters'], final)
            if step.get('run') == 'assembler.load_modified_resources':
                step['parameters']['urls'] = [
                    dict(u, pipeline=final(u['pipeline'])) for u in step['parameters'].get('urls', [])
                ]
        steps.append(step)
    details['pipeline'] = steps
    return yielded(pipeline_id), details


class Generator(GeneratorBase):
    """Gives the open pipelines of the specstore at ``SPECSTORE_SERVER``.

    It shows ``SPECSTORE_UPDATE_TOKEN``. While the server does not answer, the last
    list stands: without one every pipeline would be forgotten until the next update.
    """

    last = None  # by process

    @classmethod
    def get_schema(cls):
        return {'$schema': 'http://json-schema.org/draft-04/schema#', 'type': 'object'}

    @classmethod
    def generate_pipeline(cls, source, base=None):
        server = os.environ.get('SPECSTORE_SERVER', 'http://127.0.0.1:8000')
        token = os.environ.get('SPECSTORE_UPDATE_TOKEN', '')
        try:
            Generator.last = fetch(server, token)
        except Exception as e:
            if Generator.last is None:
                raise RuntimeError('the pipelines of %s cannot be listed: %s' % (server, e))
            logging.error('The pipelines of %s cannot be listed, the last list stands: %s', server, e)
        for pipeline_id, details in Generator.last:
            yield normal(pipeline_id, details, base)
