# SPDX-License-Identifier: Apache-2.0
"""What the default weights are meant to reach, and whether an evaluation shows it."""

from __future__ import annotations

from dataclasses import dataclass

from hydra_model.evaluation.procedural import (
    EXTRAPOLATION,
    Evaluation,
    dense,
    no_memory,
)
from hydra_model.evaluation.scores import Record


@dataclass(frozen=True)
class Goal:
    """A figure, what it should be at least (or, with ``most``, at most), None if not measured."""

    name: str
    value: float | None
    wanted: float
    most: bool = False

    @property
    def reached(self) -> bool | None:
        if self.value is None:
            return None
        return self.value <= self.wanted if self.most else self.value >= self.wanted


def goals(evaluation: Evaluation, row: str, steps: int) -> list[Goal]:
    """Return the goals for one row (a predictor's name); ``steps`` are the model's own."""
    rows = evaluation.summaries
    own = rows[row]
    reentry = own["reentry"]
    found = [
        Goal("PSNR, dB", own["psnr"], 27.0),
        Goal("PSNR above no memory, dB", _gain(rows, row, no_memory(steps)), 4.0),
        Goal("background at revisits, dB", own["background_at_revisits"], 31.0),
        Goal(
            "re-entry hits, straight walkers",
            own["reentry_by_motion"].get("straight", {}).get("hit_frames"), 0.80,
        ),
        Goal("re-entry hits, all subjects", reentry["hit_frames"], 0.60),
        Goal(
            "re-entry hits, share of what extrapolating reaches",
            share_of_extrapolation(rows, row), 0.85,
        ),
        Goal("hits of subjects that never left", own["never_left"]["hit_whole_chunk"], 0.90),
    ]  # fmt: skip
    if dense(steps) in rows:
        lost = _gain(rows, dense(steps), row)
        keys = evaluation.keys
        share = keys[row] / keys[dense(steps)] if row in keys else None
        found += [
            Goal("PSNR below dense attention, dB", lost, 0.5, most=True),
            Goal("share of dense attention's keys", share, 1 / 3, most=True),
        ]
    if "model, 50 steps" in rows:
        found.append(
            Goal("PSNR below 50 steps, dB", _gain(rows, "model, 50 steps", row), 1.0, True)
        )
    return found


def share_of_extrapolation(rows: dict[str, Record], row: str) -> float | None:
    """Return a row's re-entry hits (frames) over those of a straight continuation."""
    own = rows[row]["reentry"]["hit_frames"]
    reference = rows.get(EXTRAPOLATION, {}).get("reentry", {}).get("hit_frames")
    return None if own is None or not reference else round(own / reference, 4)


def _gain(rows: dict[str, Record], better: str, worse: str) -> float | None:
    if better not in rows or worse not in rows:
        return None
    values = rows[better]["psnr"], rows[worse]["psnr"]
    return None if None in values else round(values[0] - values[1], 4)
