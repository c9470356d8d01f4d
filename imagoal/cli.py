"""The command line: `imagoal JOB key=value ...`.

Only this file and `imagoal.help` decide what is printed around a job. A job is `imagoal/jobs/JOB.py` with `main(config) -> None`; it is
imported when it runs, so that help and mistakes answer at once.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from imagoal import __version__
from imagoal.config import JOBS, JobConfig
from imagoal.errors import UserError, disk_full, nearest

HELP = {"-h", "--help", "help"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 2 a mistake one line explains, 130 stopped by Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return run(words)
    except UserError as error:
        say_error(str(error))
        return 2
    except BrokenPipeError:  # `imagoal --help | head`
        sys.stderr.close()
        return 0


def run(words: list[str]) -> int:
    """Dispatch: help, version, or a job."""
    from imagoal.help import job_help, overview

    if not words or words[0] in HELP:
        print(job_help(words[1]) if len(words) > 1 and words[1] in JOBS else overview())
        return 0
    job, *overrides = words
    if job in ("--version", "version"):
        print(f"imagoal {__version__}")
        return 0
    if job not in JOBS:
        raise UserError(f"unknown job '{job}'{nearest(job, JOBS)} See: imagoal --help")
    if HELP & set(overrides):
        print(job_help(job, overrides))
        return 0
    from imagoal.compose import load

    return dispatch(job, load(job, overrides))


def dispatch(job: str, config: JobConfig) -> int:
    """Import imagoal.jobs.JOB and run its `main(config)`; turn the ways a run ends into words and an exit code.

    Raises UserError, also for a full disk.
    """
    from imagoal.memory import flush_tiny_numbers, keep_freed_memory
    from imagoal.run import use_threads

    use_threads(config.threads)
    keep_freed_memory()
    again = f"imagoal {job} run={config.run} resume=true" if JOBS[job].makes_run else f"imagoal {job}"
    try:
        module = importlib.import_module(f"imagoal.jobs.{job}")
        flush_tiny_numbers()
        module.main(config)
    except KeyboardInterrupt:
        say_error(f"stopped; continue with: {again}")
        return 130
    except FloatingPointError as error:
        raise UserError(f"{error} Settings cannot change within a run, so start another run=FOLDER; the checkpoints of this one stay in {config.run}.") from error
    except Exception as error:
        if is_render_error(error):
            raise UserError(str(error)) from error
        full = disk_full(error)
        if full is None:
            raise
        where = full.filename or config.run
        raise UserError(f"the disk is full ({where}). The last checkpoint is whole; free some space, then: {again}") from error
    return 0


def is_render_error(error: Exception) -> bool:
    """Whether envs says that this machine cannot render (asked without importing envs)."""
    render = sys.modules.get("envs.render")
    return render is not None and isinstance(error, render.RenderError)


def say_error(text: str) -> None:
    """One line on stderr, red on a terminal."""
    red, plain = ("\033[31m", "\033[0m") if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"{red}imagoal: {text}{plain}", file=sys.stderr)
