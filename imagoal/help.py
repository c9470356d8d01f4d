"""`imagoal --help` and `imagoal JOB --help`: pages written from the jobs' dataclasses and the group files. Imports no torch, no Hydra."""

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import get_type_hints

import yaml

from imagoal import __version__, compose
from imagoal.config import JOBS, JobConfig
from imagoal.errors import UserError, nearest
from imagoal.typed import type_words

WIDTH = 110
OVERVIEW = """
imagoal {version}: pictures into goals, goals into skills.

From images it learns latent states, imagines the goals a scene affords, practises reaching them without
supervision, and strings subgoals together for long tasks.

usage: imagoal JOB key=value ...          imagoal JOB --help

{jobs}

The way through, each line a run folder the next one reads:
  imagoal collect episodes=500 run=runs/data
  imagoal train data=runs/data run=runs/model
  imagoal pretrain data=runs/data model=runs/model run=runs/policy
  imagoal practice policy=runs/policy scene=held_out/0 run=runs/practice
  imagoal evaluate policy=runs/practice scene=held_out/0
  imagoal report runs/practice

Or all of it in minutes: imagoal demo. Your own pictures: imagoal train data=FOLDER.

keys and values
  key=value       one setting, as `imagoal JOB --help` lists them
  agent=iql       the file configs/agent/iql.yaml; groups are env, vision, goals, agent, planner
  agent.tau=0.9   one value of the chosen file
  experiment=NAME the settings configs/experiment/NAME.yaml has for this job
  run=FOLDER      where the job writes: config.yaml, metrics.csv, checkpoints, films, report.html
  resume=true     continue the run in that folder after it was stopped, killed or ran out of disk
"""


def overview() -> str:
    """The page of `imagoal --help`."""
    jobs = "\n".join(f"  {name:<11}{job.summary}" for name, job in JOBS.items())
    return OVERVIEW.format(version=__version__, jobs=jobs).strip("\n")


def job_help(job: str, chosen: Sequence[str] = ()) -> str:
    """The page of `imagoal JOB --help`: what it does, examples, every key with type, default and meaning, and the group files.

    chosen: `agent=iql` words typed beside `--help`; the keys of those files are shown too.
    """
    spec = JOBS[job]
    hints = get_type_hints(spec.config)
    own_keys: list[str] = []
    common: list[str] = []
    for field in dataclasses.fields(spec.config):
        everywhere = field.name in JobConfig.__dataclass_fields__
        (common if everywhere and not field.metadata.get("required") else own_keys).append(entry(field, hints[field.name]))
    usage = f"imagoal {job}" + (f" {spec.positional.upper()}" if spec.positional else "") + " key=value ..."
    parts = [f"usage: {usage}", *textwrap.wrap(spec.config.__doc__ or "", WIDTH), ""]
    parts += ["examples", *(f"  {line}" for line in spec.examples), ""]
    parts += (["keys", *own_keys, ""] if own_keys else []) + ["keys every job has", *common]
    for name, group in spec.groups.items():
        parts += ["", f"{name}=... (the keys of one: imagoal {job} {name}=NAME --help)", *group_lines(group)]
        parts += [line for word in chosen if word.startswith(f"{name}=") for line in file_lines(group, word.split("=", 1)[1])]
    return "\n".join(parts)


def entry(field: dataclasses.Field, annotation: object) -> str:  # type: ignore[type-arg]
    """One key's lines: `name=default`, the type or choices, the help."""
    meta = field.metadata
    if "group" in meta or "owner" in meta:
        head, kind = (f"{field.name}=..." if "group" in meta else f"{meta['inside']}.{field.name}.KEY=...".lstrip(".")), ""
    else:
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        head = f"{field.name}={'...' if meta.get('required') else default}"
        kind = " | ".join(meta.get("choices") or ()) or type_words(annotation)
    note = meta.get("help", "") + (f"  [{kind}]" if kind else "") + ("  (required)" if meta.get("required") else "")
    lines = textwrap.wrap(note, WIDTH - 30) or [""]
    if len(head) > 26:
        return "\n".join([f"  {head}", *(" " * 30 + line for line in lines)])
    return "\n".join([f"  {head:<28}{lines[0]}", *(" " * 30 + line for line in lines[1:])])


def group_lines(group: str) -> list[str]:
    """The files of a group with what their first comment says."""
    lines = []
    for name, about in compose.options(group).items():
        first, *rest = textwrap.wrap(about, WIDTH - 18) or [""]
        lines += [f"  {name:<16}{first}".rstrip(), *(" " * 18 + line for line in rest)]
    return lines


def file_lines(group: str, name: str) -> list[str]:
    """The keys and values of one file of a group, as they would be typed. Raises UserError where there is no such file."""
    known = compose.options(group)
    if name not in known:
        raise UserError(f"unknown {group} '{name}'{nearest(name, known)}")
    values = yaml.safe_load((compose.CONFIGS / group / f"{name}.yaml").read_text())
    return ["", f"{group}={name} sets", *(f"  {key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in compose.leaves(group, values) if not key.endswith(".name"))]
