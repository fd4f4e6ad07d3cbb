# SPDX-License-Identifier: Apache-2.0
"""Encode the clips of a data set once: latents and prompt embeddings into shards."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hydra_model.autoencoder import Autoencoder, frames_to_video
from hydra_model.config import ModelConfig
from hydra_model.datasets.clips import Clip, ClipSource, UnusableClip
from hydra_model.datasets.shards import Index, PreparedClip, check_shard, write_shard

# Called with a stage, the number done and the number in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Prepared:
    """What a run of ``prepare`` did: clips encoded now and earlier, and skipped by reason."""

    encoded: int
    already: int
    skipped: Counter[str]
    redone: int


@dataclass(frozen=True)
class ClipEncoder:
    """The frozen parts of a model that turn clips into what training reads.

    ``embed`` turns a caption into ``[tokens, dim]`` (padding rows zero), None for models
    without text.
    """

    config: ModelConfig
    autoencoder: Autoencoder
    embed: Callable[[str], Tensor] | None = None

    def identity(self) -> str:
        """Return a digest of the autoencoder's configuration and weights."""
        digest = hashlib.sha256(repr(self.config.autoencoder).encode())
        digest.update(repr(self.config.video).encode())
        for name, value in sorted(self.autoencoder.state_dict().items()):
            numbers = value.detach().double()
            digest.update(f"{name} {tuple(value.shape)} {float(numbers.sum()):.10e}".encode())
        return digest.hexdigest()[:16]

    @torch.inference_mode()
    def encode(self, clip: Clip) -> PreparedClip:
        """Encode a clip; context and target are two separate clips to the autoencoder."""
        stride = self.config.autoencoder.temporal_stride
        latents = [self._encode_frames(f) for f in (clip.context_frames, clip.target_frames)]
        for half in latents:
            if not bool(torch.isfinite(half).all()):
                raise UnusableClip("latents not finite", f"{clip.name}: latents are not finite")
        text = None
        if self.embed is not None:
            rows = self.embed(clip.caption or "")
            used = int(rows.abs().amax(-1).gt(0).sum())
            text = rows[: max(1, used)]
        subject = None
        if clip.target_masks is not None:
            subject = latent_mask(clip.target_masks, stride, self.config.autoencoder.spatial_stride)
        return PreparedClip(
            name=clip.name,
            context=latents[0],
            target=latents[1],
            context_poses=torch.from_numpy(np.ascontiguousarray(clip.context_poses[::stride])),
            target_poses=torch.from_numpy(np.ascontiguousarray(clip.target_poses[::stride])),
            fov_x=torch.tensor(clip.fov_x, dtype=torch.float64),
            text=text,
            subject=subject,
        )

    def _encode_frames(self, frames: np.ndarray) -> Tensor:
        weight = next(self.autoencoder.parameters())
        video = frames_to_video(frames, weight.device)
        return self.autoencoder.encode(video.to(weight.dtype))[0].cpu()


def latent_mask(masks: np.ndarray, temporal_stride: int, spatial_stride: int) -> Tensor:
    """Return uint8 ``[k, h, w]``: a latent position shows a subject in any of its frames."""
    present = torch.from_numpy(masks > 0).float()[None, None]
    present = torch.nn.functional.pad(present, (0, 0, 0, 0, temporal_stride - 1, 0))
    pool = (temporal_stride, spatial_stride, spatial_stride)
    return torch.nn.functional.max_pool3d(present, pool, stride=pool)[0, 0].to(torch.uint8)


