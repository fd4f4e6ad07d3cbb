# SPDX-License-Identifier: Apache-2.0
"""What lies between the products of a block, each as one pass over the activations.

Plain functions of tensors, computed in float32 inside and stored in the activations' type; they
are written so that ``torch.compile`` makes one kernel or two of each. ``hydra_model.fast.kernels``
holds the same by hand.

Shape legend: B batch, T frames, N tokens a frame, C width, D channels a head.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from hydra_model.fast.compiling import compiled
from hydra_model.fast.products import Quantised, quantise

logger = logging.getLogger(__name__)


def add_norm(
    x: Tensor, branch: Tensor | None, gate: Tensor | None, scale: Tensor, bias: Tensor,
    eps: float, lag: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return ``x + gate * branch`` and the layer norm of it plus ``lag``, scaled and moved.

    ``x, branch [B, T, N, C]``, ``gate [B, 1, 1, C]``, ``scale [B or 1, 1, 1, C]``,
    ``bias [B or 1, T or 1, N or 1, C]``, ``lag [C]``. Without a branch ``x`` is returned as it is.
    """
    wide = x.float()
    if branch is not None:
        wide = wide + (branch.float() if gate is None else gate.float() * branch.float())
        x = wide.to(x.dtype)
        wide = x.float()
    if lag is not None:
        wide = wide + lag
    normed = F.layer_norm(wide, x.shape[-1:], eps=eps)
    return x, (normed * scale.float() + bias.float()).to(x.dtype)


def add_norm_quantised(
    x: Tensor, branch: Tensor | None, gate: Tensor | None, scale: Tensor, bias: Tensor,
    eps: float, lag: Tensor | None = None, *, keep: bool = False,
) -> tuple[Tensor, Tensor | None, Quantised]:  # fmt: skip
    """Do the same for a product in 8 bits; the norm is returned too where it is to be kept."""
    x, y = add_norm(x, branch, gate, scale, bias, eps, lag)
    rows = quantise(y)
    lengths = y.float().norm(dim=-1, keepdim=True)
    return x, y if keep else None, rows._replace(lengths=lengths)


