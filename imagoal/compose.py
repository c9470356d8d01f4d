"""From `key=value ...` to a job's dataclass. Hydra chooses and merges the group files; everything behind this module is plain dataclasses.

In order, later ones winning: the owners' defaults, the group files (configs/GROUP/NAME.yaml), configs/job/JOB.yaml, the job's section
of configs/experiment/NAME.yaml (`experiment=NAME`), what is typed. With `run=FOLDER resume=true` the folder's own config.yaml comes
first, so that a resumed run needs no other key.
"""

import dataclasses
import importlib
import json
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from imagoal.config import JOBS, JobConfig
from imagoal.errors import UserError, nearest
from imagoal.typed import build, convert, plain, unknown_key

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

# Which dataclass reads a group's file, by the file's `name:`; the first is meant where the file names none.
GROUPS: dict[str, dict[str, str]] = {
    "env": {"tabletop": "imagoal.config:EnvConfig"},
    "vision": {
        "vqvae": "vision.vqvae:VQVAEConfig",
        "fsq": "vision.fsq:FSQConfig",
        "ae": "vision.autoencoder:AutoencoderConfig",
        "vae": "vision.vae:VAEConfig",
        "cvae": "vision.cvae:CVAEConfig",
        "ccvae": "vision.ccvae:CCVAEConfig",
        "dsae": "vision.dsae:DSAEConfig",
        "bigan": "vision.bigan:BiGANConfig",
        "cbigan": "vision.cbigan:CBiGANConfig",
        "timm": "vision.pretrained:PretrainedConfig",
    },
    "goals": {"goals": "goals.relabel:GoalsConfig"},
    "agent": {
        "iql": "agents.iql:IQLConfig",
        "awac": "agents.awac:AWACConfig",
        "td3": "agents.td3:TD3Config",
        "td3_bc": "agents.td3_bc:TD3BCConfig",
        "awr": "agents.awr:AWRConfig",
        "one_step": "agents.one_step:OneStepConfig",
        "ddpg": "agents.ddpg:DDPGConfig",
        "sac": "agents.sac:SACConfig",
        "cql": "agents.cql:CQLConfig",
        "brac": "agents.brac:BRACConfig",
        "bear": "agents.bear:BEARConfig",
        "bcq": "agents.bcq:BCQConfig",
        "bc": "agents.bc:BCConfig",
    },
    "planner": {"ptp": "planning.planner:PlannerConfig"},
}


def load(job: str, overrides: Sequence[str] = ()) -> Any:
    """The job's dataclass, filled and typed; `run` is always set.

    overrides: `key=value` texts; a word without `=` fills the job's positional key. `agent=iql` chooses a group's file.
    Raises UserError (one line, naming the nearest right word) for an unknown job, key, group file or experiment, and for a wrong value.
    """
    spec = JOBS.get(job)
    if spec is None:
        raise UserError(f"unknown job '{job}'{nearest(job, JOBS)} See: imagoal --help")
    help_line = f"See: imagoal {job} --help"
    typed = list(split(overrides, spec.positional, help_line))
    experiment = next((value for name, value in typed if name == "experiment"), "")
    given = list(section(experiment, job)) + [(name, value) for name, value in typed if name != "experiment"]
    chosen = {name: str(value) for name, value in given if name in spec.groups and isinstance(value, str)}
    tree = stored(job, dict(typed), help_line)
    if tree is None:
        tree = composed(job, chosen)
    elif chosen:
        tree |= {name: node for name, node in composed(job, chosen).items() if name in chosen}
    for name, value in given:
        if name not in chosen:
            assign(tree, name, value, spec.config, help_line)
    config: JobConfig = build(spec.config, with_owners(tree, spec.config, help_line), "", help_line)
    require(config, job, help_line)
    if spec.makes_run and not config.run:
        config.run = default_run(job)
    return config


def split(overrides: Sequence[str], positional: str, help_line: str) -> Iterator[tuple[str, str]]:
    """(key, text) pairs of `key=value` arguments, `~/` being the home folder; names the right form of `--key value`. Several words
    without `=` are one list."""
    bare = [text for text in overrides if "=" not in text and not text.startswith("-")]
    if positional and len(bare) > 1:
        yield positional, ",".join(os.path.expanduser(text) for text in bare)
        overrides = [text for text in overrides if text not in bare]
    for text in overrides:
        name, equals, value = text.partition("=")
        if name.startswith("-"):
            typed = name.lstrip("-").replace("-", "_")
            raise UserError(f"'{text}': options are written key=value, for example {typed}={value or '...'}. {help_line}")
        if not equals:
            if not positional:
                raise UserError(f"'{text}' has no value: options are written key=value. {help_line}")
            name, value = positional, text
        yield name.lstrip("+").strip(), os.path.expanduser(value) if value.startswith("~/") else value


