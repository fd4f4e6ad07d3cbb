# SPDX-License-Identifier: Apache-2.0
"""A recording's story -> one picture: the way, what was seen, how fast, what was remembered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hydra_ros.recording.story import Story

BLUE, ORANGE, GREY = "#2a6fbb", "#d9730d", "#8a8a8a"
COLOURS = colormaps["viridis"]
SMALLEST = 1.0  # m, shown at least
# Length of a camera's arrow as a part of what is shown; long where it only turns.
MOVING, TURNING = 0.12, 0.35


def draw(story: Story, path: Path, title: str) -> None:
    """Write the picture; the ending of ``path`` says its format (.png, .svg, .pdf).

    Raises:
        ValueError: a format that is not known.
    """
    figure = Figure(figsize=(12, 9), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=13)
    rows = figure.subfigures(2, 1, height_ratios=(1.5, 1.0))
    left, right = rows[0].subplots(1, 2, width_ratios=(1.25, 1.0))
    _draw_way(left, story)
    _draw_thumbnails(rows[0], right, story)
    speed, memory = rows[1].subplots(1, 2)
    _draw_speed(speed, story)
    _draw_memory(memory, story)
    figure.savefig(path)


def _draw_way(axes: Axes, story: Story) -> None:
    positions = story.poses[:, :2, 3]
    forward = story.poses[:, :2, 0]  # body poses: x is forward
    share = story.times / max(float(story.times[-1]), 1e-9)
    span = float(np.ptp(positions, axis=0).max())
    extent = max(span, SMALLEST)
    arrow = (MOVING if span > 0.3 * SMALLEST else TURNING) * extent
    axes.scatter(*positions.T, c=share, cmap=COLOURS, s=8, zorder=2)
    marks = [index for index, _ in story.thumbnails] or [0, len(positions) - 1]
    for number, index in enumerate(marks, 1):
        colour = COLOURS(share[index])
        tip = positions[index] + forward[index] * arrow
        axes.annotate(
            "", xy=tip, xytext=positions[index],
            arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.8}, zorder=3,
        )  # fmt: skip
        axes.annotate(
            str(number), tip, fontsize=9, fontweight="bold", ha="center", va="center", zorder=4,
            bbox={"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": colour},
        )  # fmt: skip
    centre = (positions.max(axis=0) + positions.min(axis=0)) / 2
    half = extent * 0.55 + arrow
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)
    axes.set_aspect("equal")
    axes.set_title("Way of the camera, from above")
    axes.set_xlabel("x in m")
    axes.set_ylabel("y in m")
    axes.grid(alpha=0.25)


def _draw_thumbnails(figure, axes: Axes, story: Story) -> None:
    axes.set_axis_off()
    if not story.thumbnails:
        axes.text(0.5, 0.5, "no images were recorded", ha="center", color=GREY)
        return
    columns = 2
    rows = -(-len(story.thumbnails) // columns)
    share = story.times / max(float(story.times[-1]), 1e-9)
    for number, (index, frame) in enumerate(story.thumbnails):
        row, column = divmod(number, columns)
        inset = axes.inset_axes(
            [column / columns, 1 - (row + 1) / rows, 0.97 / columns, 0.82 / rows]
        )
        inset.imshow(frame, aspect="equal")
        inset.set_xticks([])
        inset.set_yticks([])
        inset.set_title(f"{number + 1}:  {story.times[index]:.1f} s", fontsize=8, pad=2)
        for side in inset.spines.values():
            side.set_edgecolor(COLOURS(share[index]))
            side.set_linewidth(2)


def _draw_speed(axes: Axes, story: Story) -> None:
    axes.set_title("Speed, as /diagnostics reports it")
    axes.set_xlabel("wall time in s since the first frame")
    if not len(story.diagnostics):
        axes.text(0.5, 0.5, "no /diagnostics", transform=axes.transAxes, ha="center", color=GREY)
        return
    times, factor, latency = story.diagnostics.T
    known = np.isfinite(factor)
    axes.plot(times[known], factor[known], color=BLUE, marker=".", label="real-time factor")
    axes.axhline(1.0, color=BLUE, linewidth=0.8, linestyle=":")
    axes.set_ylabel("real-time factor", color=BLUE)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    other = axes.twinx()
    other.plot(times, latency, color=ORANGE, marker=".", label="latency")
    other.set_ylabel("latency in s", color=ORANGE)
    other.set_ylim(bottom=0)


def _draw_memory(axes: Axes, story: Story) -> None:
    axes.set_title("Latent frames in memory: selected for each chunk")
    axes.set_xlabel("time of the chunk in s since the first frame")
    axes.set_ylabel("number of the latent frame")
    if not story.memory:
        text = "no memory messages"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=GREY)
        return
    times = np.array([chunk.time for chunk in story.memory])
    axes.plot(
        times, [chunk.size for chunk in story.memory], color=GREY, drawstyle="steps-post",
        linewidth=1, label="size of the memory",
    )  # fmt: skip
    spread = np.concatenate([np.full(len(chunk.selected), chunk.time) for chunk in story.memory])
    numbers = np.concatenate([chunk.selected for chunk in story.memory])
    scores = np.concatenate([chunk.scores for chunk in story.memory])
    if len(numbers):
        dots = axes.scatter(spread, numbers, c=scores, cmap="plasma", s=14, zorder=2)
        axes.figure.colorbar(dots, ax=axes, label="relevance")
    axes.legend(loc="upper left", fontsize=8)
    axes.grid(alpha=0.25)
