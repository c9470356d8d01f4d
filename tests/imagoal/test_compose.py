"""From command-line words to a job's dataclass."""

import dataclasses
import shlex
from pathlib import Path

import pytest
import yaml

from imagoal import compose
from imagoal.compose import GROUPS, command, import_name, load, name_of, options, to_plain
from imagoal.config import JOBS, EnvConfig
from imagoal.errors import UserError


def message(job: str, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load(job, list(overrides))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_values_groups_and_defaults() -> None:
    config = load("collect", ["episodes=12", "env=tabletop", "env.image_size=64", "expert_share=1e-1"])
    assert (config.episodes, config.expert_share, config.env) == (12, 0.1, EnvConfig(image_size=64))
    assert config.run.startswith("runs/collect-") and config.seed == 0


def test_a_block_inside_a_group_becomes_its_owners_dataclass() -> None:
    config = load("train", ["data=pictures", "vision=vqvae_small", "vision.prior.layers=3", "vision.learning_rate=5e-4"])
    assert config.prior.layers == 3 and config.vision.learning_rate == 5e-4
    assert name_of("vision", config.vision) == "vqvae"


@pytest.mark.parametrize("key", ["prior.temperature", "vision.prior.temperature"])
def test_such_a_block_is_set_with_its_groups_name_or_without(key: str, tmp_path: Path) -> None:
    """The group's file sets it too: what is typed wins, and again in a resumed run."""
    config = load("train", ["data=pictures", "vision=vqvae_small", f"{key}=0.9", f"run={tmp_path}"])
    assert config.prior.temperature == 0.9 and config.prior.layers == 3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"job": "train", **to_plain(config)}))
    resumed = load("train", [f"run={tmp_path}", "resume=true"])
    assert resumed.prior.temperature == 0.9
    assert load("train", [f"run={tmp_path}", "resume=true", f"{key}=0.7"]).prior.temperature == 0.7


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["practice", "epsiodes=5"], "unknown key 'epsiodes'; did you mean 'episodes'? See: imagoal practice --help"),
        (["practice"], "practice needs policy=...:"),
        (["practice", "policy=x", "goal_source=afordance"], "did you mean 'affordance'?"),
        (["pratice"], "unknown job 'pratice'; did you mean 'practice'?"),
        (["collect", "env=tabeltop"], "unknown env 'tabeltop'; did you mean 'tabletop'?"),
        (["collect", "env.imag_size=3"], "unknown key 'env.imag_size'; did you mean 'env.image_size'?"),
        (["collect", "episodes=many"], "episodes=many: expected a whole number, got 'many'."),
        (["collect", "episodes=-3"], "episodes=-3: must be at least 1."),
        (["collect", "episodes.x=3"], "episodes"),
        (["collect", "env.image_size.x=3"], "image_size"),
        (["collect", "--episodes=5"], "options are written key=value, for example episodes=5."),
        (["collect", "5"], "'5' has no value"),
        (["train", "data=x", "vision.prior=3"], "this is a block of settings"),
        (["train", "data=x", "vision=vqvea"], "unknown vision 'vqvea'; did you mean 'vqvae"),
        (["collect", "experiment=nothing_like_it"], "unknown experiment 'nothing_like_it'"),
        (["collect", "run=/no/such/folder", "resume=true"], "nothing to resume"),
        (["collect", "device=gpu"], "device=gpu is not a choice"),
    ],
)
def test_mistakes_name_the_nearest_right_word(words: list[str], line: str) -> None:
    assert line in message(*words)


def test_a_positional_word_fills_its_key() -> None:
    assert load("experiment", ["demo", "seeds=5"]).name == "demo"
    assert load("report", ["runs/x"]).run == "runs/x"


def test_text_values_may_hold_anything() -> None:
    assert load("report", ["run=a=b,(c) [d] 'e'"]).run == "a=b,(c) [d] 'e'"


