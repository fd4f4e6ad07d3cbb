# SPDX-License-Identifier: Apache-2.0
"""What a run says of itself: the terminal, ``train.log`` and, where there is one, TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


class Journal:
    """The log of a run in its folder; processes that do not lead say nothing."""

    def __init__(self, folder: Path, *, leads: bool = True, tensorboard: bool = True) -> None:
        self._file = None
        self._board: Any = None
        if not leads:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "train.log").open("a", encoding="utf-8")
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self.say("no TensorBoard log: pip install 'hydra_ros[train]' for one")
            else:
                self._board = SummaryWriter(str(folder / "tensorboard"))

    def say(self, text: str) -> None:
        """Write a line."""
        if self._file is not None:
            print(text, flush=True)
            print(text, file=self._file, flush=True)

    def record(self, values: dict[str, Any], *, stage: str = "train") -> None:
        """Write numbers of a step, ``values["step"]`` among them, as a line of JSON."""
        self.say(json.dumps(values))
        self.chart(values, stage=stage)

    def chart(self, values: dict[str, Any], *, stage: str) -> None:
        """Show numbers of a step in TensorBoard alone."""
        if self._board is not None:
            for name, value in values.items():
                if name != "step" and isinstance(value, (int, float)):
                    self._board.add_scalar(f"{stage}/{name}", value, values["step"])

    def picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Show uint8 ``[H, W, 3]`` in TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
        if self._file is not None:
            self._file.close()
