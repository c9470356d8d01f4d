"""Memory that was freed, and is asked for again a moment later: every gradient step asks for the same large arrays. And numbers too small to matter."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT = 1 << 30  # bytes: arrays up to this size come from memory that is kept, and so much of it may lie unused


def keep_freed_memory() -> bool:
    """Let this process keep what it frees instead of returning it to the system, from which every page comes zeroed and one by one: a step of a generator of
    subgoals spent .15 of .35 s of processor time in that. Returns whether the C library can (glibc can; elsewhere nothing changes)."""
    try:
        option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(option(_MMAP_THRESHOLD, KEPT) and option(_TRIM_THRESHOLD, KEPT))


def flush_tiny_numbers() -> None:
    """Let torch, where it is loaded, take numbers below 1e-38 for 0. Adam's averages of gradients that vanish fade to such numbers, with which processors
    multiply slowly: a step with 4% of them took twice the time. For this thread and those it starts, so call it before torch computes."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(True)
