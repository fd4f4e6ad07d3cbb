# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros doctor``: every line appears whatever is broken, and the exit code follows."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

import hydra_model.resources
from hydra_model.config import ModelConfig
from hydra_ros import health
from hydra_ros.cli.main import main
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
