"""Serves the dashboard and the API of datapackage-pipelines.

Like ``dpp serve``, on an address of one's choice, and with the route ``api/refresh``
also where the version has none (2.1 and later).
"""
import argparse
import os


def add_refresh(app, prefix='/', update=None):
    """Adds ``GET <prefix>api/refresh`` to a Flask application unless it is there.

    The answer says that an update was put in the queue, and nothing of its outcome.
    """
    rule = prefix.rstrip('/') + '/api/refresh'
    if any(r.rule == rule for r in app.url_map.iter_rules()):
        return False
    if update is None:
        from datapackage_pipelines.celery_tasks.celery_tasks import execute_update_pipelines as update

    def refresh():
        update()
        return app.response_class('{"ok": true}', mimetype='application/json')

    app.add_url_rule(rule, 'specstore_refresh', guarded(refresh), methods=['GET'])
    return True


def guarded(view):
    """Asks for the password that the dashboard asks for, if it does."""
    try:
        from datapackage_pipelines.web.server import basic_auth_required
    except ImportError:  # before 1.7
        return view
    return basic_auth_required(view)


def main():
    parser = argparse.ArgumentParser(prog='python -m datapackage_pipelines_specstore.serve', description=__doc__)
    parser.add_argument('--host', default='127.0.0.1')
    parser.add_argument('--port', type=int, default=5000)
    args = parser.parse_args()

    from datapackage_pipelines.web import app
    add_refresh(app, os.environ.get('DPP_BASE_PATH', '/'))
    app.run(host=args.host, port=args.port, threaded=True, debug=False, use_reloader=False)


if __name__ == '__main__':
    main()
