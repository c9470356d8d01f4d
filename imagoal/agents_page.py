"""docs/agents.md from the agents themselves: `make docs`. Each agent's `card` is a row; files and settings come from the code."""

import inspect
import sys
from dataclasses import fields
from pathlib import Path

from agents.agent import Agent, Card, CriticConfig
from agents.registry import AGENTS
from imagoal.disk import write_atomic

HEADER = """# Agents

Written by `make docs` from `agents/`; do not edit. Every agent is goal-conditioned (with a goal of no numbers it is the ordinary one), has one file, and is chosen by
`agent=NAME` in `imagoal pretrain` and `imagoal rig`. pi* is the improved policy, proportional to the data's times exp(A / lambda). A in "KL(pi* || pi)" is an
advantage; that objective needs actions of the data only, "Q of its action" actions of the policy.

"""
COLUMNS = {"evaluates": "whose Q", "objective": "policy objective", "behaviour": "behaviour model", "constraint": "constraint", "source": "source"}


def page() -> str:
    """The whole page."""
    lines = ["| `agent=` | " + " | ".join(COLUMNS.values()) + " | file |", "| --- " * (len(COLUMNS) + 2) + "|"]
    lines += [row(name, agent) for name, (agent, _) in AGENTS.items()]
    return HEADER + "\n".join(lines) + "\n\n## Settings of its own\n\n" + "\n".join(own(name, config) for name, (_, config) in AGENTS.items())


def row(name: str, agent: type[Agent]) -> str:
    """An agent's line of the table."""
    card: Card = agent.card
    file = Path(inspect.getfile(agent)).name
    cells = [getattr(card, field).replace("||", "\\|\\|") for field in COLUMNS]
    return f"| `{name}` | {' | '.join(cells)} | [{file}](../agents/{file}) |"


def own(name: str, config: type) -> str:
    """What an agent has beyond what all share, with its defaults."""
    shared = {field.name for field in fields(CriticConfig)}
    mine = [f"`{field.name}` {getattr(config(), field.name)!r}".replace("'", "") for field in fields(config) if field.name not in shared]
    return f"- `{name}`: {', '.join(mine) or 'none'}"


def main() -> int:
    """Write docs/agents.md of the repository this is run in."""
    print(f"wrote {write_atomic(Path('docs/agents.md'), (page() + chr(10)).encode())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
