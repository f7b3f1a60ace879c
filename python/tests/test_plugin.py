"""Tests of the package. They need datapackage-pipelines for the generator alone:

    python -m unittest discover -s tests -t .
"""
import http.server
import io
import json
import os
import stat
import sys
import tempfile
import threading
import types
import unittest
from unittest import mock

try:
    import datapackage_pipelines.generators  # noqa: F401
except ImportError:  # a stand-in of what the plugin uses of it
    generators = types.ModuleType('datapackage_pipelines.generators')
    generators.GeneratorBase = object
    sys.modules['datapackage_pipelines'] = types.ModuleType('datapackage_pipelines')
    sys.modules['datapackage_pipelines.generators'] = generators

import datapackage_pipelines_assembler as assembler
import datapackage_pipelines_aws as aws
import datapackage_pipelines_specstore as plugin
from datapackage_pipelines_specstore import serve

PLAN = [
    {'id': 'me/ds/1/t_csv', 'details': {
        'hooks': ['http://store/source/update?token=a'], 'title': 'Creating CSV', 'dependencies': [],
        'pipeline': [{'run': 'add_metadata', 'parameters': {'name': 'ds'}, 'attempt': 2}, {'run': 'sort'}],
    }},
    {'id': 'me/ds/1', 'details': {
        'hooks': ['http://store/source/update?token=a'], 'title': 'Creating Package',
        'dependencies': [{'pipeline': './me/ds/1/t_csv'}, {'datapackage': 'http://elsewhere/datapackage.json'}],
        'pipeline': [
            {'run': 'assembler.load_private_resource', 'parameters': {'url': 'dependency://./me/ds/1/t_csv', 'resource': 't_csv'}},
            {'run': 'assembler.load_modified_resources', 'parameters': {'urls': [{'pipeline': './me/ds/1/t_csv'}]}},
            {'run': 'dump.to_path', 'parameters': {'out-path': 'me/ds/1'}},
        ],
    }},
]


class Store(http.server.BaseHTTPRequestHandler):
    """The list of a specstore, and how it may fail."""

    asked, status, body = [], 200, b'[]'

    def do_GET(self):
        Store.asked.append((self.path, self.headers.get('Authorization')))
        self.send_response(Store.status)
        if Store.status == 302:
            self.send_header('Location', 'http://127.0.0.1:1/')
        self.end_headers()
        self.wfile.write(Store.body)

    def log_message(self, *_):
        pass


