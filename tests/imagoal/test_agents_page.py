"""docs/agents.md is what the agents say of themselves."""

from pathlib import Path

from agents.registry import AGENTS
from imagoal.agents_page import page, row

ROOT = Path(__file__).parents[2]


def test_the_page_in_docs_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "agents.md").read_text() == page() + "\n", "run: make docs"


def test_every_agent_has_its_own_card_and_file() -> None:
    rows = [row(name, agent) for name, (agent, _) in AGENTS.items()]
    assert all(agent.__dict__["card"].source for agent, _ in AGENTS.values()), "a card of its own, not its base's"
    assert len(set(rows)) == len(AGENTS) and all(f"[{name}.py](../agents/{name}.py)" in text for name, text in zip(AGENTS, rows, strict=True))
