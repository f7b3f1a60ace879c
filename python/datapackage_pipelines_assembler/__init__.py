"""The processors ``assembler.*`` of the plans of a specstore.

Each is the program ``specstore step``, which speaks the protocol of processors; this
package makes it fit what datapackage-pipelines gives to a processor and reads of it.
"""
import os
import shutil
import subprocess
import sys
import time

# How datapackage-pipelines knows the first line of an error.
ERROR = 'ERROR   :'
BROKEN = 'the stream ends too early'


def program():
    """The program ``specstore``: ``SPECSTORE_PROGRAM``, else the one on the path."""
    found = os.environ.get('SPECSTORE_PROGRAM') or shutil.which('specstore')
    if not found:
        sys.exit(ERROR + 'The program specstore is not on the path of the pipelines service; '
                 'install it there, or set SPECSTORE_PROGRAM')
    return found


def first_package(stdin):
    """What the first step of a pipeline is given, made whole.

    datapackage-pipelines gives it two lines alone; a package ends with its statistics.
    """
    lines = [stdin.readline(), stdin.readline()]
    return b''.join(line.rstrip(b'\r\n') + b'\n' for line in lines) + b'\n{}\n\n'


def relay(lines, to):
    """Passes on what a step says. An error begins as datapackage-pipelines knows it.

    It gives whether the step failed because the one before it did.
    """
    broken = False
    for line in lines:
        text = line.decode('utf-8', 'replace')
        if text.startswith('specstore: '):
            text = ERROR + text[len('specstore: '):]
        broken = broken or BROKEN in text
        to.write(text)
        to.flush()
    return broken


def run(name, argv=None, stdin=None, stderr=None):
    """Runs a processor with the arguments that datapackage-pipelines gives."""
    argv = sys.argv if argv is None else argv
    stdin = sys.stdin.buffer if stdin is None else stdin
    stderr = sys.stderr if stderr is None else stderr
    first, parameters = argv[1] == '0', argv[2]
    child = subprocess.Popen(
        [program(), 'step', name, '--parameters', parameters],
        stdin=subprocess.PIPE if first else stdin, stderr=subprocess.PIPE,
    )
    if first:
        try:
            child.stdin.write(first_package(stdin))
            child.stdin.close()
        except BrokenPipeError:
            pass  # it failed, and says why
    with child.stderr:
        broken = relay(child.stderr, stderr)
    code = child.wait()
    if code != 0 and broken:
        # The failure that is seen first is the pipeline's: that of the step before.
        time.sleep(2)
    return 1 if code != 0 else 0
