# SPDX-License-Identifier: Apache-2.0
"""The demonstration's video and contact sheet: ground truth and prediction side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hydra_model.pictures import captioned, contact_sheet, enlarged, side_by_side, titled

SHEET_COLUMNS = 6


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Context, ground truth and prediction: frames uint8 [T, H, W, 3], times [T] in seconds.

    The context ends at time 0. ``context_seen`` and ``seen`` (bool [T]) say whether a subject is
    in sight of the true camera.
    """

    context: np.ndarray
    context_times: np.ndarray
    context_seen: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    times: np.ndarray
    seen: np.ndarray


def demo_video(shown: Comparison) -> np.ndarray:
    """Return the frames, uint8 [T, H, W, 3], of a video: first the context, then both futures."""
    context = _captioned(shown.context, shown.context_times, shown.context_seen, "context")
    both = [
        np.concatenate([context, _captioned(future, shown.times, shown.seen, "future")])
        for future in (shown.truth, shown.prediction)
    ]
    return side_by_side(titled(both[0], "ground truth"), titled(both[1], "prediction"))


def demo_sheet(shown: Comparison) -> np.ndarray:
    """Return a picture, uint8 [H, W, 3], with a row each for context, truth and prediction."""
    rows = [
        ("Context: what the world model has seen", shown.context, shown.context_times),
        ("Ground truth: what the camera would see next", shown.truth, shown.times),
        ("Prediction: what the world model shows", shown.prediction, shown.times),
    ]
    seen = (shown.context_seen, shown.seen, shown.seen)
    return contact_sheet(
        [
            (label, _captioned(frames, times, visible, ""))
            for (label, frames, times), visible in zip(rows, seen, strict=True)
        ],
        SHEET_COLUMNS,
    )


def _captioned(
    frames: np.ndarray, times: np.ndarray, seen: np.ndarray, part: str
) -> np.ndarray:
    captions = [
        f"{part} {_signed(time)} s".strip() + ("" if visible else "   subject out of sight")
        for time, visible in zip(times, seen, strict=True)
    ]
    return captioned(enlarged(frames, min_width=320), captions, marked=~seen)


def _signed(time: float) -> str:
    return f"{time:+.1f}" if round(time, 1) else "0.0"
