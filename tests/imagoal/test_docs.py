"""What the documentation says can be typed, can be typed; what it points at is there."""

import re
from pathlib import Path

import pytest

from imagoal.compose import CONFIGS, load
from imagoal.config import JOBS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE_LATER = {"docs/results.md", "docs/demo.png"}  # by `make docs` and by the demo


def commands():
    for page in PAGES:
        text = page.read_text()
        for line in re.findall(r"(?:^|`)imagoal ([a-z]+ [^`\n]*=[^`\n]*)", text, re.MULTILINE):
            words = line.split()
            if "JOB" not in line and "FOLDER" not in line and "resume=true" not in words and "--help" not in words:
                yield pytest.param(words[0], words[1:], id=f"{page.name}: {line}")


@pytest.mark.parametrize(("job", "words"), list(commands()))
def test_every_command_shown_is_accepted(job, words):
    load(job, words)


def test_every_job_and_every_group_file_is_named():
    usage = (ROOT / "docs" / "usage.md").read_text()
    readme = (ROOT / "README.md").read_text()
    assert all(f"`{job}`" in readme for job in JOBS)
    files = {p.stem for group in ("env", "vision", "goals", "agent", "planner") for p in (CONFIGS / group).glob("*.yaml")}
    assert not {name for name in files if f"`{name}`" not in usage}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        place = (page.parent / target).resolve()
        assert target.startswith("http") or str(place.relative_to(ROOT)) in MADE_LATER or place.exists(), target


def test_files_named_in_architecture_exist():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for room, line in re.findall(r"^\| `(\w+)` \| (`.*) \|$", text, re.MULTILINE):
        if (ROOT / room).is_dir():
            for name in re.findall(r"`(\w+)`", line):
                assert (ROOT / room / f"{name}.py").exists() or (ROOT / room / name).is_dir(), f"{room}/{name}"


def test_the_environment_snippet_of_the_readme_runs():
    snippet = next(s for s in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL) if "gymnasium.make" in s)
    names: dict[str, object] = {}
    exec(snippet, names)
    assert names["observation"]["observation"].shape == (48, 48, 3)


def test_the_planning_snippet_finds_a_way_through_the_maze():
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "planning.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(snippet, names)
    assert names["plan"].subgoals.shape == (1, 6, 2) and names["plan"].values.min() >= -30
