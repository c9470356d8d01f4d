"""What the tests of whole jobs share: running them as a user does, killing them, comparing what they left."""

import json
import os
import signal
import subprocess
import sys
import time

from imagoal.cli import main
from imagoal.run import read_metrics


def run_job(*words, wait=True):
    command = [sys.executable, "-m", "imagoal", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    return (process.communicate()[0], process.returncode) if wait else process


def kill_after_checkpoint(pointer, *words):
    """Starts the job and kills it with SIGKILL as soon as it has written its first checkpoint; it must not have finished."""
    process = run_job(*words, wait=False)
    deadline = time.monotonic() + 120
    while not pointer.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the job ended before it could be killed: make it longer"


def same_outcome(a, b):
    """Equal metrics, row by row, and equal results, but for the time things took."""
    columns = [{k: v for k, v in read_metrics(run).items() if not k.endswith(("images_per_s", "waiting"))} for run in (a, b)]
    assert columns[0] == columns[1]
    results = [json.loads((run / "result.json").read_text()) for run in (a, b)]
    for result in results:
        for name in [name for name in result if name.startswith("seconds")]:
            del result[name]
    assert results[0] == results[1]


def refusal(capsys, *words):
    """What `imagoal WORDS...` says, in this process, when it refuses with exit code 2."""
    capsys.readouterr()
    assert main(list(map(str, words))) == 2
    return "".join(capsys.readouterr())
