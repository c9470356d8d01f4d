"""What this machine has, what it lacks, and the line that mends it: the checks behind `imagoal doctor`.

A check never raises: what goes wrong becomes its finding.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from imagoal import __version__

PACKAGES = ("torch", "lightning", "mujoco", "gymnasium", "minari", "hydra-core", "safetensors", "numpy")
EXTRAS = {"gymnasium-robotics": "robotics", "pybullet": "robotics", "wandb": "wandb"}
INSTALL = "pip install -c constraints.txt -e ."
GL_LIBRARIES = {"libEGL.so.1": "libegl1", "libOpenGL.so.0": "libopengl0"}
GL_INSTALL = "apt-get install -y libegl1 libopengl0 libgl1-mesa-dri"
FRAMES = 400  # frames of the render benchmark, a fraction of a second when it is well set up
SLOW = 500.0  # frames per second below which the renderer is badly set up (facts: 4,000 tuned, 23 by default)


class Finding(NamedTuple):
    """One line of the doctor's letter; `fix` is empty when all is well."""

    name: str
    value: str
    fix: str = ""
    needed: bool = True  # whether the demo needs it


def examine() -> Iterator[Finding]:
    """All findings, in the order they are printed."""
    yield Finding("imagoal", f"{__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}")
    yield from packages()
    yield from cpu()
    yield gpu()
    yield from gl_libraries()
    yield renderer()
    yield disk()


def packages() -> Iterator[Finding]:
    """Versions of what imagoal stands on, against the ranges it declares; the optional ones too."""
    wanted = declared_ranges()
    for name in PACKAGES:
        version = installed(name)
        if version is None:
            yield Finding(name, "missing", INSTALL)
        elif name in wanted and not wanted[name].contains(version, prereleases=True):
            yield Finding(name, f"{version}, tested with {wanted[name]}", INSTALL)
        else:
            yield Finding(name, version)
    for name, extra in EXTRAS.items():
        version = installed(name)
        yield Finding(name, version or "not installed", "" if version else f'pip install -e ".[{extra}]"', needed=False)


def declared_ranges() -> dict[str, Any]:
    """Package -> version range (packaging's SpecifierSet) that imagoal asks for; empty when imagoal runs uninstalled."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("imagoal") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    parsed = [Requirement(line) for line in lines]
    return {r.name: r.specifier for r in parsed if not r.marker or r.marker.evaluate({"extra": ""})}


def installed(name: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu() -> Iterator[Finding]:
    """Cores this process may use, the instructions that matter to torch, and memory."""
    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        flags = next((set(line.split()) for line in info.read_text().splitlines() if line.startswith("flags")), set())
    names = {"avx2": "AVX2", "avx512f": "AVX-512", "amx_bf16": "AMX"}
    extra = ", ".join(name for flag, name in names.items() if flag in flags)
    yield Finding("CPU", f"{usable_cores()} cores" + (f", {extra}" if extra else ""))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        yield Finding("memory", f"{gigabytes:.1f} GiB", "" if gigabytes > 3.5 else "the demo needs about 4 GiB", needed=False)


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu() -> Finding:
    """The GPU torch sees, if any."""
    try:
        import torch
    except ImportError as error:
        return Finding("GPU", f"unknown: {error}", INSTALL)
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("GPU", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    return Finding("GPU", "none; everything runs on the CPU")


def gl_libraries() -> Iterator[Finding]:
    """The libraries MuJoCo loads to render without a display (Linux)."""
    if sys.platform != "linux":
        return
    text = loader_cache()
    for library, package in GL_LIBRARIES.items():
        found = library in text or any(Path("/usr").glob(f"lib*/{library}")) or any(Path("/usr").glob(f"lib*/*/{library}"))
        yield Finding(library, "found" if found else "missing", "" if found else f"apt-get install -y {package}")


def loader_cache() -> str:
    """What `ldconfig -p` lists, or nothing where there is no such program."""
    program = shutil.which("ldconfig") or "/sbin/ldconfig"
    if not Path(program).exists():
        return ""
    return subprocess.run([program, "-p"], capture_output=True, text=True, check=False).stdout


def renderer() -> Finding:
    """Frames per second of a pixel environment stepped in this process."""
    if importlib.util.find_spec("envs.tabletop") is None:
        return Finding("renderer", "not measured: envs has no scene yet")
    try:
        import gymnasium

        import envs  # noqa: F401  (sets MUJOCO_GL before mujoco loads)

        env = gymnasium.make("imagoal/Tabletop-v0", scene="held_out/0")
        env.reset(seed=0)
        env.action_space.seed(0)
        rate = frames_per_second(env)
        env.close()
    except (RuntimeError, ImportError, AttributeError, OSError, ValueError) as error:
        return Finding("renderer", f"does not render: {' '.join(str(error).split())}", GL_INSTALL)
    backend = f"{os.environ.get('MUJOCO_GL', 'default')}, {rate:,.0f} steps with a 48x48 picture per second"
    if rate < SLOW:
        return Finding("renderer", backend, "export MUJOCO_GL=egl LP_NUM_THREADS=0 (set before starting)", needed=False)
    return Finding("renderer", backend)


def frames_per_second(env: Any) -> float:
    """Steps per second of random actions in a Gymnasium env, each with its picture, after a warm-up."""
    for count in (20, FRAMES):
        began = time.perf_counter()
        for _ in range(count):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
    return FRAMES / (time.perf_counter() - began)


def disk() -> Finding:
    """Free space where the run folders go."""
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return Finding("disk", f"{free:.1f} GiB free here", "" if free > 1 else "free some space: a demo writes about 0.5 GiB")
