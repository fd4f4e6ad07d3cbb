# SPDX-License-Identifier: Apache-2.0
"""Puts the fast path in place of a transformer's forwards."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from hydra_model.fast.acceleration import Acceleration
from hydra_model.fast.joint import FastJoint, suits
from hydra_model.fast.recorded import Recorded
from hydra_model.fast.spread import ALL_FRAMES, Frames
from hydra_model.transformer import Conditioning, Transformer

logger = logging.getLogger(__name__)


def accelerate(model: Transformer, switches: Acceleration) -> Engine | None:
    """Let ``model`` run its forwards by the fast path; None where it is not in its form.

    For inference only: the weights are read once, now. ``Transformer.joint_prediction`` stays
    the readable path.
    """
    if not suits(model.config):
        logger.info("the fast path runs models in the released form; this one stays as it is")
        return None
    engine = Engine(model, switches)
    model.forward = engine.forward  # type: ignore[method-assign]
    model.pair = engine.pair  # type: ignore[method-assign]
    return engine


class Engine:
    """``forward`` and ``pair`` of one ``Transformer``, with the same arguments and results."""

    def __init__(self, model: Transformer, switches: Acceleration) -> None:
        self.switches = switches
        self.joint = FastJoint(model, switches)
        self._paired = switches.paired
        self._recorded = Recorded(self.joint)

    def forward(
        self,
        target_latents: Tensor,
        sigma: Tensor,
        conditioning: Conditioning,
        *,
        selections: list[Tensor] | None = None,
        frames: Frames = ALL_FRAMES,
    ) -> Tensor:
        """See ``Transformer.forward``; ``frames`` says which ones are this process's."""
        tables = self.joint.tables(conditioning)
        if self.switches.graph and frames.whole:
            return self._recorded(target_latents, sigma, tables, selections=selections)
        return self.joint.velocity(
            target_latents, sigma, tables, selections=selections, frames=frames
        )

    def pair(
        self,
        target_latents: Tensor,
        sigma: Tensor,
        conditioning: Conditioning,
        negative: Conditioning,
        *,
        selections: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See ``Transformer.pair``."""
        if self._paired:
            try:
                both = self._both(target_latents, sigma, conditioning, negative, selections)
            except torch.OutOfMemoryError:
                self._paired = False
                logger.warning("no memory for guidance as one batch; going on with two forwards")
                torch.cuda.empty_cache()
                if selections is not None:
                    selections.clear()
                both = None
            if both is not None:
                return both
        return (
            self.forward(target_latents, sigma, conditioning, selections=selections),
            self.forward(target_latents, sigma, negative),
        )

    def _both(
        self,
        target: Tensor,
        sigma: Tensor,
        conditioning: Conditioning,
        negative: Conditioning,
        selections: list[Tensor] | None,
    ) -> tuple[Tensor, Tensor] | None:
        """Return both velocities from one batch, None where only the forwards one by one do."""
        tables = self.joint.pair_tables(conditioning, negative)
        if tables is None:
            return None
        run = self._recorded if self.switches.graph else self.joint.velocity
        first, second = run(target, sigma, tables, shared=2, selections=selections).chunk(2)
        return first, second
