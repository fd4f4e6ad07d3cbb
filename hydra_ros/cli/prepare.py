# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros prepare``: encodes a data set once, for training; needs no ROS."""

from hydra_model.datasets.command import HELP, add_arguments, run

__all__ = ["HELP", "add_arguments", "run"]