class TestGenerator(unittest.TestCase):

    def setUp(self):
        self.server = http.server.HTTPServer(('127.0.0.1', 0), Store)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        Store.asked, Store.status, Store.body = [], 200, json.dumps(PLAN).encode()
        plugin.Generator.last = None
        patch = mock.patch.dict(os.environ, {
            'SPECSTORE_SERVER': 'http://127.0.0.1:%d/' % self.server.server_port, 'SPECSTORE_UPDATE_TOKEN': 'secret',
        })
        patch.start()
        self.addCleanup(patch.stop)
        self.addCleanup(self.thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def test_lists_with_the_token(self):
        ids = [i for i, _ in plugin.Generator.generate_pipeline({}, '.')]
        self.assertEqual(ids, ['./me/ds/1/t_csv', './me/ds/1'])
        self.assertEqual(Store.asked, [('/source-pipelines', 'Bearer secret')])

    def test_both_signatures(self):
        for args, first in ((({},), ''), (({}, '.'), './'), (({}, 'sub'), 'sub/')):
            (_, csv), (last_id, last) = plugin.Generator.generate_pipeline(*args)
            self.assertEqual(last_id, first + 'me/ds/1')
            self.assertEqual(last['dependencies'][0], {'pipeline': first + 'me/ds/1/t_csv'})
            self.assertEqual(last['dependencies'][1], {'datapackage': 'http://elsewhere/datapackage.json'})
            final = (first or './') + 'me/ds/1/t_csv'
            self.assertEqual(last['pipeline'][0]['parameters']['url'], 'dependency://' + final)
            self.assertEqual(last['pipeline'][1]['parameters']['urls'], [{'pipeline': final}])
            self.assertEqual(csv['hooks'], PLAN[0]['details']['hooks'])
            self.assertEqual(csv['pipeline'][0]['attempt'], 2)

    def test_processors(self):
        def runs():
            return [s['run'] for _, d in plugin.Generator.generate_pipeline({}, '.') for s in d['pipeline']]
        loads = ['assembler.load_private_resource', 'assembler.load_modified_resources']
        self.assertEqual(runs(), ['specstore.add_metadata', 'sort'] + loads + ['specstore.dump_to_path'])

    def test_every_processor_is_there(self):
        for run in plugin.OWN.values():
            package, name = run.split('.')
            self.assertTrue(os.path.exists(os.path.join(os.path.dirname(plugin.__file__), 'processors', name + '.py')), run)

    def test_the_last_list_stands(self):
        want = list(plugin.Generator.generate_pipeline({}, '.'))
        for status, body in ((503, b''), (200, b'<html>'), (200, b'{}'), (200, b'[{"id":"a"'), (302, b'')):
            Store.status, Store.body = status, body
            with self.assertLogs(level='ERROR') as said:
                self.assertEqual(list(plugin.Generator.generate_pipeline({}, '.')), want)
            self.assertNotIn('secret', ''.join(said.output))

    def test_without_a_list_it_fails(self):
        Store.status = 401
        with self.assertRaises(RuntimeError):
            list(plugin.Generator.generate_pipeline({}, '.'))


class TestRefresh(unittest.TestCase):

    def test_is_added_once(self):
        try:
            import flask
        except ImportError:
            self.skipTest('Flask is not here')
        told = []
        for prefix in ('/', '/dpp/'):
            app = flask.Flask('test')
            self.assertTrue(serve.add_refresh(app, prefix, lambda: told.append(1)))
            self.assertFalse(serve.add_refresh(app, prefix, lambda: told.append(2)))
            answer = app.test_client().get(prefix + 'api/refresh')
            self.assertEqual((answer.status_code, answer.mimetype, json.loads(answer.data.decode())), (200, 'application/json', {'ok': True}))
            self.assertEqual(app.test_client().post(prefix + 'api/refresh').status_code, 405)
        self.assertEqual(told, [1, 1])


PROGRAM = '''#!/bin/sh
printf '%s\\n' "$@" > "$SAID.args"
cat > "$SAID.in"
echo out
echo 'a warning' >&2
[ -z "$FAIL" ] || { printf 'specstore: %s\\n' "$FAIL" >&2; exit 2; }
'''


class TestStep(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.said = os.path.join(self.folder.name, 'said')
        program = os.path.join(self.folder.name, 'specstore')
        with open(program, 'w') as f:
            f.write(PROGRAM)
        os.chmod(program, stat.S_IRWXU)
        patch = mock.patch.dict(os.environ, {'SPECSTORE_PROGRAM': program, 'SAID': self.said, 'FAIL': ''})
        patch.start()
        self.addCleanup(patch.stop)

    def run_step(self, index, text, fail=''):
        source = os.path.join(self.folder.name, 'source')
        with open(source, 'wb') as f:
            f.write(text)
        stderr = io.StringIO()
        with open(source, 'rb') as stdin, mock.patch.dict(os.environ, {'FAIL': fail}), mock.patch('time.sleep') as sleep:
            code = assembler.run('assembler.x', ['step.py', str(index), '{"a": "é"}', 'False', ''], stdin, stderr)
        with open(self.said + '.in', 'rb') as f:
            return code, f.read(), stderr.getvalue(), sleep.called

    def test_passes_parameters_and_rows(self):
        code, got, said, _ = self.run_step(1, b'{}\n{"resources": []}\n\n{}\n\n')
        self.assertEqual((code, got), (0, b'{}\n{"resources": []}\n\n{}\n\n'))
        self.assertEqual(said, 'a warning\n')
        with open(self.said + '.args', encoding='utf-8') as f:
            self.assertEqual(f.read().split('\n')[:4], ['step', 'assembler.x', '--parameters', '{"a": "é"}'])

    def test_the_first_package_is_made_whole(self):
        _, got, _, _ = self.run_step(0, b'{}\n{"name": "_", "resources": []}\n')
        self.assertEqual(got, b'{}\n{"name": "_", "resources": []}\n\n{}\n\n')

    def test_a_failure_is_known_as_one(self):
        code, _, said, slept = self.run_step(1, b'', fail='t.csv: no such file')
        self.assertEqual((code, said, slept), (1, 'a warning\nERROR   :t.csv: no such file\n', False))
        self.assertTrue(self.run_step(1, b'', fail='line 3: the stream ends too early: …')[3])

    def test_without_the_program(self):
        with mock.patch.dict(os.environ, {'SPECSTORE_PROGRAM': '', 'PATH': ''}):
            with self.assertRaises(SystemExit) as e:
                assembler.program()
        self.assertTrue(str(e.exception).startswith('ERROR'))


class Bucket:
    """An object store in memory, two keys a page."""

    def __init__(self):
        self.objects, self.puts = {}, 0

    def put_object(self, Bucket, Key, Body, ContentType, ACL):
        self.objects[Key] = [Body.read(), ContentType, ACL]
        self.puts += 1

    def put_object_acl(self, Bucket, Key, ACL):
        self.objects[Key][2] = ACL

    def list_objects_v2(self, Bucket, Prefix, MaxKeys=2, ContinuationToken=''):
        keys = sorted(k for k in self.objects if k.startswith(Prefix) and k > ContinuationToken)
        page = keys[:MaxKeys]
        return {'Contents': [{'Key': k} for k in page], 'IsTruncated': len(keys) > len(page), 'NextContinuationToken': page[-1] if page else ''}


class TestBucket(unittest.TestCase):

    def test_upload(self):
        s3 = Bucket()
        with tempfile.NamedTemporaryFile() as f:
            f.write(b'a,b\r\n')
            f.flush()
            for key, once in (('d/hash/t.csv', True), ('d/hash/t.csv', True), ('d/datapackage.json', False), ('d/datapackage.json', False)):
                aws.upload(s3, f.name, 'b', key, 'text/csv', 'private', once)
        self.assertEqual(s3.objects['d/hash/t.csv'], [b'a,b\r\n', 'text/csv', 'private'])
        self.assertEqual(s3.puts, 3)

    def test_change_acl(self):
        s3 = Bucket()
        for key in ('me/ds/%d' % i for i in range(5)):
            s3.objects[key] = [b'', '', 'private']
        s3.objects['me/ds2/x'] = [b'', '', 'private']
        self.assertEqual(aws.change_acl(s3, 'b', 'me/ds', 'public-read'), 5)
        self.assertEqual({k for k, v in s3.objects.items() if v[2] == 'private'}, {'me/ds2/x'})


if __name__ == '__main__':
    unittest.main()
