# SPDX-License-Identifier: Apache-2.0
"""The revisit benchmark runs from one command and tells policies apart."""

import json
import subprocess
import sys
from pathlib import Path

from small_models import CONFIG, write_model

ROOT = Path(__file__).parents[2]


def run(module: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_policies_select_is_measured_without_weights(tmp_path: Path) -> None:
    printed = run(
        "benchmarks.revisit", "--coverage-only", "--worlds", 1, "--gaps", "15",
        "--families", "look_away", "--output", tmp_path,
    )  # fmt: skip
    records = json.loads((tmp_path / "revisit.json").read_text())["records"]
    places = {record["policy"]: record["places_covered"] for record in records}
    # Fifteen seconds are more than the newest frames reach back.
    assert places["no_memory"] < 0.2 and places["recent"] < 0.2
    assert places["overlap"] > 0.8 and places["hybrid"] > 0.8
    assert "| 15 s | hybrid |" in printed
    assert (tmp_path / "revisit.png").stat().st_size > 1000


def test_a_model_predicts_each_episode_under_every_policy(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    run(
        "benchmarks.revisit", "--model", tmp_path / "model", "--device", "cpu", "--worlds", 1,
        "--gaps", "2", "--families", "crossing", "--quick", "--output", tmp_path,
    )  # fmt: skip
    records = json.loads((tmp_path / "revisit.json").read_text())["records"]
    assert {record["policy"] for record in records} == {
        "no_memory", "recent", "overlap", "hybrid"
    }  # fmt: skip
    assert all(record["background"] > 0 for record in records)
    assert {len(r["chosen"]) for r in records if r["policy"] == "hybrid"} == {
        CONFIG.context_latents // 2 * 2
    }
    assert (tmp_path / "strip.png").exists()


def test_drift_is_measured_chunk_by_chunk(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    table = run(
        "benchmarks.drift", "--model", tmp_path / "model", "--device", "cpu", "--worlds", 1,
        "--chunks", 3, "--supersample", 1, "--output", tmp_path,
    )  # fmt: skip
    assert "| hybrid | background, dB |" in table
    curves = json.loads((tmp_path / "drift.json").read_text())["mean"]
    assert [len(curve) for curve in curves.values()] == [3, 3]
