"""Which pixels of a scene's picture show what: ground truth for judging generated pictures. Training never sees it."""

from dataclasses import dataclass
from itertools import product

import mujoco
import numpy as np

from envs.render import Camera
from envs.scenes import KINDS, sample_scene
from envs.simulation import HAND_LIMIT, Simulation

OUTCOMES = np.linspace(0, 1, 9)  # of a thing: between two neighbours it covers hardly a pixel that it covers at neither


@dataclass(frozen=True)
class SceneMasks:
    """Masks of one scene at one size.

    Attributes:
        things: (T, H, W) bool, the pixels of each thing's moving part in the given state.
        background: (H, W) bool, pixels that no thing covers at any outcome: the table and the parts that stand still.
    """

    things: np.ndarray
    background: np.ndarray


def scene_masks(scene: str, state: np.ndarray, image_size: int = 48, kinds: tuple[str, ...] = KINDS) -> SceneMasks:
    """The masks of the scene `train/N` or `held_out/N` in a state (2 + things,). The hand, which is nearly clear, is ignored."""
    simulation = Simulation(sample_scene(scene, kinds))
    camera, data = Camera(simulation.model, image_size), mujoco.MjData(simulation.model)
    model, n = simulation.model, len(simulation.scene.things)
    moving = [int(model.joint(f"q{i}").bodyid[0]) for i in range(n)]
    camera.hide(int(model.body("hand").id))

    def shown(outcomes: np.ndarray) -> np.ndarray:
        simulation.set_state(data, np.concatenate([[HAND_LIMIT, HAND_LIMIT], outcomes]))
        bodies = camera.bodies(data)
        return np.stack([bodies == body for body in moving])

    covered = np.zeros((image_size, image_size), bool)
    for outcomes in product(OUTCOMES, repeat=n):
        covered |= shown(np.array(outcomes)).any(0)
    return SceneMasks(shown(np.asarray(state)[2:]), ~covered)
