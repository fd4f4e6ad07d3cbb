# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros demo`` as a user runs it: a real node in another process, frames over DDS."""

import os
import signal
import subprocess
import sys
import time

import cv2
import pytest

import small_models
from hydra_model.video import read_video


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    small_models.write_model(folder)
    return folder


def demo_command(model, output, *more) -> list[str]:
    arguments = ["--model", model, "--device", "cpu", "--output", output, *more]
    return [sys.executable, "-m", "hydra_ros.cli.main", "demo", *map(str, arguments)]


def run_demo(model, output, *more) -> subprocess.CompletedProcess:
    command = demo_command(model, output, *more)
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_the_demo_ends_with_video_and_contact_sheet(model, tmp_path):
    done = run_demo(model, tmp_path, "--frames", 20)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 frames received over DDS" in done.stdout
    assert "Frames received: 20/20" in done.stdout
    assert "PSNR against the ground truth" in done.stdout
    frames, fps = read_video(tmp_path / "demo.mp4")
    assert len(frames) == 17 + 20 and fps == pytest.approx(15)
    assert cv2.imread(str(tmp_path / "demo.png")).std() > 10
    assert "procedural world" in (tmp_path / "demo_node.log").read_text()


@pytest.mark.slow
def test_the_demo_in_realtime(model, tmp_path):
    done = run_demo(model, tmp_path, "--frames", 20, "--realtime")
    assert done.returncode == 0, done.stdout + done.stderr
    # The whole path, and what was shown before it arrived.
    assert 17 + 20 <= len(read_video(tmp_path / "demo.mp4")[0]) < 17 + 20 + 60


def test_a_model_the_node_cannot_load_is_said_with_its_reason(model, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text((model / "config.json").read_text())
    (broken / "transformer.safetensors").write_bytes(b"not weights")
    (broken / "autoencoder.safetensors").write_bytes(b"not weights")
    done = run_demo(broken, tmp_path / "out")
    assert done.returncode == 1
    assert "safetensors" in done.stderr
    assert str(tmp_path / "out" / "demo_node.log") in done.stderr
    assert not (tmp_path / "out" / "demo.mp4").exists()


def node_of(process: subprocess.Popen) -> int | None:
    """Return the process id of the demo's node."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as stat, open(f"/proc/{entry}/cmdline") as command:
                parent = int(stat.read().rsplit(")", 1)[1].split()[1])
                if parent == process.pid and "simulator_node" in command.read():
                    return int(entry)
        except (OSError, IndexError):
            continue
    return None


def started_demo(model, output) -> tuple[subprocess.Popen, int]:
    process = subprocess.Popen(
        demo_command(model, output, "--frames", 1000),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while (node := node_of(process)) is None:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    return process, node


def test_a_node_that_dies_ends_the_demo_with_its_log(model, tmp_path):
    process, node = started_demo(model, tmp_path)
    os.kill(node, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the node ended early (killed by SIGKILL)" in errors
    assert str(tmp_path / "demo_node.log") in errors


def test_interrupting_the_demo_ends_its_node(model, tmp_path):
    process, node = started_demo(model, tmp_path)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(node, 0)
