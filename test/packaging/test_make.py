# SPDX-License-Identifier: Apache-2.0
"""`make environment` says what is missing, and does nothing when nothing changed."""

import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments, root, environment):
    return subprocess.run(
        ["make", "--silent", *arguments], cwd=root, env=environment, capture_output=True, text=True
    )


def test_a_python_that_does_not_run_is_named(root, clean_environment):
    done = make("environment", "PYTHON=/no/such/python", root=root, environment=clean_environment)
    assert done.returncode != 0
    assert "PYTHON=/no/such/python does not run or is not Python 3.10, 3.11 or 3.12" in done.stderr


def test_without_a_supported_python_the_message_says_what_to_install(
    source_tree, clean_environment, tmp_path
):
    for tool in ("bash", "dirname", "env"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    (tmp_path / "python3").symlink_to(shutil.which("false"))
    done = subprocess.run(
        ["bash", "scripts/environment.sh", ".venv"],
        cwd=source_tree,
        env={**clean_environment, "PATH": str(tmp_path), "PYTHON": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "no Python 3.10, 3.11 or 3.12 was found" in done.stderr


def test_an_environment_that_is_up_to_date_is_left_alone(root, clean_environment):
    if sys.prefix != str(root / ".venv"):
        pytest.skip("this is not the environment that make uses")
    done = make("environment", root=root, environment=clean_environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
