"""PyBullet, imported without its greeting, and its bodies made of boxes."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.scenes import Color


def import_pybullet() -> Any:
    """The module. Raises ValueError where it is not installed."""
    if "pybullet" in sys.modules:
        return sys.modules["pybullet"]
    error_stream, silence = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    sys.stderr.flush()
    os.dup2(silence, 2)  # its C code says when it was built, on every import
    try:
        import pybullet
    except ModuleNotFoundError as error:
        raise ValueError("these scenes need PyBullet: pip install 'imagoal[robotics]'") from error
    finally:
        os.dup2(error_stream, 2)
        os.close(error_stream)
        os.close(silence)
    return pybullet


Box = tuple[Sequence[float], Sequence[float], Color]  # half sizes, centre, colour
UPRIGHT = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Link:
    """Something that slides or turns on another body.

    Attributes: boxes: what it is made of; joint: "slide" or "turn"; axis: of the joint; at: where it is joined, in the frame of `parent` (0: the body
    itself, else the number of a link, from 1); mass: kg; solid: whether things collide with it.
    """

    boxes: Sequence[Box]
    joint: str
    axis: Sequence[float]
    at: Sequence[float] = (0.0, 0.0, 0.0)
    parent: int = 0
    mass: float = 0.2
    solid: bool = True


class Bodies:
    """Makes bodies of boxes in one simulation.

    Args: bullet: the module. client: of the simulation.
    """

    def __init__(self, bullet: Any, client: int) -> None:
        self.bullet, self.client = bullet, client

    def shapes(self, boxes: Sequence[Box], solid: bool = True) -> tuple[int, int]:
        """Collision shape (-1 where it shall not collide) and visual shape of boxes that belong together."""
        p, kinds = self.bullet, [self.bullet.GEOM_BOX] * len(boxes)
        half, centre = [list(b[0]) for b in boxes], [list(b[1]) for b in boxes]
        look = p.createVisualShapeArray(
            kinds, halfExtents=half, visualFramePositions=centre, rgbaColors=[[*b[2], 1] for b in boxes], physicsClientId=self.client
        )
        touch = p.createCollisionShapeArray(kinds, halfExtents=half, collisionFramePositions=centre, physicsClientId=self.client) if solid else -1
        return touch, look

    def fixed(self, boxes: Sequence[Box], at: Sequence[float], yaw: float = 0.0, links: Sequence[Link] = (), solid: bool = True) -> int:
        """A body that stays where it is, with what moves on it: PyBullet numbers the links from 0, in their order."""
        return self.made(0.0, self.shapes(boxes, solid), at, yaw, links)

    def loose(self, boxes: Sequence[Box], mass: float) -> int:
        """A body that falls, slides and is carried."""
        return self.made(mass, self.shapes(boxes), (0.0, 0.0, 0.0), 0.0, ())

    def can(self, radius: float, height: float, color: Color, mass: float) -> int:
        """A cylinder that stands upright and slides, and never turns nor tips over: its inertia is infinite. Its origin is its middle."""
        p, client = self.bullet, self.client
        look = p.createVisualShape(p.GEOM_CYLINDER, radius=radius, length=height, rgbaColor=[*color, 1], physicsClientId=client)
        touch = p.createCollisionShape(p.GEOM_CYLINDER, radius=radius, height=height, physicsClientId=client)
        made = int(p.createMultiBody(mass, touch, look, physicsClientId=client))
        p.changeDynamics(made, -1, localInertiaDiagonal=[0, 0, 0], physicsClientId=client)
        return made

    def made(self, mass: float, shapes: tuple[int, int], at: Sequence[float], yaw: float, links: Sequence[Link]) -> int:
        """The body."""
        p, n = self.bullet, len(links)
        made = [self.shapes(link.boxes, link.solid) if link.boxes else (-1, -1) for link in links]
        kinds = {"slide": p.JOINT_PRISMATIC, "turn": p.JOINT_REVOLUTE}
        return int(p.createMultiBody(
            mass, *shapes, list(at), p.getQuaternionFromEuler([0, 0, yaw]), linkMasses=[link.mass for link in links],
            linkCollisionShapeIndices=[touch for touch, _ in made], linkVisualShapeIndices=[look for _, look in made],
            linkPositions=[list(link.at) for link in links], linkOrientations=[UPRIGHT] * n, linkInertialFramePositions=[[0, 0, 0]] * n,
            linkInertialFrameOrientations=[UPRIGHT] * n, linkParentIndices=[link.parent for link in links],
            linkJointTypes=[kinds[link.joint] for link in links], linkJointAxis=[list(link.axis) for link in links], physicsClientId=self.client,
        ))  # fmt: skip


def camera(bullet: Any, target: Sequence[float], distance: float, yaw: float, pitch: float, fov: float = 60.0) -> tuple[Any, Any]:
    """View and projection of a camera that looks at `target` (metres) from `distance`; angles in degrees."""
    view = bullet.computeViewMatrixFromYawPitchRoll(list(target), distance, yaw, pitch, 0, 2)
    return view, bullet.computeProjectionMatrixFOV(fov, 1.0, 0.1, 2.0)


def picture(bullet: Any, client: int, seen: tuple[Any, Any], size: int) -> np.ndarray:
    """What a camera sees, (size, size, 3) uint8, by PyBullet's own rasteriser: no GL, no display."""
    flags = bullet.ER_NO_SEGMENTATION_MASK
    found = bullet.getCameraImage(size, size, *seen, shadow=0, renderer=bullet.ER_TINY_RENDERER, flags=flags, physicsClientId=client)
    return np.asarray(found[2], np.uint8).reshape(size, size, 4)[..., :3]
