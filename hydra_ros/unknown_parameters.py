# SPDX-License-Identifier: Apache-2.0
"""Parameters that were given to a node which has none of that name: ROS passes over them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from rclpy.node import Node
from rclpy.parameter import Parameter

NEAREST = 3


def unknown_parameters(node: Node) -> list[str]:
    """Return the names of parameters that a node was given and did not declare.

    They may come from the command line or from a parameter file, for this node or for all.
    Publishers declare parameters, too: make them first.
    """
    with node.handle:
        given = node.handle.get_parameters(Parameter)
    return [name for name in sorted(given) if not node.has_parameter(name)]


def warn_of_unknown_parameters(node: Node) -> None:
    """Name the unknown parameters in one warning, if there are any."""
    unknown = unknown_parameters(node)
    if unknown:
        known = node.list_parameters([], 0).names
        node.get_logger().warning(unknown_message(unknown, known))


def unknown_message(unknown: Iterable[str], known: Iterable[str]) -> str:
    """Return the line that names unknown parameters, each with the nearest of the known ones."""
    known = list(known)

    def described(name: str) -> str:
        nearest = difflib.get_close_matches(name, known, NEAREST, cutoff=0.0)
        return f"{name!r} (nearest accepted: {', '.join(nearest)})"

    return f"unknown parameters are ignored: {', '.join(map(described, unknown))}"
