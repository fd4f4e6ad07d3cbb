# SPDX-License-Identifier: Apache-2.0
"""Checksums of files of many blocks, and of facts that went through JSON."""

import json
from pathlib import Path

import numpy as np
import pytest

from hydra_model.state_checksums import facts_checksum, file_checksum

BLOCK = 8192
SIZE = 8 * BLOCK * 3 + 13  # three blocks and some bytes


@pytest.fixture
def content() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, SIZE).astype(np.uint8)


def checksum_of(folder: Path, content: np.ndarray) -> int:
    (folder / "file").write_bytes(content.tobytes())
    return file_checksum(folder / "file")


def test_a_bit_anywhere_changes_the_checksum(tmp_path: Path, content: np.ndarray) -> None:
    whole = checksum_of(tmp_path, content)
    assert checksum_of(tmp_path, content) == whole
    for place in (0, 7, 8 * BLOCK - 1, 8 * BLOCK, 8 * BLOCK * 3 - 1, 8 * BLOCK * 3, SIZE - 1):
        for bit in range(8):
            changed = content.copy()
            changed[place] ^= 1 << bit
            assert checksum_of(tmp_path, changed) != whole, (place, bit)


def test_blocks_that_are_lost_or_change_places_change_the_checksum(
    tmp_path: Path, content: np.ndarray
) -> None:
    whole = checksum_of(tmp_path, content)
    first, second, rest = np.split(content, [8 * BLOCK, 16 * BLOCK])
    for changed in (
        np.concatenate([second, first, rest]),
        np.concatenate([first, np.zeros_like(second), rest]),
        np.concatenate([first, rest]),
    ):
        assert checksum_of(tmp_path, changed) != whole


def test_facts_have_the_same_checksum_after_they_were_written_and_read() -> None:
    facts = {"pose": [[0.1, 1e-17], [-0.0, 3.0]], "origins": ("a", "ä"), 7: None, "seed": 2**63}
    assert facts_checksum(json.loads(json.dumps(facts))) == facts_checksum(facts)
    assert facts_checksum({**facts, "seed": 2**63 + 1}) != facts_checksum(facts)
