"""Pictures of MuJoCo models from one process-wide GL context, with the settings that software rendering needs.

A context costs tens of milliseconds and megabytes, a picture of a few primitives 0.2 ms; so all scenes of a process
share one context, which is possible because they have no meshes and no textures.
"""

import atexit
import os
from functools import cache

import mujoco
import numpy as np

MAX_SIZE = 256  # pixels: the off-screen buffer's side
_FLAGS_OFF = (
    mujoco.mjtRndFlag.mjRND_SHADOW,
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
    mujoco.mjtRndFlag.mjRND_HAZE,
    mujoco.mjtRndFlag.mjRND_FOG,
)
# Lines to put inside <mujoco>: few vertices per primitive, no multisampling (simulation.md: 200x together).
VISUAL_XML = (
    f'<visual><global offwidth="{MAX_SIZE}" offheight="{MAX_SIZE}"/>'
    '<quality offsamples="0" numslices="12" numstacks="6" numquads="2" shadowsize="0"/>'
    '<headlight active="0"/></visual>'
)


HIDDEN_GROUP = 5  # of geoms: MuJoCo's default options do not draw it


class RenderError(RuntimeError):
    """No off-screen rendering here; the message says what to install."""


@cache
def _context(pid: int) -> tuple["mujoco.GLContext", "mujoco.MjrContext"]:
    """The GL context of this process (keyed by pid: a forked child must not use its parent's)."""
    try:
        gl = mujoco.GLContext(MAX_SIZE, MAX_SIZE)
        gl.make_current()
        model = mujoco.MjModel.from_xml_string(f"<mujoco>{VISUAL_XML}<worldbody/></mujoco>")
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    except (RuntimeError, ImportError, AttributeError, mujoco.FatalError) as error:
        backend = os.environ.get("MUJOCO_GL")
        raise RenderError(
            f"no off-screen rendering with MUJOCO_GL={backend}: {error}. On Debian or Ubuntu run: "
            "apt-get install -y libegl1 libopengl0 libgl1-mesa-dri (then: imagoal doctor)"
        ) from error
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
    atexit.register(gl.free)
    return gl, context


class Camera:
    """Renders one model's states from its fixed camera `view`.

    Args:
        model: a model without meshes or textures, compiled with `VISUAL_XML`.
        size: side of the square picture in pixels, at most 256.

    Raises:
        ValueError: if `size` is out of range. RenderError: if the machine cannot render off-screen.
    """

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        if not 1 <= size <= MAX_SIZE:
            raise ValueError(f"image size must be between 1 and {MAX_SIZE} pixels, not {size}")
        self.model, self.size = model, size
        self._rect = mujoco.MjrRect(0, 0, size, size)
        self._scene = mujoco.MjvScene(model, maxgeom=200)
        for flag in _FLAGS_OFF:
            self._scene.flags[flag] = 0
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = model.camera("view").id
        self._option, self._pert = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._buffer = np.empty((size, size, 3), np.uint8)

    def render(self, data: mujoco.MjData) -> np.ndarray:
        """The picture of one state: (size, size, 3) uint8, row 0 at the top, freshly allocated."""
        picture = np.empty((self.size, self.size, 3), np.uint8)
        self.render_into(data, picture)
        return picture

    def render_into(self, data: mujoco.MjData, out: np.ndarray) -> None:
        """Draws one state into `out`, (size, size, 3) uint8."""
        out[:] = self._draw(data)

    def _draw(self, data: mujoco.MjData, flags: tuple[int, ...] = ()) -> np.ndarray:
        """One state with some of the scene's flags raised, (size, size, 3) uint8; the next drawing overwrites it."""
        _, context = _context(os.getpid())
        category = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.model, data, self._option, self._pert, self._view, category, self._scene)
        for flag in flags:
            self._scene.flags[flag] = 1
        mujoco.mjr_render(self._rect, self._scene, context)
        mujoco.mjr_readPixels(self._buffer, None, self._rect, context)
        for flag in flags:
            self._scene.flags[flag] = 0
        return self._buffer[::-1]

    def hide(self, body: int) -> None:
        """Leaves a body out of every later picture of this camera."""
        self.model.geom_group[self.model.geom_bodyid == body] = HIDDEN_GROUP

    def bodies(self, data: mujoco.MjData) -> np.ndarray:
        """Which body each pixel shows, (size, size) int32, row 0 at the top; -1 where nothing is."""
        drawn = self._draw(data, (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR))
        shown = drawn.astype(np.int32) @ np.array([1, 256, 65536]) - 1  # the number of a geom in the scene
        body = np.full(self._scene.ngeom + 1, -1, np.int32)  # the last stands for -1
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM and geom.segid >= 0:
                body[geom.segid] = self.model.geom_bodyid[geom.objid]
        return body[np.where(shown < self._scene.ngeom, shown, -1)]
