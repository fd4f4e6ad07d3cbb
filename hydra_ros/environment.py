# SPDX-License-Identifier: Apache-2.0
"""Where the package's files lie, and the process environment that ROS 2 starts in."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

# FastDDS 2 (Jazzy) reads only the first. FastDDS 3 (Kilted and later) reads the second, still
# reads the first with a warning, and calls it an error when both are set.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")

# With any of these a user has chosen transports; FastDDS also reads the files from the
# working directory.
_OWN_VARIABLES = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")
_OWN_FILES = ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml")


class RosStartError(ValueError):
    """ROS did not start, mostly for wrong arguments after ``--ros-args``."""


def start_ros(args: list[str] | None, **options: Any) -> None:
    """Call ``rclpy.init``, with an error of one line.

    Raises:
        RosStartError: an argument is unknown, a file is not there, a rule is none, ...
    """
    import rclpy

    try:
        rclpy.init(args=args, **options)
    except RuntimeError as error:  # of rcl
        reason = " ".join(str(error).split())
        raise RosStartError(f"ROS did not start with these arguments: {reason}") from None


def share_folder(*parts: str) -> Path:
    """Return a path among the package's ``config/`` and ``launch/`` files.

    They lie in the source tree for an editable install and in ``share/hydra_ros`` of the
    install prefix otherwise. Raises FileNotFoundError where neither is there.
    """
    for folder in Path(__file__).absolute().parents[1:7]:
        for root in (folder, folder / "share" / "hydra_ros"):
            if (root / "package.xml").is_file() and (root / "config").is_dir():
                return root.joinpath(*parts)
    raise FileNotFoundError(f"no share folder of hydra_ros above {__file__}: is it installed?")


def parameter_file(name: str) -> Path:
    """Return a parameter file: a path, or the name of one in ``config/`` (".yaml" may be left out).

    Raises:
        ValueError: there is no such file; the message lists those of ``config/``.
    """
    given = Path(name).expanduser()
    if given.is_file():
        return given.absolute()
    own = share_folder("config", given.name).with_suffix(".yaml")
    if given.name == name and own.is_file():
        return own
    names = ", ".join(sorted(path.stem for path in own.parent.glob("*.yaml")))
    raise ValueError(f"there is no parameter file {name!r}; hydra_ros has {names}")


def ros_home(environment: MutableMapping[str, str] = os.environ) -> Path:
    """Return the folder of ROS's own files: ``$ROS_HOME``, else ``~/.ros``."""
    home = environment.get("ROS_HOME")
    return Path(home) if home else Path("~/.ros").expanduser()


def use_dds_profile(environment: MutableMapping[str, str] = os.environ) -> Path | None:
    """Let FastDDS use the transports of ``config/fastdds.xml``, which carry images.

    Call it before rclpy starts. A user's own profile or transports stay as they are.
    Returns the profile that is in force, the user's or ours; None when there is none: another
    middleware, or transports chosen by name.
    """
    if "fastrtps" not in environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"):
        return None
    if any(environment.get(name) for name in _OWN_VARIABLES):
        own = [environment[name] for name in PROFILE_VARIABLES if environment.get(name)]
        return Path(own[0]) if own else None
    for name in _OWN_FILES:
        if Path(name).is_file():
            return Path(name).absolute()
    profile = share_folder("config", "fastdds.xml")
    environment[profile_variable(environment)] = str(profile)
    return profile


def profile_variable(environment: Mapping[str, str] = os.environ) -> str:
    """Return the variable that the installed FastDDS takes its profile from."""
    prefixes = [sys.prefix, *environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    # The ROS package is called fastrtps up to FastDDS 2.
    version_3 = any(Path(prefix, "share", "fastdds").is_dir() for prefix in prefixes if prefix)
    return PROFILE_VARIABLES[version_3]
