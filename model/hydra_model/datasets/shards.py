# SPDX-License-Identifier: Apache-2.0
"""Prepared clips on disk: latents, poses and text in shards of safetensors, with an index.

A folder holds ``shard-*.safetensors`` and an ``index.json`` (or several, ``index-*.json``, one
for each part that was prepared by itself). Shards are written under another name first and
then listed, so what the index lists is whole unless it was damaged later.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = 1


class ShardError(ValueError):
    """Prepared data that cannot be used; the text names the file."""


@dataclass(frozen=True, kw_only=True)
class PreparedClip:
    """A clip as training reads it.

    Latents ``[C, k, h, w]`` (normalised, float16 on disk), poses of the latent frames
    float64 ``[k, 4, 4]``, ``fov_x`` radians ``[]``, ``text [tokens, dim]`` without padding or
    None, ``subject`` uint8 ``[k, h, w]`` (1 where a latent position of the target shows a
    subject) or None.
    """

    name: str
    context: Tensor
    target: Tensor
    context_poses: Tensor
    target_poses: Tensor
    fov_x: Tensor
    text: Tensor | None = None
    subject: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        values = {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
        for key in ("context", "target"):
            values[key] = values[key].to(torch.float16)
        return {k: v.detach().cpu().contiguous() for k, v in values.items()}


@dataclass
class Index:
    """What one ``index*.json`` says: shards with their clips and sizes, and what was skipped.

    ``about`` identifies the data set and the model that made the latents; clips made by another
    model must not be mixed in.
    """

    about: dict[str, Any]
    shards: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [name for shard in self.shards for name in shard["clips"]]

    @classmethod
    def read(cls, path: Path) -> Index:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != FORMAT:
                raise ShardError(f"{path} has format {values['format']}; accepted: {FORMAT}")
            return cls(values["about"], values["shards"], values["skipped"])
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ShardError(f"{path} is not an index of prepared clips: {error!r}") from error

    def write(self, path: Path) -> None:
        values = {"format": FORMAT, **vars(self)}
        unfinished = path.with_suffix(".partial")
        unfinished.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        os.replace(unfinished, path)


def write_shard(path: Path, clips: list[PreparedClip]) -> dict[str, Any]:
    """Write clips to one file and return its entry for the index."""
    tensors = {
        f"{i}.{key}": value for i, clip in enumerate(clips) for key, value in clip.tensors().items()
    }
    unfinished = path.with_suffix(".partial")
    save_file(tensors, unfinished)
    size = unfinished.stat().st_size
    os.replace(unfinished, path)
    return {"file": path.name, "bytes": size, "clips": [clip.name for clip in clips]}


def check_shard(folder: Path, entry: dict[str, Any]) -> str | None:
    """Say what is wrong with a listed shard, or None."""
    path = folder / entry["file"]
    if not path.is_file():
        return f"shard {path} is missing"
    size = path.stat().st_size
    if size != entry["bytes"]:
        return f"shard {path} was cut short or changed: {size} bytes of {entry['bytes']}"
    try:
        with safe_open(path, "pt") as shard:
            keys = set(shard.keys())
    except (OSError, SafetensorError) as error:
        return f"shard {path} cannot be read: {error}"
    last = len(entry["clips"]) - 1
    return None if f"{last}.target" in keys else f"shard {path} does not hold {last + 1} clips"


class PreparedClips:
    """All prepared clips of a folder; every shard is checked when it is opened.

    A name that is listed again (parts prepared into a folder that was whole) is left out and
    kept in ``repeated``: training would take such a clip twice as often as the others.

    Raises ``ShardError`` for a folder without an index, a shard that is missing or cut short,
    or parts that were made by different models.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        paths = sorted(self.folder.glob("index*.json"))
        if not paths:
            raise ShardError(f"{self.folder} holds no prepared clips (no index.json)")
        indices = [Index.read(path) for path in paths]
        self.about = indices[0].about
        self._places: list[tuple[Path, int, str]] = []
        self.repeated: list[str] = []
        listed = set()
        for path, index in zip(paths, indices, strict=True):
            if index.about["model"] != self.about["model"]:
                raise ShardError(f"{path} was made by another model than {paths[0]}")
            for entry in index.shards:
                problem = check_shard(self.folder, entry)
                if problem:
                    raise ShardError(f"{problem}; prepare again to replace it")
                file = self.folder / entry["file"]
                for i, name in enumerate(entry["clips"]):
                    if name in listed:
                        self.repeated.append(name)
                        continue
                    listed.add(name)
                    self._places.append((file, i, name))
        if not self._places:
            raise ShardError(f"{self.folder} holds no prepared clips (its index lists none)")

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> PreparedClip:
        path, place, name = self._places[index]
        prefix = f"{place}."
        try:
            with safe_open(path, "pt") as shard:
                values = {
                    key.removeprefix(prefix): shard.get_tensor(key)
                    for key in shard.keys()  # noqa: SIM118 (not a mapping)
                    if key.startswith(prefix)
                }
        except (OSError, SafetensorError) as error:
            raise ShardError(f"shard {path} cannot be read: {error}") from error
        return PreparedClip(name=name, **values)
