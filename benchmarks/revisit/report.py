# SPDX-License-Identifier: Apache-2.0
"""Records of all episodes -> a table, a plot of each measure over the gap, a strip of pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Record = dict[str, Any]
Pictures = npt.NDArray[np.uint8]


def _hits(record: Record, only: str | None = None) -> list[float]:
    return [
        float(hit)
        for event in record.get("events", ())
        if only is None or event["motion"] == only
        for hit in event["hits"]
    ]


def _events(record: Record, name: str) -> list[float]:
    return [
        float(value)
        for event in record.get("events", ())
        for value, found in zip(event[name], event["found"], strict=True)
        if name != "distance" or found
    ]


def _one(name: str) -> Callable[[Record], list[float]]:
    return lambda record: [] if record.get(name) is None else [record[name]]


# Title, unit, decimals, and the values that a record adds to the mean.
MEASURES: dict[str, tuple[str, int, Callable[[Record], list[float]]]] = {
    "background": ("background at revisits, dB", 2, _one("background_at_revisits")),
    "hits": ("re-entry hit rate", 3, _hits),
    "hits_straight": ("re-entry hit rate, straight walkers", 3, lambda r: _hits(r, "straight")),
    "position": ("position error where found, px", 1, lambda r: _events(r, "distance")),
    "colour": ("wrong colour, share of frames", 3, lambda r: _events(r, "wrong_colour")),
    "places": ("revisited places in the context", 3, _one("places_covered")),
    "subjects": ("last sight of re-entering subjects in the context", 3, _one("subjects_covered")),
}


def summarise(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """Return mean and count of every measure that occurs."""
    records = list(records)
    summary: dict[str, dict[str, Any]] = {}
    for name, (_, digits, values) in MEASURES.items():
        found = [value for record in records for value in values(record)]
        if found:
            summary[name] = {"mean": round(float(np.mean(found)), digits), "count": len(found)}
    return summary


def table(records: Sequence[Record], by: str) -> str:
    """Return Markdown: one row per value of ``by`` and policy, one column per measure."""
    present = summarise(records)
    head = [by, "memory policy", *(MEASURES[name][0] for name in present)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for value in dict.fromkeys(record[by] for record in records):
        for policy in dict.fromkeys(record["policy"] for record in records):
            own = [r for r in records if r[by] == value and r["policy"] == policy]
            summary = summarise(own)
            cells = [
                f"{summary[name]['mean']:.{MEASURES[name][1]}f}" if name in summary else "-"
                for name in present
            ]
            label = f"{value:g} s" if isinstance(value, float) else str(value)
            lines.append("| " + " | ".join([label, policy, *cells]) + " |")
    return "\n".join(lines)


def markdown(records: Sequence[Record], about: dict[str, Any]) -> str:
    """Return the whole report."""
    counts = {name: facts["count"] for name, facts in summarise(records).items()}
    parts = [
        "# Revisit benchmark",
        ", ".join(f"{key}: {value}" for key, value in about.items()),
        "Values behind the means, over all policies: "
        + ", ".join(f"{MEASURES[name][0]} {count}" for name, count in counts.items())
        + ".",
        "## By gap",
        table(records, "gap"),
        "## By family",
        table(records, "family"),
    ]
    return "\n\n".join(parts) + "\n"


def write(
    folder: Path,
    records: Sequence[Record],
    about: dict[str, Any],
    strips: dict[float, dict[str, Pictures]],
) -> None:
    """Write ``revisit.json``, ``revisit.md``, ``revisit.png`` and, with pictures, ``strip.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = {
        f"{gap:g} s, {policy}": summarise(
            r for r in records if r["gap"] == gap and r["policy"] == policy
        )
        for gap in dict.fromkeys(r["gap"] for r in records)
        for policy in dict.fromkeys(r["policy"] for r in records)
    }
    everything = {"about": about, "summary": groups, "records": list(records)}
    (folder / "revisit.json").write_text(json.dumps(everything, indent=1) + "\n")
    (folder / "revisit.md").write_text(markdown(records, about))
    _plot(folder / "revisit.png", records)
    if strips:
        _strip(folder / "strip.png", strips)


def _plot(path: Path, records: Sequence[Record]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(summarise(records))
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(3.2 * columns, 2.7 * rows), squeeze=False, layout="constrained"
    )
    gaps = sorted({record["gap"] for record in records})
    for axis, name in zip(axes.flat, names, strict=False):
        policies = list(dict.fromkeys(record["policy"] for record in records))
        for number, policy in enumerate(policies):
            means = []
            for gap in gaps:
                own = (r for r in records if r["gap"] == gap and r["policy"] == policy)
                means.append(summarise(own).get(name, {}).get("mean", np.nan))
            # Policies often agree exactly: the first ones are drawn wider, under the others.
            width = 1.2 + 0.9 * (len(policies) - 1 - number)
            axis.plot(
                range(len(gaps)), means, marker="o", markersize=2 + width, linewidth=width,
                label=policy,
            )  # fmt: skip
        axis.set_title(MEASURES[name][0], fontsize=8)
        axis.set_xticks(range(len(gaps)), [f"{gap:g} s" for gap in gaps], fontsize=8)
        axis.tick_params(axis="y", labelsize=8)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _strip(path: Path, strips: dict[float, dict[str, Pictures]]) -> None:
    """Draw one column per gap, one row per kind of picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(next(iter(strips.values())))
    figure, axes = pyplot.subplots(
        len(names), len(strips), figsize=(2.4 * len(strips), 1.6 * len(names)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for column, (gap, pictures) in enumerate(strips.items()):
        for row, name in enumerate(names):
            axis = axes[row, column]
            axis.imshow(pictures[name])
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(f"gap {gap:g} s", fontsize=8)
            if column == 0:
                axis.set_ylabel(name, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
