# SPDX-License-Identifier: Apache-2.0
"""An evaluation as a table, as JSON and as a sheet of pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from hydra_model.evaluation.goals import Goal, share_of_extrapolation
from hydra_model.evaluation.procedural import TRUTH, Evaluation
from hydra_model.evaluation.scores import Record
from hydra_model.pictures import contact_sheet
from hydra_model.procedural.motion import MOTION_NAMES, WAYPOINTS

_COLUMNS = 7  # pictures in a row of the sheet


def main_table(evaluation: Evaluation) -> str:
    """Return the Markdown table of pictures, a row per predictor."""
    rows = []
    for name, s in evaluation.summaries.items():
        rows.append(
            [
                name,
                _number(s["psnr"], 2), _number(s["ssim"], 3),
                _number(s["background"], 2), _number(s["background_at_revisits"], 2),
                _number(s["subject"], 2), str(evaluation.keys.get(name, "-")),
            ]
        )  # fmt: skip
    first = next(iter(evaluation.summaries.values()))
    revisits = f"at revisits ({first['worlds_with_revisits']} worlds)"
    header = ["", "PSNR", "SSIM", "background", revisits, "subject", "keys a query"]
    return _markdown(header, rows)


def subject_table(evaluation: Evaluation) -> str:
    """Return the Markdown table of subjects found again and never lost, a row per predictor."""
    first = next(iter(evaluation.summaries.values()))
    events = {m: first["reentry_by_motion"][m]["events"] for m in MOTION_NAMES}
    # Worlds of the style "plain" have nobody who turns at waypoints.
    shown = [m for m in MOTION_NAMES if events[m] or m != MOTION_NAMES[WAYPOINTS]]
    rows = []
    for name, s in evaluation.summaries.items():
        r, stay = s["reentry"], s["never_left"]
        rows.append(
            [
                name,
                _pair(r), *(_pair(s["reentry_by_motion"][m]) for m in shown),
                _number(share_of_extrapolation(evaluation.summaries, name), 2),
                _number(r["distance_where_found"], 1), _number(r["wrong_colour_frames"], 3),
                _number(stay["hit_whole_chunk"], 3),
                " / ".join(_number(v, 2) for v in stay["hit_by_time"].values()),
            ]
        )  # fmt: skip
    counts = [first["reentry"]["events"], *(events[m] for m in shown)]
    motions = ("all", *(m.replace("_", " ") for m in shown))
    header = [
        "",
        *(f"{m} ({n})" for m, n in zip(motions, counts, strict=True)),
        "of extrapolating", "error, px", "wrong colour",
        f"never left ({first['never_left']['whole_chunk_subjects']})",
        "in view so far: " + " / ".join(first["never_left"]["hit_by_time"]),
    ]  # fmt: skip
    return _markdown(header, rows)


def goal_table(found: Sequence[Goal]) -> str:
    """Return the goals with what was measured."""
    words = {True: "yes", False: "no", None: "not measured"}
    rows = [
        [g.name, _number(g.value, 3), ("at most " if g.most else "at least ") + f"{g.wanted:.3g}",
         words[g.reached]]
        for g in found
    ]  # fmt: skip
    return _markdown(["", "measured", "goal", "reached"], rows)


def family_table(evaluation: Evaluation) -> str:
    """Return PSNR, background at revisits and re-entry hits per camera family."""
    families = next(iter(evaluation.summaries.values()))["families"]
    header = ["", *(f"{name} ({s['worlds']})" for name, s in families.items())]
    rows = [
        [
            name,
            *(
                f"{_number(s['psnr'], 1)} · {_number(s['background_at_revisits'], 1)} · "
                f"{_number(s['reentry']['hit_frames'], 2)}"
                for s in summary["families"].values()
            ),
        ]
        for name, summary in evaluation.summaries.items()
    ]
    return _markdown(header, rows)


def markdown(
    evaluation: Evaluation, title: str = "Evaluation", *, goals: Sequence[Goal] = (), of: str = ""
) -> str:
    """Return the whole report as Markdown; ``goals`` are those of the row ``of``."""
    aims = f"## Goals ({of})\n\n{goal_table(goals)}\n\n" if goals else ""
    seeds = evaluation.seeds
    seconds = ", ".join(f"{name} {value:.1f}" for name, value in evaluation.seconds.items())
    return (
        f"# {title}\n\n{len(seeds)} held-out worlds, seeds {seeds[0]} to {seeds[-1]}. "
        "PSNR in dB.\n\n"
        f"{main_table(evaluation)}\n\n## Subjects that come back\n\n"
        "Hits as share of frames / share of events, by the subject's motion.\n\n"
        f"{subject_table(evaluation)}\n\n{aims}## By camera family\n\n"
        "PSNR · background at revisits · re-entry hits (frames)\n\n"
        f"{family_table(evaluation)}\n\nSeconds in all: {seconds}.\n"
    )


def sheet(evaluation: Evaluation, name: str) -> np.ndarray:
    """Return a picture, uint8 [H, W, 3]: context, truth and one predictor's frames per world."""
    rows = []
    pictures = evaluation.pictures
    for i in range(len(pictures[TRUTH])):
        seed = evaluation.seeds[i]
        rows.append((f"world {seed}: context", pictures["context"][i]))
        rows.append(("truth", pictures[TRUTH][i]))
        rows.append((name, pictures[name][i]))
    return contact_sheet(rows, _COLUMNS)


def write(
    evaluation: Evaluation, folder: str | Path, *, pictured: str, about: Record | None = None,
    goals: Sequence[Goal] = (),
) -> Path:  # fmt: skip
    """Write ``evaluation.json``, ``worlds.json``, ``evaluation.md`` and ``worlds.jpg``.

    ``pictured`` names the predictor on the picture sheet; ``about`` says what was evaluated and
    how, and opens the JSON; ``goals`` are those of the pictured row. Returns the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = evaluation.seeds
    result = {
        **(about or {}),
        "first_seed": seeds[0],
        "worlds": len(seeds),
        "seconds": evaluation.seconds,
        "keys_per_query": evaluation.keys,
        "goals": [{**vars(goal), "reached": goal.reached} for goal in goals],
        "results": evaluation.summaries,
    }
    (folder / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    (folder / "worlds.json").write_text(json.dumps(evaluation.records) + "\n")
    text = markdown(evaluation, goals=goals, of=pictured)
    (folder / "evaluation.md").write_text(text)
    if evaluation.pictures:
        path = folder / "worlds.jpg"
        picture = sheet(evaluation, pictured)[..., ::-1]
        if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 92]):
            raise OSError(f"{path} could not be written: is the folder writable, the disk full?")
    return folder


def _pair(reentry: Record) -> str:
    return f"{_number(reentry['hit_frames'], 3)} / {_number(reentry['hit_events'], 3)}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
