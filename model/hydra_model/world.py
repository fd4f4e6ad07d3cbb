# SPDX-License-Identifier: Apache-2.0
"""The simulator without ROS: a world that is reset, stepped along camera poses, saved, restored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hydra_model.autoencoder import Autoencoder, video_to_frames
from hydra_model.checkpoints import load_autoencoder, load_config, load_transformer
from hydra_model.clips import check_clip, check_times
from hydra_model.conditioning import chunk_noise
from hydra_model.config import ModelConfig, SamplerConfig
from hydra_model.freed_memory import keep_freed_memory
from hydra_model.loading import (
    choose_device,
    choose_dtype,
    open_tiny_decoder,
    prompt_embedder,
    speed_up,
)
from hydra_model.memory import MemoryBank, MemorySettings
from hydra_model.resources import weights_folder
from hydra_model.retrieval import retrieval_matrix
from hydra_model.sampler import sample
from hydra_model.sampler_presets import EXACT
from hydra_model.sampler_presets import sampler_preset as choose_sampler
from hydra_model.selection import Selection
from hydra_model.state import State, check_fov_x, check_seed
from hydra_model.state_files import load_state, save_state
from hydra_model.state_parts import check_latents
from hydra_model.timings import Clock
from hydra_model.tiny_decoder import VideoDecoder
from hydra_model.transformer import Transformer
from hydra_model.world_model import Frames, Poses, WorldModel, check_finite

__all__ = ["Cancelled", "Chunk", "Frames", "Poses", "State", "World"]


class Cancelled(Exception):
    """A step was given up on request; the world is as it was before."""


@dataclass(frozen=True)
class Chunk:
    """What one step predicted.

    ``poses [T, 4, 4]`` optical camera-to-world in metres, ``times [T]`` simulated seconds,
    ``frames`` uint8 ``[T, H, W, 3]`` RGB, ``timings`` seconds by part.
    """

    poses: Poses
    times: npt.NDArray[np.float64]
    frames: Frames
    timings: dict[str, float]


class World(WorldModel):
    """A learned world: context in, camera poses in, predicted frames out.

    Not thread-safe: one thread owns it, but the states it gives away may be read by any. The
    same seed, state and poses give the same frames on the same machine. Memory changes only
    when a step or an observation is complete.
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
        seed: int = 0,
    ) -> None:
        super().__init__(
            config, autoencoder, transformer,
            embed_prompt=embed_prompt, sampler=sampler, memory=memory, decoder=decoder,
        )  # fmt: skip
        self._seed = check_seed(seed)
        self._state: State | None = None

    @classmethod
    def load(
        cls,
        model: str | Path = "default",
        *,
        device: str = "auto",
        dtype: str = "auto",
        seed: int = 0,
        sampler: SamplerConfig | None = None,
        sampler_preset: str = EXACT,
        acceleration: str = "auto",
        gpus: int = 1,
        text_encoder_device: str = "auto",
        tiny_decoder: str | Path | None = None,
        memory: MemorySettings | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> World:
        """Load a model folder, or "default" for the weights that come with the package.

        ``device`` is "auto", "cpu" or "cuda[:n]"; ``dtype`` is "auto" (what the device
        multiplies fastest), "float32", "bfloat16" or "float16". ``sampler_preset`` is one of
        ``SAMPLER_PRESETS`` and changes ``sampler``, by default the model's own;
        ``acceleration``, one of ``ACCELERATIONS``, is how the model runs ("fp8" rounds more),
        on ``gpus`` of the host. ``text_encoder_device`` "cpu" keeps the text encoder, which is
        loaded for new prompts only, off the GPU. ``tiny_decoder`` is a TAEHV file for Wan 2.1,
        whose decoder then makes the pictures.
        ``progress(what, share)`` is called as parts are ready. Raises ``CheckpointError`` for
        unusable weights, and ``ValueError`` for a decoder of other latents.
        """
        report = progress or (lambda what, share: None)
        folder = weights_folder() if str(model) == "default" else Path(model)
        place = choose_device(device)
        if place.type == "cpu":
            keep_freed_memory()
        number = choose_dtype(dtype, place)
        report("configuration", 0.0)
        config = load_config(folder)
        sampler = choose_sampler(sampler_preset, sampler or config.sampler)
        report("autoencoder", 0.05)
        autoencoder = load_autoencoder(folder, config, device=place).prepare(place, number)
        decoder = None if tiny_decoder is None else open_tiny_decoder(
            Path(tiny_decoder), config, place, number
        )  # fmt: skip
        report("transformer", 0.2)
        transformer = load_transformer(folder, config, dtype=number, device=place)
        transformer.requires_grad_(False).eval()
        report("acceleration", 0.8)
        decoding = (autoencoder, config.video) if decoder is None else None
        speed_up(transformer, acceleration, decoding=decoding, gpus=gpus, folder=folder)
        report("ready", 1.0)
        own = text_encoder_device == "auto"
        text_place = place if own else choose_device(text_encoder_device)
        embed_prompt = prompt_embedder(folder, config, text_place)
        return cls(
            config, autoencoder, transformer, embed_prompt=embed_prompt,
            sampler=sampler, memory=memory, decoder=decoder, seed=seed,
        )  # fmt: skip

    @property
    def ready(self) -> bool:
        """Whether a world was reset or restored."""
        return self._state is not None

    @property
    def pose(self) -> Poses:
        """Optical camera-to-world ``[4, 4]`` of the last committed frame."""
        return self.state().pose.copy()

    @property
    def time(self) -> float:
        """Simulated seconds of the last committed frame; the context ends at 0."""
        return self.state().time

    @property
    def memory_size(self) -> int:
        """Latent frames in memory."""
        return len(self.state().memory)

    @property
    def memory_bytes(self) -> int:
        """Bytes that the live state's latents take, wherever they are."""
        return self.state().memory.bytes

    def reset(
        self,
        frames: Frames,
        poses: npt.ArrayLike,
        prompt: str = "",
        *,
        seed: int | None = None,
        fov_x: float | None = None,
    ) -> None:
        """Start a world from a context clip whose last frame is at time 0.

        ``frames`` uint8 ``[T, H, W, 3]`` at the model's size, ``poses [T, 4, 4]``; T is 17 or
        more and 1 + 4n. ``fov_x`` is the camera's horizontal field of view in radians, by
        default the model's. On any error the world stays as it was.
        """
        poses = check_clip(self.config, frames, poses, "context")
        shortest = 1 + 4 * self.config.autoencoder.temporal_stride
        if len(frames) < shortest:
            raise ValueError(
                f"the context has {len(frames)} frames; at least {shortest} are needed"
            )
        times = np.arange(1 - len(frames), 1) / self.config.video.fps
        fov_x = self.config.video.fov_x if fov_x is None else check_fov_x(fov_x)
        seed = self._seed if seed is None else check_seed(seed)
        self.embedding(prompt)
        segment = self.encode(frames, poses, times)
        self._state = State(
            memory=MemoryBank((MemoryBank().watched(segment, fov_x),)),
            pose=poses[-1], time=0.0, seed=seed, chunks=0,
            prompt=prompt, fov_x=fov_x,
        )  # fmt: skip

    def observe(
        self, frames: Frames, poses: npt.ArrayLike, *, times: npt.ArrayLike | None = None
    ) -> None:
        """Take real frames that follow the last committed one into memory.

        ``frames`` and ``poses`` as for ``reset``, but T may be 1 + 4n for any n, also 1.
        ``times [T]`` are simulated seconds, increasing and after the world's time; by default
        the frames follow at the model's rate, which is what its weights know. Time and pose
        move on to the last frame. On any error the world stays as it was.
        """
        state = self.state()
        poses = check_clip(self.config, frames, poses, "observation")
        if times is None:
            seconds = state.time + np.arange(1, len(frames) + 1) / self.config.video.fps
        else:
            seconds = check_times(times, len(frames), state.time, "observation")
        self.store.fit()
        segment = self.encode(frames, poses, seconds)
        self._state = state.followed_by(segment, poses[-1], float(seconds[-1]))

    @torch.inference_mode()
    def step(
        self,
        poses: npt.ArrayLike,
        *,
        on_context: Callable[[Selection, MemoryBank], None] | None = None,
        on_frames: Callable[[int, Frames], None] | None = None,
        on_retrieval: Callable[[npt.NDArray[np.float32]], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Chunk:
        """Predict the next frames, seen from ``poses [T, 4, 4]`` (one pose per frame).

        T is 1 + 4n and at most ``max_chunk_frames``. ``on_context(selection, memory)`` gets
        what was chosen of the memory before the sampling, ``on_retrieval(matrix)`` afterwards
        how often each latent frame of the chunk chose each selected one (``retrieval_matrix``;
        costs nothing when not asked for), ``on_frames(first, frames)`` frames as they are
        decoded. ``cancelled()`` is asked between sampling steps and decoded pieces; when it
        says yes, ``Cancelled`` is raised and nothing is committed. ``SpillError`` says, before
        any work, that memory does not fit on the disk.
        """
        state = self.state()
        targets = self.targets(state, poses)

        def check(*_: Any) -> None:
            if cancelled is not None and cancelled():
                raise Cancelled(f"step at {state.time:.2f} s")

        self.store.fit()
        clock = Clock(self.device)
        selection, context = self.select(state, targets)
        if on_context is not None:
            on_context(selection, state.memory)
        conditioning, negative = self.condition(state, context, targets)
        clock.lap("context")
        count = len(targets.latent_times)
        noise = chunk_noise(self.config, state.seed, state.chunks, count, self.device)
        chosen: list[Tensor] | None = None if on_retrieval is None else []
        latents = sample(
            self.transformer, noise, conditioning, self.sampler,
            negative=negative, before_step=check, selections=chosen,
        )  # fmt: skip
        check_finite(latents)
        clock.lap("sampling")
        if on_retrieval is not None and chosen is not None:
            stride = self.config.transformer.memory_stride[0]
            on_retrieval(
                retrieval_matrix(
                    chosen, context=len(context.times), target=count, memory_stride=stride
                )
            )
        pieces: list[Frames] = []
        done = 0
        for video in self.decoder.decode_stream(latents):
            check()
            piece = video_to_frames(video)
            if not pieces:
                clock.first("first_frame")
            if on_frames is not None:
                on_frames(done, piece)
            pieces.append(piece)
            done += len(piece)
        clock.lap("decoding")
        frames = np.concatenate(pieces)
        segment = self.segment(latents[0], targets, frames, "imagined")
        self._state = state.followed_by(segment, targets.poses[-1], float(targets.times[-1]))
        return Chunk(targets.poses, targets.times, frames, clock.parts)

    def state(self) -> State:
        """Return the live state; it stays valid whatever happens to the world later."""
        if self._state is None:
            raise ValueError("no world yet: call reset first")
        return self._state

    def restore(self, state: State) -> None:
        """Go back to a state that ``state`` returned, of this world or another of its model.

        Raises ``ValueError`` for a state of a model with other latents.
        """
        if not isinstance(state, State):
            raise ValueError(f"a {type(state).__name__} is no state; accepted: what state() gave")
        for segment in state.memory.segments:
            check_latents(segment.latents, self.config)
        self.embedding(state.prompt)
        self._state = state

    def save(
        self, folder: str | Path, state: State | None = None, *, about: dict[str, Any] | None = None
    ) -> None:
        """Write a state, by default the live one, to a folder (safetensors and JSON).

        With a ``state`` nothing of the live world is read: another thread may do it.
        All or nothing: on ``StateError`` the folder holds what it held before. ``about`` is
        kept with it, for ``state_files.read_facts``.
        """
        save_state(Path(folder), state or self.state(), self.config, self.weights, about or {})

    def load_state(self, folder: str | Path) -> None:
        """Make a saved state the live one; on any error the world stays as it was."""
        self.restore(self.read_state(folder))

    def read_state(self, folder: str | Path) -> State:
        """Return a saved state; the live world is not touched, so another thread may do it.

        Raises ``StateError`` where there is no whole state of this model and these weights.
        """
        return load_state(
            Path(folder), self.config, self.weights, device=self.device, store=self.store
        )
