# SPDX-License-Identifier: Apache-2.0
"""An evaluation on clips as a table, as JSON and as a sheet of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from hydra_model.evaluation.clip_sets import ClipEvaluation
from hydra_model.evaluation.scores import Record
from hydra_model.pictures import contact_sheet

_COLUMNS = 7
_HEADER = {
    "psnr": ("PSNR", 2), "ssim": ("SSIM", 3), "lpips": ("LPIPS", 3),
    "background": ("background", 2), "subject": ("subject", 2),
    "dsc_truth": ("DSC, truth", 3), "dsc_context": ("DSC, context", 3),
}  # fmt: skip


def table(evaluation: ClipEvaluation) -> str:
    """Return the Markdown table, a row per predictor."""
    lines = [["", *(title for title, _ in _HEADER.values()), "keys a query", "s a clip"]]
    lines.append(["---"] * len(lines[0]))
    for name in evaluation.records:
        summary = evaluation.summary(name)
        cells = [_number(summary[key], digits) for key, (_, digits) in _HEADER.items()]
        seconds = evaluation.seconds[name] / len(evaluation.names)
        keys = str(evaluation.keys.get(name, "-"))
        lines.append([name, *cells, keys, f"{seconds:.2f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown(evaluation: ClipEvaluation) -> str:
    """Return the whole report as Markdown."""
    skipped = ", ".join(f"{n} {reason}" for reason, n in evaluation.skipped.most_common())
    missing = "".join(f"- {name}: {why}\n" for name, why in evaluation.unmeasured.items())
    return (
        f"# Evaluation on {evaluation.title}\n\n{len(evaluation.names)} clips"
        + (f"; skipped: {skipped}" if skipped else "")
        + f". PSNR in dB.\n\n{table(evaluation)}\n"
        + (f"\nNot measured:\n\n{missing}" if missing else "")
    )


def write(evaluation: ClipEvaluation, folder: str | Path, *, about: Record | None = None) -> Path:
    """Write ``evaluation.json``, ``clips.json``, ``evaluation.md`` and ``clips.jpg``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        **(about or {}),
        "clips": len(evaluation.names),
        "skipped": dict(evaluation.skipped),
        "unmeasured": evaluation.unmeasured,
        "seconds": {name: round(value, 2) for name, value in evaluation.seconds.items()},
        "keys_per_query": evaluation.keys,
        "results": {name: evaluation.summary(name) for name in evaluation.records},
    }
    (folder / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    (folder / "clips.json").write_text(json.dumps(evaluation.records) + "\n")
    (folder / "evaluation.md").write_text(markdown(evaluation))
    pictures = evaluation.pictures
    if pictures:
        last = list(evaluation.records)[-1]
        rows = [
            (f"{evaluation.names[i]}: {part}", pictures[part][i])
            for i in range(len(pictures["truth"]))
            for part in ("context", "truth", last)
        ]
        picture = contact_sheet(rows, _COLUMNS)[..., ::-1]
        path = folder / "clips.jpg"
        if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 92]):
            raise OSError(f"{path} could not be written: is the folder writable, the disk full?")
    return folder


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
