# SPDX-License-Identifier: Apache-2.0
"""Learn a sampler's last step from where its own earlier steps lead.

In training a noisy target is truth and noise; in sampling the last step is given what the steps
before made of the noise. It takes that for truth, and sharpens what is wrong. So a share of the
targets begins where the model's own steps end, and what has settled there, the same in the clean
estimates of the last two steps, is held to the truth. What has not is where a subject may be:
there, and around true subjects, the target is what the weights that training began with make of
the same start. A mean over all places where a subject may be would be the smallest error, and the
wrong thing to show. But where those weights show a subject about as it is, the truth is wanted
again, so that what is found is shown plainly.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hydra_model.config import SamplerConfig
from hydra_model.sampler import schedule
from hydra_model.transformer import Conditioning, Transformer

_APART = 0.3  # mean square over channels, of two clean estimates that are not the same
_AROUND = 2  # latent positions around a subject
_FOUND = 0.75  # mean square over channels and neighbours, of what shows a subject about as it is


@dataclass(frozen=True)
class OwnStarts:
    """``teacher`` are the weights that training began with, the rest is the sampler's.

    ``sigmas`` are its noise shares, ``temperature`` multiplies the noise that it begins with.
    """

    teacher: Transformer
    sigmas: tuple[float, ...]
    temperature: float = 1.0

    @classmethod
    def of(cls, teacher: Transformer, sampler: SamplerConfig) -> OwnStarts:
        """Take a model's sampler; ``ValueError`` where it has one step."""
        sigmas = tuple(schedule(sampler.steps, sampler.shift).tolist())
        if len(sigmas) < 2:
            raise ValueError("own_share needs a sampler of 2 steps or more; this one has 1")
        return cls(teacher, sigmas, sampler.temperature)


class Start(NamedTuple):
    """Where own steps led: ``noisy [B, C, T, H, W]`` at ``sigma``, and what is wanted there.

    ``velocity`` is what is wanted of the model; ``found [B, 1, T, H, W]`` is 1 where a subject is,
    and is shown.
    """

    noisy: Tensor
    sigma: float
    velocity: Tensor
    found: Tensor


@torch.no_grad()
def own_start(
    model: Transformer,
    own: OwnStarts,
    conditioning: Conditioning,
    teacher_conditioning: Conditioning,
    latents: Tensor,
    noise: Tensor,
    subject: Tensor,
    known: Tensor | None = None,
) -> Start:
    """Follow ``model`` from unit ``noise [B, C, T, H, W]`` to its last step.

    ``latents`` are the true ones, ``subject [B, 1, T, H, W]`` is 1 where they show a subject.
    Where ``known``, bool [B], the model is told where subjects are: there it has to show them.
    """
    x = clean = own.temperature * noise
    for here, there in itertools.pairwise(own.sigmas):
        velocity = model(x, torch.full((len(x),), here, device=x.device), conditioning).float()
        clean = x - here * velocity
        x = x + (there - here) * velocity
    last = own.sigmas[-1]
    sigma = torch.full((len(x),), last, device=x.device)
    kept = own.teacher(x, sigma, teacher_conditioning).float()
    shown = x - last * kept
    apart = (shown - clean).square().mean(1, keepdim=True)
    apart = F.max_pool3d(apart, (1, 3, 3), 1, (0, 1, 1)) > _APART
    wide = 2 * _AROUND + 1
    around = F.max_pool3d(subject, (1, wide, wide), 1, (0, _AROUND, _AROUND)) > 0
    off = (shown - latents).square().mean(1, keepdim=True)
    off = F.avg_pool3d(off, (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)
    found = sure = around & (off < _FOUND)
    if known is not None:
        sure = found | (around & known[:, None, None, None, None])
    # At the last step the clean latents are wanted, whichever way the noise has gone.
    truth = (x - latents) / last
    velocity = torch.where((apart | around) & ~sure, kept, truth)
    return Start(x, last, velocity, found * subject)


def first_draws(worlds: int, draws: int, kept: int, device: torch.device) -> Tensor:
    """Return the numbers of the first ``kept`` of every world's ``draws`` targets."""
    numbers = torch.arange(worlds * draws, device=device).view(worlds, draws)
    return numbers[:, :kept].flatten()
