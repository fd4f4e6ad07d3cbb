# SPDX-License-Identifier: Apache-2.0
"""What foresight learns from in rendered worlds: contexts with their truth, and tracks in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import ModelConfig
from hydra_model.foresight import normed
from hydra_model.procedural import Worlds
from hydra_model.procedural.cores import Core
from hydra_model.procedural.motion import MAX_SUBJECTS
from hydra_model.procedural.tensors import TensorBatch
from hydra_model.spotting import Cameras, Spots, Spotter, Tracks
from hydra_model.training.data import (
    cameras_of,
    encode_clips,
    latent_times,
    on_device,
    render_clips,
)
from hydra_model.training.layouts import TEMPORAL_STRIDE, Layout, most_context_frames
from hydra_model.training.walks import Walks, errors_of, in_sight, kinds
from hydra_model.training.whereabouts import count_pixels, over_latent_frames, places
from hydra_model.transformer import Transformer

_PAIRS = 96  # positions of a world whose looks are compared
_ONE_SUBJECT = 0.6  # share of a track's positions that have to show the same one
_LEAST_PIXELS = 8  # of one subject in a latent position, over its video frames


class Seeing(NamedTuple):
    """The loss of spots, and what it is of: shares found and rightly found, median errors."""

    loss: Tensor
    found: Tensor
    right: Tensor
    bearing: Tensor
    distance: Tensor


def seeing(spotter: Spotter, spots: Spots, seen: Seen) -> Seeing:
    """Hold spots against the truth."""
    subject, shown = seen.foremost()
    present = shown.float()
    # A few pixels of a subject may be told either way.
    clear = (shown | (seen.shown.amax(1) == 0)).float()
    which = F.binary_cross_entropy_with_logits(spots.subject, present, reduction="none")
    off = errors_of(spots.place, seen.stood(subject), seen.rays[..., 3:6:2]).abs()
    where = (off / spots.error.exp() + spots.error).sum(-1)  # a Laplace distribution's likelihood
    where = (where * present).sum() / present.sum().clamp(min=1)
    chosen = torch.multinomial(present.flatten(1) + 1e-6, _PAIRS, replacement=True)
    use = present.flatten(1).gather(1, chosen)
    own = subject.flatten(1).gather(1, chosen)
    look = spots.look.flatten(1, 2)
    look = look.gather(1, chosen[..., None].expand(-1, -1, look.shape[-1]))
    alike = torch.einsum("bnl,bml->bnm", look, look) * spotter.same[0] + spotter.same[1]
    both = use[:, :, None] * use[:, None]
    same = (own[:, :, None] == own[:, None]).float()
    pairs = F.binary_cross_entropy_with_logits(alike, same, reduction="none")
    joined = _mean(pairs, both * same) + _mean(pairs, both * (1 - same))
    with torch.no_grad():
        told = (spots.subject > 0).float()
        found = (told * present).sum() / present.sum().clamp(min=1)
        right = (told * present).sum() / (told * clear).sum().clamp(min=1)
        some = off[shown] if shown.any() else off.new_zeros(1, 2)
        bearing, distance = some.median(0).values
    return Seeing(10 * (which * clear).mean() + where + joined, found, right, bearing, distance)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1)


@dataclass(frozen=True)
class Seen(TensorBatch):
    """Rendered worlds [B], encoded, with their truth.

    ``latents [B, C, Tc, H, W]`` and ``rays [B, Tc, P, channels]`` of the context, ``shown
    [B, S, Tc, P]`` the pixels of subjects in positions, ``stands`` and ``then`` their places, and
    ``kind`` as of ``Walks``. Of the target there are its cameras. ``led [B, Tc, P, K, 2]`` is where
    a scene flow leads, on the ground, and ``features [B, Tc, h, w, C]`` what it is read off.
    """

    latents: Tensor
    rays: Tensor
    shown: Tensor
    stands: Tensor
    then: Tensor
    kind: Tensor
    times: Tensor
    then_times: Tensor
    then_camera: Tensor
    then_facing: Tensor
    led: Tensor
    features: Tensor

    def foremost(self) -> tuple[Tensor, Tensor]:
        """Return which subject positions show most of, ``[B, Tc, P]``, and if enough of it."""
        most, subject = self.shown.max(dim=1)
        return subject, most >= _LEAST_PIXELS

    def stood(self, subject: Tensor) -> Tensor:
        """Return where the ``subject [B, Tc, P]`` of each position stands, on the ground."""
        rows = torch.arange(len(subject), device=subject.device).view(-1, 1, 1)
        frames = torch.arange(subject.shape[1], device=subject.device).view(1, -1, 1)
        return self.stands[rows, subject, frames][..., ::2]


@torch.no_grad()
def see(
    config: ModelConfig,
    autoencoder: Autoencoder,
    transformer: Transformer,
    layout: Layout,
    worlds: Worlds,
    core: Core | None = None,
    noise: Callable[[Tensor], Tensor] = lambda latents: latents,
) -> Seen:
    """Render and encode the context of worlds, with the scene flow of a transformer.

    Nothing is rendered of the target. ``noise`` is laid on the latents.
    """
    frames = layout.context_frames()
    images, _, ids = render_clips(
        config, worlds, frames, core, most_context_frames(config.chunk_latents),
        layout.context_camera_frames(),
    )  # fmt: skip
    device, split = images.device, layout.context_latents
    clips = encode_clips(autoencoder, images, [len(clip.frames) for clip in layout.clips])
    latents = noise(layout.context_of(clips).float())
    held = layout.context_camera_frames() + layout.target_frames()
    poses = worlds.trajectories.poses((on_device(held, device).double() + 1) / config.video.fps)
    camera, detail_camera, inverse = cameras_of(config, layout, poses)
    assert detail_camera is not None
    counts = count_pixels(ids, MAX_SUBJECTS, config.autoencoder.spatial_stride)
    shown = over_latent_frames(counts, layout).flatten(-2)
    own, after = layout.context_latent_frames(), layout.target_latent_frames()
    seconds = [(on_device(f, device).double() + 1) / config.video.fps for f in (own, after)]
    stands, then = (places(worlds, t, inverse) for t in seconds)
    sight = in_sight(config, worlds, poses[:, len(frames) :: TEMPORAL_STRIDE], seconds[1])
    times, later = (latent_times(f, device) for f in (own, after))
    with torch.autocast(device.type, torch.bfloat16):
        features, _, positions = transformer.read_flow(
            latents.to(transformer.head.linear.weight.dtype), camera[:, :split], times
        )
    assert positions is not None
    rays, ahead, count = detail_camera[:, :split].float(), Cameras.of(camera[:, split:]), len(shown)
    return Seen(
        latents, rays, shown, stands, then[..., ::2],
        kinds(shown.amax(-1) >= _LEAST_PIXELS, sight, times.float(), later.float(),
              config.video.fps),
        times.float().expand(count, -1), later.float().expand(count, -1), ahead.place,
        ahead.facing, positions.points(rays)[..., ::2], normed(features),
    )  # fmt: skip


def found_walks(seen: Seen, tracks: Tracks, patch: tuple[int, int]) -> Walks:
    """Return those tracks that are of one subject, with what is true of it."""
    subject, shown = seen.foremost()
    most = tracks.seen.shape[1]
    numbers = torch.arange(most, device=subject.device).view(1, -1, 1, 1)
    own = tracks.part[:, None] == numbers  # [B, S, Tc, P]
    votes = torch.stack(
        [
            (own & ((subject == number) & shown)[:, None]).flatten(2).sum(-1)
            for number in range(seen.shown.shape[1])
        ],
        -1,
    )
    best, who = votes.max(-1)
    good = (best > 0) & (best >= _ONE_SUBJECT * own.flatten(2).sum(-1))
    rows = torch.arange(len(who), device=who.device)[:, None]
    cameras = Cameras.of(seen.rays)

    def each(x: Tensor) -> Tensor:
        return x[:, None].expand(-1, most, *[-1] * (x.ndim - 1))

    columns = (
        tracks.place, tracks.error, tracks.seen, seen.stands[rows, who][..., ::2],
        each(seen.times), each(cameras.place), each(cameras.facing), seen.then[rows, who],
        seen.kind[rows, who], each(seen.then_times), each(seen.then_camera),
        each(seen.then_facing), tracks.lead(seen.led),
        tracks.hints(seen.features, patch).to(torch.bfloat16), good,
    )  # fmt: skip
    return Walks(*(column[good] for column in columns))
