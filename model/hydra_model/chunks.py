# SPDX-License-Identifier: Apache-2.0
"""How a number of frames is split into chunks that a world can step."""

from __future__ import annotations


def chunk_lengths(frames: int, longest: int) -> list[int]:
    """Split a number of frames into chunks of 1 + 4 k frames each, as few and even as possible.

    Any number can be split exactly, since a chunk may have one frame: so nothing is padded
    and one commanded pose is one frame. ``longest`` is itself of the form 1 + 4 k.
    """
    if frames < 1:
        return []
    # Each chunk takes one frame and groups of four: the number of chunks is fixed modulo 4.
    chunks = (frames - 1) % 4 + 1
    while chunks * longest < frames:
        chunks += 4
    groups, more = divmod((frames - chunks) // 4, chunks)
    return [1 + 4 * (groups + (1 if i < more else 0)) for i in range(chunks)]
