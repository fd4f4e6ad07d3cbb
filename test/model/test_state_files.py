# SPDX-License-Identifier: Apache-2.0
"""States on disk: whole or not there, whatever happens while they are written."""

import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hydra_model import state_files
from hydra_model.latent_store import LatentStore, MemoryLimits
from hydra_model.memory import Latents, MemoryBank, Segment
from hydra_model.moving import Sightings
from hydra_model.state_files import StateError, read_facts, read_state, write_state


def bank(clips: int = 3, seed: int = 0) -> MemoryBank:
    generator = torch.Generator().manual_seed(seed)
    memory = MemoryBank()
    for number in range(clips):
        memory = memory.add(
            Segment(
                Latents(torch.randn(2, 4, 3, 5, generator=generator)),
                np.tile(np.eye(4), (4, 1, 1)) + number,
                4.0 * number + np.arange(4) / 3,
                "imagined" if number else "observed",
                np.full((4, 2, 3, 3), number, np.uint8),
                Sightings(np.array([1]), np.ones((1, 3)), np.full((1, 3), 7.0)),
            )
        )
    return memory


def assert_equal(found: MemoryBank, expected: MemoryBank) -> None:
    assert len(found) == len(expected)
    everything = np.arange(len(expected))
    for name in ("latents", "poses", "times"):
        pair = (getattr(b.gather(everything), name) for b in (found, expected))
        assert np.array_equal(*map(np.asarray, pair)), name
    assert np.array_equal(found.thumbnails(everything), expected.thumbnails(everything))
    assert np.array_equal(found.observed, expected.observed)
    for name in ("frame", "direction", "colour"):
        pair = (getattr(b.sightings(-1e9), name) for b in (found, expected))
        assert np.array_equal(*pair), name


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    memory = bank()
    write_state(tmp_path / "a" / "state", memory, {"answer": 42})
    found, facts = read_state(tmp_path / "a" / "state")
    assert facts["answer"] == 42
    assert_equal(found, memory)


def test_memory_in_many_files_and_on_disk_already(tmp_path: Path, monkeypatch) -> None:
    memory = bank(6)
    store = LatentStore(MemoryLimits(host_bytes=0, folder=tmp_path / "spill"))
    for segment in memory.segments[:4]:
        store.keep(segment.latents)
    store.fit()
    monkeypatch.setattr(state_files, "FILE_BYTES", 2 * memory.segments[0].latents.bytes)
    write_state(tmp_path / "state", memory, {})
    assert len(list((tmp_path / "state").glob("memory-*.safetensors"))) == 3
    assert_equal(read_state(tmp_path / "state")[0], memory)


def test_loading_can_move_what_it_reads_on_at_once(tmp_path: Path) -> None:
    memory = bank(5)
    write_state(tmp_path / "state", memory, {})
    store = LatentStore(
        MemoryLimits(host_bytes=memory.segments[0].latents.bytes, folder=tmp_path / "spill")
    )

    def kept(latents: Latents) -> None:
        store.keep(latents)
        store.fit()

    found, _ = read_state(tmp_path / "state", kept=kept)
    assert [s.latents.place for s in found.segments] == ["disk"] * 4 + ["host"]
    assert_equal(found, memory)


def test_writing_again_replaces_the_state_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_state(tmp_path, bank(3), {"turn": 1})
    write_state(tmp_path, bank(2, seed=1), {"turn": 2})
    found, facts = read_state(tmp_path)
    assert facts["turn"] == 2
    assert_equal(found, bank(2, seed=1))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("limit", [64, 3000])  # within the memory, within state.json
def test_a_full_disk_leaves_the_old_state_as_it_was(tmp_path: Path, limit: int) -> None:
    write_state(tmp_path / "old", bank(1), {"turn": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        for name in ("old", "new"):
            with pytest.raises(StateError, match=f"cannot write a state to .*{name}"):
                write_state(tmp_path / name, bank(2), {"turn": 2, "long": "x" * 5000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "new").exists()
    assert len(list((tmp_path / "old").iterdir())) == 2
    found, facts = read_state(tmp_path / "old")
    assert facts["turn"] == 1
    assert_equal(found, bank(1))


def test_a_state_whose_writing_was_cut_off_is_none(tmp_path: Path) -> None:
    write_state(tmp_path / "whole", bank(), {})
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    (tmp_path / "part" / "state.json").unlink()
    with pytest.raises(StateError, match="part holds no readable state"):
        read_state(tmp_path / "part")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda facts: facts | {"format": 1}, "not of format 2"),
        (lambda facts: facts | {"origins": facts["origins"][:1]}, "holds no readable state"),
        (lambda facts: facts | {"origins": ["dreamt"] * 3}, "accepted: observed, imagined"),
        (lambda facts: {k: v for k, v in facts.items() if k != "files"}, "holds no readable"),
        (lambda facts: [facts], "not of format 2"),
    ],
)
def test_facts_that_do_not_fit_are_refused(tmp_path: Path, damage, message: str) -> None:
    write_state(tmp_path, bank(), {})
    facts = json.loads((tmp_path / "state.json").read_text())
    del facts["checksum"]  # or it would be refused for that
    (tmp_path / "state.json").write_text(json.dumps(damage(facts)))
    with pytest.raises(StateError, match=message):
        read_state(tmp_path)


