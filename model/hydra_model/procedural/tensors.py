# SPDX-License-Identifier: Apache-2.0
"""A base for frozen dataclasses of tensors that share their first axis, the world."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self


@dataclasses.dataclass(frozen=True)
class TensorBatch:
    """Fields are tensors [B, ...], other such batches, or texts that are true of all worlds."""

    def map(self, function: Callable[[Any], Any]) -> Self:
        """Return the batch with ``function`` applied to every tensor and batch."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        changed = {n: v if isinstance(v, str) else function(v) for n, v in values.items()}
        return type(self)(**changed)

    def __len__(self) -> int:
        return len(getattr(self, dataclasses.fields(self)[0].name))

    def __getitem__(self, index: slice | Tensor) -> Self:
        """Return the batch of the chosen worlds; the index keeps the axis (no integers)."""
        return self.map(lambda value: value[index])

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device."""
        return self.map(lambda value: value.to(device))
