# SPDX-License-Identifier: Apache-2.0
"""The simulator without ROS: a world that is reset, stepped along camera poses, saved, restored."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hydra_model.autoencoder import Autoencoder, frames_to_video, video_to_frames
from hydra_model.cameras import check_poses, latent_poses, relative_poses
from hydra_model.checkpoints import load_autoencoder, load_config, load_transformer
from hydra_model.checkpoints.files import identity
from hydra_model.config import ModelConfig, SamplerConfig
from hydra_model.loading import choose_device, choose_dtype, prompt_embedder
from hydra_model.memory import Context, MemoryBank, Segment
from hydra_model.rays import camera_conditioning
from hydra_model.resources import weights_folder
from hydra_model.sampler import sample
from hydra_model.state_files import read_state, write_state
from hydra_model.timings import Clock
from hydra_model.transformer import Conditioning, Transformer

Frames = npt.NDArray[np.uint8]
Poses = npt.NDArray[np.float64]
logger = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class State:
    """An immutable snapshot: memory, clock, seed, prompt. Taking one copies nothing."""

    memory: MemoryBank
    pose: Poses
    time: float
    seed: int
    chunks: int
    prompt: str
    fov_x: float


class World:
    """A learned world: context in, camera poses in, predicted frames out.

    Not thread-safe: one thread owns it. The same seed, state and poses give the same frames on
    the same machine. Memory changes only when a step or an observation is complete.
    """

    def __init__(
        self,
        config: ModelConfig,
        autoencoder: Autoencoder,
        transformer: Transformer,
        *,
        embed_prompt: Callable[[str], Tensor] | None = None,
        sampler: SamplerConfig | None = None,
        seed: int = 0,
        weights: str = "",
    ) -> None:
        self.config = config
        self.weights = weights  # a short name of their contents, "" where it is not known
        self.sampler = sampler or config.sampler
        self._autoencoder = autoencoder
        self._transformer = transformer
        self._embed_prompt = embed_prompt
        self._embeddings: dict[str, Tensor] = {}
        self._seed = seed
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
        progress: Callable[[str, float], None] | None = None,
    ) -> World:
        """Load a model folder, or "default" for the weights that come with the package.

        ``device`` is "auto", "cpu" or "cuda[:n]"; ``dtype`` is "auto" (what the device
        multiplies fastest), "float32", "bfloat16" or "float16". ``progress(what, share)`` is
        called as parts are ready. Raises ``CheckpointError`` for unusable weights.
        """
        report = progress or (lambda what, share: None)
        folder = weights_folder() if str(model) == "default" else Path(model)
        place = choose_device(device)
        number = choose_dtype(dtype, place)
        report("configuration", 0.0)
        config = load_config(folder)
        report("autoencoder", 0.05)
        autoencoder = load_autoencoder(folder, config, device=place).prepare(place, number)
        report("transformer", 0.2)
        transformer = load_transformer(folder, config, dtype=number, device=place)
        transformer.requires_grad_(False).eval()
        report("ready", 1.0)
        return cls(
            config, autoencoder, transformer,
            embed_prompt=prompt_embedder(folder, config, place), sampler=sampler, seed=seed,
            weights=identity(folder.glob("*.safetensors")),
        )  # fmt: skip

    @property
    def device(self) -> torch.device:
        return self._transformer.head.linear.weight.device

    @property
    def max_chunk_frames(self) -> int:
        """Video frames of the longest step."""
        return self.config.chunk_frames

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
        poses = self._check_clip(frames, poses, "context")
        shortest = 1 + 4 * self.config.autoencoder.temporal_stride
        if len(frames) < shortest:
            raise ValueError(
                f"the context has {len(frames)} frames; at least {shortest} are needed"
            )
        fps = self.config.video.fps
        segment = self._remember(frames, poses, end=0.0)
        self._embedding(prompt)
        self._state = State(
            memory=MemoryBank((segment,)),
            pose=poses[-1],
            time=0.0,
            seed=self._seed if seed is None else seed,
            chunks=0,
            prompt=prompt,
            fov_x=self.config.video.fov_x if fov_x is None else _field_of_view(fov_x),
        )
        logger.debug("reset: %d frames, %.1f s", len(frames), len(frames) / fps)

    def observe(self, frames: Frames, poses: npt.ArrayLike) -> None:
        """Take real frames that follow the last committed one into memory.

        Shapes as for ``reset`` (T may be 1 + 4n for any n); time and pose move on with them.
        """
        state = self.state()
        poses = self._check_clip(frames, poses, "observation")
        end = state.time + len(frames) / self.config.video.fps
        self._state = dataclasses.replace(
            state,
            memory=state.memory.add(self._remember(frames, poses, end=end)),
            pose=poses[-1],
            time=end,
        )

    @torch.inference_mode()
    def step(
        self,
        poses: npt.ArrayLike,
        *,
        on_frames: Callable[[int, Frames], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Chunk:
        """Predict the next frames, seen from ``poses [T, 4, 4]`` (one pose per frame).

        T is 1 + 4n and at most ``max_chunk_frames``. ``on_frames(first, frames)`` gets frames as
        they are decoded. ``cancelled()`` is asked between sampling steps and decoded pieces;
        when it says yes, ``Cancelled`` is raised and nothing is committed.
        """
        state = self.state()
        poses = check_poses(poses, "poses")
        stride = self.config.autoencoder.temporal_stride
        if len(poses) > self.max_chunk_frames or (len(poses) - 1) % stride:
            raise ValueError(
                f"{len(poses)} poses; accepted: 1 + {stride}*n, at most {self.max_chunk_frames}"
            )
        fps = self.config.video.fps
        times = state.time + np.arange(1, len(poses) + 1) / fps

        def check(*_: Any) -> None:
            if cancelled is not None and cancelled():
                raise Cancelled(f"step at {state.time:.2f} s")

        clock = Clock(self.device)
        context = state.memory.recent(
            self.config.context_latents, self.config.transformer.memory_stride[0]
        )
        targets = latent_poses(poses, stride)
        conditioning, negative = self._condition(state, context, targets, times[::stride])
        clock.lap("context")
        latents = sample(
            self._transformer, self._noise(state, len(targets)), conditioning, self.sampler,
            negative=negative, before_step=check,
        )  # fmt: skip
        clock.lap("sampling")
        pieces: list[Frames] = []
        done = 0
        for video in self._autoencoder.decode_stream(latents):
            check()
            piece = video_to_frames(video)
            if not pieces:
                clock.first("first_frame")
            if on_frames is not None:
                on_frames(done, piece)
            pieces.append(piece)
            done += len(piece)
        clock.lap("decoding")
        segment = Segment(latents[0].to(torch.float32), targets, times[::stride], "imagined")
        self._state = dataclasses.replace(
            state,
            memory=state.memory.add(segment),
            pose=poses[-1],
            time=float(times[-1]),
            chunks=state.chunks + 1,
        )
        return Chunk(poses, times, np.concatenate(pieces), clock.parts)

    def state(self) -> State:
        """Return the live state; it stays valid whatever happens to the world later."""
        if self._state is None:
            raise ValueError("no world yet: call reset first")
        return self._state

    def restore(self, state: State) -> None:
        """Go back to a state that ``state`` returned."""
        self._embedding(state.prompt)
        self._state = state

    def save(self, folder: str | Path, state: State | None = None) -> None:
        """Write a state, by default the live one, to a folder (safetensors and JSON).

        With a ``state`` nothing of the live world is read: another thread may do it.
        """
        state = state or self.state()
        facts = {
            "model": self.config.name, "weights": self.weights,
            "pose": state.pose.tolist(), "time": state.time,
            "seed": state.seed, "chunks": state.chunks, "prompt": state.prompt,
            "fov_x": state.fov_x,
        }  # fmt: skip
        write_state(Path(folder), state.memory, facts)

    def load_state(self, folder: str | Path) -> None:
        """Make a saved state the live one; on any error the world stays as it was."""
        self.restore(self.read_state(folder))

    def read_state(self, folder: str | Path) -> State:
        """Return a saved state; the live world is not touched, so another thread may do it.

        Raises ``ValueError`` where there is no whole state of this model and these weights.
        """
        memory, facts = read_state(Path(folder))
        if facts.get("model") != self.config.name:
            raise ValueError(
                f"{folder} is a state of model {facts.get('model')!r}; this is {self.config.name!r}"
            )
        weights = facts.get("weights")
        if self.weights and weights and weights != self.weights:
            raise ValueError(
                f"{folder} is a state of other weights of model {self.config.name!r} "
                f"({weights}; these are {self.weights})"
            )
        expected = self._latent_shape(1)
        for segment in memory.segments:
            got = (segment.latents.shape[0], 1, *segment.latents.shape[2:])
            if got != expected:
                raise ValueError(f"{folder} holds latents {got}; this model's are {expected}")
        segments = tuple(
            dataclasses.replace(s, latents=s.latents.to(self.device)) for s in memory.segments
        )
        try:
            return State(
                memory=MemoryBank(segments), pose=np.array(facts["pose"]), time=facts["time"],
                seed=facts["seed"], chunks=facts["chunks"], prompt=facts["prompt"],
                fov_x=facts["fov_x"],
            )  # fmt: skip
        except KeyError as error:
            raise ValueError(f"{folder} holds no readable state: it lacks {error}") from error

    def _check_clip(self, frames: Frames, poses: npt.ArrayLike, name: str) -> Poses:
        video, stride = self.config.video, self.config.autoencoder.temporal_stride
        size = (video.height, video.width, 3)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != size:
            raise ValueError(
                f"{name} frames are {frames.dtype} {frames.shape}; accepted: uint8 "
                f"[T, {video.height}, {video.width}, 3]"
            )
        if (len(frames) - 1) % stride:
            raise ValueError(f"{name} has {len(frames)} frames; accepted: 1 + {stride}*n")
        checked = check_poses(poses, f"{name} poses")
        if len(checked) != len(frames):
            raise ValueError(f"{name} has {len(frames)} frames but {len(checked)} poses")
        return checked

    @torch.inference_mode()
    def _remember(self, frames: Frames, poses: Poses, *, end: float) -> Segment:
        """Encode a clip whose last frame is at ``end`` seconds."""
        stride = self.config.autoencoder.temporal_stride
        latents = self._autoencoder.encode(frames_to_video(frames, self.device))[0]
        times = end - np.arange(len(frames) - 1, -1, -1) / self.config.video.fps
        return Segment(latents, latent_poses(poses, stride), times[::stride], "observed")

    def _condition(
        self, state: State, context: Context, targets: Poses, target_times: Poses
    ) -> tuple[Conditioning, Conditioning | None]:
        config, dtype = self.config, self._transformer.head.linear.weight.dtype
        height, width = config.video.height, config.video.width
        stride = config.autoencoder.spatial_stride
        _, rows, columns = config.transformer.patch_size
        relative = relative_poses(np.concatenate((context.poses, targets)), targets[0])
        camera = camera_conditioning(
            config.transformer.camera,
            torch.from_numpy(relative).float()[None].to(self.device),
            grid=(height // stride // rows, width // stride // columns),
            aspect=height / width,
            fov_x=state.fov_x,
        ).to(dtype)
        split = len(context.times)
        # Latent-frame units since the first target frame.
        scale = config.video.fps / config.autoencoder.temporal_stride
        times = [
            torch.from_numpy((t - target_times[0]) * scale).to(self.device)
            for t in (context.times, target_times)
        ]

        def prepare(prompt: str) -> Conditioning:
            return self._transformer.prepare(
                context.latents[None].to(dtype), camera[:, :split], camera[:, split:],
                context_times=times[0], target_times=times[1], text=self._embedding(prompt),
            )  # fmt: skip

        guided = self.sampler.guidance_scale != 1.0 and config.text is not None
        return prepare(state.prompt), prepare(self.sampler.negative_prompt) if guided else None

    def _embedding(self, prompt: str) -> Tensor | None:
        """Return the prompt's embedding ``[1, L, text_dim]``, None for a model without text."""
        if self._embed_prompt is None:
            return None
        if prompt not in self._embeddings:
            dtype = self._transformer.head.linear.weight.dtype
            self._embeddings[prompt] = self._embed_prompt(prompt)[None].to(self.device, dtype)
        return self._embeddings[prompt]

    def _latent_shape(self, count: int) -> tuple[int, int, int, int]:
        video, autoencoder = self.config.video, self.config.autoencoder
        stride = autoencoder.spatial_stride
        return (autoencoder.latent_channels, count, video.height // stride, video.width // stride)

    def _noise(self, state: State, count: int) -> Tensor:
        # On the CPU, and a stream of its own per chunk: equal on every device, and a restored
        # state draws what it would have drawn.
        words = np.random.SeedSequence([state.seed & (2**64 - 1), state.chunks]).generate_state(2)
        generator = torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))
        noise = torch.randn((1, *self._latent_shape(count)), generator=generator)
        return noise.to(self.device)


def _field_of_view(fov_x: float) -> float:
    if not 0.0 < fov_x < np.pi:
        raise ValueError(f"fov_x is {fov_x}; accepted: radians between 0 and pi")
    return float(fov_x)
