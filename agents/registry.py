"""The agents by name, each with its config."""

from agents.agent import Agent
from agents.awac import AWAC, AWACConfig
from agents.bc import BC, BCConfig
from agents.iql import IQL, IQLConfig
from agents.td3 import TD3, TD3Config
from agents.td3_bc import TD3BC, TD3BCConfig

AGENTS: dict[str, tuple[type[Agent], type]] = {
    "iql": (IQL, IQLConfig),
    "awac": (AWAC, AWACConfig),
    "td3": (TD3, TD3Config),
    "td3_bc": (TD3BC, TD3BCConfig),
    "bc": (BC, BCConfig),
}
