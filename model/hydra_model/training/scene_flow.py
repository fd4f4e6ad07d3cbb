# SPDX-License-Identifier: Apache-2.0
"""The scene flow of a training batch at all scales of a model: its loss, and the true one."""

from __future__ import annotations

import torch
from torch import Tensor

from hydra_model.scene_flow import Flow
from hydra_model.training.data import Batch
from hydra_model.training.whereabouts import Forecast, flow_loss, known_flow, missed
from hydra_model.transformer import Transformer


def truer(
    batch: Batch, known: Tensor, tokens: Flow, positions: Flow | None
) -> tuple[Flow, Flow | None]:
    """Return the scene flow with subjects as they will go, in the worlds ``known``, bool [B]."""
    tokens = known_flow(tokens, batch.context_camera, batch.forecast, known)
    if positions is not None and (fine := _fine(batch)) is not None:
        positions = known_flow(positions, *fine, known)
    return tokens, positions


def scene_flow_loss(
    model: Transformer, features: list[Tensor], batch: Batch, met_weight: float = 0.0
) -> Tensor:
    """Return the mean error of the scene flow that is read off ``features``, at all scales.

    To it comes ``met_weight`` times what is missed of subjects that the target meets. 0 for a model
    that has no scene flow.
    """
    own = model.scene_flow
    if own is None:
        return batch.target.new_zeros(())
    tokens, positions = own(features[own.after - 1], batch.context_camera)
    scales = [(tokens, batch.context_camera, batch.forecast)]
    if positions is not None and (fine := _fine(batch)) is not None:
        scales.append((positions, *fine))
    origins = batch.target_camera[:, :, 0, 3:6].float()
    losses = []
    for told, rays, forecast in scales:
        losses.append(flow_loss(told, rays, forecast))
        if met_weight > 0:
            off = missed(own, told, rays, origins, batch.target_times, forecast)
            losses.append(met_weight * off)
    return torch.stack(losses).sum() / len(scales)


def _fine(batch: Batch) -> tuple[Tensor, Forecast] | None:
    """Return the rays of the context's latent positions and what these are to tell.

    None where there is no detail scale.
    """
    if batch.detail_camera is None or batch.forecast.positions is None:
        return None
    return batch.detail_camera[:, : batch.context_camera.shape[1]], batch.forecast.positions
