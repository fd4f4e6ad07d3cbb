# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros bench``: measures how fast a model runs here; needs no ROS."""

from hydra_model.benchmark.command import HELP, add_arguments, run

__all__ = ["HELP", "add_arguments", "run"]