def section(experiment: str, job: str) -> Iterator[tuple[str, Any]]:
    """The (key, value) pairs an experiment's file sets for a job; nested keys may be written dotted or indented."""
    if not experiment:
        return

    for name, node in (read_experiment(experiment).get(job) or {}).items():
        yield from leaves(name, node)


def read_experiment(name: str) -> dict[str, Any]:
    """configs/experiment/NAME.yaml as plain values. Raises UserError naming the nearest where there is none."""
    path = CONFIGS / "experiment" / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"unknown experiment '{name}'{nearest(name, options('experiment'))}")
    return yaml.safe_load(path.read_text()) or {}


def options(group: str) -> dict[str, str]:
    """The files of a group: name -> its first comment line."""
    found = {}
    for path in sorted((CONFIGS / group).glob("*.yaml")):
        first = next((line for line in path.read_text().splitlines() if not line.startswith("# @")), "")
        found[path.stem] = first.lstrip("# ").strip() if first.startswith("#") else ""
    return found


def composed(job: str, chosen: dict[str, str]) -> dict[str, Any]:
    """Hydra's merge of configs/job/JOB.yaml with the chosen group files, as plain values."""
    for name, choice in chosen.items():
        known = options(name)
        if choice not in known:
            raise UserError(f"unknown {name} '{choice}'{nearest(choice, known)} See: imagoal {job} --help")
    from hydra import compose, initialize_config_dir  # imported late: `--help` stays quick
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        tree = OmegaConf.to_object(compose(f"job/{job}", overrides=[f"{name}={choice}" for name, choice in chosen.items()]))
    assert isinstance(tree, dict)
    return {str(name): value for name, value in tree.items()}


def stored(job: str, given: dict[str, str], help_line: str) -> dict[str, Any] | None:
    """The config.yaml of the run that `run=FOLDER resume=true` continues; None for a fresh run."""
    if not given.get("run") or not convert(given.get("resume", "false"), bool, "resume", help_line):
        return None
    path = Path(given["run"]).expanduser() / "config.yaml"
    if not path.is_file():
        raise UserError(f"nothing to resume: there is no {path}. Leave out resume=true to start there.")
    values = yaml.safe_load(path.read_text())
    if values.get("job") != job:
        raise UserError(f"{given['run']} holds a run of {values.get('job')}: imagoal {values.get('job')} run={given['run']} resume=true")
    return {name: value for name, value in values.items() if name != "job"}


def assign(tree: dict[str, Any], name: str, value: Any, owner: type[JobConfig], help_line: str) -> None:
    """Set a dotted key. Existence of the last part is checked later, by the owner's dataclass."""
    *path, last = name.split(".")
    top = (path or [last])[0]
    known = {f.name: f for f in dataclasses.fields(owner)}
    if top not in known:
        raise unknown_key(name, top, known, "", help_line)
    if inside := known[top].metadata.get("inside"):  # `prior.layers` is `vision.prior.layers`
        path = [inside, *path]
    node = tree
    for part in path:
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            raise UserError(f"'{name}': {part} is a single value and has no '{last}'. {help_line}")
    node[last] = value


def with_owners(tree: dict[str, Any], config: type[JobConfig], help_line: str) -> dict[str, Any]:
    """The tree with every group's node turned into its owner's dataclass."""
    result = dict(tree)
    for field in dataclasses.fields(config):
        if inside := field.metadata.get("inside"):
            result[inside] = dict(result.get(inside) or {})
            block = result[inside].pop(field.name, None) or {}
            result[field.name] = {**expect_block(result.get(field.name) or {}, f"{inside}.{field.name}", help_line), **expect_block(block, f"{inside}.{field.name}", help_line)}
    for field in dataclasses.fields(config):
        group, owner, inside = (field.metadata.get(name) for name in ("group", "owner", "inside"))
        if group or owner:
            where = f"{inside}.{field.name}" if inside else field.name
            result[field.name] = own(group, owner, dict(expect_block(result.get(field.name) or {}, where, help_line)), where, help_line)
    return result


