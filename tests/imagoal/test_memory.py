"""Memory that is freed and asked for again costs no new pages."""

import platform
import subprocess
import sys

import pytest

from imagoal import memory

FAULTS = """
import resource, sys
import torch
from imagoal.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
w = torch.ones(1000, 1000, requires_grad=True)
for step in range(12):
    if step == 6:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = torch.ones(12_000, 1000)  # 48 MB, more than the C library keeps by itself
    (x * w[:1]).relu().square().mean().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only there it can be asked for")
def test_memory_that_was_freed_is_used_again():
    plain, kept = (int(subprocess.run([sys.executable, "-c", FAULTS, word], capture_output=True, text=True, check=True).stdout) for word in ("plain", "keep"))
    assert plain > 10 * max(kept, 100), "arrays lie where others lay before"


def test_where_the_c_library_cannot_nothing_changes(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed_memory()


TINY = """
import torch
from imagoal.memory import flush_tiny_numbers
flush_tiny_numbers()
print(float(torch.full((4,), 1e-30).mul(1e-10).sum()))
"""


def test_tiny_numbers_are_taken_for_zero():
    assert float(subprocess.run([sys.executable, "-c", TINY], capture_output=True, text=True, check=True).stdout) == 0.0
