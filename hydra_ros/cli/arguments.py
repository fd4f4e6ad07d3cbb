# SPDX-License-Identifier: Apache-2.0
"""Arguments that several commands share, checked before ROS would stumble over them."""

from __future__ import annotations

from hydra_ros.parameters import HIGHEST_SEED


def check_seed(seed: int) -> None:
    """Raise ValueError where a seed is none that a simulator takes."""
    if not 0 <= seed <= HIGHEST_SEED:
        raise ValueError(f"--seed is {seed}; accepted: 0 to {HIGHEST_SEED}")


def check_namespace(namespace: str) -> None:
    """Raise ValueError where a ROS node cannot be in a namespace."""
    from rclpy.exceptions import InvalidNamespaceException
    from rclpy.validate_namespace import validate_namespace

    try:
        # As a node does it: a relative one is meant from the root.
        validate_namespace(namespace if namespace.startswith("/") else f"/{namespace}")
    except InvalidNamespaceException as error:
        reason = str(error).splitlines()[0].rstrip(":")  # the others point at the place
        raise ValueError(
            f"--namespace is {namespace!r}; {reason}; accepted: names like /robot or /team/robot_1"
        ) from None
