# SPDX-License-Identifier: Apache-2.0
"""What the transformer's own retrieval chose: which context each target frame attended to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def retrieval_matrix(
    selections: Sequence[Tensor], *, context: int, target: int, memory_stride: int
) -> npt.NDArray[np.float32]:
    """Return how often each target frame chose each context frame, ``[target, context]``.

    ``selections`` are the memory frames ``[B, frames, K]`` chosen in every block and sampling
    step (-1 for none). Values are shares of blocks and steps, 0 to 1; the frames of one memory
    frame share its value. Where the context retrieves too (the released form), its rows and
    the memory made of the target are left out.
    """
    chosen = torch.stack([s[0, -target:] for s in selections])  # [calls, target, K]
    memories = context // memory_stride
    counts = (chosen[..., None] == torch.arange(memories, device=chosen.device)).any(-2)
    shares = counts.float().mean(0).repeat_interleave(memory_stride, dim=1).cpu().numpy()
    return np.pad(shares, ((0, 0), (0, context - shares.shape[1])))