def normalise_rotate(
    x: Tensor, gain: Tensor, cosine: Tensor, sine: Tensor, eps: float, *, mean: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Norm over the width, rotate by heads; with ``mean`` also each frame's before the rotation.

    ``x [B, T, N, C]`` may be a part of a wider tensor; ``cosine, sine [T, N, D / 2]``. A head's
    channels are ordered first members of all pairs, then second ones. Returns ``[B, T, N, C]``
    in the type of ``x`` and float32 ``[B, T, C]``.
    """
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * gain.float()
    heads = wide.unflatten(-1, (-1, 2, cosine.shape[-1]))
    first, second = heads.unbind(-2)
    cosine, sine = cosine[..., None, :], sine[..., None, :]
    turned = (first * cosine - second * sine, first * sine + second * cosine)
    rotated = torch.stack(turned, -2).flatten(-3).to(x.dtype)
    return rotated, wide.mean(2) if mean else None


def normalise(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the width."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * gain.float()).to(
        x.dtype
    )


def scale_rows(weight: Tensor, gate: Tensor) -> Tensor:
    """Return a product's ``weight [N, K]`` with its rows times ``gate [N]``, in its own type."""
    return (weight * gate[:, None]).to(weight.dtype)


def text_weights(query: Tensor, keys: Tensor, counts: Tensor, eps: float) -> Tensor:
    """Return how much each query attends to the ``text.TextKeys`` of its prompt.

    ``query [B, T, N, C]`` is not normed yet, ``keys [B, H, J, D]``, ``counts [B, J]``; returns
    ``[B, T, N, H * J]`` in the type of ``query``.
    """
    wide = query.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    heads, _, channels = keys.shape[1:]
    scores = torch.einsum("btnhd,bhjd->btnhj", wide.unflatten(-1, (heads, -1)), keys.float())
    scores = scores / channels**0.5 + counts[:, None, None, None]
    return scores.softmax(-1).flatten(-2).to(query.dtype)


def gather_patches(y: Tensor, grid: tuple[int, int], stride: tuple[int, int, int]) -> Tensor:
    """Return what the tokenizer makes each memory token of as one row, ``[B, J, M, patch * C]``.

    ``y [B, T, N, C]``, ``grid`` its rows and columns of tokens; tokens of a patch lie one after
    another (frame, row, column). What is over at the ends is left out.
    """
    step, high, wide = stride
    counts = (y.shape[1] // step, grid[0] // high, grid[1] // wide)
    whole = y.unflatten(2, grid)
    whole = whole[:, : counts[0] * step, : counts[1] * high, : counts[2] * wide]
    return rearrange(whole, "b (t i) (h j) (w k) c -> b t (h w) (i j k c)", i=step, j=high, k=wide)


def gelu_quantised(x: Tensor) -> Quantised:
    """GELU (tanh form), for a product in 8 bits."""
    return quantise(F.gelu(x.float(), approximate="tanh"))


@dataclass(frozen=True)
class Passes:
    """The functions above, as a device runs them best."""

    add_norm: Callable[..., tuple[Tensor, Tensor]] = add_norm
    add_norm_quantised: Callable[..., tuple[Tensor, Tensor | None, Quantised]] = add_norm_quantised
    normalise_rotate: Callable[..., tuple[Tensor, Tensor | None]] = normalise_rotate
    normalise: Callable[..., Tensor] = normalise
    text_weights: Callable[..., Tensor] = text_weights
    scale_rows: Callable[[Tensor, Tensor], Tensor] = scale_rows
    gather_patches: Callable[..., Tensor] = gather_patches
    gelu_quantised: Callable[[Tensor], Quantised] = gelu_quantised
    quantise: Callable[[Tensor], Quantised] = quantise


def choose_passes(fusion: str, device: torch.device) -> Passes:
    """Return the passes for a value of ``Acceleration.fusion``.

    They are tried once on ``device``: a machine may have Triton and no compiler, or a GPU that is
    too old for it. What fails is replaced by the plain passes, with a warning.
    """
    if fusion == "none":
        return Passes()
    try:
        found = _fused(fusion)
        _try(found, device)
    except Exception as error:  # whatever a toolchain raises
        logger.warning("norms and rotations run step by step on %s: %s", device, error)
        return Passes()
    return found


def _fused(fusion: str) -> Passes:
    if fusion == "triton":
        from hydra_model.fast import kernels

        return Passes(
            add_norm=kernels.add_norm,
            add_norm_quantised=kernels.add_norm_quantised,
            normalise_rotate=kernels.normalise_rotate,
            normalise=kernels.normalise,
            text_weights=kernels.text_weights,
            scale_rows=kernels.scale_rows,
            gather_patches=kernels.gather_patches,
            gelu_quantised=kernels.gelu_quantised,
            quantise=kernels.quantise,
        )
    return Passes(
        add_norm=compiled(add_norm),
        add_norm_quantised=compiled(add_norm_quantised),
        normalise_rotate=compiled(normalise_rotate),
        normalise=compiled(normalise),
        text_weights=compiled(text_weights),
        scale_rows=compiled(scale_rows),
        gelu_quantised=compiled(gelu_quantised),
        quantise=compiled(quantise),
    )


def _try(passes: Passes, device: torch.device) -> None:
    x, row = torch.ones(1, 1, 2, 32, device=device), torch.ones(32, device=device)
    table = torch.ones(1, 2, 8, device=device)
    wide = row.view(1, 1, 1, -1)
    passes.add_norm(x, x, wide, wide, wide, 1e-6)
    passes.normalise_rotate(x, row, table, table, 1e-6)
    passes.normalise(x, row, 1e-6)
    passes.text_weights(x, torch.ones(1, 2, 16, 16, device=device), wide[..., 0, :16], 1e-6)
    passes.scale_rows(row.view(1, -1), row[:1])
    passes.gather_patches(x, (1, 2), (1, 1, 2))
