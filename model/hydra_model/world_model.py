# SPDX-License-Identifier: Apache-2.0
"""The loaded model of a world and all that a chunk is made with, without a live state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hydra_model.autoencoder import Autoencoder, frames_to_video
from hydra_model.cameras import latent_poses
from hydra_model.conditioning import Targets, chunk_targets, condition, memory_request
from hydra_model.config import ModelConfig, SamplerConfig
from hydra_model.fingerprint import fingerprint
from hydra_model.latent_store import LatentStore
from hydra_model.memory import Context, Latents, MemorySettings, MemoryUsage, Origin, Segment
from hydra_model.selection import Selection, check_policy, default_policy, select
from hydra_model.state import State
from hydra_model.thumbnails import make_thumbnails
from hydra_model.tiny_decoder import VideoDecoder
from hydra_model.transformer import Conditioning, Transformer

Frames = npt.NDArray[np.uint8]
Poses = npt.NDArray[np.float64]


class WorldModel:
    """Autoencoder, transformer, prompts and memory settings: the pieces of a step.

    Nothing here depends on a live state, so rollouts from any state use them too. ``store``
    keeps the latents of all states within the limits of memory. ``decoder`` makes the pictures of
    latents: the autoencoder, unless another is given.
    """

    def __init__(
        self,
        config: ModelConfig,
        autoencoder: Autoencoder,
        transformer: Transformer,
        *,
        embed_prompt: Callable[[str], Tensor] | None = None,
        sampler: SamplerConfig | None = None,
        memory: MemorySettings | None = None,
        decoder: VideoDecoder | None = None,
    ) -> None:
        memory = memory or MemorySettings()
        self.config = config
        self.sampler = sampler or config.sampler
        self.autoencoder = autoencoder
        self.decoder: VideoDecoder = decoder or autoencoder
        self.transformer = transformer
        self.memory_policy = memory.policy
        self.store = LatentStore(memory.limits)
        self._embed_prompt = embed_prompt
        self._embeddings: dict[str, Tensor] = {}
        self._weights = ""

    @property
    def device(self) -> torch.device:
        return self.transformer.head.linear.weight.device

    @property
    def weights(self) -> str:
        """A short name of the weights' contents; states of others are refused."""
        if not self._weights:
            self._weights = fingerprint(self.config, (self.autoencoder, self.transformer))
        return self._weights

    @property
    def max_chunk_frames(self) -> int:
        """Video frames of the longest step."""
        return self.config.chunk_frames

    @property
    def memory_policy(self) -> str:
        """How context is chosen, one of ``selection.POLICIES``; may be set between steps.

        Set to "default" it becomes what suits the model (``selection.default_policy``).
        """
        return self._policy

    @memory_policy.setter
    def memory_policy(self, name: str) -> None:
        suited = default_policy(self.config.transformer)
        self._policy = suited if name == "default" else check_policy(name)

    @property
    def memory_usage(self) -> MemoryUsage:
        """Bytes that the latents of the live state and of all kept snapshots take, by place."""
        return self.store.usage()

    def targets(self, state: State, poses: npt.ArrayLike) -> Targets:
        """Check the commanded poses of a chunk that follows a state."""
        return chunk_targets(self.config, state.time, poses)

    def select(self, state: State, targets: Targets) -> tuple[Selection, Context]:
        """Choose what of a state's memory conditions a chunk, and get it."""
        request = memory_request(self.config, targets, state.fov_x)
        selection = select(self.memory_policy, state.memory, request)
        return selection, state.memory.gather(selection.indices)

    def condition(
        self, state: State, context: Context, *targets: Targets
    ) -> tuple[Conditioning, Conditioning | None]:
        """Prepare the sampling of a chunk, or of a batch that shares context and times.

        The second conditioning is for guidance, None where the model does without.
        """

        def prepare(prompt: str) -> Conditioning:
            return condition(
                self.transformer, self.config, context,
                [own.latent_poses for own in targets], targets[0].latent_times,
                fov_x=state.fov_x, text=self.embedding(prompt),
            )  # fmt: skip

        guided = self.sampler.guidance_scale != 1.0 and self.config.text is not None
        return prepare(state.prompt), prepare(self.sampler.negative_prompt) if guided else None

    def segment(
        self, latents: Tensor, targets: Targets, frames: Frames, origin: Origin = "imagined"
    ) -> Segment:
        """Return what memory keeps of a chunk: ``latents [C, k, h, w]``, ``frames`` [T, ...]."""
        kept = self.store.keep(Latents(latents.to(torch.float32)))
        stride = self.config.autoencoder.temporal_stride
        thumbnails = make_thumbnails(frames[::stride])
        return Segment(kept, targets.latent_poses, targets.latent_times, origin, thumbnails)

    def embedding(self, prompt: str) -> Tensor | None:
        """Return the prompt's embedding ``[1, L, text_dim]``, None for a model without text."""
        if self._embed_prompt is None:
            return None
        if prompt not in self._embeddings:
            dtype = self.transformer.head.linear.weight.dtype
            self._embeddings[prompt] = self._embed_prompt(prompt)[None].to(self.device, dtype)
        return self._embeddings[prompt]

    @torch.inference_mode()
    def encode(self, frames: Frames, poses: Poses, times: Poses) -> Segment:
        """Return what memory keeps of given frames [T, ...], with a pose and a time each."""
        stride = self.config.autoencoder.temporal_stride
        latents = self.autoencoder.encode(frames_to_video(frames, self.device))[0]
        targets = Targets(poses, times, latent_poses(poses, stride), times[::stride])
        return self.segment(latents, targets, frames, "observed")


def check_finite(latents: Tensor) -> None:
    """Raise ``ValueError`` where a prediction is no picture: memory would keep it for good."""
    if not bool(torch.isfinite(latents).all()):
        raise ValueError(
            "the prediction is not finite, so nothing of it is kept; the poses may lie too far "
            "from all that memory holds"
        )
