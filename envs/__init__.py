"""Where it happens: goal environments, their experts and the collection of data. NumPy and simulators, no torch."""

import os

# Read by MuJoCo and Mesa when they load, so they must be set first: software rendering is 200x slower without them,
# and Mesa's own threads deadlock after a fork (docs/rendering.md).
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")

import gymnasium

ENTRY = "envs.tabletop:Tabletop"
for size in (48, 64, 84):
    gymnasium.register(
        f"imagoal/Tabletop{size}-v0", ENTRY, kwargs={"image_size": size}, max_episode_steps=30, disable_env_checker=True
    )
gymnasium.register("imagoal/Tabletop-v0", ENTRY, max_episode_steps=30, disable_env_checker=True)
gymnasium.register(
    "imagoal/TabletopState-v0", ENTRY, kwargs={"observe": "state"}, max_episode_steps=30, disable_env_checker=True
)
for name, observe in (("Gate", "image"), ("GateState", "state")):
    gymnasium.register(f"imagoal/{name}-v0", ENTRY, kwargs={"gate": True, "observe": observe}, max_episode_steps=30, disable_env_checker=True)

VISUAL_ENTRY = "envs.visual:VisualGoalEnv"
VISUAL = {  # name, world, time limit
    "VisualReacher": ("reacher", 50),
    "VisualPusher": ("pusher", 50),
    "VisualMultiObjectPusher": ("multi_pusher", 100),
    "MultiColorPusher": ("multicolor_pusher", 50),
    "PointNavigation": ("navigation", 50),
}
for name, (world, steps) in VISUAL.items():
    for suffix, observe in (("", "image"), ("State", "state")):
        gymnasium.register(
            f"imagoal/{name}{suffix}-v0", VISUAL_ENTRY, kwargs={"world": world, "observe": observe},
            max_episode_steps=steps, disable_env_checker=True,
        )  # fmt: skip

gymnasium.register("imagoal/PuckToPlace-v0", "envs.tasks:PuckToPlace", max_episode_steps=50)

for name, options in (("Desk", {}), ("DeskYaw", {"yaw": True}), ("DeskState", {"observe": "state"})):
    gymnasium.register(f"imagoal/{name}-v0", "envs.desk:Desk", kwargs=options, max_episode_steps=75, disable_env_checker=True)
for name, options in (("PTPDesk", {}), ("PTPDeskState", {"observe": "state"})):
    gymnasium.register(f"imagoal/{name}-v0", "envs.desk:Desk", kwargs={"kind": "ptp_desk", **options}, max_episode_steps=400, disable_env_checker=True)
