# SPDX-License-Identifier: Apache-2.0
"""The benchmark measures each way to run a model beside the readable one."""

import argparse
import json

import pytest

from hydra_model.benchmark import subjects
from hydra_model.benchmark.arithmetic import forward_operations
from hydra_model.benchmark.command import add_arguments, run
from hydra_model.config import ModelConfig


def bench(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def test_a_released_forward_counts_as_published():
    parts = forward_operations(ModelConfig.from_name("hydra-1.3b"), text_tokens=512)
    tera = {name: round(count / 1e12) for name, count in parts.items()}
    assert tera == {
        "linear layers": 165, "self-attention": 135, "tokenizer": 11, "cross-attention": 6,
    }  # fmt: skip


def test_the_miniature_is_measured_part_by_part(tmp_path, capsys):
    file, picture = tmp_path / "new" / "bench.json", tmp_path / "bench.png"
    code = bench(
        "--model", "miniature", "--device", "cpu", "--dtype", "float32", "--repeats", "1",
        "--presets", "fast,few_step", "--json", str(file), "--plot", str(picture),
    )  # fmt: skip
    assert code == 0
    results = json.loads(file.read_text())
    forwards = {row["variant"]: row for row in results["forward"]}
    assert next(iter(forwards)) == "readable" and len(forwards) > 2
    assert all(row["seconds"] > 0 and row["error"] < 1e-5 for row in forwards.values())
    for row in list(forwards.values())[1:]:  # against the readable path of the same turns
        assert row["times readable"] == row["readable seconds"] / row["seconds"]
    assert next(row["what"] for row in results["autoencoder"]) == "encode"
    chunks = {row["preset"]: row for row in results["chunk"]}
    assert chunks["few_step"]["forwards"] == 4 < chunks["fast"]["forwards"]
    parts = chunks["fast"]
    assert parts["context"] + parts["sampling"] + parts["decoding"] <= parts["seconds"]
    assert parts["to first frame"] < parts["seconds"]
    assert picture.stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "times readable" in shown and "few_step" in shown


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("--plot", "bench.docx", r"bench.docx; accepted: a file named .*\bpng\b"),
        ("--plot", "file/bench.png", "bench.png cannot be written"),
        ("--json", "file/bench.json", "bench.json cannot be written"),
        ("--json", "", "cannot be written: is a folder"),
    ],
)
def test_files_that_cannot_be_written_are_refused_before_anything_is_measured(
    option, name, words, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(subjects, "load_subject", lambda *_, **__: pytest.fail("loaded first"))
    with pytest.raises(ValueError, match=words):
        bench("--model", "miniature", "--device", "cpu", option, str(tmp_path / name))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--parts", "everything"), "forward, autoencoder, chunk, team, profile"),
        (("--presets", "quick"), "exact, balanced, fast, few_step"),
        (("--variants", "magic"), "accepted here: readable, fast"),
        (("--chunk-variant", "magic"), "accepted here: readable, fast"),
        (("--repeats", "0"), "1 or more"),
    ],
)
def test_wrong_arguments_say_what_is_accepted(arguments, words):
    with pytest.raises(ValueError, match=words):
        bench("--model", "miniature", "--device", "cpu", "--dtype", "float32", *arguments)
