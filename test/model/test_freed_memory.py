# SPDX-License-Identifier: Apache-2.0
"""A process that runs a model on a CPU keeps what it frees, unless it is told otherwise."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from hydra_model import freed_memory

MODEL = str(Path(freed_memory.__file__).parents[1])
# In another thread, as the node runs its model.
COUNT = """
import resource, threading, torch
from hydra_model.freed_memory import keep_freed_memory
kept = {keep} and keep_freed_memory()
def work():
    for turn in range(40):
        if turn == 20:  # by then blocks of the right sizes lie about
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        [torch.ones(10 << 20) for _ in range(2)]
    print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def count(keep: bool, **environment: str) -> tuple[bool, int]:
    """Whether memory is kept, and the pages that 20 times 80 MiB of tensors take anew."""
    own = {n: v for n, v in os.environ.items() if not n.startswith(("MALLOC_", "GLIBC_"))}
    own["PYTHONPATH"] = os.pathsep.join([MODEL, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", COUNT.format(keep=keep)], env=own | environment,
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    kept, pages = done.stdout.split()
    return kept == "1", int(pages)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for the GNU C library")
def test_freed_tensors_are_written_again_without_asking_the_system() -> None:
    plain, pages = count(keep=False)
    assert not plain
    kept, fewer = count(keep=True)
    assert kept
    assert fewer < pages / 4


def test_what_the_environment_says_of_memory_stays() -> None:
    assert count(keep=True, MALLOC_ARENA_MAX="4")[0] is False
    assert count(keep=True, GLIBC_TUNABLES="glibc.malloc.arena_max=4")[0] is False


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    freed_memory.keep_freed_memory.cache_clear()
    try:
        assert freed_memory.keep_freed_memory() is False
    finally:
        freed_memory.keep_freed_memory.cache_clear()
