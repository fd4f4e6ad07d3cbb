# SPDX-License-Identifier: Apache-2.0
"""The documented commands that can be run here really run, in a folder like a user's."""

import dataclasses
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import miniature
import numpy as np
import published_tiny_decoder
import pytest
import small_hm_world
from docs.shell_commands import ROOT, documented
from ros.recording import robot_bags
from starter import Starter
from system.simulator import Client, wait_until

import small_models
from docs import plan
from hydra_model.config import SceneFlowConfig, VideoConfig
from hydra_ros.environment import share_folder

WORDS = documented()
READY_WITHIN = 90.0  # s


def text_of(run: plan.Run) -> str:
    return run.text


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """A folder with what the documents presuppose: models, clips, data sets, a robot's bag."""
    folder = tmp_path_factory.mktemp("documents")
    small_models.write_model(folder / plan.SMALL)
    small_models.write_example(folder / "examples_folder", "1")
    for name in ("benchmarks", "config", "examples"):
        (folder / name).symlink_to(ROOT / name)
    write_what_is_downloaded(folder)
    (folder / "trained.json").write_text(TRAINED.to_json())
    (folder / "mine.yaml").write_text(MINE)
    (folder / "venv").mkdir()
    cv2.imwrite(str(folder / "goal.png"), np.full((48, 80, 3), 90, np.uint8))
    shutil.copy(share_folder("config", "foxglove.json"), folder)
    moments = [i / 15 for i in range(45)]
    pictures = np.random.default_rng(2).integers(0, 256, (45, 48, 80, 3)).astype(np.uint8)
    robot_bags.write_bag(
        folder / "robot",
        {
            "/odom": robot_bags.drive(3.0),
            "/camera/pose": [
                robot_bags.pose_stamped(robot_bags.curve(time), time) for time in moments
            ],
            "/front/image_raw": [
                robot_bags.image(picture, time)
                for picture, time in zip(pictures, moments, strict=True)
            ],
        },
    )
    return folder


# The default model's form at a size that trains in seconds on a CPU.
TRAINED = dataclasses.replace(
    small_models.CONFIG,
    video=dataclasses.replace(small_models.CONFIG.video, height=32, width=48),
    transformer=dataclasses.replace(
        small_models.CONFIG.transformer,
        memory_stride=(1, 1, 1),
        scene_flow=SceneFlowConfig(after=1, hidden=16, num_blocks=1),
    ),
    context_latents=8,
    chunk_latents=8,
)
# Fine-tuning of the clips that were prepared, as the preset of the full model has it.
MINE = """
recipe: finetune
output: runs/mine
model: released.json
start: random
data: prepared
device: cpu
training: {steps: 2, learning_rate: 1e-4, precision: float32}
"""


def write_what_is_downloaded(folder: Path) -> None:
    """Write miniatures of the released files, of HM-World and of the tiny decoder."""
    (folder / "downloads").mkdir()
    miniature.write_release(folder / "downloads")
    sizes = dataclasses.replace(miniature.CONFIG, video=VideoConfig(height=32, width=48))
    (folder / "released.json").write_text(sizes.to_json())
    small_hm_world.write_hm_world(folder / "HM-World", ["a", "b"])
    small_hm_world.write_hm_world(folder / "HM-World-test", ["c"])
    published_tiny_decoder.write_world(folder)  # with "model", whose latents it decodes


@pytest.fixture(scope="module")
def environment(sandbox):
    return {**os.environ, "HOME": str(sandbox)}


@pytest.fixture(scope="module")
def starter(tmp_path_factory, environment):
    started = Starter(tmp_path_factory.mktemp("started"), environment)
    yield started
    started.close()


@pytest.fixture(scope="module")
def client():
    connected = Client("/")
    yield connected
    connected.close()


def words_of(run: plan.Run) -> list[str]:
    """Return the words that are run; `ros2 run` is nothing but the start of an executable."""
    words = run.words(WORDS[run.text])
    return words[3:] if words[:3] == ["ros2", "run", "hydra_ros"] else words


@pytest.mark.parametrize("run", plan.ENDING, ids=text_of)
def test_a_command_ends_well(run, starter, sandbox):
    program = starter.start(words_of(run), sandbox)
    assert program.wait(240) == 0, program.output()


