# SPDX-License-Identifier: Apache-2.0
"""Benchmark results as a table, as JSON and as a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra_model.benchmark.runs import Results

COLUMNS = {
    "forward": ("variant", "seconds", "process_seconds", "times readable", "TFLOP/s",
                "of a product", "error", "attention", "peak_gib", "failed"),
    "autoencoder": ("what", "frames", "seconds", "process_seconds", "error", "peak_gib"),
    "team": ("what", "gpus", "seconds", "error", "peak_gib"),
    "chunk": ("variant", "preset", "seconds", "process_seconds", "context", "sampling", "decoding",
              "forwards", "to first frame", "last step to first frame", "times real time",
              "peak_gib"),
}  # fmt: skip
TITLES = {
    "process_seconds": "CPU seconds",
    "peak_gib": "GPU GiB",
    "last step to first frame": "step to frame",
}


def text(results: Results) -> str:
    """Return the tables, the machine's line last."""
    parts = [_table(results.rows[part], COLUMNS[part]) for part in COLUMNS if part in results.rows]
    about = ", ".join(f"{name} {_short(value)}" for name, value in results.about.items()
                      if not isinstance(value, dict))  # fmt: skip
    return "\n\n".join([*parts, about])


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    used = [name for name in columns if any(row.get(name) not in (None, "", 0.0) for row in rows)]
    lines = [[TITLES.get(name, name) for name in used]]
    lines += [[_short(row.get(name, "")) for name in used] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(used))]
    first = rows[0]

    def aligned(value: str, i: int) -> str:
        number = isinstance(first.get(used[i], ""), (int, float))
        return value.rjust(widths[i]) if number else value.ljust(widths[i])

    return "\n".join(
        "  ".join(aligned(value, i) for i, value in enumerate(line)).rstrip() for line in lines
    )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"
    return str(value)[:60]


def check_file(file: Path) -> None:
    """Make a file's folder, or raise ``ValueError`` before anything is measured."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{file} cannot be written: {error.strerror or error}") from error
    if file.is_dir():
        raise ValueError(f"{file} cannot be written: is a folder")


def check_plot(file: Path) -> None:
    """Raise ``ValueError`` unless matplotlib is there and can draw a file of this name."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError as error:
        raise ValueError("--plot needs matplotlib: pip install matplotlib") from error
    formats = FigureCanvasAgg.get_supported_filetypes()
    if file.suffix and file.suffix[1:].lower() not in formats:
        raise ValueError(f"--plot {file}; accepted: a file named {', '.join(sorted(formats))}")


def write_json(results: Results, file: Path) -> None:
    """Write everything that was measured."""
    check_file(file)
    file.write_text(json.dumps({"about": results.about, **results.rows}, indent=2) + "\n")


def plot(results: Results, file: Path) -> None:
    """Draw forwards against the speed of a product, and chunks by part; needs matplotlib."""
    check_plot(file)
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    forwards = [row for row in results.rows.get("forward", []) if "seconds" in row]
    rate = results.about["product, TFLOP/s"]
    left.barh([row["variant"] for row in forwards], [row["TFLOP/s"] for row in forwards])
    left.axvline(rate, color="black", linestyle="--", label=f"matrix product, {rate:.3g}")
    left.invert_yaxis()
    left.set_xlabel("TFLOP/s of a forward")
    left.legend()
    chunks = results.rows.get("chunk", [])
    names = [f"{row['variant']}, {row['preset']}" for row in chunks]
    start = [0.0] * len(chunks)
    for part in ("context", "sampling", "decoding"):
        seconds = [row[part] for row in chunks]
        right.barh(names, seconds, left=start, label=part)
        start = [a + b for a, b in zip(start, seconds, strict=True)]
    right.invert_yaxis()
    right.set_xlabel("seconds for a chunk")
    if chunks:
        right.legend()
    check_file(file)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
