"""Goal-conditioned behaviour cloning: the policy that repeats what reached the goal in the data (GCSL with future goals).

max_pi  E_{(s, a, g) ~ relabeled data}  log pi(a | s, g)
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from agents.agent import Agent, AgentConfig, Card
from agents.operations import gaussian_log_prob
from agents.policies import GaussianPolicy
from goals.batch import Batch


@dataclass
class BCConfig(AgentConfig):
    """Hyper-parameters of behaviour cloning."""

    policy_std: float = 0.15
    """fixed std of the Gaussian policy; 0: learned, one for all states; -1: learned, a network of the state"""


class BC(Agent):
    """Goal-conditioned behaviour cloning. It has no value function."""

    card = Card(
        evaluates="none",
        objective="likelihood of the data's actions",
        behaviour="the policy itself",
        constraint="it is the data's policy",
        source="Ghosh et al. 2021 (goals in hindsight)",
    )
    policy: GaussianPolicy

    def build(self) -> None:
        self.policy = self.gaussian(self.config.policy_std)

    def optimise(self) -> None:
        self.add_optimizer("policy", self.policy, self.config.learning_rate)

    def policy_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """-log pi(a | s, g)."""
        mean, std = self.policy.distribution(b.obs, b.goal)
        loss = -gaussian_log_prob(b.action, mean, std).mean()
        return loss, {"policy_loss": loss.detach(), "mse": (mean - b.action).square().mean().detach()}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step; returns 0-d tensors."""
        self.step += 1
        loss, metrics = self.policy_loss(self.prepare(batch))
        self.descend("policy", loss)
        return metrics
