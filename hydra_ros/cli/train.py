# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros train``: trains a model; needs no ROS."""

from hydra_model.training.command import HELP, add_arguments, run

__all__ = ["HELP", "add_arguments", "run"]
