# SPDX-License-Identifier: Apache-2.0
"""`colcon build` installs the interfaces, both Python packages, the weights and the executables."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def build_base(tmp_path_factory):
    """What both installs are made from, compiled once: they differ in what they copy or link."""
    return tmp_path_factory.mktemp("build")


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--symlink-install"]], ids=["copy", "symlink"])
def test_colcon_build_installs_the_whole_package(
    options, source_tree, build_base, clean_environment, quick_build, run, report, python, tmp_path
):
    environment = {
        **clean_environment, "AMENT_PREFIX_PATH": sys.prefix, "CMAKE_PREFIX_PATH": sys.prefix
    }  # fmt: skip
    # Here a link of the one stands where the other has a folder, and neither takes it away.
    shutil.rmtree(build_base / "hydra_ros" / "ament_cmake_python", ignore_errors=True)
    run(
        [
            python, "-m", "colcon", "--log-base", str(tmp_path / "log"), "build", *options,
            "--base-paths", str(source_tree), "--build-base", str(build_base),
            "--install-base", str(tmp_path / "install"), "--cmake-args", quick_build,
        ],
        env=environment,
        cwd=tmp_path,
    )  # fmt: skip

    prefix = tmp_path / "install" / "hydra_ros"
    modules = next(prefix.glob("**/hydra_model")).parent
    installed = {
        **environment,
        "AMENT_PREFIX_PATH": f"{prefix}:{sys.prefix}",
        "PYTHONPATH": str(modules),
        "LD_LIBRARY_PATH": str(prefix / "lib"),
    }
    places = json.loads(run([python, "-c", report], env=installed, cwd=tmp_path))
    if not (source_tree / "model" / "weights").is_dir():
        assert places.pop("weights") is None
    assert all(place.startswith(str(prefix)) for place in places.values()), places
    # With symlinks, an edited module needs no new build.
    assert Path(places["hydra_model"]).is_symlink() == ("--symlink-install" in options)

    for executable in ("hydra_simulator", "hydra-ros"):
        assert os.access(prefix / "lib" / "hydra_ros" / executable, os.X_OK)
    command = prefix / "lib" / "hydra_ros" / "hydra-ros"
    version = run([python, str(command), "--version"], env=installed, cwd=tmp_path)
    assert version.startswith("hydra-ros 0.")
