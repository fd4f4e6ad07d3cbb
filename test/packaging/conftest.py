# SPDX-License-Identifier: Apache-2.0
"""A copy of the source tree, and surroundings without this environment's own install."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What a setup file or the ROS wheels put there: builds start from a clean slate.
INHERITED = (
    "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "LD_LIBRARY_PATH",
    "MAKEFLAGS", "MAKELEVEL", "PYTHONPATH", "VIRTUAL_ENV", "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)  # fmt: skip


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git tracks or would track, copied."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    destination = tmp_path_factory.mktemp("source") / "hydra_ros"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, destination / name)
    return destination


@pytest.fixture
def clean_environment() -> dict[str, str]:
    """The environment of a new shell, with this Python first on the path."""
    environment = {name: value for name, value in os.environ.items() if name not in INHERITED}
    environment["PATH"] = f"{sysconfig.get_path('scripts')}:{environment['PATH']}"
    environment["PIP_NO_COMPILE"] = "1"  # hardly anything of it is ever imported
    return environment


@pytest.fixture
def quick_build(root) -> str:
    """An option for CMake with which it makes the same in less time."""
    return f"-DCMAKE_PROJECT_INCLUDE={root / 'test' / 'packaging' / 'quick_build.cmake'}"


def run(command: list[str], **options: object) -> str:
    """Run a command and return what it prints; its whole output is the failure's message."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-8000:]}"
    return done.stdout


@pytest.fixture(name="run")
def run_fixture():
    return run


# Printed by an installed copy: where its parts come from, each of which must exist.
REPORT = """
import json
import hydra_model, hydra_ros
from hydra_model.resources import weights_folder
from hydra_ros.environment import share_folder
from hydra_ros.srv import Reset
from rclpy.type_support import check_for_type_support

check_for_type_support(Reset)
try:
    weights = weights_folder()
except FileNotFoundError:
    weights = None
print(json.dumps({
    "hydra_ros": hydra_ros.__file__,
    "hydra_model": hydra_model.__file__,
    "interfaces": __import__("hydra_ros.srv").srv.__file__,
    "profile": str(share_folder("config", "fastdds.xml")),
    "weights": weights and str(weights),
}))
"""


@pytest.fixture
def report() -> str:
    return REPORT


@pytest.fixture
def python() -> str:
    return sys.executable