def expect_block(block: Any, where: str, help_line: str) -> dict[str, Any]:
    """A block of settings, or the UserError saying that a single value cannot stand there."""
    if not isinstance(block, dict):
        raise UserError(f"{where}={block}: this is a block of settings; set one of them, {where}.KEY=VALUE. {help_line}")
    return block


def own(group: str | None, owner: str | None, node: dict[str, Any], where: str, help_line: str) -> Any:
    """One node as its owner's dataclass; the node's `name:` says which owner of the group."""
    if owner is None:
        owners = GROUPS[group or ""]
        name = str(node.pop("name", None) or next(iter(owners)))
        if len(owners) == 1:  # the files of such a group are settings of one thing, whatever they are called
            name = next(iter(owners))
        if name not in owners:
            raise UserError(f"{where}.name={name} is unknown{nearest(name, owners)} {help_line}")
        owner = owners[name]
    return build(import_name(owner), node, where, help_line)


def import_name(text: str) -> type:
    """`module:Class` -> the class."""
    module, _, name = text.partition(":")
    found: type = getattr(importlib.import_module(module), name)
    return found


def name_of(group: str, config: Any) -> str:
    """The name under which a group knows this dataclass: 'iql' for an `agents.iql.IQLConfig`."""
    kind = f"{type(config).__module__}:{type(config).__qualname__}"
    return next(name for name, owner in GROUPS[group].items() if owner == kind)


def to_plain(config: JobConfig) -> dict[str, Any]:
    """A job's dataclass as plain YAML values, from which `load` (with resume) builds it again."""
    values: dict[str, Any] = plain(config)
    for field in dataclasses.fields(config):
        group, node = field.metadata.get("group"), getattr(config, field.name)
        if group and node is not None:
            values[field.name] = {"name": name_of(group, node), **values[field.name]}
    return values


def command(job: str, config: JobConfig) -> str:
    """What to type for the same again: the choices of groups, and the keys whose values are others than without them. Where a run was kept and on what it was
    computed are left out."""
    spec, values = JOBS[job], to_plain(config)
    needed = [f"{f.name}={as_typed(values[f.name])}" for f in dataclasses.fields(config) if f.metadata.get("required")]
    plainest = to_plain(load(job, [*needed, "run=-"]))
    chosen = [f"{name}={values[name]['name']}" for name in spec.groups if (values[name] or {}).get("name") != (plainest[name] or {}).get("name")]
    without = dict(leaves("", to_plain(load(job, [*needed, *chosen, "run=-"]))))
    free = {f.name for f in dataclasses.fields(config) if f.metadata.get("free")}
    told = [f"{name}={as_typed(value)}" for name, value in leaves("", values) if name.split(".")[0] not in free and without.get(name) != value]
    return shlex.join(["imagoal", job, *needed, *chosen, *told])


def leaves(prefix: str, node: Any) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) pairs of nested blocks."""
    if not isinstance(node, dict):
        yield prefix, node
        return
    for name, value in node.items():
        yield from leaves(f"{prefix}.{name}" if prefix else str(name), value)


def as_typed(value: Any) -> str:
    """A plain value as it is typed behind `key=`."""
    if isinstance(value, list):
        return f"[{','.join(json.dumps(v, ensure_ascii=False) if isinstance(v, str) and not bare(v) else as_typed(v) for v in value)}]"
    return json.dumps(value) if isinstance(value, bool | int | float) or value is None else str(value)


def bare(text: str) -> bool:
    """Whether a text means itself in a list without quotation marks."""
    try:
        return bool(yaml.safe_load(f"[{text}]") == [text])
    except yaml.YAMLError:
        return False


def require(config: JobConfig, job: str, help_line: str) -> None:
    """Raise UserError for the first required key left empty."""
    for field in dataclasses.fields(config):
        if field.metadata.get("required") and not getattr(config, field.name):
            raise UserError(f"{job} needs {field.name}=...: {field.metadata['help']}. {help_line}")


def default_run(job: str) -> str:
    """runs/JOB-YYYYmmdd-HHMMSS, with a number behind it where two start within a second."""
    base = f"runs/{job}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (base if i == 1 else f"{base}-{i}" for i in range(1, 1000))
    return next(name for name in names if not Path(name).exists())
