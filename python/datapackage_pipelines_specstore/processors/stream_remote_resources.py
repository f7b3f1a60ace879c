import sys

from datapackage_pipelines_assembler import run

if __name__ == '__main__':
    sys.exit(run('stream_remote_resources'))
