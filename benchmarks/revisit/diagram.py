# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.revisit.diagram FILE.png``: draw what is selected in one episode."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.revisit.contest import memory_of, request_of
from benchmarks.revisit.episodes import Episode, make_episodes
from benchmarks.revisit.truth import render_truth
from hydra_model.config import DEFAULT
from hydra_model.selection import select


def draw(path: Path, episode: Episode) -> None:
    """Draw where the camera looked and who was where, over time, and what hybrid selects."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    truth = render_truth(episode, DEFAULT, size=(48, 80), every_frame=False, supersample=1)
    memory = memory_of(DEFAULT, episode, truth)
    selection = select("hybrid", memory, request_of(DEFAULT, episode))
    half = DEFAULT.video.fov_x_degrees / 2
    yaw = _bearing(episode.poses[:, :2, 2])
    motion = episode.worlds.scenes.motion
    places = motion.position(truth.batch.times.new_tensor(episode.times))[0]
    offset = places[:, motion.active[0]].numpy() - episode.poses[:, None, :2, 3]
    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(7.5, 4.4), sharex=True, layout="constrained", height_ratios=(2, 1)
    )
    top.fill_between(episode.times, yaw - half, yaw + half, color="0.85", label="in view")
    for subject in range(offset.shape[1]):
        bearing = _near(_bearing(offset[:, subject]), yaw)
        label = "subjects" if subject == 0 else None
        top.plot(episode.times, bearing, ".", markersize=1, color="tab:green", label=label)
    chosen = memory.times[selection.indices]
    heading = np.interp(chosen, episode.times, yaw)
    top.plot(chosen, heading, "o", markersize=4, color="tab:red", label="selected")
    top.axvspan(0, episode.times[-1], color="tab:blue", alpha=0.12, label="chunk to predict")
    top.set(ylabel="direction, degrees", ylim=(yaw.min() - 50, yaw.max() + 50))
    top.legend(loc="upper left", fontsize=7, ncols=4)
    for name, score in selection.scores.items():
        bottom.plot(memory.times, score, label=name)
    bottom.set(xlabel="time since the chunk's begin, seconds", ylabel="score", ylim=(-0.05, 1.45))
    bottom.legend(loc="upper left", fontsize=7, ncols=3)
    figure.savefig(path, dpi=100)


def _bearing(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.degrees(np.unwrap(np.arctan2(vectors[:, 1], vectors[:, 0])))


def _near(
    angle: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return angles within half a turn of the reference, degrees."""
    return reference + np.remainder(angle - reference + 180, 360) - 180


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.revisit.diagram", description=__doc__)
    parser.add_argument("file", type=Path, help="PNG to write")
    options = parser.parse_args()
    (shown,) = make_episodes(DEFAULT, "crossing", 15.0, 3)[2:]
    draw(options.file, shown)
