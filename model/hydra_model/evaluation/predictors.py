# SPDX-License-Identifier: Apache-2.0
"""What is compared: the model at several step counts, its ablations, and simple baselines."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from hydra_model.autoencoder import Autoencoder, fastest_dtype
from hydra_model.config import ModelConfig, SamplerConfig
from hydra_model.cpu_blocks import use_cpu_blocks
from hydra_model.evaluation.ablations import overlapping_memory
from hydra_model.freed_memory import keep_freed_memory
from hydra_model.loading import prompt_embedder
from hydra_model.rays import central_rays, previous_in_clip, token_cameras
from hydra_model.sampler import sample
from hydra_model.transformer import Conditioning, Transformer

_COPIED_EVERY = 4  # context frames; those between show next to nothing else


class Predictor(Protocol):
    """Predicts the target frames of B worlds from what the context shows."""

    name: str

    def predict(
        self,
        context_frames: Tensor,
        context_poses: Tensor,
        target_poses: Tensor,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> Tensor:
        """Return uint8 [B, Tt, H, W, 3].

        ``context_frames`` uint8 [B, Tc, H, W, 3], poses float64 [B, T, 4, 4] (optical
        camera-to-world, metres); ``seeds`` are one per world, for noise that does not depend on
        the batch; ``captions`` are for models that read them.
        """
        ...


class LastFrameRepeated:
    """The last context frame for ever: what a predictor that knows nothing reaches."""

    name = "last frame repeated"

    def predict(
        self,
        context_frames: Tensor,
        context_poses: Tensor,
        target_poses: Tensor,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> Tensor:
        return context_frames[:, -1:].expand(-1, target_poses.shape[1], -1, -1, -1)


@dataclasses.dataclass(frozen=True)
class Panorama:
    """Every pixel from the newest context frame that looked its way: a memory that only copies.

    Right for static things and a camera that turns in place. It knows neither parallax nor motion,
    and where nobody looked it is grey. ``fov_x`` is in radians.
    """

    fov_x: float
    name = "context copied along rays"

    def predict(
        self,
        context_frames: Tensor,
        context_poses: Tensor,
        target_poses: Tensor,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> Tensor:
        height, width = context_frames.shape[2:4]
        context_poses, target_poses = (
            poses.to(context_frames.device) for poses in (context_poses, target_poses)
        )
        aspect, edge = height / width, math.tan(self.fov_x / 2)
        scale = context_poses.new_tensor([edge, edge * aspect])
        rays = central_rays((height, width), aspect=aspect, fov_x=self.fov_x, device=scale.device)
        looks = target_poses[..., :3, :3] @ rays.double().T  # [B, Tt, 3, H * W]
        count = looks.shape[1]
        found = context_frames.new_full((len(looks), 3, count, height, width), 128)
        missing = torch.ones_like(found[:, :1], dtype=torch.bool)
        for frame in range(context_frames.shape[1] - 1, -1, -_COPIED_EVERY):
            x, y, z = (context_poses[:, frame, :3, :3].mT[:, None] @ looks).unbind(2)
            place = torch.stack((x, y), -1) / z[..., None].clamp(min=1e-6) / scale
            seen = (z > 0) & (place.abs() <= 1).all(-1)
            picture = F.grid_sample(
                context_frames[:, frame].permute(0, 3, 1, 2).float(),
                place.float().flatten(1, 2)[:, None], padding_mode="border", align_corners=False,
            )  # fmt: skip
            taken = missing & seen.view(missing.shape)
            found = torch.where(taken, picture.view(found.shape).round().to(torch.uint8), found)
            missing &= ~taken
        return found.permute(0, 2, 3, 4, 1)


@dataclasses.dataclass
class LoadedModel:
    """An autoencoder and a transformer on one device, batched.

    ``embed`` turns a caption into ``[tokens, dim]``, None for models without text.
    """

    config: ModelConfig
    autoencoder: Autoencoder
    transformer: Transformer
    embed: Callable[[str], Tensor] | None = None

    @property
    def device(self) -> torch.device:
        return self.transformer.head.linear.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.head.linear.weight.dtype

    def set_temperature(self, temperature: float) -> None:
        """Sample at another ``SamplerConfig.temperature`` from now on."""
        sampler = dataclasses.replace(self.config.sampler, temperature=temperature)
        self.config = dataclasses.replace(self.config, sampler=sampler)

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 [B, T, H, W, 3] to latents float32 [B, C, k, h, w]."""
        video = frames.to(self.device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        return self.autoencoder.encode(video)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to uint8 [B, T, H, W, 3]."""
        video = self.autoencoder.decode(latents)
        levels = ((video + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return levels.permute(0, 2, 3, 4, 1)

    def reconstruct(self, frames: Tensor) -> Tensor:
        """Encode and decode uint8 [B, T, H, W, 3]: what the autoencoder alone can reach."""
        return self.decode(self.encode(frames))

    def with_top_k(self, top_k: int) -> LoadedModel:
        """Return the same weights that retrieve another number of memory frames."""
        transformer_config = dataclasses.replace(self.config.transformer, top_k=top_k)
        with torch.device("meta"):
            transformer = Transformer(transformer_config)
        transformer.load_state_dict(self.transformer.state_dict(), assign=True)
        transformer.requires_grad_(False).eval()
        config = dataclasses.replace(self.config, transformer=transformer_config)
        return LoadedModel(config, self.autoencoder, transformer, self.embed)

    def texts(self, captions: Sequence[str]) -> Tensor | None:
        """Embed one caption per world: [B, tokens, dim], None for models without text."""
        if self.embed is None:
            return None
        rows = torch.stack([self.embed(caption) for caption in captions])
        return rows.to(self.device, self.dtype)

    def prepare(
        self,
        context_frames: Tensor,
        context_poses: Tensor,
        target_poses: Tensor,
        text: Tensor | None = None,
    ) -> Conditioning:
        """Encode a context clip and condition on the poses; see ``Predictor.predict``."""
        config, stride = self.config, self.config.autoencoder.temporal_stride
        latents = self.encode(context_frames)
        clips = [poses[:, ::stride].double() for poses in (context_poses, target_poses)]
        reference = torch.linalg.inv(clips[1][:, :1])
        relative, previous = (
            (reference @ torch.cat(poses, 1)).float().to(self.device)
            for poses in (clips, [previous_in_clip(clip) for clip in clips])
        )
        camera, detail_camera = token_cameras(
            config, relative, previous, fov_x=config.video.fov_x
        )
        context, target = latents.shape[2], clips[1].shape[1]
        # A latent frame stands for the last of its video frames; the first target frame is 0.
        first = -context_frames.shape[1] / stride
        times = torch.arange(context, dtype=torch.float64, device=self.device) + first
        return self.transformer.prepare(
            latents.to(self.dtype),
            camera[:, :context],
            camera[:, context:],
            context_times=times,
            target_times=torch.arange(target, dtype=torch.float64, device=self.device),
            text=text,
            detail_camera=detail_camera,
        )


@dataclasses.dataclass
class ModelPredictor:
    """The model, with ``steps`` sampling steps; ``context_latents`` keeps only the last ones.

    ``sampler``, where given, decides instead of the model's own with ``steps``.
    ``keys`` is how many keys a token of the target attends to, for the report.
    """

    name: str
    model: LoadedModel
    steps: int
    context_latents: int | None = None
    sampler: SamplerConfig | None = None
    keys: int | None = None

    @staticmethod
    def name_for(steps: int) -> str:
        """Return the usual name of the whole model at a number of steps."""
        return f"model, {steps} steps"

    @torch.inference_mode()
    def predict(
        self,
        context_frames: Tensor,
        context_poses: Tensor,
        target_poses: Tensor,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> Tensor:
        config = self.model.config
        stride = config.autoencoder.temporal_stride
        if self.context_latents is not None:
            kept = 1 + stride * (self.context_latents - 1)
            context_frames, context_poses = context_frames[:, -kept:], context_poses[:, -kept:]
        sampler = self.sampler or dataclasses.replace(config.sampler, steps=self.steps)
        names = captions or [""] * len(seeds)
        clip = (context_frames, context_poses, target_poses)
        conditioning = self.model.prepare(*clip, text=self.model.texts(names))
        negative = None
        if self.model.embed is not None and sampler.guidance_scale != 1.0:
            without = self.model.texts([sampler.negative_prompt] * len(seeds))
            negative = self.model.prepare(*clip, text=without)
        spatial = config.autoencoder.spatial_stride
        shape = (
            config.transformer.latent_channels,
            1 + (target_poses.shape[1] - 1) // stride,
            context_frames.shape[2] // spatial,
            context_frames.shape[3] // spatial,
        )
        noise = torch.stack([world_noise(seed, shape) for seed in seeds]).to(self.model.device)
        return self.model.decode(
            sample(self.model.transformer, noise, conditioning, sampler, negative=negative)
        )


@dataclasses.dataclass
class OverlapPredictor:
    """The model whose blocks retrieve by field-of-view overlap instead of relevance."""

    name: str
    inner: ModelPredictor
    chosen: list[Tensor]

    @property
    def keys(self) -> int | None:
        return self.inner.keys

    def predict(
        self,
        context_frames: Tensor,
        context_poses: Tensor,
        target_poses: Tensor,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> Tensor:
        config = self.inner.model.config
        stride = config.autoencoder.temporal_stride
        own = overlapping_memory(
            context_poses[:, ::stride], target_poses[:, ::stride], config,
            fov_x=config.video.fov_x,
        )  # fmt: skip
        self.chosen[0] = own.to(self.inner.model.device)
        return self.inner.predict(context_frames, context_poses, target_poses, seeds, captions)


def world_noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Return a world's starting noise, float32; made on the CPU, so equal on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def load_model(
    folder: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    prompts: bool = False,
) -> LoadedModel:
    """Load a model folder, or "default" for the weights that come with the package.

    Without ``dtype`` it is what the device multiplies fastest. On a CPU its blocks run as in the
    simulator; what ``with_top_k`` returns has readable ones, which can be changed. Raises
    ``CheckpointError`` where the weights cannot be used and, unless there will be ``prompts``,
    ``ValueError`` for a model that needs them.
    """
    from hydra_model.checkpoints import load_autoencoder, load_config, load_transformer
    from hydra_model.resources import weights_folder

    if str(folder) == "default":
        folder = weights_folder()
    config = load_config(folder)
    if not prompts:
        _refuse_text(config)
    device = torch.device(device)
    if device.type == "cpu":
        keep_freed_memory()
    dtype = dtype or fastest_dtype(device)
    embed = prompt_embedder(Path(folder), config, device)
    transformer = load_transformer(folder, config, dtype=dtype, device=device)
    transformer.requires_grad_(False).eval()
    if device.type == "cpu":
        use_cpu_blocks(transformer)
    autoencoder = load_autoencoder(folder, config, device=device).prepare(device, dtype)
    return LoadedModel(config, autoencoder, transformer, embed)


def untrained_model(
    config: ModelConfig, device: torch.device | str = "cpu", *, seed: int = 0
) -> LoadedModel:
    """Return a model with random weights, to try a run before there is anything to judge."""
    _refuse_text(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = Autoencoder(config.autoencoder)
        transformer = Transformer(config.transformer)
    device = torch.device(device)
    dtype = fastest_dtype(device)
    transformer.to(device=device, dtype=dtype).requires_grad_(False).eval()
    return LoadedModel(config, autoencoder.prepare(device, dtype), transformer)


def _refuse_text(config: ModelConfig) -> None:
    if config.text is not None:
        raise ValueError(
            f"model {config.name!r} reads prompts, and procedural worlds have none; "
            "accepted are models whose config.json has no text"
        )
