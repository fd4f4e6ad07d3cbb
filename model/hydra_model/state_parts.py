# SPDX-License-Identifier: Apache-2.0
"""What a state is written as, wherever it goes: tensors of its segments, and facts for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hydra_model.cameras import check_poses
from hydra_model.conditioning import latent_shape
from hydra_model.config import ModelConfig
from hydra_model.memory import Latents, MemoryBank, Segment
from hydra_model.moving import Sightings
from hydra_model.state import State, check_fov_x


class ModelMismatch(ValueError):
    """Facts of a state of another model; the message goes on after "it is"."""


def state_facts(state: State, model: str, weights: str) -> dict[str, Any]:
    """Return all of a state but its memory, for JSON; ``weights`` is their fingerprint."""
    return {
        "model": model, "weights": weights,
        "pose": state.pose.tolist(), "time": state.time, "seed": state.seed,
        "chunks": state.chunks, "prompt": state.prompt, "fov_x": state.fov_x,
        "memory_frames": len(state.memory), "memory_bytes": state.memory.bytes,
    }  # fmt: skip


def state_from_facts(facts: Mapping[str, Any], memory: MemoryBank) -> State:
    """Return the state of ``state_facts``, with its memory.

    Raises ``KeyError``, ``TypeError`` or ``ValueError`` where the facts are none of a state.
    """
    time = float(facts["time"])
    if not memory.segments:
        raise ValueError("its memory is empty")
    last = float(memory.segments[-1].times[-1])
    if not last <= time < np.inf:
        raise ValueError(f"its time is {time} s; accepted: from the last in memory, {last} s, on")
    return State(
        memory=memory, pose=check_poses([facts["pose"]], "pose")[0],
        time=time, seed=int(facts["seed"]), chunks=int(facts["chunks"]),
        prompt=str(facts["prompt"]), fov_x=check_fov_x(float(facts["fov_x"])),
    )  # fmt: skip


def check_model(facts: Mapping[str, Any], model: str, weights: str) -> None:
    """Refuse, with ``ModelMismatch``, a state of another model or of other weights."""
    if facts.get("model") != model:
        raise ModelMismatch(f"a state of model {facts.get('model')!r}; this is {model!r}")
    if facts.get("weights") != weights:
        raise ModelMismatch(
            f"a state of other weights of model {model!r} ({facts.get('weights')}); these are "
            f"{weights}"
        )


def check_latents(latents: Latents, config: ModelConfig) -> None:
    """Refuse, with ``ValueError``, latents of another shape than the model's."""
    expected = latent_shape(config, latents.shape[1])
    if latents.shape != expected:
        raise ValueError(f"latents are {latents.shape}; this model's are {expected}")


def segments_to_tensors(first: int, segments: Sequence[Segment]) -> dict[str, Tensor]:
    """Return the tensors of neighbouring segments, the first of them numbered ``first``."""
    tensors: dict[str, Tensor] = {}
    for number, segment in enumerate(segments, start=first):
        # Copies, row by row: the format refuses views and any other order, which both may be.
        latents = segment.latents.read().cpu().clone(memory_format=torch.contiguous_format)
        arrays = {
            "poses": segment.poses, "times": segment.times, "thumbnails": segment.thumbnails,
            "sightings.frame": segment.sightings.frame,
            "sightings.direction": segment.sightings.direction,
            "sightings.colour": segment.sightings.colour,
        }  # fmt: skip
        parts = {"latents": latents} | {
            name: torch.from_numpy(np.array(own, order="C")) for name, own in arrays.items()
        }
        tensors.update({f"{number:06d}.{name}": value for name, value in parts.items()})
    return tensors


def segment_from_tensors(
    tensors: Mapping[str, Tensor],
    number: int,
    origin: Any,
    device: torch.device | None,
    *,
    keep_on_host: bool = False,
) -> Segment:
    """Return segment ``number`` of ``segments_to_tensors``, its latents on ``device`` (None: CPU).

    With ``keep_on_host`` they stay in main memory and are only read onto the device.
    """

    def array(name: str) -> Any:
        # A copy: a view would keep the memory of the whole file.
        return tensors[f"{number:06d}.{name}"].clone().numpy()

    if origin not in ("observed", "imagined"):
        raise ValueError(f"segment {number} is {origin!r}; accepted: observed, imagined")
    latents = tensors[f"{number:06d}.latents"].clone()
    if device is not None and not keep_on_host:
        latents = latents.to(device)
    return Segment(
        Latents(latents, device),
        array("poses"), array("times"), origin, array("thumbnails"),
        Sightings(*(array(f"sightings.{name}") for name in ("frame", "direction", "colour"))),
    )  # fmt: skip
