# SPDX-License-Identifier: Apache-2.0
"""The DDS profile: chosen for the user, never over the user's own, and really in force."""

import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

from hydra_ros.environment import PROFILE_VARIABLES, ros_home, share_folder, use_dds_profile

# Prints the size of the largest shared-memory segment that a new participant makes.
LARGEST_SEGMENT = """
from pathlib import Path
import rclpy

folder = Path("/dev/shm")
before = set(folder.iterdir())
rclpy.init()
node = rclpy.create_node("segment")
print(max((path.stat().st_size for path in set(folder.iterdir()) - before), default=0))
rclpy.shutdown()
"""


@pytest.mark.parametrize(
    ("package", "name"), zip(["fastrtps", "fastdds"], PROFILE_VARIABLES, strict=True)
)
def test_profile_is_set_under_the_name_that_the_installed_fastdds_reads(
    package, name, tmp_path, monkeypatch
):
    (tmp_path / "share" / package).mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", "/usr")
    environment = {"AMENT_PREFIX_PATH": f"/overlay:{tmp_path}"}
    profile = use_dds_profile(environment)
    assert profile == share_folder("config", "fastdds.xml")
    assert environment.pop(name) == str(profile)
    assert list(environment) == ["AMENT_PREFIX_PATH"]


@pytest.mark.parametrize("name", PROFILE_VARIABLES)
def test_a_profile_of_the_user_stays(name):
    environment = {name: "/mine.xml"}
    assert str(use_dds_profile(environment)) == "/mine.xml"
    assert environment == {name: "/mine.xml"}


@pytest.mark.parametrize(
    "own", [{"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, {"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}]
)
def test_transports_or_a_middleware_of_the_user_stay(own):
    environment = dict(own)
    assert use_dds_profile(environment) is None
    assert environment == own


def test_a_profile_in_the_working_directory_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml").write_text("<profiles/>")
    environment = {}
    assert use_dds_profile(environment) == tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml"
    assert environment == {}


def test_profile_offers_shared_memory_and_the_network():
    tree = xml.etree.ElementTree.parse(share_folder("config", "fastdds.xml"))
    types = [element.text for element in tree.iter() if element.tag.endswith("}type")]
    assert sorted(types) == ["SHM", "UDPv4"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /dev/shm")
def test_profile_is_in_force_in_a_new_participant():
    done = subprocess.run(
        [sys.executable, "-c", LARGEST_SEGMENT], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) >= 32 * 1024**2


def test_the_home_of_ros_is_where_its_variable_says():
    assert ros_home({"ROS_HOME": "/data"}) == Path("/data")
    assert ros_home({}) == Path.home() / ".ros"
