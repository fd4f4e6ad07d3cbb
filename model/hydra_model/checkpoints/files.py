# SPDX-License-Identifier: Apache-2.0
"""Reading and writing files of tensors; every problem is a ``CheckpointError`` naming the file."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

# Larger sets of tensors are split, which bounds what writing one file can need in memory.
SHARD_BYTES = 4 * 2**30


class CheckpointError(ValueError):
    """Weights that cannot be used, with the file and the reason."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, on the CPU and memory-mapped where possible.

    Accepted are a flat state dict written by ``torch.save`` and safetensors, told apart by
    content; for the latter also the ``.index.json`` of a split set beside a missing ``path``.
    No code in a file is ever run.
    """
    index = _index_of(path)
    if not path.exists() and index.exists():
        return _read_shards(index)
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    if start[8:] == b"{":
        return _read_safetensors(path)
    return _read_torch(path, start)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Write safetensors to ``path``, or beside it as numbered parts with an index when large.

    ``dtype`` None keeps each tensor's type. A file appears under its name only when it is
    complete.
    """
    parts = _split(tensors)
    try:
        if len(parts) == 1:
            _write_whole(path, parts[0], dtype)
            _index_of(path).unlink(missing_ok=True)
            return
        names: dict[str, str] = {}
        for number, part in enumerate(parts, start=1):
            name = f"{path.stem}-{number:05d}-of-{len(parts):05d}{path.suffix}"
            _write_whole(path.with_name(name), part, dtype)
            names.update(dict.fromkeys(part, name))
        _index_of(path).write_text(json.dumps({"weight_map": names}, indent=1) + "\n")
        path.unlink(missing_ok=True)  # an unsplit set of before would hide the parts
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error


def identity(paths: Iterable[Path]) -> str:
    """Return a short name of the files' contents, from their sizes and samples of their bytes."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for i in range(64):
                file.seek(size * i // 64)
                digest.update(file.read(4096))
    return digest.hexdigest()[:16]


def _index_of(path: Path) -> Path:
    return path.with_name(path.name + ".index.json")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error})") from error


def _read_shards(index: Path) -> dict[str, Tensor]:
    try:
        names = json.loads(index.read_text())["weight_map"]
        files = sorted(set(names.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not an index of tensors ({error})") from error
    tensors: dict[str, Tensor] = {}
    for name in files:
        if Path(name).name != name:
            raise CheckpointError(f"{index} names a file outside its folder: {name!r}")
        tensors.update(_read_safetensors(index.with_name(name)))
    return tensors


def _read_torch(path: Path, start: bytes) -> dict[str, Tensor]:
    if start[:4] == b"PK\x03\x04" and not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is truncated: the end of the file is missing")
    if start[:4] != b"PK\x03\x04" and start[:1] != b"\x80":
        raise CheckpointError(f"{path} is not a checkpoint: neither torch.save nor safetensors")
    try:
        # Files from before the zip format cannot be mapped.
        values = torch.load(path, map_location="cpu", weights_only=True, mmap=start[:1] == b"P")
    except pickle.UnpicklingError as error:
        reason = str(error).replace("\n", " ")
        if "Unsupported" in reason or "GLOBAL" in reason:
            raise CheckpointError(
                f"{path} holds more than tensors and was not read: it names Python code "
                f"({_global_name(reason)})"
            ) from error
        raise CheckpointError(f"{path} is truncated or damaged ({reason[:200]})") from error
    except Exception as error:  # the reader's errors for damaged files are of many kinds
        reason = str(error).replace("\n", " ")[:200]
        raise CheckpointError(f"{path} is truncated or damaged ({reason})") from error
    if not isinstance(values, dict) or not values:
        raise CheckpointError(f"{path} holds a {type(values).__name__}, not tensors by name")
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path} is not a flat state dict: {name!r} holds a {type(value).__name__}"
            )
    return dict(values)


def _global_name(reason: str) -> str:
    """Pick the offending name out of PyTorch's message."""
    after = reason.partition("GLOBAL ")[2].split()
    return after[0] if after else reason[:100]


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _split(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    parts: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if parts[-1] and filled + _size(tensor) > SHARD_BYTES:
            parts.append({})
            filled = 0
        parts[-1][name] = tensor
        filled += _size(tensor)
    return parts


def _write_whole(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> None:
    # Under another name first: a mapped file may be the source of what is being written.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        contiguous = {
            name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()
        }
        save_file(contiguous, unfinished, metadata={"format": "pt"})
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
