# SPDX-License-Identifier: Apache-2.0
"""Training batches from the procedural world, rendered and encoded as they are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import ModelConfig
from hydra_model.evaluation.events import minimum_pixels
from hydra_model.procedural import Worlds, render_worlds, sample_worlds
from hydra_model.procedural.cores import CompiledCore, Core
from hydra_model.procedural.motion import MAX_SUBJECTS, PLAIN
from hydra_model.rays import previous_in_clip, token_cameras
from hydra_model.training.distributed import Process
from hydra_model.training.layouts import TEMPORAL_STRIDE, Layout
from hydra_model.training.whereabouts import (
    Forecast,
    Met,
    come_back,
    count_pixels,
    forecast_times,
    nearness,
    over_latent_frames,
    places,
)


@dataclass(frozen=True)
class Batch:
    """Latents ``[B, C, T, h, w]``, camera channels ``[B, T, N, c]`` and times ``[T]``.

    ``detail_camera`` are those of context and target for a detail scale, where there is one.
    ``subject [B, 1, Tt, h, w]`` is 1 where a latent position of the target shows a subject,
    ``returned`` in the same shape where one shows that had been out of sight for a second.
    Times are in latent-frame units since the first target frame.
    """

    context: Tensor
    target: Tensor
    context_camera: Tensor
    target_camera: Tensor
    context_times: Tensor
    target_times: Tensor
    subject: Tensor
    returned: Tensor
    forecast: Forecast
    detail_camera: Tensor | None = None


class WorldStream:
    """The worlds of a run, by step: every process meets other worlds, and none twice.

    Drawing worlds takes many small operations, so it is done for several steps at once.
    """

    def __init__(
        self, count: int, process: Process, *, style: str = "plain", steps_at_once: int = 64
    ) -> None:
        self.count, self.process, self.steps_at_once = count, process, steps_at_once
        self.style = style
        self._block = -1
        self._worlds: Worlds | None = None

    def worlds(self, step: int) -> Worlds:
        """Return the ``count`` worlds of a step."""
        block, place = divmod(step, self.steps_at_once)
        if self._worlds is None or block != self._block:
            drawn = self.count * self.steps_at_once
            first = (block * self.process.ranks + self.process.rank) * drawn
            seeds = torch.arange(first, first + drawn, device=self.process.device)
            device = self.process.device
            self._worlds, self._block = sample_worlds(seeds, style=self.style, device=device), block
        return self._worlds[place * self.count : (place + 1) * self.count]


class MixedStream:
    """The worlds of a run by step, of which a ``plain_share`` of the steps are on "plain" ones.

    Their blocks are counted by themselves, so that none of the drawn worlds is left unused.
    """

    def __init__(self, count: int, process: Process, *, style: str, plain_share: float) -> None:
        self.plain_share = plain_share
        self._own = WorldStream(count, process, style=style)
        self._plain = WorldStream(count, process, style=PLAIN)

    def worlds(self, step: int) -> Worlds:
        """Return the ``count`` worlds of a step."""
        plain, before = on_plain(step, self.plain_share)
        return self._plain.worlds(before) if plain else self._own.worlds(step)


def on_plain(step: int, share: float) -> tuple[bool, int]:
    """Say if a step is one of a ``share`` that are on "plain" worlds, and how many were before."""
    before = math.floor(step * share)
    return math.floor((step + 1) * share) > before, before


def render_clips(
    config: ModelConfig,
    worlds: Worlds,
    frames: list[int],
    core: Core | None,
    pad_to: int,
    camera_frames: list[int] | None = None,
    *,
    with_depth: bool = False,
) -> tuple[Tensor, ...]:
    """Render worlds at frame numbers (0 is the first target frame).

    The camera is where its path has it in ``camera_frames``, by default the same ones. Returns
    uint8 frames ``[B, T, H, W, 3]``, poses ``[B, T, 4, 4]``, subject ids and, if asked for, depth.
    A compiled renderer wants one shape: for it, times are padded to ``pad_to`` and cut again.
    """
    video = config.video
    count = len(frames)
    missing = pad_to - count if isinstance(core, CompiledCore) else 0
    device = worlds.scenes.sun_direction.device
    times, camera_times = (
        (on_device(numbers + numbers[-1:] * missing, device).double() + 1) / video.fps
        for numbers in (frames, camera_frames or frames)
    )
    images = render_worlds(
        worlds, times, camera_times=camera_times, height=video.height, width=video.width,
        fov_x=video.fov_x, renderer=core, with_depth=with_depth,
    )  # fmt: skip
    return tuple(image[:, :count] for image in images)


def on_device(values: Sequence[float], device: torch.device) -> Tensor:
    """Return numbers ``[n]`` on the device, without waiting for the work that it still has."""
    host = torch.tensor(values)
    if device.type == "cuda":
        return host.pin_memory().to(device, non_blocking=True)
    return host.to(device)


def to_video(frames: Tensor) -> Tensor:
    """uint8 ``[B, T, H, W, 3]`` to float ``[B, 3, T, H, W]`` in [-1, 1]."""
    return frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def latent_mask(present: Tensor) -> Tensor:
    """Cells of video frames, bool ``[B, 1, T, h, w]``, to latent frames, float: any frame's.

    A latent frame covers its own video frame and the three before it.
    """
    padded = F.pad(present.float(), (0, 0, 0, 0, TEMPORAL_STRIDE - 1, 0))
    pool = (TEMPORAL_STRIDE, 1, 1)
    return F.max_pool3d(padded, pool, stride=pool)


@torch.no_grad()
def procedural_batch(
    config: ModelConfig,
    autoencoder: Autoencoder,
    layout: Layout,
    worlds: Worlds,
    core: Core | None = None,
    pad_to: int = 0,
) -> Batch:
    """Render and encode one batch of worlds in the given layout."""
    context_frames, target_frames = layout.context_frames(), layout.target_frames()
    frames, poses, ids, depth = render_clips(
        config, worlds, context_frames + target_frames, core, pad_to,
        layout.context_camera_frames() + target_frames, with_depth=True,
    )  # fmt: skip
    device = frames.device
    split = len(context_frames)
    lengths = [len(clip.frames) for clip in layout.clips]
    *clips, target = encode_clips(autoencoder, frames, [*lengths, len(target_frames)])
    camera, detail_camera, inverse = cameras_of(config, layout, poses)
    own = on_device([context_frames.index(f) for f in layout.context_latent_frames()], device)
    height, width = config.video.height, config.video.width
    stride = config.autoencoder.spatial_stride
    _, rows, columns = config.transformer.patch_size
    counts = count_pixels(ids, MAX_SUBJECTS, stride)
    back = come_back(
        counts, on_device(context_frames + target_frames, device), len(target_frames),
        least=minimum_pixels(height, width), shortest=config.video.fps,
    )  # fmt: skip
    moments = on_device(forecast_times(config), device).double() + 1 / config.video.fps
    shown = over_latent_frames(counts[:, :, :split], layout)
    near = nearness(depth[:, own], config.video.fov_x, stride)
    pixels = stride**2 * TEMPORAL_STRIDE
    seen = (on_device(layout.context_latent_frames(), device).double() + 1) / config.video.fps
    ahead = (on_device(layout.target_latent_frames(), device).double() + 1) / config.video.fps
    stands, later, then = (places(worlds, t, inverse) for t in (seen, moments, ahead))
    in_view = counts[:, :, split::TEMPORAL_STRIDE].sum((-2, -1)) >= minimum_pixels(height, width)
    known = Forecast(shown, stands, later, near, pixels, met=Met(then, in_view))
    context_camera, target_camera = camera.split(
        [layout.context_latents, layout.target_latents], dim=1
    )
    return Batch(
        context=layout.context_of(clips),
        target=target,
        context_camera=context_camera,
        target_camera=target_camera,
        context_times=latent_times(layout.context_latent_frames(), device),
        target_times=latent_times(layout.target_latent_frames(), device),
        subject=latent_mask((counts[:, :, split:] > 0).any(1, keepdim=True)),
        returned=latent_mask(back),
        forecast=known.over_tokens(rows, columns),
        detail_camera=detail_camera,
    )


def encode_clips(
    autoencoder: Autoencoder, frames: Tensor, lengths: Sequence[int]
) -> list[Tensor]:
    """Encode clips of those ``lengths``, which ``frames`` are, each by itself.

    ``frames`` are uint8 ``[B, T, H, W, 3]``.
    """
    parts = frames.split(list(lengths), dim=1)
    # Clips of one length are encoded together: one pass, and few shapes to compile for.
    encoded = {}
    for length in set(lengths):
        same = [part for part in parts if part.shape[1] == length]
        together = autoencoder.encode_parallel(to_video(torch.cat(same)).to(autoencoder.wan.dtype))
        encoded[length] = iter(together.chunk(len(same)))
    return [next(encoded[length]) for length in lengths]


def cameras_of(
    config: ModelConfig, layout: Layout, poses: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the cameras of a layout's tokens and of latent positions, context and target.

    ``poses [B, T, 4, 4]`` are of the frames of both. The third is the inverse of the first target
    frame's, float64, to whose frame the cameras are relative.
    """
    context_frames = layout.context_frames()
    own, before = (
        on_device([context_frames.index(f) for f in frames_of], poses.device)
        for frames_of in (layout.context_latent_frames(), layout.context_previous_frames())
    )
    split = len(context_frames)
    # Without inv's check of its result, for which the GPU would have to be waited for.
    inverse = torch.linalg.inv_ex(poses[:, split].double()).inverse
    relative = inverse[:, None] @ poses.double()
    target_poses = relative[:, split::TEMPORAL_STRIDE]
    camera, detail_camera = token_cameras(
        config,
        torch.cat((relative[:, own], target_poses), dim=1).float(),
        torch.cat((relative[:, before], previous_in_clip(target_poses)), dim=1).float(),
        fov_x=config.video.fov_x,
    )
    return camera, detail_camera, inverse


def latent_times(frames: list[int], device: torch.device) -> Tensor:
    """Return the times of frames, counted from the first target frame, in latent-frame units."""
    return on_device(frames, device).double() / TEMPORAL_STRIDE
