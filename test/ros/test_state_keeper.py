# SPDX-License-Identifier: Apache-2.0
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hydra_ros.state_keeper import AUTOSAVE, StateKeeper
from hydra_ros.state_store import StateError


class SlowWorld:
    """Writes the number that a snapshot is, when the test lets the disk go on."""

    def __init__(self) -> None:
        self.disk = threading.Event()
        self.writing = threading.Event()
        self.written: list[int] = []

    def save(self, folder: Path, snapshot: int, *, about: dict) -> None:
        self.writing.set()
        assert self.disk.wait(10)
        if snapshot < 0:
            raise ValueError("No space left on device")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state.json").write_text("{}")
        self.written.append(snapshot)


def facts(number: int) -> SimpleNamespace:
    return SimpleNamespace(
        name="small", time=float(number), memory_size=5, memory_bytes=10, pose=np.eye(4),
        state=number,
    )  # fmt: skip


@pytest.fixture
def kept(tmp_path):
    log: list[str] = []
    world = SlowWorld()
    logger = SimpleNamespace(error=log.append, warning=log.append)
    keeper = StateKeeper(str(tmp_path / "states"), lambda: world, logger)
    yield SimpleNamespace(keeper=keeper, world=world, log=log)
    world.disk.set()
    keeper.close()


def test_saving_waits_for_the_disk_and_nobody_for_the_saving(kept):
    saving = kept.keeper.save("a", facts(1), "somewhere", overwrite=False, persistent=True)
    assert kept.world.writing.wait(10) and not saving.done()
    kept.world.disk.set()
    saved = saving.result(10)
    assert (saved.name, saved.time, saved.world, saved.model) == ("a", 1.0, "somewhere", "small")
    assert kept.world.written == [1]


def test_a_slow_disk_gets_the_newest_autosave_and_skips_those_between(kept):
    kept.keeper.autosave(facts(1), "")
    assert kept.world.writing.wait(10)
    for number in (2, 3, 4):
        kept.keeper.autosave(facts(number), "")
    kept.world.disk.set()
    kept.keeper.close()
    assert kept.world.written == [1, 4]


def test_closing_finishes_the_last_autosave(kept):
    kept.world.disk.set()
    kept.keeper.autosave(facts(7), "")
    kept.keeper.close()
    assert kept.world.written == [7]


def test_a_full_disk_is_said_once_and_the_next_autosave_is_tried(kept):
    kept.world.disk.set()
    for number in (-1, -2):
        kept.keeper.autosave(facts(number), "")
        kept.keeper.list().result(10)
    kept.keeper.autosave(facts(3), "")
    kept.keeper.close()
    assert len(kept.log) == 1 and "No space left" in kept.log[0]
    assert kept.world.written == [3]


def test_a_refused_name_is_the_futures_error(kept):
    with pytest.raises(StateError, match="letters, digits"):
        kept.keeper.save("a/b", facts(1), "", overwrite=False, persistent=False).result(10)


def test_half_of_an_autosave_is_no_reason_not_to_start(kept):
    assert not kept.keeper.resumable() and not kept.log
    folder = kept.keeper.store.folder / AUTOSAVE
    folder.mkdir(parents=True)
    (folder / "memory-1-00000.safetensors").write_text("cut off")
    assert not kept.keeper.resumable()
    assert "is not a whole state" in kept.log[0]
    kept.world.disk.set()
    kept.keeper.save(AUTOSAVE, facts(1), "", overwrite=True, persistent=False).result(10)
    assert kept.keeper.resumable()
