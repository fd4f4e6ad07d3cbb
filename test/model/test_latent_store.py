# SPDX-License-Identifier: Apache-2.0
"""Where latents are kept: within limits, nothing lost, nothing left behind."""

import gc
import resource
from pathlib import Path

import pytest
import torch

from hydra_model.latent_store import Latents, LatentStore, MemoryLimits, SpillError

FRAME = 2 * 3 * 4 * 4  # bytes of a latent frame [2, 1, 3, 4]


def clip(number: int, frames: int = 5) -> Latents:
    """Latent frames that hold 100 * number, 100 * number + 1, ..."""
    values = 100.0 * number + torch.arange(frames)
    return Latents(values.view(1, frames, 1, 1).expand(2, frames, 3, 4).clone())


def values(latents: Latents, start: int = 0, stop: int | None = None) -> list[float]:
    return latents.read(start, stop)[0, :, 0, 0].tolist()


def spilling(folder: Path, clips: int, **limits) -> tuple[LatentStore, list[Latents]]:
    limits = {"host_bytes": 10 * FRAME, "folder": folder} | limits
    store = LatentStore(MemoryLimits(**limits))
    return store, [store.keep(clip(i)) for i in range(clips)]


def test_without_limits_everything_stays_where_it_is(tmp_path: Path) -> None:
    store = LatentStore()
    kept = [store.keep(clip(i)) for i in range(4)]
    store.fit()
    assert {latents.place for latents in kept} == {"host"}
    assert store.usage().host_bytes == 20 * FRAME


def test_what_is_over_the_limit_moves_to_disk_the_oldest_first(tmp_path: Path) -> None:
    store, kept = spilling(tmp_path, 4)
    store.fit()
    assert [latents.place for latents in kept] == ["disk", "disk", "host", "host"]
    assert store.usage().host_bytes == store.usage().disk_bytes == 10 * FRAME


def test_what_was_asked_for_lately_stays(tmp_path: Path) -> None:
    store, kept = spilling(tmp_path, 4)
    kept[0].read(0, 1)
    store.fit()
    assert [latents.place for latents in kept] == ["host", "disk", "disk", "host"]


def test_what_was_spilled_reads_as_before(tmp_path: Path) -> None:
    store, kept = spilling(tmp_path, 4)
    store.fit()
    assert values(kept[1]) == [100, 101, 102, 103, 104]
    assert values(kept[1], 2, 4) == [102, 103]


def test_files_live_as_long_as_somebody_remembers_them(tmp_path: Path) -> None:
    store, kept = spilling(tmp_path / "spill", 4)
    store.fit()
    snapshot = kept[:1]
    assert len(list((tmp_path / "spill").iterdir())) == 2
    kept.clear()
    gc.collect()
    assert len(list((tmp_path / "spill").iterdir())) == 1
    assert values(snapshot[0])[0] == 0
    snapshot.clear()
    gc.collect()
    assert not list((tmp_path / "spill").iterdir())
    assert store.usage().disk_bytes == 0


def test_ten_minutes_stay_within_the_limit(tmp_path: Path) -> None:
    store, kept = spilling(tmp_path, 0)
    for number in range(450):
        kept.append(store.keep(clip(number)))
        store.fit()
        assert store.usage().host_bytes <= 10 * FRAME
    assert store.usage().disk_bytes == (2250 - 10) * FRAME
    assert all(values(latents, 4)[0] == 100 * i + 4 for i, latents in enumerate(kept))


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    store, kept = spilling(tmp_path, 4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # no file may grow beyond that
    try:
        with pytest.raises(SpillError, match="cannot spill 480 bytes of memory to"):
            store.fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
    assert [latents.place for latents in kept] == ["host"] * 4
    assert [values(latents)[0] for latents in kept] == [0, 100, 200, 300]
    store.fit()
    assert store.usage().host_bytes == 10 * FRAME


def test_a_file_that_somebody_removed_is_named(tmp_path: Path) -> None:
    store, kept = spilling(tmp_path, 3)
    store.fit()
    (file,) = tmp_path.iterdir()
    file.unlink()
    with pytest.raises(SpillError, match=r"memory that was spilled to .* is gone"):
        kept[0].read()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_device_spills_to_main_memory(tmp_path: Path) -> None:
    store = LatentStore(MemoryLimits(device_bytes=5 * FRAME))
    kept = [store.keep(Latents(clip(i).read().to("cuda"))) for i in range(3)]
    store.fit()
    assert [latents.place for latents in kept] == ["host", "host", "device"]
    assert kept[0].read().device.type == "cuda"
    assert values(kept[0]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"host_bytes": -1, "folder": Path("spill")}, "host_bytes is -1; accepted: 0 or more"),
        ({"device_bytes": -5}, "device_bytes is -5"),
        ({"host_bytes": 100}, "a folder to spill to is needed"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(limits: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemoryLimits(**limits)