def test_the_home_folder_and_another_jobs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("report", ["~/runs/x"]).run == f"{tmp_path}/runs/x"
    (tmp_path / "config.yaml").write_text("job: train\ndata: x\n")
    assert "holds a run of train: imagoal train run=" in message("collect", f"run={tmp_path}", "resume=true")


def test_an_experiment_sets_a_jobs_keys_and_the_command_line_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for group in ("job", "env"):
        (tmp_path / group).symlink_to(compose.CONFIGS / group)
    (tmp_path / "experiment").mkdir()
    tiny = "collect:\n  episodes: 7\n  scenes: 2\n  env.image_size: 64\n  expert_share: 1\ntrain:\n  vision: vqvae_small\n"
    (tmp_path / "experiment" / "tiny.yaml").write_text(tiny)
    monkeypatch.setattr(compose, "CONFIGS", tmp_path)
    config = load("collect", ["experiment=tiny", "scenes=3"])
    assert (config.episodes, config.scenes, config.env.image_size, config.expert_share) == (7, 3, 64, 1.0)
    assert "did you mean 'tiny'?" in message("collect", "experiment=tinny")


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_every_file_of_every_group_fits_its_owner(group: str) -> None:
    job = next(name for name, spec in JOBS.items() if group in spec.groups.values())
    needed = [f"{k}=x" for k, f in JOBS[job].config.__dataclass_fields__.items() if f.metadata.get("required")]
    assert options(group), f"configs/{group} is empty"
    for name, about in options(group).items():
        config = load(job, [*needed, f"{group}={name}"])
        assert type(getattr(config, group)) in [import_name(owner) for owner in GROUPS[group].values()]
        assert about, f"configs/{group}/{name}.yaml should begin with a comment that says what it is"


@pytest.mark.parametrize("job", sorted(JOBS))
def test_a_config_written_to_yaml_and_read_back_is_the_same(job: str, tmp_path: Path) -> None:
    needed = [f"{k}=x" for k, f in JOBS[job].config.__dataclass_fields__.items() if f.metadata.get("required")]
    config = load(job, [*needed, f"run={tmp_path}", "seed=3"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"job": job, **to_plain(config)}))
    config.resume = True
    assert load(job, [f"run={tmp_path}", "resume=true"]) == config


def test_agents_registry_and_groups_agree() -> None:
    from agents.registry import AGENTS

    assert {name: config for name, (_, config) in AGENTS.items()} == {n: import_name(o) for n, o in GROUPS["agent"].items()}


@pytest.mark.parametrize("words", [shlex.split(example, comments=True)[1:] for spec in JOBS.values() for example in spec.examples if "resume=true" not in example])
def test_what_a_page_says_to_type_is_the_same_configuration(words):
    job, *overrides = words
    config = load(job, overrides)
    text = command(job, config)
    again = load(job, shlex.split(text)[2:])
    free = {f.name for f in dataclasses.fields(config) if f.metadata.get("free")}
    assert all(getattr(again, f.name) == getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in free)
    assert text.startswith(f"imagoal {job}") and not (JOBS[job].makes_run and " run=" in text)


def test_what_a_page_says_to_type_names_what_was_chosen_and_no_more():
    config = load("practice", ["policy=a run", "explorers=[b,c]", "noise=false", "goals=mixture", "goals.mixture.original=0.25", "experiment=val", "episodes=300"])
    words = shlex.split(command("practice", config))
    assert {"policy=a run", "explorers=[b,c]", "noise=false", "goals.mixture.original=0.25", "precision=bf16"} <= set(words)
    assert not any(word.startswith(("episodes=", "scene=", "run=", "experiment=")) for word in words)


@pytest.mark.parametrize("runs", [("010", "a"), ("12:30", "b"), ("1_000", "0x10"), ("null", "c"), ("a,b", "c"), ("runs/a[1]", "runs/b"), ("a: b", "c"), ("", "d"), ("a b", "true"), ("it's", 'say "x"')])
def test_what_a_page_says_to_type_keeps_texts_in_lists(runs):
    config = load("compare", ["a", "b"])
    config.runs = runs
    assert load("compare", shlex.split(command("compare", config))[2:]).runs == runs
