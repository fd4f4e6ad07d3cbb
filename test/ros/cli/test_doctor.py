# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros doctor``: every line appears whatever is broken, and the exit code follows."""

import hashlib
import shutil

import pytest
import torch
from safetensors.torch import save_file

import hydra_model.resources
from hydra_model.config import ModelConfig
from hydra_ros import health
from hydra_ros.cli.main import main
from hydra_ros.environment import share_folder
from hydra_ros.health import Finding


def broken():
    raise OSError("libcudart.so.13: cannot open shared object file")


def test_warnings_do_not_stop_the_simulator(monkeypatch, capsys):
    checks = {"GPU": lambda: Finding("warn", "none", "the CPU is used")}
    monkeypatch.setattr(health, "CHECKS", checks)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "warn  GPU            none",
        "                     the CPU is used",
    ]


def test_a_check_that_breaks_fails_and_the_others_still_run(monkeypatch, capsys):
    checks = {"PyTorch": broken, "disk": lambda: Finding("ok", "90 GiB free")}
    monkeypatch.setattr(health, "CHECKS", checks)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "fail  PyTorch        OSError: libcudart.so.13" in out
    assert "ok    disk           90 GiB free" in out
    assert out.endswith("The simulator cannot run: PyTorch.\n")


def test_this_environment_is_sound():
    names = ["Python", "PyTorch", "CPU", "ROS 2", "DDS profile", "shared memory"]
    for name, finding in health.check_all(names):
        assert finding.level == "ok", (name, finding)


def test_images_come_back_from_another_process():
    [(_, finding)] = health.check_all(["DDS"])
    assert finding.level == "ok"
    assert finding.text.startswith("10 of 10 images")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder with a model in it, as the doctor's default weights."""
    save_file({"head.weight": torch.zeros(2, 2)}, tmp_path / "transformer.safetensors")
    (tmp_path / "config.json").write_text(ModelConfig.from_name("default").to_json())
    monkeypatch.setattr(hydra_model.resources, "weights_folder", lambda: tmp_path)
    return tmp_path


def find_weights():
    [(_, finding)] = health.check_all(["weights"])
    return finding


def test_weights_are_described_with_their_hash(weights):
    digest = hashlib.sha256((weights / "transformer.safetensors").read_bytes()).hexdigest()
    finding = find_weights()
    assert finding.level == "ok"
    assert finding.text.startswith("transformer.safetensors: 1 tensors")
    assert digest[:12] in finding.text


def test_missing_weights_are_a_failure(weights):
    (weights / "transformer.safetensors").unlink()
    assert find_weights().level == "fail"


def test_broken_weights_are_a_failure(weights):
    (weights / "transformer.safetensors").write_bytes(b"not a safetensors file")
    assert find_weights().level == "fail"


def test_a_config_that_does_not_fit_is_a_failure(weights):
    (weights / "config.json").write_text('{"name": "default", "sizes": 3}')
    finding = find_weights()
    assert finding.level == "fail"
    assert "sizes" in finding.text


def test_a_profile_that_does_not_exist_is_a_failure(monkeypatch):
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/no/such/profile.xml")
    [(_, finding)] = health.check_all(["DDS profile"])
    assert finding.level == "fail"
    assert "/no/such/profile.xml" in finding.text


@pytest.mark.parametrize("name", ["hydra.rviz", "foxglove.json"])
def test_our_layouts_are_of_this_version(name, tmp_path, capsys):
    copy = tmp_path / f"mine_{name}"
    shutil.copy(share_folder("config", name), copy)
    assert main(["doctor", "--layout", str(copy)]) == 0
    assert "of this version (1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, old, new, words",
    [
        ("hydra.rviz", "_layout: 1", "_layout: 7", "for version 7 of what hydra_ros publishes"),
        ("foxglove.json", '_layout": 1', '_layout": "0.9"', "for version 0.9 of what hydra_ros"),
        ("foxglove.json", '"configById"', '"panels"', "is no layout of RViz 2 or Foxglove"),
        ("foxglove.json", "}", "", "is cut short or no JSON ("),
        ("hydra.rviz", "Visualization Manager", "Robot", "is no layout of RViz 2 or Foxglove"),
        ("hydra.rviz", "rviz_default_plugins/", "rviz/", "is a layout of RViz 1, which came with"),
    ],
)  # fmt: skip
def test_a_layout_for_another_version_is_one_line(name, old, new, words, tmp_path, capsys):
    mine = tmp_path / name
    text = share_folder("config", name).read_text()
    assert old in text
    mine.write_text(text.replace(old, new))
    assert main(["doctor", "--layout", str(mine)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(mine) in line and words in line


def test_a_layout_that_was_saved_by_rviz_has_no_version_and_passes(tmp_path, capsys):
    mine = tmp_path / "mine.rviz"
    text = share_folder("config", "hydra.rviz").read_text()
    mine.write_text(text.replace("hydra_ros_layout: 1", ""))
    assert main(["doctor", "--layout", str(mine)]) == 0
    assert "does not say for what version" in capsys.readouterr().out


def test_a_layout_that_is_not_there_is_one_line(tmp_path, capsys):
    for name in (str(tmp_path / "hydra.rviz"), "mine.rviz"):
        assert main(["doctor", "--layout", name]) == 2
        assert f"there is no layout {name!r}" in capsys.readouterr().err
