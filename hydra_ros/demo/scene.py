# SPDX-License-Identifier: Apache-2.0
"""A procedural world for the demonstration, chosen by its ground truth alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FAMILY = "look_away"
SEARCHED_FRAMES = 77  # of the target: about five seconds
SEARCHED_WIDTH = 80  # pixels; subjects are counted in a small picture, which is fast
MOST_TRIED = 200


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A world's seed and the camera path [N, 4, 4] (optical, metres) of the frames to predict.

    No subject is in sight when the context ends; ``gone`` seconds before that the last one left,
    and ``back`` seconds after it the first of those that were seen is in sight again.
    """

    seed: int
    path: np.ndarray
    gone: float
    back: float


def find_scene(
    seed: int, frames: int, *, height: int, width: int, fps: float, fov_x: float, context: int,
    style: str = "plain",
) -> Scene:  # fmt: skip
    """Return the first world from ``seed`` on in which a subject leaves the view and comes back.

    Its context shows a subject for a second or more and ends with none in sight; the camera's
    path brings one of those back, for a second or more, within ``SEARCHED_FRAMES``. ``frames``
    is the length of the path returned; ``context`` frames, the picture and the ``style`` of worlds
    are the model's.
    """
    import torch

    from hydra_model.procedural import episode

    for candidate in range(seed, seed + MOST_TRIED):
        shown = episode(
            candidate,
            family=FAMILY,
            style=style,
            context_frames=context,
            target_frames=SEARCHED_FRAMES,
            height=round(SEARCHED_WIDTH * height / width),
            width=SEARCHED_WIDTH,
            fov_x=fov_x,
            fps=fps,
            supersample=1,
        )
        masks = np.concatenate([shown.context_masks, shown.target_masks])
        found = leaves_and_returns(subjects_in_sight(masks), context, fps)
        if found:
            gone, back = found
            times = torch.arange(1, frames + 1, dtype=torch.float64) / fps
            path = shown.worlds.trajectories.poses(times)[0].numpy()
            return Scene(seed=candidate, path=path, gone=gone, back=back)
    raise ValueError(f"no world from seed {seed} to {candidate} shows a subject leave and return")


def subjects_in_sight(masks: np.ndarray) -> np.ndarray:
    """Return bool [S, T]: subject 1.. in masks uint8 [T, H, W] shows enough pixels to be seen."""
    from hydra_model.evaluation.events import minimum_pixels

    enough = minimum_pixels(*masks.shape[1:])
    subjects = range(1, int(masks.max(initial=0)) + 1)
    counts = [(masks == subject).sum(axis=(1, 2)) for subject in subjects]
    return np.array(counts).reshape(len(counts), len(masks)) >= enough


def leaves_and_returns(visible: np.ndarray, context: int, fps: float) -> tuple[float, float] | None:
    """Return the seconds from the last sight to the context's end, and from there to the next.

    ``visible`` is bool [S, T], of which ``context`` frames belong to the context. None where a
    subject is in sight when the context ends, or none is seen for a second on both sides.
    """
    second = round(fps)
    if visible[:, context - 1].any():
        return None
    # A model with a short context sees everything for a short time.
    known = visible[:, :context].sum(axis=1) >= min(second, context // 4)
    returning = known & (visible[:, context:].sum(axis=1) >= second)
    if not returning.any():
        return None
    last_seen = np.flatnonzero(visible[:, :context].any(axis=0))[-1]
    first_back = np.flatnonzero(visible[returning, context:].any(axis=0))[0]
    return float((context - 1 - last_seen) / fps), float((first_back + 1) / fps)
