"""The agents by name, each with its config."""

from agents.agent import Agent
from agents.awac import AWAC, AWACConfig
from agents.awr import AWR, AWRConfig
from agents.bc import BC, BCConfig
from agents.bcq import BCQ, BCQConfig
from agents.bear import BEAR, BEARConfig
from agents.brac import BRAC, BRACConfig
from agents.cql import CQL, CQLConfig
from agents.ddpg import DDPG, DDPGConfig
from agents.iql import IQL, IQLConfig
from agents.one_step import OneStep, OneStepConfig
from agents.sac import SAC, SACConfig
from agents.td3 import TD3, TD3Config
from agents.td3_bc import TD3BC, TD3BCConfig

AGENTS: dict[str, tuple[type[Agent], type]] = {
    "iql": (IQL, IQLConfig),
    "awac": (AWAC, AWACConfig),
    "awr": (AWR, AWRConfig),
    "one_step": (OneStep, OneStepConfig),
    "td3": (TD3, TD3Config),
    "td3_bc": (TD3BC, TD3BCConfig),
    "ddpg": (DDPG, DDPGConfig),
    "sac": (SAC, SACConfig),
    "cql": (CQL, CQLConfig),
    "brac": (BRAC, BRACConfig),
    "bear": (BEAR, BEARConfig),
    "bcq": (BCQ, BCQConfig),
    "bc": (BC, BCConfig),
}
