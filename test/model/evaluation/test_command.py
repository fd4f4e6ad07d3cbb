# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros evaluate`` from the command line, on a small model folder."""

import json

import pytest
import torch

from hydra_model.checkpoints import save_model_folder
from hydra_model.evaluation.predictors import untrained_model
from hydra_ros.cli.main import main


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, small_config):
    folder = tmp_path_factory.mktemp("model")
    model = untrained_model(small_config)
    save_model_folder(
        folder, small_config, transformer=model.transformer, autoencoder=model.autoencoder
    )
    return folder


def test_it_prints_the_table_and_writes_the_report(model_folder, tmp_path, capsys):
    code = main(
        ["evaluate", "--model", str(model_folder), "--worlds", "1", "--steps", "1", "--batch", "4",
         "--device", "cpu", "--output", str(tmp_path), "--temperature", "0.25"]
    )  # fmt: skip
    assert code == 0
    printed = capsys.readouterr()
    assert "1 of 1 worlds" in printed.err
    assert "| model, 1 steps |" in printed.out
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["worlds"] == 1
    assert written["temperature"] == 0.25


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "/nowhere"], "/nowhere"),
        (["--model", "untrained", "--worlds", "0"], "worlds is 0"),
        (["--model", "untrained", "--temperature", "-1"], "temperature is -1.0; accepted: 0 or"),
        (["--device", "foo"], "device 'foo'; accepted: auto, cpu, cuda"),
        (["--model", "untrained", "--family", "spiral"], "family is 'spiral'"),
        (["--model", "untrained", "--first-seed", "12"], "trained on"),
    ],
)
def test_wrong_input_is_one_line(arguments, said, capsys):
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line(capsys):
    assert main(["evaluate", "--device", "cuda"]) == 2
    error = capsys.readouterr().err
    assert "device 'cuda', but PyTorch sees no GPU" in error and error.count("\n") == 1


@pytest.mark.parametrize("data", [[], ["--data", "procedural:1:5"]])
def test_an_output_that_is_no_folder_is_refused_before_anything_is_measured(
    model_folder, data, tmp_path, capsys
):
    (tmp_path / "file").write_text("")
    arguments = ["--model", str(model_folder), "--device", "cpu", "--worlds", "1", *data]
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["evaluate", *arguments, "--output", str(output)]) == 2
        printed = capsys.readouterr()
        assert f"--output {output}: " in printed.err and "accepted: a folder" in printed.err
        assert "worlds\n" not in printed.err  # of the progress


@pytest.mark.parametrize("data", [[], ["--data", "procedural:1:5"]])
def test_what_was_measured_is_printed_though_it_cannot_be_written(
    model_folder, data, tmp_path, capsys
):
    arguments = ["--model", str(model_folder), "--device", "cpu", "--worlds", "1", "--steps", "1"]
    (tmp_path / "evaluation.json").mkdir()
    assert main(["evaluate", *arguments, *data, "--output", str(tmp_path)]) == 2
    assert "| PSNR |" in capsys.readouterr().out


@pytest.mark.parametrize("steps", ["", "2,x", "0"])
def test_wrong_steps_are_refused(steps, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--steps", steps])
    assert "accepted are numbers" in capsys.readouterr().err
