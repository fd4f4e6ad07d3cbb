# SPDX-License-Identifier: Apache-2.0
"""`pip install .` works in a plain virtual environment, and pins agree with one another."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NO_NETWORK = r"NewConnectionError|NameResolutionError|Network is unreachable|Max retries exceeded"


@pytest.fixture(scope="module")
def requirements() -> list[Requirement]:
    """What the package needs here, without extras."""
    parsed = map(Requirement, metadata.requires("hydra_ros"))
    return [item for item in parsed if not item.marker or item.marker.evaluate({"extra": ""})]


@pytest.fixture(scope="module")
def locked(root) -> dict[str, str]:
    """Pinned versions for this Python, by name."""
    lines = (root / "requirements.lock").read_text().splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {
        canonicalize_name(item.name): str(item.specifier).removeprefix("==")
        for item in parsed
        if not item.marker or item.marker.evaluate()
    }


@pytest.mark.slow
def test_pip_install_into_a_plain_environment(
    source_tree, clean_environment, quick_build, requirements, run, report, root, tmp_path
):
    venv = tmp_path / "venv"
    run([sys.executable, "-m", "venv", str(venv)], env=clean_environment)
    python = str(venv / "bin" / "python")
    # Built in isolation, as a user's pip does it. Of the dependencies ROS 2 alone: the rest is
    # large and pip's own business.
    built = subprocess.run(
        [python, "-m", "pip", "install", "--no-deps", str(source_tree)],
        env={**clean_environment, "CMAKE_ARGS": quick_build}, cwd=tmp_path,
        capture_output=True, text=True,
    )  # fmt: skip
    if built.returncode and re.search(NO_NETWORK, built.stderr):
        pytest.skip("no package index can be reached")
    assert built.returncode == 0, (built.stdout + built.stderr)[-8000:]
    needed = [str(item) for item in requirements if item.name.startswith("ros-")]
    run(
        [python, "-m", "pip", "install", "--quiet", "--no-compile", "--constraint",
         str(root / "requirements.lock"), "numpy", *needed],
        env=clean_environment, cwd=tmp_path,
    )  # fmt: skip

    places = json.loads(run([python, "-c", report], env=clean_environment, cwd=tmp_path))
    if not (source_tree / "model" / "weights").is_dir():
        assert places.pop("weights") is None
    assert all(place.startswith(str(venv)) for place in places.values()), places
    version = run([str(venv / "bin" / "hydra-ros"), "--version"], env=clean_environment)
    assert version.split() == ["hydra-ros", metadata.version("hydra_ros")]
    for executable in ("bin/hydra_simulator", "lib/hydra_ros/hydra_simulator"):
        assert os.access(venv / executable, os.X_OK)
    assert list(venv.glob("lib/python3*/site-packages/hydra_ros/web/static/index.html"))

    run([python, "-m", "pip", "uninstall", "--yes", "hydra_ros"], env=clean_environment)
    left = [path for path in venv.rglob("*hydra*") if path.is_file()]
    assert left == []


def test_every_dependency_is_locked_at_an_accepted_version(requirements, locked):
    for item in requirements:
        if item.name != "torch":  # chosen by the Makefile
            assert locked[canonicalize_name(item.name)] in item.specifier, item


def test_make_installs_an_accepted_pytorch(requirements, root):
    pinned = re.search(r"^TORCH := torch==(\S+)$", (root / "Makefile").read_text(), re.MULTILINE)
    accepted = next(item.specifier for item in requirements if item.name == "torch")
    assert pinned[1] in accepted


def test_package_xml_has_the_version_of_the_python_package(root):
    package = xml.etree.ElementTree.parse(root / "package.xml").getroot()
    assert package.findtext("version") == metadata.version("hydra_ros")