def prepare(
    source: ClipSource,
    encoder: ClipEncoder,
    folder: str | Path,
    *,
    clips_per_shard: int = 16,
    part: tuple[int, int] = (0, 1),
    most_unusable: float = 0.5,
    progress: Progress | None = None,
) -> Prepared:
    """Encode what ``folder`` does not hold yet; called again it goes on where it stopped.

    ``part`` is (i, n): this process takes every n-th clip, so that several can share the work
    and the folder. All clips are surveyed first: with more than the share ``most_unusable`` of
    them unusable nothing is encoded and a ``ValueError`` gives the reasons. Clips that fail are
    skipped, counted by reason and kept in the index. A listed shard that is missing or cut
    short is made again. What another part's index lists counts as there already.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = progress or (lambda stage, done, total: None)
    suffix = "" if part == (0, 1) else f"-{part[0]}-of-{part[1]}"
    path = folder / f"index{suffix}.json"
    about = {"model": encoder.identity(), "name": encoder.config.name, "data": source.title}
    index, lost = _resume(path, about)
    own = [(i, name) for i, name in enumerate(source.names()) if i % part[1] == part[0]]
    others = [_resume(other, about)[0] for other in folder.glob("index*.json") if other != path]
    elsewhere = {name for other in others for name in other.names}
    have = set(index.names) | elsewhere.intersection(name for _, name in own)
    todo = [(i, name) for i, name in own if name not in have]
    problems = _survey(source, todo, report)
    if todo and len(problems) > most_unusable * len(todo):
        raise ValueError(
            f"{len(problems)} of {len(todo)} clips of {source.title} cannot be used, nothing was "
            f"encoded: {describe(Counter(e.reason for e in problems.values()))}; the first: "
            f"{next(iter(problems.values()))}"
        )
    skipped = {name: f"{error.reason}: {error}" for name, error in problems.items()}
    todo = [(i, name) for i, name in todo if name not in problems]
    number = 1 + max((_number(entry["file"]) for entry in index.shards), default=-1)
    encoded = 0
    waiting: list[PreparedClip] = []

    def flush() -> None:
        entry = write_shard(folder / f"shard{suffix}-{number:05d}.safetensors", waiting)
        index.shards.append(entry)
        index.write(path)

    try:
        for clip in _encoded(source, encoder, todo, skipped, report):
            waiting.append(clip)
            encoded += 1
            if len(waiting) == clips_per_shard:
                flush()
                number, waiting = number + 1, []
    finally:  # what was encoded before an interruption is kept, too
        index.skipped = skipped
        if waiting:
            flush()
    index.write(path)
    reasons = Counter(text.split(":", 1)[0] for text in skipped.values())
    return Prepared(encoded, len(have), reasons, sum(name in lost for _, name in todo))


def describe(reasons: Counter[str]) -> str:
    """Return "3 mask missing, 1 too short"."""
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "none"


def _resume(path: Path, about: dict[str, Any]) -> tuple[Index, set[str]]:
    """Return what of an index is there, and the clips of shards that are not."""
    if not path.exists():
        return Index(about), set()
    index = Index.read(path)
    if index.about["model"] != about["model"]:
        raise ValueError(
            f"{path} was made by another autoencoder or frame size ({index.about['name']}); "
            "choose another folder"
        )
    whole = [entry for entry in index.shards if check_shard(path.parent, entry) is None]
    lost = {name for entry in index.shards if entry not in whole for name in entry["clips"]}
    return Index(about, whole, {}), lost


def _survey(
    source: ClipSource, todo: list[tuple[int, str]], report: Progress
) -> dict[str, UnusableClip]:
    problems = {}
    for done, (i, name) in enumerate(todo):
        try:
            source.survey(i)
        except UnusableClip as error:
            problems[name] = error
        report("Looking at the clips", done + 1, len(todo))
    return problems


def _encoded(
    source: ClipSource,
    encoder: ClipEncoder,
    todo: list[tuple[int, str]],
    skipped: dict[str, str],
    report: Progress,
) -> Iterator[PreparedClip]:
    for done, (i, name) in enumerate(todo):
        try:
            yield encoder.encode(source.load(i))
        except UnusableClip as error:
            skipped[name] = f"{error.reason}: {error}"
        report("Encoding", done + 1, len(todo))


def _number(file: str) -> int:
    return int(file.removesuffix(".safetensors").rsplit("-", 1)[-1])