@pytest.mark.parametrize("cut", [1, 500])
def test_memory_that_was_cut_short_is_refused_before_it_is_read(tmp_path: Path, cut: int) -> None:
    write_state(tmp_path, bank(), {})
    (memory,) = tmp_path.glob("memory-*.safetensors")
    memory.write_bytes(memory.read_bytes()[:-cut])
    with pytest.raises(StateError, match="was cut short or changed"):
        read_facts(tmp_path)


def flip(path: Path, place: int, bit: int = 0) -> None:
    """Change one bit of a file; ``place`` is the number of its byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


# The header and its length, poses, latents, the last number.
@pytest.mark.parametrize("place", [0, 40, 0.3, 0.5, 0.7, -1])
def test_a_flipped_bit_in_the_memory_is_refused_with_its_file(tmp_path: Path, place) -> None:
    write_state(tmp_path, bank(), {})
    (memory,) = tmp_path.glob("memory-*.safetensors")
    flip(memory, int(place * memory.stat().st_size) if isinstance(place, float) else place)
    read_facts(tmp_path)  # what it says of itself is whole
    words = f"{tmp_path.name} holds no readable state: {memory.name} changed since it was written"
    with pytest.raises(StateError, match=words):
        read_state(tmp_path)


def test_a_flipped_bit_in_what_a_state_says_of_itself_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path, bank(), {"time": 12.5})
    facts = tmp_path / "state.json"
    flip(facts, facts.read_text().index("12.5"), bit=1)
    assert "32.5" in facts.read_text()
    with pytest.raises(StateError, match=r"state\.json changed since it was written"):
        read_facts(tmp_path)
    facts.write_text(facts.read_text()[1:])
    with pytest.raises(StateError, match=r"state\.json is no JSON"):
        read_facts(tmp_path)


def test_a_state_of_an_earlier_version_has_no_checksums_and_is_read(tmp_path: Path) -> None:
    write_state(tmp_path, bank(), {"answer": 42})
    facts = json.loads((tmp_path / "state.json").read_text())
    del facts["checksum"], facts["checksums"]
    (tmp_path / "state.json").write_text(json.dumps(facts))
    found, facts = read_state(tmp_path)
    assert facts == {"format": 2, "answer": 42}
    assert_equal(found, bank())


def test_a_state_is_not_written_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StateError, match="cannot write a state to"):
        write_state(tmp_path / "file", bank(1), {})
    assert (tmp_path / "file").read_text() == "mine"


def test_memory_in_any_order_of_its_numbers_is_written(tmp_path: Path) -> None:
    """A camera file's poses, for one, lie column by column."""
    turned = np.asfortranarray(np.arange(64.0).reshape(4, 4, 4))
    memory = MemoryBank().add(
        Segment(
            Latents(torch.randn(2, 4, 3, 5)), turned[::-1], np.arange(8.0)[::2], "observed",
            np.asfortranarray(np.arange(72, dtype=np.uint8).reshape(4, 2, 3, 3)),
            Sightings(np.array([1, 2, 3])[::-2], np.ones((3, 2)).T, np.ones((3, 2)).T),
        )
    )  # fmt: skip
    write_state(tmp_path / "state", memory, {})
    assert_equal(read_state(tmp_path / "state")[0], memory)


def test_facts_that_cannot_be_written_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"cannot write a state.*not JSON serializable"):
        write_state(tmp_path / "new", bank(), {"about": object()})
    assert not (tmp_path / "new").exists()
    write_state(tmp_path / "old", bank(), {"answer": 1})
    before = sorted(path.name for path in (tmp_path / "old").iterdir())
    with pytest.raises(StateError):
        write_state(tmp_path / "old", bank(2), {"about": object()})
    assert sorted(path.name for path in (tmp_path / "old").iterdir()) == before