@pytest.mark.parametrize("run", plan.SIMULATORS, ids=text_of)
def test_a_simulator_runs_with_what_drives_and_shows_it(run, starter, client, sandbox):
    # The one before is gone: its diagnostics would be taken for this one's.
    wait_until(lambda: not client.published("/diagnostics"), "end of the simulator before")
    client.diagnostics = {}
    program = starter.start(words_of(run), sandbox)
    try:
        wait_until(
            lambda: client.diagnostics.get("state") == "running" or not program.running,
            "running simulator", READY_WITHIN,
        )  # fmt: skip
        assert program.running, program.output()
        for beside in plan.SIMULATORS[run]:
            words = words_of(beside)
            client.forget()
            use = BESIDE.get(tuple(words[:2]), BESIDE.get(words[0], end_well))
            use(words, starter, client, sandbox)
        if "-r" in WORDS[run.text]:
            assert client.published("/front/image_raw")
            assert not client.published("/camera/image_raw")
        assert program.interrupt() == 0, program.output()
    finally:
        program.kill()


def end_well(words, starter, client, sandbox) -> None:
    program = starter.start(words, sandbox)
    assert program.wait(120) == 0, program.output()


def drive(words, starter, client, sandbox) -> None:
    """Hold a key until the camera has moved, then quit."""
    master, slave = pty.openpty()
    try:
        program = starter.start(words, sandbox, os.ttyname(slave))

        def moved() -> bool:
            os.write(master, b"w")
            time.sleep(0.03)
            poses = client.poses and client.shown_poses()
            return len(poses) > 1 and bool(np.abs(poses[-1] - poses[0]).max() > 0.02)

        wait_until(moved, "moving camera")
        os.write(master, b"q")
        assert program.wait(20) == 0
    finally:
        os.close(slave)
        os.close(master)


def record(words, starter, client, sandbox) -> None:
    """Record some frames, until Ctrl-C where no limit is given."""
    program = starter.start(words, sandbox)
    if "--duration" not in words:
        wait_until(
            lambda: re.search(r"^Messages .*: [1-9]\d", program.output(), re.MULTILINE), "messages"
        )
        wait_until(lambda: len(client.images) > 30, "frames")
        program.interrupt()
    assert program.wait(60) == 0, program.output()
    output = words[words.index("--output") + 1]
    assert (sandbox / output / "metadata.yaml").is_file()


def serve(words, starter, client, sandbox) -> None:
    """Serve the page until Ctrl-C."""
    program = starter.start(words, sandbox)
    wait_until(
        lambda: re.search(r"http://[\w.:\[\]]+:\d+/", program.output()), "address of the page"
    )
    assert program.interrupt() == 0, program.output()


BESIDE = {
    "hydra_teleop": drive,
    "hydra_web": serve,
    ("hydra-ros", "record"): record,
}


@pytest.mark.parametrize("line", plan.EXPORTS)
def test_an_exported_profile_is_in_force(line, sandbox, environment):
    clean = {
        name: value for name, value in environment.items() if not name.endswith("PROFILES_FILE")
    }
    look = "from hydra_ros.environment import use_dds_profile; print(use_dds_profile())"
    done = subprocess.run(
        ["bash", "-c", f'{line}\nexec "$0" -c "$1"', sys.executable, look],
        cwd=sandbox, env=clean, text=True, stdout=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    profile = Path(done.stdout.strip())
    assert profile == sandbox / "config" / "fastdds.xml" and profile.is_file()


@pytest.fixture(scope="module")
def ros2(environment):
    """The environment of `ros2` commands, whose daemon ends with them."""
    if shutil.which("ros2") is None:
        pytest.skip("the `ros2` command is not installed")
    yield environment
    subprocess.run(["ros2", "daemon", "stop"], env=environment, timeout=60)


def ask(words: list[str], answer: str, sandbox: Path, environment: dict[str, str]) -> None:
    """Run a command of `ros2` until it answers: its daemon needs a while to see the node."""
    endless = words[1:3] in (["topic", "hz"], ["topic", "echo"])
    for _ in range(5):
        done = subprocess.run(
            ["timeout", "--signal=INT", "8", *words] if endless else words,
            cwd=sandbox, env=environment, text=True, timeout=120,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode in ((0, 124) if endless else (0,)) and re.search(answer, done.stdout):
            return
        time.sleep(1)
    pytest.fail(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}")


@pytest.mark.parametrize("run", plan.LAUNCHED, ids=text_of)
def test_a_launch_file_runs_with_the_tools_of_ros(run, client, sandbox, ros2, tmp_path):
    wait_until(lambda: not client.published("/diagnostics"), "end of the simulator before")
    client.diagnostics = {}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            words_of(run), cwd=sandbox, env=ros2, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wanted = "unconfigured" if "autostart:=false" in run.text else "running"
        wait_until(lambda: client.diagnostics.get("state") == wanted, f"{wanted} node", 120)
        for beside in plan.LAUNCHED[run]:
            ask(words_of(beside), plan.ANSWERS[beside.text], sandbox, ros2)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        print(log.read_text())
